/* SPDX-License-Identifier: Apache-2.0 */
/* spool/test_tools.h - what the tests of the spool share: folders, fibers, small messages. */
#pragma once

#include "base/buf.h"
#include "spool/spool.h"

enum { TEST_PATH_SIZE = 256 };

/* A new empty folder; test_folder_remove() takes it away with all that is in it. */
void test_folder_new(char out_path[TEST_PATH_SIZE]);
void test_folder_remove(const char *path);
/* As the file system is at this moment: what a killed process leaves behind. */
void test_folder_copy(const char *from, char out_path[TEST_PATH_SIZE]);

/* Run `run(arg)` in a fiber of a loop of its own, until it ends. */
void test_on_fiber(void (*run)(void *arg), void *arg);
/* The same with `count` fibers, one after the other started, all on one loop. */
void test_on_fibers(void (*run)(void *arg), void **args, size_t count);

/* Everything that was found at open, as text to compare: "meta state head/start/size;…" sorted. */
struct test_found {
    size_t count;
    struct {
        struct mail_id entry;
        struct mail_id message;
        char meta[64];
        char state[64];
        uint64_t body_size;
    } items[16384];
};
spool_found_fn test_note_found;

struct spool *test_open(const char *path, struct test_found *found);
/* NULL: it failed. */
struct spool *test_open_with(const struct spool_settings *settings, struct test_found *found);
/* Index in `found`, or -1. */
int test_find(const struct test_found *found, struct mail_id entry);

/* An id that the test chooses. */
static inline struct mail_id test_id(uint64_t number)
{
    return (struct mail_id){.high = 0x0123456789abcdef, .low = number};
}
/* `size` bytes that depend on `seed` and the offset. */
struct body *test_body(uint64_t size, unsigned seed);
char test_body_byte(uint64_t offset, unsigned seed);

/* ---- one spool under test, and steps on a fiber ---- */

struct test_fixture {
    char path[TEST_PATH_SIZE];
    struct spool *spool;
    struct test_found found;
};
/* For cmocka: a fixture with an open spool in a new folder. */
int test_set_up(void **state);
int test_tear_down(void **state);
void test_reopen(struct test_fixture *fixture);

/* Commit entry `number` with a body of `size` bytes; counts total 3. */
enum result test_add(struct spool *spool, uint64_t number, uint64_t size, struct error *err);
void test_expect_body(struct body *body, uint64_t size, unsigned seed);
/* It reads back as test_add wrote it. */
void test_expect_entry(struct spool *spool, uint64_t number, uint64_t size);
size_t test_files_in(const char *path, const char *folder);
/* Log segments in files that were another one before, and files that wait to be. */
size_t test_used_files(const char *path);

/* A body that grows piece by piece, and two entries that share it. */
struct test_grown {
    struct test_fixture *fixture;
    uint64_t size;
    struct body *body;
    uint64_t first; /* number of the first entry: none is used twice */
};
void test_grow_body(void *grown);
void test_commit_grown(void *grown);

/* Commits twenty small messages, from number `first` on. */
struct test_worker {
    struct test_fixture *fixture;
    uint64_t first;
    unsigned failures;
};
void test_commit_some(void *worker);
