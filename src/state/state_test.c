/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "state/state.h"

#include "base/clock.h"
#include "base/memory.h"
#include "fiber/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- four workers ---- */

enum { WORKERS = 4 };

struct crew;
struct worker {
    struct crew *crew;
    size_t index;
    pthread_t thread;
    struct test_loop test;
    struct loop_hook hook;
    bool reported;
};
struct crew {
    struct worker workers[WORKERS];
    struct loop *loops[WORKERS];
    struct state *state;
    pthread_barrier_t barrier;
    atomic_int done;
    size_t max_entries;
    unsigned fibers; /* a worker */
    void (*run)(void *crew);
};

/* A worker whose fibers have ended goes on answering until all have. */
static void end_turn(struct loop_hook *hook)
{
    struct worker *worker = CONTAINER(hook, struct worker, hook);
    struct crew *crew = worker->crew;
    if (worker->reported || !scope_is_empty(&worker->test.root))
        return;
    worker->reported = true;
    if (atomic_fetch_add(&crew->done, 1) + 1 < WORKERS)
        return;
    for (int i = 0; i < WORKERS; i++)
        loop_stop(crew->loops[i]);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct crew *crew = worker->crew;
    test_loop_open(&worker->test, NULL);
    crew->loops[worker->index] = worker->test.loop;
    pthread_barrier_wait(&crew->barrier);
    if (worker->index == 0)
        crew->state = state_new(crew->loops, WORKERS, crew->max_entries);
    pthread_barrier_wait(&crew->barrier);
    state_join(crew->state, worker->index);
    for (unsigned i = 0; i < crew->fibers; i++)
        test_loop_spawn(&worker->test, crew->run, crew);
    worker->hook.run = end_turn;
    loop_hook_add(worker->test.loop, &worker->hook);
    loop_run(worker->test.loop);
    loop_hook_remove(&worker->hook);
    pthread_barrier_wait(&crew->barrier);
    state_leave(crew->state, worker->index);
    test_loop_close(&worker->test);
    return NULL;
}

static void crew_run(struct crew *crew, unsigned fibers, void (*run)(void *crew))
{
    crew->fibers = fibers;
    crew->run = run;
    crew->max_entries = crew->max_entries ? crew->max_entries : 10000;
    pthread_barrier_init(&crew->barrier, NULL, WORKERS);
    for (size_t i = 0; i < WORKERS; i++) {
        crew->workers[i].crew = crew;
        crew->workers[i].index = i;
        check(pthread_create(&crew->workers[i].thread, NULL, work, &crew->workers[i]) == 0);
    }
    for (size_t i = 0; i < WORKERS; i++)
        pthread_join(crew->workers[i].thread, NULL);
    pthread_barrier_destroy(&crew->barrier);
    state_free(crew->state);
}

static struct str number_key(char *space, size_t size, unsigned number)
{
    int len = snprintf(space, size, "key:%u", number);
    return str_of(space, (size_t)len);
}

/* ---- limits hold over all workers ---- */

enum { LIMIT = 100, TRIES = 50, FIBERS = 8, LIMIT_KEYS = 5 };
static atomic_int allowed[LIMIT_KEYS];

static MAY_YIELD void take_from_limits(void *arg)
{
    struct crew *crew = arg;
    char space[32];
    for (unsigned i = 0; i < TRIES * LIMIT_KEYS; i++) {
        struct state_limit_answer answer;
        struct error err;
        unsigned number = i % LIMIT_KEYS;
        check(state_limit(crew->state, number_key(space, sizeof space, number), 1, LIMIT,
                          3600 * NS_PER_S, /* peek= */ false, &answer, &err) == OK);
        if (answer.allowed)
            atomic_fetch_add(&allowed[number], 1);
    }
}

static void test_limits_hold_over_workers(void **unused)
{
    (void)unused;
    struct crew crew = {0};
    memset(allowed, 0, sizeof allowed);
    crew_run(&crew, FIBERS, take_from_limits);
    for (int i = 0; i < LIMIT_KEYS; i++)
        assert_int_equal(atomic_load(&allowed[i]), LIMIT);
}

/* ---- one asks, all hear ---- */

enum { FLIGHT_KEYS = 20 };
static atomic_int asked[FLIGHT_KEYS];
static atomic_int heard;
static atomic_int to_abandon;

