/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/index.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>
#include <unistd.h>

enum { FIRST_BUCKETS = 1024 };

void spool_index_init(struct spool_index *index)
{
    *index = (struct spool_index){.bucket_count = FIRST_BUCKETS};
    index->buckets = memory_alloc_array(FIRST_BUCKETS, sizeof *index->buckets);
    list_init(&index->segments);
    list_init(&index->dead_bulks);
    map_init(&index->bulks);
}

void spool_index_done(struct spool_index *index)
{
    for (size_t i = 0; i < index->bucket_count; i++) {
        while (index->buckets[i]) {
            struct spool_entry *entry = index->buckets[i];
            index->buckets[i] = entry->next;
            free(entry);
        }
    }
    free(index->buckets);
    LIST_EACH (&index->segments, link)
        spool_segment_unref(CONTAINER(link, struct spool_segment, link));
    size_t cursor = 0;
    struct str key;
    void *bulk;
    while (map_next(&index->bulks, &cursor, &key, &bulk))
        free(bulk);
    LIST_EACH (&index->dead_bulks, link)
        free(CONTAINER(link, struct spool_bulk, link));
    map_done(&index->bulks);
    *index = (struct spool_index){0};
}

/* ---- segments ---- */

struct spool_segment *spool_index_add_segment(struct spool_index *index, uint64_t id,
                                              enum spool_segment_kind kind, int fd)
{
    struct spool_segment *segment = NEW(struct spool_segment);
    segment->id = id;
    segment->kind = kind;
    segment->fd = fd;
    atomic_init(&segment->references, 1);
    struct list *at = index->segments.prev;
    while (at != &index->segments && CONTAINER(at, struct spool_segment, link)->id > id)
        at = at->prev;
    list_insert_before(at->next, &segment->link);
    return segment;
}

struct spool_segment *spool_index_segment(const struct spool_index *index, uint64_t id)
{
    if (!id)
        return NULL;
    /* from the newest on: it is mostly asked for, by tombstones */
    for (struct list *at = index->segments.prev; at != &index->segments; at = at->prev) {
        struct spool_segment *segment = CONTAINER(at, struct spool_segment, link);
        if (segment->id == id)
            return segment;
    }
    return NULL;
}

struct spool_segment *spool_segment_ref(struct spool_segment *segment)
{
    atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed);
    return segment;
}

void spool_segment_unref(struct spool_segment *segment)
{
    if (!segment || atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) != 1)
        return;
    if (segment->fd >= 0)
        close(segment->fd);
    free(segment->graves);
    free(segment);
}

void spool_index_drop_segment(struct spool_index *index, struct spool_segment *segment)
{
    check(!segment->live_entries && !segment->live_states);
    list_remove(&segment->link);
    for (size_t i = 0; i < segment->grave_count; i++) {
        struct spool_segment *tomb = spool_index_segment(index, segment->graves[i].tomb);
        if (tomb)
            tomb->tombs_needed--;
    }
    spool_segment_unref(segment);
}

bool spool_segment_is_dead(const struct spool_index *index, const struct spool_segment *segment)
{
    if (!segment->sealed || segment->live_entries || segment->live_states || segment->tombs_needed)
        return false;
    bool has_records = segment->end > SPOOL_SEGMENT_HEADER;
    if (segment->kind == SPOOL_SEGMENT_MAIN && has_records && segment->id >= index->totals_from)
        return false;
    if (!segment->cuts_from)
        return true;
    LIST_EACH (&index->segments, link) {
        const struct spool_segment *other = CONTAINER(link, struct spool_segment, link);
        if (other->was_cut && other->id >= segment->cuts_from && other->id < segment->id)
            return false;
    }
    return true;
}

/* ---- the table of entries ---- */

