/* SPDX-License-Identifier: Apache-2.0 */
/* The spool through its public header: what is committed is there, whatever happens after. */
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
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>
#include <sched.h>
#include <stdatomic.h>

/* ---- cases ---- */

static const uint64_t sizes[] = {0,     1,      7,      8,      4096,   65535,  65536,
                                 65537, 262143, 262144, 262145, 700000, 2000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void add_all_sizes(void *arg)
{
    struct test_fixture *fixture = arg;
    for (unsigned i = 0; i < SIZES; i++) {
        struct error err = {0};
        assert_int_equal(test_add(fixture->spool, i, sizes[i], &err), OK);
    }
}

static void read_all_sizes(void *arg)
{
    struct test_fixture *fixture = arg;
    for (unsigned i = 0; i < SIZES; i++)
        test_expect_entry(fixture->spool, i, sizes[i]);
}

static void test_commit_and_read(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(add_all_sizes, fixture);
    test_on_fiber(read_all_sizes, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, SIZES);
    for (unsigned i = 0; i < SIZES; i++) {
        int at = test_find(&fixture->found, test_id(i));
        assert_true(at >= 0);
        assert_int_equal(fixture->found.items[at].body_size, sizes[i]);
        assert_string_equal(fixture->found.items[at].state, "new");
    }
    assert_int_equal(spool_counter(fixture->spool, 3), SIZES);
    test_on_fiber(read_all_sizes, fixture);
}

static NO_YIELD_CHECK void change_states(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(test_add(fixture->spool, i, 100 * i, &err), OK);
    for (uint64_t i = 0; i < 20; i++) {
        struct spool_change change = {
            .kind = SPOOL_STATE, .entry = test_id(i), .state = STR("tried once")};
        spool_write(fixture->spool, &change, 1);
        change.state = STR("tried twice");
        spool_write(fixture->spool, &change, 1);
    }
    for (uint64_t i = 0; i < 10; i++) {
        struct spool_change changes[] = {{.kind = SPOOL_REMOVE, .entry = test_id(i)},
                                         {.kind = SPOOL_COUNT, .counter = 31, .delta = -2}};
        spool_write(fixture->spool, changes, 2);
    }
    struct spool_change last = {.kind = SPOOL_STATE, .entry = test_id(15), .state = STR("held")};
    assert_int_equal(spool_commit(fixture->spool, &last, 1, &err), OK);
}

static void expect_states(const struct test_fixture *fixture, struct spool *spool)
{
    assert_int_equal(fixture->found.count, 10);
    for (uint64_t i = 10; i < 20; i++) {
        int at = test_find(&fixture->found, test_id(i));
        assert_true(at >= 0);
        assert_string_equal(fixture->found.items[at].state, i == 15 ? "held" : "tried twice");
    }
    assert_int_equal(spool_counter(spool, 31), -20);
    assert_int_equal(spool_counter(spool, 3), 20);
}

static void test_states_and_removal(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(change_states, fixture);
    /* the last change was waited for, so all before it are durable too */
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    expect_states(fixture, second);
    spool_close(second);
    test_folder_remove(copy);
    test_reopen(fixture);
    expect_states(fixture, fixture->spool);
    test_reopen(fixture); /* a second start finds the same */
    expect_states(fixture, fixture->spool);
}

/* Lazy changes are durable after a clean close, however soon it comes. */
static NO_YIELD_CHECK void write_lazily(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    assert_int_equal(test_add(fixture->spool, 1, 10, &err), OK);
    struct spool_change change = {.kind = SPOOL_STATE, .entry = test_id(1), .state = STR("late")};
    spool_write(fixture->spool, &change, 1);
}

static void test_lazy_before_close(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(write_lazily, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 1);
    assert_string_equal(fixture->found.items[0].state, "late");
}

/* ---- large bodies that grow on disk ---- */

static NO_YIELD_CHECK void read_grown(void *arg)
{
    struct test_grown *grown = arg;
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    assert_int_equal(
        spool_read(grown->fixture->spool, test_id(grown->first + 1), arena, &meta, &content, &err),
        OK);
    assert_int_equal(content.body_start, 5);
    test_expect_body(content.body, grown->size, 7);
    body_unref(content.body);
    arena_free(arena);
}

static void test_grown_bodies(void **state)
{
    struct test_fixture *fixture = *state;
    static const uint64_t grown_sizes[] = {5, 200000, 262144, 262145, 524288, 5000001};
    for (unsigned i = 0; i < sizeof grown_sizes / sizeof *grown_sizes; i++) {
        struct test_grown grown = {
            .fixture = fixture, .size = grown_sizes[i], .first = (uint64_t)i * 2};
        test_on_fiber(test_grow_body, &grown);
        test_on_fiber(test_commit_grown, &grown);
        body_unref(grown.body);
        test_on_fiber(read_grown, &grown);
        test_reopen(fixture);
        assert_int_equal(fixture->found.count, 2);
        test_on_fiber(read_grown, &grown);
        assert_int_equal(test_files_in(fixture->path, "bodies"), grown.size > 262144 ? 1 : 0);
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(grown.first)};
        spool_write(fixture->spool, &change, 1);
        test_reopen(fixture); /* one of two is left */
        assert_int_equal(fixture->found.count, 1);
        test_on_fiber(read_grown, &grown);
        change.entry = test_id(grown.first + 1);
        spool_write(fixture->spool, &change, 1);
        test_reopen(fixture);
        assert_int_equal(fixture->found.count, 0);
        assert_int_equal(test_files_in(fixture->path, "bodies"), 0);
    }
}