static MAY_YIELD void look_up_once(struct crew *crew, unsigned number)
{
    char space[32];
    struct str key = number_key(space, sizeof space, number);
    enum state_cache_status status;
    struct state_value value;
    struct error err;
    for (;;) {
        check(state_cache_get(crew->state, key, 0, &status, &value, &err) == OK);
        if (status == STATE_CACHE_HIT)
            break;
        for (int i = 0; i < 20; i++) /* a backend at work */
            fiber_yield();
        if (atomic_fetch_sub(&to_abandon, 1) > 0) {
            state_cache_abandon(crew->state, key);
            continue;
        }
        atomic_fetch_add(&asked[number], 1);
        state_cache_put(crew->state, key, key, 3600 * NS_PER_S, 0);
    }
    check(str_equal(str_of(value.bytes, value.len), key));
    atomic_fetch_add(&heard, 1);
}

static MAY_YIELD void look_up_all(void *arg)
{
    for (unsigned i = 0; i < FLIGHT_KEYS; i++)
        look_up_once(arg, i);
}

static void check_flights(int abandoned)
{
    struct crew crew = {0};
    memset(asked, 0, sizeof asked);
    atomic_store(&heard, 0);
    atomic_store(&to_abandon, abandoned);
    crew_run(&crew, FIBERS, look_up_all);
    for (int i = 0; i < FLIGHT_KEYS; i++)
        assert_int_equal(atomic_load(&asked[i]), 1);
    assert_int_equal(atomic_load(&heard), FLIGHT_KEYS * FIBERS * WORKERS);
}

static void test_single_flight_over_workers(void **unused)
{
    (void)unused;
    check_flights(/* abandoned= */ 0);
}

static void test_abandoned_flights_pass_on(void **unused)
{
    (void)unused;
    check_flights(/* abandoned= */ 30);
}

/* ---- those who cannot wait ---- */

static atomic_int flying;
static atomic_int waiting;
static atomic_int gave_up;

static MAY_YIELD void wait_and_give_up(void *arg)
{
    struct crew *crew = arg;
    enum state_cache_status status;
    struct state_value value;
    struct error err;
    atomic_fetch_add(&waiting, 1);
    if (state_cache_get(crew->state, STR("slow"), 0, &status, &value, &err) != OK)
        atomic_fetch_add(&gave_up, 1);
    else if (status != STATE_CACHE_HIT) /* handed on to somebody who has just been cancelled */
        state_cache_abandon(crew->state, STR("slow"));
}

/* Of all fibers one flies; the others wait in a scope that is cancelled, then the one abandons, and
 * somebody must still get the duty. */
static MAY_YIELD void fly_and_cancel(void *arg)
{
    struct crew *crew = arg;
    enum state_cache_status status;
    struct state_value value;
    struct error err;
    struct scope scope;
    if (atomic_fetch_add(&flying, 1) == 0) {
        check(state_cache_get(crew->state, STR("slow"), 0, &status, &value, &err) == OK);
        check(status == STATE_CACHE_MISS);
        while (atomic_load(&waiting) < WORKERS * FIBERS - 1)
            fiber_yield();
        for (int i = 0; i < 50; i++)
            fiber_yield();
        state_cache_abandon(crew->state, STR("slow"));
        check(state_cache_get(crew->state, STR("slow"), 0, &status, &value, &err) == OK);
        check(status == STATE_CACHE_MISS);
        state_cache_put(crew->state, STR("slow"), STR("x"), 0, 0);
        return;
    }
    scope_open(&scope, TIME_NEVER);
    check(fiber_spawn(&scope, "waits", wait_and_give_up, crew, &err) == OK);
    for (int i = 0; i < 20; i++)
        fiber_yield();
    scope_cancel(&scope);
    scope_close(&scope);
}

static void test_duty_survives_cancelled_waiters(void **unused)
{
    (void)unused;
    struct crew crew = {0};
    atomic_store(&flying, 0);
    atomic_store(&waiting, 0);
    atomic_store(&gave_up, 0);
    crew_run(&crew, FIBERS, fly_and_cancel);
    assert_true(atomic_load(&waiting) == WORKERS * FIBERS - 1);
    assert_true(atomic_load(&gave_up) > 0);
}

/* ---- forgetting reaches the copies of all workers ---- */

static atomic_int have_copy;
static atomic_int dropped;
static atomic_int old_seen;

