/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/fiber.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/cond.h"
#include "fiber/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif

/* ThreadSanitizer takes some 8,000 contexts at most. */
#if defined(THREAD_SANITIZER)
enum { MANY_FIBERS = 1000 };
#else
enum { MANY_FIBERS = 10000 };
#endif

/* ---- scaffolding: a loop, a scope of its own, a record of what happened ---- */

struct bench {
    struct loop *loop;
    struct scope root;
    char trail[256];
};

static void bench_open(struct bench *bench, const struct loop_limits *limits)
{
    struct error err;
    memset(bench, 0, sizeof *bench);
    assert_int_equal(loop_new(limits, &bench->loop, &err), OK);
    scope_init_root(&bench->root, bench->loop);
}

static void bench_close(struct bench *bench)
{
    assert_true(scope_is_empty(&bench->root));
    loop_free(bench->loop);
    clock_set_fake(-1, -1);
}

static void stop_when_empty(struct loop_hook *hook);

struct stopper {
    struct loop_hook hook;
    struct bench *bench;
};

static void stop_when_empty(struct loop_hook *hook)
{
    struct stopper *stopper = CONTAINER(hook, struct stopper, hook);
    if (scope_is_empty(&stopper->bench->root))
        loop_stop(stopper->bench->loop);
}

/* Run the loop until no fiber is left. */
static void bench_run(struct bench *bench)
{
    struct stopper stopper = {.hook.run = stop_when_empty, .bench = bench};
    loop_hook_add(bench->loop, &stopper.hook);
    loop_run(bench->loop);
    loop_hook_remove(&stopper.hook);
}

static void bench_spawn(struct bench *bench, void (*run)(void *arg), void *arg)
{
    struct error err;
    assert_int_equal(fiber_spawn(&bench->root, "test", run, arg, &err), OK);
}

static void mark(struct bench *bench, char letter)
{
    size_t used = strlen(bench->trail);
    check(used + 1 < sizeof bench->trail);
    bench->trail[used] = letter;
}

/* ---- spawning ---- */

struct letter {
    struct bench *bench;
    char letter;
    int times;
};

static MAY_YIELD void write_letter(void *arg)
{
    struct letter *letter = arg;
    for (int i = 0; i < letter->times; i++) {
        mark(letter->bench, letter->letter);
        fiber_yield();
    }
}

static void fibers_take_turns(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, NULL);
    struct letter a = {&bench, 'a', 3}, b = {&bench, 'b', 2}, c = {&bench, 'c', 1};
    bench_spawn(&bench, write_letter, &a);
    bench_spawn(&bench, write_letter, &b);
    bench_spawn(&bench, write_letter, &c);
    assert_string_equal(bench.trail, "");
    bench_run(&bench);
    assert_string_equal(bench.trail, "abcaba");
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_take_turns),
    };
    (void)MANY_FIBERS;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
