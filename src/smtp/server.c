/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server.c - the life of a session: greeting, commands by their table, end.
 *
 * What each verb does is in its own file; what may come when is in the table here.
 */
#include "smtp/server_internal.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- what a session holds ---- */

const struct smtp_peer *smtp_session_peer(const struct smtp_session *session)
{
    return &session->peer;
}

struct arena *smtp_session_arena(struct smtp_session *session)
{
    if (!session->arena)
        session->arena = arena_new(ARENA_MAX);
    return session->arena;
}

struct arena *smtp_session_long_arena(struct smtp_session *session)
{
    if (!session->long_arena)
        session->long_arena = arena_new(LONG_ARENA_MAX);
    return session->long_arena;
}

void smtp_session_set_client_name(struct smtp_session *session, struct str name)
{
    session->peer.client_name = arena_str(smtp_session_long_arena(session), name);
}

const struct mail_sender *smtp_session_sender(const struct smtp_session *session)
{
    return &session->sender;
}

bool smtp_session_is_own(const struct smtp_session *session)
{
    return session->peer.authenticated || session->peer.trusted;
}

bool smtp_session_mends(const struct smtp_session *session)
{
    switch (session->settings->line_endings) {
    case SMTP_LINES_REJECT:
        return false;
    case SMTP_LINES_NORMALISE:
        return true;
    default:
        return smtp_session_is_own(session);
    }
}

bool smtp_session_is_tls(const struct smtp_session *session)
{
    return session->peer.tls && session->peer.tls->active;
}

static void set_events(struct smtp_session *session)
{
    struct event_context *events = &session->events;
    events->count = 0;
    events->fields[events->count++] = F_C(SESSION, session->id_text.chars);
    events->fields[events->count++] = F_STR(LISTENER, session->settings->listener);
    events->fields[events->count++] = F_C(CLIENT, session->client_text);
    if (session->peer.authenticated)
        events->fields[events->count++] = F_STR(USER, session->peer.user);
}

static void format_client(struct smtp_session *session)
{
    const struct net_address *client = &session->peer.client;
    if (client->ip.family) {
        (void)net_ip_format(&client->ip, session->client_text);
        return;
    }
    (void)net_address_format(client, session->client_text);
}

void smtp_session_set_client(struct smtp_session *session)
{
    const struct smtp_server_settings *settings = session->settings;
    struct smtp_peer *peer = &session->peer;
    const struct net_ip *ip = &peer->client.ip;
    format_client(session);
    /* a front end that names itself as its client (a health check) names nobody */
    bool is_front = net_networks_have(settings->proxy_from, settings->proxy_from_count, ip) ||
                    net_networks_have(settings->xclient_from, settings->xclient_from_count, ip);
    peer->trusted = !peer->via_proxy && !is_front &&
                    net_networks_have(settings->trusted, settings->trusted_count, ip);
    set_events(session);
}

void smtp_session_set_user(struct smtp_session *session, struct str user, struct str mechanism)
{
    session->peer.authenticated = true;
    session->peer.user = arena_str(smtp_session_long_arena(session), user);
    session->peer.mechanism = mechanism;
    set_events(session);
}

void smtp_session_set_account(struct smtp_session *session, struct str name)
{
    session->account = arena_str(smtp_session_long_arena(session), name);
}

void smtp_session_reset(struct smtp_session *session)
{
    bool used = session->in_transaction || (session->arena && arena_used(session->arena) > 0);
    if (used && session->handler->reset)
        session->handler->reset(session->context, session);
    body_unref(take(session->body));
    session->in_transaction = false;
    session->sender = (struct mail_sender){.address = STR_EMPTY, .envid = STR_EMPTY};
    session->recipients = NULL;
    session->recipient_count = session->recipient_room = 0;
    session->recipient_domain = STR_EMPTY;
    session->chunks = CHUNK_NONE;
    session->body_failed = false;
    if (session->arena)
        arena_clear(session->arena);
}

