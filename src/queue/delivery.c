/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/delivery.c - connect, greet, secure, log in, send: for one entry.
 */
#include "queue/delivery.h"

#include "base/check.h"
#include "base/memory.h"
#include "mail/seven_bit.h"
#include "queue/route.h"

#include <string.h>

enum {
    CONNECT_S = 30,
    PROBE_S = 25,         /* all hosts: within what an operator waits */
    PER_CONNECTION = 100, /* messages, then a new one: spreads load over the peer's hosts */
    CONNECTION_S = 300,
    ROUNDS_MAX = 50, /* transactions for one entry on one connection */
};

static int64_t us_since(int64_t start_ns)
{
    return (clock_monotonic_ns() - start_ns) / NS_PER_US;
}

/* ---- the connection ---- */

void queue_connection_close(struct queue_connection *connection, const struct queue *queue,
                            bool politely)
{
    if (connection->client == NULL)
        return;
    if (politely)
        smtp_client_quit(take(connection->client));
    else
        smtp_client_abort(take(connection->client));
    queue->handler.release_snapshot(queue->handler.context, connection->snapshot);
    *connection = (struct queue_connection){0};
}

bool queue_connection_check(struct queue_connection *connection, const struct queue *queue,
                            const struct queue_snapshot *snapshot)
{
    if (connection->client == NULL)
        return false;
    bool usable = connection->snapshot == snapshot && connection->messages < PER_CONNECTION &&
                  clock_monotonic_ns() - connection->opened_ns < CONNECTION_S * NS_PER_S &&
                  stream_seems_idle_alive(smtp_client_stream(connection->client));
    if (!usable)
        queue_connection_close(connection, queue, true);
    return usable;
}

/* ---- what is said ---- */

/* All that are still open heard this last. */
static void say_to_open(struct queue_attempt *attempt, const struct mail_reply *reply,
                        struct str mta)
{
    struct queue_said said = {.reply = mail_reply_copy(attempt->arena, reply),
                              .mta = arena_str(attempt->arena, mta)};
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (attempt->results[i].verdict == QUEUE_VERDICT_OPEN)
            attempt->results[i].said = said;
}

static void note_error(struct queue_attempt *attempt, const struct queue_target *target,
                       const struct error *error, unsigned subject, unsigned detail)
{
    struct mail_reply reply = {
        .enhanced = {4, (unsigned short)subject, (unsigned short)detail},
        .text = arena_printf(attempt->arena, "%.*s: %s", STR_ARG(target->host), error->text)};
    say_to_open(attempt, &reply, STR_EMPTY);
    if (!attempt->reached)
        (void)fail(&attempt->error, error->kind, "%.*s: %s", STR_ARG(target->host), error->text);
}

static void note_refusal(struct queue_attempt *attempt, const struct queue_target *target,
                         const char *command, const struct mail_reply *reply)
{
    say_to_open(attempt, reply, target->host);
    if (!attempt->reached)
        (void)fail(&attempt->error, ERROR_TEMPORARY, "%.*s: %s: %u %.*s", STR_ARG(target->host),
                   command, reply->code, STR_ARG(reply->text));
}

static size_t count_open(const struct queue_attempt *attempt)
{
    size_t open = 0;
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        open += attempt->record.status[i] == QUEUE_STATUS_PENDING &&
                attempt->results[i].verdict == QUEUE_VERDICT_OPEN;
    return open;
}

/* ---- opening ---- */

struct opening {
    struct queue_attempt *attempt;
    const struct queue_target *target;
    struct smtp_client *client;
    int policy; /* enum server_tls */
    struct tls_context *context;
    bool plain;     /* do not try TLS: it just failed here */
    bool try_plain; /* out: TLS failed, and clear text is allowed */
    struct str tls, cipher;
};

