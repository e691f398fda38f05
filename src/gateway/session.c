/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/session.c - one client: a fiber that lends the SMTP server our decisions.
 */
#include "gateway/session.h"

#include "base/memory.h"
#include "flow/checks.h"
#include "gateway/loan.h"
#include "gateway/contain.h"
#include "gateway/replies.h"
#include "gateway/submission.h"
#include "net/dns.h"
#include "spool/spool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    NAME_TIMEOUT_S = 5,
    DELIVERY_FIBERS = 2048, /* that sessions leave alone, so that a storm of clients cannot stop
                               what takes mail away */
};

bool session_is_own_user(const struct session *session)
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    return peer->authenticated || peer->trusted;
}

void session_facts(struct session *session, struct flow_facts *out)
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    const struct mail_sender *sender = smtp_session_sender(session->smtp);
    *out = (struct flow_facts){
        .session = peer->id,
        .authenticated = peer->authenticated,
        .trusted = peer->trusted,
        .user = peer->user,
        .client = peer->client.ip,
        .client_name = peer->client_name,
        .helo = peer->helo,
        .tls = peer->tls && peer->tls->active ? peer->tls->version : STR_EMPTY,
        .cipher = peer->tls && peer->tls->active ? peer->tls->cipher : STR_EMPTY,
        .mechanism = peer->authenticated ? peer->mechanism : STR_EMPTY,
        .listener = session->listener->name,
        .own_addresses = session->own_addresses,
        .own_address_count = session->own_address_count,
    };
    if (sender) {
        ptrdiff_t at = str_find_last(sender->address, '@');
        out->sender = sender->address;
        out->sender_domain = at < 0 ? STR_EMPTY : str_from(sender->address, (size_t)at + 1);
        out->smtputf8 = sender->smtputf8;
        if (!session->checks)
            session->checks = ARENA_NEW(smtp_session_arena(session->smtp), struct flow_checks);
        out->checks = session->checks;
    }
}

struct mail_reply session_with_ref(struct session *session, struct mail_reply reply,
                                   struct mail_ref *out_ref)
{
    *out_ref = mail_ref_new();
    reply.text = arena_printf(smtp_session_arena(session->smtp), "%.*s (ref %s)",
                              STR_ARG(reply.text), out_ref->chars);
    return reply;
}

/* ---- what the SMTP server asks ---- */

static void on_connected(void *context, struct smtp_session *smtp, struct mail_reply *out_reply)
{
    struct session *session = context;
    session->smtp = smtp;
    const struct smtp_peer *peer = smtp_session_peer(smtp);
    net_ip_format(&peer->client.ip, session->client_text);
    session->name_asked = false;
    if (session->counted) /* XCLIENT brings us here again: the first address stays counted */
        return;
    const struct smtp_limits *limits = &session->listener->smtp.limits;
    enum occupancy_answer answer =
        occupancy_enter(session->worker->gateway->occupancy, session->listener->name,
                        &peer->client.ip, limits->sessions, limits->sessions_per_client);
    if (answer == OCCUPANCY_OK) {
        session->counted = true;
        session->counted_ip = peer->client.ip;
        return;
    }
    bool listener_full = answer == OCCUPANCY_LISTENER_FULL;
    struct mail_ref ref;
    *out_reply = session_with_ref(
        session,
        mail_reply_of(421, 4, 7, 0,
                      listener_full ? STR("Too many connections, try again later")
                                    : STR("Too many connections from your network")),
        &ref);
    event_emit(EVENT_SESSION_LIMIT, F_C(REF, ref.chars),
               F_C(LIMIT, listener_full ? "sessions" : "sessions_per_client"),
               F_C(REASON, mail_reason_name(listener_full ? MAIL_REASON_OVERLOAD
                                                          : MAIL_REASON_RATE_LIMIT)));
}

static void tell_authentication(const struct session *session, const struct smtp_auth *auth,
                                struct str user, const struct flow_verdict *verdict,
                                struct str flow, const struct mail_ref *ref)
{
    enum event_type type = verdict->kind == FLOW_ACCEPT   ? EVENT_AUTH_OK
                           : verdict->kind == FLOW_REJECT ? EVENT_AUTH_FAIL
                                                          : EVENT_AUTH_ERROR;
    const char *reason = type == EVENT_AUTH_OK ? "" : mail_reason_name(verdict->reason);
    event_emit(type, F_STR(USER, user), F_STR(MECHANISM, auth->mechanism), F_STR(FLOW, flow),
               F_STR(STEP, verdict->step), F_C(BLOCK, verdict->block ? verdict->block : ""),
               F_C(REASON, reason), F_C(REF, ref ? ref->chars : ""), F_STR(DETAIL, verdict->detail),
               F_STR(HELO, smtp_session_peer(session->smtp)->helo));
}

