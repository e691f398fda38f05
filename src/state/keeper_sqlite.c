/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/keeper_sqlite.c - state.db: one table, a row a count or an answer.
 *
 * A power cut may lose the last moments: these are counts, not mail.
 */
#include "state/keeper.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/memory.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 2000, FORGET_MAX = 5000 };

struct keeper {
    struct state_keeper keeper;
    sqlite3 *db;
    sqlite3_stmt *put;
    sqlite3_stmt *drop;
    char path[4096];
};

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA journal_size_limit = 8388608;"
    "CREATE TABLE IF NOT EXISTS records(kind INTEGER, key BLOB, value BLOB, until_ms INTEGER,"
    " PRIMARY KEY(kind, key)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS by_end ON records(until_ms);";

static enum result failed(const struct keeper *self, struct error *err)
{
    return fail(err, ERROR_TEMPORARY, "%s: %s", self->path,
                self->db ? sqlite3_errmsg(self->db) : "no memory");
}

static bool is_damaged(const struct keeper *self)
{
    int code = self->db ? sqlite3_errcode(self->db) & 0xff : SQLITE_OK;
    return code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
}

static enum result run(struct keeper *self, const char *sql, struct error *err)
{
    return sqlite3_exec(self->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK : failed(self, err);
}

static void close_file(struct keeper *self)
{
    sqlite3_finalize(self->put);
    sqlite3_finalize(self->drop);
    sqlite3_close(self->db);
    self->put = self->drop = NULL;
    self->db = NULL;
}

static enum result open_file(struct keeper *self, struct error *err)
{
    mode_t before = umask(0077);
    int code =
        sqlite3_open_v2(self->path, &self->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    umask(before);
    if (code != SQLITE_OK)
        return failed(self, err);
    sqlite3_busy_timeout(self->db, BUSY_MS);
    if (run(self, schema, err) != OK)
        return FAILED;
    if (sqlite3_prepare_v2(self->db, "INSERT OR REPLACE INTO records VALUES(?1, ?2, ?3, ?4)", -1,
                           &self->put, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(self->db, "DELETE FROM records WHERE kind = ?1 AND key = ?2", -1,
                           &self->drop, NULL) != SQLITE_OK)
        return failed(self, err);
    return OK;
}

static void set_aside(struct keeper *self)
{
    char other[sizeof self->path + 64];
    snprintf(other, sizeof other, "%s.damaged-%lld", self->path,
             (long long)(clock_wall_ns() / NS_PER_S));
    if (rename(self->path, other) != 0)
        unlink(self->path);
    for (int i = 0; i < 2; i++) { /* they belong to the file that was */
        snprintf(other, sizeof other, "%s-%s", self->path, i ? "wal" : "shm");
        unlink(other);
    }
}

/* ---- the four functions ---- */

static struct str column(sqlite3_stmt *statement, int index)
{
    const void *bytes = sqlite3_column_blob(statement, index);
    return bytes ? str_of(bytes, (size_t)sqlite3_column_bytes(statement, index)) : STR_EMPTY;
}

static enum result load(struct state_keeper *keeper, int64_t now_ms, state_take_record *each,
                        void *arg, struct error *err)
{
    struct keeper *self = CONTAINER(keeper, struct keeper, keeper);
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(self->db,
                           "SELECT kind, key, value, until_ms FROM records WHERE until_ms > ?1"
                           " ORDER BY until_ms",
                           -1, &statement, NULL) != SQLITE_OK)
        return failed(self, err);
    sqlite3_bind_int64(statement, 1, now_ms);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        int kind = sqlite3_column_int(statement, 0);
        if (kind < STATE_RECORD_LIMIT || kind > STATE_RECORD_FACT)
            continue;
        struct state_record record = {.kind = (enum state_record_kind)kind,
                                      .key = column(statement, 1),
                                      .value = column(statement, 2),
                                      .until_ms = sqlite3_column_int64(statement, 3)};
        each(&record, arg);
    }
    enum result result = code == SQLITE_DONE ? OK : failed(self, err);
    sqlite3_finalize(statement);
    return result;
}

static enum result store_one(struct keeper *self, const struct state_record *record,
                             struct error *err)
{
    sqlite3_stmt *statement = record->until_ms ? self->put : self->drop;
    sqlite3_bind_int(statement, 1, (int)record->kind);
    sqlite3_bind_blob(statement, 2, record->key.ptr, (int)record->key.len, SQLITE_STATIC);
    if (record->until_ms) {
        sqlite3_bind_blob(statement, 3, record->value.ptr, (int)record->value.len, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 4, record->until_ms);
    }
    enum result result = sqlite3_step(statement) == SQLITE_DONE ? OK : failed(self, err);
    sqlite3_reset(statement);
    return result;
}

static enum result store(struct state_keeper *keeper, const struct state_record *records,
                         size_t count, struct error *err)
{
    struct keeper *self = CONTAINER(keeper, struct keeper, keeper);
    if (run(self, "BEGIN IMMEDIATE", err) != OK)
        return FAILED;
    enum result result = OK;
    for (size_t i = 0; i < count && result == OK; i++)
        result = store_one(self, &records[i], err);
    if (result == OK)
        result = run(self, "COMMIT", err);
    if (result != OK)
        sqlite3_exec(self->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

static enum result tend(struct state_keeper *keeper, int64_t now_ms, size_t most, struct error *err)
{
    struct keeper *self = CONTAINER(keeper, struct keeper, keeper);
    char sql[512];
    snprintf(sql, sizeof sql,
             "DELETE FROM records WHERE (kind, key) IN"
             " (SELECT kind, key FROM records WHERE until_ms <= %lld ORDER BY until_ms LIMIT %d);"
             "DELETE FROM records WHERE (kind, key) IN"
             " (SELECT kind, key FROM records WHERE kind < %d ORDER BY until_ms"
             "  LIMIT min(%d, max(0, (SELECT count(*) FROM records WHERE kind < %d) - %zu)));",
             (long long)now_ms, FORGET_MAX, STATE_RECORD_SECRET, FORGET_MAX, STATE_RECORD_SECRET,
             most);
    return run(self, sql, err);
}

static void close_keeper(struct state_keeper *keeper)
{
    struct keeper *self = CONTAINER(keeper, struct keeper, keeper);
    close_file(self);
    free(self);
}

static const struct state_keeper_ops ops = {
    .load = load, .store = store, .tend = tend, .close = close_keeper};

enum result state_keeper_open_sqlite(const char *path, struct state_keeper **out_keeper,
                                     bool *out_aside, struct error *err)
{
    struct keeper *self = NEW(struct keeper);
    self->keeper.ops = &ops;
    snprintf(self->path, sizeof self->path, "%s", path);
    *out_aside = false;
    enum result result = open_file(self, err);
    if (result != OK && is_damaged(self)) {
        close_file(self);
        set_aside(self);
        *out_aside = true;
        result = open_file(self, err);
    }
    if (result != OK) {
        close_keeper(&self->keeper);
        return FAILED;
    }
    *out_keeper = &self->keeper;
    return OK;
}
