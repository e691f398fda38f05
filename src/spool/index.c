/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/index.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    FIRST_BUCKETS = 1024,
    BLOCK = 1024, /* entries */
};

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
    for (uint32_t i = 0; i < index->block_count; i++)
        free(index->blocks[i]);
    free(index->blocks);
    free(index->buckets);
    free(index->slots);
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

static void give_slot(struct spool_index *index, struct spool_segment *segment)
{
    if (index->slot_count + 1 >= index->slot_cap) {
        index->slot_cap = index->slot_cap ? index->slot_cap * 2 : 64;
        index->slots = memory_resize_array(index->slots, index->slot_cap, sizeof *index->slots);
    }
    check(index->slot_count < UINT32_MAX / 2);
    index->slots[0] = NULL;
    segment->slot = ++index->slot_count;
    index->slots[segment->slot] = segment;
}

static struct spool_segment *in_slot(const struct spool_index *index, uint32_t slot)
{
    return slot ? index->slots[slot] : NULL;
}

struct spool_segment *spool_entry_home(const struct spool_index *index,
                                       const struct spool_entry *entry)
{
    return in_slot(index, entry->home);
}

struct spool_segment *spool_entry_state_home(const struct spool_index *index,
                                             const struct spool_entry *entry)
{
    return in_slot(index, entry->state_home);
}

struct spool_segment *spool_entry_other(const struct spool_index *index,
                                        const struct spool_entry *entry)
{
    return entry->removed ? NULL : in_slot(index, entry->other);
}

struct spool_segment *spool_index_add_segment(struct spool_index *index, uint64_t id,
                                              enum spool_segment_kind kind, int fd)
{
    struct spool_segment *segment = NEW(struct spool_segment);
    segment->id = id;
    segment->kind = kind;
    segment->fd = fd;
    atomic_init(&segment->references, 1);
    give_slot(index, segment);
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
    index->slots[segment->slot] = NULL;
    for (size_t i = 0; i < segment->grave_count; i++) {
        struct spool_segment *tomb = spool_index_segment(index, segment->graves[i].tomb);
        if (tomb)
            tomb->tombs_needed--;
    }
    spool_segment_unref(segment);
}