static void keep_own_addresses(struct session *session, const struct flow_verdict *verdict)
{
    struct arena *arena = smtp_session_long_arena(session->smtp);
    session->own_address_count = verdict->own_address_count;
    session->own_addresses =
        arena_alloc_array(arena, verdict->own_address_count, sizeof(struct str));
    for (size_t i = 0; i < verdict->own_address_count; i++)
        session->own_addresses[i] = arena_str(arena, verdict->own_addresses[i]);
}

/* Said only to who knows the password: RFC 5248 has 525 and 5.7.13 for an account that was
 * disabled, so that a program asks the user for help and not for another password. */
static bool is_on_hold(struct session *session, struct str user, struct flow_verdict *verdict)
{
    int64_t number;
    if (!incidents_contains(session->worker->gateway->incidents, user, &number))
        return false;
    verdict->kind = FLOW_REJECT;
    verdict->reason = MAIL_REASON_CONTAINED;
    verdict->reply =
        mail_reply_of(525, 5, 7, 13, STR("This account is on hold, please ask your administrator"));
    verdict->detail = arena_printf(smtp_session_arena(session->smtp), "contained by incident %lld",
                                   (long long)number);
    return true;
}

NO_YIELD_CHECK static enum smtp_auth_verdict on_authenticate(void *context,
                                                             struct smtp_session *smtp,
                                                             const struct smtp_auth *auth,
                                                             struct mail_reply *out_reply)
{
    struct session *session = context;
    struct arena *arena = arena_new(0);
    struct flow_facts facts;
    session_facts(session, &facts);
    struct loan loan;
    loan_init(&loan, session->worker, session->settings, arena, &facts);
    struct flow_verdict verdict = {0};
    const struct flow *flow = session->listener->authentication;
    flow_run_authentication(flow, &loan.run, auth->login, auth->password, &verdict);
    enum smtp_auth_verdict answer = SMTP_AUTH_YES;
    struct str user = verdict.account.len ? verdict.account : auth->login;
    if (verdict.kind == FLOW_ACCEPT && !is_on_hold(session, user, &verdict)) {
        keep_own_addresses(session, &verdict);
        smtp_session_set_account(smtp, user);
        tell_authentication(session, auth, user, &verdict, flow_name(flow), NULL);
    } else {
        struct mail_ref ref;
        *out_reply = session_with_ref(session, verdict.reply, &ref);
        answer = verdict.kind == FLOW_REJECT ? SMTP_AUTH_NO : SMTP_AUTH_LATER;
        tell_authentication(session, auth, user, &verdict, flow_name(flow), &ref);
    }
    arena_free(arena);
    return answer;
}

/* Public clients are asked for their name once, at their first MAIL; private addresses have none.
 */
static void ask_client_name(struct session *session) MAY_YIELD
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    if (session->name_asked || peer->client_name.len || net_ip_is_private(&peer->client.ip))
        return;
    session->name_asked = true;
    struct arena *arena = arena_new(64 * 1024);
    struct scope scope;
    enum dns_status status;
    struct str name;
    scope_open(&scope, clock_deadline(NAME_TIMEOUT_S * NS_PER_S));
    if (dns_query_client_name(session->worker->dns, &peer->client.ip, arena, &status, &name,
                              NULL) == OK &&
        status == DNS_FOUND)
        smtp_session_set_client_name(session->smtp, name);
    scope_close(&scope);
    arena_free(arena);
}

/* From here on each event of the transaction tells which message it is about. */
static void name_message(struct session *session)
{
    struct event_context *events = &session->message_events;
    session->message = mail_id_new();
    session->message_text = mail_id_text(session->message);
    if (events->count == 0)
        events->outer = fiber_context();
    events->count = 1;
    events->fields[0] = F_C(MESSAGE, session->message_text.chars);
    fiber_set_context(events);
}

/* Sessions that were open when the account was contained: what they sent is held, and no more is
 * taken; the mail of a false alarm comes again. */
static bool is_contained(struct session *session, struct mail_reply *out_reply)
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    struct mail_ref ref;
    if (!peer->authenticated ||
        !incidents_contains(session->worker->gateway->incidents, peer->user, NULL))
        return false;
    *out_reply = session_with_ref(
        session,
        mail_reply_of(450, 4, 7, 1, STR("This account is on hold, please ask your administrator")),
        &ref);
    event_emit(EVENT_MESSAGE_DEFERRED, F_C(REF, ref.chars), F_C(COMMAND, "MAIL"),
               F_C(REASON, "contained"), F_C(DETAIL, "the account is contained"),
               F_STR(USER, peer->user), F_STR(HELO, peer->helo));
    return true;
}