static MAY_YIELD void read_drop_read(void *arg)
{
    struct crew *crew = arg;
    enum state_cache_status status;
    struct state_value value;
    struct error err;
    check(state_cache_get(crew->state, STR("user"), 0, &status, &value, &err) == OK);
    if (status != STATE_CACHE_HIT) {
        state_cache_put(crew->state, STR("user"), STR("old"), 3600 * NS_PER_S, 0);
        check(state_cache_get(crew->state, STR("user"), 0, &status, &value, &err) == OK);
    }
    check(status == STATE_CACHE_HIT);
    if (atomic_fetch_add(&have_copy, 1) + 1 == WORKERS) {
        state_cache_drop(crew->state, STR("user"));
        /* every worker has heard of it when it has answered a question asked afterwards */
        char space[32];
        struct state_limit_answer answer;
        for (unsigned i = 0; i < 200; i++)
            check(state_limit(crew->state, number_key(space, sizeof space, i), 1, 10, NS_PER_S,
                              false, &answer, &err) == OK);
        atomic_store(&dropped, 1);
    }
    while (!atomic_load(&dropped))
        fiber_yield();
    check(state_cache_get(crew->state, STR("user"), 0, &status, &value, &err) == OK);
    if (status == STATE_CACHE_HIT && value.len == 3 && memcmp(value.bytes, "old", 3) == 0)
        atomic_fetch_add(&old_seen, 1);
    else if (status != STATE_CACHE_HIT)
        state_cache_put(crew->state, STR("user"), STR("new!"), 3600 * NS_PER_S, 0);
}

static void test_drop_reaches_copies(void **unused)
{
    (void)unused;
    struct crew crew = {0};
    atomic_store(&have_copy, 0);
    atomic_store(&dropped, 0);
    atomic_store(&old_seen, 0);
    crew_run(&crew, 1, read_drop_read);
    assert_int_equal(atomic_load(&old_seen), 0);
}

/* ---- one worker, fake clock: nothing suspends ---- */

static int64_t now_ns;

static void wait_ms(int64_t ms)
{
    now_ns += ms * NS_PER_MS;
    clock_set_fake(now_ns, now_ns);
}

static struct state *alone(size_t max_entries)
{
    now_ns = 1000 * NS_PER_S;
    clock_set_fake(now_ns, now_ns);
    return state_new(NULL, 1, max_entries);
}

static void done(struct state *state)
{
    state_free(state);
    clock_set_fake(-1, -1);
}

static NO_YIELD_CHECK struct state_limit_answer limit(struct state *state, const char *key,
                                                      uint64_t amount, uint64_t max, bool peek)
{
    struct state_limit_answer answer;
    struct error err;
    check(state_limit(state, str_c(key), amount, max, 60 * NS_PER_S, peek, &answer, &err) == OK);
    return answer;
}

static NO_YIELD_CHECK enum state_cache_status get(struct state *state, const char *key,
                                                  int64_t stale_s, struct state_value *out)
{
    enum state_cache_status status;
    struct error err;
    check(state_cache_get(state, str_c(key), stale_s * NS_PER_S, &status, out, &err) == OK);
    return status;
}

static void put(struct state *state, const char *key, const char *value, int64_t life_s,
                int64_t stale_s)
{
    state_cache_put(state, str_c(key), str_c(value), life_s * NS_PER_S, stale_s * NS_PER_S);
}

static void test_window_slides(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    assert_true(limit(state, "a", 1, 3, false).allowed);
    wait_ms(20000);
    assert_true(limit(state, "a", 2, 3, false).allowed);
    struct state_limit_answer answer = limit(state, "a", 1, 3, false);
    assert_false(answer.allowed);
    assert_int_equal(answer.count, 3);
    /* until the first is out of the window, and not a second longer than a sixtieth */
    assert_true(answer.retry_in_ns >= 40 * NS_PER_S && answer.retry_in_ns <= 41 * NS_PER_S);
    wait_ms(answer.retry_in_ns / NS_PER_MS);
    assert_true(limit(state, "a", 1, 3, true).allowed);
    assert_false(limit(state, "a", 2, 3, true).allowed);
    assert_true(limit(state, "a", 1, 3, false).allowed);
    wait_ms(61000);
    assert_int_equal(limit(state, "a", 1, 3, true).count, 0);
    done(state);
}

