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