void smtp_session_forget(struct smtp_session *session)
{
    smtp_session_reset(session);
    session->hello = false;
    session->peer.helo = STR_EMPTY;
    session->peer.esmtp = false;
    session->peer.authenticated = false;
    session->peer.user = STR_EMPTY;
    session->peer.mechanism = STR_EMPTY;
    set_events(session);
}

void smtp_session_end(struct smtp_session *session, const char *why)
{
    if (!session->closing)
        session->why = why;
    session->closing = true;
}

/* ---- commands ---- */

enum verb_flags {
    BEFORE_HELLO = 1 << 0,        /* may come before EHLO or HELO */
    BEFORE_TLS = 1 << 1,          /* may come in clear on a listener that requires TLS */
    NO_ARGUMENT = 1 << 2,         /* takes none */
    LAST_IN_GROUP = 1 << 3,       /* nothing may be pipelined behind it: the client cannot know
                                     what its next bytes will mean */
    OUTSIDE_TRANSACTION = 1 << 4, /* may not come between MAIL and the end of data */
    IN_TRANSACTION = 1 << 5,      /* comes only there */
    COUNTS_ITSELF = 1 << 6,       /* is bounded by a limit of its own, not by `commands` */
    HAS_CHUNK = 1 << 7,           /* octets follow, whatever the answer: checks itself */
};

static const struct {
    void (*run)(struct smtp_session *session, struct str arguments);
    unsigned flags;
    enum smtp_answered answered;
} verbs[SMTP_VERB_COUNT] = {
    [SMTP_VERB_UNKNOWN] = {smtp_server_not_implemented, 0, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_HELO] = {smtp_server_helo, BEFORE_HELLO | BEFORE_TLS, SMTP_ANSWERED_HELO},
    [SMTP_VERB_EHLO] = {smtp_server_hello, BEFORE_HELLO | BEFORE_TLS, SMTP_ANSWERED_HELO},
    [SMTP_VERB_STARTTLS] = {smtp_server_starttls,
                            BEFORE_HELLO | BEFORE_TLS | NO_ARGUMENT | LAST_IN_GROUP,
                            SMTP_ANSWERED_STARTTLS},
    [SMTP_VERB_AUTH] = {smtp_server_auth, LAST_IN_GROUP | OUTSIDE_TRANSACTION, SMTP_ANSWERED_AUTH},
    [SMTP_VERB_MAIL] = {smtp_server_mail, OUTSIDE_TRANSACTION, SMTP_ANSWERED_MAIL},
    [SMTP_VERB_RCPT] = {smtp_server_rcpt, IN_TRANSACTION | COUNTS_ITSELF, SMTP_ANSWERED_RCPT},
    [SMTP_VERB_DATA] = {smtp_server_data, IN_TRANSACTION | NO_ARGUMENT | LAST_IN_GROUP,
                        SMTP_ANSWERED_DATA},
    [SMTP_VERB_BDAT] = {smtp_server_bdat, HAS_CHUNK | COUNTS_ITSELF, SMTP_ANSWERED_DATA},
    [SMTP_VERB_RSET] = {smtp_server_rset, BEFORE_HELLO | NO_ARGUMENT, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_NOOP] = {smtp_server_noop, BEFORE_HELLO | BEFORE_TLS, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_QUIT] = {smtp_server_quit, BEFORE_HELLO | BEFORE_TLS | NO_ARGUMENT,
                        SMTP_ANSWERED_OTHER},
    [SMTP_VERB_VRFY] = {smtp_server_vrfy, 0, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_EXPN] = {smtp_server_not_implemented, BEFORE_HELLO, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_HELP] = {smtp_server_help, BEFORE_HELLO, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_ETRN] = {smtp_server_not_implemented, BEFORE_HELLO, SMTP_ANSWERED_OTHER},
    [SMTP_VERB_XCLIENT] = {smtp_server_xclient, BEFORE_HELLO | BEFORE_TLS | OUTSIDE_TRANSACTION,
                           SMTP_ANSWERED_OTHER},
    [SMTP_VERB_HTTP] = {NULL, 0, SMTP_ANSWERED_OTHER},
};

