/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/lane.h"

#include "base/check.h"
#include "base/list.h"
#include "base/memory.h"
#include "fiber/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BACKGROUND_NICE = 10 };

/* Of one job inside the lane. `progress` and the writing of `abandoned` are under the lane's lock;
 * `waiter` and `done` belong to the thread that waits. */
struct lane_job_state {
    struct list link; /* in lane->waiting */
    struct lane *lane;
    struct post post; /* the way back */
    struct lane_job *job;
    struct loop *loop;
    struct fiber *waiter; /* NULL once it gave up */
    bool done;
    enum { WAITING, RUNNING, FINISHED } progress;
    atomic_bool abandoned;
};

struct lane {
    const char *name;
    size_t max_jobs; /* waiting and running */
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job waits, or the lane ends */
    struct list waiting;
    size_t jobs; /* waiting and running */
    bool ending;
    atomic_bool stopped;
    bool background;
    unsigned thread_count;
    pthread_t threads[];
};

/* ---- the lane's threads ---- */

static void finished(struct post *post)
{
    struct lane_job_state *state = CONTAINER(post, struct lane_job_state, post);
    if (state->waiter) {
        state->done = true;
        fiber_wake(state->waiter);
        return;
    }
    state->job->release(state->job);
    free(state);
}

static void run_job(struct lane *lane, struct lane_job_state *state)
{
    state->job->work(state->job);
    pthread_mutex_lock(&lane->lock);
    lane->jobs--;
    bool abandoned = state->abandoned;
    state->progress = FINISHED;
    pthread_mutex_unlock(&lane->lock);
    /* Nobody waits any more, perhaps not even the loop is there. */
    if (abandoned) {
        state->job->release(state->job);
        free(state);
        return;
    }
    state->post.run = finished;
    loop_post(state->loop, &state->post);
}

/* A thread names itself: the process may be confined such that it cannot name others. */
static void name_thread(const char *name)
{
    char short_name[16] = ""; /* what the kernel keeps */
    memcpy(short_name, name, strnlen(name, sizeof short_name - 1));
    pthread_setname_np(pthread_self(), short_name);
}

static void *run_thread(void *arg)
{
    struct lane *lane = arg;
    name_thread(lane->name);
    if (lane->background) /* Linux: of this thread alone */
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), BACKGROUND_NICE);
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        while (list_is_empty(&lane->waiting) && !lane->ending)
            pthread_cond_wait(&lane->work, &lane->lock);
        if (lane->ending)
            break;
        struct lane_job_state *state =
            CONTAINER(list_shift(&lane->waiting), struct lane_job_state, link);
        state->progress = RUNNING;
        pthread_mutex_unlock(&lane->lock);
        run_job(lane, state);
        pthread_mutex_lock(&lane->lock);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

/* ---- life cycle ---- */

static struct lane *new_lane(const char *name, unsigned threads, size_t max_waiting,
                             bool background)
{
    check(threads > 0);
    struct lane *lane = memory_alloc(sizeof *lane + threads * sizeof(pthread_t));
    lane->name = name;
    lane->background = background;
    lane->max_jobs = threads + max_waiting;
    lane->thread_count = threads;
    list_init(&lane->waiting);
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->work, NULL);
    /* Signals are for the threads that expect them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < threads; i++) {
        check(pthread_create(&lane->threads[i], NULL, run_thread, lane) == 0);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return lane;
}

struct lane *lane_new(const char *name, unsigned threads, size_t max_waiting)
{
    return new_lane(name, threads, max_waiting, /* background= */ false);
}

struct lane *lane_new_background(const char *name, unsigned threads, size_t max_waiting)
{
    return new_lane(name, threads, max_waiting, /* background= */ true);
}

void lane_stop(struct lane *lane)
{
    atomic_store(&lane->stopped, true);
}

void lane_free(struct lane *lane)
{
    if (!lane)
        return;
    pthread_mutex_lock(&lane->lock);
    lane->ending = true;
    pthread_cond_broadcast(&lane->work);
    pthread_mutex_unlock(&lane->lock);
    for (unsigned i = 0; i < lane->thread_count; i++)
        pthread_join(lane->threads[i], NULL);
    /* A job whose waiter gives up leaves the queue, so what waits here has a fiber inside. */
    check(list_is_empty(&lane->waiting));
    pthread_cond_destroy(&lane->work);
    pthread_mutex_destroy(&lane->lock);
    free(lane);
}

/* ---- asking ---- */

static enum result submit(struct lane *lane, struct lane_job_state *state, struct error *err)
{
    pthread_mutex_lock(&lane->lock);
    bool full = lane->jobs >= lane->max_jobs;
    if (!full) {
        lane->jobs++;
        list_append(&lane->waiting, &state->link);
        pthread_cond_signal(&lane->work);
    }
    pthread_mutex_unlock(&lane->lock);
    if (full)
        return fail(err, ERROR_LIMIT, "too many jobs wait for lane %s", lane->name);
    return OK;
}

static void give_up(struct lane *lane, struct lane_job_state *state)
{
    state->waiter = NULL;
    pthread_mutex_lock(&lane->lock);
    bool waiting = state->progress == WAITING;
    if (waiting) {
        list_remove(&state->link);
        lane->jobs--;
    }
    state->abandoned = true;
    pthread_mutex_unlock(&lane->lock);
    if (waiting) {
        state->job->release(state->job);
        free(state);
    }
    /* Else run_job() frees it, or finished() if its post is on the way. */
}

enum result lane_run(struct lane *lane, struct lane_job *job, struct error *err)
{
    if (fiber_check(err) == FAILED) {
        job->release(job);
        return FAILED;
    }
    struct lane_job_state *state = NEW(struct lane_job_state);
    state->job = job;
    state->lane = lane;
    state->loop = loop_current();
    state->waiter = fiber_current();
    list_init(&state->link);
    job->state = state;
    if (submit(lane, state, err) == FAILED) {
        free(state);
        job->release(job);
        return FAILED;
    }
    while (!state->done) {
        if (fiber_suspend(err) == FAILED && !state->done) {
            give_up(lane, state);
            return FAILED;
        }
    }
    free(state);
    job->state = NULL;
    return OK;
}

bool lane_job_is_abandoned(const struct lane_job *job)
{
    return atomic_load(&job->state->abandoned) || atomic_load(&job->state->lane->stopped);
}

size_t lane_load(const struct lane *lane)
{
    struct lane *unlocked = (struct lane *)lane;
    pthread_mutex_lock(&unlocked->lock);
    size_t jobs = lane->jobs;
    pthread_mutex_unlock(&unlocked->lock);
    return jobs;
}
