/* SPDX-License-Identifier: Apache-2.0 */
#include "content/scanner.h"

#include "base/buf.h"
#include "base/memory.h"
#include "base/random.h"
#include "state/breaker.h"

#include <stdlib.h>

enum { ADDRESSES_MAX = 4, PIECE = 64 * 1024, NAME_QUESTIONS = 2 };

/* ---- connecting ---- */

/* Where an endpoint is: its socket, its literal address, or what DNS says. */
static enum result resolve(const struct scanner *scanner, const struct server_endpoint *endpoint,
                           struct net_address addresses[static ADDRESSES_MAX], size_t *out_count,
                           struct error *err) MAY_YIELD
{
    static const enum resolver_type types[] = {RESOLVER_AAAA, RESOLVER_A};
    struct net_ip ip;
    *out_count = 1;
    if (endpoint->unix_path.len) {
        if (str_to_c(endpoint->unix_path, addresses[0].unix_path, sizeof addresses[0].unix_path))
            return OK;
        return fail(err, ERROR_PERMANENT, "the path of the socket is too long");
    }
    if (net_ip_parse(endpoint->host, &ip)) {
        addresses[0] = (struct net_address){.ip = ip, .port = endpoint->port};
        return OK;
    }
    *out_count = 0;
    if (!scanner->resolver)
        return fail(err, ERROR_TEMPORARY, "names cannot be looked up here");
    struct resolver resolver = *scanner->resolver;
    struct arena *arena = arena_new(0);
    resolver.budget = NAME_QUESTIONS;
    (void)fail(err, ERROR_TEMPORARY, "the name has no address");
    for (size_t t = 0; t < 2; t++) {
        struct resolver_answer answer = {0};
        if (resolver_ask(&resolver, types[t], endpoint->host, arena, &answer, err) != OK)
            continue;
        for (size_t i = 0; i < answer.count && *out_count < ADDRESSES_MAX; i++)
            addresses[(*out_count)++] =
                (struct net_address){.ip = answer.ips[i], .port = endpoint->port};
    }
    arena_free(arena);
    return *out_count ? OK : FAILED;
}

static enum result open_stream(const struct scanner *scanner,
                               const struct server_endpoint *endpoint,
                               const struct net_address *address, struct stream **out_stream,
                               struct error *err) MAY_YIELD
{
    if (stream_connect(address, NULL, out_stream, err) != OK)
        return FAILED;
    if (!scanner->server->tls_context ||
        stream_tls_connect(*out_stream, scanner->server->tls_context, endpoint->host, err) == OK)
        return OK;
    stream_close(*out_stream);
    *out_stream = NULL;
    return fail_context(err, "TLS");
}

static enum result connect_to(const struct scanner *scanner, const struct server_endpoint *endpoint,
                              struct stream **out_stream, struct error *err) MAY_YIELD
{
    struct net_address addresses[ADDRESSES_MAX] = {0};
    size_t count = 0;
    enum result result = resolve(scanner, endpoint, addresses, &count, err);
    for (size_t i = 0; i < count; i++) {
        result = open_stream(scanner, endpoint, &addresses[i], out_stream, err);
        if (result == OK || fiber_check(NULL) != OK)
            break;
    }
    return result;
}

static enum result ask_endpoint(const struct scanner *scanner,
                                const struct server_endpoint *endpoint, int64_t deadline_ns,
                                scanner_talk *talk, void *arg, bool *out_reached,
                                struct error *err) MAY_YIELD
{
    struct stream *stream = NULL;
    struct scope scope;
    scope_open(&scope, deadline_ns);
    enum result result = connect_to(scanner, endpoint, &stream, err);
    if (result == OK)
        *out_reached = true;
    if (result == OK && !scanner->talk_has_own_time)
        result = talk(stream, endpoint, arg, err);
    scope_close(&scope);
    if (result == OK && scanner->talk_has_own_time)
        result = talk(stream, endpoint, arg, err);
    stream_close(stream);
    if (result == OK)
        return OK;
    if (endpoint->unix_path.len)
        return fail_context(err, "%.*s", STR_ARG(endpoint->unix_path));
    return fail_context(err, "%.*s port %u", STR_ARG(endpoint->host), endpoint->port);
}

