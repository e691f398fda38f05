/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/cond.h"

#include "fiber/trail_test.h"

/* ---- conditions ---- */

struct shared {
    struct cond cond;
    int tokens;
};

static MAY_YIELD void take_token(void *arg)
{
    struct shared *shared = arg;
    struct error err;
    while (shared->tokens == 0) {
        if (cond_wait(&shared->cond, &err) == FAILED) {
            mark_result(FAILED, &err);
            return;
        }
    }
    shared->tokens--;
    mark('T');
}

static MAY_YIELD void hand_out_tokens(void *arg)
{
    struct shared *shared = arg;
    shared->tokens = 1;
    cond_signal(&shared->cond);
    yield_times(2);
    mark('-');
    shared->tokens = 2;
    cond_broadcast(&shared->cond);
    cond_signal(&shared->cond); /* nobody there */
}

static void a_condition_wakes_one_or_all(void **state)
{
    (void)state;
    struct test_loop test;
    struct shared shared = {.tokens = 0};
    cond_init(&shared.cond);
    test_loop_open(&test, NULL);
    for (int i = 0; i < 3; i++)
        test_loop_spawn(&test, take_token, &shared);
    test_loop_spawn(&test, hand_out_tokens, &shared);
    test_loop_run(&test);
    assert_string_equal(trail, "T-TT");
    assert_false(cond_has_waiters(&shared.cond));
    test_loop_close(&test);
}

static MAY_YIELD void signal_one_that_gives_up(void *arg)
{
    struct shared *shared = arg;
    struct scope first, second;
    scope_open(&second, TIME_NEVER);
    scope_open(&first, TIME_NEVER);
    spawn(&first, take_token, shared);
    fiber_yield();
    spawn(&second, take_token, shared);
    fiber_yield();
    shared->tokens = 1;
    cond_signal(&shared->cond); /* for the first … */
    scope_cancel(&first);       /* … which is cancelled in the same turn */
    scope_close(&first);
    scope_close(&second);
}

static void a_signal_is_passed_on(void **state)
{
    (void)state;
    struct shared shared = {.tokens = 0};
    cond_init(&shared.cond);
    test_in_fiber(signal_one_that_gives_up, &shared);
    assert_string_equal(trail, "cT");
}

static MAY_YIELD void cancel_one_on_a_condition(void *arg)
{
    struct shared *shared = arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, take_token, shared);
    fiber_yield();
    assert_true(cond_has_waiters(&shared->cond));
    scope_cancel(&scope);
    scope_close(&scope);
    assert_false(cond_has_waiters(&shared->cond));
}

static void cancelling_a_wait_on_a_condition(void **state)
{
    (void)state;
    struct shared shared = {.tokens = 0};
    cond_init(&shared.cond);
    test_in_fiber(cancel_one_on_a_condition, &shared);
    assert_string_equal(trail, "c");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)
    const struct CMUnitTest tests[] = {
        TEST(a_condition_wakes_one_or_all),
        TEST(a_signal_is_passed_on),
        TEST(cancelling_a_wait_on_a_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
