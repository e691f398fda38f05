/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "fiber/fiber.h"

#include "fiber/trail_test.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ThreadSanitizer takes some 8,000 contexts at most, AddressSanitizer takes a lot of memory. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(SANITIZED)
enum { MANY_FIBERS = 1000 };
#else
enum { MANY_FIBERS = 10000 };
#endif

/* ---- spawning ---- */

static void fibers_take_turns(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    struct letter a = {'a', 3}, b = {'b', 2}, c = {'c', 1};
    test_loop_spawn(&test, write_letter, &a);
    test_loop_spawn(&test, write_letter, &b);
    test_loop_spawn(&test, write_letter, &c);
    assert_string_equal(trail, "");
    assert_int_equal(loop_stats(test.loop).fibers, 3);
    test_loop_run(&test);
    assert_string_equal(trail, "abcaba");
    assert_int_equal(loop_stats(test.loop).fibers, 0);
    test_loop_close(&test);
}

static MAY_YIELD void describe(void *arg)
{
    (void)arg;
    assert_non_null(fiber_current());
    assert_non_null(fiber_scope());
    mark('d');
}

static void a_fiber_knows_itself(void **state)
{
    (void)state;
    assert_null(fiber_current());
    assert_null(fiber_scope());
    assert_null(fiber_context());
    test_in_fiber(describe, NULL);
    assert_null(fiber_current());
    assert_string_equal(trail, "d");
}

static void too_many_fibers(void **state)
{
    (void)state;
    struct test_loop test;
    struct error err;
    test_loop_open(&test, &(struct loop_limits){.fibers = 2});
    struct letter a = {'a', 1};
    assert_int_equal(loop_fibers_left(test.loop), 2);
    test_loop_spawn(&test, write_letter, &a);
    assert_int_equal(loop_fibers_left(test.loop), 1);
    test_loop_spawn(&test, write_letter, &a);
    assert_int_equal(loop_fibers_left(test.loop), 0);
    assert_int_equal(fiber_spawn(&test.root, "third", write_letter, &a, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    test_loop_run(&test);
    test_loop_spawn(&test, write_letter, &a);
    test_loop_run(&test);
    assert_string_equal(trail, "aaa");
    test_loop_close(&test);
}

#if !defined(SANITIZED)
/* Two loops, one after the other, and together more stacks than a process may map. */
static MAY_YIELD void wait_for_others(void *arg)
{
    ++*(int *)arg;
    struct error err;
    while (fiber_suspend(&err) == OK)
        continue;
}

static void stacks_of_a_process_are_limited(void **state)
{
    (void)state;
    struct test_loop test;
    struct error err;
    int running = 0;
    int spawned = 0;
    for (int round = 0; round < 2; round++) {
        test_loop_open(&test, &(struct loop_limits){.fibers = 100000});
        while (fiber_spawn(&test.root, "test", wait_for_others, &running, &err) == OK)
            spawned++;
        assert_int_equal(err.kind, ERROR_LIMIT);
        assert_int_equal(spawned, 28000 * (round + 1));
        assert_int_equal(loop_fibers_left(test.loop), 0);
        scope_cancel(&test.root);
        test_loop_run(&test);
        assert_int_equal(running, spawned);
        test_loop_close(&test);
    }
}
#endif

/* ---- memory of those that wait ---- */

struct sleeper {
    struct fiber *fiber;
    char *deep; /* a page of its stack that it used once */
    bool kept;
};

static __attribute__((noinline)) void go_deep(struct sleeper *sleeper)
{
    char frame[64 * 1024];
    memset(frame, 'x', sizeof frame);
    sleeper->deep = (char *)((uintptr_t)(frame + sizeof frame / 2) & ~(uintptr_t)4095);
    __asm__ volatile("" : : "r"(frame) : "memory");
}

static MAY_YIELD void sleep_after_going_deep(void *arg)
{
    struct sleeper *sleeper = arg;
    struct error err;
    char kept[512];
    memset(kept, 'k', sizeof kept);
    __asm__ volatile("" : : "r"(kept) : "memory");
    go_deep(sleeper);
    sleeper->fiber = fiber_current();
    assert_int_equal(fiber_suspend(&err), OK);
    sleeper->kept = kept[0] == 'k' && kept[sizeof kept - 1] == 'k';
}

static bool is_in_memory(char *page)
{
    unsigned char in_core = 0;
    assert_int_equal(mincore(page, 1, &in_core), 0);
    return in_core & 1;
}

static void turn_once(struct test_loop *test)
{
    loop_stop(test->loop);
    loop_run(test->loop);
}

static void who_waits_for_long_keeps_what_he_uses(void **state)
{
    (void)state;
    struct test_loop test;
    struct sleeper sleeper = {0};
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, sleep_after_going_deep, &sleeper);
    turn_once(&test);
    assert_true(is_in_memory(sleeper.deep));
    assert_int_equal(loop_trim_stacks(test.loop), 0); /* it ran since the call before */
    assert_true(is_in_memory(sleeper.deep));
    assert_int_equal(loop_trim_stacks(test.loop), 1);
    assert_false(is_in_memory(sleeper.deep));
    assert_int_equal(loop_trim_stacks(test.loop), 0); /* once is enough */
    fiber_wake(sleeper.fiber);
    test_loop_run(&test);
    assert_true(sleeper.kept);
    test_loop_close(&test);
}

static MAY_YIELD void count_up(void *arg)
{
    char frame[512];
    memset(frame, 'x', sizeof frame);
    fiber_yield();
    assert_int_equal(frame[511], 'x');
    ++*(int *)arg;
}

static void thousands_of_fibers_twice(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, NULL);
    int count = 0;
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < MANY_FIBERS; i++)
            test_loop_spawn(&test, count_up, &count);
        test_loop_run(&test);
        assert_int_equal(count, round * MANY_FIBERS);
    }
    test_loop_close(&test);
}

