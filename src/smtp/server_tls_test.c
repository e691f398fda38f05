/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_tls_test.c - STARTTLS and implicit TLS: what is offered when, and that nothing said
 * in clear survives the handshake.
 */
#include "net/net_test.h"
#include "net/tls.h"
#include "smtp/server_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct tls_context *server_context;
static struct tls_context *client_context;

static int make_contexts(void **state)
{
    (void)state;
    struct test_certificate files;
    struct error err;
    make_certificate("mx", "DNS:mx.example.org", TEST_KEY_EC, 30, &files);
    struct tls_certificate_files certificate = {STR("main"), str_c(files.cert_path),
                                                str_c(files.key_path)};
    struct tls_server_settings server = {&certificate, 1, 12, STR_EMPTY};
    struct tls_client_settings client = {.min_version = 12};
    if (tls_server_new(&server, &server_context, &err) == FAILED ||
        tls_client_new(&client, &client_context, &err) == FAILED) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int drop_contexts(void **state)
{
    (void)state;
    tls_context_unref(server_context);
    tls_context_unref(client_context);
    return 0;
}

/* ---- a client ---- */

struct session {
    struct rig rig;
    void (*talk)(struct session *session);
    bool closed;
    char problem[512];
};

static MAY_YIELD void say(struct session *session, const char *text)
{
    struct error err;
    (void)!stream_write(session->rig.client, str_c(text), &err);
    (void)!stream_flush(session->rig.client, &err);
}

/* One whole reply, its lines joined by '|'; "" at the end of the connection. */
static MAY_YIELD void read_reply(struct session *session, char *out, size_t size)
{
    size_t len = 0;
    struct error err;
    bool end = false;
    out[0] = 0;
    for (;;) {
        struct str input = stream_buffered(session->rig.client);
        ptrdiff_t lf = str_find(input, '\n');
        if (lf < 0) {
            if (end || stream_fill(session->rig.client, 65536, &end, &err) == FAILED) {
                session->closed = true;
                return;
            }
            continue;
        }
        bool more = lf > 4 && input.ptr[3] == '-';
        len += (size_t)snprintf(out + len, size - len, "%.*s%s", (int)lf - 1, input.ptr,
                                more ? "|" : "");
        stream_consume(session->rig.client, (size_t)lf + 1);
        if (!more || len >= size)
            return;
    }
}

static MAY_YIELD void expect(struct session *session, const char *start)
{
    char reply[1024];
    read_reply(session, reply, sizeof reply);
    if (!session->problem[0] && strncmp(reply, start, strlen(start)) != 0)
        snprintf(session->problem, sizeof session->problem, "got \"%.200s\", expected \"%s\"",
                 reply, start);
}

static MAY_YIELD void expect_with(struct session *session, const char *part, bool wanted)
{
    char reply[1024];
    read_reply(session, reply, sizeof reply);
    if (!session->problem[0] && (strstr(reply, part) != NULL) != wanted)
        snprintf(session->problem, sizeof session->problem, "\"%s\" %s in \"%.300s\"", part,
                 wanted ? "is not" : "is", reply);
}

static MAY_YIELD void expect_end(struct session *session)
{
    char reply[1024];
    read_reply(session, reply, sizeof reply);
    if (!session->problem[0] && !session->closed)
        snprintf(session->problem, sizeof session->problem, "got \"%.200s\", expected the end",
                 reply);
}

static MAY_YIELD void shake_hands(struct session *session)
{
    struct error err;
    if (stream_tls_connect(session->rig.client, client_context, STR("mx.example.org"), &err) ==
            FAILED &&
        !session->problem[0])
        snprintf(session->problem, sizeof session->problem, "handshake: %.200s", err.text);
}

static MAY_YIELD void serve(void *arg)
{
    struct session *session = arg;
    rig_serve(&session->rig);
}

static MAY_YIELD void talk(void *arg)
{
    struct session *session = arg;
    session->talk(session);
    stream_close(session->rig.client);
    session->rig.client = NULL;
}

static void run(struct session *session, enum smtp_tls_mode mode,
                void (*script)(struct session *session))
{
    memset(session, 0, sizeof *session);
    rig_init(&session->rig);
    session->rig.settings.tls = mode;
    session->rig.settings.tls_context = server_context;
    session->rig.settings.allow_cleartext_auth = false;
    session->talk = script;
    test_loop_open();
    run_fibers(talk, serve, session);
    test_loop_close();
    rig_done(&session->rig);
    if (session->problem[0])
        fail_msg("%s", session->problem);
}

/* ---- sessions ---- */

static MAY_YIELD void starttls(struct session *session)
{
    expect(session, "220 ");
    say(session, "EHLO one.example\r\n");
    expect_with(session, "250-STARTTLS", true);
    say(session, "EHLO one.example\r\n");
    expect_with(session, "AUTH", false);
    say(session, "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n");
    expect(session, "530 5.7.0 Must issue a STARTTLS command first");
    say(session, "MAIL FROM:<a@b.example>\r\n");
    expect(session, "250 ");
    say(session, "STARTTLS x\r\n");
    expect(session, "501 5.5.4 ");
    say(session, "STARTTLS\r\n");
    expect(session, "220 2.0.0 ");
    shake_hands(session);
    /* name and transaction are gone */
    say(session, "RCPT TO:<b@example.org>\r\n");
    expect(session, "503 5.5.1 Send EHLO first");
    say(session, "MAIL FROM:<a@b.example>\r\n");
    expect(session, "503 5.5.1 Send EHLO first");
    say(session, "EHLO two.example\r\n");
    expect_with(session, "STARTTLS", false);
    say(session, "EHLO two.example\r\n");
    expect_with(session, "250-AUTH PLAIN LOGIN", true);
    say(session, "RCPT TO:<b@example.org>\r\n");
    expect(session, "503 5.5.1 Need MAIL first");
    say(session, "STARTTLS\r\n");
    expect(session, "503 5.5.1 ");
    say(session, "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n");
    expect(session, "235 ");
    say(session, "MAIL FROM:<a@b.example>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n");
    expect(session, "250 ");
    expect(session, "250 ");
    expect(session, "354 ");
    say(session, "x\r\n.\r\nQUIT\r\n");
    expect(session, "250 ");
    expect(session, "221 ");
    expect_end(session);
}

static void starttls_makes_a_new_session(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_OFFERED, starttls);
    assert_int_equal(session.rig.messages, 1);
    assert_int_equal(session.rig.asked, 1);
}

