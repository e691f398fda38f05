/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/worker.h"

#include "base/check.h"
#include "base/memory.h"
#include "directory/directory.h"
#include "event/event.h"
#include "gateway/listen.h"
#include "gateway/settings.h"
#include "net/dns.h"
#include "queue/queue.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HEARTBEAT_MS = 500,
    BEATS_A_TRIM = 10,
    MANY_AT_REST = 200,
    BUSY_SWITCHES = 10000, /* between two trims */
    CALM_PART = 8,         /* of what it had to do when it was busiest */
    DRAIN_STEP_MS = 20,
    SETTLE_TURNS = 3
};

static _Thread_local struct worker *current;

struct worker *worker_current(void)
{
    return current;
}

/* It was busy, and now has far less to do. */
static bool calmed_down(struct worker *worker)
{
    uint64_t all = loop_stats(worker->loop).switches, since = all - worker->switches;
    worker->switches = all;
    if (since > worker->busiest)
        worker->busiest = since;
    if (worker->busiest < BUSY_SWITCHES || since > worker->busiest / CALM_PART)
        return false;
    worker->busiest = since;
    return true;
}

/* Sessions that wait for long keep what they need, and so does mail that waits. What handshakes,
 * sessions and bodies needed lies between what is kept, so when many came to rest, or a burst is
 * over, the heap gives its holes back, too: some ms, once. */
static void trim(struct worker *worker)
{
    worker->at_rest += loop_trim_stacks(worker->loop);
    bool calm = calmed_down(worker);
    if (worker->at_rest < MANY_AT_REST && !calm)
        return;
    worker->at_rest = 0;
    queue_rest(worker->gateway->queue, worker->index);
    memory_trim();
}

static void beat(struct loop_timer *timer)
{
    struct worker *worker = CONTAINER(timer, struct worker, heartbeat);
    if (atomic_fetch_add_explicit(&worker->heartbeats, 1, memory_order_relaxed) % BEATS_A_TRIM == 0)
        trim(worker);
    loop_timer_set(timer, clock_deadline(HEARTBEAT_MS * NS_PER_MS));
}

/* What the worker needs of its own before it can say that it is ready. */
static enum result make_parts(struct worker *worker)
{
    struct gateway *gateway = worker->gateway;
    worker->settings = settings_ref(gateway->settings);
    if (dns_new(worker->loop, &worker->settings->dns, &worker->dns, &worker->error) != OK)
        return FAILED;
    worker->directory =
        directory_new(gateway->directories, worker->dns, worker->settings->hostname);
    state_join(gateway->state, worker->index);
    queue_join(gateway->queue, worker->index, worker->dns);
    scope_init_root(&worker->sessions, worker->loop);
    list_init(&worker->open_sessions);
    worker->heartbeat.fire = beat;
    beat(&worker->heartbeat);
    return OK;
}

/*
 * Between workers go questions, answers and notices. All fibers of all workers have ended here,
 * but questions that were given up may still be on their way, and so may their answers: they
 * arrive in a few more turns, taken together, before any loop goes.
 */
static void settle(struct worker *worker)
{
    state_leave(worker->gateway->state, worker->index);
    for (int i = 0; i < SETTLE_TURNS; i++) {
        pthread_barrier_wait(&worker->gateway->ended);
        loop_stop(worker->loop);
        loop_run(worker->loop);
    }
    pthread_barrier_wait(&worker->gateway->ended);
}

/* Give everything back; the main thread frees state and queue when all workers are here. */
static void free_parts(struct worker *worker)
{
    dns_free(worker->dns);
    settings_unref(worker->settings);
    settings_unref(worker->trial);
    free(worker->closing);
    loop_free(worker->loop);
}

static void *run(void *arg)
{
    struct worker *worker = arg;
    struct gateway *gateway = worker->gateway;
    char name[16];
    snprintf(name, sizeof name, "worker-%zu", worker->index);
    pthread_setname_np(pthread_self(), name);
    current = worker;
    if (loop_new(NULL, &worker->loop, &worker->error) != OK)
        worker->loop = NULL;
    pthread_barrier_wait(&gateway->loops_made);
    pthread_barrier_wait(&gateway->loops_made); /* the main thread made state and queue between */
    bool good = worker->loop && gateway->queue && make_parts(worker) == OK;
    pthread_barrier_wait(&gateway->parts_made);
    if (good) {
        loop_run(worker->loop);
        settle(worker);
        free_parts(worker);
    }
    return NULL;
}

