/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/script_test.h"

#include "base/buf.h"

#include "fiber/test.h"
#include "net/tls.h"
#include "smtp/client.h"

/* ---- one delivery, against a script ---- */

#define GREETING "S: 220 mx.example ESMTP"
#define EHLO     "C: EHLO gw.example"

struct delivery {
    const char *name;
    const char *steps[40];
    const char *expected; /* "ok 250/END+ 550/RCPT-": result, then code/stage and accepted */
    const char *recipients[4];
    const char *content; /* NULL: "Subject: x\r\n\r\nbody\r\n" */
    const char *sender;  /* NULL: a@example.org */
    bool lmtp, utf8, eight_bit, chunking, dsn;
    unsigned ignored; /* extensions */
};

struct attempt {
    const struct delivery *delivery;
    struct stream *stream;
    char outcome[512];
};

static const char *const stage_names[] = {"MAIL", "RCPT", "DATA", "END"};

static void describe(struct attempt *attempt, enum result result,
                     const struct smtp_client_recipient *recipients, size_t count)
{
    size_t used = (size_t)snprintf(attempt->outcome, sizeof attempt->outcome, "%s",
                                   result == OK ? "ok" : "failed");
    for (size_t i = 0; i < count; i++) {
        const struct smtp_client_recipient *recipient = &recipients[i];
        used += (size_t)snprintf(attempt->outcome + used, sizeof attempt->outcome - used,
                                 " %u/%s%s", recipient->reply.code, stage_names[recipient->stage],
                                 recipient->accepted ? "+" : "-");
    }
}

static MAY_YIELD void send_mail(struct attempt *attempt, struct smtp_client *client)
{
    const struct delivery *delivery = attempt->delivery;
    struct arena *arena = arena_new(1 << 20);
    struct mail_recipient recipients[4] = {0};
    struct smtp_client_recipient outcomes[4] = {0};
    size_t count = 0;
    for (; count < 4 && delivery->recipients[count]; count++) {
        recipients[count] = (struct mail_recipient){
            .address = str_c(delivery->recipients[count]),
            .orcpt = delivery->dsn ? STR("rfc822;x+y=z@example.org") : STR_EMPTY,
            .notify = delivery->dsn ? MAIL_NOTIFY_SUCCESS | MAIL_NOTIFY_FAILURE : 0,
        };
        outcomes[count].recipient = &recipients[count];
    }
    struct mail_sender sender = {
        .address = str_c(delivery->sender ? delivery->sender : "a@example.org"),
        .ret = delivery->dsn ? MAIL_RET_HDRS : MAIL_RET_NONE,
        .envid = delivery->dsn ? STR("id 1+2") : STR_EMPTY,
    };
    struct error err;
    struct body *body = body_memory_new(1 << 20);
    const char *text = delivery->content ? delivery->content : "\r\nbody\r\n";
    check(body_append(body, str_c(text), &err) == OK && body_seal(body, &err) == OK);
    struct mail_content content = {
        .head = delivery->content ? STR_EMPTY : STR("Subject: x\r\n"),
        .body = body,
    };
    struct smtp_client_mail mail = {
        .sender = &sender,
        .recipients = outcomes,
        .recipient_count = count,
        .content = &content,
        .needs_smtputf8 = delivery->utf8,
        .has_8bit = delivery->eight_bit,
        .prefer_chunking = delivery->chunking,
    };
    describe(attempt, smtp_client_send(client, &mail, arena, &err), outcomes, count);
    body_unref(body);
    arena_free(arena);
}

static MAY_YIELD void deliver(void *arg)
{
    struct attempt *attempt = arg;
    struct error err;
    struct mail_reply reply;
    struct scope scope;
    /* a script and a client that wait for each other end the test with a failure */
    scope_open(&scope, clock_deadline(5 * NS_PER_S));
    struct smtp_client *client = smtp_client_new(attempt->stream, attempt->delivery->lmtp);
    smtp_client_ignore(client, attempt->delivery->ignored);
    if (smtp_client_greeting(client, &reply, &err) == OK &&
        smtp_client_hello(client, STR("gw.example"), &reply, &err) == OK)
        send_mail(attempt, client);
    smtp_client_quit(client);
    scope_close(&scope);
}