static MAY_YIELD void note_stack(void *arg)
{
    char here;
    *(uintptr_t *)arg = (uintptr_t)&here;
}

static MAY_YIELD void use_much_stack(void *arg)
{
    char much[200 * 1024];
    memset(much, 'm', sizeof much);
    fiber_yield();
    *(int *)arg += much[0] == 'm' && much[sizeof much - 1] == 'm';
}

static void stacks_are_used_again(void **state)
{
    (void)state;
    struct test_loop test;
    test_loop_open(&test, &(struct loop_limits){.pooled_stacks = 1});
    uintptr_t first = 0, second = 0;
    test_loop_spawn(&test, note_stack, &first);
    test_loop_run(&test);
    test_loop_spawn(&test, note_stack, &second);
    test_loop_run(&test);
    assert_true(first != 0 && first == second);
    int good = 0;
    for (int i = 0; i < 3; i++)
        test_loop_spawn(&test, use_much_stack, &good);
    test_loop_run(&test);
    for (int i = 0; i < 3; i++)
        test_loop_spawn(&test, use_much_stack, &good);
    test_loop_run(&test);
    assert_int_equal(good, 6);
    test_loop_close(&test);
}

/* ---- waking ---- */

static MAY_YIELD void wake_each_other(void *arg)
{
    (void)arg;
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, wake_it, fiber_current());
    mark_suspend();
    scope_close(&scope);
}

static void a_wake_up_ends_the_wait(void **state)
{
    (void)state;
    test_in_fiber(wake_each_other, NULL);
    assert_string_equal(trail, "wo");
}

static MAY_YIELD void wake_oneself(void *arg)
{
    (void)arg;
    fiber_wake(fiber_current());
    fiber_yield(); /* does not take it */
    mark_suspend();
    struct scope scope;
    scope_open(&scope, clock_deadline(NS_PER_MS));
    mark_suspend(); /* it was taken once */
    scope_close(&scope);
}

static void a_wake_up_before_the_wait_is_kept(void **state)
{
    (void)state;
    test_in_fiber(wake_oneself, NULL);
    assert_string_equal(trail, "ot");
}

static MAY_YIELD void close_with_a_wake_up_pending(void *arg)
{
    (void)arg;
    struct letter child = {'a', 3};
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, write_letter, &child);
    fiber_wake(fiber_current());
    scope_close(&scope);
    mark_suspend();
}

static void closing_a_scope_keeps_the_wake_up(void **state)
{
    (void)state;
    test_in_fiber(close_with_a_wake_up_pending, NULL);
    assert_string_equal(trail, "aaao");
}

/* ---- the rest ---- */

