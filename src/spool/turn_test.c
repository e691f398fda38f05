/* SPDX-License-Identifier: Apache-2.0 */
/* What is large takes turns with the log: windows of large bodies, and files that go. The calls
 * that matter are stood in for here, so that a test can hold a sync of the log and look. */
#include "spool/internal.h"
#include "spool/test_tools.h"

#include "base/clock.h"
#include "base/fault.h"
#include "fiber/fiber.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* Large: too large to be kept for a later body. */
enum { LARGE = 5 * 1024 * 1024, MIB = 1024 * 1024 };

/* ---- the calls ---- */

static struct {
    atomic_uint holds;   /* syncs of the log that may begin before they are held; UINT_MAX: all */
    atomic_uint held;    /* that wait here now */
    atomic_uint windows; /* of large bodies */
    atomic_uint cuts;    /* of files without a name */
} calls;

static bool name_ends(int fd, const char *end)
{
    char link[64];
    char name[512];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, name, sizeof name - 1);
    if (len < (ssize_t)strlen(end))
        return false;
    name[len] = '\0';
    return strcmp(name + len - strlen(end), end) == 0;
}

static bool is_thread(const char *name)
{
    char own[16] = "";
    (void)pthread_getname_np(pthread_self(), own, sizeof own);
    return strcmp(own, name) == 0;
}

/* A sync that may not go on waits until it may. Not those of segments that are made ahead. */
int fdatasync(int fd)
{
    if (is_thread("spool-write") || is_thread("spool-sync")) {
        atomic_fetch_add(&calls.held, 1);
        unsigned left;
        do {
            left = atomic_load(&calls.holds);
            if (!left)
                usleep(200);
        } while (!left || (left != UINT_MAX &&
                           !atomic_compare_exchange_strong(&calls.holds, &left, left - 1)));
        atomic_fetch_sub(&calls.held, 1);
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t offset, off_t size, unsigned flags)
{
    if (flags & SYNC_FILE_RANGE_WAIT_AFTER)
        atomic_fetch_add(&calls.windows, 1);
    return (int)syscall(SYS_sync_file_range, fd, offset, size, flags);
}

int ftruncate(int fd, off_t size)
{
    if (name_ends(fd, ".body (deleted)"))
        atomic_fetch_add(&calls.cuts, 1);
    return (int)syscall(SYS_ftruncate, fd, size);
}

static size_t descriptors_without_name(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *item; (item = readdir(folder));)
        count += name_ends(atoi(item->d_name), ".body (deleted)");
    closedir(folder);
    return count;
}

static int set_up(void **state)
{
    atomic_store(&calls.holds, UINT_MAX);
    atomic_store(&calls.windows, 0);
    atomic_store(&calls.cuts, 0);
    return test_set_up(state);
}

/* ---- fibers ---- */

struct part {
    void (*run)(struct part *part);
    struct test_fixture *fixture;
    uint64_t number; /* of its entry */
    struct part *other;
    atomic_bool done;
};

static void run_part(void *arg)
{
    struct part *part = arg;
    part->run(part);
    atomic_store(&part->done, true);
}

static void run_parts(struct part *parts[], size_t count)
{
    test_on_fibers(run_part, (void **)parts, count);
}

static MAY_YIELD void wait_a_moment(void)
{
    struct error err;
    (void)fiber_sleep(NS_PER_MS, &err);
}

static MAY_YIELD void wait_for_count(atomic_uint *count, unsigned least)
{
    for (int i = 0; atomic_load(count) < least; i++) {
        if (i == 20000)
            fail_msg("what was waited for did not come");
        wait_a_moment();
    }
}

static NO_YIELD_CHECK void commit_small(struct part *self)
{
    struct error err = {0};
    assert_int_equal(test_add(self->fixture->spool, self->number, 1000, &err), OK);
}

static NO_YIELD_CHECK void grow_large(struct part *self)
{
    static const char bytes[64 * 1024];
    struct error err = {0};
    struct body *body;
    wait_for_count(&calls.held, 1);
    for (int i = 0; i < 250; i++) /* longer than small mail counts after its commit */
        wait_a_moment();
    assert_int_equal(spool_body_new(self->fixture->spool, &body, &err), OK);
    for (unsigned done = 0; done < LARGE; done += sizeof bytes)
        assert_int_equal(body_append(body, str_of(bytes, sizeof bytes), &err), OK);
    assert_int_equal(body_seal(body, &err), OK);
    body_unref(body);
}