NO_YIELD_CHECK static void on_mail(void *context, struct smtp_session *smtp,
                                   const struct mail_sender *sender,
                                   const struct mail_address *address, struct mail_reply *out_reply)
{
    struct session *session = context;
    (void)smtp;
    (void)sender;
    (void)address;
    if (!spool_has_room(session->worker->gateway->spool)) {
        struct mail_ref ref;
        *out_reply = session_with_ref(
            session, mail_reply_of(452, 4, 3, 1, STR("Insufficient system storage")), &ref);
        event_emit(EVENT_MESSAGE_DEFERRED, F_C(REF, ref.chars), F_C(COMMAND, "MAIL"),
                   F_C(REASON, "overload"), F_C(DETAIL, "the spool has no room"),
                   F_STR(HELO, smtp_session_peer(session->smtp)->helo));
        return;
    }
    if (is_contained(session, out_reply))
        return;
    ask_client_name(session);
    name_message(session);
    *out_reply = mail_reply_of(250, 2, 1, 0, STR("Ok"));
}

NO_YIELD_CHECK static void on_recipient(void *context, struct smtp_session *smtp,
                                        const struct mail_address *address,
                                        struct mail_recipient *recipient,
                                        struct mail_reply *out_reply)
{
    (void)smtp;
    session_recipient(context, address, recipient, out_reply);
}

static struct body *on_begin_data(void *context, struct smtp_session *smtp,
                                  struct mail_reply *out_reply)
{
    struct session *session = context;
    (void)smtp;
    (void)out_reply;
    struct gateway *gateway = session->worker->gateway;
    /* the server owns the reference it gets; ours finds the body again at the end of data */
    session->intake = intake_new(gateway->spool, &session->worker->intake);
    return body_ref(session->intake);
}

/* Who a sender's share of a destination is counted for; a login in whatever case is one user. */
static struct str fairness_key(struct session *session, const struct smtp_peer *peer)
{
    struct arena *arena = smtp_session_arena(session->smtp);
    if (peer->user.len)
        return arena_lower(arena, peer->user);
    char text[NET_IP_TEXT];
    struct net_network network = net_client_network(&peer->client.ip);
    return arena_str(arena, net_ip_format(&network.ip, text));
}

static void fill_trace(struct session *session, const struct smtp_peer *peer,
                       const struct smtp_message *message, struct trace_facts *out)
{
    *out = (struct trace_facts){
        .hostname = session->settings->hostname,
        .helo = peer->helo,
        .client_name = peer->client_name,
        .client_ip = str_c(session->client_text),
        .hide_client = session->listener->hide_client && session_is_own_user(session),
        .esmtp = peer->esmtp,
        .tls = peer->tls && peer->tls->active,
        .authenticated = peer->authenticated,
        .smtputf8 = message->sender->smtputf8,
        .message = session->message,
        .recipient = message->recipient_count == 1 ? message->recipients[0].address : STR_EMPTY,
        .own_user = session_is_own_user(session),
    };
}

NO_YIELD_CHECK static void on_message(void *context, struct smtp_session *smtp,
                                      const struct smtp_message *message,
                                      struct mail_reply *out_reply)
{
    struct session *session = context;
    const struct smtp_peer *peer = smtp_session_peer(smtp);
    struct body *body = NULL;
    struct error err;
    if (intake_finish(session->intake, &body, &err) != OK) {
        struct mail_ref ref;
        *out_reply = session_with_ref(
            session, mail_reply_of(452, 4, 3, 1, STR("Insufficient system storage")), &ref);
        event_emit(EVENT_MESSAGE_DEFERRED, F_C(REF, ref.chars), F_C(REASON, "overload"),
                   F_C(DETAIL, err.text), F_STR(HELO, peer->helo));
        return;
    }
    struct flow_facts facts;
    session_facts(session, &facts);
    struct submission submission = {
        .worker = session->worker,
        .settings = session->settings,
        .arena = smtp_session_arena(smtp),
        .facts = &facts,
        .message = session->message,
        .sender = message->sender,
        .recipients = message->recipients,
        .domains = session->domains,
        .transports = session->transports,
        .recipient_count = message->recipient_count,
        .body = body,
        .header_length = message->header_length,
        .has_8bit = message->has_8bit,
        .own_user = session_is_own_user(session),
        .fairness_key = fairness_key(session, peer),
        .queued = session->listener->queued,
        .direct_timeout_ns = session->listener->direct_timeout_ns,
    };
    fill_trace(session, peer, message, &submission.trace);
    submission_run(&submission, out_reply);
    body_unref(body);
}

