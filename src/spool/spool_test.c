/* SPDX-License-Identifier: Apache-2.0 */
/* The spool through its public header: what is committed is there, whatever happens after. */
#include "spool/test_tools.h"

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

/* One spool under test and what the fibers of a case share. */
struct fixture {
    char path[TEST_PATH_SIZE];
    struct spool *spool;
    struct test_found found;
};

static int set_up(void **state)
{
    struct fixture *fixture = NEW(struct fixture);
    test_folder_new(fixture->path);
    fixture->spool = test_open(fixture->path, &fixture->found);
    *state = fixture;
    return fixture->spool ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    fault_disarm_all();
    spool_close(fixture->spool);
    test_folder_remove(fixture->path);
    free(fixture);
    return 0;
}

static void reopen(struct fixture *fixture)
{
    spool_close(fixture->spool);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_non_null(fixture->spool);
}

/* ---- steps, on a fiber ---- */

static NO_YIELD_CHECK enum result add(struct spool *spool, uint64_t number, uint64_t size,
                                      struct error *err)
{
    char meta[32];
    snprintf(meta, sizeof meta, "meta-%llu", (unsigned long long)number);
    struct body *body = test_body(size, (unsigned)number);
    struct mail_content content = {.head = STR("Received: by test\r\n"), .body = body};
    struct spool_change changes[] = {{.kind = SPOOL_ADD,
                                      .entry = test_id(number),
                                      .message = test_id(number + 1000000),
                                      .meta = str_c(meta),
                                      .state = STR("new"),
                                      .content = &content},
                                     {.kind = SPOOL_COUNT, .counter = 3, .delta = 1}};
    enum result result = spool_commit(spool, changes, 2, err);
    body_unref(body);
    return result;
}

static NO_YIELD_CHECK void expect_body(struct body *body, uint64_t size, unsigned seed)
{
    assert_int_equal(body->size, size);
    static char space[64 * 1024];
    for (uint64_t done = 0; done < size;) {
        struct str data;
        struct error err;
        assert_int_equal(body_read(body, done, sizeof space, space, &data, &err), OK);
        assert_true(data.len > 0);
        for (size_t i = 0; i < data.len; i++) {
            if (data.ptr[i] != test_body_byte(done + i, seed))
                fail_msg("byte %llu differs", (unsigned long long)(done + i));
        }
        done += data.len;
    }
}

static NO_YIELD_CHECK void expect_entry(struct spool *spool, uint64_t number, uint64_t size)
{
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    if (spool_read(spool, test_id(number), arena, &meta, &content, &err) != OK)
        fail_msg("entry %llu: %s", (unsigned long long)number, err.text);
    char expected[32];
    snprintf(expected, sizeof expected, "meta-%llu", (unsigned long long)number);
    assert_true(str_equal(meta, str_c(expected)));
    assert_true(str_equal(content.head, STR("Received: by test\r\n")));
    expect_body(content.body, size, (unsigned)number);
    body_unref(content.body);
    arena_free(arena);
}

/* ---- cases ---- */

