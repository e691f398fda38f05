/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/trail_test.h - what the tests of fibers share: a record of what happened, in letters.
 */
#pragma once

#include "fiber/test.h"

#include <string.h>

static char trail[256];

static inline void mark(char letter)
{
    size_t used = strlen(trail);
    check(used + 1 < sizeof trail);
    trail[used] = letter;
}

static inline int clear(void **state)
{
    (void)state;
    memset(trail, 0, sizeof trail);
    clock_set_fake(-1, -1);
    return 0;
}

/* A small letter for what a wait said. */
static inline void mark_result(enum result result, const struct error *err)
{
    mark(result == OK                   ? 'o'
         : err->kind == ERROR_CANCELLED ? 'c'
         : err->kind == ERROR_TIMEOUT   ? 't'
         : err->kind == ERROR_LIMIT     ? 'l'
                                        : '?');
}

static inline MAY_YIELD void mark_suspend(void)
{
    struct error err;
    enum result result = fiber_suspend(&err);
    mark_result(result, &err);
}

static inline MAY_YIELD void spawn(struct scope *scope, void (*run)(void *arg), void *arg)
{
    struct error err;
    assert_int_equal(fiber_spawn(scope, "test", run, arg, &err), OK);
}

static inline MAY_YIELD void yield_times(int times)
{
    for (int i = 0; i < times; i++)
        fiber_yield();
}

/* Fiber functions that many tests use. */
static inline MAY_YIELD void suspend_once(void *arg)
{
    (void)arg;
    mark_suspend();
}

static inline MAY_YIELD void suspend_forever(void *arg)
{
    (void)arg;
    struct error err;
    while (fiber_suspend(&err) == OK)
        mark('s');
    mark_result(FAILED, &err);
}

static inline MAY_YIELD void cancel_scope(void *arg)
{
    mark('!');
    scope_cancel(arg);
}

static inline MAY_YIELD void wake_it(void *arg)
{
    mark('w');
    fiber_wake(arg);
}

struct letter {
    char letter;
    int times;
};

static inline MAY_YIELD void write_letter(void *arg)
{
    struct letter *letter = arg;
    for (int i = 0; i < letter->times; i++) {
        mark(letter->letter);
        fiber_yield();
    }
}
