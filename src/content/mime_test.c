/* SPDX-License-Identifier: Apache-2.0 */
/* content/mime_test.c - parts, encodings, charsets; broken and hostile ones. */
#include "content/mime.h"

#include "base/check.h"
#include "base/test.h"
#include "mail/header.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct mime_limits usual = {.parts = 100, .depth = 10, .memory = 1 << 20};

struct opened {
    struct arena *arena;
    struct mail_content content;
    struct mime_message message;
    enum result result;
    struct error err;
};

static NO_YIELD_CHECK void open_text(struct opened *opened, struct str text,
                                     const struct mime_limits *limits)
{
    struct error err;
    *opened = (struct opened){.arena = arena_new(0)};
    struct body *body = body_memory_new(64 << 20);
    check(body_append(body, text, &err) == OK && body_seal(body, &err) == OK);
    opened->content = (struct mail_content){.body = body};
    size_t header = mail_header_length(text);
    struct mime_source source = {&opened->content, str_slice(text, 0, header ? header : text.len)};
    opened->result = mime_read(&source, limits, opened->arena, &opened->message, &opened->err);
}

static void close_text(struct opened *opened)
{
    body_unref(opened->content.body);
    arena_free(opened->arena);
}

static enum result gather(void *context, struct str data, struct error *err)
{
    (void)err;
    buf_append(context, data);
    return OK;
}

/* ---- the parts ---- */

struct parts_case {
    const char *name;
    const char *text;
    const char *parts; /* "depth type=decoded bytes|" each */
};

#define MULTI(boundary) "Content-Type: multipart/mixed; boundary=" boundary "\r\n\r\n"

static const struct parts_case parts[] = {
    {"plain", "Subject: a\r\n\r\nHello\r\n", "0 text/plain=Hello\r\n|"},
    {"no body", "Subject: a\r\n\r\n", "0 text/plain=|"},
    {"two",
     MULTI("b") "pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n"
                "epi\r\n",
     "0 multipart/mixed=|1 text/plain=one|1 text/html=<p>|"},
    {"bare line feeds", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\n\none\ntwo\n--b--\n",
     "0 multipart/mixed=|1 text/plain=one\ntwo|"},
    {"never closed", MULTI("b") "--b\r\n\r\none\r\n", "0 multipart/mixed=|1 text/plain=one\r\n|"},
    {"empty part", MULTI("b") "--b\r\n\r\n--b\r\n\r\n--b--\r\n",
     "0 multipart/mixed=|1 text/plain=|1 text/plain=|"},
    {"a header that never ends", MULTI("b") "--b\r\nContent-Type: text/html\r\n--b--\r\n",
     "0 multipart/mixed=|1 text/html=|"},
    {"nested",
     MULTI("\"a b\"") "--a b\r\nContent-Type: multipart/alternative; boundary=\"a bc\"\r\n\r\n"
                      "--a bc\r\n\r\nx\r\n--a bc\r\n\r\ny\r\n--a bc--\r\n--a b\r\n\r\nz\r\n--a "
                      "b--\r\n",
     "0 multipart/mixed=|1 multipart/alternative=|2 text/plain=x|2 text/plain=y|1 text/plain=z|"},
    {"the outer boundary ends an inner one that is open",
     MULTI(
         "o") "--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nx\r\n--o\r\n\r\n"
              "y\r\n--o--\r\n",
     "0 multipart/mixed=|1 multipart/mixed=|2 text/plain=x|1 text/plain=y|"},
    {"a message in it",
     MULTI("b") "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: "
                "text/html\r\n\r\nhi\r\n--b--\r\n",
     "0 multipart/mixed=|1 message/rfc822=|2 text/html=hi|"},
    {"a digest",
     "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: "
     "in\r\n\r\nhi\r\n--b--\r\n",
     "0 multipart/digest=|1 message/rfc822=|2 text/plain=hi|"},
    {"no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n", "0 multipart/mixed=--b\r\n|"},
    {"blanks behind a boundary", MULTI("b") "--b \t\r\n\r\none\r\n--b-- \r\n",
     "0 multipart/mixed=|1 text/plain=one|"},
    {"longer than the boundary", MULTI("b") "--b\r\n\r\none\r\n--bc\r\n--b--\r\n",
     "0 multipart/mixed=|1 text/plain=one\r\n--bc|"},
    {"base64", "Content-Transfer-Encoding: BASE64\r\n\r\nSGVs\r\nbG8=\r\n", "0 text/plain=Hello|"},
    {"base64 with junk and more behind its end",
     "Content-Transfer-Encoding: base64\r\n\r\nSG*Vs bG8=IQ==\r\n", "0 text/plain=Hello!|"},
    {"quoted-printable",
     "Content-Transfer-Encoding: quoted-printable\r\n\r\na=3Db=\r\nc=20\r\n=zz=4\r\n=",
     "0 text/plain=a=bc \r\n=zz=4\r\n=|"},
};

