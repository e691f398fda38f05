/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_internal.h - what the phases of the SMTP client share.
 */
#pragma once

#include "base/buf.h"
#include "smtp/client.h"
#include "smtp/reply_parser.h"

enum {
    SMTP_CLIENT_INPUT_MAX = 64 * 1024,    /* replies of a batch that wait to be read */
    SMTP_CLIENT_OUTPUT_MAX = 1024 * 1024, /* commands of a batch */
    SMTP_CLIENT_KEPT_TEXT = 2000,         /* of a reply that is kept for a recipient */
};

struct smtp_client {
    struct stream *stream;
    bool lmtp;
    bool broken; /* the next call fails at once */
    bool chunking_refused;
    bool needs_reset; /* a transaction was left open: RSET goes in front of the next one */
    unsigned extensions;
    unsigned ignored; /* extensions */
    uint64_t max_size;
    int64_t max_recipients;
    struct smtp_reply_parser parser;
    struct buf out;                        /* commands not sent yet */
    struct error last_error;               /* why it is broken */
    char kept_mail[SMTP_CLIENT_KEPT_TEXT]; /* texts of a probe's replies */
    char kept_rcpt[SMTP_CLIENT_KEPT_TEXT];
};

/* Add a command to the batch, without the line end. */
void smtp_client_add(struct smtp_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Send the batch as one piece. The memory it stood in is wiped. */
enum result smtp_client_send_batch(struct smtp_client *client, struct error *err) MAY_YIELD;
/* Read the next reply. A 421 is an answer, but the client is broken afterwards. */
enum result smtp_client_read(struct smtp_client *client, struct mail_reply *out_reply,
                             struct error *err) MAY_YIELD;
/* One command, one reply. */
enum result smtp_client_ask(struct smtp_client *client, struct mail_reply *out_reply,
                            struct error *err, const char *format, ...) MAY_YIELD
    __attribute__((format(printf, 4, 5)));
/* Remember that the connection is of no more use; returns FAILED. */
enum result smtp_client_break(struct smtp_client *client, const struct error *err);
/* FAILED if it is. */
enum result smtp_client_check(const struct smtp_client *client, struct error *err);

/* ---- client_parameters.c: one line of the envelope, with what the peer knows ---- */

void smtp_client_add_mail(struct smtp_client *client, const struct smtp_client_mail *mail);
void smtp_client_add_rcpt(struct smtp_client *client, const struct mail_recipient *recipient,
                          bool smtputf8);
/* May it stand between < and >: no control characters, ASCII unless `smtputf8`? */
bool smtp_client_address_is_safe(struct str address, bool smtputf8);