static size_t bucket_of(const struct spool_index *index, struct mail_id id)
{
    /* the low half of an id is random bits of our own: no outsider chooses them */
    uint64_t mixed = (id.low ^ id.high * 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;
    return (size_t)(mixed >> 32) & (index->bucket_count - 1);
}

struct spool_entry *spool_index_find(const struct spool_index *index, struct mail_id id)
{
    struct spool_entry *entry = index->buckets[bucket_of(index, id)];
    while (entry && !mail_id_equal(entry->id, id))
        entry = entry->next;
    return entry;
}

static void grow_table(struct spool_index *index)
{
    struct spool_entry **old = index->buckets;
    size_t old_count = index->bucket_count;
    index->bucket_count *= 2;
    index->buckets = memory_alloc_array(index->bucket_count, sizeof *index->buckets);
    for (size_t i = 0; i < old_count; i++) {
        while (old[i]) {
            struct spool_entry *entry = old[i];
            old[i] = entry->next;
            size_t bucket = bucket_of(index, entry->id);
            entry->next = index->buckets[bucket];
            index->buckets[bucket] = entry;
        }
    }
    free(old);
}

static struct spool_entry *find_or_add(struct spool_index *index, struct mail_id id)
{
    struct spool_entry *entry = spool_index_find(index, id);
    if (entry)
        return entry;
    if (index->count >= index->bucket_count)
        grow_table(index);
    entry = NEW(struct spool_entry);
    entry->id = id;
    size_t bucket = bucket_of(index, id);
    entry->next = index->buckets[bucket];
    index->buckets[bucket] = entry;
    index->count++;
    return entry;
}

static void forget(struct spool_index *index, struct spool_entry *entry)
{
    struct spool_entry **at = &index->buckets[bucket_of(index, entry->id)];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    index->count--;
    free(entry);
}

struct spool_entry *spool_index_next(const struct spool_index *index, struct spool_entry *entry)
{
    if (entry && entry->next)
        return entry->next;
    for (size_t i = entry ? bucket_of(index, entry->id) + 1 : 0; i < index->bucket_count; i++) {
        if (index->buckets[i])
            return index->buckets[i];
    }
    return NULL;
}

size_t spool_index_ids(const struct spool_index *index, size_t *cursor, struct mail_id *out,
                       size_t max)
{
    enum { BUCKETS_AT_ONCE = 16 * 1024 }; /* nobody waits long for the lock */
    size_t count = 0;
    for (size_t seen = 0; *cursor < index->bucket_count; ++*cursor, seen++) {
        size_t before = count;
        for (const struct spool_entry *entry = index->buckets[*cursor]; entry;
             entry = entry->next) {
            if (count == max) { /* the rest of this place comes whole the next time */
                count = before;
                check(count > 0);
                return count;
            }
            out[count++] = entry->id;
        }
        if (count > 0 && seen >= BUCKETS_AT_ONCE) {
            ++*cursor;
            return count;
        }
    }
    return count;
}

/* ---- accounts of the segments ---- */

uint64_t spool_entry_record_length(const struct spool_entry *entry)
{
    return (uint64_t)SPOOL_ENTRY_FIXED + entry->head_len + entry->meta_len + entry->entry_state_len;
}

/* Entries that share a body count it each: what is sparse looks fuller than it is, no harm. */
static uint64_t entry_cost(const struct spool_entry *entry)
{
    return spool_record_size(spool_entry_record_length(entry)) +
           (entry->body_offset ? spool_record_size(entry->body_size) : 0);
}

static void count_home(struct spool_entry *entry)
{
    entry->home->live_entries++;
    entry->home->live_bytes += entry_cost(entry);
}

static void uncount_home(struct spool_entry *entry)
{
    entry->home->live_entries--;
    entry->home->live_bytes -= entry_cost(entry);
}

static void count_state(struct spool_entry *entry, int64_t step)
{
    if (!entry->state_home || entry->state_home == entry->home)
        return;
    entry->state_home->live_states += (uint64_t)step;
    entry->state_home->live_bytes +=
        (uint64_t)step * spool_record_size(SPOOL_STATE_FIXED + (uint64_t)entry->state_len);
}

static void bury(struct spool_index *index, struct spool_segment *segment, struct mail_id entry,
                 uint64_t tomb)
{
    if (!segment || segment->id == tomb)
        return; /* they go together */
    if (segment->grave_count == segment->grave_cap) {
        segment->grave_cap = segment->grave_cap ? segment->grave_cap * 2 : 64;
        segment->graves =
            memory_resize_array(segment->graves, segment->grave_cap, sizeof *segment->graves);
    }
    segment->graves[segment->grave_count++] = (struct spool_grave){entry, tomb};
    struct spool_segment *holder = spool_index_segment(index, tomb);
    if (holder)
        holder->tombs_needed++;
}

/* ---- applying ---- */

/* A removed entry has no account any more; what is left is a grave in each segment of its. */
static void take_off_accounts(struct spool_index *index, struct spool_entry *entry)
{
    if (!entry->home)
        return;
    count_state(entry, -1);
    uncount_home(entry);
    bury(index, entry->home, entry->id, entry->tomb);
    bury(index, spool_index_segment(index, entry->other), entry->id, entry->tomb);
    struct spool_bulk *bulk = entry->bulk ? spool_index_bulk(index, entry->bulk) : NULL;
    if (bulk) {
        bulk->entries--;
        if (!index->recovering) { /* recovery may still find another entry that shares it */
            spool_index_hold_bulk(index, bulk);
            spool_index_let_go_bulk(index, bulk);
        }
    }
}

void spool_index_apply_entry(struct spool_index *index, struct spool_place place,
                             const struct spool_entry_record *record, uint64_t body_offset)
{
    struct spool_entry *entry = find_or_add(index, record->entry);
    if (entry->tomb) {
        bury(index, place.segment, entry->id, entry->tomb);
        return;
    }
    if (entry->home) { /* a crash came between a copy and the end of what it was made from */
        struct spool_segment *older = place.segment;
        if (older != entry->home && (!entry->other || older->id < entry->other))
            entry->other = older->id;
        return;
    }
    entry->message = record->message;
    entry->home = place.segment;
    entry->offset = place.offset;
    entry->body_offset = body_offset;
    entry->bulk = record->bulk;
    entry->body_size = record->body_size;
    entry->body_start = record->body_start;
    entry->head_len = record->head_len;
    entry->meta_len = record->meta_len;
    entry->entry_state_len = record->state_len;
    count_home(entry);
    uint64_t sequence = record->state_sequence ? record->state_sequence : place.unit;
    if (!entry->state_home || sequence > entry->state_sequence) {
        entry->state_home = place.segment;
        entry->state_offset = place.offset;
        entry->state_sequence = sequence;
        entry->state_len = record->state_len;
    } else {
        count_state(entry, +1); /* its state was found first, and had no home to count against */
    }
    if (record->bulk)
        spool_index_add_bulk(index, record->bulk)->entries++;
}

void spool_index_apply_state(struct spool_index *index, struct spool_place place, struct mail_id id,
                             uint64_t sequence, size_t state_len)
{
    struct spool_entry *entry =
        index->recovering ? find_or_add(index, id) : spool_index_find(index, id);
    if (!entry || entry->tomb)
        return;
    if (!sequence)
        sequence = place.unit;
    /* of two in one unit the later one wins; both come in the order of their offsets */
    bool is_copy_of_same = entry->state_home && sequence == entry->state_sequence &&
                           place.segment != entry->state_home && index->recovering;
    if (entry->state_home && (sequence < entry->state_sequence || is_copy_of_same))
        return;
    if (entry->home)
        count_state(entry, -1);
    entry->state_home = place.segment;
    entry->state_offset = place.offset;
    entry->state_sequence = sequence;
    entry->state_len = (uint32_t)state_len;
    if (entry->home)
        count_state(entry, +1);
}

void spool_index_apply_remove(struct spool_index *index, struct spool_place place,
                              struct mail_id id)
{
    struct spool_entry *entry =
        index->recovering ? find_or_add(index, id) : spool_index_find(index, id);
    if (!entry || entry->tomb)
        return; /* of two tombstones one is enough */
    entry->tomb = place.segment->id;
    take_off_accounts(index, entry);
    if (!index->recovering)
        forget(index, entry);
}

/* The tombstone that a grave in `segment` leans on, or 0. */
static uint64_t tomb_of(const struct spool_segment *segment, struct mail_id entry)
{
    for (size_t i = segment->grave_count; i > 0; i--) {
        if (mail_id_equal(segment->graves[i - 1].entry, entry))
            return segment->graves[i - 1].tomb;
    }
    return 0;
}

void spool_index_move_entry(struct spool_index *index, const struct spool_copy *copy)
{
    struct spool_entry *entry = spool_index_find(index, copy->entry);
    if (!entry) {
        bury(index, copy->to, copy->entry, tomb_of(copy->from, copy->entry));
        return;
    }
    if (entry->home != copy->from || entry->offset != copy->from_offset)
        return;
    count_state(entry, -1);
    uncount_home(entry);
    entry->other = entry->home->id;
    entry->home = copy->to;
    entry->offset = copy->to_offset;
    entry->body_offset = copy->body_offset;
    entry->entry_state_len = copy->state_len;
    if (entry->state_sequence == copy->state_sequence) {
        entry->state_home = copy->to;
        entry->state_offset = copy->to_offset;
    }
    count_home(entry);
    count_state(entry, +1);
}

void spool_index_suspect_copy(struct spool_index *index, const struct spool_copy *copy)
{
    struct spool_entry *entry = spool_index_find(index, copy->entry);
    if (!entry)
        bury(index, copy->to, copy->entry, tomb_of(copy->from, copy->entry));
    else if (!spool_index_segment(index, entry->other))
        entry->other = copy->to->id;
}

void spool_index_move_state(struct spool_index *index, const struct spool_copy *copy)
{
    struct spool_entry *entry = spool_index_find(index, copy->entry);
    if (!entry || entry->state_home != copy->from || entry->state_offset != copy->from_offset)
        return;
    count_state(entry, -1);
    entry->state_home = copy->to;
    entry->state_offset = copy->to_offset;
    count_state(entry, +1);
}

void spool_index_move_tombs(struct spool_index *index, struct spool_segment *from,
                            struct spool_segment *to)
{
    LIST_EACH (&index->segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        for (size_t i = 0; i < segment->grave_count;) {
            struct spool_grave *grave = &segment->graves[i];
            if (grave->tomb != from->id) {
                i++;
                continue;
            }
            from->tombs_needed--;
            if (segment == to) { /* they go together now */
                *grave = segment->graves[--segment->grave_count];
                continue;
            }
            grave->tomb = to->id;
            to->tombs_needed++;
            i++;
        }
    }
}

void spool_index_finish(struct spool_index *index)
{
    for (size_t i = 0; i < index->bucket_count; i++) {
        struct spool_entry *entry = index->buckets[i];
        while (entry) {
            struct spool_entry *next = entry->next;
            if (entry->tomb || !entry->home)
                forget(index, entry);
            entry = next;
        }
    }
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&index->bulks, &cursor, &key, &value)) {
        struct spool_bulk *bulk = value;
        if (bulk->entries)
            continue;
        map_remove(&index->bulks, key);
        free(bulk);
    }
    index->recovering = false;
}

/* ---- large bodies ---- */

static struct str bulk_key(const uint64_t *id)
{
    return str_of((const char *)id, sizeof *id);
}

struct spool_bulk *spool_index_bulk(const struct spool_index *index, uint64_t id)
{
    return map_get(&index->bulks, bulk_key(&id));
}

struct spool_bulk *spool_index_add_bulk(struct spool_index *index, uint64_t id)
{
    struct spool_bulk *bulk = spool_index_bulk(index, id);
    if (bulk)
        return bulk;
    bulk = NEW(struct spool_bulk);
    bulk->id = id;
    list_init(&bulk->link);
    map_put(&index->bulks, bulk_key(&id), bulk);
    return bulk;
}

void spool_index_hold_bulk(struct spool_index *index, struct spool_bulk *bulk)
{
    (void)index;
    bulk->holders++;
}

void spool_index_let_go_bulk(struct spool_index *index, struct spool_bulk *bulk)
{
    check(bulk->holders > 0);
    if (--bulk->holders || bulk->entries)
        return;
    map_remove(&index->bulks, bulk_key(&bulk->id));
    list_append(&index->dead_bulks, &bulk->link);
}
