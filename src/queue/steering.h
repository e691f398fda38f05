/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/steering.h - what operators said about transports and destinations: pause, slow.
 *
 * Kept in one small text file that is replaced as a whole (written, synced, renamed), so it
 * outlives restarts. How long a destination stood paused is kept too: that time does not count in
 * the life of its mail. Any thread may call; reads cost nothing while there are no orders.
 *
 * The file: a first line "postern-steering 1", then a line an order, parts separated by tabs:
 *   pause  TRANSPORT DESTINATION SINCE ACTOR REASON
 *   slow   TRANSPORT DESTINATION SINCE COUNT PERIOD ACTOR REASON
 *   paused TRANSPORT DESTINATION FROM UNTIL
 * An empty DESTINATION means all of the transport; times are nanoseconds of Unix time.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "config/option.h"

struct queue_steering;

struct queue_steering_order {
    struct str transport;
    struct str destination; /* empty: all of the transport */
    bool paused;
    struct option_rate slow; /* count 0: not slowed */
    int64_t since_wall_ns;
    struct str actor, reason;
};
/* What holds for one destination. */
struct queue_steering_view {
    bool paused;
    struct option_rate slow; /* that of the destination itself goes before that of its transport */
};

enum { QUEUE_STEERING_MAX = 1000 /* orders */ };

struct queue_steering *queue_steering_new(void);
void queue_steering_free(struct queue_steering *steering);
/* Read the file at `path`, which need not be there, and keep every change in it from now on.
 * FAILED: it is not ours or damaged; nobody can say what was paused. */
enum result queue_steering_open(struct queue_steering *steering, struct str path,
                                struct error *err);

/* Everything stands as paused for the life of the process, whatever operators order: after repeated
 * crashes. Before the workers join. */
void queue_steering_stop_all(struct queue_steering *steering);

/* Goes up with every change. */
unsigned queue_steering_generation(const struct queue_steering *steering);
struct queue_steering_view queue_steering_find(struct queue_steering *steering,
                                               struct str transport, struct str destination);
/* How much of [from, until] the destination stood paused. */
int64_t queue_steering_paused_ns(struct queue_steering *steering, struct str transport,
                                 struct str destination, int64_t from_wall_ns,
                                 int64_t until_wall_ns);

/* `order.paused` or `order.slow`; replaces an order of that kind for the same place. FAILED: not
 * written, nothing changed. Blocks (a file is synced). */
enum result queue_steering_put(struct queue_steering *steering,
                               const struct queue_steering_order *order, struct error *err);
/* Take orders back: those of this destination, or with none given all of the transport's. */
enum result queue_steering_clear(struct queue_steering *steering, struct str transport,
                                 struct str destination, int64_t now_wall_ns, size_t *out_count,
                                 struct error *err);
/* Orders in force, texts in `arena`. */
struct queue_steering_order *queue_steering_list(struct queue_steering *steering,
                                                 struct arena *arena, size_t *out_count);
