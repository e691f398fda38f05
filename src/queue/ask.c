/* SPDX-License-Identifier: Apache-2.0 */
/* queue/ask.c - posts, fibers and the count of answers. */
#include "queue/ask.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_S = 30 };

void *queue_ask_new(struct queue *queue, size_t size)
{
    struct queue_ask *ask = memory_alloc(size);
    pthread_condattr_t attributes;
    pthread_mutex_init(&ask->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ask->done, &attributes);
    pthread_condattr_destroy(&attributes);
    ask->references = 1;
    ask->queue = queue;
    ask->arena = arena_new(0);
    ask->share_count = queue->worker_count;
    ask->shares = memory_alloc_array(ask->share_count, sizeof *ask->shares);
    return ask;
}

void queue_ask_unref(struct queue_ask *ask)
{
    pthread_mutex_lock(&ask->mutex);
    unsigned left = --ask->references;
    pthread_mutex_unlock(&ask->mutex);
    if (left > 0)
        return;
    if (ask->release != NULL)
        ask->release(ask);
    for (size_t i = 0; i < ask->share_count; i++) {
        arena_free(ask->shares[i].arena);
        free(ask->shares[i].out);
    }
    free(ask->shares);
    arena_free(ask->arena);
    pthread_cond_destroy(&ask->done);
    pthread_mutex_destroy(&ask->mutex);
    free(ask);
}

static void answer(struct queue_share *share)
{
    struct queue_ask *ask = share->ask;
    pthread_mutex_lock(&ask->mutex);
    if (--ask->running == 0)
        pthread_cond_signal(&ask->done);
    pthread_mutex_unlock(&ask->mutex);
    queue_ask_unref(ask);
}

static MAY_YIELD void run_share(void *arg)
{
    struct queue_share *share = arg;
    share->ask->run(share);
    answer(share);
}

static void post_share(struct post *post)
{
    struct queue_share *share = CONTAINER(post, struct queue_share, post);
    struct queue_worker *worker = share->worker;
    struct error err;
    if (!worker->joined || worker->stopping ||
        fiber_spawn(&worker->scope, "queue operator", run_share, share, &err) == FAILED)
        answer(share);
}

/* Both mutexes are held. */
static void post_all(struct queue_ask *ask)
{
    struct queue *queue = ask->queue;
    for (size_t i = 0; i < queue->worker_count; i++) {
        struct queue_share *share = &ask->shares[i];
        if (!atomic_load(&queue->workers[i].reachable))
            continue;
        share->ask = ask;
        share->worker = &queue->workers[i];
        if (share->arena == NULL)
            share->arena = arena_new(0);
        share->post.run = post_share;
        ask->running++;
        ask->references++;
        loop_post(queue->loops[i], &share->post);
    }
}

/* The mutex is held. */
static void wait_a_while(struct queue_ask *ask)
{
    struct timespec until;
    int waited = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    while (ask->running > 0 && waited == 0)
        waited = pthread_cond_timedwait(&ask->done, &ask->mutex, &until);
}

enum result queue_ask_all(struct queue_ask *ask, void (*run)(struct queue_share *share),
                          struct error *err)
{
    pthread_mutex_lock(&ask->mutex);
    ask->run = run;
    pthread_mutex_lock(&ask->queue->posting);
    post_all(ask);
    pthread_mutex_unlock(&ask->queue->posting);
    size_t steps;
    do {
        steps = atomic_load(&ask->steps);
        wait_a_while(ask);
    } while (ask->running > 0 && atomic_load(&ask->steps) != steps);
    bool complete = ask->running == 0;
    pthread_mutex_unlock(&ask->mutex);
    return complete ? OK : fail(err, ERROR_TIMEOUT, "a worker does not answer");
}