static NO_YIELD_CHECK void describe(struct opened *opened, struct buf *out)
{
    for (size_t i = 0; i < opened->message.count; i++) {
        const struct mime_part *part = &opened->message.parts[i];
        buf_printf(out, "%u %.*s=", part->depth, STR_ARG(part->type));
        if (!part->is_multipart && !part->is_message)
            check(mime_decode(&opened->message, part, gather, out, &opened->err) == OK);
        buf_append_byte(out, '|');
    }
}

static void test_parts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct opened opened;
        struct buf got BUF_CLEANUP;
        buf_init(&got, 65536);
        open_text(&opened, str_c(parts[i].text), &usual);
        assert_int_equal(opened.result, OK);
        describe(&opened, &got);
        if (!str_equal(buf_str(&got), str_c(parts[i].parts)))
            fail_msg("%s: %.*s", parts[i].name, STR_ARG(buf_str(&got)));
        close_text(&opened);
    }
}

/* ---- text ---- */

struct text_case {
    const char *name;
    const char *header;
    const char *body;
    const char *text;
    bool faithful;
};

static const struct text_case texts[] = {
    {"utf-8", "Content-Type: text/plain; charset=UTF-8", "h\xc3\xa9", "h\xc3\xa9", true},
    {"broken utf-8", "Content-Type: text/plain; charset=utf-8", "h\xc3", "h\xef\xbf\xbd", false},
    {"latin 1", "Content-Type: text/plain; charset=iso-8859-1", "h\xe9", "h\xc3\xa9", true},
    {"windows", "Content-Type: text/plain; charset=\"windows-1252\"", "\x80", "\xe2\x82\xac", true},
    {"japanese", "Content-Type: text/plain; charset=iso-2022-jp", "\x1b$B$\"\x1b(B\r\n",
     "\xe3\x81\x82\r\n", true},
    {"chinese without a line end", "Content-Type: text/plain; charset=gbk", "\xc4\xe3",
     "\xe4\xbd\xa0", true},
    {"a charset that nobody knows", "Content-Type: text/plain; charset=x-klingon", "a\xe9",
     "a\xef\xbf\xbd", false},
    {"html", "Content-Type: text/html",
     "<b>V<i>iag</i>ra</b>&amp;&#39;&#x41;<br>x &lt <!-- a>b-->y", "Viagra&'A\nx &lt y", true},
    {"html that hides", "Content-Type: text/html",
     "a<style>p { x: \"<b>\" }</style>b<a title='>'>c</a>", "abc", true},
};

static NO_YIELD_CHECK void test_texts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct opened opened;
        struct buf got BUF_CLEANUP;
        bool faithful;
        char text[512];
        buf_init(&got, 65536);
        snprintf(text, sizeof text, "%s\r\n\r\n%s", texts[i].header, texts[i].body);
        open_text(&opened, str_c(text), &usual);
        check(mime_decode_text(&opened.message, &opened.message.parts[0], true, gather, &got,
                               &faithful, &opened.err) == OK);
        if (!str_equal(buf_str(&got), str_c(texts[i].text)) || faithful != texts[i].faithful)
            fail_msg("%s: %.*s", texts[i].name, STR_ARG(buf_str(&got)));
        close_text(&opened);
    }
}

/* A character that is cut between two pieces is whole. */
static NO_YIELD_CHECK void test_pieces(void **unused)
{
    (void)unused;
    struct opened opened;
    struct buf text BUF_CLEANUP, got BUF_CLEANUP;
    bool faithful;
    buf_init(&text, 1 << 20);
    buf_init(&got, 1 << 20);
    buf_append(&text, STR("Content-Type: text/plain; charset=utf-8\r\n\r\nx"));
    for (int i = 0; i < 50000; i++)
        buf_append(&text, STR("\xe2\x82\xac"));
    open_text(&opened, buf_str(&text), &usual);
    check(mime_decode_text(&opened.message, &opened.message.parts[0], true, gather, &got, &faithful,
                           &opened.err) == OK);
    assert_true(faithful);
    assert_int_equal(got.len, 150001);
    close_text(&opened);
}

