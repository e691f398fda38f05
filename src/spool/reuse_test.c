/* SPDX-License-Identifier: Apache-2.0 */
/* Files of large bodies that become others: no two bodies share one, none is written over while
 * something may name it, and what must not lie about does not. */
#include "spool/test_tools.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LARGE = 300000, MANY = 20 };

static struct spool_settings settings_of(const struct test_fixture *fixture)
{
    return (struct spool_settings){.path = str_c(fixture->path),
                                   .segment_size = 256 * 1024,
                                   .free_bytes_floor = 1,
                                   .state_delay_ns = NS_PER_MS};
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

/* ---- one large message ---- */

struct large {
    struct test_fixture *fixture;
    uint64_t number;
    uint64_t size;
    bool is_private;
    bool is_abandoned; /* never committed */
    bool is_kept;      /* not removed again */
};

static struct body *grow(struct spool *spool, uint64_t size, unsigned seed) MAY_YIELD
{
    struct body *body;
    struct error err = {0};
    char part[4096];
    assert_int_equal(spool_body_new(spool, &body, &err), OK);
    for (uint64_t done = 0; done < size; done += sizeof part) {
        for (size_t i = 0; i < sizeof part; i++)
            part[i] = test_body_byte(done + i, seed);
        size_t now = size - done < sizeof part ? (size_t)(size - done) : sizeof part;
        assert_int_equal(body_append(body, str_of(part, now), &err), OK);
    }
    assert_int_equal(body_seal(body, &err), OK);
    return body;
}

static enum result add(const struct large *large, struct body *body) MAY_YIELD
{
    char meta[32];
    struct error err;
    (void)snprintf(meta, sizeof meta, "meta-%llu", (unsigned long long)large->number);
    struct mail_content content = {.head = STR("Received: by test\r\n"), .body = body};
    struct spool_change change = {.kind = SPOOL_ADD,
                                  .entry = test_id(large->number),
                                  .message = test_id(large->number),
                                  .meta = str_c(meta),
                                  .state = STR("s"),
                                  .is_private = large->is_private,
                                  .content = &content};
    return spool_commit(large->fixture->spool, &change, 1, &err);
}

static enum result remove_entry(struct spool *spool, uint64_t number) MAY_YIELD
{
    struct error err;
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(number)};
    return spool_commit(spool, &change, 1, &err);
}

static NO_YIELD_CHECK void pass(void *arg)
{
    const struct large *large = arg;
    struct spool *spool = large->fixture->spool;
    struct body *body = grow(spool, large->size, (unsigned)large->number);
    test_expect_body(body, large->size, (unsigned)large->number);
    if (!large->is_abandoned) {
        assert_int_equal(add(large, body), OK);
        test_expect_entry(spool, large->number, large->size);
    }
    body_unref(body);
    if (!large->is_abandoned && !large->is_kept)
        assert_int_equal(remove_entry(spool, large->number), OK);
}

static void run(struct large large)
{
    test_on_fiber(pass, &large);
}

/* ---- what waits ---- */

static void expect_waiting(const struct test_fixture *fixture, uint64_t count)
{
    for (int turn = 0; spool_stats(fixture->spool).pooled_bodies != count && turn < 120000; turn++)
        usleep(1000);
    assert_int_equal(spool_stats(fixture->spool).pooled_bodies, count);
}

/* Large mail comes and goes until a file was used again so many times. */
static void churn(struct test_fixture *fixture, uint64_t reused)
{
    static const uint64_t sizes[] = {LARGE, 1 << 20, 262145, 700001, 300001};
    uint64_t until = spool_stats(fixture->spool).reused_bodies + reused;
    static uint64_t number = 10000; /* ids are never used twice */
    for (uint64_t turn = 0; spool_stats(fixture->spool).reused_bodies < until; turn++) {
        assert_true(turn < 5000);
        run((struct large){.fixture = fixture, .number = number++, .size = sizes[turn % 5]});
        usleep(500);
    }
}

