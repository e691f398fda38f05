/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write amplification: bytes written for each byte of mail that was accepted, with 5 % of it long
 * lived.
 *
 * Once at full speed over some forty segments, and once as an hour: a segment a minute, by a clock
 * that the test sets, with the ages at which segments are looked at left as they are. The hour is
 * begun again with a worse choice of segments, which must exceed the limit.
 */
#include "base/clock.h"
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
    EACH = SEGMENT / SIZE, /* messages a segment, or a little less */
    AT_ONCE = 16,          /* in delivery: a message is done when so many more were accepted */
    LONG_EACH = 20,        /* 5 % live long */
    SEGMENTS = 40,
    LONG_LIVES = 16, /* segments' worth of messages: it is copied while it lives */
    MINUTES = 60,
};
static const double LIMIT = 1.3;

static NO_YIELD_CHECK void remove_one(struct spool *spool, uint64_t number)
{
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(number)};
    spool_write(spool, &change, 1);
}

static bool lives_long(uint64_t number)
{
    return number % LONG_EACH == 0;
}

/* It was tried once if it lives long; one that was accepted before is done. */
static NO_YIELD_CHECK void add_one(struct spool *spool, uint64_t number)
{
    struct error err = {0};
    assert_int_equal(test_add(spool, number, SIZE, &err), OK);
    if (lives_long(number)) {
        struct spool_change change = {
            .kind = SPOOL_STATE, .entry = test_id(number), .state = STR("tried once")};
        spool_write(spool, &change, 1);
    }
    if (number >= AT_ONCE && !lives_long(number - AT_ONCE))
        remove_one(spool, number - AT_ONCE);
}

static void open_spool(struct test_fixture *fixture, int64_t reclaim_age_ns, unsigned reclaim_below)
{
    spool_close(fixture->spool);
    struct spool_settings settings = {.path = str_c(fixture->path),
                                      .segment_size = SEGMENT,
                                      .free_bytes_floor = 1,
                                      .no_sync = true,
                                      .reclaim_age_ns = reclaim_age_ns,
                                      .reclaim_below = reclaim_below};
    fixture->spool = test_open_with(&settings, &fixture->found);
}

static double ratio_of(const char *what, struct spool *spool, uint64_t messages)
{
    struct spool_stats stats = spool_stats(spool);
    double ratio = (double)stats.bytes_written / ((double)messages * SIZE);
    printf("%s, %llu messages of %d bytes: %.3f bytes written a byte accepted, %llu segments left, "
           "%.1f MiB on disk of which %.1f MiB live\n",
           what, (unsigned long long)messages, SIZE, ratio, (unsigned long long)stats.segments,
           (double)stats.disk_bytes / 1048576.0, (double)stats.live_bytes / 1048576.0);
    return ratio;
}

/* ---- at full speed ---- */

static NO_YIELD_CHECK void run_mix(void *arg)
{
    struct test_fixture *fixture = arg;
    const uint64_t lives = (uint64_t)LONG_LIVES * EACH;
    for (uint64_t i = 0; i < SEGMENTS * EACH; i++) {
        add_one(fixture->spool, i);
        if (i >= lives && lives_long(i - lives))
            remove_one(fixture->spool, i - lives);
    }
}

/* What is left: the segments of the last lives, and cold ones. */
static void wait_for_reclaim(struct spool *spool)
{
    for (int i = 0; i < 12000 && spool_stats(spool).segments > 6; i++)
        usleep(10 * 1000);
}

static void test_full_speed(void **state)
{
    struct test_fixture *fixture = *state;
    open_spool(fixture, 1, 0);
    test_on_fiber(run_mix, fixture);
    wait_for_reclaim(fixture->spool);
    double ratio = ratio_of("full speed", fixture->spool, SEGMENTS * EACH);
    assert_true(ratio >= 1.05); /* copies and headers are counted: else it measures nothing */
    assert_true(ratio <= LIMIT);
    assert_true(spool_stats(fixture->spool).segments <= 12); /* space was given back for it */
}

/* ---- an hour ---- */

struct hour {
    struct test_fixture *fixture;
    uint64_t minute;
};

/* A retry or many: from a minute to the whole hour. */
static uint64_t leaves_at(uint64_t number)
{
    uint64_t mixed = (number + 1) * 0x9e3779b97f4a7c15;
    return number + EACH + (mixed >> 33) % ((uint64_t)MINUTES * EACH);
}

static NO_YIELD_CHECK void run_minute(void *arg)
{
    const struct hour *hour = arg;
    uint64_t first = hour->minute * EACH, end = first + EACH;
    for (uint64_t i = first; i < end; i++)
        add_one(hour->fixture->spool, i);
    for (uint64_t i = 0; i < first; i += LONG_EACH)
        if (leaves_at(i) >= first && leaves_at(i) < end)
            remove_one(hour->fixture->spool, i);
}

/* Reclaim is paced by the real clock: until nothing has been written for a while. */
static void let_reclaim_work(struct spool *spool)
{
    enum { QUIET = 12, LOOK_US = 3000 };
    uint64_t seen = 0;
    for (int quiet = 0; quiet < QUIET; quiet++) {
        struct spool_stats stats = spool_stats(spool);
        if (stats.bytes_written + stats.disk_bytes != seen)
            quiet = 0;
        seen = stats.bytes_written + stats.disk_bytes;
        usleep(LOOK_US);
    }
}

static double run_hour(struct test_fixture *fixture, const char *what, uint64_t minutes,
                       unsigned reclaim_below)
{
    struct hour hour = {.fixture = fixture};
    int64_t start_ns = clock_monotonic_ns();
    clock_set_fake(start_ns, clock_wall_ns());
    open_spool(fixture, /* as it is by itself: */ 0, reclaim_below);
    for (; hour.minute < minutes; hour.minute++) {
        clock_set_fake(start_ns + (int64_t)hour.minute * 60 * NS_PER_S, clock_wall_ns());
        test_on_fiber(run_minute, &hour);
        let_reclaim_work(fixture->spool);
    }
    clock_set_fake(-1, -1);
    return ratio_of(what, fixture->spool, minutes * EACH);
}

static void test_hour(void **state)
{
    struct test_fixture *fixture = *state;
    double ratio = run_hour(fixture, "an hour", MINUTES, 0);
    assert_true(ratio >= 1.05);
    assert_true(ratio <= LIMIT);
    assert_true(spool_stats(fixture->spool).segments <= MINUTES / 2);
}

/* Red control: segments are copied although most of what is in them is needed. */
static void test_hour_of_bad_choices(void **state)
{
    assert_true(run_hour(*state, "bad choices", MINUTES, 98) > LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full_speed, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_hour, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_hour_of_bad_choices, test_set_up, test_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
