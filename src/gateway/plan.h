/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/plan.h - from what content flows decided to groups for the queue.
 *
 * One place for both ways of processing: direct (submission.c) and queued (glue.c). A plan collects
 * the groups of one unit of the queue; nothing happens by making it.
 */
#pragma once

#include "flow/flow.h"
#include "queue/queue.h"

struct settings;

struct plan_source { /* a content run that is over */
    const struct settings *settings;
    const struct flow *flow;
    const struct flow_verdict *verdict;
    const struct mail_content *content;
    struct str header; /* as it came */
    const struct mail_sender *sender;
    /* as they came into the run, with the name of the transport that each would take */
    const struct mail_recipient *recipients;
    const struct str *transports;
    size_t recipient_count;
};

struct plan {
    struct arena *arena;
    struct queue_group *groups;
    size_t group_count, group_cap;
    uint64_t added;     /* recipients that flows put on */
    uint64_t discarded; /* recipients that flows took off, or discarded with the message */
    bool keeps;         /* a group is held, and needs the origin when it is released */
};

void plan_init(struct plan *plan, struct arena *arena);
/* Of a verdict that lets the message go on or keeps it: a group for each transport. A refusal is
 * kept for a person to decide, as undeliverable. */
void plan_add(struct plan *plan, const struct plan_source *source);
/* Is there room in the quarantines that it puts something into? False with ERROR_LIMIT: not now. */
bool plan_fits_quarantines(const struct plan *plan, const struct settings *settings,
                           struct queue *queue, struct error *err);
/* Copies and notices of the run, whatever its verdict; not for one that defers. */
void plan_add_extras(struct plan *plan, const struct plan_source *source);
/* All mail of the plan that is not of our own making is held. */
void plan_hold(struct plan *plan, enum mail_reason reason);
/* As plan_add for a flow that is still to run (processing: queued). */
void plan_add_unjudged(struct plan *plan, const struct plan_source *source);
/* The ways of these settings, for runs. */
struct flow_ways plan_ways(const struct settings *settings);
