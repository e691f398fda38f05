/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/callout.h"

#include "base/check.h"
#include "net/dns.h"

#include <stdio.h>

enum {
    ADDRESSES_MAX = 4, /* of one endpoint's name */
    SMTPS_PORT = 465,  /* implicit TLS (RFC 8314) */
};

static const int64_t DEFAULT_TIMEOUT_NS = 30 * NS_PER_S;

int64_t callout_deadline(const struct server *server)
{
    return clock_deadline(server->timeout_ns ? server->timeout_ns : DEFAULT_TIMEOUT_NS);
}

/* One attempt at a conversation. */
struct opening {
    struct directory *directory;
    const struct server *server;
    const struct server_endpoint *endpoint;
    bool for_login;
    bool no_tls; /* STARTTLS failed, and it was only opportunistic */
};

/* ---- TLS ---- */

static bool wants_tls(const struct opening *opening)
{
    return opening->server->tls != SERVER_TLS_NONE && opening->server->tls_context &&
           !opening->no_tls;
}

static bool needs_tls(const struct opening *opening)
{
    const struct server *server = opening->server;
    if (server->tls == SERVER_TLS_REQUIRED || server->tls == SERVER_TLS_VERIFIED)
        return true;
    /* `tls: none` written out is the operator's permission to send passwords in clear */
    return opening->for_login && !(server->tls == SERVER_TLS_NONE && server->tls_given);
}

/* ---- the phases ---- */

static enum result refused(const char *phase, const struct mail_reply *reply, struct error *err)
{
    return fail(err, ERROR_TEMPORARY, "%s was answered with %u %.*s", phase, reply->code,
                STR_ARG(str_slice(reply->text, 0, 150)));
}

static enum result hello(const struct opening *opening, struct smtp_client *client,
                         struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (smtp_client_hello(client, str_c(opening->directory->helo_name), &reply, err) != OK)
        return FAILED;
    return mail_reply_is_positive(&reply) ? OK : refused("EHLO", &reply, err);
}

/* `*out_failed`: the handshake failed, so the connection is lost. */
static enum result start_tls(const struct opening *opening, struct smtp_client *client,
                             bool *out_failed, struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (!wants_tls(opening) || !(smtp_client_extensions(client) & SMTP_EXT_STARTTLS))
        return OK;
    if (smtp_client_starttls(client, opening->server->tls_context, opening->endpoint->host, &reply,
                             err) != OK) {
        *out_failed = true;
        return fail_context(err, "TLS");
    }
    if (!mail_reply_is_positive(&reply))
        return needs_tls(opening) ? refused("STARTTLS", &reply, err) : OK;
    return hello(opening, client, err);
}

static enum result check_fit(const struct opening *opening, struct smtp_client *client,
                             struct error *err)
{
    const unsigned mechanisms = SMTP_EXT_AUTH_PLAIN | SMTP_EXT_AUTH_LOGIN;
    if (needs_tls(opening) && !stream_tls_info(smtp_client_stream(client))->active)
        return fail(err, ERROR_TEMPORARY, "the server does not offer TLS, which %s needs",
                    opening->for_login ? "a login" : "this entry");
    if (opening->for_login && !(smtp_client_extensions(client) & mechanisms))
        return fail(err, ERROR_TEMPORARY, "the server offers neither AUTH PLAIN nor AUTH LOGIN");
    return OK;
}

static enum result converse(const struct opening *opening, struct smtp_client *client,
                            bool *out_tls_failed, struct error *err) MAY_YIELD
{
    struct mail_reply reply;
    if (smtp_client_greeting(client, &reply, err) != OK)
        return FAILED;
    if (!mail_reply_is_positive(&reply))
        return refused("the connection", &reply, err);
    if (hello(opening, client, err) != OK || start_tls(opening, client, out_tls_failed, err) != OK)
        return FAILED;
    return check_fit(opening, client, err);
}

static enum result connect_to(const struct opening *opening, const struct net_address *address,
                              struct smtp_client **out_client, bool *out_tls_failed,
                              struct error *err) MAY_YIELD
{
    struct stream *stream;
    if (stream_connect(address, NULL, &stream, err) != OK)
        return FAILED;
    if (address->port == SMTPS_PORT && wants_tls(opening) &&
        stream_tls_connect(stream, opening->server->tls_context, opening->endpoint->host, err) !=
            OK) {
        stream_close(stream);
        return fail_context(err, "TLS");
    }
    struct smtp_client *client =
        smtp_client_new(stream, /* lmtp= */ opening->server->kind == SERVER_LMTP);
    if (converse(opening, client, out_tls_failed, err) != OK) {
        smtp_client_quit(client);
        return FAILED;
    }
    *out_client = client;
    return OK;
}

/* ---- endpoints ---- */

