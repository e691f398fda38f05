/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/fiber.h"

#include "fiber/trail_test.h"

/* ---- scopes ---- */

static MAY_YIELD void close_waits(void *arg)
{
    (void)arg;
    struct letter a = {'a', 3}, b = {'b', 1};
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, write_letter, &a);
    spawn(&scope, write_letter, &b);
    assert_false(scope_is_empty(&scope));
    scope_close(&scope);
    assert_true(scope_is_empty(&scope));
    mark('e');
}

static void closing_waits_for_children(void **state)
{
    (void)state;
    test_in_fiber(close_waits, NULL);
    assert_string_equal(trail, "abaae");
}

static MAY_YIELD void cancelled_children(void *arg)
{
    (void)arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, suspend_forever, NULL);
    spawn(&scope, suspend_forever, NULL);
    fiber_yield();
    scope_cancel(&scope);
    scope_cancel(&scope);
    assert_true(scope_is_over(&scope));
    mark_suspend(); /* its own waits inside the scope end, too */
    scope_close(&scope);
    assert_false(scope_is_over(fiber_scope()));
    mark('e');
}

static void cancelling_ends_children(void **state)
{
    (void)state;
    test_in_fiber(cancelled_children, NULL);
    assert_string_equal(trail, "ccce");
}

static MAY_YIELD void open_scope_and_suspend(void *arg)
{
    (void)arg;
    struct scope outer, inner;
    scope_open(&outer, TIME_NEVER);
    scope_open(&inner, TIME_NEVER);
    mark_suspend();
    assert_true(scope_is_over(&inner));
    scope_close(&inner);
    scope_close(&outer);
}

static MAY_YIELD void cancel_grandchildren(void *arg)
{
    (void)arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, open_scope_and_suspend, NULL);
    fiber_yield();
    scope_cancel(&scope);
    /* one that comes too late finds itself cancelled */
    spawn(&scope, suspend_once, NULL);
    spawn(&scope, open_scope_and_suspend, NULL);
    scope_close(&scope);
}

static void cancellation_reaches_nested_scopes(void **state)
{
    (void)state;
    test_in_fiber(cancel_grandchildren, NULL);
    assert_string_equal(trail, "ccc");
}

static MAY_YIELD void clean_up_shielded(void *arg)
{
    (void)arg;
    mark_suspend();
    struct scope shield, inner;
    scope_open_shielded(&shield, clock_deadline(NS_PER_MS));
    scope_open(&inner, TIME_NEVER);
    assert_false(scope_is_over(&inner));
    struct error err;
    mark_result(fiber_check(&err), &err);
    mark_suspend(); /* ends at the shield's own deadline */
    scope_close(&inner);
    scope_close(&shield);
    mark_result(fiber_check(&err), &err);
}

static MAY_YIELD void cancel_one_that_cleans_up(void *arg)
{
    (void)arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, clean_up_shielded, NULL);
    fiber_yield();
    scope_cancel(&scope);
    scope_close(&scope);
}

static void a_shield_keeps_cancellation_off(void **state)
{
    (void)state;
    test_in_fiber(cancel_one_that_cleans_up, NULL);
    assert_string_equal(trail, "cotc");
}

static MAY_YIELD void wait_in_shield(void *arg)
{
    struct scope shield;
    scope_open_shielded(&shield, TIME_NEVER);
    *(struct fiber **)arg = fiber_current();
    mark_suspend();
    scope_close(&shield);
    mark_suspend();
}

static MAY_YIELD void cancel_while_in_shield(void *arg)
{
    (void)arg;
    struct scope scope;
    struct fiber *child = NULL;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, wait_in_shield, &child);
    fiber_yield();
    scope_cancel(&scope);
    yield_times(3);
    mark('-'); /* still there */
    fiber_wake(child);
    scope_close(&scope);
}

static void cancellation_waits_for_the_shield_to_close(void **state)
{
    (void)state;
    test_in_fiber(cancel_while_in_shield, NULL);
    assert_string_equal(trail, "-oc");
}

static MAY_YIELD void cancel_owner(void *arg)
{
    (void)arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, cancel_scope, &scope);
    spawn(&scope, suspend_once, NULL);
    mark_suspend();
    scope_close(&scope);
}

static void a_child_may_cancel_its_scope(void **state)
{
    (void)state;
    test_in_fiber(cancel_owner, NULL);
    assert_string_equal(trail, "!cc");
}

