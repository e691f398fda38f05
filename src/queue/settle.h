/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/settle.h - what an attempt, an operator or the clock means for an entry: books, records,
 * notifications, the next try.
 */
#pragma once

#include "queue/delivery.h"
#include "queue/dsn.h"
#include "queue/unit.h"

/* Decode the entry into a fresh attempt in `arena`; takes a snapshot and, if there is one, the
 * transport. */
void queue_attempt_init(struct queue_attempt *attempt, struct queue_entry *entry,
                        struct arena *arena);
void queue_attempt_done(struct queue_attempt *attempt);
/* Of its transport, for events; empty when that is gone. */
const char *queue_direction(const struct queue_attempt *attempt);
/* True: nothing may be sent (the account is contained, the transport is gone), and it is held. */
bool queue_attempt_bar(struct queue_attempt *attempt);
/* Content from memory or the spool. FAILED: ERROR_PERMANENT when it is damaged. */
enum result queue_attempt_load(struct queue_attempt *attempt, struct error *err) MAY_YIELD;
/* In two steps: as it is stored; then readable, if it is sealed. FAILED of the second is never
 * ERROR_PERMANENT. */
enum result queue_attempt_load_stored(struct queue_attempt *attempt, struct error *err) MAY_YIELD;
enum result queue_unseal(struct queue_attempt *attempt, struct error *err) MAY_YIELD;
/* It leaves its quarantine for good: its content, and that of the groups of `run` (or NULL), may be
 * stored from now on. */
enum result queue_unseal_for_good(struct queue_attempt *attempt, struct queue_content_run *run,
                                  struct error *err) MAY_YIELD;
/* Release or remove (`verb`) for some of its recipients, or release it to the start of its flow:
 * other entries take its place in one durable unit. False: nothing was done. */
bool queue_quarantine_part(struct queue_attempt *attempt, enum queue_verb verb, struct str to,
                           bool from_start) MAY_YIELD;

/* After delivery was tried. The entry may be gone afterwards. */
void queue_settle(struct queue_attempt *attempt) MAY_YIELD;
/* Is its time over (which an attempt would not change)? */
bool queue_is_expired(const struct queue_attempt *attempt);
/* The clock ran: give up, or tell the sender about the delay. The entry may be gone. */
void queue_settle_time(struct queue_attempt *attempt) MAY_YIELD;
/* An operator or a flow refuses it for good, with this reply. FAILED: that could not be written,
 * and it waits. */
enum result queue_settle_refused(struct queue_attempt *attempt,
                                 const struct mail_reply *reply) MAY_YIELD;
/* A content flow does, and made copies or notices (NULL: none), which go into the same unit. */
enum result queue_settle_refused_with(struct queue_attempt *attempt, const struct mail_reply *reply,
                                      const struct queue_content_run *run) MAY_YIELD;
/* Do to it what an operator asked for while it was in work. False: nothing. The entry may be gone;
 * if it could not be failed, it waits with its wish. */
bool queue_grant_wish(struct queue_attempt *attempt) MAY_YIELD;
/* It goes, and nobody is told; written lazily. */
void queue_settle_dropped(struct queue_attempt *attempt);
/* content_run.c: the groups of a run as entries of the unit; or of them only what it generated. */
void queue_content_add(struct queue_unit *unit, const struct queue_attempt *attempt,
                       const struct queue_content_run *run, bool generated_only);
/* It cannot be read just now: again in a minute. */
void queue_settle_unread(struct queue_attempt *attempt, const struct error *err) MAY_YIELD;
/* It is damaged: counted, and no longer in the queue. */
void queue_settle_damaged(struct queue_attempt *attempt);

/* ---- notifications (notify.c) ---- */

struct queue_notice {
    struct queue_worker *worker;
    const struct queue_snapshot *snapshot;
    const struct transport *transport; /* that failed; NULL: notify about failures only */
    const struct queue_meta *meta;
    struct mail_content *content; /* of the message; body NULL: nothing is quoted */
    int64_t give_up_wall_ns;
    struct queue_dsn_recipient *recipients;
    size_t count;
};
enum queue_fate { QUEUE_FATE_SILENT, QUEUE_FATE_DSN, QUEUE_FATE_KEEP };
/* What happens about a recipient that failed. */
enum queue_fate queue_notice_fate(const struct queue_notice *notice,
                                  const struct mail_recipient *recipient);
bool queue_notice_wants(const struct queue_notice *notice, const struct mail_recipient *recipient,
                        enum queue_dsn_action action);
/* Add the notification about all of `recipients` to the unit: to the sender, or, about failures, to
 * postmaster where no transport takes the sender's domain. False: there is no way to either, and
 * what failed is to be kept. */
bool queue_notice_add(struct queue_unit *unit, const struct queue_notice *notice) MAY_YIELD;
/* A notification of ours failed: pass it on to postmaster, once. False: there is no postmaster to
 * reach. */
bool queue_notice_to_postmaster(struct queue_unit *unit,
                                const struct queue_notice *notice) MAY_YIELD;
/* The part of `meta` that names these recipients, held as undeliverable. */
void queue_notice_keep(struct queue_unit *unit, const struct queue_notice *notice,
                       const struct mail_content *content);
