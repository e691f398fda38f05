/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/lane.h"

#include "base/memory.h"
#include "fiber/test.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct job {
    struct lane_job job;
    sem_t *gate; /* the work waits for it; NULL: does not */
    int input;
    int output;
    pthread_t thread;
    char thread_name[16];
    int nice;
};

static atomic_int released;
static atomic_int started;

static void work(struct lane_job *lane_job)
{
    struct job *job = CONTAINER(lane_job, struct job, job);
    atomic_fetch_add(&started, 1);
    if (job->gate) {
        while (sem_wait(job->gate) != 0)
            continue;
    }
    job->output = job->input * job->input;
    job->thread = pthread_self();
    pthread_getname_np(pthread_self(), job->thread_name, sizeof job->thread_name);
    job->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void release(struct lane_job *lane_job)
{
    free(CONTAINER(lane_job, struct job, job));
    atomic_fetch_add(&released, 1);
}

static struct job *job_new(int input, sem_t *gate)
{
    struct job *job = NEW(struct job);
    job->job.work = work;
    job->job.release = release;
    job->gate = gate;
    job->input = input;
    return job;
}

static int clear(void **state)
{
    (void)state;
    atomic_store(&released, 0);
    atomic_store(&started, 0);
    return 0;
}

/* ---- doing jobs ---- */

struct client {
    struct lane *lane;
    sem_t *gate;
    enum error_kind error;
    int done;
};

static MAY_YIELD void run_one(void *arg)
{
    struct client *client = arg;
    struct error err;
    struct job *job = job_new(7, client->gate);
    if (lane_run(client->lane, &job->job, &err) == FAILED) {
        client->error = err.kind;
        return;
    }
    assert_int_equal(job->output, 49);
    assert_false(pthread_equal(job->thread, pthread_self()));
    assert_string_equal(job->thread_name, "test lane with ");
    free(job);
    client->done++;
}

static MAY_YIELD void run_many(void *arg)
{
    for (int i = 0; i < 100; i++)
        run_one(arg);
}

static void *run_client(void *arg)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    for (int i = 0; i < 4; i++)
        test_loop_spawn(&test, run_many, arg);
    test_loop_run(&test);
    test_loop_close(&test);
    return NULL;
}

static void loops_share_a_lane(void **state)
{
    (void)state;
    struct lane *lane = lane_new("test lane with a long name", 2, 100);
    struct client clients[2] = {{.lane = lane}, {.lane = lane}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &clients[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(clients[i].done, 400);
        assert_int_equal(clients[i].error, ERROR_NONE);
    }
    assert_int_equal(lane_load(lane), 0);
    lane_free(lane);
}

/* ---- bounds ---- */

struct crowd {
    struct client clients[5];
    sem_t gate;
};

static MAY_YIELD void crowd_the_lane(void *arg)
{
    struct crowd *crowd = arg;
    struct scope scope;
    struct error err;
    scope_open(&scope, TIME_NEVER);
    for (int i = 0; i < 5; i++)
        assert_int_equal(fiber_spawn(&scope, "client", run_one, &crowd->clients[i], &err), OK);
    fiber_yield();
    assert_int_equal(lane_load(crowd->clients[0].lane), 3);
    for (int i = 0; i < 5; i++)
        sem_post(&crowd->gate);
    scope_close(&scope);
}

static void too_many_jobs(void **state)
{
    (void)state;
    struct crowd crowd;
    sem_init(&crowd.gate, 0, 0);
    struct lane *lane = lane_new("test lane with a long name", 1, 2);
    for (int i = 0; i < 5; i++)
        crowd.clients[i] = (struct client){.lane = lane, .gate = &crowd.gate};
    test_in_fiber(crowd_the_lane, &crowd);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(crowd.clients[i].done, i < 3);
        assert_int_equal(crowd.clients[i].error, i < 3 ? ERROR_NONE : ERROR_LIMIT);
    }
    assert_int_equal(atomic_load(&released), 2);
    lane_free(lane);
    sem_destroy(&crowd.gate);
}

/* ---- giving up ---- */

/* The first runs, the second waits; both are cancelled. */
static MAY_YIELD void cancel_running_and_waiting(void *arg)
{
    struct crowd *crowd = arg;
    struct scope scope;
    struct error err;
    scope_open(&scope, TIME_NEVER);
    assert_int_equal(fiber_spawn(&scope, "runs", run_one, &crowd->clients[0], &err), OK);
    while (atomic_load(&started) == 0)
        fiber_yield();
    assert_int_equal(fiber_spawn(&scope, "waits", run_one, &crowd->clients[1], &err), OK);
    fiber_yield();
    assert_int_equal(lane_load(crowd->clients[0].lane), 2);
    scope_cancel(&scope);
    scope_close(&scope);
    /* The one that waited is gone, the other still at work. */
    assert_int_equal(atomic_load(&released), 1);
    assert_int_equal(lane_load(crowd->clients[0].lane), 1);
}

static void abandoned_jobs_are_released(void **state)
{
    (void)state;
    struct crowd crowd;
    sem_init(&crowd.gate, 0, 0);
    struct lane *lane = lane_new("test", 1, 2);
    for (int i = 0; i < 2; i++)
        crowd.clients[i] = (struct client){.lane = lane, .gate = &crowd.gate};
    test_in_fiber(cancel_running_and_waiting, &crowd);
    for (int i = 0; i < 2; i++)
        assert_int_equal(crowd.clients[i].error, ERROR_CANCELLED);
    /* Even the loop is gone by now. */
    sem_post(&crowd.gate);
    lane_free(lane);
    assert_int_equal(atomic_load(&released), 2);
    assert_int_equal(atomic_load(&started), 1);
    sem_destroy(&crowd.gate);
}