static enum result open_stream(struct opening *opening, struct error *err) MAY_YIELD
{
    struct queue_attempt *attempt = opening->attempt;
    struct net_ip source;
    bool has_source = attempt->transport->source_address.len > 0 &&
                      net_ip_parse(attempt->transport->source_address, &source) &&
                      source.family == opening->target->address.ip.family;
    struct stream *stream = NULL;
    struct scope scope;
    int64_t start_ns = clock_monotonic_ns();
    scope_open(&scope, clock_deadline(CONNECT_S * NS_PER_S));
    enum result result =
        stream_connect(&opening->target->address, has_source ? &source : NULL, &stream, err);
    scope_close(&scope);
    attempt->times.connect_us += us_since(start_ns);
    if (result == FAILED)
        return FAILED;
    opening->client = smtp_client_new(stream, attempt->transport->method == TRANSPORT_LMTP);
    smtp_client_ignore(opening->client, attempt->transport->ignored_extensions);
    return OK;
}

static bool hello(struct opening *opening, struct error *err, bool *out_failed) MAY_YIELD
{
    struct queue_attempt *attempt = opening->attempt;
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    struct str name = attempt->transport->helo.len > 0 ? attempt->transport->helo
                                                       : handler->hostname(attempt->snapshot);
    struct mail_reply reply;
    *out_failed = smtp_client_hello(opening->client, name, &reply, err) == FAILED;
    if (*out_failed)
        return false;
    if (!mail_reply_is_positive(&reply))
        note_refusal(attempt, opening->target, "EHLO", &reply);
    return mail_reply_is_positive(&reply);
}

static bool greet(struct opening *opening) MAY_YIELD
{
    struct queue_attempt *attempt = opening->attempt;
    struct mail_reply reply;
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    bool failed = smtp_client_greeting(opening->client, &reply, &err) == FAILED;
    bool good = false;
    if (!failed && !mail_reply_is_positive(&reply))
        note_refusal(attempt, opening->target, "greeting", &reply);
    else if (!failed)
        good = hello(opening, &err, &failed);
    if (failed)
        note_error(attempt, opening->target, &err, 4, 2);
    attempt->times.greeting_us += us_since(start_ns);
    return good;
}

/* The policy demands TLS and there is none. */
static bool refuse_clear(struct opening *opening, const char *why)
{
    struct error err;
    (void)fail(&err, ERROR_TEMPORARY, "%s, and the policy demands TLS", why);
    note_error(opening->attempt, opening->target, &err, 7, 10);
    return false;
}

static bool tls_failed(struct opening *opening, const struct error *err)
{
    struct queue_attempt *attempt = opening->attempt;
    note_error(attempt, opening->target, err, 7, 5);
    if (err->kind == ERROR_PROTOCOL)
        attempt->no_plain = true; /* bytes behind the 220: somebody is in the line */
    opening->try_plain = opening->policy == SERVER_TLS_OPPORTUNISTIC && !attempt->no_plain &&
                         err->kind != ERROR_CANCELLED;
    return false;
}

static bool secure(struct opening *opening) MAY_YIELD
{
    struct queue_attempt *attempt = opening->attempt;
    bool demanded = opening->policy >= SERVER_TLS_REQUIRED;
    struct mail_reply reply;
    struct error err;
    if (opening->policy == SERVER_TLS_NONE || opening->plain || opening->context == NULL)
        return !demanded || refuse_clear(opening, "no TLS context");
    if ((smtp_client_extensions(opening->client) & SMTP_EXT_STARTTLS) == 0)
        return !demanded || refuse_clear(opening, "STARTTLS is not offered");
    int64_t start_ns = clock_monotonic_ns();
    enum result result = smtp_client_starttls(opening->client, opening->context,
                                              opening->target->host, &reply, &err);
    attempt->times.tls_us += us_since(start_ns);
    if (result == FAILED)
        return tls_failed(opening, &err);
    if (!mail_reply_is_positive(&reply)) {
        if (demanded)
            note_refusal(attempt, opening->target, "STARTTLS", &reply);
        return !demanded;
    }
    const struct stream_tls_info *info = stream_tls_info(smtp_client_stream(opening->client));
    opening->tls = info->version;
    opening->cipher = info->cipher;
    bool failed;
    bool good = hello(opening, &err, &failed);
    if (failed)
        return tls_failed(opening, &err);
    return good;
}

