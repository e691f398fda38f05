/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/handover.c - entries found by a spool that loads while mail flows, handed to the workers.
 *
 * The spool's thread copies them into the handover of their worker; a full one is posted to the
 * worker's loop, and the spool's thread waits when that worker has not yet dealt with the one
 * before. So loading never outruns the workers, and takes a bounded part of a turn of their loops.
 */
#include "base/memory.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { AT_ONCE = 128, LOOK_MS = 1 };

struct queue_given {
    struct spool_found found;
    char *bytes; /* of its texts */
};

static void take_one(struct queue_worker *worker, struct queue_given *given)
{
    struct queue *queue = worker->queue;
    struct queue_entry *entry =
        worker->stopping ? NULL : queue_entry_of_found(queue, &given->found);
    free(take(given->bytes));
    if (entry == NULL)
        return;
    uint32_t pending = entry->pending;
    queue_entry_start_found(entry);
    atomic_fetch_sub(&queue->unloaded, pending);
}

static void post_taken(struct post *post)
{
    struct queue_handover *handover = CONTAINER(post, struct queue_handover, post);
    for (size_t i = 0; i < handover->handed_count; i++)
        take_one(handover->worker, &handover->handed[i]);
    handover->handed_count = 0;
    atomic_store(&handover->busy, false);
}

/* False: the worker has left, and what it did not take stays in the spool. */
static bool wait_for(struct queue_worker *worker)
{
    while (atomic_load(&worker->handover.busy)) {
        if (!atomic_load(&worker->reachable))
            return false;
        (void)nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * NS_PER_MS}, NULL);
    }
    return true;
}

static void forget_filling(struct queue_handover *handover)
{
    for (size_t i = 0; i < handover->filling_count; i++)
        free(take(handover->filling[i].bytes));
    handover->filling_count = 0;
}

static void flush(struct queue_worker *worker)
{
    struct queue *queue = worker->queue;
    struct queue_handover *handover = &worker->handover;
    if (handover->filling_count == 0)
        return;
    if (!wait_for(worker)) {
        forget_filling(handover);
        return;
    }
    pthread_mutex_lock(&queue->posting);
    if (atomic_load(&worker->reachable)) {
        struct queue_given *empty = handover->handed;
        handover->handed = handover->filling;
        handover->handed_count = handover->filling_count;
        handover->filling = empty;
        handover->filling_count = 0;
        handover->post.run = post_taken;
        atomic_store(&handover->busy, true);
        loop_post(worker->loop, &handover->post);
    }
    pthread_mutex_unlock(&queue->posting);
    forget_filling(handover);
}

static void end(struct queue *queue)
{
    bool complete = true;
    for (size_t i = 0; i < queue->worker_count; i++) {
        flush(&queue->workers[i]);
        complete = wait_for(&queue->workers[i]) && complete;
        complete = complete && atomic_load(&queue->workers[i].reachable);
    }
    if (!complete)
        return; /* the process ends */
    queue_square_books(queue, atomic_exchange(&queue->unloaded, 0));
    atomic_store(&queue->loading, false);
    memory_trim(); /* loading took much more than what stays */
}

void queue_handover_give(struct queue *queue, const struct spool_found *found)
{
    if (found == NULL) {
        end(queue);
        return;
    }
    struct queue_worker *worker = &queue->workers[found->entry.low % queue->worker_count];
    struct queue_handover *handover = &worker->handover;
    handover->worker = worker;
    if (handover->filling == NULL)
        handover->filling = memory_alloc_array(AT_ONCE, sizeof *handover->filling);
    struct queue_given *given = &handover->filling[handover->filling_count++];
    given->found = *found;
    given->bytes = memory_alloc(found->meta.len + found->state.len + 1);
    memcpy(given->bytes, found->meta.ptr, found->meta.len);
    memcpy(given->bytes + found->meta.len, found->state.ptr, found->state.len);
    given->found.meta = str_of(given->bytes, found->meta.len);
    given->found.state = str_of(given->bytes + found->meta.len, found->state.len);
    if (handover->filling_count == AT_ONCE)
        flush(worker);
}

void queue_handover_done(struct queue_worker *worker)
{
    struct queue_handover *handover = &worker->handover;
    forget_filling(handover);
    for (size_t i = 0; i < handover->handed_count; i++)
        free(take(handover->handed[i].bytes));
    free(handover->filling);
    free(handover->handed);
}