static MAY_YIELD void inherit_context(void *arg)
{
    assert_ptr_equal(fiber_context(), arg);
    mark('i');
}

static MAY_YIELD void set_context(void *arg)
{
    assert_null(fiber_context());
    fiber_set_context(arg);
    struct scope scope;
    scope_open(&scope, TIME_NEVER);
    spawn(&scope, inherit_context, arg);
    fiber_set_context(NULL);
    scope_close(&scope);
    assert_null(fiber_context());
}

static void context_is_inherited(void **state)
{
    (void)state;
    test_in_fiber(set_context, trail);
    assert_string_equal(trail, "i");
}

static void use_very_much_stack(void *arg)
{
    char much[2 * 1024 * 1024];
    memset(much, 'm', sizeof much);
    __asm__ volatile("" : : "r"(much) : "memory");
    *(int *)arg += much[sizeof much - 1] == 'm';
    assert_non_null(fiber_current());
}

static MAY_YIELD void call_on_loop_stack(void *arg)
{
    fiber_on_loop_stack(use_very_much_stack, arg);
    fiber_yield();
    fiber_on_loop_stack(use_very_much_stack, arg);
}

static void the_loop_stack_is_large(void **state)
{
    (void)state;
    int good = 0;
    test_in_fiber(call_on_loop_stack, &good);
    assert_int_equal(good, 2);
}

/* ---- mistakes ---- */

static MAY_YIELD void leave_a_scope_open(void *arg)
{
    (void)arg;
    static struct scope scope;
    scope_open(&scope, TIME_NEVER);
}

static void run_leaving_a_scope_open(void)
{
    test_in_fiber(leave_a_scope_open, NULL);
}

static NO_YIELD_CHECK void suspend_off_a_fiber(void)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    (void)fiber_suspend(NULL);
}

static NO_YIELD_CHECK void suspend_in_call(void *arg)
{
    (void)arg;
    (void)fiber_suspend(NULL);
}

static MAY_YIELD void call_that_suspends(void *arg)
{
    fiber_on_loop_stack(suspend_in_call, arg);
}

static void suspend_on_the_loop_stack(void)
{
    test_in_fiber(call_that_suspends, NULL);
}

static void free_a_loop_in_use(void)
{
    struct test_loop test;
    test_loop_open(&test, NULL);
    test_loop_spawn(&test, suspend_once, NULL);
    loop_free(test.loop);
}

static void recurse(int depth)
{
    char frame[4096];
    memset(frame, depth, sizeof frame);
    __asm__ volatile("" : : "r"(frame) : "memory");
    if (depth < 100000)
        recurse(depth + 1);
    __asm__ volatile("" : : "r"(frame) : "memory"); /* no tail call */
}

static MAY_YIELD void recurse_deeply(void *arg)
{
    (void)arg;
    recurse(0);
}

static void overflow_the_stack(void)
{
    test_in_fiber(recurse_deeply, NULL);
}

/* The signal that ends a child process which does this; 0 if none. */
static int signal_of(void (*mistake)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        mistake();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void nothing_wrong(void)
{
}

static void mistakes_abort(void **state)
{
    (void)state;
    assert_int_equal(signal_of(nothing_wrong), 0);
    assert_int_equal(signal_of(run_leaving_a_scope_open), SIGABRT);
    assert_int_equal(signal_of(suspend_off_a_fiber), SIGABRT);
    assert_int_equal(signal_of(suspend_on_the_loop_stack), SIGABRT);
    assert_int_equal(signal_of(free_a_loop_in_use), SIGABRT);
    assert_int_equal(signal_of(overflow_the_stack), SIGSEGV);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)
    const struct CMUnitTest tests[] = {
        TEST(fibers_take_turns),
        TEST(a_fiber_knows_itself),
        TEST(too_many_fibers),
        TEST(thousands_of_fibers_twice),
#if !defined(SANITIZED)
        TEST(stacks_of_a_process_are_limited),
#endif
        TEST(who_waits_for_long_keeps_what_he_uses),
        TEST(stacks_are_used_again),
        TEST(a_wake_up_ends_the_wait),
        TEST(a_wake_up_before_the_wait_is_kept),
        TEST(closing_a_scope_keeps_the_wake_up),
        TEST(context_is_inherited),
        TEST(the_loop_stack_is_large),
        TEST(mistakes_abort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