static size_t shell(const struct test_fixture *fixture, const char *commands)
{
    char command[TEST_PATH_SIZE * 4];
    unsigned number = 0;
    (void)snprintf(command, sizeof command, "cd %s/bodies && %s", fixture->path, commands);
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

/* ---- used again ---- */

static void read_kept(void *arg)
{
    struct test_fixture *fixture = arg;
    for (uint64_t i = 0; i < MANY; i++)
        test_expect_entry(fixture->spool, i, LARGE + i * 40000);
}

static void expect_kept(struct test_fixture *fixture)
{
    assert_int_equal(fixture->found.count, MANY);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
    test_on_fiber(read_kept, fixture);
    assert_int_equal(test_files_in(fixture->path, "bodies"), MANY);
    assert_int_equal(problems_of(fixture->path), 0);
}

/* Killed among files that were used many times: what lives is there, and no file besides. */
static void test_used_again(void **state)
{
    struct test_fixture *fixture = *state;
    fixture->found.count = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        churn(fixture, i % 4);
        run((struct large){
            .fixture = fixture, .number = i, .size = LARGE + i * 40000, .is_kept = true});
    }
    churn(fixture, 20);
    test_on_fiber(read_kept, fixture);
    assert_int_equal(problems_of(fixture->path), 0); /* of a spool in use, too */
    struct test_fixture killed = {0};
    test_folder_copy(fixture->path, killed.path);
    killed.spool = test_open(killed.path, &killed.found);
    expect_kept(&killed);
    spool_close(killed.spool);
    test_folder_remove(killed.path);
    open_small(fixture);
    expect_kept(fixture);
}

struct several {
    struct test_fixture *fixture;
    uint64_t first;
    uint64_t count;
};

static NO_YIELD_CHECK void read_several(void *arg)
{
    const struct several *several = arg;
    for (uint64_t i = several->first; i < several->first + several->count; i++)
        test_expect_entry(several->fixture->spool, i, LARGE + i * 1000);
}

static NO_YIELD_CHECK void drop_several(void *arg)
{
    const struct several *several = arg;
    for (uint64_t i = several->first; i < several->first + several->count; i++)
        assert_int_equal(remove_entry(several->fixture->spool, i), OK);
}

/* All at the same time; they stay. */
static void add_several(const struct several *several)
{
    struct large all[128];
    void *args[128];
    for (uint64_t i = 0; i < several->count; i++) {
        uint64_t number = several->first + i;
        all[i] = (struct large){.fixture = several->fixture,
                                .number = number,
                                .size = LARGE + number * 1000,
                                .is_kept = true};
        args[i] = &all[i];
    }
    test_on_fibers(pass, args, several->count);
}

/* Many take files at the same time, and each has his own. */
static void test_taken_once(void **state)
{
    struct test_fixture *fixture = *state;
    for (uint64_t round = 0; round < 3; round++) {
        struct several several = {fixture, round * MANY, MANY};
        add_several(&several);
        assert_int_equal(spool_stats(fixture->spool).reused_bodies, round * MANY);
        assert_int_equal(test_files_in(fixture->path, "bodies"), MANY);
        test_on_fiber(read_several, &several);
        test_on_fiber(drop_several, &several);
        expect_waiting(fixture, MANY);
    }
}

/* ---- never too early ---- */

static NO_YIELD_CHECK void fail_to_remove(void *arg)
{
    struct test_fixture *fixture = arg;
    fault_arm("spool.sync", 1, 1, EIO);
    assert_int_equal(remove_entry(fixture->spool, 1), FAILED);
    fault_disarm_all();
}

/* A removal that could not be made durable is none: nobody writes over the body. */
static void test_death_is_durable_first(void **state)
{
    struct test_fixture *fixture = *state;
    struct large large = {.fixture = fixture, .number = 1, .size = LARGE, .is_kept = true};
    run(large);
    test_on_fiber(fail_to_remove, fixture);
    churn(fixture, 5);
    struct test_fixture killed = {0};
    test_folder_copy(fixture->path, killed.path);
    killed.spool = test_open(killed.path, &killed.found);
    assert_int_equal(killed.found.count, 1);
    assert_int_equal(problems_of(killed.path), 0);
    spool_close(killed.spool);
    test_folder_remove(killed.path);
}

struct reading {
    struct test_fixture *fixture;
    struct body *body;
};

