/* SPDX-License-Identifier: Apache-2.0 */
/* The spool when things break: syncs, writes, space, bytes on disk. */
#include "spool/test_tools.h"

#include "base/fault.h"
#include "base/memory.h"
#include "event/event.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the disk fails ---- */

static void test_sync_failure(void **state)
{
    struct test_fixture *fixture = *state;
    enum { WORKERS = 16 };
    static struct test_worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct test_worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    fault_arm("spool.sync", 12, 1, EIO);
    fault_arm("spool.sync", 19, 1, EIO);
    test_on_fibers(test_commit_some, args, WORKERS);
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
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20 - failures);
}

static void write_states_while_syncs_fail(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(test_add(fixture->spool, i, 10, &err), OK);
    fault_arm("spool.sync", 1, 1, EIO);
    for (uint64_t i = 0; i < 50; i++) {
        struct spool_change change = {
            .kind = i % 2 ? SPOOL_STATE : SPOOL_REMOVE, .entry = test_id(i), .state = STR("kept")};
        spool_write(fixture->spool, &change, 1);
    }
    assert_int_equal(test_add(fixture->spool, 50, 10, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    assert_int_equal(test_add(fixture->spool, 51, 10, &err), OK);
}

static void test_state_survives_sync_failure(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(write_states_while_syncs_fail, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 26);
    for (uint64_t i = 1; i < 50; i += 2) {
        int at = test_find(&fixture->found, test_id(i));
        assert_true(at >= 0);
        assert_string_equal(fixture->found.items[at].state, "kept");
    }
    assert_true(test_find(&fixture->found, test_id(50)) < 0);
    assert_true(test_find(&fixture->found, test_id(51)) >= 0);
}

static void fail_one_sync(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(test_add(fixture->spool, i, 10, &err), OK);
    for (uint64_t i = 100; i < 110; i++) {
        uint64_t before = spool_stats(fixture->spool).syncs;
        fault_arm("spool.sync", 1, 1, EIO);
        enum result result = test_add(fixture->spool, i, 10, &err);
        uint64_t after = spool_stats(fixture->spool).syncs;
        fault_disarm_all();
        if (result == FAILED) /* (a segment that is made ahead may have got the fault) */
            assert_true(after >= before + 2);
    }
}

/* A client is refused only when the next segment says so durably: before that a crash could bring
 * what it was refused to life. */
static void test_refused_after_the_cut(void **state)
{
    test_on_fiber(fail_one_sync, *state);
}

static void test_write_failure(void **state)
{
    struct test_fixture *fixture = *state;
    enum { WORKERS = 16 };
    static struct test_worker workers[WORKERS];
    void *args[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct test_worker){.fixture = fixture, .first = i * 20};
        args[i] = &workers[i];
    }
    fault_arm("spool.write", 6, 1, ENOSPC);
    fault_arm("spool.write", 13, 2, EIO);
    test_on_fibers(test_commit_some, args, WORKERS);
    unsigned failures = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        failures += workers[i].failures;
    assert_true(failures > 0);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, WORKERS * 20 - failures);
    assert_int_equal(spool_counter(fixture->spool, 3), WORKERS * 20 - failures);
}

/* ---- no space ---- */