/* ---- asking ---- */

/* One endpoint that does not answer leaves some of the time for the next. */
static int64_t share(int64_t deadline_ns, size_t endpoints_left)
{
    int64_t left = deadline_ns - clock_monotonic_ns();
    return left > 0 ? clock_deadline(left / (int64_t)endpoints_left) : deadline_ns;
}

/* `*out_reached` is set if one of the endpoints could be told the question. */
static enum result ask(const struct scanner *scanner, scanner_talk *talk, void *arg,
                       bool *out_reached, struct error *err) MAY_YIELD
{
    const struct server *server = scanner->server;
    size_t count = server->endpoint_count;
    int64_t deadline_ns = clock_deadline(server->timeout_ns);
    size_t first = count > 1 ? random_below((uint32_t)count) : 0;
    (void)fail(err, ERROR_PERMANENT, "the server has no endpoint");
    for (size_t i = 0; i < count; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[(first + i) % count];
        int64_t until_ns = scanner->talk_has_own_time ? clock_deadline(server->timeout_ns)
                                                      : share(deadline_ns, count - i);
        if (ask_endpoint(scanner, endpoint, until_ns, talk, arg, out_reached, err) == OK)
            return OK;
        if (fiber_check(NULL) != OK || err->kind == ERROR_PERMANENT)
            return FAILED; /* our own time is over, or it would not help */
    }
    return FAILED;
}

enum result scanner_ask(const struct scanner *scanner, scanner_talk *talk, void *arg,
                        struct error *err)
{
    struct breaker *breaker = state_breaker(scanner->state, scanner->server->name);
    if (breaker_admit(breaker, err) != OK)
        return FAILED;
    int64_t begun_ns = clock_monotonic_ns();
    bool reached = false;
    enum result result = ask(scanner, talk, arg, &reached, err);
    breaker_settle(breaker, begun_ns, reached ? scanner->about : 0, result == OK ? NULL : err);
    return result;
}

/* ---- the message and the answer ---- */

enum result scanner_write_content(struct stream *stream, const struct mail_content *content,
                                  scanner_frame *frame, struct error *err)
{
    return scanner_write_part(stream, content, mail_content_size(content), frame, err);
}

enum result scanner_write_part(struct stream *stream, const struct mail_content *content,
                               uint64_t size, scanner_frame *frame, struct error *err)
{
    char *space = memory_alloc(PIECE);
    enum result result = OK;
    for (uint64_t at = 0; at < size && result == OK;) {
        struct str piece;
        size_t want = size - at < PIECE ? (size_t)(size - at) : PIECE;
        result = mail_content_read(content, at, want, space, &piece, err);
        if (result == OK && piece.len == 0)
            result = fail(err, ERROR_PERMANENT, "the message is shorter than it was");
        if (result == OK && frame)
            result = frame(stream, piece.len, err);
        if (result == OK)
            result = stream_write(stream, piece, err);
        at += piece.len;
    }
    free(space);
    return result;
}

enum result scanner_read_all(struct stream *stream, int until, size_t max, struct arena *arena,
                             struct str *out, struct error *err)
{
    struct buf text BUF_CLEANUP;
    bool end = false;
    buf_init(&text, max);
    while (!end) {
        if (stream_fill(stream, PIECE, &end, err) != OK)
            return FAILED;
        struct str piece = stream_buffered(stream);
        ptrdiff_t at = until >= 0 ? str_find(piece, (char)until) : -1;
        buf_append(&text, at >= 0 ? str_slice(piece, 0, (size_t)at) : piece);
        stream_consume(stream, piece.len);
        if (text.overflow)
            return fail(err, ERROR_PROTOCOL, "the answer is longer than %zu bytes", max);
        end = end || at >= 0;
    }
    *out = arena_str(arena, buf_str(&text));
    return OK;
}