/* Credentials go over TLS only, unless `tls: none` was written out. */
static bool log_in(struct opening *opening) MAY_YIELD
{
    struct queue_attempt *attempt = opening->attempt;
    const struct server *server = attempt->transport->server;
    struct mail_reply reply;
    struct error err;
    if (attempt->transport->method == TRANSPORT_LOOKUP_MX || server->user.len == 0)
        return true;
    bool allowed = opening->tls.len > 0 || (server->tls_given && server->tls == SERVER_TLS_NONE);
    if (!allowed)
        return refuse_clear(opening, "the login would go in clear text");
    if (smtp_client_auth(opening->client, server->user, server->password, &reply, &err) == FAILED) {
        note_error(attempt, opening->target, &err, 4, 2);
        return false;
    }
    if (mail_reply_is_positive(&reply))
        return true;
    if (reply.code == 0) {
        (void)fail(&err, ERROR_TEMPORARY, "no AUTH mechanism in common");
        note_error(attempt, opening->target, &err, 7, 8);
    } else {
        note_refusal(attempt, opening->target, "AUTH", &reply);
    }
    return false;
}

static void keep(struct opening *opening, struct queue_connection *connection)
{
    struct queue_attempt *attempt = opening->attempt;
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    *connection = (struct queue_connection){
        .client = take(opening->client),
        .snapshot = handler->take_snapshot(handler->context),
        .peer = opening->target->address,
        .opened_ns = clock_monotonic_ns(),
        .tls = opening->tls,
        .cipher = opening->cipher,
        .policy = server_tls_name((enum server_tls)opening->policy),
    };
    (void)str_to_c(opening->target->host, connection->host, sizeof connection->host);
    (void)net_ip_format(&stream_local(smtp_client_stream(connection->client))->ip,
                        connection->source);
    attempt->reached = true;
}

static bool open_once(struct opening *opening, struct queue_connection *connection) MAY_YIELD
{
    struct error err;
    if (open_stream(opening, &err) == FAILED) {
        note_error(opening->attempt, opening->target, &err, 4, 1);
        return false;
    }
    if (greet(opening) && secure(opening) && log_in(opening)) {
        keep(opening, connection);
        return true;
    }
    smtp_client_abort(take(opening->client));
    return false;
}

static bool open_target(struct queue_attempt *attempt, const struct queue_target *target,
                        struct queue_connection *connection) MAY_YIELD
{
    const struct transport *transport = attempt->transport;
    bool by_server = transport->method != TRANSPORT_LOOKUP_MX;
    struct opening opening = {
        .attempt = attempt,
        .target = target,
        .policy = by_server ? transport->server->tls : transport->tls,
        .context = by_server ? transport->server->tls_context : transport->tls_context,
    };
    if (open_once(&opening, connection))
        return true;
    if (!opening.try_plain)
        return false;
    opening.plain = true;
    opening.tls = STR_EMPTY;
    opening.cipher = STR_EMPTY;
    return open_once(&opening, connection);
}

/* ---- sending ---- */

static bool is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 0x80)
            return false;
    return true;
}

/* The texts live as long as the attempt, and recipients share them. */
static void decide(struct queue_attempt *attempt, size_t index, enum queue_verdict verdict,
                   struct mail_reply reply, struct str mta)
{
    struct queue_result *result = &attempt->results[index];
    result->verdict = verdict;
    result->said = (struct queue_said){.reply = reply, .mta = mta};
}

static bool is_open(const struct queue_attempt *attempt, size_t index)
{
    return attempt->record.status[index] == QUEUE_STATUS_PENDING &&
           attempt->results[index].verdict == QUEUE_VERDICT_OPEN;
}

static void fail_open(struct queue_attempt *attempt, struct mail_reply reply)
{
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (is_open(attempt, i))
            decide(attempt, i, QUEUE_VERDICT_FAILED, reply, STR_EMPTY);
}

/* RFC 6531: what the peer cannot take fails, recipient by recipient (5.6.7) or whole (5.6.9). */
static void check_utf8(struct queue_attempt *attempt)
{
    if (attempt->meta.flags & QUEUE_META_HEADER_UTF8)
        fail_open(attempt, mail_reply_of(550, 5, 6, 9,
                                         STR("the header needs SMTPUTF8, which the next host does "
                                             "not offer")));
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (is_open(attempt, i) && !(is_ascii(attempt->meta.sender.address) &&
                                     is_ascii(attempt->meta.recipients[i].address)))
            decide(attempt, i, QUEUE_VERDICT_FAILED,
                   mail_reply_of(553, 5, 6, 7,
                                 STR("an address needs SMTPUTF8, which the next host does not "
                                     "offer")),
                   STR_EMPTY);
}

