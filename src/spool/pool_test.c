/* SPDX-License-Identifier: Apache-2.0 */
/* Files of log segments that become segments again: nothing old comes back, nobody reads of them
 * what is new, and what must not lie there does not. */
#include "spool/test_tools.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEGMENT = 256 * 1024, KEPT = 20, PASSING = 1000 };

static struct spool_settings settings_of(const struct test_fixture *fixture)
{
    return (struct spool_settings){.path = str_c(fixture->path),
                                   .segment_size = SEGMENT,
                                   .free_bytes_floor = 1,
                                   .state_delay_ns = NS_PER_MS,
                                   .reclaim_age_ns = 1};
}

static void open_small(struct test_fixture *fixture)
{
    struct spool_settings settings = settings_of(fixture);
    spool_close(fixture->spool);
    fixture->spool = test_open_with(&settings, &fixture->found);
    assert_non_null(fixture->spool);
}

static int set_up(void **state)
{
    if (test_set_up(state) != 0)
        return -1;
    open_small(*state);
    return 0;
}

/* ---- mail that comes and goes ---- */

struct churn {
    struct test_fixture *fixture;
    unsigned reused; /* until so many segments were made of the pool */
};

static NO_YIELD_CHECK void churn(void *arg)
{
    struct churn *churn = arg;
    struct spool *spool = churn->fixture->spool;
    struct error err = {0};
    for (uint64_t i = 0; i < 5000; i++) {
        if (spool_stats(spool).reused >= churn->reused)
            return;
        assert_int_equal(test_add(spool, PASSING + i, 9000, &err), OK);
        struct spool_change changes[] = {{.kind = SPOOL_REMOVE, .entry = test_id(PASSING + i)},
                                         {.kind = SPOOL_COUNT, .counter = 3, .delta = -1}};
        assert_int_equal(spool_commit(spool, changes, 2, &err), OK);
    }
    fail_msg("no segment was used again");
}

static void run_churn(struct test_fixture *fixture, unsigned reused)
{
    struct churn all = {fixture, reused};
    test_on_fiber(churn, &all);
}

static NO_YIELD_CHECK void add_kept(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    uint64_t first = fixture->found.count;
    for (uint64_t i = first; i < first + KEPT / 2; i++)
        assert_int_equal(test_add(fixture->spool, i, i * 100, &err), OK);
}

static void read_kept(void *arg)
{
    struct test_fixture *fixture = arg;
    for (uint64_t i = 0; i < fixture->found.count; i++)
        test_expect_entry(fixture->spool, i, i * 100);
}

static void expect_kept(struct test_fixture *fixture, size_t count)
{
    assert_int_equal(fixture->found.count, count);
    assert_int_equal(spool_counter(fixture->spool, 3), count);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
    test_on_fiber(read_kept, fixture);
}

/* The number that the commands say, in the folder of the log. */
static size_t shell(const struct test_fixture *fixture, const char *commands)
{
    char command[TEST_PATH_SIZE * 4];
    unsigned number = 0;
    (void)snprintf(command, sizeof command, "cd %s/log && %s", fixture->path, commands);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &number), 1);
    pclose(pipe);
    return number;
}

static size_t problems_of(const char *path)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    size_t problems = 0;
    struct error err = {0};
    assert_int_equal(spool_verify(str_c(path), /* verbose= */ false, &out, &problems, &err), OK);
    return problems;
}

/* Killed with all of its files used for the second time or more: what lives is there, no more. */
static void test_used_again(void **state)
{
    struct test_fixture *fixture = *state;
    fixture->found.count = 0;
    test_on_fiber(add_kept, fixture);
    run_churn(fixture, 12);
    fixture->found.count = KEPT / 2;
    test_on_fiber(add_kept, fixture);
    struct test_fixture killed = {0};
    test_folder_copy(fixture->path, killed.path);
    assert_int_equal(problems_of(fixture->path), 0); /* of a spool in use, too */
    killed.spool = test_open(killed.path, &killed.found);
    expect_kept(&killed, KEPT);
    spool_close(killed.spool);
    assert_int_equal(problems_of(killed.path), 0);
    test_folder_remove(killed.path);
    open_small(fixture);
    expect_kept(fixture, KEPT);
}

/* ---- readers ---- */

struct reading {
    struct test_fixture *fixture;
    struct body *body;
};
enum { LONG_BODY = 150000 }; /* is read from the log as it is asked for */

static NO_YIELD_CHECK void begin_reading(void *arg)
{
    struct reading *reading = arg;
    struct spool *spool = reading->fixture->spool;
    struct error err = {0};
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    assert_int_equal(test_add(spool, 5, LONG_BODY, &err), OK);
    assert_int_equal(spool_read(spool, test_id(5), arena, &meta, &content, &err), OK);
    reading->body = content.body;
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(5)};
    assert_int_equal(spool_commit(spool, &change, 1, &err), OK);
    arena_free(arena);
}

