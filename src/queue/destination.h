/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/destination.h - the numbers of a place that mail goes to: leases of connections, back-off.
 *
 * One object for all workers, behind a short mutex that is taken when a connection is opened or
 * closed and never per message while all is well. A lease is the right to have one connection. A
 * worker that got none is remembered and is told (`look`, on its own thread) when there is one.
 */
#pragma once

#include "base/arena.h"
#include "fiber/loop.h"

#include <pthread.h>
#include <stdatomic.h>

struct queue_destination;
struct queue_destinations;
struct queue_shares;

/* The part of one worker in one destination. */
struct queue_member {
    struct post post;
    atomic_bool posted;
    struct queue_destination *destination;
    size_t worker;
    unsigned granted; /* handed over and not yet taken */
    unsigned leased;
    atomic_bool waits; /* set under the mutex, read without */
    bool is_owed;      /* it waits, and has mail of a sender who did not have more than others */
    /* written by the worker only: messages that went through, by the minute */
    atomic_int_least64_t minute;
    atomic_uint_least64_t this_minute, last_minute;
};

enum queue_lease { QUEUE_LEASE_GRANTED, QUEUE_LEASE_FULL, QUEUE_LEASE_BACKED_OFF };

struct queue_destination_news { /* what a report changed, for events */
    bool backed_off;
    bool came_up;
    unsigned failures;
    int64_t backoff_until_ns;
};

/* `look(context, member)` runs on the loop stack of the member's worker. */
struct queue_destinations *
queue_destinations_new(struct loop *const *loops, size_t worker_count,
                       void (*look)(void *context, struct queue_member *member), void *context);
void queue_destinations_free(struct queue_destinations *destinations);

/* Find or make; a reference. */
struct queue_destination *queue_destination_get(struct queue_destinations *destinations,
                                                struct str key);
void queue_destination_unref(struct queue_destination *destination);
/* "TRANSPORT NAME" */
struct str queue_destination_key(const struct queue_destination *destination);
void queue_destination_parts(struct str key, struct str *out_transport, struct str *out_name);

/*
 * Ask for a lease. FULL: the worker is remembered, before others if it `is_owed` (mail of a sender
 * who had no more than others waits there, see shares.h). BACKED_OFF: the destination failed
 * repeatedly and is not tried now; its last error is put into `error`.
 */
enum queue_lease queue_destination_acquire(struct queue_destination *destination, size_t worker,
                                           bool is_owed, int64_t max, int64_t now_ns,
                                           struct error *error);
/* Is it backed off, or being probed? `out_probe_ns`: when the next probe is due (0: now, or it
 * runs). */
bool queue_destination_is_down(struct queue_destination *destination, int64_t *out_probe_ns);
/* Take leases that others handed over to this worker. */
unsigned queue_destination_take_granted(struct queue_destination *destination, size_t worker);
/* Give one back; another worker that waits gets it. */
void queue_destination_release(struct queue_destination *destination, size_t worker);
/* This worker has nothing to send any more. */
void queue_destination_forget(struct queue_destination *destination, size_t worker);
/* Does another worker than this wait for a lease? Cheap. */
bool queue_destination_is_wanted(const struct queue_destination *destination, size_t worker);
/* Should this worker let go of a busy connection for another one? When that is owed more than this
 * one; else only when it has more than its share, or the other has none: connections are worth
 * keeping. */
bool queue_destination_should_yield(struct queue_destination *destination, size_t worker,
                                    bool is_owed);
/* What senders had of it on all workers; NULL: there is one worker. */
struct queue_shares *queue_destination_shares(struct queue_destination *destination);

/* An operator wants a try now: no more back-off, the next attempt is the probe. */
void queue_destination_forgive(struct queue_destination *destination);
/* A message went through (whatever the recipients' replies): more at once, back-off ends. */
void queue_destination_success(struct queue_destination *destination, int64_t max,
                               struct queue_destination_news *out);
/* No host could be spoken to in an attempt that began at `started_ns`; failures of attempts that
 * ran side by side count once. */
void queue_destination_failure(struct queue_destination *destination, int64_t started_ns,
                               int64_t now_ns, const struct error *error,
                               struct queue_destination_news *out);

/* A message went through, on this worker; for the rate. */
void queue_destination_count(struct queue_destination *destination, size_t worker, int64_t now_ns);

/* ---- for operators ---- */

struct queue_destination_numbers {
    struct str transport, name;
    unsigned connections;     /* leases: open connections, or such as are being opened */
    int64_t window, max;      /* how many it may have now, and at most */
    unsigned failures;        /* in a row, of connecting */
    int64_t backoff_until_ns; /* monotonic, of the next probe; 0: not backed off */
    bool probing;
    int64_t failed_ns; /* monotonic, of the last failure; 0: none that is known */
    struct str last_error;
    uint64_t per_minute; /* messages in the last 60 s, about */
};
/* All that are known; texts in `arena`. */
struct queue_destination_numbers *
queue_destinations_numbers(struct queue_destinations *destinations, struct arena *arena,
                           size_t *out_count);

enum {
    QUEUE_BACKOFF_AFTER = 3, /* failures in a row */
    QUEUE_BACKOFF_FIRST_S = 15,
    QUEUE_BACKOFF_MAX_S = 300,
    QUEUE_WINDOW_FIRST = 5,
};
