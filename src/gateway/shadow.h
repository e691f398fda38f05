/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/shadow.h - a recorded decision, made again by another configuration.
 *
 * The values are those of the record, so are the answers of backends; nobody is asked. What the
 * record does not say is `open`.
 */
#pragma once

#include "flow/flow.h"
#include "gateway/settings.h"

enum shadow_kind { SHADOW_LOGIN, SHADOW_RECIPIENT, SHADOW_CONTENT };

struct shadow_case {
    enum shadow_kind kind;
    struct str listener;
    struct net_ip client;
    struct str client_name; /* empty: none, or not known */
    struct str helo;
    struct str tls;
    struct str user; /* empty: not logged in */
    struct str sender;
    struct str recipient;                /* RECIPIENT, CONTENT: local@domain */
    uint64_t size;                       /* CONTENT */
    struct str domain;                   /* entry that was chosen then; empty: none */
    const struct flow_recorded *records; /* of the flow that ran then */
    size_t record_count;
    /* CONTENT: all recipients of the transaction, and "Name: value" lines of the header fields that
     * were told whole, with the names of those that are told of (a missing one has no line). */
    const struct str *recipients;
    size_t recipient_count;
    struct str header;
    const struct str *fields;
    size_t field_count;
};
struct shadow_answer {
    bool open;
    const char *verdict; /* accept, reject, …; refused: the session may not come that far */
    struct str where;    /* "FLOW/STEP", or what else decided, or why it is open; in the arena */
    struct str why;      /* of an open one with a step */
};
/* `former` is the configuration of the record. */
void shadow_run(const struct settings *candidate, const struct settings *former,
                const struct shadow_case *recorded, struct arena *arena, struct shadow_answer *out);
/* The content flow that a message for this recipient had; empty: none. */
struct str shadow_content_flow(const struct settings *settings, struct str domain);