static void test_window_is_never_short(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    int64_t times[500];
    size_t count = 0;
    for (int i = 0; i < 400; i++) {
        if (limit(state, "a", 1, 10, false).allowed)
            times[count++] = now_ns;
        wait_ms(700 + i % 13);
    }
    assert_true(count >= 30); /* about ten a minute */
    for (size_t i = 10; i < count; i++)
        assert_true(times[i] - times[i - 10] > 60 * NS_PER_S);
    done(state);
}

static void test_forgotten_counts(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    static const char *const keys[] = {"limit:a:messages:ann", "limit:b:bytes:ann", "other:ann",
                                       "limit:a:messages:joann", "limit:a:messages:ann:x"};
    for (size_t i = 0; i < 5; i++)
        assert_true(limit(state, keys[i], 3, 3, false).allowed);
    state_limit_forget(state, STR("limit:"), STR(":ann"));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(limit(state, keys[i], 1, 3, true).allowed, i < 2);
    done(state);
}

/* What came to nothing is counted no more, and never more than that. */
static void test_given_back(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    assert_true(limit(state, "a", 2, 3, false).allowed);
    wait_ms(20000);
    assert_true(limit(state, "a", 1, 3, false).allowed);
    state_limit_give_back(state, STR("a"), 1);
    assert_int_equal(limit(state, "a", 1, 3, true).count, 2);
    wait_ms(41000); /* the two of the beginning are over, not the one that came to nothing */
    assert_int_equal(limit(state, "a", 1, 3, true).count, 0);
    assert_true(limit(state, "a", 3, 3, false).allowed);
    state_limit_give_back(state, STR("a"), 100);
    assert_int_equal(limit(state, "a", 1, 3, true).count, 0);
    state_limit_give_back(state, STR("nobody"), 1);
    assert_int_equal(limit(state, "nobody", 1, 3, true).count, 0);
    done(state);
}

static void test_limit_edges(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    assert_false(limit(state, "a", 11, 10, false).allowed);
    assert_int_equal(limit(state, "a", 1, 10, true).count, 0);
    assert_true(limit(state, "a", 10, 10, false).allowed);
    assert_false(limit(state, "a", 1, 10, true).allowed);
    assert_false(limit(state, "a", UINT64_MAX, 10, false).allowed);
    assert_false(limit(state, "b", 1, 0, false).allowed);
    assert_true(limit(state, "c", 0, 0, false).allowed);
    done(state);
}

static void test_limits_are_bounded(void **unused)
{
    (void)unused;
    struct state *state = alone(10);
    char key[32];
    assert_true(limit(state, "first", 1, 1, false).allowed);
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_true(limit(state, key, 1, 1, false).allowed);
        assert_false(limit(state, "first", 1, 1, false).allowed); /* in use: stays */
    }
    assert_true(limit(state, "one more", 1, 1, false).allowed);
    assert_true(limit(state, "k0", 1, 1, false).allowed); /* the oldest was forgotten */
    assert_false(limit(state, "first", 1, 1, false).allowed);
    done(state);
}

static void test_cache_life(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    struct state_value value;
    assert_int_equal(get(state, "a", 100, &value), STATE_CACHE_MISS);
    put(state, "a", "one", 10, 50);
    assert_int_equal(get(state, "a", 0, &value), STATE_CACHE_HIT);
    assert_memory_equal(value.bytes, "one", 3);
    wait_ms(10000);
    assert_int_equal(get(state, "a", 50, &value), STATE_CACHE_STALE);
    assert_int_equal(value.len, 3);
    state_cache_abandon(state, STR("a"));
    /* no longer than asked for, and no longer than kept */
    wait_ms(20000);
    assert_int_equal(get(state, "a", 20, &value), STATE_CACHE_MISS);
    state_cache_abandon(state, STR("a"));
    assert_int_equal(get(state, "a", 21, &value), STATE_CACHE_STALE);
    /* a life of 0 tells those who wait, and leaves what was there */
    put(state, "a", "two", 0, 0);
    assert_int_equal(get(state, "a", 50, &value), STATE_CACHE_STALE);
    assert_memory_equal(value.bytes, "one", 3);
    state_cache_abandon(state, STR("a"));
    wait_ms(30000);
    assert_int_equal(get(state, "a", 1000, &value), STATE_CACHE_MISS);
    put(state, "a", "three", 10, 0);
    assert_int_equal(get(state, "a", 0, &value), STATE_CACHE_HIT);
    done(state);
}

