/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/outbox.c - webhooks.db: a row a delivery, and one a webhook that is paused or disabled.
 */
#include "webhook/outbox.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 2000 };

enum statement {
    PUT,
    NOTE,
    FIRST,
    GET_ROW,
    GET_ID,
    LIST,
    BACKLOG,
    AGE,
    DROP,
    DROP_SIZE,
    EXPIRE,
    RELEASE,
    FORGET,
    MARKS,
    MARK,
    STATEMENTS
};

#define COLUMNS                                                                                    \
    "delivery, id, webhook, type, state, attempts, created_ms, next_ms, last_ms, status, "         \
    "took_ms, error, answer, held_up"
#define OLDEST                                                                                     \
    " FROM deliveries WHERE delivery IN (SELECT delivery FROM deliveries WHERE webhook = ?1"       \
    " AND state = 0 ORDER BY delivery LIMIT ?2)"

static const char *const texts[STATEMENTS] = {
    [PUT] = "INSERT INTO deliveries(id, webhook, type, body, size, state, attempts, created_ms,"
            " next_ms, last_ms, status, took_ms, error, answer, held_up)"
            " VALUES(?1, ?2, ?3, ?4, length(?4), ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    [NOTE] = "UPDATE deliveries SET state = ?2, attempts = ?3, next_ms = ?4, last_ms = ?5,"
             " status = ?6, took_ms = ?7, error = ?8, answer = ?9, held_up = ?10"
             " WHERE delivery = ?1",
    [FIRST] = "SELECT delivery, next_ms FROM deliveries WHERE webhook = ?1 AND state = 0"
              " ORDER BY next_ms, delivery LIMIT ?2",
    [GET_ROW] = "SELECT " COLUMNS ", body FROM deliveries WHERE delivery = ?1",
    [GET_ID] = "SELECT " COLUMNS ", body FROM deliveries WHERE id = ?1",
    [LIST] = "SELECT " COLUMNS " FROM deliveries WHERE webhook = ?1 AND (?2 < 0 OR state = ?2)"
             " AND delivery < ?3 ORDER BY delivery DESC LIMIT ?4",
    [BACKLOG] = "SELECT count(*), total(size) FROM deliveries"
                " WHERE webhook = ?1 AND state = 0",
    [AGE] = "SELECT created_ms FROM deliveries WHERE webhook = ?1 AND state = 0"
            " ORDER BY delivery LIMIT 1",
    [DROP] = "DELETE" OLDEST,
    [DROP_SIZE] = "SELECT total(size)" OLDEST,
    [EXPIRE] = "UPDATE deliveries SET state = 2, error = 'given up: ' || error"
               " WHERE delivery IN (SELECT delivery FROM deliveries WHERE webhook = ?1"
               " AND state = 0 ORDER BY delivery LIMIT 1000)"
               " AND attempts > 0 AND created_ms + ?3 < ?2 AND next_ms <= created_ms + ?3",
    [RELEASE] = "UPDATE deliveries SET next_ms = ?2, held_up = 0"
                " WHERE webhook = ?1 AND state = 0 AND held_up = 1",
    [FORGET] = "DELETE FROM deliveries WHERE webhook = ?1 AND state <> 0 AND delivery <="
               " (SELECT delivery FROM deliveries WHERE webhook = ?1 AND state <> 0"
               "  ORDER BY delivery DESC LIMIT 1 OFFSET ?2)",
    [MARKS] = "SELECT webhook, paused, disabled, since_ms, by, url FROM marks UNION ALL"
              " SELECT DISTINCT webhook, 0, 0, 0, '', '' FROM deliveries"
              " WHERE webhook NOT IN (SELECT webhook FROM marks)",
    [MARK] = "INSERT OR REPLACE INTO marks VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
};

