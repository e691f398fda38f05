/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/transport_numbers.h - what lies in the queue of each transport, for /metrics.
 *
 * It takes a walk through the queue. A short one is walked each time; of a long one the numbers of
 * the last walk are given again until the walk was a hundredth of the time, so that who asks often
 * costs mail nothing.
 */
#pragma once

#include "base/arena.h"
#include "queue/queue.h"

struct gateway;
struct transport_watch;

struct transport_numbers {
    struct str name;
    uint64_t messages[QUEUE_PAUSED + 1]; /* by state */
    uint64_t bytes[QUEUE_PAUSED + 1];
    int64_t oldest_wall_ns; /* accepted, and not held; 0: there is none */
    bool paused;            /* an operator paused all of it */
    bool limited;           /* a destination waits for its rate */
};

struct transport_watch *transport_watch_new(void);
void transport_watch_free(struct transport_watch *watch); /* NULL is allowed */
/* Every transport of the configuration, and such as are no longer there and have mail; in `arena`.
 * *out_seconds: how old the numbers are. Any thread that is no worker. */
struct transport_numbers *transport_watch_look(struct transport_watch *watch,
                                               struct gateway *gateway, struct arena *arena,
                                               size_t *out_count, double *out_seconds);
