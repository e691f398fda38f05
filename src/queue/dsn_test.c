/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/dsn.h"

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct built {
    struct buf head, body;
    bool eight_bit;
};

static void build(const struct queue_dsn *dsn, struct built *built)
{
    buf_init(&built->head, QUEUE_DSN_MAX);
    buf_init(&built->body, QUEUE_DSN_MAX);
    queue_dsn_build(dsn, &built->head, &built->body, &built->eight_bit);
    assert_false(built->head.overflow || built->body.overflow);
}

static void done(struct built *built)
{
    buf_done(&built->head);
    buf_done(&built->body);
}

static bool has(const struct buf *buf, const char *text)
{
    return str_find_str(buf_str(buf), str_c(text)) >= 0;
}

static void expect(const struct buf *buf, const char *text)
{
    if (!has(buf, text))
        fail_msg("not there: \"%s\" in\n%.*s", text, STR_ARG(buf_str(buf)));
}

/* No bare CR or LF, no line over 998. */
static void expect_clean(const struct buf *buf)
{
    size_t line = 0;
    for (size_t i = 0; i < buf->len; i++) {
        bool is_end = buf->ptr[i] == '\n';
        assert_true(!is_end || (i > 0 && buf->ptr[i - 1] == '\r'));
        assert_true(buf->ptr[i] != '\r' || (i + 1 < buf->len && buf->ptr[i + 1] == '\n'));
        line = is_end ? 0 : line + 1;
        assert_true(line <= 999);
    }
}

static const struct mail_sender sender = {.address = STR("me@example.org"), .envid = STR("env 1")};
static const struct mail_recipient bob = {.address = STR("bob@example.net"),
                                          .orcpt = STR("rfc822;Bob@example.net")};

static struct queue_dsn sample(const struct queue_dsn_recipient *recipients, size_t count)
{
    return (struct queue_dsn){
        .hostname = STR("gw.example"),
        .postmaster = STR("postmaster@example.org"),
        .sender = &sender,
        .message_id = STR("01JD8Y"),
        .arrival_wall_ns = 0,
        .now_wall_ns = 1000000000,
        .recipients = recipients,
        .recipient_count = count,
        .original = STR("Subject: hi\r\n\r\n"),
        .id = {1, 2},
    };
}

static void test_failed(void **state)
{
    struct queue_dsn_recipient recipient = {
        .recipient = &bob,
        .action = QUEUE_DSN_FAILED,
        .reply = mail_reply_of(550, 5, 1, 1, STR("first\nsecond\r\nX: injected")),
        .mta = STR("mx.example.net"),
    };
    struct queue_dsn dsn = sample(&recipient, 1);
    struct built built;
    (void)state;
    build(&dsn, &built);
    expect(&built.head, "From: Mail Delivery System <postmaster@example.org>\r\n");
    expect(&built.head, "To: <me@example.org>\r\n");
    expect(&built.head, "Auto-Submitted: auto-replied\r\n");
    expect(&built.head, "multipart/report; report-type=delivery-status;");
    assert_true(str_ends(buf_str(&built.head), STR("\r\n\r\n")));
    expect(&built.body, "Content-Type: message/delivery-status\r\n\r\n"
                        "Original-Envelope-Id: env 1\r\nReporting-MTA: dns; gw.example\r\n"
                        "Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n\r\n"
                        "Original-Recipient: rfc822; Bob@example.net\r\n"
                        "Final-Recipient: rfc822; bob@example.net\r\n"
                        "Action: failed\r\nStatus: 5.1.1\r\n"
                        "Remote-MTA: dns; mx.example.net\r\n"
                        "Diagnostic-Code: smtp; 550 5.1.1 first second  X: injected\r\n");
    expect(&built.body, "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\n");
    assert_false(built.eight_bit);
    expect_clean(&built.head);
    expect_clean(&built.body);
    done(&built);
}

static void test_kinds(void **state)
{
    static const struct {
        enum queue_dsn_action action;
        bool expired;
        unsigned code, class;
        const char *subject, *fields;
    } cases[] = {
        {QUEUE_DSN_DELAYED, false, 451, 4, "Subject: Your mail is delayed\r\n",
         "Action: delayed\r\nStatus: 4.4.1\r\n"},
        {QUEUE_DSN_FAILED, true, 451, 4, "Subject: Undelivered mail returned to sender\r\n",
         "Action: failed\r\nStatus: 5.4.7\r\n"},
        {QUEUE_DSN_FAILED, false, 0, 5, "Subject: Undelivered mail returned to sender\r\n",
         "Action: failed\r\nStatus: 5.4.1\r\nDiagnostic-Code: x-postern; words\r\n"},
        {QUEUE_DSN_DELIVERED, false, 250, 2, "Subject: Your mail was delivered\r\n",
         "Action: delivered\r\nStatus: 2.4.1\r\n"},
        {QUEUE_DSN_RELAYED, false, 250, 0, "Subject: Your mail was delivered\r\n",
         "Action: relayed\r\nStatus: 2.0.0\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct queue_dsn_recipient recipient = {
            .recipient = &bob, .action = cases[i].action, .expired = cases[i].expired};
        recipient.reply =
            (struct mail_reply){.code = (unsigned short)cases[i].code, .text = STR("words")};
        recipient.reply.enhanced = (struct mail_enhanced){(unsigned char)cases[i].class, 4, 1};
        struct queue_dsn dsn = sample(&recipient, 1);
        struct built built;
        build(&dsn, &built);
        expect(&built.head, cases[i].subject);
        expect(&built.body, cases[i].fields);
        done(&built);
    }
}

static void test_utf8(void **state)
{
    struct mail_recipient recipient = {.address = STR("b\xc3\xbc@example.net")};
    struct queue_dsn_recipient told = {.recipient = &recipient, .action = QUEUE_DSN_FAILED};
    struct queue_dsn dsn = sample(&told, 1);
    struct built built;
    (void)state;
    build(&dsn, &built);
    assert_true(built.eight_bit);
    expect(&built.head, "Content-Transfer-Encoding: 8bit\r\n");
    expect(&built.body, "Content-Type: message/global-delivery-status\r\n");
    expect(&built.body, "Final-Recipient: utf-8; b\xc3\xbc@example.net\r\n");
    done(&built);
}

/* However much comes in, the notification stays small and ends whole. */
static void test_bounds(void **state)
{
    enum { LONG = 200 * 1024 };
    static char text[LONG];
    struct queue_dsn_recipient told = {
        .recipient = &bob,
        .action = QUEUE_DSN_FAILED,
        .reply = mail_reply_of(550, 5, 0, 0, str_of(text, LONG)),
    };
    struct queue_dsn dsn = sample(&told, 1);
    struct built built;
    (void)state;
    memset(text, 'x', LONG);
    for (size_t i = 78; i + 1 < LONG; i += 80)
        memcpy(text + i, "\r\n", 2);
    dsn.original = str_of(text, LONG);
    dsn.original_is_full = true;
    build(&dsn, &built);
    assert_true(built.body.len < QUEUE_DSN_FULL_MAX + 8192);
    expect(&built.body, "Content-Type: message/rfc822\r\n");
    assert_true(str_ends(buf_str(&built.body), STR("--\r\n")));
    expect_clean(&built.body);
    done(&built);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
