/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_test.h - what the tests of the history share: a folder of their own with a store
 * in it, and events that were there before thrown away.
 */
#pragma once

#include "history/store.h"

#include "base/clock.h"
#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TEST_FOLDER_SIZE = 64 };

/* Keeps everything: 90 days, and as much as there is. */
static inline struct store_settings test_store_settings(const char *folder)
{
    return (struct store_settings){.folder = str_c(folder),
                                   .keep_ns = 90 * 86400 * NS_PER_S,
                                   .size = UINT64_C(1) << 40,
                                   .keep_free = 1};
}

static inline struct store *test_store_open(const struct store_settings *settings)
{
    struct error err = {0};
    struct store *store = NULL;
    if (store_open(settings, &store, &err) != OK)
        fail_msg("%s", err.text);
    return store;
}

static inline void test_drop_event(const struct event *event, void *arg)
{
    (void)event;
    (void)arg;
}

static inline void test_folder_make(char folder[static TEST_FOLDER_SIZE])
{
    snprintf(folder, TEST_FOLDER_SIZE, "/tmp/history-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    event_drain(test_drop_event, NULL);
}

/* `store` may be NULL. */
static inline void test_folder_remove(const char *folder, struct store *store)
{
    char command[TEST_FOLDER_SIZE + 16];
    store_close(store);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}