/* ---- windows ---- */

/* While a sync of the log is held no window begins; when it is over, the body goes on. */
static NO_YIELD_CHECK void look_then_let_go(struct part *self)
{
    wait_for_count(&calls.held, 1);
    for (int i = 0; i < 400; i++)
        wait_a_moment(); /* a window that does not wait would have come */
    assert_int_equal(atomic_load(&calls.windows), 0);
    assert_false(atomic_load(&self->other->done));
    atomic_store(&calls.holds, UINT_MAX);
}

static void test_window_waits_for_sync(void **state)
{
    struct part small = {.run = commit_small, .fixture = *state, .number = 0};
    struct part large = {.run = grow_large, .fixture = *state};
    struct part look = {.run = look_then_let_go, .other = &large};
    atomic_store(&calls.holds, 0);
    run_parts((struct part *[]){&small, &large, &look}, 3);
    assert_true(atomic_load(&calls.windows) > 0);
}

/*
 * One sync after the other must not keep a large body out: it waits for no second one. As if the
 * next sync had begun before the body's thread woke up, which no call that is held here can bring
 * about.
 */
static void *take_turn(void *arg)
{
    spool_turn_begin(arg);
    spool_turn_end(arg);
    return NULL;
}

static void test_window_waits_for_one_sync(void **state)
{
    struct spool *spool = ((struct test_fixture *)*state)->spool;
    pthread_t thread;
    bool asked = false;
    pthread_mutex_lock(&spool->lock);
    spool->sync_runs = true;
    pthread_mutex_unlock(&spool->lock);
    assert_int_equal(pthread_create(&thread, NULL, take_turn, spool), 0);
    while (!asked) { /* and waits: it asks and waits under one lock */
        pthread_mutex_lock(&spool->lock);
        asked = spool->turns_asked > 0;
        pthread_mutex_unlock(&spool->lock);
    }
    pthread_mutex_lock(&spool->lock);
    assert_int_equal(spool->turns_over, 0);
    atomic_fetch_add(&spool->syncs, 1);
    pthread_cond_broadcast(&spool->changed);
    for (int i = 0; spool->turns_over == 0 && i < 20000; i++) {
        pthread_mutex_unlock(&spool->lock);
        usleep(1000);
        pthread_mutex_lock(&spool->lock);
    }
    bool went = spool->turns_over == 1;
    spool->sync_runs = false;
    pthread_cond_broadcast(&spool->changed);
    pthread_mutex_unlock(&spool->lock);
    pthread_join(thread, NULL);
    assert_true(went);
}

/* ---- files that go ---- */

/* Somebody always waits for small mail. */
static NO_YIELD_CHECK void keep_committing(struct part *self)
{
    struct error err = {0};
    for (uint64_t i = 0; !atomic_load(&self->other->done); i++)
        assert_int_equal(test_add(self->fixture->spool, 1000 + i, 100, &err), OK);
}

static MAY_YIELD void remove_grown(struct spool *spool)
{
    struct error err = {0};
    struct spool_change changes[2];
    for (uint64_t i = 0; i < 2; i++)
        changes[i] = (struct spool_change){.kind = SPOOL_REMOVE, .entry = test_id(i)};
    assert_int_equal(spool_commit(spool, changes, 2, &err), OK);
}

static MAY_YIELD void wait_until_gone(const struct test_fixture *fixture)
{
    for (int i = 0; test_files_in(fixture->path, "bodies"); i++) {
        assert_true(i < 20000);
        wait_a_moment();
    }
}

static MAY_YIELD void wait_until_closed(void)
{
    for (int i = 0; descriptors_without_name(); i++) {
        assert_true(i < 20000);
        wait_a_moment();
    }
}

static MAY_YIELD void add_grown(struct test_fixture *fixture)
{
    struct test_grown grown = {.fixture = fixture, .size = LARGE};
    test_grow_body(&grown);
    test_commit_grown(&grown);
    body_unref(grown.body);
}