static MAY_YIELD void refuse_unknown(struct smtp_session *session)
{
    session->unknown++;
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 500, 5, 1, "Command not recognized");
    if (session->unknown < UNKNOWN_MAX || session->closing)
        return;
    smtp_session_tell_protocol(session, "unknown commands");
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 421, 7, 0, "Too many unknown commands");
    smtp_session_end(session, "protocol");
}

static MAY_YIELD void refuse_http(struct smtp_session *session)
{
    /* one who made a browser speak to us learns nothing and gets nothing in */
    session->command = STR("HTTP");
    smtp_session_tell_protocol(session, "HTTP request");
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 421, 7, 0, "This is not a web server");
    smtp_session_end(session, "protocol");
}

bool smtp_session_may_run(struct smtp_session *session, enum smtp_verb verb, struct mail_reply *out,
                          enum mail_reason *out_reason)
{
    unsigned flags = verbs[verb].flags;
    *out_reason = MAIL_REASON_PROTOCOL;
    if (session->settings->tls == SMTP_TLS_REQUIRED && !smtp_session_is_tls(session) &&
        !(flags & BEFORE_TLS)) {
        *out_reason = MAIL_REASON_TLS_REQUIRED;
        *out = mail_reply_of(530, 5, 7, 0, STR("Must issue a STARTTLS command first"));
    } else if (!session->hello && !(flags & BEFORE_HELLO))
        *out = mail_reply_of(503, 5, 5, 1, STR("Send EHLO first"));
    else if ((flags & OUTSIDE_TRANSACTION) && session->in_transaction)
        *out = mail_reply_of(503, 5, 5, 1, STR("Not inside of a mail transaction"));
    else if ((flags & IN_TRANSACTION) && !session->in_transaction)
        *out = mail_reply_of(503, 5, 5, 1, STR("Need MAIL first"));
    else
        return true;
    return false;
}

/* Nothing may stand behind the command; false: it was refused. Looking for it may move the input,
 * so slices of the line are stale afterwards. */
static MAY_YIELD bool check_last(struct smtp_session *session)
{
    if (!smtp_session_has_more_input(session))
        return true;
    smtp_session_tell_protocol(session, "input behind the command");
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 554, 5, 1,
                             "Input behind a command that must be last");
    smtp_session_end(session, "protocol");
    return false;
}

static MAY_YIELD void run_command(struct smtp_session *session, const struct smtp_command *command)
{
    unsigned flags = verbs[command->verb].flags;
    struct mail_reply fault;
    enum mail_reason reason;
    if (!(flags & HAS_CHUNK) && !smtp_session_may_run(session, command->verb, &fault, &reason)) {
        smtp_session_refuse(session, reason, fault);
        return;
    }
    if ((flags & NO_ARGUMENT) && command->arguments.len) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4,
                                 "Command takes no arguments");
        return;
    }
    if (!(flags & COUNTS_ITSELF))
        session->commands++;
    verbs[command->verb].run(session, command->arguments);
}

/* The name for events. A password may stand behind AUTH, and be what an unknown command consists
 * of, when a client went on with AUTH after it was refused. */
static struct str shown_command(const struct smtp_command *command, struct str line)
{
    bool secret = command->verb == SMTP_VERB_AUTH || command->verb == SMTP_VERB_UNKNOWN;
    return secret ? smtp_verb_name(command->verb) : line;
}

static MAY_YIELD void obey(struct smtp_session *session, struct smtp_command command)
{
    if (command.verb == SMTP_VERB_HTTP) {
        refuse_http(session);
    } else if (command.verb == SMTP_VERB_UNKNOWN) {
        refuse_unknown(session);
    } else if (verbs[command.verb].flags & LAST_IN_GROUP) {
        size_t len = session->line_len;
        session->command = smtp_verb_name(command.verb);
        if (!check_last(session))
            return;
        struct str line = str_slice(stream_buffered(session->stream), 0, len);
        command = smtp_command_parse(line);
        run_command(session, &command);
    } else
        run_command(session, &command);
}

