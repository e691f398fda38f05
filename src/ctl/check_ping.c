/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/check_ping.c - the shortest polite conversation with a backend: is it there? */
#include "content/clamd.h"
#include "content/milter.h"
#include "content/scanner.h"
#include "ctl/check.h"

enum { ANSWER_MAX = 8192, SMTPS_PORT = 465 };

struct ping {
    const char *command; /* NULL: the server speaks first */
    size_t command_len;
    const char *expected; /* stands somewhere in the answer */
    int until;
    const char *farewell;
    struct arena *arena;
    struct str words;
};

static enum result talk(struct stream *stream, const struct server_endpoint *endpoint, void *arg,
                        struct error *err) MAY_YIELD
{
    (void)endpoint;
    struct ping *ping = arg;
    if (ping->command &&
        (stream_write(stream, str_of(ping->command, ping->command_len), err) != OK ||
         stream_flush(stream, err) != OK))
        return FAILED;
    if (scanner_read_all(stream, ping->until, ANSWER_MAX, ping->arena, &ping->words, err) != OK)
        return FAILED;
    ping->words = str_trim(ping->words);
    if (str_find_str(ping->words, str_c(ping->expected)) < 0)
        return fail(err, ERROR_TEMPORARY, "it said \"%.*s\"",
                    STR_ARG(str_slice(ping->words, 0, 150)));
    if (ping->farewell) {
        struct error ignored;
        (void)!(stream_write(stream, str_c(ping->farewell), &ignored) == OK &&
                stream_flush(stream, &ignored) == OK);
    }
    return OK;
}

static enum result greet_milter(struct stream *stream, const struct server_endpoint *endpoint,
                                void *arg, struct error *err) MAY_YIELD
{
    struct ping *ping = arg;
    unsigned version;
    if (milter_greet(stream, endpoint, &version, err) != OK)
        return FAILED;
    ping->words = arena_printf(ping->arena, "it speaks version %u", version);
    return OK;
}

static enum result connect_only(struct stream *stream, const struct server_endpoint *endpoint,
                                void *arg, struct error *err) MAY_YIELD
{
    (void)stream, (void)endpoint, (void)err;
    struct ping *ping = arg;
    ping->words = STR("it takes connections");
    return OK;
}

#define COMMAND(text) .command = (text), .command_len = sizeof(text) - 1
static struct ping ping_of(enum server_kind kind)
{
    switch (kind) {
    case SERVER_CLAMD:
        return (struct ping){COMMAND("zPING\0"), .expected = "PONG", .until = '\0'};
    case SERVER_RSPAMD:
        return (struct ping){COMMAND("GET /ping HTTP/1.0\r\nConnection: close\r\n\r\n"),
                             .expected = "pong", .until = -1};
    case SERVER_SPAMD:
        return (struct ping){COMMAND("PING SPAMC/1.2\r\n\r\n"), .expected = "PONG", .until = -1};
    default:
        return (struct ping){.expected = "220", .until = '\n', .farewell = "QUIT\r\n"};
    }
}

enum result check_ping(const struct server *server, const struct resolver *resolver,
                       struct state *state, struct arena *arena, struct str *out_words,
                       struct error *err)
{
    bool is_mail = server->kind == SERVER_SMTP || server->kind == SERVER_LMTP;
    bool is_open = server->kind == SERVER_MILTER || server->kind == SERVER_HTTP;
    struct server asked = *server;
    struct ping ping = ping_of(server->kind);
    ping.arena = arena;
    if (is_mail && (server->tls == SERVER_TLS_NONE || !server->endpoint_count ||
                    server->endpoints[0].port != SMTPS_PORT))
        asked.tls_context = NULL; /* STARTTLS is for later */
    struct scanner scanner = {.server = &asked, .state = state, .resolver = resolver};
    scanner_talk *ask = server->kind == SERVER_MILTER ? greet_milter
                        : server->kind == SERVER_HTTP ? connect_only
                                                      : talk;
    if (scanner_ask(&scanner, ask, &ping, err) != OK)
        return FAILED;
    bool is_greeting = is_mail && str_starts(ping.words, STR("220"));
    *out_words = is_mail || is_open ? ping.words : STR("PONG");
    return is_greeting || !is_mail ? OK
                                   : fail(err, ERROR_TEMPORARY, "it said \"%.*s\"",
                                          STR_ARG(str_slice(ping.words, 0, 150)));
}

/* ---- does a scanner find what every scanner finds? ---- */

enum result check_test_virus(const struct server *server, const struct resolver *resolver,
                             struct state *state, struct arena *arena, bool *out_found,
                             struct str *out_name, struct error *err)
{
    /* EICAR's test file, which harms nobody; in two pieces, or scanners would find it in here */
    static const char one[] = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-";
    static const char two[] = "ANTIVIRUS-TEST-FILE!$H+H*\r\n";
    struct scanner scanner = {.server = server, .state = state, .resolver = resolver};
    struct clamd_answer answer = {.name = STR_EMPTY};
    struct body *body = body_memory_new(sizeof one + sizeof two);
    enum result result = body_append(body, str_c(one), err);
    if (result == OK)
        result = body_append(body, str_c(two), err);
    const struct mail_content content = {.head = STR_EMPTY, .body = body};
    if (result == OK)
        result = clamd_scan(&scanner, &content, arena, &answer, err);
    body_unref(body);
    *out_found = result == OK && answer.result == CLAMD_FOUND;
    *out_name = answer.name;
    return result;
}