/* A body that was never committed leaves nothing. */
static NO_YIELD_CHECK void commit_memory_bodies(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    enum { LARGE = 700 * 1000 };
    struct body *large = test_body(LARGE, 7);
    struct body *small = test_body(100, 8);
    struct mail_content contents[] = {{.head = STR("A: b\r\n"), .body = large, .body_start = 9},
                                      {.head = STR("A: c\r\n"), .body = small},
                                      {.head = STR("A: d\r\n"), .body = large}};
    struct spool_change changes[3];
    for (unsigned i = 0; i < 3; i++)
        changes[i] = (struct spool_change){.kind = SPOOL_ADD,
                                           .entry = test_id(600 + i),
                                           .message = test_id(99),
                                           .meta = STR("m"),
                                           .state = STR("s"),
                                           .content = &contents[i]};
    assert_int_equal(spool_commit(fixture->spool, changes, 3, &err), OK);
    body_unref(large);
    body_unref(small);
    for (unsigned i = 0; i < 3; i++) {
        struct arena *arena = arena_new(0);
        struct mail_content content;
        struct str meta;
        assert_int_equal(spool_read(fixture->spool, test_id(600 + i), arena, &meta, &content, &err),
                         OK);
        assert_true(str_equal(content.head, contents[i].head));
        assert_int_equal(content.body_start, contents[i].body_start);
        test_expect_body(content.body, i == 1 ? 100 : LARGE, i == 1 ? 8 : 7);
        body_unref(content.body);
        arena_free(arena);
    }
}

/* What a flow made of a large message lies in memory: its body goes to a file, once, as every other
 * large one. */
static void test_large_memory_body(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(commit_memory_bodies, fixture);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 1);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 3);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 1);
}

static void test_abandoned_body(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 1);
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    body_unref(grown.body);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    spool_close(second);
    assert_int_equal(test_files_in(copy, "bodies"), 0);
    test_folder_remove(copy);
    test_reopen(fixture);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 0);
}

/* The highest id of a file there. */
static unsigned long long highest_body(const char *path)
{
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "ls %s/bodies | tail -1", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    unsigned long long id = 0;
    assert_int_equal(fscanf(pipe, "%llx", &id), 1);
    pclose(pipe);
    return id;
}

