/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/address.h - which addresses a server takes from a client, before anybody is asked: syntax,
 * address literals, routes in the local part. Pure.
 */
#pragma once

#include "mail/address.h"
#include "mail/reply.h"
#include "net/address.h"

/* The path of MAIL, not empty. False: the reply (static text) says why. */
bool smtp_address_sender(struct arena *arena, struct str path, bool smtputf8,
                         struct mail_address *out_address, struct mail_reply *out_fault);

struct smtp_address_rules {
    bool smtputf8;
    bool allow_routed;           /* % and ! and further @ in a local part */
    struct str known_domain;     /* of the recipient before, in the arena; may be empty */
    const struct net_ip *own[2]; /* of this connection; their literals are taken for postmaster */
};
/* The path of RCPT. */
bool smtp_address_recipient(struct arena *arena, struct str path,
                            const struct smtp_address_rules *rules,
                            struct mail_address *out_address, struct mail_reply *out_fault);
