/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_internal.h - the session that the server_*.c files share, a file a verb.
 */
#pragma once

#include "event/event.h"
#include "smtp/command.h"
#include "smtp/data.h"
#include "smtp/server.h"

enum {
    COMMAND_LINE_MAX = 4096, /* of all commands but AUTH */
    INPUT_MAX = 65536,       /* of what is read ahead; above every command line */
    HELO_MAX = 255,
    UNKNOWN_MAX = 3,              /* unknown commands until the connection is closed */
    ARENA_MAX = 16 * 1024 * 1024, /* of a transaction */
    LONG_ARENA_MAX = 64 * 1024,   /* of what outlives it: names, and addresses of a login */
};

enum chunk_state {
    CHUNK_NONE,   /* no BDAT in this transaction */
    CHUNK_OPEN,   /* at least one was taken */
    CHUNK_FAILED, /* one was refused: the rest is thrown away, chunk by chunk */
};

struct smtp_session {
    const struct smtp_server_settings *settings;
    const struct smtp_handler *handler;
    void *context;
    struct stream *stream;
    const atomic_bool *draining;
    bool idle; /* waits for a command outside of a transaction */

    struct smtp_peer peer;
    struct str account; /* what the handler called it; or empty */
    bool may_xclient;
    struct arena *arena;      /* of the transaction; made when it is needed */
    struct arena *long_arena; /* of the session; made when it is needed */
    struct event_context events;
    struct mail_id_text id_text;
    char client_text[NET_ADDRESS_TEXT];
    char helo[HELO_MAX + 1];

    /* the command that is being obeyed */
    struct str command; /* for events; never with a secret */
    size_t line_size;   /* bytes of its line still at the front of the stream's input */
    size_t line_len;    /* of it, without the line end */
    size_t unsent;      /* bytes of replies since the last flush, about */

    /* what the client said: gone with smtp_session_forget() */
    bool hello;

    /* the transaction: gone with smtp_session_reset() */
    bool in_transaction;
    struct mail_sender sender;
    struct mail_recipient *recipients;
    size_t recipient_count;
    size_t recipient_room;
    struct str recipient_domain; /* of the last one that was asked for, as a name; or empty */
    enum chunk_state chunks;
    struct body *body;
    struct smtp_data data;
    bool body_failed; /* the body could not be written: body_fault says what to reply */
    enum error_kind body_fault;
    int64_t body_start_ns;
    int64_t body_waited_ns; /* for the client, of all that */
    uint64_t body_bytes;

    /* counted against limits */
    int64_t errors;
    int64_t commands;
    int64_t auth_failures;
    unsigned unknown;
    uint64_t messages;
    enum smtp_answered answering;
    struct smtp_replies replies;
    int64_t start_ns;
    int64_t end_ns; /* monotonic; when the session is over in any case */

    bool closing;
    bool quits;      /* the client said so, and nothing behind it */
    bool cut_off;    /* by us, maybe while he was sending */
    const char *why; /* static; how it ended */
};

/* ---- server.c ---- */

struct arena *smtp_session_arena(struct smtp_session *session);
/* Is the client one of ours: authenticated, or in a trusted network? */
bool smtp_session_is_own(const struct smtp_session *session);
/* May a bare LF be mended for this client? */
bool smtp_session_mends(const struct smtp_session *session);
bool smtp_session_is_tls(const struct smtp_session *session);
/* What no host name can hold shows as '?'. */
void smtp_session_set_helo(struct smtp_session *session, struct str name);
/* End the transaction, if there is one. */
void smtp_session_reset(struct smtp_session *session);
/* Forget all that the client said: after STARTTLS (RFC 3207 4.2) and XCLIENT. */
void smtp_session_forget(struct smtp_session *session);
/* The client's address is known or known anew: what follows from it. */
void smtp_session_set_client(struct smtp_session *session);
/* The user is authenticated. `mechanism` is static. */
void smtp_session_set_user(struct smtp_session *session, struct str user, struct str mechanism);
/* By the verb table: may it come now? False: the reply (static text) and why. */
bool smtp_session_may_run(struct smtp_session *session, enum smtp_verb verb, struct mail_reply *out,
                          enum mail_reason *out_reason);
/* No more commands; `why` is static. Replies already written are still sent. */
void smtp_session_end(struct smtp_session *session, const char *why);

/* ---- server_input.c ---- */