struct large {
    struct spool *spool;
    uint64_t number;
    const char *path;
    unsigned long long id; /* out: of its file */
};

static NO_YIELD_CHECK void add_large(void *arg)
{
    struct large *large = arg;
    struct error err = {0};
    struct body *body;
    char bytes[4096] = {0};
    assert_int_equal(spool_body_new(large->spool, &body, &err), OK);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(body_append(body, str_of(bytes, sizeof bytes), &err), OK);
    assert_int_equal(body_seal(body, &err), OK);
    large->id = highest_body(large->path);
    struct mail_content content = {.head = STR_EMPTY, .body = body};
    struct spool_change add = {.kind = SPOOL_ADD,
                               .entry = test_id(large->number),
                               .message = test_id(large->number),
                               .meta = STR("m"),
                               .state = STR("s"),
                               .content = &content};
    assert_int_equal(spool_commit(large->spool, &add, 1, &err), OK);
    body_unref(body);
}

static NO_YIELD_CHECK void remove_large(void *arg)
{
    const struct large *large = arg;
    struct error err = {0};
    struct spool_change gone = {.kind = SPOOL_REMOVE, .entry = test_id(large->number)};
    assert_int_equal(spool_commit(large->spool, &gone, 1, &err), OK);
}

/* The log still names files that are gone: no new one has their ids, or it would go with them. */
static void test_ids_are_never_used_twice(void **state)
{
    struct test_fixture *fixture = *state;
    struct large large = {.spool = fixture->spool, .path = fixture->path};
    for (large.number = 0; large.number < 12; large.number++) {
        test_on_fiber(add_large, &large);
        test_on_fiber(remove_large, &large);
    }
    unsigned long long highest = large.id;
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    for (large = (struct large){second, 100, copy, 0}; large.number < 112; large.number++) {
        test_on_fiber(add_large, &large);
        assert_true(large.id > highest);
    }
    assert_int_equal(test_files_in(copy, "bodies"), 12);
    spool_close(second);
    test_folder_remove(copy);
}

/* ---- rolling and reclaim ---- */

static void add_many(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(test_add(fixture->spool, i, 100000, &err), OK);
}

static void read_many(void *arg)
{
    struct test_fixture *fixture = arg;
    for (uint64_t i = 0; i < 100; i++)
        test_expect_entry(fixture->spool, i, 100000);
}

static NO_YIELD_CHECK void remove_many(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 100; i++) {
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(i)};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
}

static void test_roll_and_reclaim(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(add_many, fixture);
    assert_true(spool_stats(fixture->spool).segments > 9); /* of 1M each */
    test_on_fiber(read_many, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 100);
    test_on_fiber(read_many, fixture);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
    test_on_fiber(remove_many, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 0);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
    assert_true(spool_stats(fixture->spool).segments <= 1);
    test_reopen(fixture);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
}

/*
 * A full old segment keeps the record of one removed entry; the segment with its tombstone holds
 * nothing else that is needed. The tombstone must be copied, or the dead entry comes back.
 */
static NO_YIELD_CHECK void leave_a_tombstone(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 10; i++) /* the first segment: full, and it stays so */
        assert_int_equal(test_add(fixture->spool, i, 6000, &err), OK);
    for (uint64_t i = 10; i < 50; i++)
        assert_int_equal(test_add(fixture->spool, i, 6000, &err), OK);
    struct spool_change change = {
        .kind = SPOOL_STATE, .entry = test_id(6), .state = STR("state elsewhere")};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    for (uint64_t i = 50; i < 100; i++)
        assert_int_equal(test_add(fixture->spool, i, 6000, &err), OK);
    change = (struct spool_change){.kind = SPOOL_REMOVE, .entry = test_id(5)};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    for (uint64_t i = 100; i < 200; i++)
        assert_int_equal(test_add(fixture->spool, i, 6000, &err), OK);
    for (uint64_t i = 10; i < 200; i++) {
        change = (struct spool_change){.kind = SPOOL_REMOVE, .entry = test_id(i)};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(test_add(fixture->spool, 200, 1, &err), OK); /* all before it is durable */
}

