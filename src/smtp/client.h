/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client.h - one outgoing SMTP or LMTP conversation (RFC 5321, 2033), phase by phase.
 *
 * Speaks the protocol over a stream; knows nothing of queues, routes or retries. A client belongs
 * to one fiber at a time; calls honour that fiber's deadline. A refusal is an answer (in a reply);
 * FAILED means no answer came, and the connection is unusable afterwards.
 */
#pragma once

#include "mail/body.h"
#include "mail/envelope.h"
#include "mail/reply.h"
#include "net/stream.h"

struct smtp_client;

enum smtp_extension { /* a set */
                      SMTP_EXT_PIPELINING = 1 << 0,
                      SMTP_EXT_SIZE = 1 << 1,
                      SMTP_EXT_8BITMIME = 1 << 2,
                      SMTP_EXT_SMTPUTF8 = 1 << 3,
                      SMTP_EXT_CHUNKING = 1 << 4,
                      SMTP_EXT_DSN = 1 << 5,
                      SMTP_EXT_STARTTLS = 1 << 6,
                      SMTP_EXT_AUTH_PLAIN = 1 << 7,
                      SMTP_EXT_AUTH_LOGIN = 1 << 8,
                      SMTP_EXT_ENHANCED = 1 << 9,
};

/* ---- life cycle ---- */

/* Takes over `stream`. `lmtp`: LHLO, one reply a recipient after data. */
struct smtp_client *smtp_client_new(struct stream *stream, bool lmtp);
/* Extensions that this peer offers and does not master: hello() will not count them. */
void smtp_client_ignore(struct smtp_client *client, unsigned extensions);
/* Say QUIT without waiting for the answer, and close. NULL is allowed. */
void smtp_client_quit(struct smtp_client *client) MAY_YIELD;
/* Close at once. NULL is allowed. */
void smtp_client_abort(struct smtp_client *client);

/* ---- phases; *out_reply lives until the next call ---- */

enum result smtp_client_greeting(struct smtp_client *client, struct mail_reply *out_reply,
                                 struct error *err) MAY_YIELD;
/* EHLO, and HELO when that is refused with 5xx; LHLO for LMTP. */
enum result smtp_client_hello(struct smtp_client *client, struct str name,
                              struct mail_reply *out_reply, struct error *err) MAY_YIELD;
/* STARTTLS and the handshake, then forget all extensions (call hello again). Bytes behind the 220
 * are ERROR_PROTOCOL, a handshake that fails never is. A refusal leaves the connection usable in
 * clear. */
enum result smtp_client_starttls(struct smtp_client *client, struct tls_context *context,
                                 struct str server_name, struct mail_reply *out_reply,
                                 struct error *err) MAY_YIELD;
/* AUTH PLAIN, else LOGIN. *out_reply is the final reply of the exchange; code 0: no common
 * mechanism. The password is wiped from all buffers. */
enum result smtp_client_auth(struct smtp_client *client, struct str login, struct str password,
                             struct mail_reply *out_reply, struct error *err) MAY_YIELD;

/* What came of one recipient. */
struct smtp_client_recipient {
    const struct mail_recipient *recipient; /* in */
    struct mail_reply reply;                /* out: the reply that decided; code 0 if none came */
    enum smtp_stage { SMTP_STAGE_MAIL, SMTP_STAGE_RCPT, SMTP_STAGE_DATA, SMTP_STAGE_END } stage;
    bool accepted; /* final 2xx covers it */
};

/*
 * One mail transaction: MAIL, RCPT …, DATA or BDAT, the content, the final reply; pipelined where
 * offered, small messages with BDAT all in one piece. Adds BODY, SIZE, SMTPUTF8 and DSN parameters
 * that the peer knows (the caller has decided that the content form is allowed). Replies (texts in
 * `arena`) go into `recipients`. OK: the connection may be used again, whatever the replies were.
 * FAILED: those without a decisive reply have code 0 and are not delivered as far as is known.
 * Never writes a bare CR or LF; lines are dot-stuffed for DATA.
 */
struct smtp_client_mail {
    const struct mail_sender *sender;
    struct smtp_client_recipient *recipients;
    size_t recipient_count;
    const struct mail_content *content;
    bool needs_smtputf8; /* an address or header needs it: MAIL says SMTPUTF8 */
    bool has_8bit;
    bool prefer_chunking;
};
enum result smtp_client_send(struct smtp_client *client, const struct smtp_client_mail *mail,
                             struct arena *arena, struct error *err) MAY_YIELD;

/* The callout of recipient lookups: MAIL FROM:<sender>, RCPT TO:<address>, RSET, pipelined where
 * offered. `*out_mail`/`*out_rcpt`: replies (rcpt.code 0 if MAIL was refused). */
enum result smtp_client_probe(struct smtp_client *client, struct str sender, struct str address,
                              bool smtputf8, struct mail_reply *out_mail,
                              struct mail_reply *out_rcpt, struct error *err) MAY_YIELD;

/* ---- queries ---- */

/* The last transaction broke because BDAT is unknown to a server that offered CHUNKING: it may go
 * well by DATA, over another connection. */
bool smtp_client_refused_chunking(const struct smtp_client *client);
unsigned smtp_client_extensions(const struct smtp_client *client);
uint64_t smtp_client_max_size(const struct smtp_client *client);      /* SIZE, or 0 */
int64_t smtp_client_max_recipients(const struct smtp_client *client); /* LIMITS RCPTMAX, or 0 */
struct stream *smtp_client_stream(struct smtp_client *client);
/* May a kept connection be used again: nothing failed, no 421, and the peer has not closed. */
bool smtp_client_is_usable(const struct smtp_client *client);