static void test_cache_forgets(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    struct state_value value;
    put(state, "auth:a", "1", 100, 0); /* without a duty: nothing waits, it is kept all the same */
    put(state, "auth:b", "1", 100, 0);
    put(state, "rcpt:a", "1", 100, 0);
    put(state, "auth:kept", "1", 100, 100);
    assert_int_equal(get(state, "auth:a", 0, &value), STATE_CACHE_HIT);
    state_cache_drop(state, STR("auth:a"));
    assert_int_equal(get(state, "auth:a", 0, &value), STATE_CACHE_MISS);
    state_cache_drop_prefix(state, STR("auth:"));
    put(state, "auth:a", "2", 100, 0); /* the flight survived the drop */
    assert_int_equal(get(state, "auth:b", 0, &value), STATE_CACHE_MISS);
    assert_int_equal(get(state, "auth:kept", 0, &value), STATE_CACHE_MISS);
    assert_int_equal(get(state, "rcpt:a", 0, &value), STATE_CACHE_HIT);
    assert_int_equal(get(state, "auth:a", 0, &value), STATE_CACHE_HIT);
    done(state);
}

static void test_cache_is_bounded(void **unused)
{
    (void)unused;
    struct state *state = alone(10);
    struct state_value value;
    char key[32];
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "k%d", i);
        put(state, key, "v", 100, 0);
        if (i == 0)
            assert_int_equal(get(state, "flying", 0, &value), STATE_CACHE_MISS);
    }
    assert_int_equal(get(state, "k49", 0, &value), STATE_CACHE_HIT);
    assert_int_equal(get(state, "k0", 0, &value), STATE_CACHE_MISS);
    put(state, "flying", "v", 100, 0);
    assert_int_equal(get(state, "flying", 0, &value), STATE_CACHE_HIT);
    done(state);
}

/* Names that do not exist cannot push out the answers that are kept for an outage. */
static void test_flood_leaves_kept_answers(void **unused)
{
    (void)unused;
    struct state *state = alone(100);
    struct state_value value;
    char key[32];
    unsigned left = 0;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "good%d", i);
        put(state, key, "v", 100, 1000);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "bad%d", i);
        put(state, key, "v", 100, 0);
    }
    assert_int_equal(get(state, "bad4999", 0, &value), STATE_CACHE_HIT);
    for (int i = 99; i >= 0; i--) {
        snprintf(key, sizeof key, "good%d", i);
        if (get(state, key, 0, &value) == STATE_CACHE_HIT)
            left++;
        else
            state_cache_abandon(state, str_c(key));
    }
    assert_true(left >= 75);
    done(state);
}

static void test_long_value_is_an_abandon(void **unused)
{
    (void)unused;
    struct state *state = alone(10);
    struct state_value value;
    char text[STATE_VALUE_MAX + 2];
    memset(text, 'x', sizeof text);
    text[STATE_VALUE_MAX + 1] = '\0';
    assert_int_equal(get(state, "a", 0, &value), STATE_CACHE_MISS);
    put(state, "a", text, 100, 0);
    assert_int_equal(get(state, "a", 0, &value), STATE_CACHE_MISS);
    text[STATE_VALUE_MAX] = '\0';
    put(state, "a", text, 100, 0);
    assert_int_equal(get(state, "a", 0, &value), STATE_CACHE_HIT);
    assert_int_equal(value.len, STATE_VALUE_MAX);
    done(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_slides),
        cmocka_unit_test(test_window_is_never_short),
        cmocka_unit_test(test_forgotten_counts),
        cmocka_unit_test(test_given_back),
        cmocka_unit_test(test_limit_edges),
        cmocka_unit_test(test_limits_are_bounded),
        cmocka_unit_test(test_cache_life),
        cmocka_unit_test(test_cache_forgets),
        cmocka_unit_test(test_cache_is_bounded),
        cmocka_unit_test(test_flood_leaves_kept_answers),
        cmocka_unit_test(test_long_value_is_an_abandon),
        cmocka_unit_test(test_limits_hold_over_workers),
        cmocka_unit_test(test_single_flight_over_workers),
        cmocka_unit_test(test_abandoned_flights_pass_on),
        cmocka_unit_test(test_duty_survives_cancelled_waiters),
        cmocka_unit_test(test_drop_reaches_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
