/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Both sides of this module with each other: what the client sends is what the server receives.
 */
#include "base/test.h"

#include "fiber/test.h"
#include "smtp/client.h"
#include "smtp/server_rig.h"

#include <stdio.h>

enum { MANY = 150 };

struct exchange {
    struct rig rig;
    const char *name;
    struct str content;
    size_t recipients; /* every third is unknown@ */
    bool chunking;
    unsigned repeat;
    /* what came of it */
    enum result result;
    size_t accepted, refused, other;
    unsigned auth_code;
    struct error error;
};

static MAY_YIELD void send_once(struct exchange *exchange, struct smtp_client *client,
                                struct arena *arena)
{
    struct mail_recipient *recipients =
        arena_alloc_array(arena, exchange->recipients, sizeof *recipients);
    struct smtp_client_recipient *outcomes =
        arena_alloc_array(arena, exchange->recipients, sizeof *outcomes);
    for (size_t i = 0; i < exchange->recipients; i++) {
        const char *name = i % 3 == 2 ? "unknown" : "user";
        recipients[i].address = arena_printf(arena, "%s@example.org", name);
        recipients[i].orcpt = STR("rfc822;a+b=c@example.org");
        recipients[i].notify = MAIL_NOTIFY_FAILURE | MAIL_NOTIFY_DELAY;
        outcomes[i].recipient = &recipients[i];
    }
    struct mail_sender sender = {
        .address = STR("a@example.org"), .ret = MAIL_RET_FULL, .envid = STR("x+1=2")};
    struct body *body = body_memory_new(16 << 20);
    struct error *err = &exchange->error;
    check(body_append(body, exchange->content, err) == OK && body_seal(body, err) == OK);
    struct mail_content content = {.head = STR("Subject: both\r\n"), .body = body};
    struct smtp_client_mail mail = {
        .sender = &sender,
        .recipients = outcomes,
        .recipient_count = exchange->recipients,
        .content = &content,
        .prefer_chunking = exchange->chunking,
    };
    exchange->result = smtp_client_send(client, &mail, arena, err);
    for (size_t i = 0; i < exchange->recipients; i++) {
        exchange->accepted += outcomes[i].accepted;
        exchange->refused += outcomes[i].reply.code == 550;
        exchange->other += !outcomes[i].accepted && outcomes[i].reply.code != 550;
    }
    body_unref(body);
}

static MAY_YIELD void run_client(void *arg)
{
    struct exchange *exchange = arg;
    struct arena *arena = arena_new(1 << 22);
    struct mail_reply reply;
    struct smtp_client *client = smtp_client_new(exchange->rig.client, false);
    exchange->rig.client = NULL;
    exchange->result = FAILED;
    if (smtp_client_greeting(client, &reply, &exchange->error) == OK &&
        smtp_client_hello(client, STR("gw.example"), &reply, &exchange->error) == OK &&
        smtp_client_auth(client, STR("alice"), STR("secret"), &reply, &exchange->error) == OK) {
        exchange->auth_code = reply.code;
        for (unsigned i = 0; i < exchange->repeat; i++)
            send_once(exchange, client, arena);
    }
    smtp_client_quit(client);
    arena_free(arena);
}

static void run_exchange(struct exchange *exchange)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    rig_init(&exchange->rig);
    test_loop_spawn(&test, rig_serve, &exchange->rig);
    test_loop_spawn(&test, run_client, exchange);
    test_loop_run(&test);
    test_loop_close(&test);
    if (exchange->result != OK)
        fail_msg("%s: %s", exchange->name, exchange->error.text);
    assert_int_equal(exchange->auth_code, 235);
    assert_int_equal(exchange->other, 0);
}

static void check_message(const struct exchange *exchange)
{
    static const char head[] = "Subject: both\r\n";
    struct str got = buf_str(&exchange->rig.message);
    assert_true(str_starts(got, STR("Subject: both\r\n")));
    struct str body = str_from(got, sizeof head - 1);
    if (!str_equal(body, exchange->content))
        fail_msg("%s: %zu bytes came of %zu", exchange->name, body.len, exchange->content.len);
}

static void carries_messages_unchanged(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *content;
    } cases[] = {
        {"plain", "\r\nbody\r\n"},
        {"no body", "\r\n"},
        {"dots", "\r\n.\r\n..\r\n...\r\n. x\r\n.x\r\n"},
        {"dot at the end", "\r\nx\r\n.\r\n"},
        {"commands in the body", "\r\n.\r\nQUIT\r\n.\r\nMAIL FROM:<>\r\n"},
        {"empty lines", "\r\n\r\n\r\n\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int chunking = 0; chunking < 2; chunking++) {
            struct exchange exchange = {
                .name = cases[i].name,
                .content = str_c(cases[i].content),
                .recipients = 1,
                .chunking = chunking,
                .repeat = 3,
            };
            run_exchange(&exchange);
            assert_int_equal(exchange.accepted, 3);
            assert_int_equal(exchange.rig.messages, 3);
            check_message(&exchange);
            rig_done(&exchange.rig);
        }
    }
}

static void carries_large_messages(void **state)
{
    (void)state;
    struct buf content;
    buf_init(&content, 4 << 20);
    buf_append(&content, STR("\r\n"));
    for (unsigned i = 0; content.len < 1000 * 1000; i++)
        buf_printf(&content, "%s%*u\r\n", i % 7 ? "" : "..", (int)(i % 90), i);
    for (int chunking = 0; chunking < 2; chunking++) {
        struct exchange exchange = {
            .name = chunking ? "BDAT" : "DATA",
            .content = buf_str(&content),
            .recipients = 1,
            .chunking = chunking,
            .repeat = 1,
        };
        run_exchange(&exchange);
        check_message(&exchange);
        rig_done(&exchange.rig);
    }
    buf_done(&content);
}

static void sends_to_many(void **state)
{
    (void)state;
    struct exchange exchange = {
        .name = "many",
        .content = STR("\r\nbody\r\n"),
        .recipients = MANY,
        .repeat = 1,
    };
    run_exchange(&exchange);
    assert_int_equal(exchange.accepted + exchange.refused, MANY);
    assert_int_equal(exchange.refused, MANY / 3);
    rig_done(&exchange.rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(carries_messages_unchanged),
        cmocka_unit_test(carries_large_messages),
        cmocka_unit_test(sends_to_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
