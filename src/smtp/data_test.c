/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/data_test.c - the decoder against a plain one that sees the whole input at once: every
 * string of CR, LF, dot, a letter and NUL, at every split point.
 */
#include "smtp/data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct outcome {
    bool ended;
    size_t used; /* input bytes up to and with the end */
    bool bare_lf, bare_cr, nul, has_8bit;
    uint64_t lines, header_length, longest_line;
    char text[4096];
    size_t len;
};

static void put(struct outcome *out, const char *bytes, size_t size)
{
    assert_true(out->len + size <= sizeof out->text);
    memcpy(out->text + out->len, bytes, size);
    out->len += size;
}

/* ---- the oracle: slow and plain ---- */

static void oracle_line(struct outcome *out, const char *line, size_t len, bool dots)
{
    if (dots && len && line[0] == '.') {
        line++;
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        out->bare_cr |= line[i] == '\r';
        out->nul |= line[i] == 0;
        out->has_8bit |= (unsigned char)line[i] > 127;
    }
    put(out, line, len);
    put(out, "\r\n", 2);
    out->lines++;
    if (len > out->longest_line)
        out->longest_line = len;
    if (len == 0 && out->header_length == 0)
        out->header_length = out->len;
}

/* `text` is a whole message (DATA: what stands behind the command line). */
static void oracle(const char *text, size_t size, bool chunks, struct outcome *out)
{
    memset(out, 0, sizeof *out);
    size_t content = size;
    if (!chunks) {
        /* the end is CRLF.CRLF, where the first CRLF may be the one of the command line */
        char whole[4096];
        memcpy(whole, "\r\n", 2);
        memcpy(whole + 2, text, size);
        for (size_t i = 0; i + 5 <= size + 2; i++) {
            if (memcmp(whole + i, "\r\n.\r\n", 5) == 0) {
                out->ended = true;
                content = i;
                out->used = i + 3;
                break;
            }
        }
        if (!out->ended)
            return;
    }
    size_t begin = 0;
    for (size_t i = 0; i < content; i++) {
        if (text[i] != '\n')
            continue;
        bool crlf = i > begin && text[i - 1] == '\r';
        /* behind "CRLF." a bare LF's line has no CR, but "." CR LF was the end */
        out->bare_lf |= !crlf;
        oracle_line(out, text + begin, i - begin - (crlf ? 1 : 0), !chunks);
        begin = i + 1;
    }
    if (begin < content)
        oracle_line(out, text + begin, content - begin, !chunks);
    if (chunks)
        out->used = size;
}

/* ---- the decoder, fed in two or three pieces ---- */

static bool feed(struct smtp_data *data, const char *text, size_t size, struct outcome *out)
{
    struct str input = {text, size};
    for (;;) {
        struct str slice;
        switch (smtp_data_next(data, &input, &slice)) {
        case SMTP_DATA_SLICE:
            assert_true(slice.len > 0);
            put(out, slice.ptr, slice.len);
            break;
        case SMTP_DATA_MORE:
            assert_int_equal(input.len, 0);
            out->used += size;
            return false;
        case SMTP_DATA_END:
            out->used += size - input.len;
            out->ended = true;
            return true;
        }
    }
}

static void decode(const char *text, size_t size, size_t cut_a, size_t cut_b, bool chunks,
                   bool mend, struct smtp_data *data, struct outcome *out)
{
    static const struct smtp_data_limits no_limits = {0};
    memset(out, 0, offsetof(struct outcome, text));
    out->len = 0;
    smtp_data_init(data, &no_limits, chunks, mend);
    if (!feed(data, text, cut_a, out) && !feed(data, text + cut_a, cut_b - cut_a, out))
        feed(data, text + cut_b, size - cut_b, out);
    if (chunks) {
        struct str rest = smtp_data_finish(data);
        put(out, rest.ptr, rest.len);
    }
}

static const char *show(const char *text, size_t size)
{
    static char shown[512];
    size_t at = 0;
    for (size_t i = 0; i < size && at < sizeof shown - 5; i++)
        at += (size_t)snprintf(shown + at, sizeof shown - at,
                               text[i] == '\r'   ? "\\r"
                               : text[i] == '\n' ? "\\n"
                               : text[i]         ? "%c"
                                                 : "\\0",
                               text[i]);
    shown[at] = 0;
    return shown;
}

static void compare(const char *text, size_t size, size_t cut_a, size_t cut_b, bool chunks,
                    bool mend, const struct outcome *expected)
{
    static struct outcome got;
    struct smtp_data data;
    decode(text, size, cut_a, cut_b, chunks, mend, &data, &got);
    bool fine = got.ended == expected->ended;
    if (fine && (got.ended || chunks)) {
        bool closing = expected->bare_cr || expected->nul || (expected->bare_lf && !mend);
        fine = got.used == expected->used && (data.fault != SMTP_DATA_OK) == closing &&
               smtp_data_must_close(data.fault) == closing;
        fine = fine && (data.fault != SMTP_DATA_BARE_LF || expected->bare_lf) &&
               (data.fault != SMTP_DATA_BARE_CR || expected->bare_cr) &&
               (data.fault != SMTP_DATA_NUL || expected->nul);
        if (!closing)
            fine = fine && got.len == expected->len &&
                   memcmp(got.text, expected->text, got.len) == 0 && data.size == got.len &&
                   data.lines == expected->lines && data.longest_line == expected->longest_line &&
                   data.header_length == expected->header_length &&
                   data.has_8bit == expected->has_8bit &&
                   data.mended_line_ends == expected->bare_lf;
    }
    if (!fine)
        fail_msg("\"%s\" cut at %zu and %zu, chunks %d, mend %d: fault %d, ended %d, used %zu",
                 show(text, size), cut_a, cut_b, chunks, mend, data.fault, got.ended, got.used);
}