static NO_YIELD_CHECK void begin_reading(void *arg)
{
    struct reading *reading = arg;
    struct error err = {0};
    struct arena *arena = arena_new(0);
    struct str meta;
    struct mail_content content;
    struct spool *spool = reading->fixture->spool;
    assert_int_equal(spool_read(spool, test_id(1), arena, &meta, &content, &err), OK);
    reading->body = content.body;
    assert_int_equal(remove_entry(spool, 1), OK);
    arena_free(arena);
}

static void end_reading(void *arg)
{
    struct reading *reading = arg;
    test_expect_body(reading->body, LARGE, 1);
    body_unref(reading->body);
}

/* The entry is gone, and somebody still reads its body. */
static void test_reader_keeps_its_bytes(void **state)
{
    struct reading reading = {.fixture = *state};
    run((struct large){.fixture = *state, .number = 1, .size = LARGE, .is_kept = true});
    test_on_fiber(begin_reading, &reading);
    churn(*state, 5);
    test_on_fiber(end_reading, &reading);
}

/* ---- what does not wait ---- */

/* Nothing of it is in any file there, and no file waits. */
static void expect_gone(const struct test_fixture *fixture)
{
    for (int turn = 0; shell(fixture, "ls | wc -l") && turn < 12000; turn++)
        usleep(10 * 1000);
    assert_int_equal(shell(fixture, "ls | wc -l"), 0);
    assert_int_equal(spool_stats(fixture->spool).pooled_bodies, 0);
}

static void test_what_does_not_wait(void **state)
{
    static const struct large cases[] = {
        {.number = 1, .size = LARGE, .is_private = true},
        {.number = 2, .size = LARGE, .is_abandoned = true},
        {.number = 3, .size = 5 << 20},
    };
    struct test_fixture *fixture = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct large large = cases[i];
        large.fixture = fixture;
        run(large);
        expect_gone(fixture);
    }
    /* of what was there at the start nobody knows */
    run((struct large){.fixture = fixture, .number = 4, .size = LARGE, .is_kept = true});
    open_small(fixture);
    test_on_fiber(drop_several, &(struct several){fixture, 4, 1});
    expect_gone(fixture);
    run((struct large){.fixture = fixture, .number = 5, .size = LARGE});
    expect_waiting(fixture, 1);
    open_small(fixture);
    expect_gone(fixture);
}

/* A body in a file that waited, whose text may not stay: with it goes what the file held before. */
static void test_private_in_a_used_file(void **state)
{
    struct test_fixture *fixture = *state;
    run((struct large){.fixture = fixture, .number = 1, .size = LARGE});
    expect_waiting(fixture, 1);
    run((struct large){.fixture = fixture, .number = 2, .size = LARGE, .is_private = true});
    assert_int_equal(spool_stats(fixture->spool).reused_bodies, 1);
    expect_gone(fixture);
}

/* ---- one body in several units ---- */

struct twice {
    struct test_fixture *fixture;
    bool from_disk; /* it is read back, and committed once more */
};

static NO_YIELD_CHECK void commit_twice(void *arg)
{
    const struct twice *twice = arg;
    struct spool *spool = twice->fixture->spool;
    uint64_t number = twice->from_disk ? 3 : 1;
    struct large first = {.fixture = twice->fixture, .number = number};
    struct large second = {
        .fixture = twice->fixture, .number = number + 1, .is_private = !twice->from_disk};
    struct arena *arena = arena_new(0);
    struct error err;
    struct str meta;
    struct mail_content content = {0};
    if (!twice->from_disk) {
        content.body = grow(spool, LARGE, 1);
        assert_int_equal(add(&first, content.body), OK);
    } else {
        assert_int_equal(spool_read(spool, test_id(number), arena, &meta, &content, &err), OK);
    }
    assert_int_equal(add(&second, content.body), OK);
    body_unref(content.body);
    arena_free(arena);
    assert_int_equal(remove_entry(spool, number), OK);
    assert_int_equal(remove_entry(spool, number + 1), OK);
}

