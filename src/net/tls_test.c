/* SPDX-License-Identifier: Apache-2.0 */
/* TLS in both directions: our client against our server, over memory and sockets. */
#include "net/tls.h"

#include "base/check.h"
#include "base/memory.h"
#include "net/net_test.h"
#include "net/stream.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

struct ends {
    struct stream *client, *server;
    int client_fd; /* a second descriptor of the client's socket, or -1 */
    struct tls_context *client_context, *server_context;
    const char *name; /* what the client connects to */
};

static struct test_certificate main_files, wild_files, expired_files, other_files;

static int make_certificates(void **state)
{
    (void)state;
    make_certificate("main", "DNS:mail.test,DNS:imap.test,IP:127.0.0.1", TEST_KEY_EC, 30,
                     &main_files);
    make_certificate("wild", "DNS:*.wild.test,DNS:part*.test", TEST_KEY_EC, 40, &wild_files);
    make_certificate("expired", "DNS:mail.test", TEST_KEY_EC, -3, &expired_files);
    make_certificate("other", "DNS:other.test", TEST_KEY_EC, 30, &other_files);
    return 0;
}

/* `over_memory`: else over sockets. */
static void run_ends(bool over_memory, struct ends *ends, void (*client)(void *),
                     void (*server)(void *))
{
    test_loop_open();
    ends->client_fd = -1;
    if (over_memory) {
        stream_pair(&ends->client, &ends->server);
    } else {
        int fds[2], on = 1;
        struct error err;
        open_socket_pair(fds);
        check(ioctl(fds[1], FIONBIO, &on) == 0);
        ends->client_fd = dup(fds[1]);
        check(stream_open_fd(fds[0], &ends->server, &err) == OK);
        check(stream_open_fd(fds[1], &ends->client, &err) == OK);
    }
    run_fibers(client, server, ends);
    stream_close(take(ends->client));
    stream_close(take(ends->server));
    if (ends->client_fd >= 0)
        close(ends->client_fd);
    test_loop_close();
}

static MAY_YIELD void put(struct stream *stream, const char *text)
{
    struct error err;
    assert_int_equal(stream_write(stream, str_c(text), &err), OK);
    assert_int_equal(stream_flush(stream, &err), OK);
}

static MAY_YIELD void expect(struct stream *stream, const char *text)
{
    struct error err;
    bool end = false;
    while (stream_buffered(stream).len < strlen(text)) {
        assert_int_equal(stream_fill(stream, 65536, &end, &err), OK);
        assert_false(end);
    }
    assert_memory_equal(stream_buffered(stream).ptr, text, strlen(text));
    stream_consume(stream, strlen(text));
}

/* ---- a whole STARTTLS conversation ---- */

static NO_YIELD_CHECK void starttls_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    put(ends->client, "STARTTLS\r\n");
    expect(ends->client, "220 go\r\n");
    assert_int_equal(
        stream_tls_connect(ends->client, ends->client_context, str_c(ends->name), &err), OK);
    put(ends->client, "EHLO secret\r\n");
    expect(ends->client, "250 hello\r\n");
    assert_true(stream_is_idle_alive(ends->client));
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void starttls_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    expect(ends->server, "STARTTLS\r\n");
    assert_int_equal(stream_fill_available(ends->server, 1000, &err), OK);
    assert_int_equal(stream_buffered(ends->server).len, 0);
    /* not flushed: the handshake does it */
    assert_int_equal(stream_write(ends->server, STR("220 go\r\n"), &err), OK);
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    const struct stream_tls_info *info = stream_tls_info(ends->server);
    assert_true(info->active);
    assert_true(str_equal(info->version, STR("TLSv1.3")));
    assert_true(info->cipher.len > 0);
    assert_string_equal(info->server_name, "mail.test");
    expect(ends->server, "EHLO secret\r\n");
    put(ends->server, "250 hello\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
    assert_true(end);
}

