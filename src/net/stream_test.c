/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "net/net_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* Both ends of a connection, as the two fibers of a test have them. */
struct ends {
    struct stream *a, *b;
    int fd; /* of a, where it is a socket */
};

/* Each test runs over memory and over real sockets. */
enum kind { MEMORY, SOCKETS };

static void open_sockets(struct ends *ends)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct error err;
    check(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 1) == 0);
    check(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    check(connect(client, (struct sockaddr *)&address, len) == 0);
    int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listener);
    /* stream_open_fd takes descriptors that do not block */
    int other = dup(client);
    close(client);
    check(server >= 0 && other >= 0);
    int flags = 1;
    check(ioctl(other, FIONBIO, &flags) == 0);
    ends->fd = other;
    check(stream_open_fd(other, &ends->a, &err) == OK);
    check(stream_open_fd(server, &ends->b, &err) == OK);
}

static void run_over(enum kind kind, void (*first)(void *), void (*second)(void *))
{
    struct ends ends;
    test_loop_open();
    if (kind == MEMORY)
        stream_pair(&ends.a, &ends.b);
    else
        open_sockets(&ends);
    run_fibers(first, second, &ends);
    stream_close(ends.a);
    stream_close(ends.b);
    test_loop_close();
}

static void run_over_both(void (*first)(void *), void (*second)(void *))
{
    run_over(MEMORY, first, second);
    run_over(SOCKETS, first, second);
}

static MAY_YIELD void put(struct stream *stream, const char *text)
{
    struct error err;
    check(stream_write(stream, str_c(text), &err) == OK && stream_flush(stream, &err) == OK);
}

static void assert_buffered(const struct stream *stream, const char *text)
{
    struct str got = stream_buffered(stream);
    assert_int_equal(got.len, strlen(text));
    assert_memory_equal(got.ptr, text, got.len);
}

static MAY_YIELD void fill_until(struct stream *stream, size_t len)
{
    struct error err;
    bool end = false;
    while (stream_buffered(stream).len < len) {
        assert_int_equal(stream_fill(stream, 65536, &end, &err), OK);
        assert_false(end);
    }
}

/* ---- one side that has ended ---- */

static NO_YIELD_CHECK void end_output_and_read_on(void *arg)
{
    struct ends *ends = arg;
    put(ends->a, "bye");
    stream_end_output(ends->a);
    fill_until(ends->a, 4);
    assert_buffered(ends->a, "late");
}

static NO_YIELD_CHECK void see_the_end_and_write_on(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    fill_until(ends->b, 3);
    while (!end) /* the other side is still open */
        assert_int_equal(stream_fill(ends->b, 1000, &end, &err), OK);
    assert_buffered(ends->b, "bye");
    put(ends->b, "late");
}

static void half_closed(void **state)
{
    (void)state;
    run_over(SOCKETS, end_output_and_read_on, see_the_end_and_write_on);
}

static NO_YIELD_CHECK void say_the_last_word(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_write(ends->a, STR("bye"), &err), OK);
    assert_int_equal(stream_finish_before_close(ends->a, &err), OK);
    stream_close(take(ends->a));
}

static NO_YIELD_CHECK void hear_the_last_word(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    fill_until(ends->b, 3);
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), OK);
    assert_true(end);
    assert_buffered(ends->b, "bye");
}

static void last_words_leave_with_the_end(void **state)
{
    (void)state;
    run_over_both(say_the_last_word, hear_the_last_word);
}

/* ---- accepting ---- */

/* What saves three calls a session: all of it is known or inherited. */
static void accepted_sockets_need_no_questions(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 2) == 0);
    check(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    stream_prepare_listening(listener);
    check(connect(client, (struct sockaddr *)&address, len) == 0);
    int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int no_delay = 0;
    len = sizeof no_delay;
    assert_int_equal(getsockopt(server, IPPROTO_TCP, TCP_NODELAY, &no_delay, &len), 0);
    assert_true(no_delay);

    test_loop_open();
    struct net_address peer = {.ip = {{192, 0, 2, 1}, 4}, .port = 1234};
    struct stream *stream;
    struct error err;
    assert_int_equal(stream_open_accepted(server, &peer, NULL, &stream, &err), OK);
    assert_int_equal(stream_peer(stream)->port, 1234);
    assert_int_equal(stream_local(stream)->port, ntohs(address.sin_port));
    stream_close(stream);
    test_loop_close();
    close(client);
    close(listener);
}

