/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server.h - the receiving side of SMTP (RFC 5321) over a stream it is lent.
 *
 * Knows the protocol: verbs, order, limits, line ends, what may be pipelined. What is decided (may
 * this login, this recipient, this message) it asks of a struct of functions. One session is one
 * fiber: smtp_server_run() returns when the conversation is over.
 */
#pragma once

#include "mail/body.h"
#include "mail/envelope.h"
#include "mail/reply.h"
#include "net/stream.h"

struct smtp_session;

enum smtp_tls_mode { SMTP_TLS_NONE, SMTP_TLS_OFFERED, SMTP_TLS_REQUIRED, SMTP_TLS_IMPLICIT };
enum smtp_line_endings { SMTP_LINES_BY_CLIENT, SMTP_LINES_REJECT, SMTP_LINES_NORMALISE };

struct smtp_limits {
    uint64_t size;               /* 50M */
    int64_t recipients;          /* 1000 */
    uint64_t line;               /* 64K: longest line of a message */
    uint64_t command_line;       /* 12288 for AUTH, 4096 else by the server */
    uint64_t header_bytes;       /* 256K */
    int64_t header_fields;       /* 1000 */
    int64_t hops;                /* 50 Received fields */
    int64_t errors;              /* 10 */
    int64_t commands;            /* 1000 without a message between */
    int64_t sessions;            /* 5000, of the listener */
    int64_t sessions_per_client; /* 50, per client network */
    int64_t command_timeout_ns;  /* 5m */
    int64_t session_timeout_ns;  /* 1h */
    int64_t data_timeout_ns;     /* 10m without progress is command_timeout; whole body */
    uint64_t min_rate;           /* 500 bytes/s over a body, after the first minute */
    int64_t auth_failures;       /* 3 */
};

/* Fixed for a listener; immutable, held by the configuration snapshot. */
struct smtp_server_settings {
    struct str listener; /* name, for events */
    struct str hostname;
    enum smtp_tls_mode tls;
    struct tls_context *tls_context;
    bool authentication;          /* AUTH exists on this listener */
    bool authentication_required; /* MAIL needs it: 530 5.7.0 */
    bool allow_cleartext_auth;
    enum smtp_line_endings line_endings;
    bool allow_routed_local_parts;
    const struct net_network *proxy_from;
    size_t proxy_from_count;
    const struct net_network *xclient_from;
    size_t xclient_from_count;
    const struct net_network *trusted; /* trusted_networks */
    size_t trusted_count;
    struct smtp_limits limits;
};

/* What is known of the peer; the handler reads it. Texts live as long as the session. */
struct smtp_peer {
    struct mail_id id;         /* of the session */
    struct net_address client; /* after PROXY and XCLIENT */
    struct net_address local;
    struct str client_name; /* confirmed name, or empty; from XCLIENT or set by the handler */
    struct str helo;
    bool esmtp;
    bool via_proxy; /* client is a proxy's own address (LOCAL, UNKNOWN): not trusted */
    bool trusted;   /* client in trusted_networks */
    bool authenticated;
    struct str user; /* login, when authenticated */
    struct str mechanism;
    const struct stream_tls_info *tls;
};

struct smtp_auth {
    struct str mechanism; /* "PLAIN", "LOGIN" */
    struct str login;     /* authcid */
    struct str password;  /* wiped by the server when the handler returned */
};
/* For authenticate(): the name of the account, where the login that was typed is another one. */
void smtp_session_set_account(struct smtp_session *session, struct str name);
enum smtp_auth_verdict { SMTP_AUTH_YES, SMTP_AUTH_NO, SMTP_AUTH_LATER };

struct smtp_message {
    const struct mail_sender *sender;
    const struct mail_recipient *recipients; /* accepted ones */
    size_t recipient_count;
    struct body *body;      /* sealed; the handler takes its own reference if it keeps it */
    bool has_8bit;          /* some byte over 127 was seen */
    bool mended_line_ends;  /* bare LF became CRLF */
    uint64_t header_length; /* of the header section, incl. the empty line; 0 if none was found */
    unsigned received_count;
};