static void fail_eight_bit(struct queue_attempt *attempt, const char *why)
{
    fail_open(attempt,
              mail_reply_of(554, 5, 6, 3,
                            arena_printf(attempt->arena,
                                         "the next host takes 7-bit mail only, and this message "
                                         "has 8-bit text%s%s",
                                         why ? ": " : "", why ? why : "")));
}

/* RFC 6152: 8-bit text for a host that did not offer 8BITMIME goes as the transport says. */
static void fit_seven_bit(struct queue_attempt *attempt) MAY_YIELD
{
    const char *why = NULL;
    struct error err;
    if (attempt->transport->eight_bit == TRANSPORT_EIGHT_BIT_FAIL)
        fail_eight_bit(attempt, NULL);
    if (attempt->transport->eight_bit != TRANSPORT_EIGHT_BIT_CONVERT)
        return;
    if (!attempt->seven_bit.body &&
        mail_to_seven_bit(attempt->arena, &attempt->content, &attempt->seven_bit, &why, &err) != OK)
        why = "it cannot be read now";
    if (why)
        fail_eight_bit(attempt, why);
    else
        attempt->as_seven_bit = true;
}

static const struct mail_content *sent_form(const struct queue_attempt *attempt)
{
    return attempt->as_seven_bit ? &attempt->seven_bit : &attempt->content;
}

/* What the host cannot take is found before anything is said. */
static void check_form(struct queue_attempt *attempt, const struct smtp_client *client) MAY_YIELD
{
    unsigned extensions = smtp_client_extensions(client);
    uint64_t max_size = smtp_client_max_size(client);
    attempt->as_seven_bit = false;
    if ((extensions & SMTP_EXT_SMTPUTF8) == 0)
        check_utf8(attempt);
    if ((attempt->meta.flags & QUEUE_META_HAS_8BIT) && (extensions & SMTP_EXT_8BITMIME) == 0)
        fit_seven_bit(attempt);
    uint64_t size = mail_content_size(sent_form(attempt));
    if (max_size > 0 && size > max_size)
        fail_open(
            attempt,
            mail_reply_of(552, 5, 3, 4,
                          arena_printf(attempt->arena,
                                       "the message has %llu bytes, the next host takes %llu",
                                       (unsigned long long)size, (unsigned long long)max_size)));
}

/* The next transaction: those that are open and were not in this pass already. */
struct transaction {
    struct smtp_client_recipient *recipients;
    size_t *index; /* in the entry */
    size_t count, cap;
    bool needs_smtputf8;
};

static void fill(struct queue_attempt *attempt, struct transaction *transaction,
                 const struct smtp_client *client, bool *tried)
{
    int64_t limit = smtp_client_max_recipients(client);
    size_t max = limit > 0 && (uint64_t)limit < transaction->cap ? (size_t)limit : transaction->cap;
    bool utf8 = (attempt->meta.flags & QUEUE_META_HEADER_UTF8) != 0 ||
                !is_ascii(attempt->meta.sender.address);
    transaction->count = 0;
    for (size_t i = 0; i < attempt->meta.recipient_count && transaction->count < max; i++) {
        if (!is_open(attempt, i) || tried[i])
            continue;
        const struct mail_recipient *recipient = &attempt->meta.recipients[i];
        utf8 |= !is_ascii(recipient->address);
        tried[i] = true;
        transaction->index[transaction->count] = i;
        transaction->recipients[transaction->count++] =
            (struct smtp_client_recipient){.recipient = recipient};
    }
    transaction->needs_smtputf8 = utf8;
}

