/* SPDX-License-Identifier: Apache-2.0 */
/* history/store_reader.h - a connection that asks, and what it has in hand. Private to the store.
 */
#pragma once

#include "history/store_internal.h"

enum { STORE_DICTIONARIES_MAX = 16, STORE_BUNDLES_KEPT = 16 };

/* A bundle as it was read: who is asked for one of its stories is asked for its neighbours next. */
struct kept_bundle {
    int64_t number; /* 0: none */
    struct buf bytes;
};

/* Which ids a bundle reaches over. */
struct span {
    struct mail_id first, last;
    int64_t bundle;
};

/* Spans that begin within some time, for who asks for one story after the other: where mail is
 * dense, a look into the table passes hundreds of them for each. */
struct span_window {
    struct buf spans; /* struct span, the newest first */
    int64_t since_ms, until_ms;
    int64_t asked_ms; /* the story asked for before was of that time */
};

struct store_reader {
    struct store *store;
    bool is_damaged; /* the file: SQLite said so */
    sqlite3 *db;
    sqlite3_stmt *rows;   /* of a story */
    sqlite3_stmt *spans;  /* where a story may be */
    sqlite3_stmt *bundle; /* by its number */
    sqlite3_stmt *begun;  /* spans that begin in a range */
    struct kept_bundle kept[STORE_BUNDLES_KEPT];
    unsigned next_kept;
    struct span_window window;
    struct dictionary dictionaries[STORE_DICTIONARIES_MAX];
    size_t dictionary_count;
};

/* sqlite3_step(): is there a row? */
bool store_step(struct store_reader *reader, sqlite3_stmt *statement);
/* The bytes of a bundle, borrowed until others were read; empty if it is not there. */
struct str store_bundle_of(struct store_reader *reader, int64_t number);
/* Ids of all stories, newest first, until `take` says false. */
void store_walk(struct store_reader *reader, struct store_range range,
                bool (*take)(struct mail_id id, void *arg), void *arg);
