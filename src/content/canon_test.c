/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/canon_test.c - canonical forms, against the examples of RFC 6376 and against a slow and
 * plain reading of its section 3.4.
 */
#include "base/test.h"

#include "base/buf.h"
#include "base/check.h"
#include "content/canon.h"
#include "mail/header.h"

#include <string.h>

/* ---- the plain reading: whole texts, one rule after the other ---- */

static void replace_all(struct buf *text, struct str what, struct str by)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    for (size_t i = 0; i < text->len;) {
        if (str_starts(str_from(buf_str(text), i), what)) {
            buf_append(&out, by);
            i += what.len;
        } else {
            buf_append_byte(&out, text->ptr[i++]);
        }
    }
    buf_done(text);
    *text = out;
}

static bool has(const struct buf *text, struct str what)
{
    return str_find_str(buf_str(text), what) >= 0;
}

static void plain_body(struct str body, enum dkim_canon canon, struct buf *out)
{
    buf_append(out, body);
    if (canon == DKIM_RELAXED) {
        replace_all(out, STR("\t"), STR(" "));
        while (has(out, STR("  ")))
            replace_all(out, STR("  "), STR(" "));
        replace_all(out, STR(" \r\n"), STR("\r\n"));
        if (str_ends(buf_str(out), STR(" ")))
            out->len--;
    }
    while (str_ends(buf_str(out), STR("\r\n")))
        out->len -= 2;
    if (canon == DKIM_SIMPLE || out->len)
        buf_append(out, STR("\r\n"));
}

static void plain_relaxed_field(const struct mail_field *field, struct buf *out)
{
    struct buf value;
    buf_init(&value, 1 << 16);
    buf_append(&value, field->value);
    replace_all(&value, STR("\r\n"), STR(""));
    replace_all(&value, STR("\t"), STR(" "));
    while (has(&value, STR("  ")))
        replace_all(&value, STR("  "), STR(" "));
    struct str trimmed = buf_str(&value);
    if (str_starts(trimmed, STR(" ")))
        trimmed = str_from(trimmed, 1);
    if (str_ends(trimmed, STR(" ")))
        trimmed.len--;
    for (size_t i = 0; i < field->name.len; i++)
        buf_append_byte(out, ascii_lower(field->name.ptr[i]));
    buf_append_byte(out, ':');
    buf_append(out, trimmed);
    buf_append(out, STR("\r\n"));
    buf_done(&value);
}

/* ---- comparing ---- */

static void hash_of(struct str text, unsigned char out[SHA256_SIZE])
{
    struct sha256 sha;
    sha256_open(&sha);
    sha256_add(&sha, text);
    sha256_finish(&sha, out);
    sha256_close(&sha);
}

/* A generator of our own, so that a failure comes again. */
static unsigned next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(*seed >> 33);
}

/* All of the body was added. */
static void compare_end(struct canon_body *fast, struct str body, enum dkim_canon canon)
{
    struct dkim_body_hash got;
    unsigned char wanted[SHA256_SIZE];
    struct buf plain BUF_CLEANUP;
    buf_init(&plain, 1 << 16);
    plain_body(body, canon, &plain);
    hash_of(buf_str(&plain), wanted);
    canon_body_finish(fast, &got);
    canon_body_close(fast);
    assert_int_equal(got.size, plain.len);
    assert_memory_equal(got.hash, wanted, SHA256_SIZE);
}

/* The body comes in pieces of up to `piece` octets, their lengths from `seed`. */
static void compare_pieces(struct str body, enum dkim_canon canon, size_t piece, uint64_t seed)
{
    struct canon_body fast;
    canon_body_open(&fast, canon);
    for (size_t at = 0; at < body.len;) {
        size_t len = next_random(&seed) % (piece + 1);
        len = len < body.len - at ? len : body.len - at;
        canon_body_add(&fast, str_slice(body, at, at + len));
        at += len;
    }
    compare_end(&fast, body, canon);
}

static void compare_body(struct str body, enum dkim_canon canon, size_t split)
{
    struct canon_body fast;
    canon_body_open(&fast, canon);
    canon_body_add(&fast, str_slice(body, 0, split));
    canon_body_add(&fast, str_from(body, split));
    compare_end(&fast, body, canon);
}

/* Every body of up to 7 octets over those that matter, cut in two at a place that wanders. */
static void bodies_exhaustively(void **state)
{
    (void)state;
    static const char alphabet[] = {'a', ' ', '\t', '\r', '\n'};
    char text[7];
    unsigned long number = 0;
    for (size_t len = 0; len <= sizeof text; len++) {
        unsigned long total = 1;
        for (size_t i = 0; i < len; i++)
            total *= sizeof alphabet;
        for (unsigned long n = 0; n < total; n++, number++) {
            unsigned long rest = n;
            for (size_t i = 0; i < len; i++, rest /= sizeof alphabet)
                text[i] = alphabet[rest % sizeof alphabet];
            compare_body(str_of(text, len), DKIM_SIMPLE, number % (len + 1));
            compare_body(str_of(text, len), DKIM_RELAXED, number % (len + 1));
        }
    }
}