static MAY_YIELD void handle_line(struct smtp_session *session, struct str line)
{
    struct smtp_command command = smtp_command_parse(line);
    bool secret = command.verb == SMTP_VERB_AUTH || command.verb == SMTP_VERB_UNKNOWN;
    session->command = shown_command(&command, line);
    session->line_len = line.len;
    session->answering = verbs[command.verb].answered;
    obey(session, command);
    if (secret)
        smtp_session_wipe_line(session);
    else
        smtp_session_consume_line(session);
    session->command = STR_EMPTY;
    session->answering = SMTP_ANSWERED_OTHER;
}

static MAY_YIELD void check_counts(struct smtp_session *session)
{
    const struct smtp_limits *limits = &session->settings->limits;
    if (session->closing)
        return;
    const char *limit = NULL;
    if (limits->errors && session->errors >= limits->errors)
        limit = "errors";
    else if (limits->commands && session->commands >= limits->commands)
        limit = "commands";
    if (!limit)
        return;
    smtp_session_tell_limit(session, limit, limit[0] == 'e' ? session->errors : session->commands);
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 421, 7, 0,
                             limit[0] == 'e' ? "Too many errors" : "Too many commands");
    smtp_session_end(session, limit);
}

const char *smtp_session_why(const struct smtp_session *session)
{
    return session->why;
}

bool smtp_session_is_idle(const struct smtp_session *session)
{
    return session->idle;
}

static MAY_YIELD void converse(struct smtp_session *session)
{
    struct str line;
    while (!session->closing) {
        if (session->draining && !session->in_transaction &&
            atomic_load_explicit(session->draining, memory_order_relaxed)) {
            smtp_session_refuse_with(session, MAIL_REASON_ADMIN, 421, 3, 2,
                                     "Service shutting down");
            smtp_session_end(session, "shutdown");
            return;
        }
        session->idle = !session->in_transaction;
        bool read = smtp_session_read_line(session, 0, &line);
        session->idle = false;
        if (!read)
            return;
        handle_line(session, line);
        check_counts(session);
        /* texts of refusals outside of a transaction do not pile up */
        if (!session->in_transaction && session->arena && arena_used(session->arena) > 0)
            smtp_session_reset(session);
    }
}

/* ---- begin and end ---- */

static struct smtp_session *open_session(const struct smtp_server_settings *settings,
                                         const struct smtp_handler *handler, void *context,
                                         struct stream *stream)
{
    struct smtp_session *session = NEW(struct smtp_session);
    session->settings = settings;
    session->handler = handler;
    session->context = context;
    session->stream = stream;
    session->command = session->account = STR_EMPTY;
    session->start_ns = clock_monotonic_ns();
    session->end_ns = clock_deadline(settings->limits.session_timeout_ns);
    session->peer = (struct smtp_peer){
        .id = mail_id_new(),
        .client = *stream_peer(stream),
        .local = *stream_local(stream),
        .client_name = STR_EMPTY,
        .helo = STR_EMPTY,
        .user = STR_EMPTY,
        .mechanism = STR_EMPTY,
        .tls = stream_tls_info(stream),
    };
    session->id_text = mail_id_text(session->peer.id);
    session->events.outer = fiber_context();
    smtp_session_reset(session);
    return session;
}

/* Before the greeting. False: no conversation. */
static MAY_YIELD bool prepare(struct smtp_session *session)
{
    const struct smtp_server_settings *settings = session->settings;
    const struct net_ip *ip = &session->peer.client.ip;
    if (net_networks_have(settings->proxy_from, settings->proxy_from_count, ip) &&
        !smtp_server_proxy(session))
        return false;
    session->may_xclient =
        !session->peer.via_proxy &&
        net_networks_have(settings->xclient_from, settings->xclient_from_count, ip);
    /* a proxy speaks for others: its own address gives no rights */
    if (session->may_xclient)
        session->peer.via_proxy = true;
    smtp_session_set_client(session);
    event_emit(EVENT_SESSION_OPEN, F_INT(CLIENT_PORT, session->peer.client.port));
    return settings->tls != SMTP_TLS_IMPLICIT || smtp_server_tls(session);
}

