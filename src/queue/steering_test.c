/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/steering.h"

#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* behind ours: it defines a macro named fail */

static char folder[64];

static struct str path_of(char *space, size_t size)
{
    (void)snprintf(space, size, "%s/steering", folder);
    return str_c(space);
}

static struct queue_steering *open_one(void)
{
    char path[80];
    struct error err;
    struct queue_steering *steering = queue_steering_new();
    if (queue_steering_open(steering, path_of(path, sizeof path), &err) == FAILED)
        fail_msg("%s", err.text);
    return steering;
}

static void pause_at(struct queue_steering *steering, const char *destination, int64_t since_ns)
{
    struct error err;
    struct queue_steering_order order = {.transport = STR("out"),
                                         .destination = str_c(destination),
                                         .paused = true,
                                         .since_wall_ns = since_ns,
                                         .actor = STR("uid 0"),
                                         .reason = STR("tab\there")};
    assert_int_equal(queue_steering_put(steering, &order, &err), OK);
}

static size_t clear(struct queue_steering *steering, const char *destination, int64_t now_ns)
{
    struct error err;
    size_t count;
    assert_int_equal(
        queue_steering_clear(steering, STR("out"), str_c(destination), now_ns, &count, &err), OK);
    return count;
}

static bool is_paused(struct queue_steering *steering, const char *destination)
{
    return queue_steering_find(steering, STR("out"), str_c(destination)).paused;
}

static void test_pause_outlives_a_restart(void **state)
{
    (void)state;
    struct queue_steering *steering = open_one();
    pause_at(steering, "Example.net", 1000);
    assert_true(is_paused(steering, "example.net"));
    assert_false(is_paused(steering, "example.com"));
    queue_steering_free(steering);
    steering = open_one();
    assert_true(is_paused(steering, "EXAMPLE.NET"));
    size_t count;
    struct arena *arena = arena_new(0);
    struct queue_steering_order *orders = queue_steering_list(steering, arena, &count);
    assert_int_equal(count, 1);
    assert_true(str_equal(orders[0].reason, STR("tab here")));
    assert_int_equal(orders[0].since_wall_ns, 1000);
    arena_free(arena);
    assert_int_equal(clear(steering, "", 5000), 1);
    assert_false(is_paused(steering, "example.net"));
    queue_steering_free(steering);
}

static void test_paused_time(void **state)
{
    (void)state;
    struct queue_steering *steering = open_one();
    pause_at(steering, "a.example", 10000);
    clear(steering, "a.example", 11000);
    pause_at(steering, "", 10500); /* overlaps, and goes on */
    static const struct {
        const char *destination;
        int64_t from, until, paused;
    } cases[] = {
        {"a.example", 0, 9000, 0},     {"a.example", 0, 10100, 100},
        {"a.example", 0, 12000, 2000}, {"a.example", 10900, 12000, 1100},
        {"b.example", 0, 12000, 1500}, {"b.example", 20000, 20001, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(queue_steering_paused_ns(steering, STR("out"), str_c(cases[i].destination),
                                                  cases[i].from, cases[i].until),
                         cases[i].paused);
    assert_int_equal(queue_steering_paused_ns(steering, STR("other"), STR("a.example"), 0, 12000),
                     0);
    clear(steering, "", 12000);
    queue_steering_free(steering);
    steering = open_one(); /* the past is kept too */
    assert_int_equal(queue_steering_paused_ns(steering, STR("out"), STR("a.example"), 9000, 50000),
                     2000);
    queue_steering_free(steering);
}

static void test_own_rate_goes_first(void **state)
{
    (void)state;
    struct error err;
    struct queue_steering *steering = open_one();
    struct queue_steering_order order = {.transport = STR("out"),
                                         .destination = STR("a.example"),
                                         .slow = {.count = 5, .period_ns = 60},
                                         .actor = STR_EMPTY,
                                         .reason = STR_EMPTY};
    assert_int_equal(queue_steering_put(steering, &order, &err), OK);
    order.destination = STR_EMPTY;
    order.slow.count = 9;
    assert_int_equal(queue_steering_put(steering, &order, &err), OK);
    queue_steering_free(steering);
    steering = open_one();
    assert_int_equal(queue_steering_find(steering, STR("out"), STR("a.example")).slow.count, 5);
    assert_int_equal(queue_steering_find(steering, STR("out"), STR("b.example")).slow.count, 9);
    assert_int_equal(clear(steering, "a.example", 1), 1);
    assert_int_equal(queue_steering_find(steering, STR("out"), STR("a.example")).slow.count, 9);
    assert_int_equal(clear(steering, "", 1), 1);
    queue_steering_free(steering);
}

static void test_damaged_file(void **state)
{
    static const char *const texts[] = {
        "",
        "something else\n",
        "postern-steering 1\npause\tout\n",
        "postern-steering 1\nslow\tout\t\t1\t0\t60\ta\tb\n",
        "postern-steering 1\nstop\tout\t\t1\ta\tb\n",
        "postern-steering 1\npause\tout\t\tsoon\ta\tb\n",
    };
    (void)state;
    char path[80];
    (void)path_of(path, sizeof path);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error err;
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        (void)fputs(texts[i], file);
        (void)fclose(file);
        struct queue_steering *steering = queue_steering_new();
        assert_int_equal(queue_steering_open(steering, str_c(path), &err), FAILED);
        queue_steering_free(steering);
    }
    (void)unlink(path);
}

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/steering-test-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char path[80];
    (void)state;
    (void)unlink(path_of(path, sizeof path).ptr);
    return rmdir(folder);
}

/* After repeated crashes nothing is tried, and no order changes that. */
static void test_all_stopped(void **state)
{
    (void)state;
    struct queue_steering *steering = queue_steering_new();
    unsigned generation = queue_steering_generation(steering);
    assert_false(queue_steering_find(steering, STR("out"), STR("example.net")).paused);
    queue_steering_stop_all(steering);
    assert_true(queue_steering_find(steering, STR("out"), STR("example.net")).paused);
    assert_int_not_equal(queue_steering_generation(steering), generation);
    size_t count;
    struct error err;
    assert_int_equal(queue_steering_clear(steering, STR("out"), STR_EMPTY, 1, &count, &err), OK);
    assert_true(queue_steering_find(steering, STR("out"), STR("example.net")).paused);
    queue_steering_free(steering);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_stopped),
        cmocka_unit_test_setup_teardown(test_pause_outlives_a_restart, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_paused_time, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_own_rate_goes_first, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damaged_file, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