static void wait_for_segments(struct spool *spool, uint64_t at_most)
{
    for (int i = 0; i < 12000 && spool_stats(spool).segments > at_most; i++)
        usleep(10 * 1000);
    assert_true(spool_stats(spool).segments <= at_most);
}

static void test_tombstone_outlives(void **state)
{
    struct test_fixture *fixture = *state;
    spool_close(fixture->spool);
    struct spool_settings settings = {.path = str_c(fixture->path),
                                      .segment_size = 64 * 1024,
                                      .free_bytes_floor = 1,
                                      .reclaim_age_ns = 1};
    fixture->spool = test_open_with(&settings, &fixture->found);
    test_on_fiber(leave_a_tombstone, fixture);
    wait_for_segments(fixture->spool, 4); /* first, cold, the last one or two */
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    assert_int_equal(fixture->found.count, 10);
    assert_true(test_find(&fixture->found, test_id(5)) < 0);
    int at = test_find(&fixture->found, test_id(6));
    assert_true(at >= 0);
    assert_string_equal(fixture->found.items[at].state, "state elsewhere");
    spool_close(second);
    test_folder_remove(copy);
}

/* Long-lived mail among short-lived: space is given back, what lives is copied and still reads. */
static NO_YIELD_CHECK void mix_lives(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 400; i++) {
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
        struct spool_change change = {.kind = i % 20 ? SPOOL_REMOVE : SPOOL_STATE,
                                      .entry = test_id(i),
                                      .state = STR("waits")};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(test_add(fixture->spool, 400, 1, &err), OK);
}

static void read_long_lived(void *arg)
{
    struct test_fixture *fixture = arg;
    for (uint64_t i = 0; i < 400; i += 20)
        test_expect_entry(fixture->spool, i, 3000);
}

static void test_copy_forward(void **state)
{
    struct test_fixture *fixture = *state;
    spool_close(fixture->spool);
    struct spool_settings settings = {.path = str_c(fixture->path),
                                      .segment_size = 64 * 1024,
                                      .free_bytes_floor = 1,
                                      .reclaim_age_ns = 1};
    fixture->spool = test_open_with(&settings, &fixture->found);
    test_on_fiber(mix_lives, fixture);
    wait_for_segments(fixture->spool, 5); /* 1.3M were written, 60K live */
    test_on_fiber(read_long_lived, fixture);
    uint64_t payload = 400 * 3000;
    assert_true(spool_stats(fixture->spool).bytes_written < payload * 13 / 10 + 64 * 1024);
    for (int turn = 0; turn < 2; turn++) {
        test_reopen(fixture);
        assert_int_equal(fixture->found.count, 21);
        for (uint64_t i = 0; i < 400; i += 20) {
            int at = test_find(&fixture->found, test_id(i));
            assert_true(at >= 0);
            assert_string_equal(fixture->found.items[at].state, "waits");
        }
        test_on_fiber(read_long_lived, fixture);
        assert_int_equal(spool_counter(fixture->spool, 3), 401);
    }
}

/* ---- many at once ---- */

/* Its sync takes no time, so that units need not gather behind it. */
static bool is_in_memory(const char *path)
{
    enum { TMPFS = 0x01021994 };
    struct statfs info;
    return statfs(path, &info) == 0 && info.f_type == TMPFS;
}

static void test_group_commit(void **state)
{
    struct test_fixture *fixture = *state;
    enum { WORKERS = 64 };
    static struct test_worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct test_worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    test_on_fibers(test_commit_some, args, WORKERS);
    struct spool_stats stats = spool_stats(fixture->spool);
    assert_int_equal(stats.entries, WORKERS * 20);
    assert_int_equal(stats.units, WORKERS * 20);
    assert_true(is_in_memory(fixture->path) || stats.syncs < WORKERS * 20 / 4); /* many a sync */
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20);
}