static void long_bodies(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "a", " ", "\t", "\r\n", "\r", "\n", "some longer words", "\r\n\r\n\r\n"};
    uint64_t seed = 1;
    for (int round = 0; round < 400; round++) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, 1 << 16);
        unsigned count = next_random(&seed) % 600;
        for (unsigned i = 0; i < count; i++)
            buf_append(&text, str_c(pieces[next_random(&seed) % 8]));
        size_t split = text.len ? next_random(&seed) % text.len : 0;
        compare_body(buf_str(&text), DKIM_SIMPLE, split);
        compare_body(buf_str(&text), DKIM_RELAXED, split);
    }
}

/* Any octets, mostly those that matter, in pieces of any length, single ones and none among them.
 */
static void bodies_in_pieces(void **state)
{
    (void)state;
    static const char special[] = {'\r', '\n', ' ', '\t', '\0', '.', '\v', '\f'};
    static const size_t pieces[] = {1, 2, 3, 7, 64, 600};
    char text[1500];
    uint64_t seed = 3;
    for (int round = 0; round < 1500; round++) {
        size_t len = next_random(&seed) % (round % 3 ? 40 : sizeof text);
        unsigned often = 1 + next_random(&seed) % 4;
        for (size_t i = 0; i < len; i++)
            text[i] = next_random(&seed) % 5 < often ? special[next_random(&seed) % sizeof special]
                                                     : (char)next_random(&seed);
        for (size_t i = 0; i + 1 < len; i++) /* most line ends are whole */
            if (text[i] == '\r' && next_random(&seed) % 4)
                text[i + 1] = '\n';
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
            for (int canon = 0; canon < DKIM_CANON_COUNT; canon++)
                compare_pieces(str_of(text, len), (enum dkim_canon)canon, pieces[i], seed + i);
    }
}

static void compare_field(struct str raw)
{
    struct mail_field field;
    struct str rest = raw;
    struct canon_sink sink;
    unsigned char got[SHA256_SIZE], wanted[SHA256_SIZE];
    if (!mail_header_next(&rest, &field) || field.name.len == 0)
        return;
    struct buf plain BUF_CLEANUP;
    buf_init(&plain, 1 << 16);
    plain_relaxed_field(&field, &plain);
    hash_of(buf_str(&plain), wanted);
    canon_sink_open(&sink);
    canon_field(&sink, DKIM_RELAXED, &field);
    canon_sink_finish(&sink, got);
    canon_sink_close(&sink);
    assert_memory_equal(got, wanted, SHA256_SIZE);
    hash_of(field.raw, wanted);
    canon_sink_open(&sink);
    canon_field(&sink, DKIM_SIMPLE, &field);
    canon_sink_finish(&sink, got);
    canon_sink_close(&sink);
    assert_memory_equal(got, wanted, SHA256_SIZE);
}

static void fields(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a", "B", " ", "\t", "\r\n ", "\r\n\t", "\r", ":"};
    static const char *const names[] = {"A: ", "Subject :", "x-y:", "From \t: ", "B:\t"};
    uint64_t seed = 2;
    for (int round = 0; round < 20000; round++) {
        struct buf text BUF_CLEANUP;
        buf_init(&text, 1 << 16);
        buf_append(&text, str_c(names[next_random(&seed) % 5]));
        unsigned count = next_random(&seed) % 12;
        for (unsigned i = 0; i < count; i++)
            buf_append(&text, str_c(pieces[next_random(&seed) % 8]));
        buf_append(&text, STR("\r\n"));
        compare_field(buf_str(&text));
    }
}

/* RFC 6376 3.4.5. */
static void examples(void **state)
{
    (void)state;
    struct buf out BUF_CLEANUP;
    struct mail_field field;
    struct str rest = STR("A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n");
    buf_init(&out, 1 << 16);
    while (mail_header_next(&rest, &field))
        plain_relaxed_field(&field, &out);
    assert_str(buf_str(&out), "a:X\r\nb:Y Z\r\n");
    buf_clear(&out);
    plain_body(STR(" C \r\nD \t E\r\n\r\n\r\n"), DKIM_RELAXED, &out);
    assert_str(buf_str(&out), " C\r\nD E\r\n");
    buf_clear(&out);
    plain_body(STR(" C \r\nD \t E\r\n\r\n\r\n"), DKIM_SIMPLE, &out);
    assert_str(buf_str(&out), " C \r\nD \t E\r\n");
    compare_field(STR("B : Y\t\r\n\tZ  \r\n"));
    compare_body(STR(" C \r\nD \t E\r\n\r\n\r\n"), DKIM_RELAXED, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),    cmocka_unit_test(bodies_exhaustively),
        cmocka_unit_test(long_bodies), cmocka_unit_test(bodies_in_pieces),
        cmocka_unit_test(fields),
    };
    return cmocka_run_group_tests_name("content-canon", tests, NULL, NULL);
}
