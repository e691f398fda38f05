/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/rehearsal_internal.h - the decisions of a rehearsal, one by one: shared by the single
 * message (rehearsal.c) and the conversation (rehearsal_session.c).
 */
#pragma once

#include "flow/checks.h"
#include "gateway/rehearsal.h"
#include "mail/body.h"
#include "state/state.h"

struct rehearsing {
    const struct rehearsal_in *in;
    struct rehearsal *out;
    struct state *state;
    struct flow_facts facts;
    struct flow_checks checks;
    struct flow_ways ways;
    struct mail_address to;
    const struct settings_domain *chosen;
    struct str routed; /* transport that the recipient flow chose; empty: none */
};

void rehearsal_clear(struct rehearsal *out);
/* The authentication flow; true: accepted, and the facts have the user. */
bool rehearsal_login(struct rehearsing *run, struct str user, struct str password) MAY_YIELD;
/* Domain and recipient flow for `to`. */
void rehearsal_recipient(struct rehearsing *run) MAY_YIELD;
/* The content flow of the chosen domain; recipients, size and header stand in the facts. */
void rehearsal_content(struct rehearsing *run, struct body *body) MAY_YIELD;
