/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/test.h - for unit tests of what suspends: a loop that runs until no fiber is left.
 *
 * An assertion that fails in a fiber jumps back to cmocka on the thread's own stack; the tests
 * after it in the same program cannot be relied on then.
 */
#pragma once

#include "base/check.h"
#include "fiber/loop.h"

struct test_loop {
    struct loop *loop;
    struct scope root;
    struct loop_hook stop_when_empty; /* private */
};

static inline void test_loop_end_turn(struct loop_hook *hook)
{
    struct test_loop *test = CONTAINER(hook, struct test_loop, stop_when_empty);
    if (scope_is_empty(&test->root))
        loop_stop(test->loop);
}

/* `limits` as for loop_new(); NULL is allowed. */
static inline void test_loop_open(struct test_loop *test, const struct loop_limits *limits)
{
    struct error err;
    check(loop_new(limits, &test->loop, &err) == OK);
    scope_init_root(&test->root, test->loop);
    test->stop_when_empty = (struct loop_hook){.run = test_loop_end_turn};
}

static inline void test_loop_spawn(struct test_loop *test, void (*run)(void *arg), void *arg)
{
    struct error err;
    check(fiber_spawn(&test->root, "test", run, arg, &err) == OK);
}

/* Run until all fibers of the root scope have ended. */
static inline void test_loop_run(struct test_loop *test)
{
    loop_hook_add(test->loop, &test->stop_when_empty);
    loop_run(test->loop);
    loop_hook_remove(&test->stop_when_empty);
}

static inline void test_loop_close(struct test_loop *test)
{
    check(scope_is_empty(&test->root));
    loop_free(test->loop);
}

/* All of the above for one fiber and those it spawns. */
static inline void test_in_fiber(void (*run)(void *arg), void *arg)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, run, arg);
    test_loop_run(&test);
    test_loop_close(&test);
}