/* Work that looks whether it is still wanted ends by itself. */

static void work_until_abandoned(struct lane_job *job)
{
    atomic_fetch_add(&started, 1);
    while (!lane_job_is_abandoned(job))
        usleep(100);
}

static void count_release(struct lane_job *job)
{
    atomic_fetch_add(&released, 1);
    free(job);
}

static MAY_YIELD void wait_for_nothing(void *arg)
{
    struct error err;
    struct lane_job *job = memory_alloc(sizeof *job);
    *job = (struct lane_job){.work = work_until_abandoned, .release = count_release};
    assert_int_equal(lane_run(arg, job, &err), FAILED);
    assert_int_equal(err.kind, ERROR_CANCELLED);
}

static MAY_YIELD void cancel_it(void *arg)
{
    struct scope scope;
    struct error err;
    scope_open(&scope, TIME_NEVER);
    assert_int_equal(fiber_spawn(&scope, "waits", wait_for_nothing, arg, &err), OK);
    while (atomic_load(&started) == 0)
        fiber_yield();
    scope_cancel(&scope);
    scope_close(&scope);
}

static void work_knows_that_it_is_abandoned(void **state)
{
    (void)state;
    struct lane *lane = lane_new("test", 1, 2);
    test_in_fiber(cancel_it, lane);
    lane_free(lane); /* returns: the work has ended */
    assert_int_equal(atomic_load(&released), 1);
}

static MAY_YIELD void let_time_pass_once_it_runs(void *arg)
{
    (void)arg;
    while (atomic_load(&started) == 0)
        fiber_yield();
    clock_set_fake(2 * NS_PER_S, 0);
}

static MAY_YIELD void time_out(void *arg)
{
    struct scope outer, scope;
    struct error err;
    clock_set_fake(0, 0);
    scope_open(&outer, TIME_NEVER);
    assert_int_equal(fiber_spawn(&outer, "time", let_time_pass_once_it_runs, NULL, &err), OK);
    scope_open(&scope, NS_PER_S);
    run_one(arg);
    scope_close(&scope);
    scope_close(&outer);
    clock_set_fake(-1, -1);
}

static void a_deadline_ends_the_wait_not_the_work(void **state)
{
    (void)state;
    sem_t gate;
    sem_init(&gate, 0, 0);
    struct client client = {.lane = lane_new("test", 1, 2), .gate = &gate};
    test_in_fiber(time_out, &client);
    assert_int_equal(client.error, ERROR_TIMEOUT);
    assert_int_equal(atomic_load(&released), 0);
    sem_post(&gate);
    lane_free(client.lane);
    assert_int_equal(atomic_load(&released), 1);
    sem_destroy(&gate);
}

/* The work ends while the waiter is being cancelled: whoever is first, nothing is lost. */
static MAY_YIELD void race_cancel(void *arg)
{
    struct client *client = arg;
    struct error err;
    for (int i = 0; i < 300; i++) {
        struct scope scope;
        scope_open(&scope, TIME_NEVER);
        client->error = ERROR_NONE;
        int before = client->done;
        assert_int_equal(fiber_spawn(&scope, "client", run_one, client, &err), OK);
        for (int j = 0; j <= i % 4; j++)
            fiber_yield();
        scope_cancel(&scope);
        scope_close(&scope);
        assert_true((client->done == before + 1) != (client->error == ERROR_CANCELLED));
    }
}

static void cancelling_races_with_finishing(void **state)
{
    (void)state;
    struct client client = {.lane = lane_new("test lane with a long name", 2, 100)};
    test_in_fiber(race_cancel, &client);
    lane_free(client.lane);
    assert_int_equal(client.done + atomic_load(&released), 300);
}

/* ---- in the background ---- */

static MAY_YIELD void learn_nice(void *arg)
{
    struct client *client = arg;
    struct job *job = job_new(3, NULL);
    struct error err;
    assert_int_equal(lane_run(client->lane, &job->job, &err), OK);
    client->done = job->nice;
    free(job);
}

static void a_background_lane_leaves_the_processor_to_others(void **state)
{
    (void)state;
    int own = getpriority(PRIO_PROCESS, 0);
    struct client urgent = {.lane = lane_new("urgent", 1, 1)};
    struct client patient = {.lane = lane_new_background("patient", 1, 1)};
    test_in_fiber(learn_nice, &urgent);
    test_in_fiber(learn_nice, &patient);
    lane_free(urgent.lane);
    lane_free(patient.lane);
    assert_int_equal(urgent.done, own);
    assert_in_range(patient.done, own > 10 ? own : 10, 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), own); /* of its threads alone */
}

static void a_lane_ends_idle(void **state)
{
    (void)state;
    lane_free(lane_new("test", 3, 1));
    lane_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, clear)
    const struct CMUnitTest tests[] = {
        TEST(loops_share_a_lane),
        TEST(too_many_jobs),
        TEST(abandoned_jobs_are_released),
        TEST(work_knows_that_it_is_abandoned),
        TEST(a_deadline_ends_the_wait_not_the_work),
        TEST(cancelling_races_with_finishing),
        TEST(a_lane_ends_idle),
        TEST(a_background_lane_leaves_the_processor_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