/* Once private, or once of unknown origin, it stays that. */
static void test_committed_twice(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(commit_twice, &(struct twice){.fixture = fixture});
    expect_gone(fixture);
    run((struct large){.fixture = fixture, .number = 3, .size = LARGE, .is_kept = true});
    open_small(fixture);
    test_on_fiber(commit_twice, &(struct twice){.fixture = fixture, .from_disk = true});
    expect_gone(fixture);
}

/* A file that somebody else has, too: what is damaged, or a copy of the folder made of links. */
static void test_second_name(void **state)
{
    struct test_fixture *fixture = *state;
    run((struct large){.fixture = fixture, .number = 1, .size = LARGE, .is_kept = true});
    (void)shell(fixture, "ln *.body ../kept && md5sum < ../kept > ../sum && echo 0");
    test_on_fiber(drop_several, &(struct several){fixture, 1, 1});
    expect_gone(fixture);
    churn(fixture, 3);
    assert_int_equal(shell(fixture, "md5sum < ../kept | cmp - ../sum; echo $?"), 0);
    for (int turn = 0; !spool_stats(fixture->spool).pooled_bodies && turn < 120000; turn++)
        usleep(1000);
    (void)shell(fixture,
                "for f in *.body; do ln -f $f ../kept; done; md5sum < ../kept > ../sum; echo 0");
    run((struct large){.fixture = fixture, .number = 9, .size = LARGE, .is_kept = true});
    assert_int_equal(shell(fixture, "md5sum < ../kept | cmp - ../sum; echo $?"), 0);
    test_on_fiber(drop_several, &(struct several){fixture, 9, 1});
}

/* ---- how much waits ---- */

/* A file far larger than its body is cut; one that is too small grows. */
static void test_sizes(void **state)
{
    struct test_fixture *fixture = *state;
    static const struct {
        uint64_t size;
        size_t file_from, file_to;
    } cases[] = {
        {3 << 20, 3 << 20, (3 << 20) + 3000},
        {2 << 20, 3 << 20, (3 << 20) + 3000},
        {LARGE, LARGE, LARGE + 1000},
        {1 << 20, 1 << 20, (1 << 20) + 3000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run((struct large){
            .fixture = fixture, .number = i, .size = cases[i].size, .is_kept = true});
        assert_int_equal(spool_stats(fixture->spool).reused_bodies, i);
        size_t size = shell(fixture, "stat -c %s *.body");
        assert_in_range(size, cases[i].file_from, cases[i].file_to);
        assert_int_equal(problems_of(fixture->path), 0);
        test_on_fiber(drop_several, &(struct several){fixture, i, 1});
        expect_waiting(fixture, 1);
    }
}

/* No more than 64 files, and no more than 64M. */
static void test_bounds(void **state)
{
    struct test_fixture *fixture = *state;
    struct several many = {fixture, 0, 80};
    add_several(&many);
    test_on_fiber(drop_several, &many);
    expect_waiting(fixture, 64);
    open_small(fixture);
    for (uint64_t i = 200; i < 222; i++)
        run((struct large){
            .fixture = fixture, .number = i, .size = (4 << 20) - 5000, .is_kept = true});
    test_on_fiber(drop_several, &(struct several){fixture, 200, 22});
    expect_waiting(fixture, 16);
    struct spool_stats stats = spool_stats(fixture->spool);
    assert_in_range(stats.disk_bytes, 60 << 20, 70 << 20);
}

/* When space is short all are given back, and none is taken in. */
static void test_space(void **state)
{
    struct test_fixture *fixture = *state;
    struct several many = {fixture, 0, MANY};
    add_several(&many);
    test_on_fiber(drop_several, &many);
    expect_waiting(fixture, MANY);
    fault_arm("spool.space", 1, 1000000, ENOSPC);
    expect_gone(fixture);
    run((struct large){.fixture = fixture, .number = 100, .size = LARGE});
    expect_gone(fixture);
    fault_disarm_all();
    for (uint64_t i = 200; spool_stats(fixture->spool).pooled_bodies == 0; i++) {
        assert_true(i < 5000);
        run((struct large){.fixture = fixture, .number = i, .size = LARGE});
        usleep(1000);
    }
}

/* Nobody needs them any more: after a minute they go. */
static void test_old_ones_go(void **state)
{
    struct test_fixture *fixture = *state;
    int64_t now_ns = clock_monotonic_ns();
    clock_set_fake(now_ns, clock_wall_ns());
    run((struct large){.fixture = fixture, .number = 1, .size = LARGE});
    expect_waiting(fixture, 1);
    clock_set_fake(now_ns + 61 * NS_PER_S, clock_wall_ns());
    expect_gone(fixture);
    clock_set_fake(-1, -1);
}

/* ---- while a long log is loaded ---- */

enum { FIRST = 600, COPY = 700, WHILE_MS = 300 };

/* Another entry gets the body of one that lives, as mail that is let out of a quarantine does. */
static NO_YIELD_CHECK void share_again(void *arg)
{
    struct test_fixture *fixture = arg;
    struct arena *arena = arena_new(0);
    struct mail_content content;
    struct str meta;
    struct error err;
    assert_int_equal(spool_read(fixture->spool, test_id(FIRST), arena, &meta, &content, &err), OK);
    struct spool_change change = {.kind = SPOOL_ADD,
                                  .entry = test_id(COPY),
                                  .message = test_id(COPY),
                                  .meta = STR("m"),
                                  .state = STR("s"),
                                  .content = &content};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    body_unref(content.body);
    arena_free(arena);
}

/* As a delivery does: it lets go of the body when the entry is gone. */
static NO_YIELD_CHECK void remove_copy(void *arg)
{
    struct test_fixture *fixture = arg;
    struct arena *arena = arena_new(0);
    struct mail_content content;
    struct str meta;
    struct error err;
    assert_int_equal(spool_read(fixture->spool, test_id(COPY), arena, &meta, &content, &err), OK);
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = test_id(COPY)};
    assert_int_equal(spool_commit(fixture->spool, &change, 1, &err), OK);
    body_unref(content.body);
    arena_free(arena);
}