static void the_root_scope_is_cancelled_off_a_fiber(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, suspend_once, NULL);
    test_loop_spawn(&test, open_scope_and_suspend, NULL);
    loop_stop(test.loop);
    loop_run(test.loop);
    assert_string_equal(trail, "");
    scope_cancel(&test.root);
    test_loop_run(&test);
    assert_string_equal(trail, "cc");
    test_loop_close(&test);
}

/* ---- deadlines ---- */

static MAY_YIELD void nested_deadlines(void *arg)
{
    (void)arg;
    clock_set_fake(1000 * NS_PER_S, 0);
    struct scope outer, inner;
    struct error err;
    scope_open(&outer, clock_deadline(10 * NS_PER_S));
    scope_open(&inner, clock_deadline(60 * NS_PER_S));
    mark_result(fiber_check(&err), &err);
    clock_set_fake(1009 * NS_PER_S, 0);
    assert_false(scope_is_over(&inner));
    clock_set_fake(1010 * NS_PER_S, 0);
    assert_true(scope_is_over(&inner)); /* by the outer deadline */
    mark_suspend();
    scope_close(&inner);
    scope_close(&outer);
    mark_result(fiber_check(&err), &err);

    scope_open(&outer, clock_deadline(60 * NS_PER_S));
    scope_open(&inner, clock_deadline(10 * NS_PER_S));
    clock_set_fake(1021 * NS_PER_S, 0);
    mark_suspend();
    scope_close(&inner);
    mark_result(fiber_check(&err), &err);
    scope_close(&outer);
}

static void the_earliest_deadline_counts(void **state)
{
    (void)state;
    test_in_fiber(nested_deadlines, NULL);
    assert_string_equal(trail, "ototo");
}

static MAY_YIELD void wait_until(void *arg)
{
    struct scope scope;
    scope_open(&scope, *(int64_t *)arg);
    mark_suspend();
    scope_close(&scope);
}

static MAY_YIELD void advance_clock(void *arg)
{
    (void)arg;
    fiber_yield();
    for (int64_t second = 1; second <= 5; second++) {
        clock_set_fake(second * NS_PER_S, 0);
        mark((char)('0' + second));
        yield_times(2);
    }
}

static void deadlines_end_waits_in_order(void **state)
{
    (void)state;
    clock_set_fake(0, 0);
    struct test_loop test;
    test_loop_open(&test, NULL);
    int64_t deadlines[] = {4 * NS_PER_S, 2 * NS_PER_S, 3 * NS_PER_S, 2 * NS_PER_S};
    for (size_t i = 0; i < 4; i++)
        test_loop_spawn(&test, wait_until, &deadlines[i]);
    test_loop_spawn(&test, advance_clock, NULL);
    test_loop_run(&test);
    assert_string_equal(trail, "12tt3t4t5");
    test_loop_close(&test);
}

/* The timer stays armed where it was when a later wait has a later deadline. */
static MAY_YIELD void later_and_later(void *arg)
{
    (void)arg;
    for (int64_t second = 2; second <= 4; second += 2) {
        int64_t deadline = second * NS_PER_S;
        wait_until(&deadline);
    }
    mark_suspend(); /* no deadline any more; ends by cancellation */
}

static MAY_YIELD void woken_before_the_deadline(void *arg)
{
    struct test_loop *test = arg;
    struct scope scope;
    scope_open(&scope, 3 * NS_PER_S);
    fiber_wake(fiber_current());
    mark_suspend();
    spawn(&test->root, wake_it, fiber_current());
    mark_suspend();
    scope_close(&scope);
    scope_open(&scope, 5 * NS_PER_S);
    mark_suspend();
    scope_close(&scope);
}

static void a_timer_left_armed_ends_no_later_wait(void **state)
{
    (void)state;
    clock_set_fake(0, 0);
    struct test_loop test;
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, woken_before_the_deadline, &test);
    test_loop_spawn(&test, advance_clock, NULL);
    test_loop_run(&test);
    assert_string_equal(trail, "ow1o2345t");
    memset(trail, 0, sizeof trail);
    clock_set_fake(0, 0);
    struct scope *root = &test.root;
    test_loop_spawn(&test, later_and_later, NULL);
    test_loop_spawn(&test, advance_clock, NULL);
    while (strcmp(trail, "12t34t5") != 0) {
        loop_stop(test.loop);
        loop_run(test.loop);
    }
    scope_cancel(root);
    test_loop_run(&test);
    assert_string_equal(trail, "12t34t5c");
    test_loop_close(&test);
}

static MAY_YIELD void sooner_inside(void *arg)
{
    (void)arg;
    struct scope outer, inner;
    scope_open(&outer, 5 * NS_PER_S);
    spawn(&outer, wake_it, fiber_current());
    mark_suspend(); /* arms the timer for the outer deadline, but is woken */
    spawn(&outer, advance_clock, NULL);
    scope_open(&inner, 2 * NS_PER_S);
    mark_suspend();
    scope_close(&inner);
    scope_close(&outer);
}

