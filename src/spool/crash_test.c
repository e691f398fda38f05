/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 at any moment: a child works on a spool of tiny segments (so that it rolls and reclaims
 * all the time) and tells over a pipe what it begins and what was acknowledged; the parent kills
 * it, opens the spool and compares.
 */
#include "spool/test_tools.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    FIBERS = 8,
    IDS_A_FIBER = 3000,
    IDS = FIBERS * IDS_A_FIBER,
    REMOVED = 1000,
    ROUNDS = 12,
    NOTES = 12000
};

struct note {
    uint32_t id;
    uint16_t version;
    uint16_t acknowledged;
};

/* What may be found of one entry. */
struct known {
    unsigned least; /* acknowledged; 0: nothing, REMOVED: gone */
    unsigned most;  /* begun */
};

/* ---- the child ---- */

struct child_fiber {
    struct spool *spool;
    int pipe;
    unsigned first;
    unsigned added;
    unsigned version[IDS_A_FIBER];
};

static void tell(struct child_fiber *self, unsigned id, unsigned version, bool acknowledged)
{
    struct note note = {self->first + id, (uint16_t)version, acknowledged};
    if (write(self->pipe, &note, sizeof note) != (ssize_t)sizeof note)
        _exit(1);
}

static NO_YIELD_CHECK void add(struct child_fiber *self, unsigned id)
{
    uint64_t size = random_below(4000);
    if (random_below(40) == 0)
        size = 270000 + random_below(30000);
    struct body *body = NULL;
    struct error err;
    if (size > 100000) {
        static char bytes[300000];
        memset(bytes, (int)id, sizeof bytes); /* neighbours differ */
        check(spool_body_new(self->spool, &body, &err) == OK);
        check(body_append(body, str_of(bytes, size), &err) == OK);
        check(body_seal(body, &err) == OK);
    } else {
        body = test_body(size, id);
    }
    struct mail_content content = {.head = STR("H: h\r\n"), .body = body};
    struct spool_change changes[] = {{.kind = SPOOL_ADD,
                                      .entry = test_id(self->first + id),
                                      .message = test_id(77),
                                      .meta = STR("meta"),
                                      .state = STR("1"),
                                      .content = &content},
                                     {.kind = SPOOL_COUNT, .counter = 0, .delta = 1}};
    tell(self, id, 1, false);
    check(spool_commit(self->spool, changes, 2, &err) == OK);
    tell(self, id, 1, true);
    self->version[id] = 1;
    body_unref(body);
}

static NO_YIELD_CHECK void change(struct child_fiber *self, unsigned id, bool removes)
{
    char text[16];
    unsigned version = removes ? REMOVED : self->version[id] + 1;
    snprintf(text, sizeof text, "%u", version);
    struct spool_change changes[] = {{.kind = removes ? SPOOL_REMOVE : SPOOL_STATE,
                                      .entry = test_id(self->first + id),
                                      .state = str_c(text)},
                                     {.kind = SPOOL_COUNT, .counter = 0, .delta = -1}};
    struct error err;
    tell(self, id, version, false);
    self->version[id] = version;
    if (random_below(2)) {
        spool_write(self->spool, changes, removes ? 2 : 1);
        return; /* never acknowledged */
    }
    check(spool_commit(self->spool, changes, removes ? 2 : 1, &err) == OK);
    tell(self, id, version, true);
}

static void work(void *arg)
{
    struct child_fiber *self = arg;
    for (unsigned step = 0; step < 100000; step++) {
        if (self->added < IDS_A_FIBER && random_below(5) == 0) {
            add(self, self->added++);
            continue;
        }
        if (!self->added)
            continue;
        /* most mail is done soon; one in ten stays for good */
        unsigned recent = self->added < 100 ? self->added : 100;
        unsigned id = self->added - 1 - random_below(random_below(8) ? recent : self->added);
        unsigned version = self->version[id];
        if (version && version < REMOVED - 1)
            change(self, id, random_below(2) == 0 && id % 10);
    }
}

/* What earlier rounds left: entries that were begun and are not there were removed, or never came
 * to be; their ids are not used again. */
static void resume(struct child_fiber *fiber, const struct known *known,
                   const struct test_found *found)
{
    for (unsigned i = 0; i < IDS_A_FIBER; i++) {
        int at = known[fiber->first + i].most ? test_find(found, test_id(fiber->first + i)) : -1;
        if (at >= 0)
            fiber->version[i] = (unsigned)atoi(found->items[at].state);
        else if (known[fiber->first + i].most)
            fiber->version[i] = REMOVED;
        if (known[fiber->first + i].most)
            fiber->added = i + 1;
    }
}