/* A socket closed over unread input is reset, and a reset may overtake the reply: take the input of
 * a client who was cut off while he was sending, until he goes, for a second at most. */
static MAY_YIELD void linger(struct smtp_session *session)
{
    struct error err;
    bool end = false;
    size_t left = 4 * INPUT_MAX;
    stream_end_output(session->stream); /* a client who waits for our end need not wait longer */
    do {
        size_t len = stream_buffered(session->stream).len;
        session->line_size = len;
        smtp_session_wipe_line(session);
        left -= len < left ? len : left;
    } while (left && !end && stream_fill(session->stream, INPUT_MAX, &end, &err) == OK);
}

/* The last replies still go out, also when the fiber was cancelled or is out of time. */
static MAY_YIELD void say_goodbye(struct smtp_session *session)
{
    struct error err;
    struct scope scope;
    scope_open_shielded(&scope, clock_deadline(5 * NS_PER_S));
    enum result result = session->quits ? stream_finish_before_close(session->stream, &err)
                                        : stream_finish(session->stream, &err);
    scope_close(&scope);
    if (result == FAILED || !session->cut_off)
        return;
    scope_open(&scope, clock_deadline(NS_PER_S));
    linger(session);
    scope_close(&scope);
}

const char *const smtp_answered_names[SMTP_ANSWERED_COUNT] = {
    [SMTP_ANSWERED_CONNECT] = "connect",   [SMTP_ANSWERED_HELO] = "helo",
    [SMTP_ANSWERED_STARTTLS] = "starttls", [SMTP_ANSWERED_AUTH] = "auth",
    [SMTP_ANSWERED_MAIL] = "mail",         [SMTP_ANSWERED_RCPT] = "rcpt",
    [SMTP_ANSWERED_DATA] = "data",         [SMTP_ANSWERED_OTHER] = "other",
};

static uint64_t count_class(const struct smtp_session *session, unsigned digit)
{
    uint64_t count = 0;
    for (size_t i = 0; i < SMTP_ANSWERED_COUNT; i++)
        count += session->replies.counts[i][digit - 2];
    return count;
}

static void close_session(struct smtp_session *session)
{
    struct str rest = stream_buffered(session->stream);
    /* may be half a password */
    if (rest.len)
        memory_wipe((char *)(uintptr_t)rest.ptr, rest.len);
    smtp_session_reset(session);
    event_emit(EVENT_SESSION_CLOSE, F_C(WHY, session->why ? session->why : "closed"),
               F_INT(COUNT, session->messages), F_INT(REPLIES_2XX, count_class(session, 2)),
               F_INT(REPLIES_3XX, count_class(session, 3)),
               F_INT(REPLIES_4XX, count_class(session, 4)),
               F_INT(REPLIES_5XX, count_class(session, 5)), F_STR(HELO, session->peer.helo),
               F_STR(TLS, smtp_session_is_tls(session) ? session->peer.tls->version : STR_EMPTY),
               F_INT(DURATION_US, (clock_monotonic_ns() - session->start_ns) / NS_PER_US));
    if (session->handler->ended)
        session->handler->ended(session->context, &session->replies);
    arena_free(session->arena);
    arena_free(session->long_arena);
    free(session);
}

void smtp_server_run(const struct smtp_server_settings *settings,
                     const struct smtp_handler *handler, void *context, struct stream *stream,
                     const atomic_bool *draining)
{
    struct smtp_session *session = open_session(settings, handler, context, stream);
    session->draining = draining;
    smtp_session_set_client(session);
    fiber_set_context(&session->events);
    if (prepare(session)) {
        smtp_server_greet(session, true);
        converse(session);
        say_goodbye(session);
    }
    const void *outer = session->events.outer;
    close_session(session);
    fiber_set_context(outer);
}