static void a_timer_left_armed_moves_to_a_sooner_deadline(void **state)
{
    (void)state;
    clock_set_fake(0, 0);
    test_in_fiber(sooner_inside, NULL);
    assert_string_equal(trail, "wo12t345");
}

struct precedence {
    const char *name;
    bool cancel, late, wake;
    char expected;
};

static MAY_YIELD void several_at_once(void *arg)
{
    struct precedence *one = arg;
    clock_set_fake(0, 0);
    struct scope scope;
    scope_open(&scope, NS_PER_S);
    if (one->wake)
        fiber_wake(fiber_current());
    if (one->late)
        clock_set_fake(2 * NS_PER_S, 0);
    if (one->cancel)
        scope_cancel(&scope);
    mark_suspend();
    scope_close(&scope);
}

/* The same, arriving while it waits. */
struct meanwhile {
    struct precedence *what;
    struct fiber *fiber;
    struct scope *scope;
};

static MAY_YIELD void let_them_happen(void *arg)
{
    struct meanwhile *all = arg;
    if (all->what->wake)
        fiber_wake(all->fiber);
    if (all->what->late)
        clock_set_fake(2 * NS_PER_S, 0);
    if (all->what->cancel)
        scope_cancel(all->scope);
}

static MAY_YIELD void several_while_waiting(void *arg)
{
    clock_set_fake(0, 0);
    struct scope scope;
    scope_open(&scope, NS_PER_S);
    struct meanwhile all = {arg, fiber_current(), &scope};
    spawn(&scope, let_them_happen, &all);
    mark_suspend();
    scope_close(&scope);
}

static void cancellation_outranks_timeout_outranks_wake_up(void **state)
{
    (void)state;
    static struct precedence cases[] = {
        {"all", true, true, true, 'c'},
        {"cancel, timeout", true, true, false, 'c'},
        {"cancel, wake", true, false, true, 'c'},
        {"cancel", true, false, false, 'c'},
        {"timeout, wake", false, true, true, 't'},
        {"timeout", false, true, false, 't'},
        {"wake", false, false, true, 'o'},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clear(NULL);
        test_in_fiber(several_at_once, &cases[i]);
        test_in_fiber(several_while_waiting, &cases[i]);
        clock_set_fake(-1, -1);
        if (trail[0] != cases[i].expected || trail[1] != cases[i].expected)
            fail_msg("%s: %s", cases[i].name, trail);
    }
}

static MAY_YIELD void sleep_and_mark(void *arg)
{
    struct error err;
    enum result result = fiber_sleep(*(int64_t *)arg, &err);
    mark_result(result, &err);
}

static MAY_YIELD void sleep_under_a_deadline(void *arg)
{
    (void)arg;
    struct scope scope;
    int64_t three = 3 * NS_PER_S;
    scope_open(&scope, 2 * NS_PER_S);
    spawn(&scope, wake_it, fiber_current()); /* does not end a sleep */
    sleep_and_mark(&three);
    scope_close(&scope);
    mark_suspend(); /* the wake-up is still there */
}

static void sleeping(void **state)
{
    (void)state;
    clock_set_fake(0, 0);
    struct test_loop test;
    test_loop_open(&test, NULL);
    int64_t four = 4 * NS_PER_S, none = 0;
    test_loop_spawn(&test, sleep_and_mark, &four);
    test_loop_spawn(&test, sleep_and_mark, &none);
    test_loop_spawn(&test, sleep_under_a_deadline, NULL);
    test_loop_spawn(&test, advance_clock, NULL);
    test_loop_run(&test);
    assert_string_equal(trail, "ow12to34o5");
    test_loop_close(&test);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)
    const struct CMUnitTest tests[] = {
        TEST(closing_waits_for_children),
        TEST(cancelling_ends_children),
        TEST(cancellation_reaches_nested_scopes),
        TEST(a_shield_keeps_cancellation_off),
        TEST(cancellation_waits_for_the_shield_to_close),
        TEST(a_child_may_cancel_its_scope),
        TEST(the_root_scope_is_cancelled_off_a_fiber),
        TEST(the_earliest_deadline_counts),
        TEST(deadlines_end_waits_in_order),
        TEST(a_timer_left_armed_ends_no_later_wait),
        TEST(a_timer_left_armed_moves_to_a_sooner_deadline),
        TEST(cancellation_outranks_timeout_outranks_wake_up),
        TEST(sleeping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
