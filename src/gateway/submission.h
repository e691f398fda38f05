/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/submission.h - a complete message on its way from a session to the queue.
 *
 * Groups recipients by content flow, runs each group's flow on a message of its own, decides the
 * one reply, and hands what goes on to the queue, durably.
 */
#pragma once

#include "flow/flow.h"
#include "gateway/trace.h"
#include "mail/reply.h"

struct settings;
struct settings_domain;
struct worker;

struct submission {
    struct worker *worker;
    const struct settings *settings;
    struct arena *arena;            /* the transaction's */
    const struct flow_facts *facts; /* of session and sender */
    struct mail_id message;
    const struct mail_sender *sender;
    const struct mail_recipient *recipients;
    const struct settings_domain *const *domains; /* of each recipient */
    const struct str *transports; /* of each: chosen by its recipient flow; NULL: the domains' */
    size_t recipient_count;
    struct body *body; /* sealed; borrowed */
    uint64_t header_length;
    bool has_8bit;
    bool own_user;
    struct str fairness_key;
    bool queued; /* processing: queued */
    int64_t direct_timeout_ns;
    struct trace_facts trace;
};

/* The final reply (with its ref if it is none of 2xx); a 250 says that the message is on stable
 * storage. Emits the message's events. */
void submission_run(struct submission *submission, struct mail_reply *out_reply) MAY_YIELD;