/* A command in the segment of STARTTLS is not obeyed, before or after the handshake. */
static MAY_YIELD void inject(struct session *session)
{
    expect(session, "220 ");
    say(session, "EHLO x\r\n");
    expect(session, "250");
    say(session, "STARTTLS\r\nMAIL FROM:<a@b.example>\r\n");
    expect(session, "554 5.5.1 ");
    stream_close(session->rig.client);
    session->rig.client = NULL;
}

static MAY_YIELD void talk_and_leave(struct session *session)
{
    inject(session);
    struct stream *other;
    stream_pair(&session->rig.client, &other); /* for the closing that follows */
    stream_close(other);
}

static void injection_closes(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_OFFERED, talk_and_leave);
    assert_true(session.rig.done);
}

static MAY_YIELD void required(struct session *session)
{
    expect(session, "220 ");
    say(session, "EHLO x\r\n");
    expect(session, "250");
    say(session, "MAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n");
    expect(session, "530 5.7.0 Must issue a STARTTLS command first");
    expect(session, "530 5.7.0 ");
    expect(session, "250 ");
    say(session, "STARTTLS\r\n");
    expect(session, "220 ");
    shake_hands(session);
    say(session, "EHLO x\r\n");
    expect(session, "250");
    say(session, "MAIL FROM:<>\r\n");
    expect(session, "250");
}

static void required_means_required(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_REQUIRED, required);
}

static MAY_YIELD void implicit(struct session *session)
{
    shake_hands(session);
    expect(session, "220 ");
    say(session, "EHLO x\r\n");
    expect_with(session, "STARTTLS", false);
    say(session, "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n");
    expect(session, "235 ");
    say(session, "STARTTLS\r\n");
    expect(session, "503 5.5.1 ");
}

static void implicit_tls(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_IMPLICIT, implicit);
}

static MAY_YIELD void not_tls(struct session *session)
{
    say(session, "EHLO x\r\n");
    expect_end(session);
}

static void a_failed_handshake_ends_it(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_IMPLICIT, not_tls);
    assert_int_equal(session.rig.connections, 0);
}

/* The handshake of an implicit-TLS client comes in one segment with the PROXY header. */
static MAY_YIELD void behind_proxy(struct session *session)
{
    struct error err;
    (void)!stream_write(session->rig.client, STR("PROXY TCP4 192.0.2.7 192.0.2.1 4711 465\r\n"),
                        &err);
    implicit(session); /* the handshake flushes what was written before it */
}

static MAY_YIELD void behind_proxy_2(struct session *session)
{
    struct error err;
    (void)!stream_write(session->rig.client,
                        STR("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\xc0\0\2\1\x12\x67\1\xd1"),
                        &err);
    implicit(session);
}

static void run_behind_proxy(void (*script)(struct session *session))
{
    static const struct net_network everybody = {.ip = {.family = 4}};
    static struct session session;
    memset(&session, 0, sizeof session);
    rig_init(&session.rig);
    session.rig.settings.tls = SMTP_TLS_IMPLICIT;
    session.rig.settings.tls_context = server_context;
    session.rig.settings.proxy_from = &everybody;
    session.rig.settings.proxy_from_count = 1;
    session.talk = script;
    test_loop_open();
    run_fibers(talk, serve, &session);
    test_loop_close();
    rig_done(&session.rig);
    if (session.problem[0])
        fail_msg("%s", session.problem);
}

static void implicit_tls_behind_a_proxy(void **state)
{
    (void)state;
    run_behind_proxy(behind_proxy);
    run_behind_proxy(behind_proxy_2);
}

/* close_notify inside of a chunk, then bytes in clear: the connection is dead (CVE-2026-45185). */
static MAY_YIELD void die_in_a_chunk(struct session *session)
{
    expect(session, "220 ");
    say(session, "EHLO x\r\n");
    expect(session, "250");
    say(session, "STARTTLS\r\n");
    expect(session, "220 ");
    shake_hands(session);
    say(session, "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<b@example.org>\r\n");
    expect(session, "250");
    expect(session, "250");
    expect(session, "250");
    say(session, "BDAT 10 LAST\r\n12345");
}

static void an_end_inside_of_a_chunk(void **state)
{
    (void)state;
    static struct session session;
    run(&session, SMTP_TLS_OFFERED, die_in_a_chunk);
    assert_true(session.rig.done);
    assert_int_equal(session.rig.messages, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starttls_makes_a_new_session),
        cmocka_unit_test(injection_closes),
        cmocka_unit_test(required_means_required),
        cmocka_unit_test(implicit_tls),
        cmocka_unit_test(a_failed_handshake_ends_it),
        cmocka_unit_test(implicit_tls_behind_a_proxy),
        cmocka_unit_test(an_end_inside_of_a_chunk),
    };
    return cmocka_run_group_tests(tests, make_contexts, drop_contexts);
}