/* ---- reading and writing ---- */

static NO_YIELD_CHECK void say_hello(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(stream_write(ends->a, STR("EHLO "), &err), OK);
    assert_int_equal(stream_write(ends->a, STR("there\r\n"), &err), OK);
    assert_int_equal(stream_flush(ends->a, &err), OK);
    assert_int_equal(stream_flush(ends->a, &err), OK); /* nothing to do */
    bool end = true;
    assert_int_equal(stream_fill(ends->a, 1000, &end, &err), OK);
    assert_false(end);
    assert_buffered(ends->a, "250 hello\r\n");
    stream_close(take(ends->a));
}

static NO_YIELD_CHECK void hear_hello(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    fill_until(ends->b, 12);
    assert_buffered(ends->b, "EHLO there\r\n");
    stream_consume(ends->b, 5);
    assert_buffered(ends->b, "there\r\n");
    stream_consume(ends->b, 7);
    assert_int_equal(stream_buffered(ends->b).len, 0);
    put(ends->b, "250 hello\r\n");
    bool end = false;
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), OK);
    assert_true(end);
    end = false;
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), OK); /* and so it stays */
    assert_true(end);
    assert_false(stream_is_idle_alive(ends->b));
    assert_false(stream_tls_info(ends->b)->active);
}

static void conversation(void **state)
{
    (void)state;
    run_over_both(say_hello, hear_hello);
}

enum { BULK = 3000000 };

static char pattern(size_t at)
{
    return (char)(at * 31 + at / 977);
}

/* Pieces of many sizes, among them some larger than the output buffer. */
static NO_YIELD_CHECK void send_bulk(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    char *data = memory_alloc(BULK);
    for (size_t i = 0; i < BULK; i++)
        data[i] = pattern(i);
    size_t size = 1;
    for (size_t at = 0; at < BULK; at += size, size = size * 3 % 300007 + 1) {
        if (size > BULK - at)
            size = BULK - at;
        assert_int_equal(stream_write(ends->a, str_of(data + at, size), &err), OK);
    }
    assert_int_equal(stream_flush(ends->a, &err), OK);
    free(data);
    stream_close(take(ends->a));
}

/* Consumes in odd pieces, so that the rest must be kept over the next read. */
static NO_YIELD_CHECK void receive_bulk(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    size_t at = 0;
    bool end = false;
    while (!end) {
        assert_int_equal(stream_fill(ends->b, 66000, &end, &err), OK);
        struct str got = stream_buffered(ends->b);
        assert_true(got.len <= 66000);
        size_t keep = end ? 0 : got.len % 700;
        for (size_t i = 0; i < got.len - keep; i++, at++)
            if (got.ptr[i] != pattern(at))
                fail_msg("byte %zu differs", at);
        stream_consume(ends->b, got.len - keep);
    }
    assert_int_equal(at, BULK);
}

/* ---- much at once ---- */

struct turns {
    struct stream *stream;
    bool written;
    bool others_ran; /* before all was written */
};

/* More than one may move in a row, less than the socket takes. */
static NO_YIELD_CHECK void write_without_a_pause(void *arg)
{
    struct turns *turns = arg;
    struct error err;
    char *data = memory_alloc(10 * 1024);
    memset(data, 'x', 10 * 1024);
    for (int i = 0; i < 16; i++)
        check(stream_write(turns->stream, str_of(data, 10 * 1024), &err) == OK &&
              stream_flush(turns->stream, &err) == OK);
    free(data);
    turns->written = true;
}

static NO_YIELD_CHECK void run_meanwhile(void *arg)
{
    struct turns *turns = arg;
    turns->others_ran = !turns->written;
}

/* A peer that takes all at once does not keep the others of the loop waiting. */
static void writing_takes_turns(void **state)
{
    (void)state;
    struct turns turns = {0};
    struct error err;
    int fds[2];
    test_loop_open();
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    check(stream_open_fd(fds[0], &turns.stream, &err) == OK);
    run_fibers(write_without_a_pause, run_meanwhile, &turns);
    assert_true(turns.written);
    assert_true(turns.others_ran);
    stream_close(turns.stream);
    close(fds[1]);
    test_loop_close();
}

static void bulk(void **state)
{
    (void)state;
    run_over_both(send_bulk, receive_bulk);
}

