/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/sasl.h - the server's side of SASL PLAIN (RFC 4616) and LOGIN, as steps over lines.
 *
 * Pure: base64 lines in, challenges out. Secrets stay in one block, which smtp_sasl_wipe() clears.
 */
#pragma once

#include "base/buf.h"

enum smtp_sasl_mechanism { SMTP_SASL_NONE, SMTP_SASL_PLAIN, SMTP_SASL_LOGIN };

enum smtp_sasl_step {
    SMTP_SASL_CHALLENGE, /* send "334 " and *out_challenge, feed the answer */
    SMTP_SASL_DONE,      /* authzid, login and password are there */
    SMTP_SASL_CANCELLED, /* the client said "*" */
    SMTP_SASL_MALFORMED, /* not base64, or not of the mechanism's form */
};

struct smtp_sasl {
    enum smtp_sasl_mechanism mechanism;
    struct str authzid; /* as sent; empty if none */
    struct str login;
    struct str password;
    /* private */
    int stage;
    struct buf secrets;
};

/* The mechanism of that name (ASCII case does not matter), or SMTP_SASL_NONE. */
enum smtp_sasl_mechanism smtp_sasl_find(struct str name);
struct str smtp_sasl_name(enum smtp_sasl_mechanism mechanism);

/* `max_line` bounds what a client's line can hold. */
void smtp_sasl_init(struct smtp_sasl *sasl, enum smtp_sasl_mechanism mechanism, size_t max_line);
/* `response`: the client's line, or the initial response ("=" is an empty one); NULL ptr: none was
 * given. *out_challenge is base64, static. */
enum smtp_sasl_step smtp_sasl_feed(struct smtp_sasl *sasl, struct str response,
                                   struct str *out_challenge);
/* Overwrite and free everything. */
void smtp_sasl_wipe(struct smtp_sasl *sasl);