/* ---- parameters and words ---- */

static void test_parameters(void **unused)
{
    (void)unused;
    static const struct {
        const char *value, *name, *found;
    } cases[] = {
        {"text/plain; charset=utf-8", "charset", "utf-8"},
        {"text/plain; CHARSET = \"utf-8\" (x)", "charset", "utf-8"},
        {"text/plain; name=\"a;b\\\"c\"; charset=x", "charset", "x"},
        {"text/plain; name=\"a;b\\\"c\"; charset=x", "name", "a;b\"c"},
        {"text/plain", "charset", ""},
        {"a; filename*=utf-8''h%C3%A9.txt", "filename", "h\xc3\xa9.txt"},
        {"a; filename*=iso-8859-1'en'h%E9", "filename", "h\xc3\xa9"},
        {"a; filename*1=\"c.exe\"; filename*0*=utf-8''a%20", "filename", "a c.exe"},
        {"a; filename*0=a; filename*2=c", "filename", "a"},
        {"a; filename=\"unclosed", "filename", "unclosed"},
        {"a; filename=", "filename", ""},
        {"a; ; x; filename=b", "filename", "b"},
    };
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str found = mime_parameter(str_c(cases[i].value), cases[i].name, arena);
        if (!str_equal(found, str_c(cases[i].found)))
            fail_msg("%s: %.*s", cases[i].value, STR_ARG(found));
    }
    arena_free(arena);
}

static void test_words(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *decoded;
    } cases[] = {
        {"plain", "plain"},
        {"=?utf-8?q?h=C3=A9_x?= y", "h\xc3\xa9 x y"},
        {"=?utf-8?B?w6k=?= =?iso-8859-1?Q?=E9?=", "\xc3\xa9\xc3\xa9"},
        {"=?utf-8?B?w6k=?= a =?utf-8?B?w6k=?=", "\xc3\xa9 a \xc3\xa9"},
        {"=?utf-8*en?q?a?=", "a"},
        {"=?utf-8?x?a?=", "=?utf-8?x?a?="},
        {"=?utf-8?b?***?=", "=?utf-8?b?***?="},
        {"=?", "=?"},
    };
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_str(mime_decode_words(str_c(cases[i].text), arena), cases[i].decoded);
    arena_free(arena);
}

/* ---- hostile ---- */

static void test_bombs(void **unused)
{
    (void)unused;
    struct buf many BUF_CLEANUP, deep BUF_CLEANUP;
    struct opened opened;
    buf_init(&many, 4 << 20);
    buf_init(&deep, 8 << 20);
    buf_append(&many, STR(MULTI("b")));
    for (int i = 0; i < 50000; i++)
        buf_append(&many, STR("--b\r\n\r\n"));
    open_text(&opened, buf_str(&many), &usual);
    assert_int_equal(opened.result, FAILED);
    assert_int_equal(opened.err.kind, ERROR_LIMIT);
    close_text(&opened);
    for (int i = 0; i < 50000; i++)
        buf_printf(&deep, "%sContent-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", "", i,
                   i);
    open_text(&opened, buf_str(&deep), &usual);
    assert_int_equal(opened.result, FAILED);
    assert_int_equal(opened.err.kind, ERROR_LIMIT);
    close_text(&opened);
}

/* Messages in messages have no boundaries to count. */
static void test_matryoshka(void **unused)
{
    (void)unused;
    struct buf text BUF_CLEANUP;
    struct opened opened;
    buf_init(&text, 4 << 20);
    for (int i = 0; i < 50000; i++)
        buf_append(&text, STR("Content-Type: message/rfc822\r\n\r\n"));
    open_text(&opened, buf_str(&text), &usual);
    assert_int_equal(opened.result, FAILED);
    assert_int_equal(opened.err.kind, ERROR_LIMIT);
    close_text(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),      cmocka_unit_test(test_texts),
        cmocka_unit_test(test_pieces),     cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_words),      cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_matryoshka),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
