/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/dispatcher.h - decides what is sent when: takes events into the outbox, tries what is
 * due, leaves receivers alone that fail, and tells of both.
 *
 * All of it on one thread, which has a loop. Each webhook has its own attempts, 1 to 4 at a time,
 * so one that hangs holds up no other. At least once, in no order.
 */
#pragma once

#include "fiber/loop.h"
#include "webhook/outbox.h"
#include "webhook/sender.h"
#include "webhook/settings.h"

struct webhook_dispatcher;

/* The webhooks of a configuration, and what keeps it alive. */
struct webhook_set {
    const struct webhook_settings *items;
    size_t count;
    void *keeper;
    void (*release)(void *keeper); /* any thread */
};

/* `path` of the outbox. Off a fiber; `sender` is taken over. */
struct webhook_dispatcher *webhook_dispatcher_new(struct str path, struct str node,
                                                  struct webhook_sender *sender);
/* After its fibers have ended. NULL is allowed. */
void webhook_dispatcher_free(struct webhook_dispatcher *dispatcher);

/* From now on these (taken over). What waits for one that is no longer there is dropped. */
void webhook_dispatcher_use(struct webhook_dispatcher *dispatcher, const struct webhook_set *set);

/* Events come between begin and end. */
void webhook_dispatcher_begin(struct webhook_dispatcher *dispatcher);
void webhook_dispatcher_take(struct webhook_dispatcher *dispatcher, const struct event *event,
                             struct str revision);
void webhook_dispatcher_end(struct webhook_dispatcher *dispatcher);
/* So many were lost before they came here: is told with the others. */
void webhook_dispatcher_lost(struct webhook_dispatcher *dispatcher, uint64_t count);

/* The fiber that tries what is due; ends when its scope is cancelled. */
void webhook_dispatcher_run(void *dispatcher) MAY_YIELD;

/* ---- for people ---- */

struct webhook_status {
    struct str name;
    struct str origin; /* where it goes, without the path */
    bool is_failing, is_paused, is_disabled;
    int64_t since_ms;     /* of the first of these that holds */
    struct str by;        /* who paused it */
    struct str error;     /* of the last failure */
    int64_t next_ms;      /* when a failing one is tried again; 0: now */
    int64_t delivered_ms; /* the last time that one was taken; 0: not since the start */
    uint64_t pending, pending_bytes;
    int64_t oldest_ms; /* when the oldest of these was created; 0: there are none */
    unsigned in_flight, secrets;
    uint64_t delivered, failed, dropped; /* deliveries since the start */
    uint64_t attempts_failed;
};
/* Of all, in the order of the configuration. Texts in `arena`. */
struct webhook_status *webhook_dispatcher_list(struct webhook_dispatcher *dispatcher,
                                               struct arena *arena, size_t *out_count);
bool webhook_dispatcher_knows(const struct webhook_dispatcher *dispatcher, struct str name);

struct webhook_deliveries {
    struct webhook_delivery *items;
    size_t count;
    bool has_more; /* behind the last one */
};
enum result webhook_dispatcher_deliveries(struct webhook_dispatcher *dispatcher, struct str name,
                                          int state, int64_t before, size_t most,
                                          struct arena *arena, struct webhook_deliveries *out,
                                          struct error *err);
enum result webhook_dispatcher_delivery(struct webhook_dispatcher *dispatcher, struct str id,
                                        struct arena *arena, struct webhook_delivery *out,
                                        bool *out_found, struct error *err);
/* Try it now, whatever became of it. */
enum result webhook_dispatcher_retry(struct webhook_dispatcher *dispatcher, struct str id,
                                     bool *out_found, struct error *err);
/* A paused one keeps its deliveries until it is resumed, which also ends a 410 and a hold. */
enum result webhook_dispatcher_pause(struct webhook_dispatcher *dispatcher, struct str name,
                                     bool pause, struct str by, struct error *err);
/* One attempt with a payload of its own, now; it stands among the deliveries. `done` gets what
 * became of it, on the loop; NULL: the dispatcher ends, or too many run. */
void webhook_dispatcher_test(struct webhook_dispatcher *dispatcher, struct str name,
                             void (*done)(const struct webhook_delivery *delivery, void *arg),
                             void *arg);
