/* SPDX-License-Identifier: Apache-2.0 */
/* history/store_story.c - stories, from rows of their own and from bundles. */
#include "history/store_reader.h"
#include "history/store_text.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    BUNDLE_READ_MAX = 4 * 1024 * 1024,
    WAITING_MAX = 16 * 1024 * 1024,
    WINDOW_MAX = 4 * 1024 * 1024
};

bool store_step(struct store_reader *reader, sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);
    int kind = code & 0xff;
    reader->is_damaged = reader->is_damaged || kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB;
    return code == SQLITE_ROW;
}

/* ---- open ---- */

static bool load_dictionaries(struct store_reader *reader)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(reader->db,
                           "SELECT version, names FROM dictionaries ORDER BY version DESC", -1,
                           &statement, NULL) != SQLITE_OK)
        return false;
    while (reader->dictionary_count < STORE_DICTIONARIES_MAX && store_step(reader, statement)) {
        struct str names = str_of((const char *)sqlite3_column_text(statement, 1),
                                  (size_t)sqlite3_column_bytes(statement, 1));
        dictionary_parse(names, (uint64_t)sqlite3_column_int64(statement, 0),
                         &reader->dictionaries[reader->dictionary_count++]);
    }
    sqlite3_finalize(statement);
    return true;
}

static bool prepare(const struct store_reader *reader, const char *sql, sqlite3_stmt **out)
{
    return sqlite3_prepare_v2(reader->db, sql, -1, out, NULL) == SQLITE_OK;
}

static bool prepare_all(struct store_reader *reader)
{
    return prepare(reader, "SELECT part, events FROM stories WHERE id = ?1 ORDER BY part",
                   &reader->rows) &&
           prepare(reader,
                   "SELECT bundle FROM spans WHERE first BETWEEN ?2 AND ?1 AND last >= ?1"
                   " ORDER BY bundle",
                   &reader->spans) &&
           prepare(reader,
                   "SELECT first, last, bundle FROM spans WHERE first BETWEEN ?1 AND ?2"
                   " ORDER BY first DESC",
                   &reader->begun) &&
           prepare(reader, "SELECT events FROM bundles WHERE bundle = ?1", &reader->bundle);
}

