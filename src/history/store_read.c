/* SPDX-License-Identifier: Apache-2.0 */
/* history/store_read.c - the index as queries see it. */
#include "history/store_reader.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { CANDIDATES_MAX = 200000 };

/* ---- words ---- */

bool store_is_indexed(enum event_key key)
{
    return key == KEY_REF || key == KEY_FROM || key == KEY_TO || key == KEY_RCPT ||
           key == KEY_CLIENT || key == KEY_USER || key == KEY_SESSION || key == KEY_MESSAGE_ID ||
           key == KEY_ENTRY || key == KEY_DOMAIN || key == KEY_REASON;
}

static uint64_t word_of(const char *name, struct str text)
{
    /* FNV-1a; it stands in the file, so neither seed nor numbers of keys may be in it */
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)ascii_lower(text.ptr[i])) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
    return (hash & INT64_MAX) | 1; /* positive in SQL, and never 0 */
}

uint64_t store_word(enum event_key key, struct str text)
{
    return word_of(event_key_name(key == KEY_RCPT ? KEY_TO : key), text);
}

uint64_t store_event_word(enum event_type type)
{
    return event_severity(type) >= EVENT_NOTICE ? word_of("event", str_c(event_name(type))) : 0;
}

/* ---- the index ---- */

/* Ids that may hold a term's words. */
struct candidates {
    struct buf ids; /* newest first when sorted; it overflows at the oldest */
    const struct store_term *term;
    struct store_range range;
};

static size_t count_of(const struct candidates *candidates)
{
    return candidates->ids.len / 16;
}

static bool in_range(const struct store_range *range, struct mail_id id)
{
    int64_t time_ms = mail_id_time_ms(id);
    return time_ms >= range->since_ms && time_ms <= range->until_ms;
}

static void note(struct candidates *candidates, const char *bytes)
{
    if (in_range(&candidates->range, store_id_of((const unsigned char *)bytes)))
        buf_append(&candidates->ids, str_of(bytes, 16));
}

static bool is_wanted(const struct store_term *term, uint64_t word)
{
    for (size_t i = 0; i < term->count; i++) {
        if (term->words[i] == word)
            return true;
    }
    return false;
}

/* Entries that wait unsorted. */
static void look_in_fresh(struct store_reader *reader, struct candidates *candidates)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(reader->db, "SELECT entries FROM fresh", -1, &statement, NULL) !=
        SQLITE_OK)
        return;
    while (store_step(reader, statement)) {
        const char *entries = sqlite3_column_blob(statement, 0);
        int size = sqlite3_column_bytes(statement, 0);
        for (int at = 0; at + STORE_ENTRY <= size; at += STORE_ENTRY) {
            if (is_wanted(candidates->term, store_entry_word(entries + at)))
                note(candidates, entries + at + 8);
        }
    }
    sqlite3_finalize(statement);
}

/* Entries of the word in one row, from its end; false when the row begins before the word. */
static bool look_in_page(struct candidates *candidates, uint64_t wanted, const char *entries,
                         int size)
{
    for (int at = size - STORE_ENTRY; at >= 0; at -= STORE_ENTRY) {
        uint64_t word = store_entry_word(entries + at);
        if (word == wanted)
            note(candidates, entries + at + 8);
        if (word < wanted)
            return false;
    }
    return true;
}

static void look_in_segment(struct store_reader *reader, sqlite3_stmt *pages, int64_t segment,
                            uint64_t word, struct candidates *candidates)
{
    sqlite3_bind_int64(pages, 1, segment);
    sqlite3_bind_int64(pages, 2, (int64_t)word);
    while (store_step(reader, pages) &&
           look_in_page(candidates, word, sqlite3_column_blob(pages, 0),
                        sqlite3_column_bytes(pages, 0)) &&
           !candidates->ids.overflow)
        ;
    sqlite3_reset(pages);
}