static void run_delivery(const struct delivery *delivery)
{
    struct test_loop test;
    struct script script = {.steps = delivery->steps};
    struct attempt attempt = {.delivery = delivery};
    test_loop_open(&test, NULL);
    stream_pair(&attempt.stream, &script.stream);
    test_loop_spawn(&test, script_run, &script);
    test_loop_spawn(&test, deliver, &attempt);
    test_loop_run(&test);
    test_loop_close(&test);
    if (script.problem[0])
        fail_msg("%s: %s", delivery->name, script.problem);
    if (!str_equal(str_c(attempt.outcome), str_c(delivery->expected)))
        fail_msg("%s: \"%s\" instead of \"%s\"", delivery->name, attempt.outcome,
                 delivery->expected);
}

#define PIPELINING_MX GREETING, EHLO, "S: 250-mx.example", "S: 250 PIPELINING"
#define CHUNKING_MX   GREETING, EHLO, "S: 250-mx", "S: 250-PIPELINING", "S: 250 CHUNKING"
#define PLAIN_MX      GREETING, EHLO, "S: 250 mx.example"
#define MAIL          "C: MAIL FROM:<a@example.org>"
#define RCPT_B        "C: RCPT TO:<b@example.net>"
#define RCPT_C        "C: RCPT TO:<c@example.net>"
#define BODY          "C: Subject: x", "C: ", "C: body"
#define B                                                                                          \
    {                                                                                              \
        "b@example.net"                                                                            \
    }
#define B_AND_C                                                                                    \
    {                                                                                              \
        "b@example.net", "c@example.net"                                                           \
    }

