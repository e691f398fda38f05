/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/loop.h - the event loop of a thread: epoll, timers, posts from other threads, fibers.
 *
 * One loop a thread. Everything here belongs to the loop's thread, except loop_post(),
 * loop_stop() and the queries.
 */
#pragma once

#include "fiber/fiber.h"

struct loop;

struct loop_limits {
    size_t fibers;        /* cap; 0 = 28,000. All loops of a process together have no more than
                             that many stacks, because of vm.max_map_count */
    size_t pooled_stacks; /* kept warm; 0 = 256 */
};

/* ---- life cycle ---- */

/* Make the loop of the calling thread. */
enum result loop_new(const struct loop_limits *limits, struct loop **out_loop, struct error *err);
/* All scopes must be empty, and nobody may post any more; what was posted runs first. NULL is
 * allowed. */
void loop_free(struct loop *loop);
/* Run until loop_stop(); returns after the current turn. A stop that came before the call counts:
 * one turn runs then, without sleeping. */
void loop_run(struct loop *loop);
/* Any thread. */
void loop_stop(struct loop *loop);
/* The loop of this thread, or NULL. */
struct loop *loop_current(void);

/* ---- waiting for descriptors ---- */

/*
 * One descriptor in the loop's epoll set, edge triggered, both directions at once. Lives in its
 * owner's object. At most one fiber waits for each direction.
 */
struct watch {
    int fd;
    bool readable;
    bool writable;
    bool special; /* the end, an error or urgent data was told of: a short read is not the last */
    struct fiber *reader;
    struct fiber *writer;
};

enum result watch_open(struct watch *watch, int fd, struct error *err);
/* Take it out of the set; does not close the descriptor. Waiting fibers must be gone. */
void watch_close(struct watch *watch);
/* Call after a read (write) said EAGAIN: waits until it may go on. FAILED as fiber_suspend(). */
enum result watch_wait_readable(struct watch *watch, struct error *err) MAY_YIELD;
enum result watch_wait_writable(struct watch *watch, struct error *err) MAY_YIELD;

/* A descriptor whose events are told to a function on the loop's stack (listening sockets, DNS):
 * level triggered, `exclusive` sets EPOLLEXCLUSIVE. The function must not suspend. */
struct loop_source {
    int fd;
    void (*ready)(struct loop_source *source, uint32_t epoll_events);
    uint32_t events; /* private */
    bool exclusive;  /* private */
};
enum result loop_source_add(struct loop_source *source, uint32_t epoll_events, bool exclusive,
                            struct error *err);
/* 0 silences it, errors too, until it is modified again. */
void loop_source_modify(struct loop_source *source, uint32_t epoll_events);
void loop_source_remove(struct loop_source *source);

/* ---- timers ---- */

struct loop_timer {
    int64_t due_ns; /* monotonic */
    void (*fire)(struct loop_timer *timer);
    size_t heap_index; /* 0: not armed */
};
/* Arm, or move an armed timer. `fire` runs on the loop's stack and must not suspend; it may arm
 * the timer again, for the next turn at the earliest. */
void loop_timer_set(struct loop_timer *timer, int64_t due_ns);
void loop_timer_clear(struct loop_timer *timer);

/* ---- from other threads ---- */

/*
 * A message to a loop. The node is embedded in the sender's memory, so posting cannot fail; it
 * belongs to the receiver from the call on. `run` is called on the loop's stack.
 */
struct post {
    struct post *next;
    void (*run)(struct post *post);
};
/* Any thread. Wake-ups are batched: one write a burst, not one a post. */
void loop_post(struct loop *loop, struct post *post);
/* Post a chain (first … last linked by next, in order) with one wake-up. */
void loop_post_chain(struct loop *loop, struct post *first, struct post *last);

/* Call `hook` at the end of every turn, before the loop sleeps (batching of replies, of commits).
 * At most 8 hooks; a hook may remove itself, but no other, while it runs. */
struct loop_hook {
    struct list link;
    void (*run)(struct loop_hook *hook);
};
void loop_hook_add(struct loop *loop, struct loop_hook *hook);
void loop_hook_remove(struct loop_hook *hook);

/* ---- memory ---- */

/* Give back the stack that fibers once needed and do not need now, of those that have not run since
 * the call before; returns of how many. Call it every few seconds, on the loop's stack: who waits
 * for long then costs a page or two, and who is busy never pays for it. */
size_t loop_trim_stacks(struct loop *loop);

/*
 * Memory for short use, not zeroed. The loop keeps a few blocks of LOOP_BLOCK and of two, which are
 * what buffers of a conversation need between two waits; other sizes come from the heap, and so do
 * all on a thread without a loop. Who had a secret in it wipes it before.
 */
enum { LOOP_BLOCK = 4096 };
[[nodiscard]] void *loop_block_take(size_t size);
/* `size` as it was taken; NULL is allowed. */
void loop_block_give(void *block, size_t size);

/* ---- queries ---- */

struct loop_stats {
    uint64_t turns;
    uint64_t wakeups; /* epoll_wait calls that returned something */
    uint64_t posts;
    uint64_t switches; /* into fibers */
    size_t fibers;     /* alive now */
    int64_t longest_turn_ns;
};
/* Any thread; the figures need not be of one moment. */
struct loop_stats loop_stats(const struct loop *loop);
/* How many more fibers can be spawned now; on the loop's thread. */
size_t loop_fibers_left(const struct loop *loop);