enum result store_reader_open(struct store *store, struct store_reader **out_reader,
                              struct error *err)
{
    enum { BUSY_MS = 2000 };
    struct store_reader *reader = NEW(struct store_reader);
    reader->store = store;
    for (unsigned i = 0; i < STORE_BUNDLES_KEPT; i++)
        buf_init(&reader->kept[i].bytes, BUNDLE_READ_MAX);
    buf_init(&reader->window.spans, WINDOW_MAX);
    store_sync(store);
    if (sqlite3_open_v2(store->file.path, &reader->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(reader->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(reader->db, "PRAGMA query_only = 1; BEGIN", NULL, NULL, NULL) != SQLITE_OK ||
        !load_dictionaries(reader) || !prepare_all(reader)) {
        int code = sqlite3_errcode(reader->db) & 0xff;
        reader->is_damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
        enum result result = store_sql_fail(reader->db, err);
        store_reader_close(reader);
        return result;
    }
    *out_reader = reader;
    return OK;
}

void store_reader_close(struct store_reader *reader)
{
    if (!reader)
        return;
    if (reader->is_damaged)
        atomic_store(&reader->store->is_damaged, true);
    sqlite3_finalize(reader->rows);
    sqlite3_finalize(reader->spans);
    sqlite3_finalize(reader->bundle);
    sqlite3_finalize(reader->begun);
    buf_done(&reader->window.spans);
    for (unsigned i = 0; i < STORE_BUNDLES_KEPT; i++)
        buf_done(&reader->kept[i].bytes);
    sqlite3_close(reader->db);
    free(reader);
}

/* ---- bundles ---- */

struct str store_bundle_of(struct store_reader *reader, int64_t number)
{
    for (unsigned i = 0; i < STORE_BUNDLES_KEPT; i++) {
        if (reader->kept[i].number == number)
            return buf_str(&reader->kept[i].bytes);
    }
    struct kept_bundle *kept = &reader->kept[reader->next_kept++ % STORE_BUNDLES_KEPT];
    buf_clear(&kept->bytes);
    sqlite3_bind_int64(reader->bundle, 1, number);
    if (store_step(reader, reader->bundle))
        buf_append(&kept->bytes, str_of(sqlite3_column_blob(reader->bundle, 0),
                                        (size_t)sqlite3_column_bytes(reader->bundle, 0)));
    sqlite3_reset(reader->bundle);
    kept->number = number;
    return buf_str(&kept->bytes);
}

/* ---- a story ---- */

static const struct dictionary *dictionary_of(const struct store_reader *reader, uint64_t version)
{
    for (size_t i = 0; i < reader->dictionary_count; i++) {
        if (reader->dictionaries[i].version == version)
            return &reader->dictionaries[i];
    }
    return NULL;
}

static bool read_packed(const struct store_reader *reader, struct str bytes,
                        const struct str *bases, size_t base_count, store_take_event *take_one,
                        void *arg)
{
    uint64_t version;
    const struct dictionary *dictionary =
        pack_version(bytes, &version) ? dictionary_of(reader, version) : NULL;
    if (!dictionary)
        return false;
    pack_read(bytes, bases, base_count, dictionary, take_one, arg);
    return true;
}

/* A story with that id in a bundle. */
static bool read_bundled(const struct store_reader *reader, struct str bytes, struct mail_id id,
                         store_take_event *take_one, void *arg)
{
    bool found = false;
    struct bundle_story story;
    size_t count = bundle_count(bytes);
    for (size_t i = bundle_find(bytes, id); i < count && mail_id_equal(bundle_id(bytes, i), id);
         i++) {
        if (bundle_story(bytes, i, &story) &&
            read_packed(reader, story.bytes, story.bases, story.base_count, take_one, arg))
            found = true;
    }
    return found;
}

/* A row of its own, which may be a bundle for the bases that it has. */
static bool read_row(const struct store_reader *reader, struct str bytes, struct mail_id id,
                     store_take_event *take_one, void *arg)
{
    return bundle_count(bytes) ? read_bundled(reader, bytes, id, take_one, arg)
                               : read_packed(reader, bytes, NULL, 0, take_one, arg);
}

static bool is_before(struct mail_id a, struct mail_id b)
{
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}

/* The first id of a time. */
static void begin_of(int64_t time_ms, unsigned char out[16])
{
    uint64_t begin_ms = time_ms > 0 ? (uint64_t)time_ms : 0;
    store_id_bytes((struct mail_id){.high = begin_ms << 16}, out);
}

static bool read_span(sqlite3_stmt *statement, struct span *out)
{
    if (sqlite3_column_bytes(statement, 0) != 16 || sqlite3_column_bytes(statement, 1) != 16)
        return false;
    out->first = store_id_of(sqlite3_column_blob(statement, 0));
    out->last = store_id_of(sqlite3_column_blob(statement, 1));
    out->bundle = sqlite3_column_int64(statement, 2);
    return true;
}

/* Some seconds up to that time: stories are asked for with the newest first. */
static void move_window(struct store_reader *reader, int64_t time_ms)
{
    struct span_window *window = &reader->window;
    unsigned char begin[16];
    unsigned char end[16];
    struct span span;
    window->since_ms = time_ms - 8 * BUNDLE_SPAN_MS;
    window->until_ms = time_ms;
    begin_of(window->since_ms, begin);
    begin_of(window->until_ms + 1, end);
    buf_clear(&window->spans);
    sqlite3_bind_blob(reader->begun, 1, begin, sizeof begin, SQLITE_STATIC);
    sqlite3_bind_blob(reader->begun, 2, end, sizeof end, SQLITE_STATIC);
    while (!window->spans.overflow && store_step(reader, reader->begun)) {
        if (read_span(reader->begun, &span))
            buf_append(&window->spans, str_of((const char *)&span, sizeof span));
    }
    sqlite3_reset(reader->begun);
}

/* False: the table is to be asked. */
static bool is_in_window(struct store_reader *reader, int64_t time_ms)
{
    struct span_window *window = &reader->window;
    int64_t apart_ms = window->asked_ms - time_ms;
    window->asked_ms = time_ms;
    if (window->until_ms < time_ms || window->since_ms > time_ms - BUNDLE_SPAN_MS) {
        if (apart_ms < 0 || apart_ms > BUNDLE_SPAN_MS)
            return false; /* not one after the other */
        move_window(reader, time_ms);
    }
    return !window->spans.overflow;
}

static int by_number(const void *a, const void *b)
{
    const int64_t *one = a;
    const int64_t *two = b;
    return (*one > *two) - (*one < *two);
}

static size_t bundles_in_window(const struct span_window *window, struct mail_id id, int64_t *out,
                                size_t max)
{
    const struct span *spans = (const struct span *)(const void *)window->spans.ptr;
    size_t total = window->spans.len / sizeof *spans;
    size_t count = 0;
    size_t low = 0;
    for (size_t high = total; low < high;) { /* those before `low` begin after the id */
        size_t middle = low + (high - low) / 2;
        if (is_before(id, spans[middle].first))
            low = middle + 1;
        else
            high = middle;
    }
    int64_t since_ms = mail_id_time_ms(id) - BUNDLE_SPAN_MS;
    for (size_t i = low; i < total && count < max && mail_id_time_ms(spans[i].first) >= since_ms;
         i++) {
        if (!is_before(spans[i].last, id))
            out[count++] = spans[i].bundle;
    }
    qsort(out, count, sizeof *out, by_number);
    return count;
}

/* Which bundles may have it, the oldest first. */
static size_t bundles_of(struct store_reader *reader, struct mail_id id, int64_t *out, size_t max)
{
    unsigned char key[16];
    unsigned char begin[16];
    size_t count = 0;
    int64_t time_ms = mail_id_time_ms(id);
    if (is_in_window(reader, time_ms))
        return bundles_in_window(&reader->window, id, out, max);
    store_id_bytes(id, key);
    begin_of(time_ms - BUNDLE_SPAN_MS, begin);
    sqlite3_bind_blob(reader->spans, 1, key, sizeof key, SQLITE_STATIC);
    sqlite3_bind_blob(reader->spans, 2, begin, sizeof begin, SQLITE_STATIC);
    while (count < max && store_step(reader, reader->spans))
        out[count++] = sqlite3_column_int64(reader->spans, 0);
    sqlite3_reset(reader->spans);
    return count;
}

bool store_story(struct store_reader *reader, struct mail_id id, store_take_event *take_one,
                 void *arg)
{
    enum { BUNDLES_MAX = 256 };
    int64_t bundles[BUNDLES_MAX];
    unsigned char key[16];
    bool found = false;
    size_t next = 0;
    size_t count = bundles_of(reader, id, bundles, BUNDLES_MAX);
    store_id_bytes(id, key);
    sqlite3_bind_blob(reader->rows, 1, key, sizeof key, SQLITE_STATIC);
    while (store_step(reader, reader->rows)) {
        int64_t part = sqlite3_column_int64(reader->rows, 0);
        for (; next < count && bundles[next] < part; next++)
            found =
                read_bundled(reader, store_bundle_of(reader, bundles[next]), id, take_one, arg) ||
                found;
        struct str bytes = str_of(sqlite3_column_blob(reader->rows, 1),
                                  (size_t)sqlite3_column_bytes(reader->rows, 1));
        found = read_row(reader, bytes, id, take_one, arg) || found;
    }
    sqlite3_reset(reader->rows);
    for (; next < count; next++)
        found = read_bundled(reader, store_bundle_of(reader, bundles[next]), id, take_one, arg) ||
                found;
    return found;
}

/* ---- all stories ---- */

/* Ids of rows come in their order. Those of bundles wait until no bundle that was not looked at can
 * have a newer one: it begins at most BUNDLE_SPAN_MS before. */
struct walk {
    struct store_reader *reader;
    sqlite3_stmt *rows, *spans;
    bool has_row, has_span;
    struct mail_id row;
    int64_t span_ms;               /* when the next bundle begins */
    struct buf waiting;            /* ids, the newest last */
    const struct store_text *text; /* only stories in whose bytes it stands; NULL: all */
    uint64_t bytes, bytes_max;     /* looked through for it, and at most */
    int64_t back_ms;               /* where that was enough; 0: it was not */
};

static bool has_text(struct walk *walk, struct str bytes)
{
    if (!walk->text)
        return true;
    walk->bytes += bytes.len;
    return store_text_is_in(walk->text, bytes);
}

/* The row that is next. */
static bool row_has_text(struct walk *walk)
{
    return !walk->text || has_text(walk, str_of(sqlite3_column_blob(walk->rows, 1),
                                                (size_t)sqlite3_column_bytes(walk->rows, 1)));
}

/* A story of a bundle that has it. */
static bool story_has_text(const struct walk *walk, struct str bytes, size_t index)
{
    struct bundle_story story;
    if (!walk->text)
        return true;
    if (!bundle_story(bytes, index, &story))
        return false;
    bool found = store_text_is_in(walk->text, story.bytes);
    for (size_t i = 0; i < story.base_count && !found; i++)
        found = store_text_is_in(walk->text, story.bases[i]);
    return found;
}

static void next_row(struct walk *walk)
{
    walk->has_row =
        store_step(walk->reader, walk->rows) && sqlite3_column_bytes(walk->rows, 0) == 16;
    if (walk->has_row)
        walk->row = store_id_of(sqlite3_column_blob(walk->rows, 0));
}

static void next_span(struct walk *walk)
{
    walk->has_span =
        store_step(walk->reader, walk->spans) && sqlite3_column_bytes(walk->spans, 0) == 16;
    if (walk->has_span)
        walk->span_ms = mail_id_time_ms(store_id_of(sqlite3_column_blob(walk->spans, 0)));
}

static int oldest_first(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static bool has_room(const struct walk *walk)
{
    return walk->waiting.len < WAITING_MAX / 2;
}

/* Bundles that begin after `since_ms`. */
static void load(struct walk *walk, int64_t since_ms)
{
    while (walk->has_span && walk->span_ms >= since_ms && has_room(walk)) {
        struct str bytes = store_bundle_of(walk->reader, sqlite3_column_int64(walk->spans, 1));
        size_t count = has_text(walk, bytes) ? bundle_count(bytes) : 0;
        for (size_t i = 0; i < count; i++) {
            unsigned char key[16];
            if (!story_has_text(walk, bytes, i))
                continue;
            store_id_bytes(bundle_id(bytes, i), key);
            buf_append(&walk->waiting, str_of((const char *)key, sizeof key));
        }
        next_span(walk);
    }
    if (walk->waiting.len)
        qsort(walk->waiting.ptr, walk->waiting.len / 16, 16, oldest_first);
}

/* False at the end. `*out_fits`: the text stands in that row. */
static bool next_id(struct walk *walk, struct mail_id *out, bool *out_fits)
{
    for (;;) {
        bool waits = walk->waiting.len > 0;
        struct mail_id newest = {0};
        if (waits)
            newest = store_id_of((const unsigned char *)walk->waiting.ptr + walk->waiting.len - 16);
        bool is_row = walk->has_row && (!waits || is_before(newest, walk->row));
        if (is_row)
            newest = walk->row;
        int64_t time_ms = waits || is_row ? mail_id_time_ms(newest) : walk->span_ms;
        if (walk->bytes > walk->bytes_max) {
            int64_t newest_ms = walk->has_span ? walk->span_ms + BUNDLE_SPAN_MS : 0;
            walk->back_ms = newest_ms > time_ms ? newest_ms : time_ms;
            return false;
        }
        if (walk->has_span && walk->span_ms + BUNDLE_SPAN_MS >= time_ms && has_room(walk)) {
            load(walk, time_ms - 2 * BUNDLE_SPAN_MS); /* some more: it is sorted each time */
            continue;
        }
        if (waits && !is_row)
            walk->waiting.len -= 16;
        *out_fits = !is_row || row_has_text(walk);
        if (is_row)
            next_row(walk);
        *out = newest;
        return is_row || waits;
    }
}

static bool begin_walk(struct walk *walk, struct store_reader *reader,
                       const unsigned char until[16])
{
    static const char rows[] = "SELECT id FROM stories WHERE id <= ?1 ORDER BY id DESC";
    static const char events[] = "SELECT id, events FROM stories WHERE id <= ?1 ORDER BY id DESC";
    static const char spans[] = "SELECT first, bundle FROM spans WHERE first <= ?1"
                                " ORDER BY first DESC";
    walk->reader = reader;
    buf_init(&walk->waiting, WAITING_MAX);
    if (!prepare(reader, walk->text ? events : rows, &walk->rows) ||
        !prepare(reader, spans, &walk->spans))
        return false;
    sqlite3_bind_blob(walk->rows, 1, until, 16, SQLITE_STATIC);
    sqlite3_bind_blob(walk->spans, 1, until, 16, SQLITE_STATIC);
    next_row(walk);
    next_span(walk);
    return true;
}

static void walk_back(struct walk *walk, struct store_reader *reader, struct store_range range,
                      bool (*take_id)(struct mail_id id, void *arg), void *arg)
{
    unsigned char until[16];
    struct mail_id id;
    struct mail_id last = {0};
    bool fits;
    store_id_bytes(
        (struct mail_id){.high = (uint64_t)range.until_ms << 16 | 0xffff, .low = UINT64_MAX},
        until);
    bool goes_on = begin_walk(walk, reader, until);
    while (goes_on && next_id(walk, &id, &fits)) {
        int64_t time_ms = mail_id_time_ms(id);
        if (time_ms < range.since_ms)
            break;
        if (!fits || mail_id_equal(id, last) || time_ms > range.until_ms)
            continue;
        last = id;
        goes_on = take_id(id, arg);
    }
    sqlite3_finalize(walk->rows);
    sqlite3_finalize(walk->spans);
    buf_done(&walk->waiting);
}

void store_walk(struct store_reader *reader, struct store_range range,
                bool (*take_id)(struct mail_id id, void *arg), void *arg)
{
    struct walk walk = {0};
    walk_back(&walk, reader, range, take_id, arg);
}

int64_t store_scan(struct store_reader *reader, struct str text, struct store_range range,
                   uint64_t bytes_max, bool (*take_id)(struct mail_id id, void *arg), void *arg)
{
    struct store_text wanted;
    struct walk walk = {.text = &wanted, .bytes_max = bytes_max};
    store_text_init(&wanted, text);
    walk_back(&walk, reader, range, take_id, arg);
    return walk.back_ms;
}