struct late {
    struct test_fixture *fixture;
    bool has_first;
    atomic_bool is_over;
};

/* On the thread that loads, newest first: the copy goes before the other is known. */
static void note_late(void *context, const struct spool_found *item)
{
    struct late *late = context;
    if (!item) {
        atomic_store(&late->is_over, true);
        return;
    }
    late->has_first |= mail_id_equal(item->entry, test_id(FIRST));
    if (!mail_id_equal(item->entry, test_id(COPY)))
        return;
    assert_false(late->has_first);
    test_on_fiber(remove_copy, late->fixture);
    for (int ms = 0; ms < WHILE_MS && test_files_in(late->fixture->path, "bodies") > 0; ms += 10)
        usleep(10 * 1000);
}

/* The last entry that is known is removed, and one that is not yet loaded has the same body. */
static void test_shared_with_one_not_yet_loaded(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = LARGE, .first = FIRST};
    struct spool_settings settings = settings_of(fixture);
    struct late late = {.fixture = fixture};
    struct error err;
    settings.load_later_over = 1;
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown);
    body_unref(grown.body);
    open_small(fixture); /* what comes now is in another log file, */
    struct test_worker worker = {.fixture = fixture, .first = 1000};
    test_on_fiber(test_commit_some, &worker);
    open_small(fixture); /* and this in one more: it is told of before the oldest is read */
    test_on_fiber(share_again, fixture);
    spool_close(fixture->spool);
    assert_int_equal(spool_open(&settings, note_late, &late, &fixture->spool, &err), OK);
    spool_load(fixture->spool);
    while (!atomic_load(&late.is_over))
        usleep(1000);
    assert_true(late.has_first);
    assert_int_equal(spool_stats(fixture->spool).damaged, 0);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 1);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_used_again),
        CASE(test_taken_once),
        CASE(test_death_is_durable_first),
        CASE(test_reader_keeps_its_bytes),
        CASE(test_what_does_not_wait),
        CASE(test_private_in_a_used_file),
        CASE(test_committed_twice),
        CASE(test_second_name),
        CASE(test_sizes),
        CASE(test_bounds),
        CASE(test_space),
        CASE(test_old_ones_go),
        CASE(test_shared_with_one_not_yet_loaded),
    };
    return cmocka_run_group_tests_name("spool-reuse", tests, NULL, NULL);
}