static const struct delivery deliveries[] = {
    {.name = "one by one",
     .recipients = B_AND_C,
     .steps = {PLAIN_MX, MAIL, "N", "S: 250 ok", RCPT_B, "N", "S: 250 ok", RCPT_C, "N",
               "S: 251 will forward", "C: DATA", "N", "S: 354 go", BODY, "C: .", "N",
               "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+ 250/END+"},
    {.name = "pipelined",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "N", "S: 250 ok", "S: 250 ok",
               "S: 250 ok", "S: 354 go", BODY, "C: .", "N", "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+ 250/END+"},
    {.name = "MAIL refused, pipelined",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 550 5.7.1 no", "S: 503 no MAIL",
               "S: 503 no RCPT", "C: QUIT"},
     .expected = "ok 550/MAIL-"},
    {.name = "MAIL refused",
     .recipients = B,
     .steps = {PLAIN_MX, MAIL, "S: 451 later", "C: QUIT"},
     .expected = "ok 451/MAIL-"},
    {.name = "MAIL refused, yet RCPT and DATA accepted",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 550 no", "S: 250 ok", "S: 354 go", "N",
               "X"},
     .expected = "failed 550/MAIL-"},
    {.name = "one recipient refused",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 5.1.1 no",
               "S: 250 ok", "S: 354 go", BODY, "C: .", "S: 250 taken", "C: QUIT"},
     .expected = "ok 550/RCPT- 250/END+"},
    {.name = "all recipients refused, DATA refused",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 5.1.1 no",
               "S: 450 later", "S: 554 no recipients", "C: QUIT"},
     .expected = "ok 550/RCPT- 450/RCPT-"},
    {.name = "all recipients refused, DATA accepted: a lone dot",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 550 no", "S: 354 go",
               "C: .", "S: 554 no recipients", "C: QUIT"},
     .expected = "ok 550/RCPT-"},
    {.name = "all recipients refused, not pipelined: no DATA",
     .recipients = B,
     .steps = {PLAIN_MX, MAIL, "S: 250 ok", RCPT_B, "S: 550 no", "C: QUIT"},
     .expected = "ok 550/RCPT-"},
    {.name = "DATA refused",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 no",
               "S: 250 ok", "S: 451 later", "C: QUIT"},
     .expected = "ok 550/RCPT- 451/DATA-"},
    {.name = "content refused",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY,
               "C: .", "S: 554 5.7.1 spam", "C: QUIT"},
     .expected = "ok 554/END-"},
    {.name = "421 to MAIL",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 421 busy", "X"},
     .expected = "failed 421/MAIL-"},
    {.name = "421 to the second RCPT",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 no",
               "S: 421 busy", "X"},
     .expected = "failed 550/RCPT- 421/RCPT-"},
    {.name = "421 as the final reply",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY,
               "C: .", "S: 421 busy", "X"},
     .expected = "failed 421/END-"},
    {.name = "closed after the first RCPT reply",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 no", "X"},
     .expected = "failed 550/RCPT- 0/RCPT-"},
    {.name = "closed before the final reply",
     .recipients = B_AND_C,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, RCPT_C, "C: DATA", "S: 250 ok", "S: 550 no",
               "S: 250 ok", "S: 354 go", BODY, "C: .", "X"},
     .expected = "failed 550/RCPT- 0/END-"},
    {.name = "nonsense in place of the final reply",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY,
               "C: .", "S: hello"},
     .expected = "failed 0/END-"},
    {.name = "250 in answer to DATA",
     .recipients = B,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 250 ok"},
     .expected = "failed 0/DATA-"},
    {.name = "LMTP, a reply a recipient",
     .recipients = B_AND_C,
     .lmtp = true,
     .steps = {GREETING, "C: LHLO gw.example", "S: 250-mx", "S: 250 PIPELINING", MAIL, RCPT_B,
               RCPT_C, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY, "C: .",
               "S: 250 taken", "S: 452 4.2.2 full", "C: QUIT"},
     .expected = "ok 250/END+ 452/END-"},
    {.name = "LMTP, closed between the replies",
     .recipients = B_AND_C,
     .lmtp = true,
     .steps = {GREETING, "C: LHLO gw.example", "S: 250-mx", "S: 250 PIPELINING", MAIL, RCPT_B,
               RCPT_C, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY, "C: .",
               "S: 250 taken", "X"},
     .expected = "failed 250/END+ 0/END-"},
    {.name = "HELO after EHLO was refused",
     .recipients = B,
     .steps = {GREETING, EHLO, "S: 502 what", "C: HELO gw.example", "S: 250 mx", MAIL, "S: 250 ok",
               RCPT_B, "S: 250 ok", "C: DATA", "S: 354 go", BODY, "C: .", "S: 250 taken",
               "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "SIZE, BODY and SMTPUTF8 when offered and needed",
     .recipients = {"\303\274@example.net"},
     .utf8 = true,
     .eight_bit = true,
     .steps = {GREETING, EHLO, "S: 250-mx", "S: 250-size 1000", "S: 250-8bitmime",
               "S: 250 SMTPUTF8", "C: MAIL FROM:<a@example.org> SIZE=20 BODY=8BITMIME SMTPUTF8",
               "S: 250 ok", "C: RCPT TO:<\303\274@example.net>", "S: 250 ok", "C: DATA",
               "S: 354 go", BODY, "C: .", "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "SMTPUTF8 not offered: that recipient is refused here",
     .recipients = {"\303\274@example.net", "b@example.net"},
     .utf8 = true,
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY,
               "C: .", "S: 250 taken", "C: QUIT"},
     .expected = "ok 553/RCPT- 250/END+"},
    {.name = "line ends in an address are never sent",
     .recipients = {"b@example.net>\r\nRSET", "b@example.net"},
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go", BODY,
               "C: .", "S: 250 taken", "C: QUIT"},
     .expected = "ok 553/RCPT- 250/END+"},
    {.name = "line ends in the sender: nothing is sent",
     .recipients = B,
     .sender = "a\r\n@example.org",
     .steps = {PIPELINING_MX, "C: QUIT"},
     .expected = "ok 553/MAIL-"},
    {.name = "DSN parameters in xtext",
     .recipients = B,
     .dsn = true,
     .steps = {GREETING, EHLO, "S: 250-mx", "S: 250 DSN",
               "C: MAIL FROM:<a@example.org> RET=HDRS ENVID=id+201+2B2", "S: 250 ok",
               RCPT_B " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By+3Dz@example.org", "S: 250 ok",
               "C: DATA", "S: 354 go", BODY, "C: .", "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "dots are stuffed, the last line is ended",
     .recipients = B,
     .content = ".\r\n..a\r\nb",
     .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "S: 354 go",
               "C: ..", "C: ...a", "C: b", "C: .", "N", "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "BDAT, dots as they are, the last line is ended",
     .recipients = B,
     .chunking = true,
     .content = ".\r\n..a\r\nb",
     .steps = {GREETING, EHLO, "S: 250-mx", "S: 250 CHUNKING", MAIL, "S: 250 ok", RCPT_B, "N",
               "S: 250 ok", "C: BDAT 11 LAST", "C: .", "C: ..a", "C: b", "N", "S: 250 taken",
               "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "offered, and ignored",
     .recipients = B,
     .chunking = true,
     .ignored = SMTP_EXT_CHUNKING | SMTP_EXT_PIPELINING,
     .steps = {CHUNKING_MX, MAIL, "N", "S: 250 ok", RCPT_B, "N", "S: 250 ok", "C: DATA", "N",
               "S: 354 go", BODY, "C: .", "N", "S: 250 taken", "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "BDAT, nobody accepted: nothing is sent",
     .recipients = B,
     .chunking = true,
     .steps = {GREETING, EHLO, "S: 250-mx", "S: 250 CHUNKING", MAIL, "S: 250 ok", RCPT_B,
               "S: 550 no", "C: QUIT"},
     .expected = "ok 550/RCPT-"},
    {.name = "in one piece",
     .recipients = B_AND_C,
     .chunking = true,
     .content = ".\r\n..a\r\nb",
     .steps = {CHUNKING_MX, MAIL, RCPT_B, RCPT_C, "C: BDAT 11 LAST", "C: .", "C: ..a", "C: b", "N",
               "S: 250 ok", "S: 550 no", "S: 250 ok", "S: 250 taken", "C: QUIT"},
     .expected = "ok 550/RCPT- 250/END+"},
    {.name = "in one piece, nobody accepted, the content refused",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "N", "S: 250 ok", "S: 550 no",
               "S: 554 no recipients", "C: QUIT"},
     .expected = "ok 550/RCPT-"},
    {.name = "in one piece, nobody accepted, yet the content taken",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "S: 250 ok", "S: 550 no",
               "S: 250 taken", "X"},
     .expected = "failed 550/RCPT-"},
    {.name = "in one piece, MAIL refused",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "S: 451 later", "S: 503 no MAIL",
               "S: 503 no MAIL", "C: QUIT"},
     .expected = "ok 451/MAIL-"},
    {.name = "in one piece, the content refused",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "S: 250 ok", "S: 250 ok",
               "S: 452 full", "C: QUIT"},
     .expected = "ok 452/END-"},
    {.name = "in one piece, 421 to RCPT",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "S: 250 ok", "S: 421 busy", "X"},
     .expected = "failed 421/RCPT-"},
    {.name = "in one piece, closed before any reply",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "X"},
     .expected = "failed 0/MAIL-"},
    {.name = "in one piece, closed before the final reply",
     .recipients = B,
     .chunking = true,
     .steps = {CHUNKING_MX, MAIL, RCPT_B, "C: BDAT 20 LAST", BODY, "S: 250 ok", "S: 250 ok", "X"},
     .expected = "failed 0/END-"},
    {.name = "LMTP waits for the recipients before BDAT",
     .recipients = B,
     .lmtp = true,
     .chunking = true,
     .steps = {GREETING, "C: LHLO gw.example", "S: 250-mx", "S: 250-PIPELINING", "S: 250 CHUNKING",
               MAIL, RCPT_B, "N", "S: 250 ok", "S: 250 ok", "C: BDAT 20 LAST", BODY, "S: 250 taken",
               "C: QUIT"},
     .expected = "ok 250/END+"},
    {.name = "BDAT refused",
     .recipients = B,
     .chunking = true,
     .steps = {GREETING, EHLO, "S: 250-mx", "S: 250 CHUNKING", MAIL, "S: 250 ok", RCPT_B,
               "S: 250 ok", "C: BDAT 20 LAST", BODY, "S: 452 full", "C: QUIT"},
     .expected = "ok 452/END-"},
    {.name = "no message, nobody to send to",
     .recipients = {NULL},
     .steps = {PIPELINING_MX, "C: QUIT"},
     .expected = "ok"},
};

