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
#include <sys/socket.h>
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
    char enhanced[MAIL_ENHANCED_TEXT];
    event_emit(EVENT_SESSION_LIMIT, F_C(REF, ref.chars),
               F_C(LIMIT, listener_full ? "sessions" : "sessions_per_client"),
               F_C(REASON,
                   mail_reason_name(listener_full ? MAIL_REASON_OVERLOAD : MAIL_REASON_RATE_LIMIT)),
               F_INT(CODE, out_reply->code),
               F_STR(ENHANCED, mail_enhanced_text(out_reply->enhanced, enhanced)),
               F_STR(REPLY, out_reply->text));
}

static void tell_authentication(const struct session *session, const struct smtp_auth *auth,
                                struct str user, const struct flow_verdict *verdict,
                                struct str flow, const struct mail_reply *reply,
                                const struct mail_ref *ref)
{
    enum event_type type = verdict->kind == FLOW_ACCEPT   ? EVENT_AUTH_OK
                           : verdict->kind == FLOW_REJECT ? EVENT_AUTH_FAIL
                                                          : EVENT_AUTH_ERROR;
    const char *reason = type == EVENT_AUTH_OK ? "" : mail_reason_name(verdict->reason);
    char enhanced[MAIL_ENHANCED_TEXT];
    const struct event_field fields[] = {
        F_STR(USER, user),
        F_STR(MECHANISM, auth->mechanism),
        F_STR(FLOW, flow),
        F_STR(STEP, verdict->step),
        F_C(BLOCK, verdict->block ? verdict->block : ""),
        F_C(REASON, reason),
        F_C(REF, ref ? ref->chars : ""),
        F_STR(DETAIL, verdict->detail),
        F_STR(HELO, smtp_session_peer(session->smtp)->helo),
        F_INT(CODE, reply ? reply->code : 0),
        F_STR(ENHANCED, reply ? mail_enhanced_text(reply->enhanced, enhanced) : STR_EMPTY),
        F_STR(REPLY, reply ? reply->text : STR_EMPTY),
    };
    enum { ALL = sizeof fields / sizeof *fields, OF_REPLY = 3 };
    event_emit_fields(type, fields, reply ? ALL : ALL - OF_REPLY);
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
        tell_authentication(session, auth, user, &verdict, flow_name(flow), NULL, NULL);
    } else {
        struct mail_ref ref;
        *out_reply = session_with_ref(session, verdict.reply, &ref);
        answer = verdict.kind == FLOW_REJECT ? SMTP_AUTH_NO : SMTP_AUTH_LATER;
        tell_authentication(session, auth, user, &verdict, flow_name(flow), out_reply, &ref);
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

/* The reply with its ref, told as an event. */
static void defer_message(struct session *session, struct mail_reply reply, const char *command,
                          const char *reason, const char *detail, struct mail_reply *out_reply)
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    struct mail_ref ref;
    char enhanced[MAIL_ENHANCED_TEXT];
    *out_reply = session_with_ref(session, reply, &ref);
    event_emit(EVENT_MESSAGE_DEFERRED, F_C(REF, ref.chars), F_C(COMMAND, command),
               F_C(REASON, reason), F_C(DETAIL, detail), F_INT(CODE, out_reply->code),
               F_STR(ENHANCED, mail_enhanced_text(out_reply->enhanced, enhanced)),
               F_STR(REPLY, out_reply->text), F_STR(USER, peer->user), F_STR(HELO, peer->helo));
}

/* Sessions that were open when the account was contained: what they sent is held, and no more is
 * taken; the mail of a false alarm comes again. */
static bool is_contained(struct session *session, struct mail_reply *out_reply)
{
    const struct smtp_peer *peer = smtp_session_peer(session->smtp);
    if (!peer->authenticated ||
        !incidents_contains(session->worker->gateway->incidents, peer->user, NULL))
        return false;
    defer_message(
        session,
        mail_reply_of(450, 4, 7, 1, STR("This account is on hold, please ask your administrator")),
        "MAIL", "contained", "the account is contained", out_reply);
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
        defer_message(session, mail_reply_of(452, 4, 3, 1, STR("Insufficient system storage")),
                      "MAIL", "overload", "the spool has no room", out_reply);
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
    session->answered = true;
    if (intake_finish(session->intake, &body, &err) != OK) {
        defer_message(session, mail_reply_of(452, 4, 3, 1, STR("Insufficient system storage")), "",
                      "overload", err.text, out_reply);
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

/* Of a client who hung up, or changed his mind: what was accepted has an end, too. */
static void tell_aborted(const struct session *session, const struct smtp_session *smtp)
{
    const char *why = smtp_session_why(smtp);
    const struct smtp_peer *peer = smtp_session_peer(smtp);
    event_emit(EVENT_MESSAGE_ABORTED, F_C(WHY, why ? why : "the client began anew"),
               F_INT(RECIPIENTS, session->domain_count),
               F_INT(SIZE, session->intake ? session->intake->size : 0), F_STR(HELO, peer->helo));
}

static void on_reset(void *context, struct smtp_session *smtp)
{
    struct session *session = context;
    if (session->message_events.count && session->domain_count && !session->answered)
        tell_aborted(session, smtp);
    session->answered = false;
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
    if (reply->code == 421 || str_starts(command, STR("DATA")) || str_starts(command, STR("BDAT")))
        session->answered = true;
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

void session_refuse_socket(const struct session_socket *socket, struct str listener,
                           const char *limit, const char *detail)
{
    static const char text[] = "Too many connections, try again later";
    char line[128];
    char client[NET_IP_TEXT];
    struct mail_ref ref = mail_ref_new();
    struct mail_id_text id = mail_id_text(mail_id_new());
    int len = snprintf(line, sizeof line, "421 4.3.2 %s (ref %s)\r\n", text, ref.chars);
    (void)!send(socket->fd, line, (size_t)len, MSG_NOSIGNAL);
    event_emit(EVENT_SESSION_LIMIT, F_C(SESSION, id.chars), F_STR(LISTENER, listener),
               F_STR(CLIENT, net_ip_format(&socket->peer.ip, client)), F_C(REF, ref.chars),
               F_C(LIMIT, limit), F_C(REASON, "overload"), F_C(DETAIL, detail), F_INT(CODE, 421),
               F_C(ENHANCED, "4.3.2"), F_C(REPLY, text));
    event_emit(EVENT_SESSION_CLOSE, F_C(SESSION, id.chars), F_STR(LISTENER, listener),
               F_STR(CLIENT, str_c(client)), F_C(WHY, "too many connections"));
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
        session_refuse_socket(socket, session->listener->name, "fibers", err.text);
        if (session->stream)
            stream_close(take(session->stream));
        else
            close(socket->fd);
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
