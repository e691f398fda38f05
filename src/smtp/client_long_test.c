/* SPDX-License-Identifier: Apache-2.0 */
/* What does not fit into one write: long messages, long envelopes. */
#include "smtp/script_test.h"

#include "base/buf.h"

#include "fiber/test.h"
#include "smtp/client.h"

/* ---- a message of many slices ---- */

enum { LARGE = 300 * 1000 };

struct large {
    struct stream *server_side;
    struct stream *client_side;
    struct buf content;
    struct buf received; /* dots taken off again */
    bool refuse_early;
    enum result result;
    struct smtp_client_recipient recipient;
    struct error error;
};

/* Lines of all lengths, some with dots in front, none longer than 200. */
static void make_content(struct buf *content)
{
    unsigned seed = 1;
    while (content->len < LARGE) {
        seed = seed * 1103515245 + 12345;
        size_t length = (seed >> 16) % 200;
        for (size_t i = 0; i < length; i++)
            buf_append_byte(content, (seed >> 8) % 3 == 0 && i < 2 ? '.' : 'x');
        buf_append(content, STR("\r\n"));
    }
}

static MAY_YIELD void say(struct stream *stream, struct str text)
{
    struct error err;
    (void)!stream_write(stream, text, &err);
    (void)!stream_flush(stream, &err);
}

static MAY_YIELD void take_large(void *arg)
{
    struct large *large = arg;
    struct stream *stream = large->server_side;
    char space[2048];
    struct str line;
    say(stream, STR("220 mx\r\n"));
    for (int i = 0; i < 3 && script_read_line(stream, space, &line); i++)
        say(stream, STR("250 mx\r\n")); /* EHLO, MAIL, RCPT */
    (void)script_read_line(stream, space, &line);
    say(stream, STR("354 go\r\n"));
    while (script_read_line(stream, space, &line) && !str_equal(line, STR("."))) {
        buf_append(&large->received, str_from(line, line.len && line.ptr[0] == '.'));
        buf_append(&large->received, STR("\r\n"));
        if (large->refuse_early) {
            say(stream, STR("552 5.3.4 too much\r\n"));
            large->refuse_early = false;
        }
    }
    say(stream, STR("250 taken\r\n"));
    stream_close(stream);
}

static MAY_YIELD void send_large(void *arg)
{
    struct large *large = arg;
    struct mail_reply reply;
    struct arena *arena = arena_new(1 << 20);
    struct mail_recipient recipient = {.address = STR("b@example.net")};
    struct mail_sender sender = {.address = STR("a@example.org")};
    struct body *body = body_memory_new(1 << 20);
    struct mail_content content = {.head = STR_EMPTY, .body = body};
    struct smtp_client_mail mail = {.sender = &sender,
                                    .recipients = &large->recipient,
                                    .recipient_count = 1,
                                    .content = &content};
    struct error *err = &large->error;
    check(body_append(body, buf_str(&large->content), err) == OK && body_seal(body, err) == OK);
    large->recipient.recipient = &recipient;
    struct smtp_client *client = smtp_client_new(large->client_side, false);
    large->result = FAILED;
    if (smtp_client_greeting(client, &reply, err) == OK &&
        smtp_client_hello(client, STR("gw.example"), &reply, err) == OK)
        large->result = smtp_client_send(client, &mail, arena, err);
    smtp_client_abort(client);
    large->recipient.reply.text = STR_EMPTY;
    body_unref(body);
    arena_free(arena);
}

static void run_large(struct large *large)
{
    struct test_loop test;
    buf_init(&large->content, 1 << 20);
    buf_init(&large->received, 1 << 20);
    make_content(&large->content);
    test_loop_open(&test, NULL);
    stream_pair(&large->client_side, &large->server_side);
    test_loop_spawn(&test, take_large, large);
    test_loop_spawn(&test, send_large, large);
    test_loop_run(&test);
    test_loop_close(&test);
}