static void delivers_as_the_script_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof deliveries / sizeof deliveries[0]; i++)
        run_delivery(&deliveries[i]);
}

/* ---- time ---- */

static MAY_YIELD void send_until_deadline(void *arg)
{
    struct attempt *attempt = arg;
    struct scope scope;
    scope_open(&scope, clock_deadline(50 * NS_PER_MS));
    deliver(attempt);
    scope_close(&scope);
}

static void ends_with_the_scopes_deadline(void **state)
{
    (void)state;
    static const struct delivery delivery = {
        .recipients = B,
        .steps = {PIPELINING_MX, MAIL, RCPT_B, "C: DATA", "S: 250 ok", "S: 250 ok", "C: never"},
    };
    struct test_loop test;
    struct script script = {.steps = delivery.steps};
    struct attempt attempt = {.delivery = &delivery};
    test_loop_open(&test, NULL);
    stream_pair(&attempt.stream, &script.stream);
    test_loop_spawn(&test, script_run, &script);
    test_loop_spawn(&test, send_until_deadline, &attempt);
    test_loop_run(&test);
    test_loop_close(&test);
    assert_string_equal(attempt.outcome, "failed 0/DATA-");
}

/* ---- several transactions on one connection ---- */

struct conversation {
    struct stream *stream;
    char outcome[512];
    void (*run)(struct conversation *conversation, struct smtp_client *client);
};