/* Replies of a session by what they answer, and by their first digit less 2. */
enum smtp_answered {
    SMTP_ANSWERED_CONNECT,
    SMTP_ANSWERED_HELO,
    SMTP_ANSWERED_STARTTLS,
    SMTP_ANSWERED_AUTH,
    SMTP_ANSWERED_MAIL,
    SMTP_ANSWERED_RCPT,
    SMTP_ANSWERED_DATA, /* and BDAT */
    SMTP_ANSWERED_OTHER,
    SMTP_ANSWERED_COUNT
};
enum { SMTP_REPLY_CLASSES = 4 };
extern const char *const smtp_answered_names[SMTP_ANSWERED_COUNT];
struct smtp_replies {
    uint32_t counts[SMTP_ANSWERED_COUNT][SMTP_REPLY_CLASSES];
};

/*
 * What a session asks of its owner. `context` is per session. Replies are filled by the handler
 * (text borrowed from session-long or transaction-long memory: smtp_session_arena()); the server
 * adds nothing to them. Every function may suspend. A NULL function means: the server's default.
 */
struct smtp_handler {
    /* Before the greeting; a 4xx/5xx reply is sent and the connection closed. code 0: greet. */
    void (*connected)(void *context, struct smtp_session *session, struct mail_reply *out_reply);
    enum smtp_auth_verdict (*authenticate)(void *context, struct smtp_session *session,
                                           const struct smtp_auth *auth,
                                           struct mail_reply *out_reply);
    /* `address` is syntactically right. code 250 opens the transaction. */
    void (*mail)(void *context, struct smtp_session *session, const struct mail_sender *sender,
                 const struct mail_address *address, struct mail_reply *out_reply);
    /* 250 adds it to the transaction. `recipient->address` may be replaced by the handler. */
    void (*recipient)(void *context, struct smtp_session *session,
                      const struct mail_address *address, struct mail_recipient *recipient,
                      struct mail_reply *out_reply);
    /* A body to write to, or NULL with a reply (452). Called at DATA or the first BDAT. */
    struct body *(*begin_data)(void *context, struct smtp_session *session,
                               struct mail_reply *out_reply);
    /* The message is complete and well-formed; the reply is final. */
    void (*message)(void *context, struct smtp_session *session, const struct smtp_message *message,
                    struct mail_reply *out_reply);
    /* The transaction is over (after message, RSET, EHLO, STARTTLS, end): forget it. */
    void (*reset)(void *context, struct smtp_session *session);
    /* A refusal made by the server itself (syntax, order, limits) is about to be sent: may add the
     * ref to its text and tell the event stream why. */
    void (*refused)(void *context, struct smtp_session *session, struct str command,
                    enum mail_reason reason, struct mail_reply *reply);
    /* The session is over; nothing may be asked of it any more. */
    void (*ended)(void *context, const struct smtp_replies *replies);
};

/*
 * Hold the conversation until QUIT, close, a limit or cancellation; `stream` is borrowed and may be
 * under implicit TLS afterwards; the caller closes it at once. Emits session events. `draining`
 * (may be NULL) is read between commands: true = 421 at the next chance outside a transaction.
 */
void smtp_server_run(const struct smtp_server_settings *settings,
                     const struct smtp_handler *handler, void *context, struct stream *stream,
                     const atomic_bool *draining) MAY_YIELD;

const struct smtp_peer *smtp_session_peer(const struct smtp_session *session);
/* Lives until the transaction ends. */
struct arena *smtp_session_arena(struct smtp_session *session);
/* Lives until the session ends. */
struct arena *smtp_session_long_arena(struct smtp_session *session);
void smtp_session_set_client_name(struct smtp_session *session, struct str name);
/* Why the conversation ends; NULL while it goes on. */
const char *smtp_session_why(const struct smtp_session *session);
/* Outside of a transaction and waiting for a command: nothing is lost by ending it now. */
bool smtp_session_is_idle(const struct smtp_session *session);
const struct mail_sender *smtp_session_sender(const struct smtp_session *session);

/* Rows of listeners.*.limits. */
extern const struct option_table smtp_limits_options;
