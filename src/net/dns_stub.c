/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_stub.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"
#include "fiber/loop.h"
#include "net/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SERVERS_MAX = 8, ROUNDS = 2, QUERY_MAX = 300, UDP_MAX = 4096, ANSWER_MAX = 65535 };
enum { HEADER = 12, EDNS_SIZE = 1232 };

struct dns_stub {
    struct net_address servers[SERVERS_MAX];
    size_t server_count;
    int64_t timeout_ns;
};

/* One question as it goes out; the letters of its name are in random case, which comes back. */
struct question {
    unsigned char bytes[QUERY_MAX];
    size_t len, end; /* of all; of the question section */
};

/* ---- set up ---- */

static void add_server(struct dns_stub *stub, const struct net_address *server)
{
    if (stub->server_count < SERVERS_MAX)
        stub->servers[stub->server_count++] = *server;
}

static void read_resolv_conf(struct dns_stub *stub)
{
    char line[512];
    FILE *file = fopen("/etc/resolv.conf", "re");
    while (file && fgets(line, sizeof line, file)) {
        struct str rest = str_trim(str_c(line)), word = STR("nameserver");
        struct net_address server;
        if (str_starts(rest, word) &&
            net_address_parse(str_trim(str_from(rest, word.len)), 53, &server))
            add_server(stub, &server);
    }
    if (file)
        fclose(file);
    if (stub->server_count == 0) {
        struct net_address local = {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 53};
        add_server(stub, &local);
    }
}

enum result dns_stub_new(const struct dns_settings *settings, struct dns_stub **out_stub,
                         struct error *err)
{
    if (settings->server_count > SERVERS_MAX)
        return fail(err, ERROR_LIMIT, "more than %d DNS servers", SERVERS_MAX);
    struct dns_stub *stub = NEW(struct dns_stub);
    stub->timeout_ns = settings->timeout_ns ? settings->timeout_ns : 10 * NS_PER_S;
    for (size_t i = 0; i < settings->server_count; i++)
        add_server(stub, &settings->servers[i]);
    if (settings->server_count == 0)
        read_resolv_conf(stub);
    *out_stub = stub;
    return OK;
}

void dns_stub_free(struct dns_stub *stub)
{
    free(stub);
}

/* ---- questions ---- */

static void put16(struct question *question, unsigned value)
{
    question->bytes[question->len++] = (unsigned char)(value >> 8);
    question->bytes[question->len++] = (unsigned char)value;
}

static void mix_case(unsigned char *name, size_t len)
{
    unsigned char coins[256];
    random_bytes(coins, sizeof coins);
    for (size_t at = 0; at < len && name[at]; at += 1u + name[at])
        for (size_t i = 1; i <= name[at]; i++)
            if (ascii_is_alpha((char)name[at + i]) && coins[at + i] & 1)
                name[at + i] ^= 0x20;
}

static void make_question(struct question *question, struct str name, enum dns_type type)
{
    enum { RECURSION_DESIRED = 0x0100, AUTHENTIC_DATA = 0x0020, OPT = 41 };
    unsigned char id[2];
    random_bytes(id, sizeof id);
    question->len = 0;
    put16(question, (unsigned)(id[0] << 8 | id[1]));
    put16(question, RECURSION_DESIRED | AUTHENTIC_DATA); /* AD asked for: RFC 6840 5.7 */
    put16(question, 1);
    put16(question, 0);
    put16(question, 0);
    put16(question, 1);
    size_t size = dns_name_to_wire(name, question->bytes + HEADER);
    check(size > 0);
    mix_case(question->bytes + HEADER, size);
    question->len = HEADER + size;
    put16(question, type);
    put16(question, 1);
    question->end = question->len;
    question->bytes[question->len++] = 0; /* EDNS (RFC 6891): the root, OPT, our datagram size */
    put16(question, OPT);
    put16(question, EDNS_SIZE);
    put16(question, 0);
    put16(question, 0);
    put16(question, 0);
}

/* The same id and, letter by letter, the same question. */
static bool belongs(const struct question *question, const char *packet, size_t size)
{
    return size >= question->end && memcmp(packet, question->bytes, 2) == 0 &&
           memcmp(packet + HEADER, question->bytes + HEADER, question->end - HEADER) == 0;
}

/* ---- one server ---- */