static MAY_YIELD void converse(void *arg) NO_YIELD_CHECK
{
    struct conversation *conversation = arg;
    struct error err;
    struct mail_reply reply;
    struct scope scope;
    scope_open(&scope, clock_deadline(5 * NS_PER_S));
    struct smtp_client *client = smtp_client_new(conversation->stream, false);
    if (smtp_client_greeting(client, &reply, &err) == OK &&
        smtp_client_hello(client, STR("gw.example"), &reply, &err) == OK)
        conversation->run(conversation, client);
    smtp_client_quit(client);
    scope_close(&scope);
}

static void run_conversation(const char *name, const char *const *steps,
                             void (*run)(struct conversation *conversation,
                                         struct smtp_client *client),
                             const char *expected)
{
    struct test_loop test;
    struct script script = {.steps = steps};
    struct conversation conversation = {.run = run};
    test_loop_open(&test, NULL);
    stream_pair(&conversation.stream, &script.stream);
    test_loop_spawn(&test, script_run, &script);
    test_loop_spawn(&test, converse, &conversation);
    test_loop_run(&test);
    test_loop_close(&test);
    if (script.problem[0])
        fail_msg("%s: %s", name, script.problem);
    if (!str_equal(str_c(conversation.outcome), str_c(expected)))
        fail_msg("%s: \"%s\" instead of \"%s\"", name, conversation.outcome, expected);
}

static MAY_YIELD void send_twice(struct conversation *conversation, struct smtp_client *client)
{
    static const struct delivery mail = {.recipients = B};
    struct attempt attempt = {.delivery = &mail};
    size_t used = 0;
    for (int i = 0; i < 2; i++) {
        send_mail(&attempt, client);
        used += (size_t)snprintf(conversation->outcome + used, sizeof conversation->outcome - used,
                                 "%s;", attempt.outcome);
    }
}