/* ---- one process only ---- */

static void test_lock(void **state)
{
    struct test_fixture *fixture = *state;
    assert_null(test_open(fixture->path, NULL));
}

static NO_YIELD_CHECK void read_unknown(void *arg)
{
    struct test_fixture *fixture = arg;
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    assert_int_equal(spool_read(fixture->spool, test_id(77), arena, &meta, &content, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PERMANENT);
    arena_free(arena);
}

struct cancelled_commit {
    struct test_fixture *fixture;
    struct scope scope;
    bool begun;
    enum result result;
};

static void commit_in_scope(void *arg)
{
    struct cancelled_commit *commit = arg;
    struct error err = {0};
    commit->begun = true;
    commit->result = test_add(commit->fixture->spool, 1, 4000, &err);
}

/* Cancelled and out of time in the middle of a commit: only the disk's answer counts. */
static NO_YIELD_CHECK void cancel_commit(void *arg)
{
    struct cancelled_commit *commit = arg;
    struct error err = {0};
    scope_open(&commit->scope, clock_deadline(NS_PER_S / 1000));
    assert_int_equal(fiber_spawn(&commit->scope, "commit", commit_in_scope, commit, &err), OK);
    while (!commit->begun)
        fiber_yield();
    scope_cancel(&commit->scope);
    scope_close(&commit->scope);
}

static void test_commit_is_shielded(void **state)
{
    struct cancelled_commit commit = {.fixture = *state, .result = FAILED};
    test_on_fiber(cancel_commit, &commit);
    assert_int_equal(commit.result, OK);
    test_reopen(commit.fixture);
    assert_int_equal(commit.fixture->found.count, 1);
}

/* Each id once, in portions, with a table that grows and entries that go meanwhile. */
static NO_YIELD_CHECK void walk_ids(void *arg)
{
    enum { FIRST = 900, MORE = 3000 };
    static unsigned seen[FIRST];
    struct test_fixture *fixture = arg;
    struct mail_id ids[SPOOL_IDS_MIN];
    struct error err = {0};
    size_t cursor = 0, count, portions = 0;
    for (uint64_t i = 0; i < FIRST; i++)
        assert_int_equal(test_add(fixture->spool, i, 10, &err), OK);
    while ((count = spool_ids(fixture->spool, &cursor, ids, SPOOL_IDS_MIN)) > 0) {
        for (size_t i = 0; i < count; i++)
            if (ids[i].low < FIRST)
                seen[ids[i].low]++;
        if (portions++ > 0)
            continue;
        for (uint64_t i = FIRST; i < FIRST + MORE; i++)
            assert_int_equal(test_add(fixture->spool, i, 10, &err), OK);
    }
    assert_true(portions > 3);
    for (uint64_t i = 0; i < FIRST; i++)
        assert_in_range(seen[i], 1, 2);
}

static void test_ids(void **state)
{
    test_on_fiber(walk_ids, *state);
}

static void test_unknown_entry(void **state)
{
    test_on_fiber(read_unknown, *state);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, test_set_up, test_tear_down)

/* ---- loading while mail flows ---- */

struct later {
    atomic_uint told, twice, ends;
    bool seen[1000];
};

static void note_later(void *context, const struct spool_found *found)
{
    struct later *later = context;
    if (found == NULL) {
        atomic_fetch_add(&later->ends, 1);
        return;
    }
    uint64_t number = found->entry.low;
    if (number >= 1000 || later->seen[number])
        atomic_fetch_add(&later->twice, 1);
    else
        later->seen[number] = true;
    atomic_fetch_add(&later->told, 1);
}

static MAY_YIELD void add_hundreds(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err;
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
    for (uint64_t i = 0; i < 200; i += 4) { /* tombstones in later segments than their entries */
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(i)};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
}

static MAY_YIELD void add_more(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err;
    for (uint64_t i = 500; i < 520; i++)
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
    test_expect_entry(fixture->spool, 510, 3000);
}

/* All that lives is told once, nothing that is removed, nothing that came since; and what came is
 * there at the next start. */
static void test_loads_later(void **state)
{
    struct test_fixture *fixture = *state;
    struct spool_settings settings = {
        .path = str_c(fixture->path), .segment_size = 64 * 1024, .load_later_over = 1};
    struct later later = {0};
    struct error err;
    spool_close(fixture->spool);
    fixture->spool =
        test_open_with(&(struct spool_settings){.path = settings.path, .segment_size = 64 * 1024},
                       &fixture->found);
    test_on_fiber(add_hundreds, fixture);
    spool_close(fixture->spool);
    assert_int_equal(spool_open(&settings, note_later, &later, &fixture->spool, &err), OK);
    assert_true(spool_is_loading(fixture->spool));
    assert_int_equal(atomic_load(&later.told), 0);
    assert_int_equal(spool_counter(fixture->spool, 3), 200); /* totals are known at once */
    test_on_fiber(add_more, fixture); /* mail is taken before anything is loaded */
    spool_load(fixture->spool);
    while (atomic_load(&later.ends) == 0)
        sched_yield();
    assert_false(spool_is_loading(fixture->spool));
    assert_int_equal(atomic_load(&later.told), 150);
    assert_int_equal(atomic_load(&later.twice), 0);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(later.seen[i], i % 4 != 0);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 170);
}

