/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/rehearsal.h - one login and one message through a configuration, without a network.
 *
 * The decisions are those of the running gateway: the listener's rules, the domain, and the
 * compiled flows, which ask the directory that they are lent. Nothing is sent or kept.
 */
#pragma once

#include "gateway/settings.h"
#include "net/address.h"

struct directory;
struct resolver;

struct rehearsal_in {
    const struct settings *settings;
    const struct settings_listener *listener;
    struct directory *directory;     /* see directory/stated.h */
    const struct resolver *resolver; /* NULL: DNS gives no answer */
    struct arena *arena;
    struct net_ip client;
    struct str client_name;
    struct str helo;
    bool tls;
    struct str user; /* empty: no login is tried */
    struct str password;
    bool has_mail;
    struct str from; /* "" for <> */
    struct str to;
    size_t more;     /* recipients with names like his, beside him */
    struct str text; /* the message, lines ending in CRLF */
    /* What these steps say, in place of asking. */
    const struct flow_stated_outcome *stated;
    size_t stated_count;
};

struct rehearsal {
    /* "": not come to it. accept, reject or defer, or refused: not allowed to say it at all. */
    const char *auth;
    const char *recipient;      /* refused: MAIL was not allowed */
    struct str step;            /* of the recipient flow; where that did not run, of the login's */
    struct str domain;          /* entry of `domains` */
    struct str recipient_flow;  /* by name */
    struct str content;         /* flow, by name */
    const char *content_action; /* deliver, reject, defer, hold, quarantine, discard */
    struct str content_step;
    struct str transport;    /* the one that takes it in the end, whatever chose it */
    struct str sent_to;      /* the recipient (the first) in the end, rewritten or not */
    struct mail_reply reply; /* the last that the client gets, as the flow words it */
    enum mail_reason reason; /* of a refusal */
    struct str detail;
    struct str head; /* fields that the content flow put above the message */
};

/* All texts in the arena of `in` or of the settings. Need not run in a fiber if the directory never
 * suspends. */
void rehearsal_run(const struct rehearsal_in *in, struct rehearsal *out);
