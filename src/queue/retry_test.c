/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/retry.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MINUTES(n) ((n)*60 * NS_PER_S)

/* The guide's: 15, 15, 30, 60 make attempts at 0, 15, 30, 60, 120 minutes; the fifth is the last.
 */
static void test_guide(void **state)
{
    int64_t delays[] = {MINUTES(15), MINUTES(15), MINUTES(30), MINUTES(60)};
    struct transport transport = {.retry = {.delays = {delays, 4}, .count = 4}};
    static const int64_t at[] = {0, 15, 30, 60, 120};
    int64_t start_ns = 0;
    (void)state;
    for (unsigned attempts = 1; attempts <= 4; attempts++) {
        start_ns = queue_retry_due(&transport, attempts, start_ns, start_ns + NS_PER_S, 0);
        assert_int_equal(start_ns, MINUTES(at[attempts]));
    }
    assert_int_equal(queue_retry_due(&transport, 5, start_ns, start_ns + NS_PER_S, 0), -1);
}

/* The guide's again: after the first attempt the end is two hours away, after the third too. */
static void test_give_up(void **state)
{
    int64_t delays[] = {MINUTES(15), MINUTES(15), MINUTES(30), MINUTES(60)};
    struct transport transport = {.retry = {.delays = {delays, 4}, .count = 4}};
    (void)state;
    assert_int_equal(queue_retry_give_up(&transport, 1, MINUTES(15), TIME_NEVER), MINUTES(120));
    assert_int_equal(queue_retry_give_up(&transport, 3, MINUTES(60), TIME_NEVER), MINUTES(120));
    assert_int_equal(queue_retry_give_up(&transport, 4, MINUTES(120), TIME_NEVER), MINUTES(120));
    assert_int_equal(queue_retry_give_up(&transport, 1, MINUTES(15), MINUTES(40)), MINUTES(40));
}

static void test_count_repeats_the_last(void **state)
{
    int64_t delays[] = {MINUTES(5), MINUTES(15)};
    struct transport transport = {.retry = {.delays = {delays, 2}, .count = 4}};
    (void)state;
    assert_int_equal(queue_retry_due(&transport, 1, 0, 0, 0), MINUTES(5));
    assert_int_equal(queue_retry_due(&transport, 4, 0, 0, 0), MINUTES(15));
    assert_int_equal(queue_retry_due(&transport, 5, 0, 0, 0), -1);
    transport.retry.count = 0;
    assert_int_equal(queue_retry_due(&transport, 1, 0, 0, 0), -1);
}

/* Counted from the start; an attempt that took longer than the delay is followed at once. */
static void test_long_attempt(void **state)
{
    int64_t delays[] = {MINUTES(5)};
    struct transport transport = {.retry = {.delays = {delays, 1}, .count = 9}};
    (void)state;
    assert_int_equal(queue_retry_due(&transport, 1, MINUTES(10), MINUTES(14), 0), MINUTES(15));
    assert_int_equal(queue_retry_due(&transport, 1, MINUTES(10), MINUTES(17), 0), MINUTES(17));
}

static void test_jitter(void **state)
{
    int64_t delays[] = {59 * NS_PER_S, MINUTES(1), MINUTES(100)};
    struct transport transport = {.retry = {.delays = {delays, 3}, .count = 3}};
    (void)state;
    assert_int_equal(queue_retry_due(&transport, 1, 0, 0, UINT32_MAX), 59 * NS_PER_S);
    assert_int_equal(queue_retry_due(&transport, 2, 0, 0, UINT32_MAX), 63 * NS_PER_S);
    for (uint32_t random = 0; random < UINT32_MAX - 100000000; random += 100000000) {
        int64_t due_ns = queue_retry_due(&transport, 3, 0, 0, random);
        assert_true(due_ns >= MINUTES(100) && due_ns <= MINUTES(105));
    }
}

/* Due at 15 minutes after one attempt: 30 and 60 pass too, and 120 is the last whatever happens. */
static void test_pass(void **state)
{
    int64_t delays[] = {MINUTES(15), MINUTES(15), MINUTES(30), MINUTES(60)};
    struct transport transport = {.retry = {.delays = {delays, 4}, .count = 4}};
    static const struct {
        int64_t until, due;
        uint32_t attempts;
    } cases[] = {{15, 15, 1}, {29, 15, 1}, {30, 30, 2}, {61, 60, 3}, {120, 120, 4}, {900, 120, 4}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t attempts = 1;
        int64_t due_ns = MINUTES(15);
        queue_retry_pass(&transport, &attempts, &due_ns, MINUTES(cases[i].until));
        assert_int_equal(attempts, cases[i].attempts);
        assert_int_equal(due_ns, MINUTES(cases[i].due));
    }
}

static void test_content(void **state)
{
    (void)state;
    assert_int_equal(queue_retry_content_due(1, 0, 0), MINUTES(1));
    assert_int_equal(queue_retry_content_due(2, 0, 0), MINUTES(5));
    assert_int_equal(queue_retry_content_due(3, 0, 0), MINUTES(15));
    assert_int_equal(queue_retry_content_due(90, 0, 0), MINUTES(15));
    assert_int_equal(queue_retry_content_due(1, 0, MINUTES(4)), MINUTES(4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guide),
        cmocka_unit_test(test_give_up),
        cmocka_unit_test(test_count_repeats_the_last),
        cmocka_unit_test(test_long_attempt),
        cmocka_unit_test(test_jitter),
        cmocka_unit_test(test_pass),
        cmocka_unit_test(test_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
