/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/internal.h - the loop and the fiber as the files of this folder see them.
 */
#pragma once

#include "fiber/context.h"
#include "fiber/loop.h"
#include "fiber/stack.h"

#include <stdatomic.h>
#include <sys/epoll.h>

enum fiber_state { FIBER_READY, FIBER_RUNNING, FIBER_SUSPENDED, FIBER_ENDED };

struct fiber {
    struct context context;
    struct stack *stack;
    struct loop *loop;
    enum fiber_state state;
    enum { REST_NONE, REST_ONCE, REST_TRIMMED } rest; /* see loop_trim_stacks() */
    bool woken;                                       /* a wake-up that no wait has taken yet */
    struct list ready;                                /* in loop->ready or loop->patient */
    struct scope *home;                               /* the scope that owns it */
    struct scope *innermost;                          /* the scope it opened last, or home */
    struct list in_scope;                             /* in home->fibers */
    struct list in_loop;                              /* in loop->fibers */
    struct loop_timer timer; /* may be armed earlier than needed; see fiber_timer() */
    int64_t wait_until_ns;   /* what the current wait ends at */
    const char *name;
    void (*run)(void *arg);
    void *arg;
    const void *event_context;
};

struct timer_slot {
    int64_t due_ns;
    struct loop_timer *timer;
};

/* A heap with the root at index 1, so that index 0 means "not armed". */
struct timer_heap {
    struct timer_slot *slots;
    size_t count;
    size_t cap;
};

/* Posts of other threads: a stack that senders push on and the loop takes whole. */
struct mailbox {
    _Alignas(64) _Atomic(struct post *) head;
    atomic_bool asleep;  /* the loop may be blocked in epoll_wait */
    atomic_uint posting; /* senders inside loop_post(), so that loop_free() can wait for them */
    int event_fd;
};

enum { LOOP_EVENTS = 256, LOOP_HOOKS = 8, LOOP_SPARE_BLOCKS = 16 };

struct spare_blocks {
    void *blocks[LOOP_SPARE_BLOCKS];
    unsigned count;
};

struct loop {
    /* ---- fibers ---- */
    struct context context; /* of the thread's own stack */
    struct fiber *current;
    bool on_loop_stack; /* the current fiber runs a call on the loop's stack */
    void (*stack_call)(void *arg);
    void *stack_call_arg;
    struct list ready;
    struct list patient; /* ready too: they yielded, so others go first */
    struct list fibers;  /* all of them */
    size_t max_fibers;
    struct stack_pool stacks;

    /* ---- descriptors ---- */
    int epoll_fd;
    struct epoll_event events[LOOP_EVENTS];
    int event_count; /* of the batch being told now */
    int event_next;

    /* ---- the rest ---- */
    struct timer_heap timers;
    struct spare_blocks spare[2]; /* of LOOP_BLOCK, and of two */
    struct list hooks;
    unsigned hook_count;
    atomic_bool stop;

    /* Written by the loop's thread only, read by any. */
    struct {
        atomic_uint_least64_t turns, wakeups, posts, switches;
        atomic_size_t fibers;
        atomic_int_least64_t longest_turn_ns;
    } stats;

    struct mailbox mailbox;
};

/* A counter with one writer needs no locked instruction. */
#define STAT_ADD(counter, amount)                                                                  \
    atomic_store_explicit(&(counter),                                                              \
                          atomic_load_explicit(&(counter), memory_order_relaxed) + (amount),       \
                          memory_order_relaxed)

/* fiber.c: run until it suspends or ends; frees it if it ended. */
void fiber_resume(struct fiber *fiber);
/* Make a suspended fiber run again without leaving a wake-up behind. */
void fiber_interrupt(struct fiber *fiber);
/* Suspend whatever the scopes say: no error, no deadline; takes no wake-up. */
void fiber_suspend_firmly(void);
/* The running fiber; checks that there is one and that it may suspend. */
struct fiber *fiber_require(void);

/* poll.c: wait for descriptors, at most `timeout_ms`, and tell whom they concern. */
void loop_poll(struct loop *loop, int timeout_ms);

/* timer.c */
int64_t timer_next_due(const struct loop *loop);
void timer_fire_due(struct loop *loop, int64_t now_ns);

/* mailbox.c */
void mailbox_init(struct mailbox *mailbox, int event_fd);
bool mailbox_is_empty(const struct mailbox *mailbox);
void mailbox_wake(struct mailbox *mailbox);
/* True if the loop may block; mailbox_awake() must follow. */
bool mailbox_go_to_sleep(struct mailbox *mailbox);
void mailbox_awake(struct mailbox *mailbox);
/* Run what is there now; returns how many. */
size_t mailbox_run(struct mailbox *mailbox);

/* block.c */
void blocks_done(struct loop *loop);