enum result worker_start(struct worker *worker, struct error *err)
{
    if (pthread_create(&worker->thread, NULL, run, worker) != 0)
        return fail(err, ERROR_LIMIT, "cannot start worker %zu", worker->index);
    return OK;
}

/* ---- reload ---- */

struct apply {
    struct post post;
    struct worker *worker;
    struct settings *settings;
    size_t count;
    int fds[];
};

static void take_trial(struct worker *worker, struct settings *trial, unsigned share)
{
    settings_unref(worker->trial);
    worker->trial = trial;
    worker->share = share;
}

static void answer(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->mutex);
    gateway->pending--;
    pthread_cond_broadcast(&gateway->answered);
    pthread_mutex_unlock(&gateway->mutex);
}

static void apply(struct post *post)
{
    struct apply *request = CONTAINER(post, struct apply, post);
    struct worker *worker = request->worker;
    settings_unref(worker->settings);
    worker->settings = request->settings;
    listen_open(worker, request->fds, request->count);
    struct gateway *gateway = worker->gateway;
    /* what a directory said under other settings counts no more */
    state_cache_drop_prefix(gateway->state, STR("auth:"));
    take_trial(worker, NULL, 0);
    answer(gateway);
    free(request);
}

void worker_apply(struct worker *worker, struct settings *settings, const int *fds, size_t count)
{
    struct apply *request = memory_alloc(sizeof *request + count * sizeof(int));
    request->post.run = apply;
    request->worker = worker;
    request->settings = settings_ref(settings);
    request->count = count;
    for (size_t i = 0; i < count; i++)
        request->fds[i] = fds[i];
    loop_post(worker->loop, &request->post);
}

struct sharing {
    struct post post;
    struct worker *worker;
    struct settings *trial;
    unsigned share;
};

static void begin_share(struct post *post)
{
    struct sharing *request = CONTAINER(post, struct sharing, post);
    take_trial(request->worker, request->trial, request->share);
    answer(request->worker->gateway);
    free(request);
}

void worker_share(struct worker *worker, struct settings *trial, unsigned share)
{
    struct sharing *request = NEW(struct sharing);
    *request = (struct sharing){.post = {.run = begin_share},
                                .worker = worker,
                                .trial = trial ? settings_ref(trial) : NULL,
                                .share = share};
    loop_post(worker->loop, &request->post);
}

/* ---- drain ---- */

struct drain {
    struct post post;
    struct worker *worker;
    int64_t deadline_ns;
};

struct closing {
    struct scope scope; /* of the fiber that closes; outlives it */
    struct worker *worker;
    int64_t deadline_ns;
};

/* Sessions first: they may still hand mail to the queue. */
NO_YIELD_CHECK static void close_parts(void *arg)
{
    struct closing *closing = arg;
    struct worker *worker = closing->worker;
    struct gateway *gateway = worker->gateway;
    while (!scope_is_empty(&worker->sessions)) {
        session_end_idle(worker);
        if (clock_monotonic_ns() >= closing->deadline_ns)
            scope_cancel(&worker->sessions);
        if (fiber_sleep(DRAIN_STEP_MS * NS_PER_MS, NULL) != OK)
            break;
    }
    worker->left = true;
    queue_leave(gateway->queue, worker->index, closing->deadline_ns);
    directory_free(worker->directory);
    loop_timer_clear(&worker->heartbeat);
    /* Others may still ask this one, so its loop goes on until the last has come this far. */
    if (atomic_fetch_add(&gateway->workers_closed, 1) + 1 < gateway->worker_count)
        return;
    for (size_t i = 0; i < gateway->worker_count; i++)
        loop_stop(gateway->workers[i].loop);
}

static void drain(struct post *post)
{
    struct drain *request = CONTAINER(post, struct drain, post);
    struct worker *worker = request->worker;
    listen_close(worker);
    struct closing *closing = NEW(struct closing);
    worker->closing = closing;
    closing->worker = worker;
    closing->deadline_ns = request->deadline_ns;
    free(request);
    scope_init_root(&closing->scope, worker->loop);
    struct error err;
    check(fiber_spawn(&closing->scope, "drain", close_parts, closing, &err) == OK);
}

void worker_drain(struct worker *worker, int64_t deadline_ns)
{
    struct drain *request = NEW(struct drain);
    *request = (struct drain){.post = {.run = drain}, .worker = worker, .deadline_ns = deadline_ns};
    loop_post(worker->loop, &request->post);
}