/* Returns how many were accepted; those that were too many may be tried again when some were. */
static size_t judge(struct queue_attempt *attempt, const struct transaction *transaction,
                    const struct queue_connection *connection, bool *tried)
{
    static const enum queue_stage stages[] = {QUEUE_STAGE_MAIL, QUEUE_STAGE_RCPT, QUEUE_STAGE_DATA,
                                              QUEUE_STAGE_END};
    bool dsn = (smtp_client_extensions(connection->client) & SMTP_EXT_DSN) != 0;
    struct str mta = arena_str(attempt->arena, str_c(connection->host));
    size_t accepted = 0;
    for (size_t i = 0; i < transaction->count; i++)
        accepted += transaction->recipients[i].accepted;
    for (size_t i = 0; i < transaction->count; i++) {
        const struct smtp_client_recipient *heard = &transaction->recipients[i];
        struct queue_result *result = &attempt->results[transaction->index[i]];
        enum queue_stage stage = stages[heard->stage];
        enum queue_outcome outcome =
            heard->accepted ? QUEUE_OUTCOME_DELIVERED : queue_outcome_of(stage, &heard->reply);
        enum queue_verdict verdict = QUEUE_VERDICT_OPEN;
        if (outcome == QUEUE_OUTCOME_DELIVERED)
            verdict = QUEUE_VERDICT_DELIVERED;
        else if (outcome == QUEUE_OUTCOME_FAILED)
            verdict = QUEUE_VERDICT_FAILED;
        else if (outcome == QUEUE_OUTCOME_RETRY)
            verdict = QUEUE_VERDICT_DEFERRED;
        if (accepted > 0 && queue_outcome_too_many(stage, &heard->reply)) {
            verdict = QUEUE_VERDICT_OPEN;
            tried[transaction->index[i]] = false;
        }
        result->told_onward = dsn && attempt->transport->method != TRANSPORT_LMTP;
        if (heard->reply.code != 0)
            decide(attempt, transaction->index[i], verdict, heard->reply, mta);
        else
            result->verdict = verdict;
    }
    return accepted;
}

/* No reply came: those that were in the middle are deferred with this. */
static void say_lost(struct queue_attempt *attempt, const struct transaction *transaction,
                     const struct queue_connection *connection, const struct error *err)
{
    struct mail_reply reply = {.enhanced = {4, 4, 2},
                               .text =
                                   arena_printf(attempt->arena, "%s: the connection was lost: %s",
                                                connection->host, err->text)};
    for (size_t i = 0; i < transaction->count; i++)
        if (transaction->recipients[i].reply.code == 0)
            attempt->results[transaction->index[i]].said =
                (struct queue_said){.reply = reply, .mta = STR_EMPTY};
}

static bool nothing_heard(const struct transaction *transaction)
{
    for (size_t i = 0; i < transaction->count; i++)
        if (transaction->recipients[i].reply.code != 0 ||
            transaction->recipients[i].stage != SMTP_STAGE_MAIL)
            return false;
    return true;
}

/* "421 that was the last message on this connection": of others there may be more. */
static bool is_sent_off(const struct transaction *transaction)
{
    for (size_t i = 0; i < transaction->count; i++)
        if (transaction->recipients[i].reply.code != 421 ||
            transaction->recipients[i].stage != SMTP_STAGE_MAIL)
            return false;
    return true;
}

static bool is_closing(const struct transaction *transaction)
{
    for (size_t i = 0; i < transaction->count; i++)
        if (transaction->recipients[i].reply.code == 421)
            return true;
    return false;
}

/* Also of hosts that do not answer: whose outage is it? */
static void note_provider(struct queue_attempt *attempt, struct str host)
{
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    if (attempt->transport->method == TRANSPORT_LOOKUP_MX && handler->provider != NULL &&
        attempt->provider.len == 0)
        attempt->provider = handler->provider(attempt->snapshot, host);
}

static void note_peer(struct queue_attempt *attempt, const struct queue_connection *connection)
{
    note_provider(attempt, str_c(connection->host));
    memcpy(attempt->host, connection->host, sizeof attempt->host);
    memcpy(attempt->source, connection->source, sizeof attempt->source);
    attempt->peer = connection->peer;
    attempt->tls = connection->tls;
    attempt->cipher = connection->cipher;
    attempt->policy = connection->policy;
}