/* How many files of the log the newest start made: names of one begin with the same half of an id.
 */
static unsigned made_by_start(const char *path, unsigned start)
{
    char name[TEST_PATH_SIZE * 2];
    snprintf(name, sizeof name, "%s/log", path);
    DIR *folder = opendir(name);
    assert_non_null(folder);
    unsigned count = 0;
    for (struct dirent *item; (item = readdir(folder));)
        count += strtoull(item->d_name, NULL, 16) >> 32 == start;
    closedir(folder);
    return count;
}

/* A process that dies while it loads, again and again, does not fill the disk with what it made
 * ahead. */
static void test_dies_while_it_loads(void **state)
{
    enum { MADE_AHEAD = 3 };
    struct test_fixture *fixture = *state;
    struct spool_settings settings = {.segment_size = 64 * 1024, .load_later_over = 1};
    struct later later = {0};
    struct error err;
    char path[TEST_PATH_SIZE];
    spool_close(fixture->spool);
    fixture->spool = test_open_with(
        &(struct spool_settings){.path = str_c(fixture->path), .segment_size = 64 * 1024},
        &fixture->found);
    test_on_fiber(add_hundreds, fixture);
    spool_close(take(fixture->spool));
    size_t files = test_files_in(fixture->path, "log");
    for (unsigned turn = 1; turn <= 4; turn++) {
        struct spool *spool;
        settings.path = str_c(fixture->path);
        assert_int_equal(spool_open(&settings, note_later, &later, &spool, &err), OK);
        assert_true(spool_is_loading(spool));
        while (made_by_start(fixture->path, turn) < MADE_AHEAD)
            sched_yield();
        test_folder_copy(fixture->path, path);
        spool_close(spool);
        test_folder_remove(fixture->path);
        memcpy(fixture->path, path, sizeof path);
    }
    assert_true(test_files_in(fixture->path, "log") <= files + MADE_AHEAD);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(fixture->found.count, 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_commit_and_read),
        CASE(test_states_and_removal),
        CASE(test_lazy_before_close),
        CASE(test_grown_bodies),
        CASE(test_ids_are_never_used_twice),
        CASE(test_large_memory_body),
        CASE(test_abandoned_body),
        CASE(test_roll_and_reclaim),
        CASE(test_tombstone_outlives),
        CASE(test_copy_forward),
        CASE(test_group_commit),
        CASE(test_lock),
        CASE(test_commit_is_shielded),
        CASE(test_ids),
        CASE(test_unknown_entry),
        CASE(test_loads_later),
        CASE(test_dies_while_it_loads),
    };
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