static void sends_large_messages_whole(void **state)
{
    (void)state;
    struct large large = {0};
    run_large(&large);
    assert_int_equal(large.result, OK);
    assert_true(large.recipient.accepted);
    assert_int_equal(large.received.len, large.content.len);
    assert_true(str_equal(buf_str(&large.received), buf_str(&large.content)));
    buf_done(&large.content);
    buf_done(&large.received);
}

static void takes_a_refusal_in_the_middle(void **state)
{
    (void)state;
    struct large large = {.refuse_early = true};
    run_large(&large);
    assert_int_equal(large.result, FAILED); /* the connection is of no more use */
    assert_int_equal(large.recipient.reply.code, 552);
    assert_int_equal(large.recipient.stage, SMTP_STAGE_DATA);
    assert_false(large.recipient.accepted);
    assert_true(large.received.len < large.content.len);
    buf_done(&large.content);
    buf_done(&large.received);
}

/* ---- an envelope that is longer than what is sent at once ---- */

enum { MANY = 64, ORCPT = 500 };

struct many {
    struct stream *server_side;
    struct stream *client_side;
    struct smtp_client_recipient outcomes[MANY];
    enum result result;
    struct error error;
};

/* Answers each command as it comes, long before the chunk behind them has ended. */
static MAY_YIELD void take_many(void *arg)
{
    struct many *many = arg;
    struct stream *stream = many->server_side;
    char space[2048];
    struct str line;
    say(stream, STR("220 mx\r\n"));
    (void)script_read_line(stream, space, &line);
    say(stream, STR("250-mx\r\n250-PIPELINING\r\n250-DSN\r\n250 CHUNKING\r\n"));
    while (script_read_line(stream, space, &line) && !str_starts(line, STR("BDAT")))
        say(stream, STR("250 ok\r\n"));
    while (script_read_line(stream, space, &line) && !str_equal(line, STR("end")))
        continue;
    say(stream, STR("250 taken\r\n"));
    stream_close(stream);
}

static MAY_YIELD void send_many(void *arg)
{
    struct many *many = arg;
    struct mail_reply reply;
    struct arena *arena = arena_new(1 << 20);
    char *orcpt = arena_alloc(arena, ORCPT);
    memset(orcpt, '+', ORCPT); /* each costs three bytes */
    memcpy(orcpt, "rfc822;", 7);
    struct mail_recipient recipient = {.address = STR("b@example.net"),
                                       .orcpt = str_of(orcpt, ORCPT)};
    struct mail_sender sender = {.address = STR("a@example.org")};
    struct body *body = body_memory_new(1 << 20);
    struct error *err = &many->error;
    check(body_append(body, STR("\r\nend\r\n"), err) == OK && body_seal(body, err) == OK);
    struct mail_content content = {.head = STR("Subject: x\r\n"), .body = body};
    for (size_t i = 0; i < MANY; i++)
        many->outcomes[i].recipient = &recipient;
    struct smtp_client_mail mail = {.sender = &sender,
                                    .recipients = many->outcomes,
                                    .recipient_count = MANY,
                                    .content = &content,
                                    .prefer_chunking = true};
    struct smtp_client *client = smtp_client_new(many->client_side, false);
    many->result = FAILED;
    if (smtp_client_greeting(client, &reply, err) == OK &&
        smtp_client_hello(client, STR("gw.example"), &reply, err) == OK)
        many->result = smtp_client_send(client, &mail, arena, err);
    smtp_client_abort(client);
    body_unref(body);
    arena_free(arena);
}

static void takes_answers_to_a_long_envelope(void **state)
{
    (void)state;
    struct test_loop test;
    struct many many = {0};
    test_loop_open(&test, NULL);
    stream_pair(&many.client_side, &many.server_side);
    test_loop_spawn(&test, take_many, &many);
    test_loop_spawn(&test, send_many, &many);
    test_loop_run(&test);
    test_loop_close(&test);
    if (many.result != OK)
        fail_msg("%s", many.error.text);
    for (size_t i = 0; i < MANY; i++)
        assert_true(many.outcomes[i].accepted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sends_large_messages_whole),
        cmocka_unit_test(takes_a_refusal_in_the_middle),
        cmocka_unit_test(takes_answers_to_a_long_envelope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