static void run_child(const char *path, int pipe, const struct known *known)
{
    struct spool_settings settings = {.path = str_c(path),
                                      .segment_size = 64 * 1024,
                                      .free_bytes_floor = 1,
                                      .state_delay_ns = NS_PER_MS,
                                      .reclaim_age_ns = 1};
    static struct child_fiber fibers[FIBERS];
    static struct test_found found;
    void *args[FIBERS];
    struct spool *spool = test_open_with(&settings, &found);
    if (!spool)
        _exit(2);
    for (unsigned i = 0; i < FIBERS; i++) {
        fibers[i] = (struct child_fiber){.spool = spool, .pipe = pipe, .first = i * IDS_A_FIBER};
        resume(&fibers[i], known, &found);
        args[i] = &fibers[i];
    }
    test_on_fibers(work, args, FIBERS);
    _exit(0);
}

/* ---- the parent ---- */

static void compare(const struct known *known, const struct test_found *found)
{
    for (unsigned id = 0; id < IDS; id++) {
        int at = test_find(found, test_id(id));
        unsigned version = at < 0 ? 0 : (unsigned)atoi(found->items[at].state);
        if (at < 0 && known[id].least && known[id].most != REMOVED)
            fail_msg("entry %u is lost", id);
        if (at >= 0 && known[id].least == REMOVED)
            fail_msg("entry %u is back from the dead", id);
        if (at >= 0 && (version < known[id].least || version > known[id].most))
            fail_msg("entry %u has state %u, not %u to %u", id, version, known[id].least,
                     known[id].most);
    }
}

static NO_YIELD_CHECK void read_everything(void *arg)
{
    void **both = arg;
    struct spool *spool = both[0];
    const struct test_found *found = both[1];
    for (size_t i = 0; i < found->count; i++) {
        struct arena *arena = arena_new(0);
        struct str meta;
        struct mail_content content;
        struct error err = {0};
        if (spool_read(spool, found->items[i].entry, arena, &meta, &content, &err) != OK)
            fail_msg("cannot read: %s", err.text);
        body_unref(content.body);
        arena_free(arena);
    }
}

static void check_spool(const char *path, const struct known *known, struct test_found *found)
{
    struct spool *spool = test_open(path, found);
    assert_non_null(spool);
    compare(known, found);
    assert_int_equal(spool_counter(spool, 0), found->count);
    assert_int_equal(spool_stats(spool).damaged, 0);
    void *both[] = {spool, found};
    test_on_fiber(read_everything, both);
    spool_close(spool);
    /* and once more: what the first start wrote holds too */
    size_t count = found->count;
    spool = test_open(path, found);
    assert_non_null(spool);
    assert_int_equal(found->count, count);
    compare(known, found);
    spool_close(spool);
}

/* Take in what the child said, `limit` notes at most. */
static void read_notes(int pipe, struct known *known, size_t limit)
{
    struct note note;
    while (limit-- && read(pipe, &note, sizeof note) == (ssize_t)sizeof note) {
        assert_true(note.id < IDS);
        if (note.version > known[note.id].most)
            known[note.id].most = note.version;
        if (note.acknowledged && note.version > known[note.id].least)
            known[note.id].least = note.version;
    }
}

/* From now on what was found is what must stay. */
static void settle(struct known *known, const struct test_found *found)
{
    for (unsigned id = 0; id < IDS; id++) {
        if (!known[id].most)
            continue;
        int at = test_find(found, test_id(id));
        known[id].least = at < 0 ? REMOVED : (unsigned)atoi(found->items[at].state);
        known[id].most = known[id].least;
    }
}

static size_t used_files; /* in which a killed process left its log */

static void one_round(const char *path, struct known *known)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        run_child(path, ends[1], known);
    }
    close(ends[1]);
    read_notes(ends[0], known, 1 + random_below(NOTES));
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    read_notes(ends[0], known, SIZE_MAX);
    close(ends[0]);
    used_files += test_used_files(path);
    static struct test_found found;
    check_spool(path, known, &found);
    settle(known, &found);
}

static void test_kill(void **state)
{
    (void)state;
    char path[TEST_PATH_SIZE];
    test_folder_new(path);
    static struct known known[IDS];
    for (unsigned round = 0; round < ROUNDS; round++)
        one_round(path, known);
    assert_true(used_files > ROUNDS);
    test_folder_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests_name("spool-crash", tests, NULL, NULL);
}