/* Segments cannot be made: mail is refused with a limit, states still have the reserve. */
static NO_YIELD_CHECK void fill_up(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(test_add(fixture->spool, i, 1000, &err), OK);
    fault_arm("spool.create", 1, 1000000, ENOSPC);
    uint64_t taken = 0;
    while (taken < 100 && test_add(fixture->spool, 1000 + taken, 100000, &err) == OK)
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
    for (uint64_t i = 0; i < 40 && test_add(fixture->spool, 6000 + i, 250000, &err) == OK; i++)
        ; /* what is left of the segment that the states began */
    assert_int_equal(test_add(fixture->spool, 5000, 250000, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    fault_disarm_all();
    int tries = 0;
    while (test_add(fixture->spool, 5001, 250000, &err) != OK && ++tries < 1000)
        (void)fiber_sleep(10 * NS_PER_MS, NULL);
    assert_true(tries < 1000);
}

static void test_no_new_segments(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(fill_up, fixture);
    test_reopen(fixture);
    assert_true(test_find(&fixture->found, test_id(3)) < 0);
    assert_true(test_find(&fixture->found, test_id(5000)) < 0);
    assert_true(test_find(&fixture->found, test_id(5001)) >= 0);
}

static NO_YIELD_CHECK void work_under_floor(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    struct body *body;
    assert_false(spool_has_room(fixture->spool));
    assert_int_equal(test_add(fixture->spool, 1, 10, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    err.kind = ERROR_NONE;
    assert_int_equal(spool_body_new(fixture->spool, &body, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    struct spool_change change = {.kind = SPOOL_COUNT, .counter = 9, .delta = 5};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
}

static void test_floors(void **state)
{
    struct test_fixture *fixture = *state;
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
    test_reopen(fixture);
    assert_int_equal(spool_counter(fixture->spool, 9), 10);
}

/* ---- damage ---- */

/* Change a byte of a file `before` the place where `text` stands in it. */
static void damage_before(const char *folder, const char *name, const char *text, long before)
{
    char path[TEST_PATH_SIZE * 2];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    static char bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    const char *at = memmem(bytes, size, text, strlen(text));
    assert_non_null(at);
    assert_int_equal(fseek(file, at - bytes - before, SEEK_SET), 0);
    assert_int_equal(fputc('#', file), '#');
    fclose(file);
}

static void damage_file(const char *folder, const char *name, const char *text)
{
    damage_before(folder, name, text, 0);
}

/* The log file that has `text`, as a name within the folder. */
static void find_log(const char *folder, const char *text, char out[64])
{
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "cd %s && grep -la %s log/*", folder, text);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%63s", out), 1);
    pclose(pipe);
}

static NO_YIELD_CHECK void add_named_bodies(void *arg)
{
    struct test_fixture *fixture = arg;
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
    struct test_fixture *fixture = *state;
    test_on_fiber(add_named_bodies, fixture);
    spool_close(fixture->spool);
    damage_file(fixture->path, "log/0000000000000001.log", "number 2");
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(fixture->found.count, 4);
    assert_true(test_find(&fixture->found, test_id(2)) < 0);
    assert_int_equal(spool_stats(fixture->spool).damaged, 1);
    assert_int_equal(test_files_in(fixture->path, "corrupt"), 1);
    test_reopen(fixture); /* told of once */
    assert_int_equal(fixture->found.count, 4);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
}

static void reopen_small(struct test_fixture *fixture, const char *path, int64_t reclaim_age_ns)
{
    struct spool_settings settings = {.path = str_c(path),
                                      .segment_size = 64 * 1024,
                                      .free_bytes_floor = 1,
                                      .reclaim_age_ns = reclaim_age_ns,
                                      .reclaim_below = 60};
    spool_close(fixture->spool);
    fixture->spool = test_open_with(&settings, &fixture->found);
}

static NO_YIELD_CHECK void add_ten(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
}

static NO_YIELD_CHECK void remove_most(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 10; i < 30; i++)
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
    for (uint64_t i = 0; i < 10; i++) {
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(i)};
        if (i != 3 && i != 5)
            assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
}

/* A record that became unreadable stays where it is, and what lives beside it is copied once. */
static void test_damage_is_copied_once(void **state)
{
    struct test_fixture *fixture = *state;
    enum { RECORD_BEFORE = 32 + 88 + 19 }; /* its header, what is fixed, the head */
    char name[64];
    reopen_small(fixture, fixture->path, 3600 * NS_PER_S);
    test_on_fiber(add_ten, fixture);
    test_on_fiber(remove_most, fixture);
    find_log(fixture->path, "meta-3", name);
    damage_before(fixture->path, name, "meta-3", RECORD_BEFORE);
    uint64_t before = spool_stats(fixture->spool).bytes_written;
    clock_set_fake(clock_monotonic_ns() + 3601 * NS_PER_S, -1);
    while (spool_stats(fixture->spool).bytes_written == before)
        usleep(1000);
    uint64_t after = spool_stats(fixture->spool).bytes_written;
    usleep(200 * 1000); /* it was copied again each millisecond */
    assert_int_equal(spool_stats(fixture->spool).bytes_written, after);
    clock_set_fake(-1, -1);
    assert_true(spool_has(fixture->spool, test_id(3)));
}

static NO_YIELD_CHECK void set_state(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    struct spool_change change = {.kind = SPOOL_STATE, .entry = test_id(3), .state = STR("newer")};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
}

/* Two log files with little that lives; messages 3 and 29 do, and what comes last. */
static NO_YIELD_CHECK void leave_two_sparse(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    for (uint64_t i = 10; i < 29; i++) {
        struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(i)};
        assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    }
    for (uint64_t i = 100; i < 130; i++)
        assert_int_equal(test_add(fixture->spool, i, 3000, &err), OK);
}

/* Message 3 has a state in the same log file; the two may be copied when the clock has gone on. */
static void make_two_sparse(struct test_fixture *fixture)
{
    reopen_small(fixture, fixture->path, 3600 * NS_PER_S);
    test_on_fiber(add_ten, fixture);
    test_on_fiber(set_state, fixture);
    test_on_fiber(remove_most, fixture);
    test_on_fiber(leave_two_sparse, fixture);
}

static void wait_for_a_copy(struct test_fixture *fixture, int64_t after_s)
{
    uint64_t before = spool_stats(fixture->spool).bytes_written;
    clock_set_fake(clock_monotonic_ns() + after_s * NS_PER_S, -1);
    while (spool_stats(fixture->spool).bytes_written == before)
        usleep(1000);
    clock_set_fake(-1, -1);
}

static void expect_state(struct test_fixture *fixture, const char *expected, unsigned damaged)
{
    reopen_small(fixture, fixture->path, 3600 * NS_PER_S);
    int at = test_find(&fixture->found, test_id(3));
    assert_true(at >= 0);
    assert_string_equal(fixture->found.items[at].state, expected);
    assert_int_equal(spool_stats(fixture->spool).damaged, damaged);
}

/* A state whose record became damaged is not copied under a sum of its own: its entry has the one
 * before, and the damage is told. */
static void test_damaged_state_is_not_copied(void **state)
{
    struct test_fixture *fixture = *state;
    char name[64];
    make_two_sparse(fixture);
    find_log(fixture->path, "newer", name);
    damage_file(fixture->path, name, "newer");
    wait_for_a_copy(fixture, 3601); /* of the second file: the oldest is looked at first */
    expect_state(fixture, "new", 1);
}

/* A disk that does not give all of a segment for a moment: it is not copied as if that were gone.
 */
static void test_unread_segment_is_not_copied(void **state)
{
    struct test_fixture *fixture = *state;
    enum { READS = 8 }; /* the first file at once, then half of its pages */
    make_two_sparse(fixture);
    fault_arm("spool.read", 1, 1, EIO);
    fault_arm("spool.read", 3, READS, EIO);
    wait_for_a_copy(fixture, 3601);
    fault_disarm_all();
    wait_for_a_copy(fixture, 2 * 3601); /* of that one, once it has aged again */
    expect_state(fixture, "newer", 0);
}

/* The numbers of what was lost are not given again: a state that is written after the damage is
 * newer than that of a copy that the damage spared. */
static void test_states_after_lost_segments(void **state)
{
    struct test_fixture *fixture = *state;
    char command[TEST_PATH_SIZE * 2];
    reopen_small(fixture, fixture->path, 1);
    test_on_fiber(add_ten, fixture);
    test_on_fiber(remove_most, fixture);
    snprintf(command, sizeof command, "grep -qa meta-3 %s/log/*.cold 2>/dev/null", fixture->path);
    while (system(command) != 0)
        usleep(1000);
    spool_close(fixture->spool);
    snprintf(command, sizeof command, "rm %s/log/*.log", fixture->path);
    assert_int_equal(system(command), 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_true(test_find(&fixture->found, test_id(3)) >= 0);
    test_on_fiber(set_state, fixture);
    test_reopen(fixture);
    int at = test_find(&fixture->found, test_id(3));
    assert_true(at >= 0);
    assert_string_equal(fixture->found.items[at].state, "newer");
}

static NO_YIELD_CHECK void read_damaged(void *arg)
{
    struct test_fixture *fixture = arg;
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
    struct test_fixture *fixture = arg;
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
    struct test_fixture *fixture = *state;
    test_on_fiber(add_named_bodies, fixture);
    damage_file(fixture->path, "log/0000000000000001.log", "number 3");
    test_on_fiber(read_damaged, fixture);
    assert_int_equal(spool_stats(fixture->spool).damaged, 1);
    assert_int_equal(test_files_in(fixture->path, "corrupt"), 1);
}

struct reading {
    struct test_fixture *fixture;
    struct mail_id entry;
    enum result result;
    struct error err;
};

static NO_YIELD_CHECK void read_one(void *arg)
{
    struct reading *reading = arg;
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content = {0};
    reading->result =
        spool_read(reading->fixture->spool, reading->entry, arena, &meta, &content, &reading->err);
    body_unref(content.body);
    arena_free(arena);
}

static void add_small(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    assert_int_equal(test_add(fixture->spool, 10, 100, &err), OK);
}

/* A disk in trouble, or no descriptor left, is no damage: it is asked again, nothing is set aside.
 */
static void test_trouble_is_no_damage(void **state)
{
    static const struct {
        const char *point;
        unsigned first;
        int number;
        bool large;
    } cases[] = {
        {"spool.read", 1, EIO, false},                                  /* header of the entry */
        {"spool.read", 2, EIO, false},   {"spool.read", 3, EIO, false}, /* the body */
        {"spool.read", 4, EIO, false},   {"spool.open", 1, EMFILE, true},
        {"spool.open", 1, ENFILE, true}, {"spool.read", 3, EIO, true}, /* a chunk */
        {"spool.read", 4, EIO, true},
    };
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown);
    body_unref(grown.body);
    test_reopen(fixture);
    test_on_fiber(add_small, fixture);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct reading reading = {.fixture = fixture, .entry = test_id(cases[i].large ? 1 : 10)};
        fault_arm(cases[i].point, cases[i].first, 1, cases[i].number);
        test_on_fiber(read_one, &reading);
        fault_disarm_all();
        assert_int_equal(reading.result, FAILED);
        assert_int_not_equal(reading.err.kind, ERROR_PERMANENT);
        test_on_fiber(read_one, &reading);
        assert_int_equal(reading.result, OK);
    }
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
    assert_int_equal(test_files_in(fixture->path, "corrupt"), 0);
    /* the same at the start: what cannot be looked at now is not given up */
    spool_close(fixture->spool);
    fault_arm("spool.open", 1, 2, EACCES);
    fixture->spool = test_open(fixture->path, &fixture->found);
    fault_disarm_all();
    assert_int_equal(fixture->found.count, 3);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 3);
}

struct committing {
    struct test_grown *grown;
    enum result result;
    struct error err;
};

static NO_YIELD_CHECK void commit_body(void *arg)
{
    struct committing *committing = arg;
    struct mail_content content = {.head = STR_EMPTY, .body = committing->grown->body};
    struct spool_change change = {
        .kind = SPOOL_ADD, .entry = test_id(1), .message = test_id(1), .content = &content};
    committing->result =
        spool_commit(committing->grown->fixture->spool, &change, 1, &committing->err);
}

/* A large body whose file could not be synced is never said to be durable, later neither. */
static void test_unsynced_large_body(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    struct committing committing = {.grown = &grown, .result = OK};
    test_on_fiber(test_grow_body, &grown);
    fault_arm("spool.sync", 1, 1000, EIO);
    test_on_fiber(commit_body, &committing);
    fault_disarm_all();
    assert_int_equal(committing.result, FAILED);
    while (!spool_has_room(fixture->spool))
        usleep(1000);
    committing.result = OK;
    test_on_fiber(commit_body, &committing);
    assert_int_equal(committing.result, FAILED);
    assert_string_equal(committing.err.text, "the body's file could not be synced");
    body_unref(grown.body);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 0);
}

