/* SPDX-License-Identifier: Apache-2.0 */
/* history/store_internal.h - the store's thread and what it shares with others. */
#pragma once

#include "history/store_file.h"
#include "history/store_groups.h"

#include <pthread.h>
#include <stdatomic.h>

struct store {
    struct store_settings settings;
    char folder[4096];
    pthread_t thread;

    pthread_mutex_t mutex; /* for what follows */
    pthread_cond_t wake, synced;
    struct buf incoming;
    bool held;               /* by the log's thread */
    uintptr_t drops;         /* and one */
    struct event_slots seen; /* of each stream: what `drops` was at its last event */
    struct store_totals totals;
    uint64_t sync_wanted, sync_done;
    bool stop;

    atomic_bool is_damaged; /* the file: a reader met it */

    /* ---- the thread's ---- */
    struct store_file file;
    struct event_decoder *decoder;
    struct groups groups;
    struct bundler bundler; /* of one transaction, as are */
    struct buf entries;     /* those of the index */
    size_t bundler_needed, entries_needed;
    bool failing;
};

/* Wait until all that was put before is on disk (or lost). Not after store_close() began. */
void store_sync(struct store *store);