static NO_YIELD_CHECK void send_long_line(void *arg)
{
    struct ends *ends = arg;
    put(ends->a, "0123456789012345678901234567890123456789");
}

static NO_YIELD_CHECK void refuse_long_line(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end;
    enum result result;
    do
        result = stream_fill(ends->b, 10, &end, &err);
    while (result == OK);
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_buffered(ends->b, "0123456789");
    stream_consume(ends->b, 10);
    assert_int_equal(stream_fill(ends->b, 10, &end, &err), OK); /* it goes on after that */
    assert_buffered(ends->b, "0123456789");
}

static void input_has_a_ceiling(void **state)
{
    (void)state;
    run_over_both(send_long_line, refuse_long_line);
}

static NO_YIELD_CHECK void look_for_more(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_true(stream_is_idle_alive(ends->b));
    assert_int_equal(stream_fill_available(ends->b, 1000, &err), OK);
    assert_int_equal(stream_buffered(ends->b).len, 0);
    put(ends->a, "STARTTLS\r\nEHLO evil\r\n");
    assert_int_equal(stream_fill_available(ends->b, 10, &err), OK);
    assert_buffered(ends->b, "STARTTLS\r\n");
    assert_int_equal(stream_fill_available(ends->b, 10, &err), OK); /* full, which is no error */
    assert_int_equal(stream_fill_available(ends->b, 1000, &err), OK);
    assert_buffered(ends->b, "STARTTLS\r\nEHLO evil\r\n");
    stream_consume(ends->b, 21);
    assert_true(stream_is_idle_alive(ends->b));
    put(ends->a, "421 bye\r\n");
    assert_false(stream_is_idle_alive(ends->b));
    assert_buffered(ends->b, "421 bye\r\n");
}

static void what_is_there_is_seen_without_waiting(void **state)
{
    (void)state;
    run_over_both(look_for_more, NULL);
}

/* ---- deadlines, cancellation, broken connections ---- */

static NO_YIELD_CHECK void wait_until_deadline(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    bool end;
    scope_open(&scope, clock_deadline(5 * NS_PER_MS));
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    /* bytes that are there do not help after the deadline */
    put(ends->a, "late");
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
    /* reading may go on in another scope */
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), OK);
    assert_buffered(ends->b, "late");
}

static void deadlines(void **state)
{
    (void)state;
    run_over_both(wait_until_deadline, NULL);
}

static struct scope *to_cancel;

static NO_YIELD_CHECK void wait_for_ever(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    bool end;
    scope_open(&scope, TIME_NEVER);
    to_cancel = &scope;
    assert_int_equal(stream_fill(ends->b, 1000, &end, &err), FAILED);
    assert_int_equal(err.kind, ERROR_CANCELLED);
    scope_close(&scope);
}

static NO_YIELD_CHECK void cancel_the_wait(void *arg)
{
    (void)arg;
    while (!to_cancel)
        fiber_yield();
    fiber_yield();
    scope_cancel(to_cancel);
    to_cancel = NULL;
}

static void cancellation(void **state)
{
    (void)state;
    run_over_both(wait_for_ever, cancel_the_wait);
}