static void starttls(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {.name = "Mail.test."};
    ends.server_context = new_tls_server(files, 1);
    ends.client_context = new_tls_client(true, main_files.cert_path);
    run_ends(true, &ends, starttls_client, starttls_server);
    run_ends(false, &ends, starttls_client, starttls_server);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- bulk ---- */

enum { BULK = 1000000 };

static NO_YIELD_CHECK void bulk_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    char *data = memory_alloc(BULK);
    for (size_t i = 0; i < BULK; i++)
        data[i] = (char)(i * 7 + i / 1000);
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    for (size_t at = 0, size = 1; at < BULK; at += size, size = size * 3 % 100003 + 1) {
        if (size > BULK - at)
            size = BULK - at;
        assert_int_equal(stream_write(ends->client, str_of(data + at, size), &err), OK);
    }
    assert_int_equal(stream_flush(ends->client, &err), OK);
    free(data);
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void bulk_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    size_t at = 0;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    while (!end) {
        assert_int_equal(stream_fill(ends->server, 66000, &end, &err), OK);
        struct str got = stream_buffered(ends->server);
        size_t keep = end ? 0 : got.len % 100;
        for (size_t i = 0; i < got.len - keep; i++, at++)
            if (got.ptr[i] != (char)(at * 7 + at / 1000))
                fail_msg("byte %zu differs", at);
        stream_consume(ends->server, got.len - keep);
    }
    assert_int_equal(at, BULK);
}

static void bulk(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {0};
    ends.server_context = new_tls_server(files, 1);
    ends.client_context = new_tls_client(false, "");
    run_ends(true, &ends, bulk_client, bulk_server);
    run_ends(false, &ends, bulk_client, bulk_server);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- attacks on the connection ---- */

static NO_YIELD_CHECK void refuse_buffered_input(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end;
    put(ends->client, "STARTTLS\r\nMAIL FROM:<evil@test>\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
    stream_consume(ends->server, 10); /* and a careless session goes on */
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(stream_write(ends->server, STR("250"), &err), FAILED);
}

static NO_YIELD_CHECK void greet_after_goodbye(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    put(ends->client, "BDAT 100\r\nabc");
    stream_close(take(ends->client)); /* close_notify in the middle of a chunk */
    assert_int_equal(write(ends->client_fd, "clear\r\n", 7), 7);
}

static NO_YIELD_CHECK void hear_no_clear_text(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    expect(ends->server, "BDAT 100\r\nabc");
    for (int i = 0; i < 3; i++) {
        end = false;
        assert_int_equal(stream_fill(ends->server, 1000, &end, &err), OK);
        assert_true(end);
        assert_int_equal(stream_fill_available(ends->server, 1000, &err), OK);
        assert_int_equal(stream_buffered(ends->server).len, 0);
    }
    assert_false(stream_is_idle_alive(ends->server));
}

static NO_YIELD_CHECK void break_a_record(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err),
                     OK);
    put(ends->client, "NOOP\r\n");
    assert_int_equal(write(ends->client_fd, "RSET\r\n", 6), 6);
    while (!end && stream_fill(ends->client, 1000, &end, &err) == OK)
        continue;
}

static NO_YIELD_CHECK void die_of_clear_text(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
    expect(ends->server, "NOOP\r\n");
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    assert_int_equal(stream_fill_available(ends->server, 1000, &err), FAILED);
    assert_int_equal(stream_write(ends->server, STR("x"), &err), FAILED);
    assert_int_equal(stream_flush(ends->server, &err), FAILED);
    assert_int_equal(stream_buffered(ends->server).len, 0);
    stream_close(take(ends->server));
}

static NO_YIELD_CHECK void send_garbage(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    put(ends->client, "GET / HTTP/1.1\r\nHost: mail.test\r\n\r\n");
    while (!end && stream_fill(ends->client, 1000, &end, &err) == OK)
        continue;
}

static NO_YIELD_CHECK void refuse_garbage(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PROTOCOL);
    assert_int_equal(stream_fill(ends->server, 1000, &end, &err), FAILED);
    stream_close(take(ends->server));
}

static NO_YIELD_CHECK void say_nothing(void *arg)
{
    (void)arg;
}

static NO_YIELD_CHECK void wait_in_vain_for_hello(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    scope_open(&scope, clock_deadline(5 * NS_PER_MS));
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
}

static NO_YIELD_CHECK void hang_up(void *arg)
{
    struct ends *ends = arg;
    stream_close(take(ends->client));
    if (ends->client_fd >= 0)
        close(ends->client_fd);
    ends->client_fd = -1;
}

static NO_YIELD_CHECK void notice_hang_up(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
}