struct webhook_outbox {
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENTS];
    bool damaged;
    char path[4096];
};

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;" /* a sync now and then, none a delivery: mail needs the disk */
    "PRAGMA journal_size_limit = 8388608;"
    "CREATE TABLE IF NOT EXISTS deliveries(delivery INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT,"
    " webhook TEXT, type TEXT, body BLOB, size INTEGER, state INTEGER, attempts INTEGER,"
    " created_ms INTEGER, next_ms INTEGER, last_ms INTEGER, status INTEGER, took_ms INTEGER,"
    " error TEXT, answer TEXT, held_up INTEGER);"
    "CREATE INDEX IF NOT EXISTS by_time ON deliveries(webhook, next_ms, delivery)"
    " WHERE state = 0;"
    "CREATE INDEX IF NOT EXISTS by_age ON deliveries(webhook, state, delivery);"
    "CREATE UNIQUE INDEX IF NOT EXISTS by_id ON deliveries(id);"
    "CREATE TABLE IF NOT EXISTS marks(webhook TEXT PRIMARY KEY, paused INTEGER, disabled INTEGER,"
    " since_ms INTEGER, by TEXT, url TEXT) WITHOUT ROWID;";

static enum result failed(struct webhook_outbox *outbox, struct error *err)
{
    int code = outbox->db ? sqlite3_errcode(outbox->db) & 0xff : SQLITE_NOMEM;
    outbox->damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
    return fail(err, ERROR_TEMPORARY, "webhooks.db: %s",
                outbox->db ? sqlite3_errmsg(outbox->db) : "no memory");
}

static enum result run(struct webhook_outbox *outbox, const char *sql, struct error *err)
{
    return sqlite3_exec(outbox->db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK : failed(outbox, err);
}

/* ---- open and close ---- */

static void close_file(struct webhook_outbox *outbox)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(outbox->statements[i]);
        outbox->statements[i] = NULL;
    }
    sqlite3_close(outbox->db);
    outbox->db = NULL;
}