static const uint64_t sizes[] = {0,     1,      7,      8,      4096,   65535,  65536,
                                 65537, 262143, 262144, 262145, 700000, 2000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void add_all_sizes(void *arg)
{
    struct fixture *fixture = arg;
    for (unsigned i = 0; i < SIZES; i++) {
        struct error err = {0};
        assert_int_equal(add(fixture->spool, i, sizes[i], &err), OK);
    }
}

static void read_all_sizes(void *arg)
{
    struct fixture *fixture = arg;
    for (unsigned i = 0; i < SIZES; i++)
        expect_entry(fixture->spool, i, sizes[i]);
}

static void test_commit_and_read(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(add_all_sizes, fixture);
    test_on_fiber(read_all_sizes, fixture);
    reopen(fixture);
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
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(add(fixture->spool, i, 100 * i, &err), OK);
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

static void expect_states(const struct fixture *fixture, struct spool *spool)
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
    struct fixture *fixture = *state;
    test_on_fiber(change_states, fixture);
    /* the last change was waited for, so all before it are durable too */
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    expect_states(fixture, second);
    spool_close(second);
    test_folder_remove(copy);
    reopen(fixture);
    expect_states(fixture, fixture->spool);
    reopen(fixture); /* a second start finds the same */
    expect_states(fixture, fixture->spool);
}

/* Lazy changes are durable after a clean close, however soon it comes. */
static NO_YIELD_CHECK void write_lazily(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    assert_int_equal(add(fixture->spool, 1, 10, &err), OK);
    struct spool_change change = {.kind = SPOOL_STATE, .entry = test_id(1), .state = STR("late")};
    spool_write(fixture->spool, &change, 1);
}

static void test_lazy_before_close(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(write_lazily, fixture);
    reopen(fixture);
    assert_int_equal(fixture->found.count, 1);
    assert_string_equal(fixture->found.items[0].state, "late");
}

/* ---- large bodies that grow on disk ---- */

struct grown {
    struct fixture *fixture;
    uint64_t size;
    struct body *body;
};

static NO_YIELD_CHECK void grow_body(void *arg)
{
    struct grown *grown = arg;
    struct error err = {0};
    assert_int_equal(spool_body_new(grown->fixture->spool, &grown->body, &err), OK);
    char part[3001];
    for (uint64_t done = 0; done < grown->size;) {
        size_t now = grown->size - done < sizeof part ? (size_t)(grown->size - done) : sizeof part;
        for (size_t i = 0; i < now; i++)
            part[i] = test_body_byte(done + i, 7);
        assert_int_equal(body_append(grown->body, str_of(part, now), &err), OK);
        done += now;
    }
    assert_int_equal(body_seal(grown->body, &err), OK);
    expect_body(grown->body, grown->size, 7);
}

/* Two entries share it. */
static NO_YIELD_CHECK void commit_grown(void *arg)
{
    struct grown *grown = arg;
    struct error err = {0};
    struct mail_content content = {.head = STR("A: b\r\n"), .body = grown->body, .body_start = 5};
    struct spool_change changes[2];
    for (unsigned i = 0; i < 2; i++)
        changes[i] = (struct spool_change){.kind = SPOOL_ADD,
                                           .entry = test_id(i),
                                           .message = test_id(99),
                                           .meta = STR("m"),
                                           .state = STR("s"),
                                           .content = &content};
    assert_int_equal(spool_commit(grown->fixture->spool, changes, 2, &err), OK);
}

static NO_YIELD_CHECK void read_grown(void *arg)
{
    struct grown *grown = arg;
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    assert_int_equal(spool_read(grown->fixture->spool, test_id(1), arena, &meta, &content, &err),
                     OK);
    assert_int_equal(content.body_start, 5);
    expect_body(content.body, grown->size, 7);
    body_unref(content.body);
    arena_free(arena);
}

static size_t files_in(const char *path, const char *folder)
{
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "ls %s/%s | wc -l", path, folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    unsigned count = 0;
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

static void test_grown_bodies(void **state)
{
    struct fixture *fixture = *state;
    static const uint64_t grown_sizes[] = {5, 200000, 262144, 262145, 524288, 5000001};
    for (unsigned i = 0; i < sizeof grown_sizes / sizeof *grown_sizes; i++) {
        struct grown grown = {.fixture = fixture, .size = grown_sizes[i]};
        test_on_fiber(grow_body, &grown);
        test_on_fiber(commit_grown, &grown);
        body_unref(grown.body);
        test_on_fiber(read_grown, &grown);
        reopen(fixture);
        assert_int_equal(fixture->found.count, 2);
        test_on_fiber(read_grown, &grown);
        assert_int_equal(files_in(fixture->path, "bodies"), grown.size > 262144 ? 1 : 0);
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(0)};
        spool_write(fixture->spool, &change, 1);
        reopen(fixture); /* one of two is left */
        assert_int_equal(fixture->found.count, 1);
        test_on_fiber(read_grown, &grown);
        change.entry = test_id(1);
        spool_write(fixture->spool, &change, 1);
        reopen(fixture);
        assert_int_equal(fixture->found.count, 0);
        assert_int_equal(files_in(fixture->path, "bodies"), 0);
    }
}

/* A body that was never committed leaves nothing. */
static void test_abandoned_body(void **state)
{
    struct fixture *fixture = *state;
    struct grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(grow_body, &grown);
    assert_int_equal(files_in(fixture->path, "bodies"), 1);
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    body_unref(grown.body);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    spool_close(second);
    assert_int_equal(files_in(copy, "bodies"), 0);
    test_folder_remove(copy);
    reopen(fixture);
    assert_int_equal(files_in(fixture->path, "bodies"), 0);
}

/* ---- rolling and reclaim ---- */

static void add_many(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(add(fixture->spool, i, 100000, &err), OK);
}

static void read_many(void *arg)
{
    struct fixture *fixture = arg;
    for (uint64_t i = 0; i < 100; i++)
        expect_entry(fixture->spool, i, 100000);
}

static NO_YIELD_CHECK void remove_many(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 100; i++) {
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(i)};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
}

