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

enum { FIBERS = 8, IDS_A_FIBER = 250, IDS = FIBERS * IDS_A_FIBER, REMOVED = 1000, ROUNDS = 25 };

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
        size = 300000;
    struct body *body = NULL;
    struct error err;
    if (size > 100000) {
        static char bytes[300000];
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
    unsigned added = 0;
    for (unsigned step = 0; step < 100000; step++) {
        if (added < IDS_A_FIBER && random_below(3) == 0) {
            add(self, added++);
            continue;
        }
        unsigned id = random_below(IDS_A_FIBER);
        unsigned version = self->version[id];
        if (version && version < REMOVED - 1)
            change(self, id, random_below(4) == 0 && id % 10);
    }
}

static void run_child(const char *path, int pipe)
{
    struct spool_settings settings = {.path = str_c(path),
                                      .segment_size = 64 * 1024,
                                      .free_bytes_floor = 1,
                                      .state_delay_ns = NS_PER_MS,
                                      .reclaim_age_ns = 1};
    static struct child_fiber fibers[FIBERS];
    void *args[FIBERS];
    struct spool *spool = test_open_with(&settings, NULL);
    if (!spool)
        _exit(2);
    for (unsigned i = 0; i < FIBERS; i++) {
        fibers[i] = (struct child_fiber){.spool = spool, .pipe = pipe, .first = i * IDS_A_FIBER};
        args[i] = &fibers[i];
    }
    test_on_fibers(work, args, FIBERS);
    _exit(0);
}

/* ---- the parent ---- */

static void read_notes(int pipe, struct known *known)
{
    struct note note;
    while (read(pipe, &note, sizeof note) == (ssize_t)sizeof note) {
        assert_true(note.id < IDS);
        if (note.version > known[note.id].most)
            known[note.id].most = note.version;
        if (note.acknowledged && note.version > known[note.id].least)
            known[note.id].least = note.version;
    }
}

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

static void check_spool(const char *path, const struct known *known)
{
    static struct test_found found;
    struct spool *spool = test_open(path, &found);
    assert_non_null(spool);
    compare(known, &found);
    assert_int_equal(spool_counter(spool, 0), found.count);
    assert_int_equal(spool_stats(spool).damaged, 0);
    void *both[] = {spool, &found};
    test_on_fiber(read_everything, both);
    spool_close(spool);
    /* and once more: what the first start wrote holds too */
    size_t count = found.count;
    spool = test_open(path, &found);
    assert_non_null(spool);
    assert_int_equal(found.count, count);
    compare(known, &found);
    spool_close(spool);
}

static void test_kill(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char path[TEST_PATH_SIZE];
        test_folder_new(path);
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ends[0]);
            run_child(path, ends[1]);
        }
        close(ends[1]);
        static struct known known[IDS];
        memset(known, 0, sizeof known);
        /* the first note says that it works; then some time goes by */
        struct note first;
        assert_int_equal(read(ends[0], &first, sizeof first), sizeof first);
        known[first.id].most = first.version;
        for (unsigned notes = random_below(4000); notes > 0; notes--) {
            struct note note;
            if (read(ends[0], &note, sizeof note) != (ssize_t)sizeof note)
                break;
            if (note.version > known[note.id].most)
                known[note.id].most = note.version;
            if (note.acknowledged && note.version > known[note.id].least)
                known[note.id].least = note.version;
        }
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        read_notes(ends[0], known);
        close(ends[0]);
        check_spool(path, known);
        test_folder_remove(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests_name("spool-crash", tests, NULL, NULL);
}
