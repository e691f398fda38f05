/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event/ring.h - one thread's events on their way to the reader.
 *
 * Private to event/. One producer (the thread) and one consumer (the reader), no lock. A record
 * is never split: where it does not fit before the end, the rest is skipped.
 */
#pragma once

#include "event/record.h"

#include <stdatomic.h>

enum { RING_BYTES = 1 << 20 };

struct ring {
    /* ---- the producer's ---- */
    _Alignas(64) atomic_uint_least64_t head; /* bytes ever written */
    uint64_t known_tail;                     /* what the producer last saw of tail */
    struct image *images[EVENT_TYPE_COUNT];  /* of the last event of each type; NULL: none yet */

    /* ---- the reader's ---- */
    _Alignas(64) atomic_uint_least64_t tail; /* bytes ever given back */
    uint64_t limit;                          /* where the current drain ends */
    int64_t next_wall_ns;                    /* of the record at tail */
    struct ring *next_busy;                  /* of those that the current drain has to empty */

    atomic_bool ended; /* the thread is gone */
    struct ring *next; /* in the registry */
    unsigned source;   /* its number there; free again when it is forgotten */
    _Alignas(64) char bytes[RING_BYTES];
};

/* Append; false if there is no room. `may_differ`: which fields can be others than in the last
 * event of this type that was put. `keep_free` bytes are left for what matters more. */
bool ring_put(struct ring *ring, enum event_type type, int64_t wall_ns,
              const struct event_field *const *fields, unsigned count, uint32_t may_differ,
              size_t keep_free);
size_t ring_used(const struct ring *ring);

/* The reader: look at what came until now; false if there is nothing. */
bool ring_begin(struct ring *ring);
/* The next record before `limit`, whose bytes stay valid until ring_release(); the ring must not be
 * at its limit. */
struct str ring_get(struct ring *ring);
/* Give the record back; false at the limit. */
bool ring_release(struct ring *ring);