static void leaves_no_transaction_behind(void **state)
{
    (void)state;
    static const char *const after_success[] = {
        PIPELINING_MX, MAIL,        RCPT_B,       "C: DATA", "S: 250 ok",  "S: 250 ok", "S: 354 go",
        BODY,          "C: .",      "S: 250 one", MAIL,      RCPT_B,       "C: DATA",   "S: 250 ok",
        "S: 250 ok",   "S: 354 go", BODY,         "C: .",    "S: 250 two", "C: QUIT",   NULL};
    static const char *const after_refusal[] = {
        PIPELINING_MX, MAIL, RCPT_B, "C: DATA",    "S: 250 ok",    "S: 550 no", "S: 554 no",
        "C: RSET",     MAIL, RCPT_B, "C: DATA",    "S: 250 reset", "S: 250 ok", "S: 250 ok",
        "S: 354 go",   BODY, "C: .", "S: 250 two", "C: QUIT",      NULL};
    static const char *const one_by_one[] = {
        PLAIN_MX,       MAIL,   "S: 250 ok",  RCPT_B,    "S: 550 no", "C: RSET", "N",
        "S: 250 reset", MAIL,   "S: 250 ok",  RCPT_B,    "S: 250 ok", "C: DATA", "S: 354 go",
        BODY,           "C: .", "S: 250 two", "C: QUIT", NULL};
    run_conversation("after success", after_success, send_twice, "ok 250/END+;ok 250/END+;");
    run_conversation("after refusal", after_refusal, send_twice, "ok 550/RCPT-;ok 250/END+;");
    run_conversation("one by one", one_by_one, send_twice, "ok 550/RCPT-;ok 250/END+;");
}

/* ---- AUTH ---- */

static MAY_YIELD void authenticate(struct conversation *conversation, struct smtp_client *client)
{
    struct mail_reply reply;
    struct error err;
    if (smtp_client_auth(client, STR("user"), STR("secret"), &reply, &err) == OK)
        snprintf(conversation->outcome, sizeof conversation->outcome, "%u", reply.code);
    else
        snprintf(conversation->outcome, sizeof conversation->outcome, "failed");
}

static void authenticates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *steps[20];
        const char *expected;
    } cases[] = {
        {"PLAIN",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH LOGIN PLAIN", "C: AUTH PLAIN AHVzZXIAc2VjcmV0",
          "S: 235 ok", "C: QUIT"},
         "235"},
        {"as written before RFC 2554",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH=PLAIN", "C: AUTH PLAIN AHVzZXIAc2VjcmV0",
          "S: 535 no", "C: QUIT"},
         "535"},
        {"LOGIN",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH CRAM-MD5 LOGIN", "C: AUTH LOGIN",
          "S: 334 VXNlcm5hbWU6", "C: dXNlcg==", "S: 334 UGFzc3dvcmQ6", "C: c2VjcmV0", "S: 235 ok",
          "C: QUIT"},
         "235"},
        {"LOGIN ends early",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH LOGIN", "C: AUTH LOGIN", "S: 334 VXNlcm5hbWU6",
          "C: dXNlcg==", "S: 535 no such user", "C: QUIT"},
         "535"},
        {"a challenge too many is cancelled",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH PLAIN", "C: AUTH PLAIN AHVzZXIAc2VjcmV0",
          "S: 334 ", "C: *", "S: 501 cancelled", "C: QUIT"},
         "501"},
        {"no common mechanism",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH CRAM-MD5 SCRAM-SHA-256", "C: QUIT"},
         "0"},
        {"no AUTH at all", {PLAIN_MX, "C: QUIT"}, "0"},
        {"closed in the middle",
         {GREETING, EHLO, "S: 250-mx", "S: 250 AUTH LOGIN", "C: AUTH LOGIN", "X"},
         "failed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_conversation(cases[i].name, cases[i].steps, authenticate, cases[i].expected);
}

/* ---- STARTTLS ---- */

