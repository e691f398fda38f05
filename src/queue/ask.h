/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/ask.h - asking all workers from a thread that is none, and waiting for the answers.
 *
 * A question is run on a fiber of each worker. It is counted, so that an asker who gives up leaves
 * it to the workers; the last one frees it.
 */
#pragma once

#include "queue/worker.h"

struct queue_ask;

struct queue_share { /* of one worker */
    struct post post;
    struct queue_ask *ask;
    struct queue_worker *worker; /* NULL: it was not asked */
    struct arena *arena;         /* for what is found */
    void *out;                   /* what is found; free() */
    size_t count, cap, total;
    size_t missed; /* see queue_action_result.unreadable */
    size_t failed; /* see there, too */
    bool cut;      /* more was found than is kept */
    bool enough;   /* no more is to be looked at */
};

/* The first member of what asks; see queue_ask_new. */
struct queue_ask {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    size_t running; /* shares not yet answered */
    unsigned references;
    atomic_size_t steps; /* somebody got on: who asks waits on */
    struct queue *queue;
    struct arena *arena;                    /* for the question's texts */
    void (*run)(struct queue_share *share); /* MAY_YIELD */
    void (*release)(struct queue_ask *ask); /* what is not in arenas; NULL: nothing */
    struct queue_share *shares;
    size_t share_count;
};

enum { QUEUE_ASK_SLICE = 128 /* entries, then the loop has a turn */ };

/* `size` bytes, zeroed, that begin with a struct queue_ask; one reference. */
void *queue_ask_new(struct queue *queue, size_t size);
void queue_ask_unref(struct queue_ask *ask);
/* Run it on all workers and wait; may be called again for a second step. FAILED: no answer in half
 * a minute, nor a step towards one. */
enum result queue_ask_all(struct queue_ask *ask, void (*run)(struct queue_share *share),
                          struct error *err);