static void look_in_segments(struct store_reader *reader, struct candidates *candidates)
{
    sqlite3_stmt *segments = NULL;
    sqlite3_stmt *pages = NULL;
    if (sqlite3_prepare_v2(reader->db,
                           "SELECT segment FROM segments WHERE newest_ms >= ?1"
                           " ORDER BY newest_ms DESC",
                           -1, &segments, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(reader->db,
                           "SELECT entries FROM words WHERE segment = ?1 AND first <= ?2"
                           " ORDER BY first DESC, page DESC",
                           -1, &pages, NULL) == SQLITE_OK) {
        sqlite3_bind_int64(segments, 1, candidates->range.since_ms);
        while (store_step(reader, segments) && !candidates->ids.overflow) {
            for (size_t i = 0; i < candidates->term->count; i++)
                look_in_segment(reader, pages, sqlite3_column_int64(segments, 0),
                                candidates->term->words[i], candidates);
        }
    }
    sqlite3_finalize(segments);
    sqlite3_finalize(pages);
}

static int newest_first(const void *a, const void *b)
{
    return memcmp(b, a, 16);
}

static void gather(struct store_reader *reader, const struct store_term *term,
                   struct store_range range, struct candidates *out)
{
    *out = (struct candidates){.term = term, .range = range};
    buf_init(&out->ids, (size_t)CANDIDATES_MAX * 16);
    look_in_fresh(reader, out);
    look_in_segments(reader, out);
    if (out->ids.len)
        qsort(out->ids.ptr, count_of(out), 16, newest_first);
}

/* May it fit the term? Of one with too many only the newest are known. */
static bool holds(const struct candidates *candidates, const char *id)
{
    return candidates->ids.overflow ||
           (candidates->ids.len &&
            bsearch(id, candidates->ids.ptr, count_of(candidates), 16, newest_first));
}

/* False: the taker has enough. */
static bool give(const struct candidates *lists, size_t count, size_t best,
                 bool (*take_id)(struct mail_id id, void *arg), void *arg)
{
    const struct buf *ids = &lists[best].ids;
    const char *last = NULL;
    for (size_t at = 0; at + 16 <= ids->len; at += 16) {
        const char *bytes = ids->ptr + at;
        bool fits = !last || memcmp(last, bytes, 16) != 0;
        last = bytes;
        for (size_t i = 0; i < count && fits; i++)
            fits = i == best || holds(&lists[i], bytes);
        if (fits && !take_id(store_id_of((const unsigned char *)bytes), arg))
            return false;
    }
    return true;
}

/* Stories before this are not in the index by events and reasons. */
static int64_t recent_since_ms(struct store_reader *reader)
{
    return store_sql_number(reader->db, "SELECT at_ms FROM marks WHERE name = 'decisions'");
}

/* The terms that the index knows all of in the range, the most selective first to be asked. */
static size_t gather_all(struct store_reader *reader, const struct store_term *terms, size_t count,
                         struct store_range range, struct candidates *lists, size_t *out_best)
{
    enum { FEW = 500 };
    size_t gathered = 0;
    *out_best = 0;
    for (size_t i = 0; i < count && gathered < STORE_TERMS_MAX; i++) {
        gather(reader, &terms[i], range, &lists[gathered]);
        const struct candidates *list = &lists[gathered];
        const struct candidates *best = &lists[*out_best];
        if (!list->ids.overflow && (best->ids.overflow || count_of(list) < count_of(best)))
            *out_best = gathered;
        gathered++;
        if (!list->ids.overflow && count_of(list) < FEW)
            break; /* to look at those is cheaper than another term */
    }
    return gathered;
}

static bool search_index(struct store_reader *reader, const struct store_term *terms, size_t count,
                         struct store_range range, bool (*take_id)(struct mail_id id, void *arg),
                         void *arg)
{
    struct candidates lists[STORE_TERMS_MAX] = {0};
    size_t best;
    size_t gathered = gather_all(reader, terms, count, range, lists, &best);
    bool goes_on = give(lists, gathered, best, take_id, arg);
    for (size_t i = 0; i < gathered; i++)
        buf_done(&lists[i].ids);
    return goes_on;
}

void store_search(struct store_reader *reader, const struct store_term *terms, size_t count,
                  struct store_range range, bool (*take_id)(struct mail_id id, void *arg),
                  void *arg)
{
    struct store_term lasting[STORE_TERMS_MAX];
    size_t lasting_count = 0;
    int64_t since_ms = recent_since_ms(reader);
    for (size_t i = 0; i < count && lasting_count < STORE_TERMS_MAX; i++) {
        if (!terms[i].is_recent)
            lasting[lasting_count++] = terms[i];
    }
    struct store_range recent = range;
    recent.since_ms = range.since_ms > since_ms ? range.since_ms : since_ms;
    struct store_range before = range;
    before.until_ms = range.until_ms < since_ms ? range.until_ms : since_ms - 1;
    if (count == 0)
        store_walk(reader, range, take_id, arg);
    else if (search_index(reader, terms, count, recent, take_id, arg) &&
             before.until_ms >= before.since_ms) {
        if (lasting_count)
            search_index(reader, lasting, lasting_count, before, take_id, arg);
        else
            store_walk(reader, before, take_id, arg);
    }
}

void store_find(struct store_reader *reader, uint64_t word, struct store_range range,
                bool (*take_id)(struct mail_id id, void *arg), void *arg)
{
    struct store_term term = {.words = {word}, .count = 1};
    store_search(reader, &term, word ? 1 : 0, range, take_id, arg);
}