static void attacks(void **state)
{
    (void)state;
    const struct test_certificate *files[] = {&main_files};
    struct ends ends = {0};
    ends.server_context = new_tls_server(files, 1);
    ends.client_context = new_tls_client(false, "");
    run_ends(true, &ends, refuse_buffered_input, NULL);
    run_ends(false, &ends, refuse_buffered_input, NULL);
    run_ends(false, &ends, greet_after_goodbye, hear_no_clear_text);
    run_ends(false, &ends, break_a_record, die_of_clear_text);
    run_ends(true, &ends, send_garbage, refuse_garbage);
    run_ends(false, &ends, send_garbage, refuse_garbage);
    run_ends(true, &ends, say_nothing, wait_in_vain_for_hello);
    run_ends(false, &ends, say_nothing, wait_in_vain_for_hello);
    run_ends(true, &ends, hang_up, notice_hang_up);
    run_ends(false, &ends, hang_up, notice_hang_up);
    tls_context_unref(ends.server_context);
    tls_context_unref(ends.client_context);
}

/* ---- names and trust ---- */

struct trust_case {
    const char *label;
    bool verify;
    const struct test_certificate *server, *trusted; /* NULL: the system's store */
    const char *name;
    bool connects, verified;
};

static const struct trust_case *current;

static NO_YIELD_CHECK void trust_client(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    enum result result =
        stream_tls_connect(ends->client, ends->client_context, str_c(current->name), &err);
    if ((result == OK) != current->connects)
        fail_msg("%s: %s", current->label, result == OK ? "connected" : err.text);
    if (result == OK && stream_tls_info(ends->client)->peer_verified != current->verified)
        fail_msg("%s: verified is %d", current->label, !current->verified);
    if (result == FAILED && current->name[0])
        assert_int_equal(err.kind, ERROR_PROTOCOL);
    stream_close(take(ends->client));
}

static NO_YIELD_CHECK void trust_server(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    if (stream_tls_accept(ends->server, ends->server_context, &err) == OK)
        while (!end && stream_fill(ends->server, 1000, &end, &err) == OK)
            continue;
}