static enum result open_file(struct webhook_outbox *outbox, struct error *err)
{
    mode_t before = umask(0077);
    int code =
        sqlite3_open_v2(outbox->path, &outbox->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    umask(before);
    if (code != SQLITE_OK)
        return failed(outbox, err);
    sqlite3_busy_timeout(outbox->db, BUSY_MS);
    if (run(outbox, schema, err) != OK)
        return FAILED;
    outbox->damaged = true; /* tables of other columns */
    for (size_t i = 0; i < STATEMENTS; i++)
        if (sqlite3_prepare_v3(outbox->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &outbox->statements[i], NULL) != SQLITE_OK)
            return fail(err, ERROR_TEMPORARY, "webhooks.db: %s", sqlite3_errmsg(outbox->db));
    outbox->damaged = false;
    return OK;
}

static void set_aside(const struct webhook_outbox *outbox)
{
    char other[sizeof outbox->path + 64];
    snprintf(other, sizeof other, "%s.damaged-%lld", outbox->path,
             (long long)(clock_wall_ns() / NS_PER_S));
    if (rename(outbox->path, other) != 0)
        unlink(outbox->path);
    for (int i = 0; i < 2; i++) { /* they belong to the file that was */
        snprintf(other, sizeof other, "%s-%s", outbox->path, i ? "wal" : "shm");
        unlink(other);
    }
}

enum result webhook_outbox_open(const char *path, struct webhook_outbox **out_outbox,
                                bool *out_aside, struct error *err)
{
    struct webhook_outbox *outbox = NEW(struct webhook_outbox);
    snprintf(outbox->path, sizeof outbox->path, "%s", path);
    *out_aside = false;
    enum result result = open_file(outbox, err);
    if (result != OK && outbox->damaged) {
        close_file(outbox);
        set_aside(outbox);
        *out_aside = true;
        result = open_file(outbox, err);
    }
    if (result != OK) {
        webhook_outbox_close(outbox);
        return FAILED;
    }
    *out_outbox = outbox;
    return OK;
}

void webhook_outbox_close(struct webhook_outbox *outbox)
{
    if (!outbox)
        return;
    close_file(outbox);
    free(outbox);
}

bool webhook_outbox_is_damaged(const struct webhook_outbox *outbox)
{
    return outbox->damaged;
}

void webhook_outbox_set_aside(struct webhook_outbox *outbox)
{
    close_file(outbox);
    set_aside(outbox);
    webhook_outbox_close(outbox);
}

/* ---- statements ---- */

static void bind_text(sqlite3_stmt *statement, int place, struct str text)
{
    sqlite3_bind_text(statement, place, text.len ? text.ptr : "", (int)text.len, SQLITE_STATIC);
}

/* One that gives no rows. */
static enum result step(struct webhook_outbox *outbox, enum statement which, struct error *err)
{
    sqlite3_stmt *statement = outbox->statements[which];
    int number = fault_hit(which == PUT    ? "webhook.put"
                           : which == NOTE ? "webhook.note"
                                           : "webhook.other");
    enum result result = number ? fail_errno(err, number, "webhooks.db")
                         : sqlite3_step(statement) == SQLITE_DONE ? OK
                                                                  : failed(outbox, err);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result;
}

/* After the last row. */
static enum result finish(struct webhook_outbox *outbox, enum statement which, int code,
                          struct error *err)
{
    enum result result = code == SQLITE_DONE || code == SQLITE_ROW ? OK : failed(outbox, err);
    sqlite3_reset(outbox->statements[which]);
    sqlite3_clear_bindings(outbox->statements[which]);
    return result;
}

static struct str column(sqlite3_stmt *statement, int index, struct arena *arena)
{
    const void *bytes = sqlite3_column_blob(statement, index);
    return bytes ? arena_str(arena, str_of(bytes, (size_t)sqlite3_column_bytes(statement, index)))
                 : STR_EMPTY;
}

enum result webhook_outbox_begin(struct webhook_outbox *outbox, struct error *err)
{
    return run(outbox, "BEGIN IMMEDIATE", err);
}

enum result webhook_outbox_end(struct webhook_outbox *outbox, bool good, struct error *err)
{
    enum result result = good ? run(outbox, "COMMIT", err) : FAILED;
    if (result != OK)
        sqlite3_exec(outbox->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

/* ---- deliveries ---- */

enum result webhook_outbox_put(struct webhook_outbox *outbox,
                               const struct webhook_delivery *delivery, struct error *err)
{
    sqlite3_stmt *put = outbox->statements[PUT];
    bind_text(put, 1, delivery->id);
    bind_text(put, 2, delivery->webhook);
    bind_text(put, 3, delivery->type);
    sqlite3_bind_blob(put, 4, delivery->body.ptr, (int)delivery->body.len, SQLITE_STATIC);
    sqlite3_bind_int(put, 5, (int)delivery->state);
    sqlite3_bind_int64(put, 6, delivery->attempts);
    sqlite3_bind_int64(put, 7, delivery->created_ms);
    sqlite3_bind_int64(put, 8, delivery->next_ms);
    sqlite3_bind_int64(put, 9, delivery->last_ms);
    sqlite3_bind_int64(put, 10, delivery->status);
    sqlite3_bind_int64(put, 11, delivery->took_ms);
    bind_text(put, 12, delivery->error);
    bind_text(put, 13, delivery->answer);
    sqlite3_bind_int(put, 14, delivery->is_held_up);
    return step(outbox, PUT, err);
}

enum result webhook_outbox_note(struct webhook_outbox *outbox,
                                const struct webhook_delivery *delivery, bool *out_found,
                                struct error *err)
{
    sqlite3_stmt *note = outbox->statements[NOTE];
    sqlite3_bind_int64(note, 1, delivery->row);
    sqlite3_bind_int(note, 2, (int)delivery->state);
    sqlite3_bind_int64(note, 3, delivery->attempts);
    sqlite3_bind_int64(note, 4, delivery->next_ms);
    sqlite3_bind_int64(note, 5, delivery->last_ms);
    sqlite3_bind_int64(note, 6, delivery->status);
    sqlite3_bind_int64(note, 7, delivery->took_ms);
    bind_text(note, 8, delivery->error);
    bind_text(note, 9, delivery->answer);
    sqlite3_bind_int(note, 10, delivery->is_held_up);
    if (step(outbox, NOTE, err) != OK)
        return FAILED;
    *out_found = sqlite3_changes(outbox->db) > 0;
    return OK;
}

enum result webhook_outbox_first(struct webhook_outbox *outbox, struct str webhook, size_t most,
                                 struct webhook_delivery *out, size_t *out_count, struct error *err)
{
    sqlite3_stmt *first = outbox->statements[FIRST];
    int code = SQLITE_DONE;
    *out_count = 0;
    bind_text(first, 1, webhook);
    sqlite3_bind_int64(first, 2, (int64_t)most);
    while (*out_count < most && (code = sqlite3_step(first)) == SQLITE_ROW)
        out[(*out_count)++] = (struct webhook_delivery){.row = sqlite3_column_int64(first, 0),
                                                        .next_ms = sqlite3_column_int64(first, 1)};
    return finish(outbox, FIRST, code, err);
}

static void take_row(sqlite3_stmt *statement, struct arena *arena, struct webhook_delivery *out)
{
    *out = (struct webhook_delivery){
        .row = sqlite3_column_int64(statement, 0),
        .id = column(statement, 1, arena),
        .webhook = column(statement, 2, arena),
        .type = column(statement, 3, arena),
        .body = STR_EMPTY,
        .state = (enum webhook_state)sqlite3_column_int(statement, 4),
        .attempts = (unsigned)sqlite3_column_int(statement, 5),
        .created_ms = sqlite3_column_int64(statement, 6),
        .next_ms = sqlite3_column_int64(statement, 7),
        .last_ms = sqlite3_column_int64(statement, 8),
        .status = (unsigned)sqlite3_column_int(statement, 9),
        .took_ms = sqlite3_column_int64(statement, 10),
        .error = column(statement, 11, arena),
        .answer = column(statement, 12, arena),
        .is_held_up = sqlite3_column_int(statement, 13),
    };
}

enum result webhook_outbox_get(struct webhook_outbox *outbox, int64_t row, struct str id,
                               struct arena *arena, struct webhook_delivery *out, bool *out_found,
                               struct error *err)
{
    enum { BODY = 14 };
    enum statement which = row ? GET_ROW : GET_ID;
    sqlite3_stmt *get = outbox->statements[which];
    if (row)
        sqlite3_bind_int64(get, 1, row);
    else
        bind_text(get, 1, id);
    int code = sqlite3_step(get);
    *out_found = code == SQLITE_ROW;
    if (*out_found) {
        take_row(get, arena, out);
        out->body = column(get, BODY, arena);
    }
    return finish(outbox, which, code, err);
}

enum result webhook_outbox_list(struct webhook_outbox *outbox, struct str webhook, int state,
                                int64_t before, size_t most, struct arena *arena,
                                struct webhook_delivery *out, size_t *out_count, struct error *err)
{
    sqlite3_stmt *list = outbox->statements[LIST];
    int code = SQLITE_DONE;
    *out_count = 0;
    bind_text(list, 1, webhook);
    sqlite3_bind_int(list, 2, state);
    sqlite3_bind_int64(list, 3, before ? before : INT64_MAX);
    sqlite3_bind_int64(list, 4, (int64_t)most);
    while (*out_count < most && (code = sqlite3_step(list)) == SQLITE_ROW)
        take_row(list, arena, &out[(*out_count)++]);
    return finish(outbox, LIST, code, err);
}

enum result webhook_outbox_backlog(struct webhook_outbox *outbox, struct str webhook,
                                   struct webhook_backlog *out, struct error *err)
{
    sqlite3_stmt *backlog = outbox->statements[BACKLOG];
    bind_text(backlog, 1, webhook);
    int code = sqlite3_step(backlog);
    if (code == SQLITE_ROW)
        *out = (struct webhook_backlog){
            .count = (uint64_t)sqlite3_column_int64(backlog, 0),
            .bytes = (uint64_t)sqlite3_column_int64(backlog, 1),
        };
    return finish(outbox, BACKLOG, code, err);
}

int64_t webhook_outbox_oldest_ms(struct webhook_outbox *outbox, struct str webhook)
{
    sqlite3_stmt *age = outbox->statements[AGE];
    bind_text(age, 1, webhook);
    int code = sqlite3_step(age);
    int64_t created_ms = code == SQLITE_ROW ? sqlite3_column_int64(age, 0) : 0;
    (void)!finish(outbox, AGE, code, NULL);
    return created_ms;
}

enum result webhook_outbox_drop(struct webhook_outbox *outbox, struct str webhook, uint64_t count,
                                uint64_t *out_bytes, struct error *err)
{
    static const enum statement both[2] = {DROP_SIZE, DROP};
    for (size_t i = 0; i < 2; i++) {
        bind_text(outbox->statements[both[i]], 1, webhook);
        sqlite3_bind_int64(outbox->statements[both[i]], 2, (int64_t)count);
    }
    int code = sqlite3_step(outbox->statements[DROP_SIZE]);
    *out_bytes =
        code == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(outbox->statements[DROP_SIZE], 0) : 0;
    if (finish(outbox, DROP_SIZE, code, err) != OK)
        return FAILED;
    return step(outbox, DROP, err);
}

enum result webhook_outbox_expire(struct webhook_outbox *outbox, struct str webhook, int64_t now_ms,
                                  int64_t life_ms, uint64_t *out_count, struct error *err)
{
    bind_text(outbox->statements[EXPIRE], 1, webhook);
    sqlite3_bind_int64(outbox->statements[EXPIRE], 2, now_ms);
    sqlite3_bind_int64(outbox->statements[EXPIRE], 3, life_ms);
    if (step(outbox, EXPIRE, err) != OK)
        return FAILED;
    *out_count = (uint64_t)sqlite3_changes(outbox->db);
    return OK;
}

enum result webhook_outbox_release(struct webhook_outbox *outbox, struct str webhook,
                                   int64_t now_ms, struct error *err)
{
    bind_text(outbox->statements[RELEASE], 1, webhook);
    sqlite3_bind_int64(outbox->statements[RELEASE], 2, now_ms);
    return step(outbox, RELEASE, err);
}

enum result webhook_outbox_forget(struct webhook_outbox *outbox, struct str webhook, uint64_t keep,
                                  struct error *err)
{
    bind_text(outbox->statements[FORGET], 1, webhook);
    sqlite3_bind_int64(outbox->statements[FORGET], 2, (int64_t)keep);
    return step(outbox, FORGET, err);
}

/* ---- webhooks ---- */

enum result webhook_outbox_marks(struct webhook_outbox *outbox, struct arena *arena,
                                 struct webhook_mark out[WEBHOOK_MARKS_MAX], size_t *out_count,
                                 struct error *err)
{
    sqlite3_stmt *marks = outbox->statements[MARKS];
    int code = SQLITE_DONE;
    *out_count = 0;
    while (*out_count < WEBHOOK_MARKS_MAX && (code = sqlite3_step(marks)) == SQLITE_ROW)
        out[(*out_count)++] = (struct webhook_mark){
            .webhook = column(marks, 0, arena),
            .is_paused = sqlite3_column_int(marks, 1),
            .is_disabled = sqlite3_column_int(marks, 2),
            .since_ms = sqlite3_column_int64(marks, 3),
            .by = column(marks, 4, arena),
            .where = column(marks, 5, arena),
        };
    return finish(outbox, MARKS, code, err);
}

enum result webhook_outbox_mark(struct webhook_outbox *outbox, const struct webhook_mark *mark,
                                struct error *err)
{
    sqlite3_stmt *statement = outbox->statements[MARK];
    bind_text(statement, 1, mark->webhook);
    sqlite3_bind_int(statement, 2, mark->is_paused);
    sqlite3_bind_int(statement, 3, mark->is_disabled);
    sqlite3_bind_int64(statement, 4, mark->since_ms);
    bind_text(statement, 5, mark->by);
    bind_text(statement, 6, mark->where);
    return step(outbox, MARK, err);
}

enum result webhook_outbox_remove(struct webhook_outbox *outbox, struct str webhook,
                                  struct error *err)
{
    static const char *const all[] = {"DELETE FROM deliveries WHERE webhook = ?1",
                                      "DELETE FROM marks WHERE webhook = ?1"};
    for (size_t i = 0; i < 2; i++) {
        sqlite3_stmt *statement = NULL;
        int code = sqlite3_prepare_v2(outbox->db, all[i], -1, &statement, NULL);
        if (code == SQLITE_OK) {
            bind_text(statement, 1, webhook);
            code = sqlite3_step(statement);
        }
        sqlite3_finalize(statement);
        if (code != SQLITE_DONE)
            return failed(outbox, err);
    }
    return OK;
}