/* Nobody reads: buffers fill up, and the deadline ends it. */
static NO_YIELD_CHECK void write_until_deadline(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    char *data = memory_alloc(BULK * 4);
    scope_open(&scope, clock_deadline(30 * NS_PER_MS));
    assert_int_equal(stream_write(ends->a, str_of(data, BULK * 4), &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
    /* how much arrived is not known, so nothing may follow */
    assert_int_equal(stream_write(ends->a, STR("x"), &err), FAILED);
    assert_int_equal(stream_flush(ends->a, &err), FAILED);
    free(data);
}

static void blocked_writer(void **state)
{
    (void)state;
    run_over_both(write_until_deadline, NULL);
}

static NO_YIELD_CHECK void write_to_closed_peer(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    stream_close(take(ends->b));
    enum result result = OK;
    for (int i = 0; result == OK && i < 100; i++) {
        result = stream_write(ends->a, STR("hello"), &err);
        if (result == OK)
            result = stream_flush(ends->a, &err);
    }
    assert_int_equal(result, FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    bool end = false; /* in clear, what the peer said before it closed could still be read */
    assert_true(stream_fill(ends->a, 100, &end, &err) == FAILED || end);
}

static void no_signal_from_a_closed_peer(void **state)
{
    (void)state;
    run_over_both(write_to_closed_peer, NULL);
}

static NO_YIELD_CHECK void flood(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    struct scope scope;
    bool end = false;
    /* the peer is always faster: every read finds something */
    scope_open(&scope, clock_deadline(20 * NS_PER_MS));
    enum result result = OK;
    while (result == OK) {
        put(ends->a, "NOOP\r\n");
        result = stream_fill(ends->b, 1000, &end, &err);
        stream_consume(ends->b, stream_buffered(ends->b).len);
    }
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
}

static bool others_ran;

static NO_YIELD_CHECK void be_patient(void *arg)
{
    (void)arg;
    others_ran = true;
}

static void a_flood_neither_outruns_deadlines_nor_others(void **state)
{
    (void)state;
    others_ran = false;
    run_over_both(flood, be_patient);
    assert_true(others_ran);
}

/* ---- connecting ---- */

static int listen_on(struct net_address *address)
{
    struct sockaddr_storage storage;
    socklen_t len;
    net_address_to_sockaddr(address, &storage, &len);
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    check(bind(fd, (struct sockaddr *)&storage, len) == 0 && listen(fd, 5) == 0);
    check(getsockname(fd, (struct sockaddr *)&storage, &len) == 0);
    net_address_from_sockaddr(&storage, address);
    return fd;
}

static NO_YIELD_CHECK void connect_to_port(void *arg)
{
    (void)arg;
    struct net_address address = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    struct net_ip source = {.family = 4, .bytes = {127, 0, 0, 9}};
    struct stream *client, *server;
    struct error err;
    int listener = listen_on(&address);
    assert_int_equal(stream_connect(&address, &source, &client, &err), OK);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(stream_open_fd(fd, &server, &err), OK);
    assert_int_equal(stream_peer(server)->ip.bytes[3], 9);
    assert_int_equal(stream_local(server)->port, address.port);
    assert_int_equal(stream_peer(client)->port, address.port);
    assert_int_equal(stream_local(client)->port, stream_peer(server)->port);
    put(client, "hello");
    fill_until(server, 5);
    assert_buffered(server, "hello");
    stream_close(client);
    stream_close(server);
    close(listener);
    /* nobody listens there now */
    assert_int_equal(stream_connect(&address, NULL, &client, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    assert_non_null(strstr(err.text, "127.0.0.1:"));
    /* an address that is not ours */
    source = (struct net_ip){.family = 4, .bytes = {192, 0, 2, 1}};
    assert_int_equal(stream_connect(&address, &source, &client, &err), FAILED);
    assert_non_null(strstr(err.text, "192.0.2.1"));
}

static NO_YIELD_CHECK void connect_to_path(void *arg)
{
    (void)arg;
    struct net_address address = {0};
    struct stream *client, *server;
    struct error err;
    snprintf(address.unix_path, sizeof address.unix_path, "%s/socket", test_folder());
    struct net_address to = address;
    int listener = listen_on(&address);
    assert_int_equal(stream_connect(&to, NULL, &client, &err), OK);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_int_equal(stream_open_fd(fd, &server, &err), OK);
    put(server, "hi");
    fill_until(client, 2);
    stream_close(client);
    stream_close(server);
    close(listener);
    unlink(to.unix_path);
    assert_int_equal(stream_connect(&to, NULL, &client, &err), FAILED);
}

static NO_YIELD_CHECK void accept_all(void *arg)
{
    struct error err;
    for (int i = 0; i < 5; i++)
        assert_int_equal(fiber_sleep(2 * NS_PER_MS, &err), OK);
    for (int fd; (fd = accept4(*(int *)arg, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
        close(fd);
}

/* The queue of a Unix socket is full: that is waited for, as with other sockets. */
static NO_YIELD_CHECK void connect_to_a_busy_path(void *arg)
{
    (void)arg;
    struct net_address address = {0};
    struct stream *clients[16] = {0};
    struct error err;
    struct scope scope;
    size_t count = 0;
    snprintf(address.unix_path, sizeof address.unix_path, "%s/busy", test_folder());
    struct net_address to = address;
    int listener = listen_on(&address);
    check(listen(listener, 0) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    scope_open(&scope, clock_deadline(30 * NS_PER_MS));
    while (count < 16 && stream_connect(&to, NULL, &clients[count], &err) == OK)
        count++;
    scope_close(&scope);
    assert_true(count < 16);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_open(&scope, clock_deadline(20 * NS_PER_S));
    assert_int_equal(fiber_spawn(&scope, "accept", accept_all, &listener, &err), OK);
    assert_int_equal(stream_connect(&to, NULL, &clients[count], &err), OK);
    scope_close(&scope);
    for (size_t i = 0; i <= count; i++)
        stream_close(clients[i]);
    close(listener);
    unlink(to.unix_path);
}

static NO_YIELD_CHECK void connect_too_late(void *arg)
{
    (void)arg;
    struct net_address address = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 1};
    struct stream *client;
    struct error err;
    struct scope scope;
    scope_open(&scope, clock_monotonic_ns());
    assert_int_equal(stream_connect(&address, NULL, &client, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    scope_close(&scope);
}

/* The backlog is full, so the connection is neither made nor refused. */
static NO_YIELD_CHECK void connect_to_the_busy(void *arg)
{
    (void)arg;
    struct net_address address = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}};
    struct stream *clients[16] = {0};
    struct error err;
    struct scope scope;
    int listener = listen_on(&address);
    check(listen(listener, 0) == 0);
    scope_open(&scope, clock_deadline(30 * NS_PER_MS));
    size_t count = 0;
    while (count < 16 && stream_connect(&address, NULL, &clients[count], &err) == OK)
        count++;
    scope_close(&scope);
    assert_true(count < 16);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    for (size_t i = 0; i < count; i++)
        stream_close(clients[i]);
    close(listener);
}

static void connecting(void **state)
{
    (void)state;
    test_loop_open();
    run_fibers(connect_to_port, NULL, NULL);
    run_fibers(connect_to_path, NULL, NULL);
    run_fibers(connect_to_a_busy_path, NULL, NULL);
    run_fibers(connect_too_late, NULL, NULL);
    run_fibers(connect_to_the_busy, NULL, NULL);
    test_loop_close();
}

/* A read that empties the socket is not tried again until the loop tells of more: what the loop
 * told of before that read must not be missed. */
static NO_YIELD_CHECK void read_the_end_behind_data(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    bool end = false;
    put(ends->a, "last words");
    stream_end_output(ends->a);
    fiber_yield(); /* both are told in one event */
    fill_until(ends->b, 10);
    assert_buffered(ends->b, "last words");
    assert_int_equal(stream_fill(ends->b, 100, &end, &err), OK);
    assert_true(end);
}

static NO_YIELD_CHECK void read_around_urgent_data(void *arg)
{
    struct ends *ends = arg;
    int fd = ends->fd;
    assert_int_equal(send(fd, "ab", 2, 0), 2);
    assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
    assert_int_equal(send(fd, "cd", 2, 0), 2);
    fiber_yield();
    fill_until(ends->b, 4); /* a read stops at the mark, whatever is behind it */
    assert_buffered(ends->b, "abcd");
}

static NO_YIELD_CHECK void read_what_came_before_opening(void *arg)
{
    struct ends *ends = arg;
    struct error err;
    assert_int_equal(send(ends->fd, "early", 5, 0), 5);
    /* the loop had no turn to tell of it */
    assert_int_equal(stream_fill_available(ends->b, 100, &err), OK);
    assert_buffered(ends->b, "early");
}

static void nothing_is_missed_behind_a_short_read(void **state)
{
    (void)state;
    run_over(SOCKETS, read_the_end_behind_data, NULL);
    run_over(SOCKETS, read_around_urgent_data, NULL);
    run_over(SOCKETS, read_what_came_before_opening, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversation),
        cmocka_unit_test(half_closed),
        cmocka_unit_test(last_words_leave_with_the_end),
        cmocka_unit_test(accepted_sockets_need_no_questions),
        cmocka_unit_test(bulk),
        cmocka_unit_test(writing_takes_turns),
        cmocka_unit_test(nothing_is_missed_behind_a_short_read),
        cmocka_unit_test(input_has_a_ceiling),
        cmocka_unit_test(what_is_there_is_seen_without_waiting),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(cancellation),
        cmocka_unit_test(blocked_writer),
        cmocka_unit_test(no_signal_from_a_closed_peer),
        cmocka_unit_test(a_flood_neither_outruns_deadlines_nor_others),
        cmocka_unit_test(connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
