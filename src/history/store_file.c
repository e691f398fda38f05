/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_file.h"

#include "base/clock.h"
#include "base/fault.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DELETE_MAX = 2000, DELETE_BUNDLES_MAX = 400, BUSY_MS = 2000, STORY_BYTES = 1024 };

static const char schema[] =
    "PRAGMA page_size = 8192;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = OFF;" /* history may lose its last moments, mail may not wait */
    "PRAGMA journal_size_limit = 33554432;"
    "CREATE TABLE IF NOT EXISTS stories(id BLOB, part INTEGER, events BLOB, PRIMARY KEY(id, part))"
    " WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bundles(bundle INTEGER PRIMARY KEY, events BLOB);"
    "CREATE TABLE IF NOT EXISTS spans(first BLOB, bundle INTEGER, last BLOB,"
    " PRIMARY KEY(first, bundle)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS fresh(batch INTEGER PRIMARY KEY, entries BLOB);"
    "CREATE TABLE IF NOT EXISTS segments(segment INTEGER PRIMARY KEY, level INTEGER, entries "
    "INTEGER,"
    " newest_ms INTEGER);"
    "CREATE TABLE IF NOT EXISTS words(segment INTEGER, first INTEGER, page INTEGER, entries BLOB,"
    " PRIMARY KEY(segment, first, page)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS dictionaries(version INTEGER PRIMARY KEY, names TEXT UNIQUE);"
    /* from when on the index has what earlier versions did not write */
    "CREATE TABLE IF NOT EXISTS marks(name TEXT PRIMARY KEY, at_ms INTEGER);";

enum result store_sql_fail(sqlite3 *db, struct error *err)
{
    return fail(err, ERROR_TEMPORARY, "events.db: %s", db ? sqlite3_errmsg(db) : "no memory");
}

enum result store_file_failed(struct store_file *file, struct error *err)
{
    int code = file->db ? sqlite3_errcode(file->db) & 0xff : SQLITE_NOMEM;
    file->damaged = file->damaged || code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
    return store_sql_fail(file->db, err);
}

static enum result run(struct store_file *file, const char *sql, struct error *err)
{
    return sqlite3_exec(file->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? OK
               : store_file_failed(file, err);
}

int64_t store_sql_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

void store_id_bytes(struct mail_id id, unsigned char out[16])
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (unsigned char)(id.high >> (56 - 8 * i));
        out[8 + i] = (unsigned char)(id.low >> (56 - 8 * i));
    }
}

struct mail_id store_id_of(const unsigned char bytes[16])
{
    struct mail_id id = {0};
    for (unsigned i = 0; i < 8; i++) {
        id.high = id.high << 8 | bytes[i];
        id.low = id.low << 8 | bytes[8 + i];
    }
    return id;
}

/* ---- open ---- */

