/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/contain.h - an account that is not in its owner's hands: contain it, free it again.
 *
 * Joins incidents with flows, the queue and the counts of limits. An account is contained as soon
 * as its incident is on disk: from then on logins are refused, MAIL is deferred, and whatever of
 * its mail is in the queue or comes to it is held, with nobody told. What a crash leaves undone is
 * done after the next start, for the file says what is to be.
 */
#pragma once

#include "fiber/fiber.h"
#include "gateway/incidents.h"

struct flow_facts;
struct flow_verdict;
struct gateway;
struct settings;

/* At start, when counts were read: those of accounts whose incident a crash interrupted in closing
 * begin anew. */
void contain_forget_unsettled(struct gateway *gateway);

/* ---- on a worker ---- */

/*
 * A verdict with `contain` comes true: the incident is opened, the mail of the account that is in
 * the queue is held, and the reply of a recipient's verdict says so. Where nobody can be contained
 * (no user, exempt, no space) the verdict becomes FLOW_DEFER. Other verdicts stay as they are.
 */
void contain_by_verdict(struct gateway *gateway, const struct settings *settings,
                        const struct flow_facts *facts, struct str flow,
                        struct flow_verdict *verdict) MAY_YIELD;
/* Is it somebody who is contained? */
bool contain_holds(struct gateway *gateway, const struct flow_facts *facts);

/* ---- for administration: from threads that are no workers; block ---- */

struct incidents *gateway_incidents(struct gateway *gateway);
struct gateway_containment {
    struct str user, actor, reason;
};
/* *out_new false: it was contained already, by that incident. *out_held: entries. */
enum result gateway_contain(struct gateway *gateway, const struct gateway_containment *wish,
                            int64_t *out_number, bool *out_new, size_t *out_held,
                            struct error *err);
struct gateway_incident_end {
    enum incident_state was; /* INCIDENT_STATES: there is no such incident */
    size_t settled;          /* entries that were released or dropped by now */
    bool done;               /* all of them; else the rest follows */
};
/* Only an open incident is closed. The account is free when this returns OK, and limits count it
 * from nothing, after a crash as well. */
enum result gateway_close_incident(struct gateway *gateway, const struct incident_closing *closing,
                                   struct gateway_incident_end *out, struct error *err);
/* Go on with what a stop or a crash left undone; now and then. */
void gateway_settle_incidents(struct gateway *gateway);