static const char alphabet[] = {'\r', '\n', '.', 'a', 0};

/* Call for every string of `len` letters. */
static void every_string(size_t len, void (*visit)(const char *text, size_t len))
{
    char text[16];
    unsigned digits[16] = {0};
    for (;;) {
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[digits[i]];
        visit(text, len);
        size_t at = 0;
        while (at < len && ++digits[at] == sizeof alphabet)
            digits[at++] = 0;
        if (at == len)
            return;
    }
}

/* The string in the middle of a message, and at its start. */
static void visit(const char *text, size_t len, bool cuts)
{
    static struct outcome expected;
    static const char *const frames[][2] = {{"", "\r\n.\r\n"}, {"b\r\n\r\nc", "d\r\n.\r\n"}};
    for (size_t f = 0; f < 2; f++) {
        char whole[64];
        size_t before = strlen(frames[f][0]);
        size_t after = strlen(frames[f][1]);
        memcpy(whole, frames[f][0], before);
        memcpy(whole + before, text, len);
        memcpy(whole + before + len, frames[f][1], after);
        size_t size = before + len + after;
        for (int mode = 0; mode < 4; mode++) {
            bool chunks = mode & 1;
            oracle(whole, size, chunks, &expected);
            compare(whole, size, 0, 0, chunks, mode & 2, &expected);
            for (size_t cut = 1; cuts && cut < size; cut++)
                compare(whole, size, cut, size, chunks, mode & 2, &expected);
        }
    }
}

static void visit_whole(const char *text, size_t len)
{
    visit(text, len, false);
}

static void visit_cut(const char *text, size_t len)
{
    visit(text, len, true);
}

static void every_short_string_at_every_cut(void **state)
{
    (void)state;
    for (size_t len = 0; len <= 6; len++)
        every_string(len, visit_cut);
}

static void every_string_up_to_eight(void **state)
{
    (void)state;
    for (size_t len = 7; len <= 8; len++)
        every_string(len, visit_whole);
}

/* Two cuts, so that each state meets an empty and a one-byte piece. */
static void two_cuts(void **state)
{
    (void)state;
    static struct outcome expected;
    static const char *const texts[] = {
        "a: b\r\n\r\n..x\r\n.\r\n", "\r\n.\r\r\n.\r\n",   ".\r\n", "..\r\n.\r\n",
        "a\n.\r\nb\r\n.\r\n",       "a\r\n.\nb\r\n.\r\n",
    };
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++)
        for (int mode = 0; mode < 4; mode++) {
            size_t size = strlen(texts[t]);
            oracle(texts[t], size, mode & 1, &expected);
            for (size_t a = 0; a <= size; a++)
                for (size_t b = a; b <= size; b++)
                    compare(texts[t], size, a, b, mode & 1, mode & 2, &expected);
        }
}

/* The sequences of the known smuggling tools: none of them may end the data. */
static void smuggling_sequences(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
    } sequences[] = {
#define SEQUENCE(literal) {literal, sizeof(literal) - 1}
        SEQUENCE("\n.\n"),       SEQUENCE("\r.\r"),         SEQUENCE("\r.\n"),
        SEQUENCE("\n.\r"),       SEQUENCE("\n.\r\n"),       SEQUENCE("\r\n.\n"),
        SEQUENCE("\r.\r\n"),     SEQUENCE("\r\n.\r"),       SEQUENCE("\r\n\0.\r\n"),
        SEQUENCE("\r\n.\0\r\n"), SEQUENCE("\r\n.\r\r\n"),   SEQUENCE("\r\r\n.\r\r\n"),
        SEQUENCE("\r\n. \r\n"),  SEQUENCE("\r\n.\x1a\r\n"),
#undef SEQUENCE
    };
    for (size_t i = 0; i < sizeof sequences / sizeof sequences[0]; i++) {
        char text[64] = "body";
        static struct outcome out;
        struct smtp_data data;
        size_t size = 4 + sequences[i].len;
        memcpy(text + 4, sequences[i].text, sequences[i].len);
        memcpy(text + size, "MAIL", 4);
        decode(text, size + 4, 0, 0, false, true, &data, &out);
        if (out.ended)
            fail_msg("sequence %zu ended the data", i);
    }
}

/* ---- counts and limits ---- */