bool spool_segment_is_dead(const struct spool_index *index, const struct spool_segment *segment)
{
    if (!segment->sealed || segment->live_entries || segment->live_states ||
        segment->tombs_needed || segment->stays)
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

/* Numbers begin at 1. */
static struct spool_entry *numbered(const struct spool_index *index, uint32_t number)
{
    return number ? &index->blocks[(number - 1) / BLOCK][(number - 1) % BLOCK] : NULL;
}

struct spool_entry *spool_index_find(const struct spool_index *index, struct mail_id id)
{
    struct spool_entry *entry = numbered(index, index->buckets[bucket_of(index, id)]);
    while (entry && !mail_id_equal(entry->id, id))
        entry = numbered(index, entry->next);
    return entry;
}

static void grow_table(struct spool_index *index)
{
    uint32_t *old = index->buckets;
    size_t old_count = index->bucket_count;
    index->bucket_count *= 2;
    index->buckets = memory_alloc_array(index->bucket_count, sizeof *index->buckets);
    for (size_t i = 0; i < old_count; i++) {
        while (old[i]) {
            uint32_t number = old[i];
            struct spool_entry *entry = numbered(index, number);
            old[i] = entry->next;
            size_t bucket = bucket_of(index, entry->id);
            entry->next = index->buckets[bucket];
            index->buckets[bucket] = number;
        }
    }
    free(old);
}

static void add_block(struct spool_index *index)
{
    if (index->block_count == index->block_cap) {
        index->block_cap = index->block_cap ? index->block_cap * 2 : 16;
        index->blocks = memory_resize_array(index->blocks, index->block_cap, sizeof *index->blocks);
    }
    check(index->block_count < UINT32_MAX / BLOCK - 1);
    struct spool_entry *block = memory_alloc_array(BLOCK, sizeof *block);
    uint32_t first = index->block_count * BLOCK + 1;
    for (uint32_t i = BLOCK; i > 0; i--) {
        block[i - 1].next = index->unused;
        index->unused = first + i - 1;
    }
    index->blocks[index->block_count++] = block;
}

static struct spool_entry *find_or_add(struct spool_index *index, struct mail_id id)
{
    struct spool_entry *entry = spool_index_find(index, id);
    if (entry)
        return entry;
    if (index->count >= 2 * index->bucket_count) /* a step more costs less than four bytes each */
        grow_table(index);
    if (!index->unused)
        add_block(index);
    uint32_t number = index->unused;
    entry = numbered(index, number);
    index->unused = entry->next;
    size_t bucket = bucket_of(index, id);
    *entry = (struct spool_entry){.id = id, .next = index->buckets[bucket]};
    index->buckets[bucket] = number;
    index->count++;
    return entry;
}

static void forget(struct spool_index *index, struct spool_entry *entry)
{
    uint32_t *at = &index->buckets[bucket_of(index, entry->id)];
    while (numbered(index, *at) != entry)
        at = &numbered(index, *at)->next;
    uint32_t number = *at;
    *at = entry->next;
    index->count--;
    *entry = (struct spool_entry){.next = index->unused};
    index->unused = number;
}

struct spool_entry *spool_index_next(const struct spool_index *index, struct spool_entry *entry)
{
    if (entry && entry->next)
        return numbered(index, entry->next);
    for (size_t i = entry ? bucket_of(index, entry->id) + 1 : 0; i < index->bucket_count; i++) {
        if (index->buckets[i])
            return numbered(index, index->buckets[i]);
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
        for (const struct spool_entry *entry = numbered(index, index->buckets[*cursor]); entry;
             entry = numbered(index, entry->next)) {
            if (count == max) { /* the rest of this place comes whole the next time */
                count = before;
                check(count > 0);
                return count;
            }
            if (spool_entry_lives(entry))
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

/* Segments are far smaller than the 32 GiB that this can name (SPOOL_SEGMENT_MAX). */
static uint32_t place_of(uint64_t offset)
{
    check(offset / SPOOL_RECORD_ALIGN <= UINT32_MAX && offset % SPOOL_RECORD_ALIGN == 0);
    return (uint32_t)(offset / SPOOL_RECORD_ALIGN);
}

uint64_t spool_entry_body_size(const struct spool_index *index, const struct spool_entry *entry)
{
    if (!entry->in_bulk)
        return entry->body_size;
    const struct spool_bulk *bulk = spool_index_bulk(index, entry->bulk);
    return bulk ? bulk->size : 0;
}

/* Entries that share a body count it each: what is sparse looks fuller than it is, no harm. */
static uint64_t entry_cost(const struct spool_entry *entry)
{
    return spool_record_size(entry->length) +
           (spool_entry_body_offset(entry) ? spool_record_size(entry->body_size) : 0);
}

static void count_home(struct spool_index *index, const struct spool_entry *entry)
{
    struct spool_segment *home = spool_entry_home(index, entry);
    home->live_entries++;
    home->live_bytes += entry_cost(entry);
}

static void uncount_home(struct spool_index *index, const struct spool_entry *entry)
{
    struct spool_segment *home = spool_entry_home(index, entry);
    home->live_entries--;
    home->live_bytes -= entry_cost(entry);
}

static void count_state(struct spool_index *index, const struct spool_entry *entry, int64_t step)
{
    struct spool_segment *home = spool_entry_state_home(index, entry);
    if (!home || entry->state_home == entry->home)
        return;
    home->live_states += (uint64_t)step;
    home->live_bytes +=
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
static void take_off_accounts(struct spool_index *index, struct spool_entry *entry, uint64_t tomb)
{
    if (!entry->home)
        return;
    count_state(index, entry, -1);
    uncount_home(index, entry);
    bury(index, spool_entry_home(index, entry), entry->id, tomb);
    bury(index, spool_entry_other(index, entry), entry->id, tomb);
    struct spool_bulk *bulk = entry->in_bulk ? spool_index_bulk(index, entry->bulk) : NULL;
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
    if (entry->removed) {
        bury(index, place.segment, entry->id, in_slot(index, entry->other)->id);
        return;
    }
    if (entry->home) { /* a crash came between a copy and the end of what it was made from */
        struct spool_segment *older = place.segment;
        const struct spool_segment *other = spool_entry_other(index, entry);
        if (older->slot != entry->home && (!other || older->id < other->id))
            entry->other = older->slot;
        return;
    }
    entry->home = place.segment->slot;
    entry->place = place_of(place.offset);
    entry->in_bulk = record->bulk != 0;
    if (entry->in_bulk) {
        entry->bulk = record->bulk;
    } else {
        entry->body_place = place_of(body_offset);
        entry->body_size = (uint32_t)record->body_size;
    }
    entry->length = SPOOL_ENTRY_FIXED + record->head_len + record->meta_len + record->state_len;
    count_home(index, entry);
    uint64_t sequence = record->state_sequence ? record->state_sequence : place.unit;
    if (!entry->state_home || sequence > entry->state_sequence) {
        entry->state_home = place.segment->slot;
        entry->state_place = place_of(place.offset);
        entry->state_sequence = sequence;
        entry->state_len = (uint16_t)record->state_len;
    } else {
        count_state(index, entry,
                    +1); /* its state was found first, and had no home to count against */
    }
    if (record->bulk) {
        struct spool_bulk *bulk = spool_index_add_bulk(index, record->bulk);
        bulk->size = record->body_size;
        bulk->entries++;
    }
}

void spool_index_apply_state(struct spool_index *index, struct spool_place place, struct mail_id id,
                             uint64_t sequence, size_t state_len)
{
    struct spool_entry *entry =
        index->recovering ? find_or_add(index, id) : spool_index_find(index, id);
    if (!entry || entry->removed)
        return;
    if (!sequence)
        sequence = place.unit;
    /* of two in one unit the later one wins; both come in the order of their offsets */
    bool is_copy_of_same = entry->state_home && sequence == entry->state_sequence &&
                           place.segment->slot != entry->state_home && index->recovering;
    if (entry->state_home && (sequence < entry->state_sequence || is_copy_of_same))
        return;
    if (entry->home)
        count_state(index, entry, -1);
    entry->state_home = place.segment->slot;
    entry->state_place = place_of(place.offset);
    entry->state_sequence = sequence;
    entry->state_len = (uint16_t)state_len;
    if (entry->home)
        count_state(index, entry, +1);
}

void spool_index_apply_remove(struct spool_index *index, struct spool_place place,
                              struct mail_id id)
{
    struct spool_entry *entry =
        index->recovering ? find_or_add(index, id) : spool_index_find(index, id);
    if (!entry || entry->removed)
        return; /* of two tombstones one is enough */
    take_off_accounts(index, entry, place.segment->id);
    entry->removed = true;
    entry->other = place.segment->slot;
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
    if (entry->home != copy->from->slot || spool_entry_offset(entry) != copy->from_offset)
        return;
    count_state(index, entry, -1);
    uncount_home(index, entry);
    entry->other = entry->home;
    entry->home = copy->to->slot;
    entry->place = place_of(copy->to_offset);
    if (!entry->in_bulk)
        entry->body_place = place_of(copy->body_offset);
    entry->length = copy->length;
    if (entry->state_sequence == copy->state_sequence) {
        entry->state_home = copy->to->slot;
        entry->state_place = place_of(copy->to_offset);
    }
    count_home(index, entry);
    count_state(index, entry, +1);
}

void spool_index_suspect_copy(struct spool_index *index, const struct spool_copy *copy)
{
    struct spool_entry *entry = spool_index_find(index, copy->entry);
    if (!entry)
        bury(index, copy->to, copy->entry, tomb_of(copy->from, copy->entry));
    else if (!spool_entry_other(index, entry))
        entry->other = copy->to->slot;
}

void spool_index_move_state(struct spool_index *index, const struct spool_copy *copy)
{
    struct spool_entry *entry = spool_index_find(index, copy->entry);
    if (!entry || entry->state_home != copy->from->slot ||
        spool_entry_state_offset(entry) != copy->from_offset)
        return;
    count_state(index, entry, -1);
    entry->state_home = copy->to->slot;
    entry->state_place = place_of(copy->to_offset);
    count_state(index, entry, +1);
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

static void finish_bulks(struct spool_index *index)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&index->bulks, &cursor, &key, &value)) {
        struct spool_bulk *bulk = value;
        if (bulk->entries || bulk->holders || (index->is_partial && !bulk->is_new))
            continue;
        map_remove(&index->bulks, key);
        list_append(&index->dead_bulks, &bulk->link);
    }
}

bool spool_index_finish_some(struct spool_index *index, size_t *cursor)
{
    enum { BUCKETS_AT_ONCE = 4096 };
    index->recovering = false;
    for (size_t seen = 0; *cursor < index->bucket_count && seen < BUCKETS_AT_ONCE; seen++) {
        struct spool_entry *entry = numbered(index, index->buckets[(*cursor)++]);
        while (entry) {
            struct spool_entry *next = numbered(index, entry->next);
            if (!spool_entry_lives(entry))
                forget(index, entry);
            entry = next;
        }
    }
    if (*cursor < index->bucket_count)
        return true;
    finish_bulks(index);
    return false;
}

void spool_index_keep_all(struct spool_index *index)
{
    LIST_EACH (&index->segments, link) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        segment->stays = segment->keep = true;
    }
}

void spool_index_finish(struct spool_index *index)
{
    size_t cursor = 0;
    while (spool_index_finish_some(index, &cursor))
        ;
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
    if ((index->recovering || index->is_partial) && !bulk->is_new)
        return;
    map_remove(&index->bulks, bulk_key(&bulk->id));
    list_append(&index->dead_bulks, &bulk->link);
}