static NO_YIELD_CHECK void remove_large(struct part *self)
{
    add_grown(self->fixture);
    remove_grown(self->fixture->spool);
    wait_until_gone(self->fixture);
    wait_until_closed();
}

/* The name goes at once, the blocks by the megabyte. */
static void test_file_goes_by_pieces(void **state)
{
    struct part large = {.run = remove_large, .fixture = *state};
    struct part small = {.run = keep_committing, .fixture = *state, .other = &large};
    run_parts((struct part *[]){&small, &large}, 2);
    assert_int_equal(atomic_load(&calls.cuts), LARGE / MIB);
}

/* A piece that cannot be cut off: then all of it goes at once. */
static void test_file_that_cannot_be_cut(void **state)
{
    struct part large = {.run = remove_large, .fixture = *state};
    struct part small = {.run = keep_committing, .fixture = *state, .other = &large};
    fault_arm("spool.cut", 1, 1, EIO);
    run_parts((struct part *[]){&small, &large}, 2);
    fault_disarm_all();
    assert_int_equal(atomic_load(&calls.cuts), 0);
}

/* Space is short: then there is no time for pieces. */
static void test_space_is_wanted_now(void **state)
{
    struct part large = {.run = remove_large, .fixture = *state};
    struct part small = {.run = keep_committing, .fixture = *state, .other = &large};
    fault_arm("spool.space", 1, UINT_MAX, ENOSPC);
    run_parts((struct part *[]){&small, &large}, 2);
    fault_disarm_all();
    assert_true(atomic_load(&calls.cuts) < LARGE / MIB);
}

static NO_YIELD_CHECK void remove_linked(struct part *self)
{
    char command[TEST_PATH_SIZE * 3];
    add_grown(self->fixture);
    (void)snprintf(command, sizeof command, "ln %s/bodies/*.body %s/copy", self->fixture->path,
                   self->fixture->path);
    assert_int_equal(system(command), 0);
    remove_grown(self->fixture->spool);
    wait_until_gone(self->fixture);
    for (int i = 0; i < 50; i++)
        wait_a_moment();
}

/* Under a second name the bytes are somebody's: a backup's, an administrator's. */
static void test_second_name_keeps_all(void **state)
{
    struct test_fixture *fixture = *state;
    struct part large = {.run = remove_linked, .fixture = fixture};
    struct part small = {.run = keep_committing, .fixture = fixture, .other = &large};
    run_parts((struct part *[]){&small, &large}, 2);
    char path[TEST_PATH_SIZE + 8];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s/copy", fixture->path);
    assert_int_equal(stat(path, &info), 0);
    assert_true(info.st_size > LARGE);
    assert_int_equal(atomic_load(&calls.cuts), 0);
}

/* Nothing stays open behind a spool that is closed. */
static NO_YIELD_CHECK void remove_and_leave(struct part *self)
{
    add_grown(self->fixture);
    remove_grown(self->fixture->spool);
}

static void test_closing_lets_go(void **state)
{
    struct test_fixture *fixture = *state;
    struct part large = {.run = remove_and_leave, .fixture = fixture};
    struct part small = {.run = keep_committing, .fixture = fixture, .other = &large};
    run_parts((struct part *[]){&small, &large}, 2);
    test_reopen(fixture);
    assert_int_equal(descriptors_without_name(), 0);
    assert_int_equal(test_files_in(fixture->path, "bodies"), 0);
}

/* Nobody waits: no need to be gentle. */
static void test_alone_goes_at_once(void **state)
{
    struct part large = {.run = remove_large, .fixture = *state};
    run_parts((struct part *[]){&large}, 1);
    assert_int_equal(atomic_load(&calls.cuts), 0);
}

/* After a failed assertion, too: closing needs the syncs. */
static int tear_down(void **state)
{
    atomic_store(&calls.holds, UINT_MAX);
    fault_disarm_all();
    return test_tear_down(state);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_window_waits_for_sync), CASE(test_window_waits_for_one_sync),
        CASE(test_file_goes_by_pieces),   CASE(test_file_that_cannot_be_cut),
        CASE(test_space_is_wanted_now),   CASE(test_second_name_keeps_all),
        CASE(test_closing_lets_go),       CASE(test_alone_goes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