static MAY_YIELD void start_tls(struct conversation *conversation, struct smtp_client *client)
{
    struct tls_client_settings settings = {.min_version = 12};
    struct tls_context *context;
    struct mail_reply reply;
    struct error err;
    check(tls_client_new(&settings, &context, &err) == OK);
    enum result result = smtp_client_starttls(client, context, STR("mx.example"), &reply, &err);
    snprintf(conversation->outcome, sizeof conversation->outcome, "%s",
             result == OK ? "answered" : error_kind_name(err.kind));
    if (result != OK && smtp_client_hello(client, STR("us.test"), &reply, &err) == OK)
        conversation->outcome[0] = '!'; /* a broken client answers nothing */
    tls_context_unref(context);
}

static void trusts_nothing_behind_starttls(void **state)
{
    (void)state;
    static const char *const injected[] = {
        GREETING, EHLO, "S: 250-mx", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go\r\n250 AUTH",
        "N",      "X",  NULL};
    static const char *const refused[] = {GREETING,          EHLO,          "S: 250-mx",
                                          "S: 250 STARTTLS", "C: STARTTLS", "S: 454 not now",
                                          "C: QUIT",         NULL};
    static const char *const no_tls_after_all[] = {
        GREETING, EHLO, "S: 250-mx", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "X", NULL};
    run_conversation("injected bytes", injected, start_tls, "protocol");
    run_conversation("refused", refused, start_tls, "answered");
    run_conversation("closed", no_tls_after_all, start_tls, "temporary");
}

/* ---- probes ---- */

static MAY_YIELD void probe_twice(struct conversation *conversation, struct smtp_client *client)
{
    struct mail_reply mail, rcpt;
    struct error err;
    size_t used = 0;
    for (int i = 0; i < 2; i++) {
        char *at = conversation->outcome + used;
        size_t room = sizeof conversation->outcome - used;
        if (smtp_client_probe(client, STR_EMPTY, STR("b@example.net"), false, &mail, &rcpt, &err) ==
            OK)
            used += (size_t)snprintf(at, room, "%u %.*s/%u %.*s;", mail.code, STR_ARG(mail.text),
                                     rcpt.code, STR_ARG(rcpt.text));
        else
            used += (size_t)snprintf(at, room, "failed;");
    }
}

static void probes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *steps[30];
        const char *expected;
    } cases[] = {
        {"pipelined",
         {PIPELINING_MX, "C: MAIL FROM:<>", RCPT_B, "C: RSET", "N", "S: 250 m", "S: 550 5.1.1 r",
          "S: 250 reset", "C: MAIL FROM:<>", RCPT_B, "C: RSET", "S: 250 m", "S: 250 r",
          "S: 250 reset", "C: QUIT"},
         "250 m/550 r;250 m/250 r;"},
        {"one by one",
         {PLAIN_MX, "C: MAIL FROM:<>", "N", "S: 250 m", RCPT_B, "N", "S: 250 r", "C: RSET",
          "S: 250 reset", "C: MAIL FROM:<>", "S: 550 m", "C: QUIT"},
         "250 m/250 r;550 m/0 ;"},
        {"MAIL refused",
         {PIPELINING_MX, "C: MAIL FROM:<>", RCPT_B, "C: RSET", "S: 550 m", "S: 503 r",
          "S: 250 reset", "C: MAIL FROM:<>", RCPT_B, "C: RSET", "S: 250 m", "S: 250 r",
          "S: 250 reset", "C: QUIT"},
         "550 m/0 ;250 m/250 r;"},
        {"421",
         {PIPELINING_MX, "C: MAIL FROM:<>", RCPT_B, "C: RSET", "S: 250 m", "S: 421 r", "X"},
         "failed;failed;"},
        {"closed behind the answer",
         {PIPELINING_MX, "C: MAIL FROM:<>", RCPT_B, "C: RSET", "S: 250 m", "S: 550 r", "X"},
         "250 m/550 r;failed;"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        run_conversation(cases[i].name, cases[i].steps, probe_twice, cases[i].expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_as_the_script_says),
        cmocka_unit_test(ends_with_the_scopes_deadline),
        cmocka_unit_test(leaves_no_transaction_behind),
        cmocka_unit_test(authenticates),
        cmocka_unit_test(trusts_nothing_behind_starttls),
        cmocka_unit_test(probes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