static void decode_with(const struct smtp_data_limits *limits, const char *text,
                        struct smtp_data *data)
{
    static struct outcome out;
    out.len = 0;
    smtp_data_init(data, limits, false, false);
    assert_true(feed(data, text, strlen(text), &out));
}

static void counts(void **state)
{
    (void)state;
    static const struct smtp_data_limits none = {0};
    struct smtp_data data;
    decode_with(&none,
                "Received: one\r\n\tmore: of it\r\nreceived : two\r\nReceived-SPF: no\r\n"
                "RECEIVED:three\r\nSubject: x\r\n\r\nReceived: body\r\n\r\nx\r\n.\r\n",
                &data);
    assert_int_equal(data.received_count, 3);
    assert_int_equal(data.header_fields, 5);
    assert_int_equal(data.header_length, 15 + 14 + 16 + 18 + 16 + 12 + 2);
    assert_int_equal(data.lines, 10);
    assert_int_equal(data.longest_line, 16);
    assert_false(data.has_8bit);
    decode_with(&none, "\r\nbody \xc3\xa4\r\n.\r\n", &data);
    assert_int_equal(data.header_length, 2);
    assert_int_equal(data.header_fields, 0);
    assert_true(data.has_8bit);
    decode_with(&none, "Subject: only a header\r\n.\r\n", &data);
    assert_int_equal(data.header_length, 0);
    assert_int_equal(data.header_fields, 1);
    decode_with(&none, ".\r\n", &data);
    assert_int_equal(data.size, 0);
}

static void limits(void **state)
{
    (void)state;
    static const struct {
        struct smtp_data_limits limits;
        const char *text;
        enum smtp_data_fault fault;
    } cases[] = {
        {{.size = 5}, "abc\r\n.\r\n", SMTP_DATA_OK},
        {{.size = 5}, "abcd\r\n.\r\n", SMTP_DATA_SIZE},
        {{.size = 5}, "..bc\r\n.\r\n", SMTP_DATA_OK}, /* the stuffed dot does not count */
        {{.size = 5}, "abcd\r\n\n\r\n.\r\n", SMTP_DATA_BARE_LF}, /* what closes comes first */
        {{.size = 5}, "a\nabcdefg\r\n.\r\n", SMTP_DATA_BARE_LF},
        {{.line = 4}, "a\r\nabcd\r\n.\r\n", SMTP_DATA_OK},
        {{.line = 4}, "a\r\nabcde\r\n.\r\n", SMTP_DATA_LINE},
        {{.header_bytes = 8}, "a: b\r\n\r\nabcdefghi\r\n.\r\n", SMTP_DATA_OK},
        {{.header_bytes = 8}, "a: bc\r\n\r\nabc\r\n.\r\n", SMTP_DATA_HEADER_BYTES},
        {{.header_bytes = 8}, "a: b\r\n c\r\n.\r\n", SMTP_DATA_HEADER_BYTES},
        {{.header_fields = 2}, "a: 1\r\n 2\r\nb: 3\r\n\r\n.\r\n", SMTP_DATA_OK},
        {{.header_fields = 2}, "a: 1\r\nb: 2\r\nc: 3\r\n\r\n.\r\n", SMTP_DATA_HEADER_FIELDS},
        {{.hops = 1}, "Received: 1\r\n\r\n.\r\n", SMTP_DATA_OK},
        {{.hops = 1}, "Received: 1\r\nx: y\r\nreceived: 2\r\n\r\n.\r\n", SMTP_DATA_HOPS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smtp_data data;
        decode_with(&cases[i].limits, cases[i].text, &data);
        if (data.fault != cases[i].fault)
            fail_msg("case %zu: fault %d", i, data.fault);
    }
}

/* Each kind of byte at each place of a longer text: the eight-at-a-time look must miss none. */
static void every_position(void **state)
{
    (void)state;
    static const struct smtp_data_limits none = {0};
    static const struct {
        char byte;
        enum smtp_data_fault fault;
    } kinds[] = {
        {0, SMTP_DATA_NUL},     {'\r', SMTP_DATA_BARE_CR}, {'\n', SMTP_DATA_BARE_LF},
        {'\x80', SMTP_DATA_OK}, {'\xff', SMTP_DATA_OK},    {1, SMTP_DATA_OK},
        {'\x7f', SMTP_DATA_OK},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        for (size_t at = 0; at < 90; at++) {
            char text[128];
            struct smtp_data data;
            static struct outcome out;
            memset(text, 'x', sizeof text);
            text[at] = kinds[k].byte;
            memcpy(text + 91, "\r\n.\r\n", 5);
            out.len = 0;
            smtp_data_init(&data, &none, false, false);
            assert_true(feed(&data, text, 96, &out));
            assert_int_equal(data.fault, kinds[k].fault);
            assert_int_equal(data.has_8bit, (unsigned char)kinds[k].byte > 127);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_short_string_at_every_cut),
        cmocka_unit_test(every_string_up_to_eight),
        cmocka_unit_test(two_cuts),
        cmocka_unit_test(smuggling_sequences),
        cmocka_unit_test(counts),
        cmocka_unit_test(limits),
        cmocka_unit_test(every_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