/* One transaction. False: the connection is gone. */
static bool transact(struct queue_attempt *attempt, struct transaction *transaction,
                     struct queue_connection *connection, bool *tried) MAY_YIELD
{
    const struct queue *queue = attempt->worker->queue;
    struct smtp_client_mail mail = {
        .sender = &attempt->meta.sender,
        .recipients = transaction->recipients,
        .recipient_count = transaction->count,
        .content = sent_form(attempt),
        .needs_smtputf8 = transaction->needs_smtputf8,
        .has_8bit = !attempt->as_seven_bit && (attempt->meta.flags & QUEUE_META_HAS_8BIT) != 0,
        .prefer_chunking = !attempt->no_chunking,
    };
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    enum result result = smtp_client_send(connection->client, &mail, attempt->arena, &err);
    attempt->times.transfer_us += us_since(start_ns);
    bool stale = connection->messages > 0 &&
                 ((result == FAILED && nothing_heard(transaction)) || is_sent_off(transaction));
    connection->messages++;
    if (stale) { /* kept too long: the peer had closed it; a new one is made for the same host */
        queue_connection_close(connection, queue, false);
        return false;
    }
    note_peer(attempt, connection);
    attempt->reached = true;
    attempt->no_chunking |= smtp_client_refused_chunking(connection->client);
    (void)judge(attempt, transaction, connection, tried);
    if (result == FAILED)
        say_lost(attempt, transaction, connection, &err);
    if (result == FAILED || is_closing(transaction)) {
        queue_connection_close(connection, queue, result == OK);
        return false;
    }
    return true;
}

static void send_over(struct queue_attempt *attempt, struct queue_connection *connection) MAY_YIELD
{
    size_t count = attempt->meta.recipient_count;
    struct transaction transaction = {
        .cap = count < QUEUE_RECIPIENTS_MAX ? count : QUEUE_RECIPIENTS_MAX,
        .recipients = arena_alloc_array(attempt->arena, count, sizeof *transaction.recipients),
        .index = arena_alloc_array(attempt->arena, count, sizeof *transaction.index),
    };
    bool *tried = arena_alloc_array(attempt->arena, count, sizeof(bool));
    check_form(attempt, connection->client);
    if (count_open(attempt) == 0)
        attempt->reached = true; /* the host is fine, the message does not fit it */
    for (int round = 0; round < ROUNDS_MAX; round++) {
        fill(attempt, &transaction, connection->client, tried);
        if (transaction.count == 0 || !transact(attempt, &transaction, connection, tried))
            return;
    }
}

/* ---- the attempt ---- */

static bool is_stopped(struct queue_attempt *attempt) MAY_YIELD
{
    struct error err;
    if (fiber_check(&err) == OK)
        return false;
    if (err.kind == ERROR_CANCELLED) {
        attempt->stopped = true;
    } else {
        struct mail_reply reply = {.enhanced = {4, 4, 7},
                                   .text = STR("the attempt took longer than attempt_timeout")};
        say_to_open(attempt, &reply, STR_EMPTY);
        if (!attempt->reached)
            (void)fail(&attempt->error, ERROR_TIMEOUT, "attempt_timeout passed");
    }
    return true;
}

static bool find_route(struct queue_attempt *attempt, struct queue_route *route) MAY_YIELD
{
    struct queue_worker *worker = attempt->worker;
    struct error err;
    int64_t start_ns = clock_monotonic_ns();
    enum result result = queue_route_find(worker->dns, &worker->queue->handler, attempt->snapshot,
                                          attempt->transport, attempt->meta.recipients[0].domain,
                                          attempt->arena, route, &err);
    attempt->times.dns_us += us_since(start_ns);
    if (result == FAILED)
        return false;
    if (route->status == QUEUE_ROUTE_FAILED) {
        attempt->reached = true; /* an answer, no trouble of the destination */
        fail_open(attempt, route->reply);
    } else if (route->status == QUEUE_ROUTE_RETRY) {
        say_to_open(attempt, &route->reply, STR_EMPTY);
        (void)fail(&attempt->error, ERROR_TEMPORARY, "%.*s", STR_ARG(route->reply.text));
    }
    return route->status == QUEUE_ROUTE_FOUND;
}