static void test_roll_and_reclaim(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(add_many, fixture);
    assert_true(spool_stats(fixture->spool).segments > 9); /* of 1M each */
    test_on_fiber(read_many, fixture);
    reopen(fixture);
    assert_int_equal(fixture->found.count, 100);
    test_on_fiber(read_many, fixture);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
    test_on_fiber(remove_many, fixture);
    reopen(fixture);
    assert_int_equal(fixture->found.count, 0);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
    assert_true(spool_stats(fixture->spool).segments <= 1);
    reopen(fixture);
    assert_int_equal(spool_counter(fixture->spool, 3), 100);
}

/*
 * A full old segment keeps the record of one removed entry; the segment with its tombstone holds
 * nothing else that is needed. The tombstone must be copied, or the dead entry comes back.
 */
static NO_YIELD_CHECK void leave_a_tombstone(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 10; i++) /* the first segment: full, and it stays so */
        assert_int_equal(add(fixture->spool, i, 6000, &err), OK);
    for (uint64_t i = 10; i < 50; i++)
        assert_int_equal(add(fixture->spool, i, 6000, &err), OK);
    struct spool_change change = {
        .kind = SPOOL_STATE, .entry = test_id(6), .state = STR("state elsewhere")};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    for (uint64_t i = 50; i < 100; i++)
        assert_int_equal(add(fixture->spool, i, 6000, &err), OK);
    change = (struct spool_change){.kind = SPOOL_REMOVE, .entry = test_id(5)};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    for (uint64_t i = 100; i < 200; i++)
        assert_int_equal(add(fixture->spool, i, 6000, &err), OK);
    for (uint64_t i = 10; i < 200; i++) {
        change = (struct spool_change){.kind = SPOOL_REMOVE, .entry = test_id(i)};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(add(fixture->spool, 200, 1, &err), OK); /* all before it is durable */
}

static void wait_for_segments(struct spool *spool, uint64_t at_most)
{
    for (int i = 0; i < 1000 && spool_stats(spool).segments > at_most; i++)
        usleep(10 * 1000);
    assert_true(spool_stats(spool).segments <= at_most);
}

static void test_tombstone_outlives(void **state)
{
    struct fixture *fixture = *state;
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
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 400; i++) {
        assert_int_equal(add(fixture->spool, i, 3000, &err), OK);
        struct spool_change change = {.kind = i % 20 ? SPOOL_REMOVE : SPOOL_STATE,
                                      .entry = test_id(i),
                                      .state = STR("waits")};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(add(fixture->spool, 400, 1, &err), OK);
}

static void read_long_lived(void *arg)
{
    struct fixture *fixture = arg;
    for (uint64_t i = 0; i < 400; i += 20)
        expect_entry(fixture->spool, i, 3000);
}

static void test_copy_forward(void **state)
{
    struct fixture *fixture = *state;
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
        reopen(fixture);
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

struct worker {
    struct fixture *fixture;
    uint64_t first;
    unsigned failures;
};

static void commit_some(void *arg)
{
    struct worker *worker = arg;
    for (uint64_t i = 0; i < 20; i++) {
        struct error err = {0};
        if (add(worker->fixture->spool, worker->first + i, 1000 + i, &err) != OK)
            worker->failures++;
    }
}

static void test_group_commit(void **state)
{
    struct fixture *fixture = *state;
    enum { WORKERS = 64 };
    static struct worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    test_on_fibers(commit_some, args, WORKERS);
    struct spool_stats stats = spool_stats(fixture->spool);
    assert_int_equal(stats.entries, WORKERS * 20);
    assert_int_equal(stats.units, WORKERS * 20);
    assert_true(stats.syncs < WORKERS * 20 / 4); /* many units a sync */
    reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20);
}