struct grown_badly {
    struct test_fixture *fixture;
    bool failed;
};

static NO_YIELD_CHECK void grow_badly(void *arg)
{
    struct grown_badly *grown = arg;
    static const char part[64 * 1024];
    struct body *body;
    struct error err;
    assert_int_equal(spool_body_new(grown->fixture->spool, &body, &err), OK);
    for (int i = 0; i < 320 && !grown->failed; i++)
        grown->failed = body_append(body, str_of(part, sizeof part), &err) != OK;
    assert_int_equal(body_append(body, STR("more"), &err), FAILED);
    assert_int_equal(body_seal(body, &err), FAILED);
    body_unref(body);
}

/* Nor is one of which a part could not be written out while it grew: the error is told only once.
 */
static void test_unwritten_large_body(void **state)
{
    struct test_fixture *fixture = *state;
    struct grown_badly grown = {.fixture = fixture};
    fault_arm("spool.window", 2, 1, EIO);
    test_on_fiber(grow_badly, &grown);
    fault_disarm_all();
    assert_true(grown.failed);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 0);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 0);
}

/* One changed byte in any chunk of a large body, and nothing of it is handed on. */
static void test_changed_large_body(void **state)
{
    static const long places[] = {64 + 32 + 5, 64 + 65568 * 4 + 32 + 1000, 64 + 65568 * 9 + 40};
    struct test_fixture *fixture = *state;
    for (unsigned i = 0; i < 3; i++) {
        struct test_grown grown = {.fixture = fixture, .size = 600000};
        test_on_fiber(test_grow_body, &grown);
        test_on_fiber(test_commit_grown, &grown);
        body_unref(grown.body);
        char command[TEST_PATH_SIZE * 2];
        snprintf(command, sizeof command,
                 "printf '\\377\\001' | dd of=$(ls %s/bodies/*.body) bs=1 seek=%ld conv=notrunc "
                 "2>/dev/null",
                 fixture->path, places[i]);
        assert_int_equal(system(command), 0);
        struct reading reading = {.fixture = fixture, .entry = test_id(0)};
        test_on_fiber(read_one, &reading);
        assert_int_equal(reading.result, FAILED);
        assert_int_equal(reading.err.kind, ERROR_PERMANENT);
        for (uint64_t k = 0; k < 2; k++) {
            struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(k)};
            spool_write(fixture->spool, &change, 1);
        }
        test_reopen(fixture);
        assert_int_equal(fixture->found.count, 0);
        snprintf(command, sizeof command, "rm -f %s/corrupt/*.raw", fixture->path);
        assert_int_equal(system(command), 0);
    }
}