/* Each question has a socket, hence a port, of its own. */
static enum result send_datagram(const struct net_address *server, const struct question *question,
                                 struct watch *watch, struct error *err)
{
    struct sockaddr_storage storage;
    socklen_t len;
    net_address_to_sockaddr(server, &storage, &len);
    int fd = socket(storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno(err, errno, "cannot make a socket");
    if (connect(fd, (struct sockaddr *)&storage, len) != 0 ||
        send(fd, question->bytes, question->len, MSG_NOSIGNAL) < 0)
        (void)fail_errno(err, errno, "cannot ask the DNS server");
    else if (watch_open(watch, fd, err) == OK)
        return OK;
    close(fd);
    return FAILED;
}

static MAY_YIELD enum result receive_datagram(struct watch *watch, const struct question *question,
                                              struct arena *arena, struct str *out,
                                              struct error *err)
{
    char *packet = arena_alloc(arena, UDP_MAX);
    for (;;) {
        ssize_t got = recv(watch->fd, packet, UDP_MAX, 0);
        if (got >= 0 && belongs(question, packet, (size_t)got)) {
            *out = str_of(packet, (size_t)got);
            return OK;
        }
        if (got >= 0 || errno == EINTR)
            continue; /* not ours: somebody guesses */
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return fail_errno(err, errno, "the DNS server cannot be reached");
        if (watch_wait_readable(watch, err) == FAILED)
            return FAILED;
    }
}

static MAY_YIELD enum result fill_to(struct stream *stream, size_t size, struct error *err)
{
    bool end = false;
    while (stream_buffered(stream).len < size) {
        if (stream_fill(stream, ANSWER_MAX + 2, &end, err) == FAILED)
            return FAILED;
        if (end)
            return fail(err, ERROR_TEMPORARY, "the DNS server closed the connection");
    }
    return OK;
}

static MAY_YIELD enum result converse(struct stream *stream, const struct question *question,
                                      struct arena *arena, struct str *out, struct error *err)
{
    char prefix[2] = {(char)(question->len >> 8), (char)question->len};
    if (stream_write(stream, str_of(prefix, 2), err) == FAILED ||
        stream_write(stream, str_of((const char *)question->bytes, question->len), err) == FAILED ||
        stream_flush(stream, err) == FAILED || fill_to(stream, 2, err) == FAILED)
        return FAILED;
    const unsigned char *head = (const unsigned char *)stream_buffered(stream).ptr;
    size_t size = (size_t)(head[0] << 8 | head[1]);
    if (fill_to(stream, 2 + size, err) == FAILED)
        return FAILED;
    struct str packet = str_slice(stream_buffered(stream), 2, 2 + size);
    if (!belongs(question, packet.ptr, packet.len))
        return fail(err, ERROR_TEMPORARY, "the DNS answer is to another question");
    *out = arena_str(arena, packet);
    return OK;
}

static MAY_YIELD enum result ask_over_tcp(const struct net_address *server,
                                          const struct question *question, struct arena *arena,
                                          struct str *out, struct error *err)
{
    struct stream *stream;
    if (stream_connect(server, NULL, &stream, err) == FAILED)
        return FAILED;
    enum result result = converse(stream, question, arena, out, err);
    stream_close(stream);
    return result;
}

static MAY_YIELD enum result ask_server(const struct net_address *server,
                                        const struct question *question, struct arena *arena,
                                        struct str *out, struct error *err)
{
    struct watch watch;
    if (send_datagram(server, question, &watch, err) == FAILED)
        return FAILED;
    int fd = watch.fd;
    enum result result = receive_datagram(&watch, question, arena, out, err);
    watch_close(&watch);
    close(fd);
    bool truncated = result == OK && out->ptr[2] & 0x02;
    return truncated ? ask_over_tcp(server, question, arena, out, err) : result;
}

/* ---- asking ---- */

/* SERVFAIL, REFUSED and what cannot be read: another server may do better. */
static enum result read_answer(struct str packet, struct str name, enum dns_type type,
                               struct arena *arena, struct dns_reply *out, struct error *err)
{
    if (dns_answer_parse(packet, name, type, arena, &out->answer, err) == FAILED)
        return FAILED;
    out->secure = out->answer.authentic;
    return OK;
}

static MAY_YIELD enum result try_once(const struct net_address *server, int64_t patience_ns,
                                      struct str name, enum dns_type type, struct arena *arena,
                                      struct dns_reply *out, struct error *err)
{
    struct question question;
    struct scope scope;
    struct str packet;
    make_question(&question, name, type);
    scope_open(&scope, clock_deadline(patience_ns));
    enum result result = ask_server(server, &question, arena, &packet, err);
    scope_close(&scope);
    return result == OK ? read_answer(packet, name, type, arena, out, err) : FAILED;
}

/* FAILED: by the fiber's own scopes only. */
static MAY_YIELD enum result ask_one(struct dns_stub *stub, struct str name, enum dns_type type,
                                     struct arena *arena, struct dns_reply *out, struct error *err)
{
    size_t tries = ROUNDS * stub->server_count;
    *out = (struct dns_reply){0};
    for (size_t i = 0; i < tries; i++) {
        const struct net_address *server = &stub->servers[i % stub->server_count];
        if (try_once(server, stub->timeout_ns / (int64_t)tries, name, type, arena, out,
                     &out->why) == OK)
            return OK;
        if (fiber_check(err) == FAILED)
            return FAILED;
    }
    if (out->why.kind == ERROR_TIMEOUT)
        (void)fail(&out->why, ERROR_TIMEOUT, "no DNS server answered in time");
    out->failed = true;
    return OK;
}

enum result dns_stub_ask(struct dns_stub *stub, struct str name, const enum dns_type *types,
                         size_t count, struct arena *arena, struct dns_reply *out_replies,
                         struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (ask_one(stub, name, types[i], arena, &out_replies[i], err) == FAILED)
            return FAILED;
    return OK;
}
