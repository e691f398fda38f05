/* SPDX-License-Identifier: Apache-2.0 */
/* history/store_index.c - how entries of the index become sorted segments, and few of them. */
#include "history/store_file.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FRESH_MAX = 131072, /* entries that wait unsorted */
    SEGMENTS_MAX = 512, /* of the lower level; then the oldest are merged */
    MERGE = 8,          /* into one of the higher: a third of a second of work */
    PAGE_ENTRIES = 83,  /* in a row: four fill a page of the file; one more would spill each */
};

uint64_t store_entry_word(const char *entry)
{
    uint64_t word;
    memcpy(&word, entry, sizeof word);
    return __builtin_bswap64(word); /* big-endian, so that bytes sort as numbers */
}

/*
 * Sort by word; entries of one word keep their order, which is that of time. Digit by digit, as a
 * comparison sort of millions costs more than writing them, and time that does not depend on words
 * that somebody chose.
 */
static void sort_entries(char *entries, size_t count)
{
    enum { DIGIT_BITS = 11, DIGITS = 6, VALUES = 1 << DIGIT_BITS };
    char *other = memory_alloc(count * STORE_ENTRY);
    char *from = entries;
    char *to = other;
    for (unsigned digit = 0; digit < DIGITS; digit++) {
        size_t starts[VALUES] = {0};
        unsigned shift = digit * DIGIT_BITS;
        for (size_t i = 0; i < count; i++)
            starts[store_entry_word(from + i * STORE_ENTRY) >> shift & (VALUES - 1)]++;
        size_t sum = 0;
        for (size_t value = 0; value < VALUES; value++) {
            size_t next = sum + starts[value];
            starts[value] = sum;
            sum = next;
        }
        for (size_t i = 0; i < count; i++) {
            const char *entry = from + i * STORE_ENTRY;
            size_t place = starts[store_entry_word(entry) >> shift & (VALUES - 1)]++;
            memcpy(to + place * STORE_ENTRY, entry, STORE_ENTRY);
        }
        char *swap = from;
        from = to;
        to = swap;
    }
    free(other); /* an even number of digits: the result is where it was */
}

/* Append the blobs that a query gives. */
static enum result collect(struct store_file *file, const char *sql, struct buf *out,
                           struct error *err)
{
    sqlite3_stmt *statement = NULL;
    enum result result = OK;
    if (sqlite3_prepare_v2(file->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return store_file_failed(file, err);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        buf_append(out, str_of(sqlite3_column_blob(statement, 0),
                               (size_t)sqlite3_column_bytes(statement, 0)));
    if (code != SQLITE_DONE)
        result = store_file_failed(file, err);
    sqlite3_finalize(statement);
    return result;
}

static bool put_page(sqlite3_stmt *statement, int64_t segment, int page, const char *entries,
                     size_t count)
{
    sqlite3_bind_int64(statement, 1, segment);
    sqlite3_bind_int64(statement, 2, (int64_t)store_entry_word(entries));
    sqlite3_bind_int(statement, 3, page);
    sqlite3_bind_blob(statement, 4, entries, (int)(count * STORE_ENTRY), SQLITE_STATIC);
    bool done = sqlite3_step(statement) == SQLITE_DONE;
    sqlite3_reset(statement);
    return done;
}

static int64_t newest_ms(const char *entries, size_t count)
{
    int64_t newest = 0;
    for (size_t i = 0; i < count; i++) {
        const char *id = entries + i * STORE_ENTRY + 8;
        int64_t time_ms = mail_id_time_ms(store_id_of((const unsigned char *)id));
        newest = time_ms > newest ? time_ms : newest;
    }
    return newest;
}

/* Sort and write a new segment. */
static enum result put_segment(struct store_file *file, int level, struct buf *entries,
                               struct error *err)
{
    size_t count = entries->len / STORE_ENTRY;
    sqlite3_stmt *statement = NULL;
    int64_t segment =
        store_sql_number(file->db, "SELECT coalesce(max(segment), 0) + 1 FROM segments");
    if (count == 0)
        return OK;
    sort_entries(entries->ptr, count);
    if (sqlite3_prepare_v2(file->db, "INSERT INTO words VALUES(?1, ?2, ?3, ?4)", -1, &statement,
                           NULL) != SQLITE_OK)
        return store_file_failed(file, err);
    bool good = true;
    for (size_t at = 0; at < count && good; at += PAGE_ENTRIES) {
        size_t piece = count - at < PAGE_ENTRIES ? count - at : PAGE_ENTRIES;
        good = put_page(statement, segment, (int)(at / PAGE_ENTRIES),
                        entries->ptr + at * STORE_ENTRY, piece);
    }
    sqlite3_finalize(statement);
    if (!good)
        return store_file_failed(file, err);
    char sql[160];
    snprintf(sql, sizeof sql, "INSERT INTO segments VALUES(%lld, %d, %zu, %lld)",
             (long long)segment, level, count, (long long)newest_ms(entries->ptr, count));
    if (sqlite3_exec(file->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return store_file_failed(file, err);
    return OK;
}

/* What `sql` collects becomes one segment, and `clear` removes where it was; all or nothing. */
static enum result convert(struct store_file *file, const char *sql, const char *clear, int level,
                           struct error *err)
{
    enum { ENTRIES_MAX = 64 * 1024 * 1024 };
    struct buf entries BUF_CLEANUP;
    buf_init(&entries, (size_t)ENTRIES_MAX * STORE_ENTRY);
    if (store_file_begin(file, err) != OK)
        return FAILED;
    enum result result = collect(file, sql, &entries, err);
    if (result == OK)
        result = put_segment(file, level, &entries, err);
    if (result == OK && sqlite3_exec(file->db, clear, NULL, NULL, NULL) != SQLITE_OK)
        result = store_file_failed(file, err);
    if (result == OK)
        result = store_file_commit(file, err);
    if (result != OK)
        store_file_undo(file);
    return result;
}

/* To ask each segment takes microseconds, to merge them costs mail's CPU: only many are merged. */
static enum result merge_oldest(struct store_file *file, struct error *err)
{
    char collect_sql[256];
    char clear[512];
    char chosen[128];
    snprintf(chosen, sizeof chosen,
             "(SELECT segment FROM segments WHERE level = 0 ORDER BY segment LIMIT %d)", MERGE);
    snprintf(collect_sql, sizeof collect_sql,
             "SELECT entries FROM words WHERE segment IN %s ORDER BY segment, first, page", chosen);
    snprintf(clear, sizeof clear,
             "DELETE FROM words WHERE segment IN %s; DELETE FROM segments WHERE segment IN %s",
             chosen, chosen);
    return convert(file, collect_sql, clear, 1, err);
}

bool store_index_is_due(const struct store_file *file)
{
    return file->fresh >= (file->fresh_max ? file->fresh_max : FRESH_MAX);
}

enum result store_index_tend(struct store_file *file, bool now, struct error *err)
{
    if (store_index_is_due(file) || (now && file->fresh >= FRESH_MAX / 16)) {
        if (convert(file, "SELECT entries FROM fresh ORDER BY batch", "DELETE FROM fresh", 0,
                    err) != OK)
            return FAILED;
        file->fresh = 0;
    }
    uint64_t segments =
        (uint64_t)store_sql_number(file->db, "SELECT count(*) FROM segments WHERE level = 0");
    if (segments <= (file->segments_max ? file->segments_max : SEGMENTS_MAX))
        return OK;
    return merge_oldest(file, err);
}