/* What is left of a large body is kept when its entry goes. */
static void test_cut_large_body_is_kept(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown);
    body_unref(grown.body);
    spool_close(fixture->spool);
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "truncate -s 300000 %s/bodies/*.body", fixture->path);
    assert_int_equal(system(command), 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(spool_stats(fixture->spool).damaged, 2);
    assert_int_equal(test_files_in(fixture->path, "corrupt"), 3); /* two entries, one body */
    test_reopen(fixture);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 0);
    snprintf(command, sizeof command, "test $(stat -c %%s %s/corrupt/*.body) = 300000",
             fixture->path);
    assert_int_equal(system(command), 0);
}

static void test_missing_large_body(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown);
    body_unref(grown.body);
    test_on_fiber(add_named_bodies, &(struct test_fixture){.spool = fixture->spool});
    spool_close(fixture->spool);
    char command[TEST_PATH_SIZE * 2];
    snprintf(command, sizeof command, "rm %s/bodies/*.body", fixture->path);
    assert_int_equal(system(command), 0);
    fixture->spool = test_open(fixture->path, &fixture->found);
    assert_int_equal(spool_stats(fixture->spool).damaged, 2);
    test_reopen(fixture);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
}

/* Foreign files and folders are let be. */
static void test_foreign_files(void **state)
{
    struct test_fixture *fixture = *state;
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

#define CASE(test) cmocka_unit_test_setup_teardown(test, test_set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_sync_failure),
        CASE(test_state_survives_sync_failure),
        CASE(test_refused_after_the_cut),
        CASE(test_write_failure),
        CASE(test_no_new_segments),
        CASE(test_floors),
        CASE(test_damage_at_start),
        CASE(test_damage_is_copied_once),
        CASE(test_damaged_state_is_not_copied),
        CASE(test_unread_segment_is_not_copied),
        CASE(test_states_after_lost_segments),
        CASE(test_damage_while_running),
        CASE(test_trouble_is_no_damage),
        CASE(test_unsynced_large_body),
        CASE(test_unwritten_large_body),
        CASE(test_changed_large_body),
        CASE(test_cut_large_body_is_kept),
        CASE(test_missing_large_body),
        CASE(test_foreign_files),
    };
    return cmocka_run_group_tests_name("spool-fault", tests, NULL, NULL);
}
