/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/session.h - what the gateway knows of one client's conversation.
 *
 * Shared inside gateway/ only: session.c has the handler's table, recipient.c its largest function.
 */
#pragma once

#include "event/event.h"
#include "flow/flow.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "smtp/server.h"

struct session {
    struct worker *worker;
    struct list in_worker;
    struct scope scope;        /* around the conversation */
    struct settings *settings; /* those it began with */
    const struct settings_listener *listener;
    struct smtp_session *smtp; /* once connected */
    struct stream *stream;
    bool counted; /* in the occupancy */
    struct net_ip counted_ip;
    bool name_asked;

    /* of the user who logged in: addresses from the directory */
    struct str *own_addresses;
    size_t own_address_count;

    char client_text[NET_IP_TEXT];
    char revision_text[16]; /* of the settings, in each of its events */
    struct event_context revision_events;

    /* the transaction's */
    const struct settings_domain **domains; /* of each accepted recipient, in order */
    struct str *transports; /* of each: chosen by its recipient flow; empty: the domain's */
    size_t domain_count, domain_cap;
    struct str asked_name; /* by the last RCPT, and what was found; many have one domain */
    const struct settings_domain *asked_domain;
    struct mail_id message;
    struct mail_id_text message_text;
    struct event_context message_events; /* during a transaction: its events name the message */
    struct flow_checks *checks;          /* made when first asked for */
    struct body *intake;
    bool answered; /* the message: taken or refused */
};

/* An own user: logged in, or from a trusted network. */
bool session_is_own_user(const struct session *session);
/* What flows may see; recipient and content members are left empty. */
void session_facts(struct session *session, struct flow_facts *out);
/* The reply with " (ref XXXXXXXX)" at its end, in the transaction's arena; the ref goes to
 * *out_ref. */
struct mail_reply session_with_ref(struct session *session, struct mail_reply reply,
                                   struct mail_ref *out_ref);

/* RCPT: chooses the domain, runs its recipient flow (recipient.c). */
void session_recipient(struct session *session, const struct mail_address *address,
                       struct mail_recipient *recipient, struct mail_reply *out_reply) MAY_YIELD;
