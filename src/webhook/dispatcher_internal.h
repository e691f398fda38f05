/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/dispatcher_internal.h - what the files of the dispatcher share. */
#pragma once

#include "base/list.h"
#include "webhook/dispatcher.h"

struct set { /* counted; on the dispatcher's thread */
    struct webhook_set given;
    unsigned references;
};

struct endpoint {
    struct list link;
    char name[WEBHOOK_NAME_MAX + 1];
    const struct webhook_settings *webhook; /* NULL: no longer configured, attempts run out */
    struct set *set;

    unsigned in_flight, tests;
    int64_t rows[WEBHOOK_CONCURRENCY_MAX]; /* of these; 0: a free place */

    bool is_paused, is_disabled, is_failing;
    int64_t since_ms;
    char by[128];
    unsigned failures; /* in a row */
    int64_t hold_until_ms;
    int64_t expire_ms; /* when to look for old ones again */
    char error[160];
    int64_t delivered_ms;

    uint64_t count, bytes; /* that wait */
    uint64_t finished;     /* since the log of deliveries was cut */
    uint64_t batch_count, batch_bytes;
    uint64_t delivered, failed, dropped, dropped_told, attempts_failed;
};

struct webhook_dispatcher {
    char path[4096];
    char node[256];
    struct webhook_sender *sender;
    struct webhook_outbox *outbox; /* NULL: not needed yet, or it cannot be opened */
    bool is_failed;                /* told; the next write that works is told too */
    int64_t open_ms;               /* when to try again */
    struct list endpoints;
    struct set *set;
    struct fiber *fiber; /* that tries what is due */
    struct scope attempts;
    bool is_running; /* `attempts` is open */
    bool batch_good;
    unsigned tests;
    struct buf payloads[2];
    uint64_t lost, lost_told;
    int64_t tell_ms;
};

/* Now, in milliseconds of a wall clock that nobody sets back. */
int64_t dispatcher_now_ms(void);
/* One that is no longer configured, and has no attempt left, goes. */
void dispatcher_let_go(struct endpoint *endpoint);
struct endpoint *dispatcher_find(const struct webhook_dispatcher *dispatcher, struct str name);
void dispatcher_set_unref(struct set *set);
void dispatcher_wake(struct webhook_dispatcher *dispatcher);
/* Told once; `result` OK: told that it works again. */
void dispatcher_note_outbox(struct webhook_dispatcher *dispatcher, enum result result,
                            const struct error *err);
/* Open it if it is not; false: not now. */
bool dispatcher_has_outbox(struct webhook_dispatcher *dispatcher);
void dispatcher_count_waiting(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint);
/* Paused, disabled or not: as it is now, onto the disk. */
enum result dispatcher_mark(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                            struct error *err);

/* dispatcher_attempt.c: an attempt of a delivery in a fiber of its own. */
void dispatcher_try(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint, int64_t row);
/* The same as somebody wishes, though the receiver is left alone otherwise; if it is not under way
 * already, and a place is free. */
void dispatcher_try_now(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                        int64_t row);
/* The receiver took one. */
void dispatcher_recovered(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint);