/* The number of today's names; a new one when a version with other names wrote before. */
static enum result find_dictionary(struct store_file *file, struct error *err)
{
    struct buf names BUF_CLEANUP;
    sqlite3_stmt *statement = NULL;
    buf_init(&names, 65536);
    dictionary_text(&names);
    enum result result = OK;
    if (sqlite3_prepare_v2(file->db, "INSERT OR IGNORE INTO dictionaries(names) VALUES(?1)", -1,
                           &statement, NULL) != SQLITE_OK ||
        sqlite3_bind_text(statement, 1, names.ptr, (int)names.len, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_DONE)
        result = store_file_failed(file, err);
    sqlite3_finalize(statement);
    statement = NULL;
    if (result == OK &&
        sqlite3_prepare_v2(file->db, "SELECT version FROM dictionaries WHERE names = ?1", -1,
                           &statement, NULL) == SQLITE_OK &&
        sqlite3_bind_text(statement, 1, names.ptr, (int)names.len, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        file->dictionary = (uint64_t)sqlite3_column_int64(statement, 0);
    else if (result == OK)
        result = store_file_failed(file, err);
    sqlite3_finalize(statement);
    return result;
}

/* A file of an earlier version has its stories' events and reasons in the index from now on. */
static enum result set_marks(struct store_file *file, struct error *err)
{
    char sql[250];
    snprintf(sql, sizeof sql,
             "INSERT OR IGNORE INTO marks SELECT 'decisions',"
             " CASE WHEN EXISTS(SELECT 1 FROM stories) OR EXISTS(SELECT 1 FROM spans) THEN %lld "
             "ELSE 0 END",
             (long long)(clock_wall_ns() / NS_PER_MS));
    return run(file, sql, err);
}

static bool prepare(struct store_file *file, const char *sql, sqlite3_stmt **out)
{
    return sqlite3_prepare_v2(file->db, sql, -1, out, NULL) == SQLITE_OK;
}

static enum result open_once(struct store_file *file, struct error *err)
{
    /* nobody asks how much memory SQLite has; to know it costs a lock for each piece. Too late, and
     * no harm, when somebody opened a file before. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (sqlite3_open_v2(file->path, &file->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return store_file_failed(file, err);
    sqlite3_busy_timeout(file->db, BUSY_MS);
    if (run(file, schema, err) != OK || set_marks(file, err) != OK ||
        find_dictionary(file, err) != OK)
        return FAILED;
    if (!prepare(file, "INSERT INTO stories VALUES(?1, ?2, ?3)", &file->put_story) ||
        !prepare(file, "INSERT INTO bundles VALUES(?1, ?2)", &file->put_bundle) ||
        !prepare(file, "INSERT INTO spans VALUES(?1, ?2, ?3)", &file->put_span) ||
        !prepare(file, "INSERT INTO fresh(entries) VALUES(?1)", &file->put_fresh)) {
        file->damaged = true; /* tables of others have these names */
        return store_file_failed(file, err);
    }
    /* rows are in the order in which they are written also when the clock was set back */
    file->last_part =
        store_sql_number(file->db, "SELECT max(coalesce((SELECT max(bundle) FROM bundles), 0),"
                                   " coalesce((SELECT max(part) FROM stories WHERE id ="
                                   " (SELECT max(id) FROM stories)), 0))");
    file->fresh = (uint64_t)store_sql_number(file->db, "SELECT sum(length(entries)) FROM fresh") /
                  STORE_ENTRY;
    return OK;
}

void store_file_close(struct store_file *file)
{
    sqlite3_finalize(file->put_story);
    sqlite3_finalize(file->put_bundle);
    sqlite3_finalize(file->put_span);
    sqlite3_finalize(file->put_fresh);
    sqlite3_close(file->db);
    file->put_story = file->put_bundle = file->put_span = file->put_fresh = NULL;
    file->db = NULL;
}

enum result store_file_renew(struct store_file *file, struct error *err)
{
    char aside[sizeof file->path + 64];
    store_file_close(file);
    snprintf(aside, sizeof aside, "%s.damaged-%lld", file->path,
             (long long)(clock_wall_ns() / NS_PER_S));
    if (rename(file->path, aside) != 0)
        unlink(file->path);
    for (int i = 0; i < 2; i++) { /* they belong to the file that was */
        snprintf(aside, sizeof aside, "%s-%s", file->path, i ? "wal" : "shm");
        unlink(aside);
    }
    file->damaged = false;
    return open_once(file, err);
}

enum result store_file_open(struct store_file *file, const char *path, bool *out_aside,
                            struct error *err)
{
    *file = (struct store_file){0};
    *out_aside = false;
    snprintf(file->path, sizeof file->path, "%s", path);
    if (open_once(file, err) == OK)
        return OK;
    *out_aside = file->damaged;
    if (file->damaged)
        return store_file_renew(file, err);
    store_file_close(file);
    return FAILED;
}

/* ---- write ---- */

enum result store_file_begin(struct store_file *file, struct error *err)
{
    int fault = fault_hit("events.write");
    if (fault)
        return fail_errno(err, fault, "events.db");
    return run(file, "BEGIN IMMEDIATE", err);
}

enum result store_file_commit(struct store_file *file, struct error *err)
{
    return run(file, "COMMIT", err);
}

void store_file_undo(struct store_file *file)
{
    sqlite3_exec(file->db, "ROLLBACK", NULL, NULL, NULL);
}

static enum result step(struct store_file *file, sqlite3_stmt *statement, struct error *err)
{
    enum result result = sqlite3_step(statement) == SQLITE_DONE ? OK : store_file_failed(file, err);
    sqlite3_reset(statement);
    return result;
}

/* Rows are numbered in the order in which they are written. */
static int64_t next_part(struct store_file *file)
{
    int64_t now_us = clock_wall_ns() / NS_PER_US;
    file->last_part = now_us > file->last_part ? now_us : file->last_part + 1;
    return file->last_part;
}

enum result store_file_story(struct store_file *file, struct mail_id id, struct str bytes,
                             struct error *err)
{
    unsigned char key[16];
    store_id_bytes(id, key);
    sqlite3_bind_blob(file->put_story, 1, key, sizeof key, SQLITE_STATIC);
    sqlite3_bind_int64(file->put_story, 2, next_part(file));
    sqlite3_bind_blob(file->put_story, 3, bytes.ptr, (int)bytes.len, SQLITE_STATIC);
    return step(file, file->put_story, err);
}

enum result store_file_bundle(struct store_file *file, const struct bundle *bundle,
                              struct error *err)
{
    unsigned char first[16];
    unsigned char last[16];
    if (bundle->count == 1)
        return store_file_story(file, bundle->first, bundle->bytes, err);
    int64_t number = next_part(file);
    store_id_bytes(bundle->first, first);
    store_id_bytes(bundle->last, last);
    sqlite3_bind_int64(file->put_bundle, 1, number);
    sqlite3_bind_blob(file->put_bundle, 2, bundle->bytes.ptr, (int)bundle->bytes.len,
                      SQLITE_STATIC);
    sqlite3_bind_blob(file->put_span, 1, first, sizeof first, SQLITE_STATIC);
    sqlite3_bind_int64(file->put_span, 2, number);
    sqlite3_bind_blob(file->put_span, 3, last, sizeof last, SQLITE_STATIC);
    enum result result = step(file, file->put_bundle, err);
    return result == OK ? step(file, file->put_span, err) : result;
}

enum result store_file_words(struct store_file *file, struct str entries, struct error *err)
{
    if (entries.len == 0)
        return OK;
    sqlite3_bind_blob(file->put_fresh, 1, entries.ptr, (int)entries.len, SQLITE_STATIC);
    enum result result = step(file, file->put_fresh, err);
    if (result == OK)
        file->fresh += entries.len / STORE_ENTRY;
    return result;
}

/* ---- tend ---- */

bool store_file_is_there(struct store_file *file)
{
    int moved = 0;
    return sqlite3_file_control(file->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK ||
           !moved;
}

static uint64_t bytes_in_use(struct store_file *file)
{
    int64_t pages = store_sql_number(file->db, "PRAGMA page_count") -
                    store_sql_number(file->db, "PRAGMA freelist_count");
    return (uint64_t)(pages * store_sql_number(file->db, "PRAGMA page_size"));
}

/* Of ids, the first that stays when of what is before `limit` at most some is deleted. */
static enum result find_limit(struct store_file *file, unsigned char limit[16], uint64_t stories,
                              uint64_t bundles, struct error *err)
{
    static const char sql[] =
        "SELECT min(?1, coalesce((SELECT id FROM stories ORDER BY id LIMIT 1 OFFSET ?2), ?1),"
        " coalesce((SELECT first FROM spans ORDER BY first LIMIT 1 OFFSET ?3), ?1))";
    sqlite3_stmt *statement = NULL;
    enum result result = OK;
    if (!prepare(file, sql, &statement) ||
        sqlite3_bind_blob(statement, 1, limit, 16, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_int(statement, 2, (int)stories) != SQLITE_OK ||
        sqlite3_bind_int(statement, 3, (int)bundles) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW || sqlite3_column_bytes(statement, 0) != 16)
        result = store_file_failed(file, err);
    else
        memcpy(limit, sqlite3_column_blob(statement, 0), 16);
    sqlite3_finalize(statement);
    return result;
}

static enum result delete_by(struct store_file *file, const char *sql,
                             const unsigned char limit[16], struct error *err)
{
    sqlite3_stmt *statement = NULL;
    enum result result = OK;
    if (!prepare(file, sql, &statement) ||
        sqlite3_bind_blob(statement, 1, limit, 16, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_DONE)
        result = store_file_failed(file, err);
    sqlite3_finalize(statement);
    return result;
}

/* Delete the oldest rows, at most some, and of those only with an id before `limit`. A bundle goes
 * with its first story. */
static enum result delete_before(struct store_file *file, unsigned char limit[16], uint64_t stories,
                                 uint64_t bundles, struct error *err)
{
    if (find_limit(file, limit, stories, bundles, err) != OK || run(file, "BEGIN", err) != OK)
        return FAILED;
    enum result result = delete_by(file, "DELETE FROM stories WHERE id < ?1", limit, err);
    if (result == OK)
        result = delete_by(file,
                           "DELETE FROM bundles WHERE bundle IN"
                           " (SELECT bundle FROM spans WHERE first < ?1)",
                           limit, err);
    if (result == OK)
        result = delete_by(file, "DELETE FROM spans WHERE first < ?1", limit, err);
    if (result == OK)
        result = store_file_commit(file, err);
    if (result != OK)
        store_file_undo(file);
    return result;
}

/* Milliseconds in the id of the oldest story; 0 without any. */
static int64_t oldest_story_ms(struct store_file *file)
{
    sqlite3_stmt *statement = NULL;
    int64_t oldest_ms = 0;
    if (prepare(file,
                "SELECT min(coalesce((SELECT id FROM stories ORDER BY id LIMIT 1), x'ff'),"
                " coalesce((SELECT first FROM spans ORDER BY first LIMIT 1), x'ff'))",
                &statement) &&
        sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_bytes(statement, 0) == 16)
        oldest_ms = mail_id_time_ms(store_id_of(sqlite3_column_blob(statement, 0)));
    sqlite3_finalize(statement);
    return oldest_ms;
}

/* Segments of the index whose newest story is gone. */
static enum result forget_words(struct store_file *file, struct error *err)
{
    char sql[256];
    long long oldest_ms = (long long)oldest_story_ms(file);
    snprintf(sql, sizeof sql,
             "DELETE FROM words WHERE segment IN"
             " (SELECT segment FROM segments WHERE newest_ms < %lld);"
             "DELETE FROM segments WHERE newest_ms < %lld",
             oldest_ms, oldest_ms);
    return run(file, sql, err);
}

static uint64_t at_most(uint64_t count, uint64_t most)
{
    return count < most ? count : most;
}

enum result store_file_tend(struct store_file *file, int64_t oldest_ms, uint64_t size,
                            uint64_t *out_bytes, struct error *err)
{
    unsigned char limit[16];
    *out_bytes = bytes_in_use(file);
    bool too_much = *out_bytes > size;
    uint64_t stories = DELETE_MAX;
    uint64_t bundles = DELETE_BUNDLES_MAX;
    if (store_index_tend(file, too_much, err) != OK)
        return FAILED;
    if (too_much) {
        memset(limit, 0xff, sizeof limit);
        stories = at_most((*out_bytes - size) / STORY_BYTES + 1, stories);
        bundles = at_most((*out_bytes - size) / BUNDLE_BYTES + 1, bundles);
    } else {
        store_id_bytes((struct mail_id){.high = (uint64_t)oldest_ms << 16}, limit);
    }
    int64_t before_ms = oldest_story_ms(file);
    if (before_ms == 0 || (!too_much && before_ms >= oldest_ms))
        return OK;
    if (delete_before(file, limit, stories, bundles, err) != OK)
        return FAILED;
    return forget_words(file, err);
}
