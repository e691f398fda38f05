/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write amplification: bytes written for each byte of mail that was accepted, with 5 % of it long
 * lived, at full speed over some forty segments. A segment is sealed, ages and is copied forward
 * while the next ones fill; every long-lived message goes in the end, as an hour's do.
 */
#include "spool/test_tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    SEGMENT = 1 << 20,
    SIZE = 4096,
    MESSAGES = 40 * SEGMENT / SIZE,
    AT_ONCE = 16,    /* in delivery: a message is done when so many more were accepted */
    LONG_EACH = 20,  /* 5 % */
    LONG_LIVES = 16, /* segments' worth of messages: it is copied while it lives */
};

static NO_YIELD_CHECK void remove_one(struct spool *spool, uint64_t number)
{
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(number)};
    spool_write(spool, &change, 1);
}

static NO_YIELD_CHECK void run_mix(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    const uint64_t lives = (uint64_t)LONG_LIVES * SEGMENT / SIZE;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        assert_int_equal(test_add(fixture->spool, i, SIZE, &err), OK);
        if (i % LONG_EACH == 0) { /* it was tried once */
            struct spool_change change = {
                .kind = SPOOL_STATE, .entry = test_id(i), .state = STR("tried once")};
            spool_write(fixture->spool, &change, 1);
        }
        if (i >= AT_ONCE && (i - AT_ONCE) % LONG_EACH != 0)
            remove_one(fixture->spool, i - AT_ONCE);
        if (i >= lives && (i - lives) % LONG_EACH == 0)
            remove_one(fixture->spool, i - lives);
    }
}

/* What is left: the segments of the last lives, and cold ones. */
static void wait_for_reclaim(struct spool *spool)
{
    for (int i = 0; i < 300 && spool_stats(spool).segments > 6; i++)
        usleep(10 * 1000);
}

static void test_five_percent_live_long(void **state)
{
    struct test_fixture *fixture = *state;
    spool_close(fixture->spool);
    struct spool_settings settings = {.path = str_c(fixture->path),
                                      .segment_size = SEGMENT,
                                      .free_bytes_floor = 1,
                                      .no_sync = true,
                                      .reclaim_age_ns = 1};
    fixture->spool = test_open_with(&settings, &fixture->found);
    test_on_fiber(run_mix, fixture);
    wait_for_reclaim(fixture->spool);
    struct spool_stats stats = spool_stats(fixture->spool);
    double accepted = (double)MESSAGES * SIZE;
    double ratio = (double)stats.bytes_written / accepted;
    printf("%d messages of %d bytes: %.3f bytes written a byte accepted, %llu segments left, "
           "%.1f MiB on disk of which %.1f MiB live\n",
           MESSAGES, SIZE, ratio, (unsigned long long)stats.segments,
           (double)stats.disk_bytes / 1048576.0, (double)stats.live_bytes / 1048576.0);
    assert_true(ratio >= 1.05); /* copies and headers are counted: else it measures nothing */
    assert_true(ratio <= 1.3);
    assert_true(stats.segments <= 12); /* and space was given back for it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_five_percent_live_long, test_set_up, test_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