struct smtp_wait {
    int64_t deadline_ns;
    const char *limit; /* name of the setting that the deadline comes from */
};
/* The earlier one. */
struct smtp_wait smtp_wait_earlier(struct smtp_wait a, int64_t deadline_ns, const char *limit);
/* For the next command. */
struct smtp_wait smtp_session_command_wait(const struct smtp_session *session);
/* Send what waits and read more. False: the conversation is over, and the client was told if he
 * can be. */
bool smtp_session_fill(struct smtp_session *session, struct smtp_wait wait) MAY_YIELD;
/* As above, but do not hold more than `max` bytes afterwards. */
bool smtp_session_fill_up_to(struct smtp_session *session, size_t max,
                             struct smtp_wait wait) MAY_YIELD;
/* The next line, without its end, at most `max` bytes (0: as for a command). It stays in the
 * stream's input until smtp_session_consume_line(). False as smtp_session_fill(). */
bool smtp_session_read_line(struct smtp_session *session, size_t max,
                            struct str *out_line) MAY_YIELD;
/* Idempotent. */
void smtp_session_consume_line(struct smtp_session *session);
/* As above, and overwrite it: it held a secret. */
void smtp_session_wipe_line(struct smtp_session *session);
/* Did bytes come behind the current line (or, without one, at all)? Looks into the kernel too. */
bool smtp_session_has_more_input(struct smtp_session *session);

/* ---- server_reply.c ---- */

/* Write a reply; it is sent with the next read that waits. */
void smtp_session_reply(struct smtp_session *session, const struct mail_reply *reply) MAY_YIELD;
/* One line of a reply without enhanced code. */
void smtp_session_reply_line(struct smtp_session *session, unsigned code, bool more,
                             struct str text) MAY_YIELD;
/* "250 2.0.0 text" and the like; the text is a literal. */
void smtp_session_say(struct smtp_session *session, unsigned code, unsigned subject,
                      unsigned detail, const char *text) MAY_YIELD;
/* A refusal of our own: the handler adds its ref, 5xx counts as an error. */
void smtp_session_refuse(struct smtp_session *session, enum mail_reason reason,
                         struct mail_reply reply) MAY_YIELD;
/* As above from parts. */
void smtp_session_refuse_with(struct smtp_session *session, enum mail_reason reason, unsigned code,
                              unsigned subject, unsigned detail, const char *text) MAY_YIELD;
/* A limit of the listener was reached: the event. `limit` is the setting's name. */
void smtp_session_tell_limit(struct smtp_session *session, const char *limit, int64_t value);
/* The peer broke the protocol and is cut off; a refusal with the reply follows. */
void smtp_session_tell_protocol(struct smtp_session *session, const char *what);

/* ---- a file a verb; `arguments` as in smtp_command ---- */

void smtp_server_hello(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_helo(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_starttls(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_auth(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_mail(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_rcpt(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_data(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_bdat(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_xclient(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_rset(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_noop(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_quit(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_vrfy(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_help(struct smtp_session *session, struct str arguments) MAY_YIELD;
void smtp_server_not_implemented(struct smtp_session *session, struct str arguments) MAY_YIELD;

/* Ask the handler, then say 220; `first`: of a fresh connection, where nobody may have spoken. */
void smtp_server_greet(struct smtp_session *session, bool first) MAY_YIELD;
/* The PROXY header of a peer in proxy_from. False: closed without a word. */
bool smtp_server_proxy(struct smtp_session *session) MAY_YIELD;
/* Hand the stream to TLS; false: the connection is dead. */
bool smtp_server_tls(struct smtp_session *session) MAY_YIELD;
bool smtp_server_starttls_is_offered(const struct smtp_session *session);
bool smtp_server_auth_is_offered(const struct smtp_session *session);

/* ---- server_data.c, for server_bdat.c ---- */

/* A body from the handler and a fresh decoder. False: refused, and replied. */
bool smtp_server_begin_body(struct smtp_session *session, bool chunks) MAY_YIELD;
/* Decode (part of) `*input` into the body and take it off; true at the end of DATA. */
bool smtp_server_decode(struct smtp_session *session, struct str *input) MAY_YIELD;
void smtp_server_store(struct smtp_session *session, struct str slice) MAY_YIELD;
/* Wait for more of a body. */
bool smtp_server_fill_body(struct smtp_session *session) MAY_YIELD;
/* Reply to what is wrong with the body; false if nothing is. */
bool smtp_server_refuse_body(struct smtp_session *session) MAY_YIELD;
/* The message is complete: ask the handler and reply. The transaction is over afterwards. */
void smtp_server_finish_body(struct smtp_session *session) MAY_YIELD;