static void trust(void **state)
{
    (void)state;
    static const struct trust_case cases[] = {
        {"right name", true, &main_files, &main_files, "mail.test", true, true},
        {"case", true, &main_files, &main_files, "MAIL.test", true, true},
        {"final dot", true, &main_files, &main_files, "mail.test.", true, true},
        {"second name", true, &main_files, &main_files, "imap.test", true, true},
        {"wrong name", true, &main_files, &main_files, "evil.test", false, false},
        {"address", true, &main_files, &main_files, "127.0.0.1", true, true},
        {"wrong address", true, &main_files, &main_files, "127.0.0.2", false, false},
        {"common name only", true, &main_files, &main_files, "test", false, false},
        {"no name", true, &main_files, &main_files, "", false, false},
        {"untrusted", true, &main_files, &other_files, "mail.test", false, false},
        {"not in the system's store", true, &main_files, NULL, "mail.test", false, false},
        {"ended", true, &expired_files, &expired_files, "mail.test", false, false},
        {"wildcard", true, &wild_files, &wild_files, "a.wild.test", true, true},
        {"wildcard, two labels", true, &wild_files, &wild_files, "a.b.wild.test", false, false},
        {"partial wildcard", true, &wild_files, &wild_files, "partner.test", false, false},
        {"unchecked, right", false, &main_files, &main_files, "mail.test", true, true},
        {"unchecked, wrong name", false, &main_files, &main_files, "evil.test", true, false},
        {"unchecked, no name", false, &main_files, &main_files, "", true, false},
        {"unchecked, no host name", false, &main_files, &main_files, "a b", true, false},
        {"unchecked, ended", false, &expired_files, &expired_files, "mail.test", true, false},
        {"unchecked, untrusted", false, &main_files, &other_files, "mail.test", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        current = &cases[i];
        struct ends ends = {0};
        ends.server_context = new_tls_server(&current->server, 1);
        ends.client_context =
            new_tls_client(current->verify, current->trusted ? current->trusted->cert_path : "");
        run_ends(true, &ends, trust_client, trust_server);
        tls_context_unref(ends.server_context);
        tls_context_unref(ends.client_context);
    }
}

/* ---- memory ---- */

enum { IDLE = 100, CLEAR_MAX = 2048, TLS_MAX = 20000 };

struct crowd {
    struct ends ends[IDLE];
    size_t count;
};

static NO_YIELD_CHECK void wait_in_vain(void *arg)
{
    struct error err;
    bool end;
    assert_int_equal(stream_fill(arg, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
}

/* All of them wait, for so long that they come to rest. */
static NO_YIELD_CHECK void rest(struct crowd *crowd, bool is_server)
{
    struct scope scope;
    struct error err;
    scope_open(&scope, clock_deadline(NS_PER_S));
    for (size_t i = 0; i < IDLE; i++) {
        struct ends *ends = &crowd->ends[i];
        check(fiber_spawn(&scope, "idle", wait_in_vain, is_server ? ends->server : ends->client,
                          &err) == OK);
    }
    scope_close(&scope);
}

static NO_YIELD_CHECK void idle_clients(void *arg)
{
    struct crowd *crowd = arg;
    struct error err;
    for (size_t i = 0; i < IDLE; i++) {
        struct ends *ends = &crowd->ends[i];
        assert_int_equal(
            stream_tls_connect(ends->client, ends->client_context, STR("mail.test"), &err), OK);
        put(ends->client, "EHLO x\r\n");
        expect(ends->client, "250 x\r\n");
        assert_true(stream_is_idle_alive(ends->client));
    }
    rest(crowd, /* is_server= */ false);
}

static NO_YIELD_CHECK void idle_servers(void *arg)
{
    struct crowd *crowd = arg;
    struct error err;
    for (size_t i = 0; i < IDLE; i++) {
        struct ends *ends = &crowd->ends[i];
        assert_int_equal(stream_tls_accept(ends->server, ends->server_context, &err), OK);
        expect(ends->server, "EHLO x\r\n");
        put(ends->server, "250 x\r\n");
        assert_true(stream_is_idle_alive(ends->server));
    }
    rest(crowd, /* is_server= */ true);
}

static NO_YIELD_CHECK void wake_clients(void *arg)
{
    struct crowd *crowd = arg;
    for (size_t i = 0; i < IDLE; i++) {
        put(crowd->ends[i].client, "NOOP\r\n");
        expect(crowd->ends[i].client, "250 ok\r\n");
    }
}

static NO_YIELD_CHECK void wake_servers(void *arg)
{
    struct crowd *crowd = arg;
    for (size_t i = 0; i < IDLE; i++) {
        expect(crowd->ends[i].server, "NOOP\r\n");
        put(crowd->ends[i].server, "250 ok\r\n");
    }
}

static void idle_connections_are_small(void **state)
{
    (void)state;
    static struct crowd crowd;
    const struct test_certificate *files[] = {&main_files};
    struct tls_context *server = new_tls_server(files, 1), *client = new_tls_client(false, "");
    struct error err;
    int fds[2], on = 1;
    test_loop_open();
    size_t start = mallinfo2().uordblks;
    for (size_t i = 0; i < IDLE; i++) {
        open_socket_pair(fds);
        check(ioctl(fds[1], FIONBIO, &on) == 0);
        crowd.ends[i] = (struct ends){.client_context = client, .server_context = server};
        check(stream_open_fd(fds[0], &crowd.ends[i].server, &err) == OK);
        check(stream_open_fd(fds[1], &crowd.ends[i].client, &err) == OK);
    }
    size_t clear = mallinfo2().uordblks;
    run_fibers(idle_clients, idle_servers, &crowd);
    size_t tls = mallinfo2().uordblks;
    printf("%zu bytes a clear stream, %zu bytes a TLS stream\n", (clear - start) / (2 * IDLE),
           (tls - start) / (2 * IDLE));
    /* under AddressSanitizer both are 0 */
    assert_true((clear - start) / (2 * IDLE) < CLEAR_MAX);
    assert_true((tls - start) / (2 * IDLE) < TLS_MAX);
    run_fibers(wake_clients, wake_servers, &crowd);
    for (size_t i = 0; i < IDLE; i++) {
        stream_close(crowd.ends[i].client);
        stream_close(crowd.ends[i].server);
    }
    test_loop_close();
    tls_context_unref(server);
    tls_context_unref(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starttls),
        cmocka_unit_test(bulk),
        cmocka_unit_test(attacks),
        cmocka_unit_test(trust),
        cmocka_unit_test(idle_connections_are_small),
    };
    return cmocka_run_group_tests(tests, make_certificates, NULL);
}