/* Where an endpoint is: its socket, its literal address, or what DNS says. */
static enum result resolve(const struct opening *opening, struct arena *arena,
                           struct net_address addresses[static ADDRESSES_MAX], size_t *out_count,
                           struct error *err) MAY_YIELD
{
    const struct server_endpoint *endpoint = opening->endpoint;
    struct dns_address_answer answer;
    struct net_ip ip;
    if (endpoint->unix_path.len) {
        *out_count = 1;
        if (!str_to_c(endpoint->unix_path, addresses[0].unix_path, sizeof addresses[0].unix_path))
            return fail(err, ERROR_PERMANENT, "the path of the socket is too long");
        return OK;
    }
    if (net_ip_parse(endpoint->host, &ip)) {
        addresses[0] = (struct net_address){.ip = ip, .port = endpoint->port};
        *out_count = 1;
        return OK;
    }
    if (dns_query_addresses(opening->directory->dns, endpoint->host, arena, &answer, err) != OK)
        return FAILED;
    if (answer.status != DNS_FOUND || !answer.count)
        return fail(err, ERROR_TEMPORARY, "the name has no address");
    *out_count = answer.count < ADDRESSES_MAX ? answer.count : ADDRESSES_MAX;
    for (size_t i = 0; i < *out_count; i++)
        addresses[i] = (struct net_address){.ip = answer.ips[i], .port = endpoint->port};
    return OK;
}

static enum result try_endpoint(struct opening *opening, struct smtp_client **out_client,
                                struct error *err) MAY_YIELD
{
    struct net_address addresses[ADDRESSES_MAX] = {0};
    size_t count = 0;
    struct arena *arena = arena_new(0);
    enum result result = resolve(opening, arena, addresses, &count, err);
    arena_free(arena);
    if (result != OK)
        return FAILED;
    result = FAILED;
    for (size_t i = 0; i < count && result != OK; i++) {
        bool tls_failed = false;
        opening->no_tls = false;
        result = connect_to(opening, &addresses[i], out_client, &tls_failed, err);
        if (result != OK && tls_failed && !needs_tls(opening)) {
            opening->no_tls = true;
            result = connect_to(opening, &addresses[i], out_client, &tls_failed, err);
        }
        if (result != OK && fiber_check(NULL) != OK)
            break;
    }
    return result;
}

/* This endpoint's share of the time that is left, so that one that does not answer leaves some for
 * the next. */
static int64_t share(int64_t deadline_ns, size_t endpoints_left)
{
    int64_t left = deadline_ns - clock_monotonic_ns();
    return left > 0 ? clock_deadline(left / (int64_t)endpoints_left) : deadline_ns;
}

enum result callout_open(struct directory *directory, const struct server *server, bool for_login,
                         struct smtp_client **out_client, struct error *err)
{
    int64_t deadline_ns = callout_deadline(server);
    (void)fail(err, ERROR_PERMANENT, "the server has no endpoint");
    for (size_t i = 0; i < server->endpoint_count; i++) {
        struct opening opening = {
            .directory = directory,
            .server = server,
            .endpoint = &server->endpoints[i],
            .for_login = for_login,
        };
        struct scope scope;
        scope_open(&scope, share(deadline_ns, server->endpoint_count - i));
        enum result result = try_endpoint(&opening, out_client, err);
        scope_close(&scope);
        if (result == OK)
            return OK;
        const struct server_endpoint *endpoint = opening.endpoint;
        if (endpoint->unix_path.len)
            (void)fail_context(err, "%.*s", STR_ARG(endpoint->unix_path));
        else
            (void)fail_context(err, "%.*s port %u", STR_ARG(endpoint->host), endpoint->port);
        if (fiber_check(NULL) != OK)
            return FAILED; /* our own time is over or we were cancelled: no further endpoint */
    }
    return FAILED;
}

/* ---- what replies mean ---- */

static bool is_enhanced(const struct mail_reply *reply, unsigned subject, unsigned detail)
{
    return reply->enhanced.class == 5 && reply->enhanced.subject == subject &&
           reply->enhanced.detail == detail;
}

enum directory_login callout_judge_login(const struct mail_reply *auth)
{
    if (auth->code == 235)
        return DIRECTORY_YES;
    if (auth->code == 535 || auth->code == 525)
        return DIRECTORY_NO;
    if (mail_reply_is_permanent(auth) && (is_enhanced(auth, 7, 8) || is_enhanced(auth, 7, 13)))
        return DIRECTORY_NO;
    return DIRECTORY_LOGIN_ERROR;
}

enum directory_lookup callout_judge_lookup(const struct mail_reply *mail,
                                           const struct mail_reply *rcpt)
{
    if (!mail_reply_is_positive(mail))
        return DIRECTORY_ERROR;
    if (mail_reply_is_positive(rcpt))
        return DIRECTORY_FOUND;
    if (!mail_reply_is_permanent(rcpt) || rcpt->code == 552)
        return DIRECTORY_ERROR;
    if (rcpt->enhanced.class == 0)
        return rcpt->code == 550 || rcpt->code == 551 || rcpt->code == 553 ? DIRECTORY_MISSING
                                                                           : DIRECTORY_DENIED;
    return rcpt->enhanced.subject == 1 || is_enhanced(rcpt, 4, 1) ? DIRECTORY_MISSING
                                                                  : DIRECTORY_DENIED;
}
