/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/trace.h - what we write at the top of a message: Received (RFC 5321 4.4, 3848), and for
 * own users the fields that are missing (RFC 6409 8).
 */
#pragma once

#include "mail/body.h"
#include "mail/envelope.h"

struct trace_facts {
    struct str hostname;
    struct str helo;
    struct str client_name; /* confirmed, or empty */
    struct str client_ip;
    bool hide_client; /* leave the client's name and address out */
    bool esmtp;
    bool tls;
    bool authenticated;
    bool smtputf8;
    struct mail_id message;
    struct str recipient; /* the only one, or empty */
    bool own_user;        /* mend: Date, Message-ID, Bcc */
};

/*
 * Fill `out` (its body a borrowed pointer to `body`): `header` is the header section as it came (a
 * copy or a view; empty if the message has none). Texts live in `arena`.
 */
void trace_build(struct arena *arena, const struct trace_facts *facts, struct str header,
                 struct body *body, struct mail_content *out);