static bool same_address(const struct net_address *a, const struct net_address *b)
{
    return net_ip_equal(&a->ip, &b->ip) && a->port == b->port &&
           strcmp(a->unix_path, b->unix_path) == 0;
}

/* Twice, where its CHUNKING turned out to be none. */
static void try_target(struct queue_attempt *attempt, const struct queue_target *target,
                       struct queue_connection *connection) MAY_YIELD
{
    bool again;
    do {
        bool chunking = !attempt->no_chunking;
        if (!open_target(attempt, target, connection))
            return;
        send_over(attempt, connection);
        again = chunking && attempt->no_chunking && count_open(attempt) > 0;
    } while (again && !is_stopped(attempt));
}

static void deliver(struct queue_attempt *attempt, struct queue_connection *connection) MAY_YIELD
{
    const struct queue *queue = attempt->worker->queue;
    struct net_address used = {0};
    bool was_used = false;
    struct queue_route route;
    if (queue_connection_check(connection, queue, attempt->snapshot)) {
        used = connection->peer;
        send_over(attempt, connection);
        was_used = attempt->reached && !attempt->no_chunking;
    }
    if (count_open(attempt) == 0 || is_stopped(attempt) || !find_route(attempt, &route)) {
        (void)is_stopped(attempt);
        return;
    }
    if (route.count > 0)
        note_provider(attempt, route.targets[0].host);
    for (size_t i = 0; i < route.count && count_open(attempt) > 0; i++) {
        const struct queue_target *target = &route.targets[i];
        if (is_stopped(attempt))
            return;
        if (was_used && same_address(&used, &target->address))
            continue; /* it had its say */
        queue_connection_close(connection, queue, true);
        try_target(attempt, target, connection);
    }
    (void)is_stopped(attempt);
}

void queue_delivery_run(struct queue_attempt *attempt, struct queue_connection *connection)
{
    if (attempt->transport->method == TRANSPORT_DISCARD) {
        for (size_t i = 0; i < attempt->meta.recipient_count; i++)
            attempt->results[i].verdict = QUEUE_VERDICT_DISCARDED;
        attempt->reached = true;
        return;
    }
    struct scope scope;
    scope_open(&scope, clock_deadline(attempt->transport->attempt_timeout_ns));
    deliver(attempt, connection);
    scope_close(&scope);
    if (attempt->stopped)
        queue_connection_close(connection, attempt->worker->queue, false);
}

/* ---- a test of the way ---- */

static void probe_target(struct queue_attempt *attempt, const struct queue_target *target,
                         struct queue_probe_target *out) MAY_YIELD
{
    struct queue_connection connection = {0};
    char text[NET_ADDRESS_TEXT];
    attempt->times = (struct queue_times){0};
    attempt->reached = false;
    attempt->no_plain = false;
    out->host = arena_str(attempt->arena, target->host);
    out->address = arena_str(attempt->arena, net_address_format(&target->address, text));
    out->tls = out->cipher = out->problem = STR_EMPTY;
    out->ready = open_target(attempt, target, &connection);
    out->connect_us = attempt->times.connect_us;
    out->greeting_us = attempt->times.greeting_us;
    out->tls_us = attempt->times.tls_us;
    if (!out->ready) {
        out->problem = arena_str(attempt->arena, str_c(attempt->error.text));
        return;
    }
    out->tls = connection.tls;
    out->cipher = connection.cipher;
    queue_connection_close(&connection, attempt->worker->queue, true);
}

void queue_delivery_probe(struct queue_attempt *attempt, struct queue_probe *out)
{
    struct queue_route route;
    struct scope scope;
    if (attempt->transport->method == TRANSPORT_DISCARD)
        return;
    scope_open(&scope, clock_deadline(PROBE_S * NS_PER_S));
    bool found = find_route(attempt, &route);
    out->dns_us = attempt->times.dns_us;
    if (!found) {
        out->problem = attempt->results[0].said.reply.text;
    } else {
        out->targets = arena_alloc_array(attempt->arena, route.count + 1, sizeof *out->targets);
        while (out->count < route.count) {
            probe_target(attempt, &route.targets[out->count], &out->targets[out->count]);
            out->count++;
        }
    }
    scope_close(&scope);
}
