/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/destination.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static unsigned looks;

static void look(void *context, struct queue_member *member)
{
    (void)context;
    (void)member;
    looks++;
}

struct setting {
    struct loop *loop;
    struct loop *loops[3];
    struct queue_destinations *all;
    struct queue_destination *destination;
};

static void open_setting(struct setting *setting)
{
    struct error err;
    assert_int_equal(loop_new(NULL, &setting->loop, &err), OK);
    setting->loops[0] = setting->loops[1] = setting->loops[2] =
        setting->loop; /* posts stay unseen */
    setting->all = queue_destinations_new(setting->loops, 3, look, NULL);
    setting->destination = queue_destination_get(setting->all, STR("out example.net"));
}

static void close_setting(struct setting *setting)
{
    queue_destination_unref(setting->destination);
    loop_free(setting->loop); /* drops the posts, which lie in the destinations */
    queue_destinations_free(setting->all);
}

static enum queue_lease acquire(struct setting *setting, size_t worker, int64_t max)
{
    struct error err;
    return queue_destination_acquire(setting->destination, worker, false, max, clock_monotonic_ns(),
                                     &err);
}

static void test_window_grows(void **state)
{
    struct setting setting;
    struct queue_destination_news news;
    (void)state;
    open_setting(&setting);
    for (int i = 0; i < QUEUE_WINDOW_FIRST; i++)
        assert_int_equal(acquire(&setting, 0, 7), QUEUE_LEASE_GRANTED);
    assert_int_equal(acquire(&setting, 0, 7), QUEUE_LEASE_FULL);
    for (int i = 0; i < 5; i++)
        queue_destination_success(setting.destination, 7, &news);
    assert_int_equal(acquire(&setting, 0, 7), QUEUE_LEASE_GRANTED);
    assert_int_equal(acquire(&setting, 0, 7), QUEUE_LEASE_GRANTED);
    assert_int_equal(acquire(&setting, 0, 7), QUEUE_LEASE_FULL); /* the transport's limit */
    close_setting(&setting);
}

static void test_hand_over(void **state)
{
    struct setting setting;
    (void)state;
    open_setting(&setting);
    assert_int_equal(acquire(&setting, 0, 1), QUEUE_LEASE_GRANTED);
    assert_false(queue_destination_is_wanted(setting.destination, 0));
    assert_int_equal(acquire(&setting, 1, 1), QUEUE_LEASE_FULL);
    assert_true(queue_destination_is_wanted(setting.destination, 0));
    queue_destination_release(setting.destination, 0);
    assert_false(queue_destination_is_wanted(setting.destination, 0));
    assert_int_equal(queue_destination_take_granted(setting.destination, 0), 0);
    assert_int_equal(queue_destination_take_granted(setting.destination, 1), 1);
    assert_int_equal(acquire(&setting, 0, 1), QUEUE_LEASE_FULL);
    close_setting(&setting);
}

/* Three workers and three leases, all of worker 0: 1 waits for a sender who had less, 2 does not.
 */
static void test_hand_over_to_the_owed(void **state)
{
    struct setting setting;
    struct error err;
    (void)state;
    open_setting(&setting);
    struct queue_destination *destination = setting.destination;
    for (int i = 0; i < 3; i++)
        assert_int_equal(acquire(&setting, 0, 3), QUEUE_LEASE_GRANTED);
    assert_int_equal(acquire(&setting, 1, 3), QUEUE_LEASE_FULL);
    assert_true(queue_destination_should_yield(destination, 0, false)); /* 1 has none */
    assert_false(queue_destination_should_yield(destination, 0, true)); /* but is owed nothing */
    assert_int_equal(queue_destination_acquire(destination, 2, true, 3, 1, &err), QUEUE_LEASE_FULL);
    assert_true(queue_destination_should_yield(destination, 0, false));
    queue_destination_release(destination, 0);
    assert_int_equal(queue_destination_take_granted(destination, 1), 0);
    assert_int_equal(queue_destination_take_granted(destination, 2), 1);
    close_setting(&setting);
}

static void test_back_off(void **state)
{
    struct setting setting;
    struct queue_destination_news news;
    struct error error;
    int64_t now_ns = 1000 * NS_PER_S;
    (void)state;
    open_setting(&setting);
    error = (struct error){.kind = ERROR_TEMPORARY, .text = "no route"};
    clock_set_fake(now_ns, 0);
    for (int i = 1; i <= QUEUE_BACKOFF_AFTER; i++) {
        queue_destination_failure(setting.destination, now_ns, now_ns + i, &error, &news);
        /* one that ran beside it does not count again */
        queue_destination_failure(setting.destination, now_ns - 5, now_ns + i, &error, &news);
        now_ns += NS_PER_S;
        clock_set_fake(now_ns, 0);
    }
    assert_int_equal(acquire(&setting, 0, 20), QUEUE_LEASE_BACKED_OFF);
    now_ns += (QUEUE_BACKOFF_FIRST_S + 1) * NS_PER_S;
    clock_set_fake(now_ns, 0);
    assert_int_equal(acquire(&setting, 0, 20), QUEUE_LEASE_GRANTED); /* the probe */
    assert_int_equal(acquire(&setting, 1, 20), QUEUE_LEASE_FULL);
    queue_destination_failure(setting.destination, now_ns, now_ns, &error, &news);
    assert_true(news.backed_off);
    now_ns += (QUEUE_BACKOFF_FIRST_S + 1) * NS_PER_S; /* twice as long now */
    clock_set_fake(now_ns, 0);
    assert_int_equal(acquire(&setting, 0, 20), QUEUE_LEASE_BACKED_OFF);
    queue_destination_success(setting.destination, 20, &news);
    assert_true(news.came_up);
    queue_destination_release(setting.destination, 0);
    assert_int_equal(acquire(&setting, 1, 20), QUEUE_LEASE_GRANTED);
    clock_set_fake(-1, -1);
    close_setting(&setting);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_grows),
        cmocka_unit_test(test_hand_over),
        cmocka_unit_test(test_hand_over_to_the_owed),
        cmocka_unit_test(test_back_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