/* ---- the disk fails ---- */

static void test_sync_failure(void **state)
{
    struct fixture *fixture = *state;
    enum { WORKERS = 16 };
    static struct worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    fault_arm("spool.sync", 12, 1, EIO);
    fault_arm("spool.sync", 19, 1, EIO);
    test_on_fibers(commit_some, args, WORKERS);
    unsigned failures = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        failures += workers[i].failures;
    assert_true(failures > 0);
    assert_int_equal(spool_stats(fixture->spool).entries, WORKERS * 20 - failures);
    assert_int_equal(spool_counter(fixture->spool, 3), WORKERS * 20 - failures);
    /* what was refused stays refused, in a copy too */
    char copy[TEST_PATH_SIZE];
    test_folder_copy(fixture->path, copy);
    struct spool *second = test_open(copy, &fixture->found);
    assert_non_null(second);
    assert_int_equal(fixture->found.count, WORKERS * 20 - failures);
    assert_int_equal(spool_counter(second, 3), WORKERS * 20 - failures);
    assert_int_equal(spool_stats(second).damaged, 0);
    spool_close(second);
    test_folder_remove(copy);
    reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20 - failures);
}

static void write_states_while_syncs_fail(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(add(fixture->spool, i, 10, &err), OK);
    fault_arm("spool.sync", 1, 1, EIO);
    for (uint64_t i = 0; i < 50; i++) {
        struct spool_change change = {
            .kind = i % 2 ? SPOOL_STATE : SPOOL_REMOVE, .entry = test_id(i), .state = STR("kept")};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(add(fixture->spool, 50, 10, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    assert_int_equal(add(fixture->spool, 51, 10, &err), OK);
}

static void test_state_survives_sync_failure(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(write_states_while_syncs_fail, fixture);
    reopen(fixture);
    assert_int_equal(fixture->found.count, 26);
    for (uint64_t i = 1; i < 50; i += 2) {
        int at = test_find(&fixture->found, test_id(i));
        assert_true(at >= 0);
        assert_string_equal(fixture->found.items[at].state, "kept");
    }
    assert_true(test_find(&fixture->found, test_id(50)) < 0);
    assert_true(test_find(&fixture->found, test_id(51)) >= 0);
}

static void test_write_failure(void **state)
{
    struct fixture *fixture = *state;
    enum { WORKERS = 16 };
    static struct worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    fault_arm("spool.write", 6, 1, ENOSPC);
    fault_arm("spool.write", 13, 2, EIO);
    test_on_fibers(commit_some, args, WORKERS);
    unsigned failures = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        failures += workers[i].failures;
    assert_true(failures > 0);
    reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20 - failures);
    assert_int_equal(spool_counter(fixture->spool, 3), WORKERS * 20 - failures);
}

/* ---- no space ---- */

/* Segments cannot be made: mail is refused with a limit, states still have the reserve. */
static NO_YIELD_CHECK void fill_up(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(add(fixture->spool, i, 1000, &err), OK);
    fault_arm("spool.create", 1, 1000000, ENOSPC);
    uint64_t taken = 0;
    while (taken < 100 && add(fixture->spool, 1000 + taken, 100000, &err) == OK)
        taken++;
    assert_true(taken > 0 && taken < 40); /* of 1M segments: the current one and one more */
    assert_int_equal(err.kind, ERROR_LIMIT);
    for (unsigned round = 0; round < 300; round++) {
        char text[4000];
        memset(text, 'a' + (char)(round % 26), sizeof text);
        struct spool_change change = {
            .kind = SPOOL_STATE, .entry = test_id(7), .state = str_of(text, sizeof text)};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
    struct spool_change removal = {.kind = SPOOL_REMOVE, .entry = test_id(3)};
    assert_int_equal(spool_commit(fixture->spool, &removal, 1, &err), OK);
    assert_int_equal(add(fixture->spool, 5000, 1000000, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    fault_disarm_all();
    int tries = 0;
    while (add(fixture->spool, 5001, 1000000, &err) != OK && ++tries < 1000)
        (void)fiber_sleep(10 * NS_PER_MS, NULL);
    assert_true(tries < 1000);
}

static void test_no_new_segments(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(fill_up, fixture);
    reopen(fixture);
    assert_true(test_find(&fixture->found, test_id(3)) < 0);
    assert_true(test_find(&fixture->found, test_id(5000)) < 0);
    assert_true(test_find(&fixture->found, test_id(5001)) >= 0);
}

static NO_YIELD_CHECK void work_under_floor(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    struct body *body;
    assert_false(spool_has_room(fixture->spool));
    assert_int_equal(add(fixture->spool, 1, 10, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    err.kind = ERROR_NONE;
    assert_int_equal(spool_body_new(fixture->spool, &body, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    struct spool_change change = {.kind = SPOOL_COUNT, .counter = 9, .delta = 5};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
}

static void test_floors(void **state)
{
    struct fixture *fixture = *state;
    for (int inodes = 0; inodes < 2; inodes++) {
        spool_close(fixture->spool);
        struct spool_settings settings = {.path = str_c(fixture->path), .free_bytes_floor = 1};
        if (inodes)
            settings.free_inodes_floor = UINT64_MAX;
        else
            settings.free_bytes_floor = UINT64_MAX;
        fixture->spool = test_open_with(&settings, &fixture->found);
        assert_non_null(fixture->spool);
        test_on_fiber(work_under_floor, fixture);
    }
    reopen(fixture);
    assert_int_equal(spool_counter(fixture->spool, 9), 10);
}

/* ---- damage ---- */

/* Change a byte of a file where `text` stands in it. */
static void damage_file(const char *folder, const char *name, const char *text)
{
    char path[TEST_PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    static char bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    const char *at = memmem(bytes, size, text, strlen(text));
    assert_non_null(at);
    assert_int_equal(fseek(file, at - bytes, SEEK_SET), 0);
    assert_int_equal(fputc('#', file), '#');
    fclose(file);
}

static NO_YIELD_CHECK void add_named_bodies(void *arg)
{
    struct fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 5; i++) {
        char text[32];
        snprintf(text, sizeof text, "body number %u", (unsigned)i);
        struct body *body = body_memory_new(100);
        assert_int_equal(body_append(body, str_c(text), &err), OK);
        assert_int_equal(body_seal(body, &err), OK);
        struct mail_content content = {.head = STR_EMPTY, .body = body};
        struct spool_change change = {.kind = SPOOL_ADD,
                                      .entry = test_id(i),
                                      .message = test_id(i),
                                      .state = STR("s"),
                                      .content = &content};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
        body_unref(body);
    }
}

static void test_damage_at_start(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(add_named_bodies, fixture);
    spool_close(fixture->spool);
    damage_file(fixture->path, "log/0000000000000001.log", "number 2");
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(fixture->found.count, 4);
    assert_true(test_find(&fixture->found, test_id(2)) < 0);
    assert_int_equal(spool_stats(fixture->spool).damaged, 1);
    assert_int_equal(files_in(fixture->path, "corrupt"), 1);
    reopen(fixture); /* told of once */
    assert_int_equal(fixture->found.count, 4);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
}

static NO_YIELD_CHECK void read_damaged(void *arg)
{
    struct fixture *fixture = arg;
    for (uint64_t i = 0; i < 5; i++) {
        struct arena *arena = arena_new(0);
        struct str meta;
        struct mail_content content;
        struct error err = {0};
        enum result result = spool_read(fixture->spool, test_id(i), arena, &meta, &content, &err);
        assert_int_equal(result, i == 3 ? FAILED : OK);
        if (result == OK)
            body_unref(content.body);
        else
            assert_int_equal(err.kind, ERROR_PERMANENT);
        arena_free(arena);
    }
}

static NO_YIELD_CHECK void read_all_named(void *arg)
{
    struct fixture *fixture = arg;
    for (uint64_t i = 0; i < 5; i++) {
        struct arena *arena = arena_new(0);
        struct str meta;
        struct mail_content content;
        struct error err = {0};
        assert_int_equal(spool_read(fixture->spool, test_id(i), arena, &meta, &content, &err), OK);
        body_unref(content.body);
        arena_free(arena);
    }
}

static void test_damage_while_running(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(add_named_bodies, fixture);
    damage_file(fixture->path, "log/0000000000000001.log", "number 3");
    test_on_fiber(read_damaged, fixture);
    assert_int_equal(spool_stats(fixture->spool).damaged, 1);
    assert_int_equal(files_in(fixture->path, "corrupt"), 1);
}

static void test_missing_large_body(void **state)
{
    struct fixture *fixture = *state;
    struct grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(grow_body, &grown);
    test_on_fiber(commit_grown, &grown);
    body_unref(grown.body);
    test_on_fiber(add_named_bodies, &(struct fixture){.spool = fixture->spool});
    spool_close(fixture->spool);
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "rm %s/bodies/*.body", fixture->path);
    assert_int_equal(system(command), 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(spool_stats(fixture->spool).damaged, 2);
    reopen(fixture);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
}

/* Foreign files and folders are let be. */
static void test_foreign_files(void **state)
{
    struct fixture *fixture = *state;
    test_on_fiber(add_named_bodies, fixture);
    spool_close(fixture->spool);
    char command[TEST_PATH_SIZE * 8];
    snprintf(command, sizeof command,
             "cd %s/log && echo x > 'a\nb' && echo x > 00000000000000ff.log && "
             "mkdir 00000000000000fe.log && cp 0000000000000001.log 0000000000000050.log && "
             "ln -s /dev/zero 00000000000000fd.log && mkfifo 00000000000000fc.log && "
             ": > 00000000000000fb.log",
             fixture->path);
    assert_int_equal(system(command), 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_non_null(fixture->spool);
    assert_int_equal(fixture->found.count, 5);
    test_on_fiber(read_all_named, fixture);
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    size_t problems = 0;
    struct error err = {0};
    assert_int_equal(spool_verify(str_c(fixture->path), /* verbose= */ true, &out, &problems, &err),
                     OK);
    assert_int_equal(problems, 0); /* what was wholly foreign was put away */
    snprintf(command, sizeof command, "%s/corrupt/0000000000000050.log", fixture->path);
    assert_int_equal(access(command, F_OK), 0);
}

static void test_verify(void **state)
{
    struct fixture *fixture = *state;
    struct grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(grow_body, &grown);
    test_on_fiber(commit_grown, &grown);
    body_unref(grown.body);
    for (int damaged = 0; damaged < 2; damaged++) {
        struct buf out BUF_CLEANUP;
        buf_init(&out, 1 << 20);
        size_t problems = 0;
        struct error err = {0};
        assert_int_equal(
            spool_verify(str_c(fixture->path), /* verbose= */ true, &out, &problems, &err), OK);
        assert_int_equal(problems, damaged ? 2 : 0);
        assert_true(str_find_str(buf_str(&out), STR("2 entries")) >= 0);
        char command[TEST_PATH_SIZE * 2];
        snprintf(command, sizeof command, "truncate -s 500000 %s/bodies/*.body", fixture->path);
        assert_int_equal(system(command), 0);
    }
}

/* ---- one process only ---- */

static void test_lock(void **state)
{
    struct fixture *fixture = *state;
    assert_null(test_open(fixture->path, NULL));
}

static NO_YIELD_CHECK void read_unknown(void *arg)
{
    struct fixture *fixture = arg;
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct error err = {0};
    assert_int_equal(spool_read(fixture->spool, test_id(77), arena, &meta, &content, &err), FAILED);
    assert_int_equal(err.kind, ERROR_PERMANENT);
    arena_free(arena);
}

static void test_unknown_entry(void **state)
{
    test_on_fiber(read_unknown, *state);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_commit_and_read),
        CASE(test_states_and_removal),
        CASE(test_lazy_before_close),
        CASE(test_grown_bodies),
        CASE(test_abandoned_body),
        CASE(test_roll_and_reclaim),
        CASE(test_tombstone_outlives),
        CASE(test_copy_forward),
        CASE(test_group_commit),
        CASE(test_sync_failure),
        CASE(test_state_survives_sync_failure),
        CASE(test_write_failure),
        CASE(test_no_new_segments),
        CASE(test_floors),
        CASE(test_damage_at_start),
        CASE(test_damage_while_running),
        CASE(test_missing_large_body),
        CASE(test_foreign_files),
        CASE(test_verify),
        CASE(test_lock),
        CASE(test_unknown_entry),
    };
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