static void on_reset(void *context, struct smtp_session *smtp)
{
    struct session *session = context;
    (void)smtp;
    if (session->message_events.count) {
        session->message_events.count = 0;
        fiber_set_context(session->message_events.outer);
    }
    body_unref(take(session->intake));
    session->domains = NULL;
    session->transports = NULL;
    session->checks = NULL;
    session->domain_count = session->domain_cap = 0;
    session->asked_name = STR_EMPTY;
}

static void on_refused(void *context, struct smtp_session *smtp, struct str command,
                       enum mail_reason reason, struct mail_reply *reply)
{
    struct session *session = context;
    struct mail_ref ref;
    char enhanced[MAIL_ENHANCED_TEXT];
    *reply = session_with_ref(session, *reply, &ref);
    event_emit(EVENT_SESSION_PROTOCOL, F_C(REF, ref.chars), F_STR(COMMAND, command),
               F_C(REASON, mail_reason_name(reason)), F_INT(CODE, reply->code),
               F_STR(ENHANCED, mail_enhanced_text(reply->enhanced, enhanced)),
               F_STR(REPLY, reply->text), F_STR(HELO, smtp_session_peer(smtp)->helo));
}

static void on_ended(void *context, const struct smtp_replies *replies)
{
    struct session *session = context;
    replies_add(session->worker->gateway->replies, session->listener->name, replies);
}

static const struct smtp_handler handler = {
    .connected = on_connected,
    .authenticate = on_authenticate,
    .mail = on_mail,
    .recipient = on_recipient,
    .begin_data = on_begin_data,
    .message = on_message,
    .reset = on_reset,
    .refused = on_refused,
    .ended = on_ended,
};

/* ---- the fiber ---- */

static void forget(struct session *session)
{
    struct worker *worker = session->worker;
    body_unref(session->intake);
    if (session->counted)
        occupancy_leave(worker->gateway->occupancy, session->listener->name, &session->counted_ip);
    list_remove(&session->in_worker);
    atomic_fetch_sub_explicit(&worker->session_count, 1, memory_order_relaxed);
    settings_unref(session->settings);
    free(session);
}

NO_YIELD_CHECK static void run(void *arg)
{
    struct session *session = arg;
    snprintf(session->revision_text, sizeof session->revision_text, "r%u",
             session->settings->revision);
    session->revision_events.outer = fiber_context();
    session->revision_events.fields[session->revision_events.count++] =
        F_C(REVISION, session->revision_text);
    fiber_set_context(&session->revision_events);
    scope_open(&session->scope, TIME_NEVER);
    smtp_server_run(&session->listener->smtp, &handler, session, session->stream,
                    &session->worker->gateway->draining);
    session->smtp = NULL;
    scope_close(&session->scope);
    stream_close(take(session->stream));
    fiber_set_context(session->revision_events.outer);
    forget(session);
}

static enum result open_socket(struct session *session, const struct session_socket *socket,
                               struct error *err)
{
    const struct net_address *local = socket->local.ip.family ? &socket->local : NULL;
    if (loop_fibers_left(session->worker->loop) <= DELIVERY_FIBERS)
        return fail(err, ERROR_LIMIT, "the last fibers are for deliveries");
    return stream_open_accepted(socket->fd, &socket->peer, local, &session->stream, err);
}

void session_start(struct worker *worker, const struct settings *settings,
                   const struct session_socket *socket, size_t listener_index)
{
    struct session *session = NEW(struct session);
    *session = (struct session){
        .worker = worker,
        .settings = settings_ref(settings),
        .listener = &settings->listeners[listener_index],
    };
    list_append(&worker->open_sessions, &session->in_worker);
    atomic_fetch_add_explicit(&worker->session_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&worker->gateway->sessions_total, 1, memory_order_relaxed);
    struct error err = {.text = "the worker stops"};
    if (worker->left || open_socket(session, socket, &err) != OK ||
        fiber_spawn(&worker->sessions, "session", run, session, &err) != OK) {
        static const char busy[] = "421 4.3.2 Too many connections, try again later\r\n";
        ssize_t ignored = write(socket->fd, busy, sizeof busy - 1);
        (void)ignored;
        if (session->stream)
            stream_close(take(session->stream));
        else
            close(socket->fd);
        event_emit(EVENT_SESSION_LIMIT, F_STR(LISTENER, session->listener->name),
                   F_C(LIMIT, "fibers"), F_C(REASON, "overload"), F_C(DETAIL, err.text));
        forget(session);
    }
}

void session_end_idle(struct worker *worker)
{
    LIST_EACH (&worker->open_sessions, link) {
        struct session *session = CONTAINER(link, struct session, in_worker);
        if (session->smtp && smtp_session_is_idle(session->smtp))
            scope_cancel(&session->scope);
    }
}
