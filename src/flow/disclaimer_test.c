/* SPDX-License-Identifier: Apache-2.0 */
/* flow/disclaimer_test.c - a text put into messages of every make; every other byte stays. */
#include "flow/run_bench.h"

#include "mail/header.h"

struct text_case {
    const char *name;
    const char *message;
    const char *result; /* NULL: as it was */
};

#define FLOW "[ disclaimer: { text: \"Caf\\u00e9 <x>\", skipped: hold }, deliver ]"
#define PLAIN                                                                                      \
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "                       \
    "quoted-printable\r\n\r\n"
#define HTML                                                                                       \
    "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: "                        \
    "quoted-printable\r\n\r\n"
#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
#define ALTER "Content-Type: multipart/alternative; boundary=b\r\n\r\n"

static const struct text_case texts[] = {
    {"plain", "Subject: a\r\n\r\nHello\r\n",
     "Subject: a\r\nMIME-Version: 1.0\r\n" PLAIN "Hello\r\n\r\nCaf=C3=A9 <x>\r\n"},
    {"plain without a line end", "Subject: a\r\n\r\nHello",
     "Subject: a\r\nMIME-Version: 1.0\r\n" PLAIN "Hello\r\n\r\nCaf=C3=A9 <x>\r\n"},
    {"latin 1 in base64",
     "Content-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
     "charset=iso-8859-1\r\n\r\naOk9Cg==\r\n",
     "MIME-Version: 1.0\r\n" PLAIN "h=C3=A9=3D\r\n\r\nCaf=C3=A9 <x>\r\n"},
    {"html with an end",
     "MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<body>x</BODY></html>\r\n",
     "MIME-Version: 1.0\r\n" HTML
     "<body>x\r\n\r\n<div>Caf=C3=A9 &lt;x&gt;</div>\r\n</BODY></html>\r\n"},
    {"alternative",
     "Subject: a\r\n" ALTER "pre\r\n--b\r\nX-A: 1\r\n\r\nx\r\n--b\r\nContent-Type: "
     "text/html\r\n\r\n<p>x\r\n--b--\r\nepilogue\r\n",
     "Subject: a\r\n" ALTER "pre\r\n--b\r\nX-A: 1\r\n" PLAIN
     "x\r\n\r\nCaf=C3=A9 <x>\r\n--b\r\n" HTML
     "<p>x\r\n\r\n<div>Caf=C3=A9 &lt;x&gt;</div>\r\n--b--\r\nepilogue\r\n"},
    {"only the first text, and no attachment",
     MIXED
     "--b\r\nContent-Disposition: attachment\r\n\r\nfile\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n"
     "--b--\r\n",
     MIXED "--b\r\nContent-Disposition: attachment\r\n\r\nfile\r\n--b\r\n" PLAIN
           "one\r\n\r\nCaf=C3=A9 <x>\r\n--b\r\n\r\ntwo\r\n--b--\r\n"},
    {"format=flowed stays",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; format=flowed\r\n\r\na \r\nb\r\n",
     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\n"
     "Content-Transfer-Encoding: quoted-printable\r\n\r\na=20\r\nb\r\n\r\nCaf=C3=A9 <x>\r\n"},
    {"signed", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n", NULL},
    {"signed inside",
     MIXED "--b\r\nContent-Type: multipart/signed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n"
           "--c--\r\n--b--\r\n",
     NULL},
    {"S/MIME", "Content-Type: application/pkcs7-mime\r\n\r\nxx\r\n", NULL},
    {"PGP in the text", "Subject: a\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nx\r\n", NULL},
    {"no text", "Content-Type: image/png\r\n\r\nxx\r\n", NULL},
    {"a message in it only", "Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ntext\r\n",
     NULL},
    {"a charset that nobody knows", "Content-Type: text/plain; charset=x-klingon\r\n\r\n\xe9\r\n",
     NULL},
    {"once", "Content-Type: text/plain; charset=utf-8\r\n\r\n> Caf\xc3\xa9 <x>\r\n", NULL},
};

static NO_YIELD_CHECK struct str read_all(struct bench *bench)
{
    struct buf text BUF_CLEANUP;
    struct str part;
    char space[512];
    struct error err;
    buf_init(&text, 1 << 20);
    while (mail_content_read(&bench->content, text.len, sizeof space, space, &part, &err) == OK &&
           part.len)
        buf_append(&text, part);
    return arena_str(bench->arena, buf_str(&text));
}

static NO_YIELD_CHECK struct body *open_message(struct bench *bench, const char *steps,
                                                struct str message)
{
    struct error err;
    struct body *body = body_memory_new(16 << 20);
    bench_open(bench, FLOW_CONTENT, steps);
    check(body_append(body, message, &err) == OK && body_seal(body, &err) == OK);
    bench->content.body = body;
    bench->facts.header = str_slice(message, 0, mail_header_length(message));
    bench->facts.size = body->size;
    return body;
}

static void test_texts(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct bench bench;
        struct body *body = open_message(&bench, FLOW, str_c(texts[i].message));
        scan(&bench);
        struct str got = read_all(&bench);
        const char *wanted = texts[i].result ? texts[i].result : texts[i].message;
        if (!str_equal(got, str_c(wanted)) ||
            bench.verdict.kind != (texts[i].result ? FLOW_DELIVER : FLOW_HOLD))
            fail_msg("%s (%d, %.*s):\n%.*s", texts[i].name, (int)bench.verdict.kind,
                     STR_ARG(bench.verdict.detail), STR_ARG(got));
        bench_close(&bench);
        body_unref(body);
    }
}

/* Our trace fields stay on top, and steps behind it see what is there now. */
static void test_behind_trace_fields(void **unused)
{
    (void)unused;
    struct bench bench;
    struct body *body = open_message(
        &bench,
        "[ disclaimer: Bye, header: \"X-A: 1\", disclaimer: { id: b, text: Two }, deliver ]",
        STR("Subject: a\r\n\r\nHello\r\n"));
    bench.content.head = STR("Received: x\r\n");
    bench.facts.header = STR("Received: x\r\nSubject: a\r\n\r\n");
    scan(&bench);
    assert_str(read_all(&bench),
               "Received: x\r\nX-A: 1\r\nSubject: a\r\nMIME-Version: 1.0\r\n" PLAIN
               "Hello\r\n\r\nBye\r\n\r\nTwo\r\n");
    bench_close(&bench);
    body_unref(body);
}

/* The message of another group is what it was. */
static void test_copy_on_write(void **unused)
{
    (void)unused;
    struct bench bench;
    struct body *body = open_message(&bench, FLOW, STR("Subject: a\r\n\r\nHello\r\n"));
    struct mail_content other = bench.content;
    scan(&bench);
    assert_ptr_not_equal(bench.content.body, other.body);
    assert_int_equal(other.body->size, strlen("Subject: a\r\n\r\nHello\r\n"));
    bench_close(&bench);
    body_unref(body);
}

static void test_limits(void **unused)
{
    (void)unused;
    struct bench bench;
    struct flow_limits limits = flow_limits_default;
    limits.decoded = 4;
    struct body *body = open_message(&bench, "[ disclaimer: { text: x, error: hold }, deliver ]",
                                     STR("Subject: a\r\n\r\nHello\r\n"));
    bench.run.limits = &limits;
    scan(&bench);
    expect(&bench, FLOW_HOLD, "", "1-disclaimer");
    bench_close(&bench);
    body_unref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_behind_trace_fields),
        cmocka_unit_test(test_copy_on_write),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