static void end_reading(void *arg)
{
    struct reading *reading = arg;
    test_expect_body(reading->body, LONG_BODY, 5);
    body_unref(reading->body);
}

/* The entry is gone, its segment dead, and all others of its time are used again. */
static void test_reader_keeps_its_bytes(void **state)
{
    struct reading reading = {.fixture = *state};
    test_on_fiber(begin_reading, &reading);
    run_churn(*state, 12);
    test_on_fiber(end_reading, &reading);
}

/* ---- private text ---- */

static const char *const marks[] = {"words that stay", "words that may not"};

struct marked {
    struct test_fixture *fixture;
    bool is_private;
};

static NO_YIELD_CHECK void pass_marked(void *arg)
{
    struct marked *marked = arg;
    struct error err = {0};
    struct mail_content content = {.head = str_c(marks[marked->is_private])};
    struct spool_change changes[] = {{.kind = SPOOL_ADD,
                                      .entry = test_id(1),
                                      .message = test_id(1),
                                      .is_private = marked->is_private,
                                      .content = &content},
                                     {.kind = SPOOL_REMOVE, .entry = test_id(1)},
                                     {.kind = SPOOL_REMOVE, .entry = test_id(2)}};
    /* (the first page is written as soon as a file is made the next segment) */
    assert_int_equal(test_add(marked->fixture->spool, 2, 9000, &err), OK);
    assert_int_equal(spool_commit(marked->fixture->spool, &changes[0], 1, &err), OK);
    assert_int_equal(spool_commit(marked->fixture->spool, &changes[1], 2, &err), OK);
}

/* The dead segment's file goes, where that of another one waits with its text to be overwritten. */
static void test_private_text(void **state)
{
    struct test_fixture *fixture = *state;
    for (int private = 0; private < 2; private ++) {
        struct marked marked = {fixture, private};
        char where[128], anywhere[128];
        (void)snprintf(where, sizeof where, "grep -la '%s' *.log > ../name; wc -l < ../name",
                       marks[private]);
        (void)snprintf(anywhere, sizeof anywhere, "cat * | grep -ac '%s'; true", marks[private]);
        test_on_fiber(pass_marked, &marked);
        assert_int_equal(shell(fixture, where), 1);
        size_t left = 1;
        for (int turn = 0; left && turn < 50; turn++) {
            run_churn(fixture, (unsigned)spool_stats(fixture->spool).reused + 1);
            left = shell(fixture, "ls | grep -c $(cat ../name); true");
        }
        assert_int_equal(left, 0);
        assert_int_equal(shell(fixture, anywhere), private ? 0 : 1);
    }
}

/* ---- the pool at a start ---- */

static void test_pool_stays(void **state)
{
    struct test_fixture *fixture = *state;
    run_churn(fixture, (unsigned)spool_stats(fixture->spool).reused + 6);
    open_small(fixture);
    assert_true(spool_stats(fixture->spool).pooled + spool_stats(fixture->spool).reused > 1);
    /* the files of another size, and those under the floor, are given back */
    spool_close(fixture->spool);
    assert_true(shell(fixture, "ls | grep -c free") > 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(spool_stats(fixture->spool).pooled, 0);
    assert_int_equal(spool_stats(fixture->spool).reused, 0);
    assert_int_equal(shell(fixture, "ls | grep -c free; true"), 0);
    open_small(fixture);
    run_churn(fixture, (unsigned)spool_stats(fixture->spool).reused + 6);
    spool_close(fixture->spool);
    struct spool_settings settings = settings_of(fixture);
    settings.free_bytes_floor = UINT64_MAX;
    fixture->spool = test_open_with(&settings, &fixture->found);
    assert_int_equal(shell(fixture, "ls | grep -c free; true"), 0);
}

/* A file in the pool holds records of ids up to that in its name; foreign names are let be. */
static void test_ids_behind_the_pool(void **state)
{
    struct test_fixture *fixture = *state;
    spool_close(fixture->spool);
    (void)shell(fixture, "rm -f * && truncate -s 262144 00000000fffffff0.free && "
                         "echo x > 00000000fffffff0.frees && echo x > x.free && echo 0");
    struct spool_settings settings = settings_of(fixture);
    fixture->spool = test_open_with(&settings, &fixture->found);
    assert_non_null(fixture->spool);
    test_on_fiber(add_kept, fixture);
    assert_int_equal(shell(fixture, "ls *.log | grep -c ^00000000; true"), 0);
    assert_int_equal(shell(fixture, "ls *free* | wc -l"), 2);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_used_again), CASE(test_reader_keeps_its_bytes), CASE(test_private_text),
        CASE(test_pool_stays), CASE(test_ids_behind_the_pool),
    };
    return cmocka_run_group_tests_name("spool-pool", tests, NULL, NULL);
}
