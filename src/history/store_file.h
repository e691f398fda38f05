/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/store_file.h - events.db: the door to SQLite, its tables, and the index.
 *
 * A story has a row in `stories`, or its place in a row of `bundles` (store_bundle.h); `spans`
 * tells from which id to which one goes. Rows of one story are in the order of `part` and `bundle`.
 *
 * Rows of the index wait in `fresh` until there are many; then they are sorted and become a
 * segment, written in the order of its words, so that no insert ever lands in the middle of a large
 * tree. Segments are merged when there are many. Private to the store; one thread a connection.
 */
#pragma once

#include "history/store_bundle.h"
#include "history/store_pack.h"

#include <sqlite3.h>

enum { STORE_ENTRY = 24 }; /* bytes in the index: word, id */

struct store_file {
    sqlite3 *db;
    sqlite3_stmt *put_story, *put_bundle, *put_span;
    sqlite3_stmt *put_fresh;
    char path[4096];
    uint64_t dictionary;
    uint64_t fresh;                   /* entries */
    uint64_t fresh_max, segments_max; /* as in the settings */
    int64_t last_part;
    bool damaged; /* SQLite said so */
};

/* Open or make it; a file that is none, or damaged, is set aside first (*out_aside). */
enum result store_file_open(struct store_file *file, const char *path, bool *out_aside,
                            struct error *err);
void store_file_close(struct store_file *file);
/* Give up the file as damaged and begin another. */
enum result store_file_renew(struct store_file *file, struct error *err);

/* Is it still what its path names? Somebody may have removed it, or put another there. */
bool store_file_is_there(struct store_file *file);

/* Within begin and commit; after a failure everything since begin is undone. */
enum result store_file_begin(struct store_file *file, struct error *err);
enum result store_file_story(struct store_file *file, struct mail_id id, struct str bytes,
                             struct error *err);
enum result store_file_bundle(struct store_file *file, const struct bundle *bundle,
                              struct error *err);
enum result store_file_words(struct store_file *file, struct str entries, struct error *err);
enum result store_file_commit(struct store_file *file, struct error *err);
void store_file_undo(struct store_file *file);

/* One bounded piece of what can wait: sort fresh entries, merge segments, delete what is too old or
 * too much. */
enum result store_file_tend(struct store_file *file, int64_t oldest_ms, uint64_t size,
                            uint64_t *out_bytes, struct error *err);

/* What SQLite says of its last call; notes whether the file is damaged. */
enum result store_file_failed(struct store_file *file, struct error *err);

/* Shared with the reader. */
enum result store_sql_fail(sqlite3 *db, struct error *err);
int64_t store_sql_number(sqlite3 *db, const char *sql);
void store_id_bytes(struct mail_id id, unsigned char out[16]);
struct mail_id store_id_of(const unsigned char bytes[16]);
uint64_t store_entry_word(const char *entry);

/* store_index.c */
/* There is enough for a segment: the longer it grows, the longer a query waits for its merging. */
bool store_index_is_due(const struct store_file *file);
/* `now`: sort what is fresh although it is little, so that it can be forgotten. */
enum result store_index_tend(struct store_file *file, bool now, struct error *err);
