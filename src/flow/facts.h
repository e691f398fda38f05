/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/facts.h - what expressions and blocks can see of a session, a recipient, a message.
 */
#pragma once

#include "mail/body.h"
#include "mail/envelope.h"
#include "net/address.h"

struct flow_checks;
struct flow_effects;

struct flow_facts {
    /* session */
    struct mail_id session;
    bool authenticated;
    bool trusted;
    struct str user;
    struct net_ip client;
    struct str client_name;
    struct str helo;
    struct str tls;       /* version, or empty */
    struct str cipher;    /* of TLS, or empty */
    struct str mechanism; /* of the login, or empty */
    struct str listener;
    /* transaction */
    struct str sender; /* "" for <> */
    struct str sender_domain;
    bool smtputf8;
    /* recipient flow */
    struct str recipient; /* key form: lower case, A-labels */
    struct str recipient_domain;
    struct str recipient_written; /* the same with the case of its letters, where it is known */
    /* content flow */
    struct mail_id message;
    const struct mail_recipient *recipients;
    size_t recipient_count;
    uint64_t size;
    /* The header section in force, with its empty line: the head of the content and, as long as its
     * body_start is 0, the header section at the start of the body behind it. */
    struct str header;
    /* Of the transaction; lives as long as its arena. NULL: each run begins anew. */
    struct flow_checks *checks;
    /* Of the run at work, for `score` and `findings`; set by the run itself. */
    const struct flow_effects *effects;
    struct str *own_addresses; /* of the user: file or LDAP sender column */
    size_t own_address_count;
};
