/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/table.c - entries by id and by age, and texts that many of them share. The links are in the
 * objects, as numbers of the slab: a long queue costs four bytes an entry here.
 */
#include "base/check.h"
#include "base/memory.h"
#include "queue/alike.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 256 };

static struct queue_entry *entry_at(const struct queue_worker *worker, uint32_t number)
{
    return queue_slab_at(&worker->slab, number);
}

static struct queue_text *text_at(const struct queue_worker *worker, uint32_t number)
{
    return queue_slab_at(&worker->slab, number);
}

/* ---- entries ---- */

static size_t entry_bucket(const struct queue_table *table, struct mail_id id)
{
    /* the low half of an id is random bits of our own: no outsider chooses them */
    uint64_t mixed = (id.low ^ id.high * 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;
    return (size_t)(mixed >> 32) & (table->bucket_count - 1);
}

struct queue_entry *queue_worker_find(struct queue_worker *worker, struct mail_id id)
{
    const struct queue_table *table = &worker->entries;
    if (table->bucket_count == 0)
        return NULL;
    struct queue_entry *entry = entry_at(worker, table->buckets[entry_bucket(table, id)]);
    while (entry != NULL && !mail_id_equal(entry->id, id))
        entry = entry_at(worker, entry->next);
    return entry;
}

static void grow_table(struct queue_worker *worker)
{
    struct queue_table *table = &worker->entries;
    uint32_t *old = table->buckets;
    size_t old_count = table->bucket_count;
    table->bucket_count = old_count == 0 ? FIRST_BUCKETS : old_count * 2;
    table->buckets = memory_alloc_array(table->bucket_count, sizeof *table->buckets);
    for (size_t i = 0; i < old_count; i++)
        while (old[i] != 0) {
            uint32_t number = old[i];
            struct queue_entry *entry = entry_at(worker, number);
            uint32_t *bucket = &table->buckets[entry_bucket(table, entry->id)];
            old[i] = entry->next;
            entry->next = *bucket;
            *bucket = number;
        }
    free(old);
}

static void append_by_age(struct queue_worker *worker, struct queue_entry *entry, uint32_t number)
{
    struct queue_table *table = &worker->entries;
    entry->older = table->newest;
    entry->newer = 0;
    if (table->newest != 0)
        entry_at(worker, table->newest)->newer = number;
    else
        table->oldest = number;
    table->newest = number;
}

static void remove_by_age(struct queue_worker *worker, struct queue_entry *entry)
{
    struct queue_table *table = &worker->entries;
    *(entry->older != 0 ? &entry_at(worker, entry->older)->newer : &table->oldest) = entry->newer;
    *(entry->newer != 0 ? &entry_at(worker, entry->newer)->older : &table->newest) = entry->older;
}

void queue_table_add(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    struct queue_table *table = &worker->entries;
    uint32_t number = queue_slab_number(entry);
    if (table->count >= 2 * table->bucket_count) /* a step more costs less than four bytes each */
        grow_table(worker);
    uint32_t *bucket = &table->buckets[entry_bucket(table, entry->id)];
    entry->next = *bucket;
    *bucket = number;
    table->count++;
    append_by_age(worker, entry, number);
}

void queue_table_remove(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    struct queue_table *table = &worker->entries;
    uint32_t number = queue_slab_number(entry);
    uint32_t *at = &table->buckets[entry_bucket(table, entry->id)];
    while (*at != number)
        at = &entry_at(worker, *at)->next;
    *at = entry->next;
    table->count--;
    remove_by_age(worker, entry);
}

struct queue_entry *queue_table_oldest(const struct queue_worker *worker)
{
    return entry_at(worker, worker->entries.oldest);
}

struct queue_entry *queue_table_newer(const struct queue_entry *entry)
{
    return entry_at(queue_worker_of(entry), entry->newer);
}

/* ---- texts ---- */

static struct str str_in(const struct queue_text *text)
{
    return str_of(text->bytes, text->len);
}

/* Models stand where all stand that are like them. */
static size_t text_bucket(const struct queue_texts *texts, struct str bytes, bool is_model)
{
    uint64_t hash = is_model ? queue_alike_hash(bytes) : hash_bytes(bytes);
    return (size_t)hash & (texts->bucket_count - 1);
}

static void grow_texts(struct queue_worker *worker)
{
    struct queue_texts *texts = &worker->texts;
    uint32_t *old = texts->buckets;
    size_t old_count = texts->bucket_count;
    texts->bucket_count = old_count == 0 ? FIRST_BUCKETS : old_count * 2;
    texts->buckets = memory_alloc_array(texts->bucket_count, sizeof *texts->buckets);
    for (size_t i = 0; i < old_count; i++)
        while (old[i] != 0) {
            uint32_t number = old[i];
            struct queue_text *text = text_at(worker, number);
            uint32_t *bucket = &texts->buckets[text_bucket(texts, str_in(text), text->is_model)];
            old[i] = text->next;
            text->next = *bucket;
            *bucket = number;
        }
    free(old);
}

struct str queue_text_str(const struct queue_worker *worker, uint32_t number)
{
    return number == 0 ? STR_EMPTY : str_in(text_at(worker, number));
}

static uint32_t *bucket_for(struct queue_worker *worker, struct str bytes, bool is_model)
{
    struct queue_texts *texts = &worker->texts;
    if (texts->count >= texts->bucket_count)
        grow_texts(worker);
    return &texts->buckets[text_bucket(texts, bytes, is_model)];
}

static uint32_t add_text(struct queue_worker *worker, struct str bytes, bool is_model,
                         uint32_t *bucket)
{
    struct queue_text *text = queue_slab_take(&worker->slab, sizeof *text + bytes.len);
    text->references = 1;
    text->len = (uint32_t)bytes.len & (UINT32_MAX >> 1);
    text->is_model = is_model;
    memcpy(text->bytes, bytes.ptr, bytes.len);
    text->next = *bucket;
    *bucket = queue_slab_number(text);
    worker->texts.count++;
    return *bucket;
}

uint32_t queue_text_get(struct queue_worker *worker, struct str bytes)
{
    if (bytes.len == 0)
        return 0;
    uint32_t *bucket = bucket_for(worker, bytes, false);
    for (uint32_t number = *bucket; number != 0; number = text_at(worker, number)->next)
        if (!text_at(worker, number)->is_model &&
            str_equal(str_in(text_at(worker, number)), bytes)) {
            text_at(worker, number)->references++;
            return number;
        }
    return add_text(worker, bytes, false, bucket);
}

void queue_text_unref(struct queue_worker *worker, uint32_t number)
{
    struct queue_text *text = text_at(worker, number);
    if (text == NULL || --text->references > 0)
        return;
    struct queue_texts *texts = &worker->texts;
    uint32_t *at = &texts->buckets[text_bucket(texts, str_in(text), text->is_model)];
    while (*at != number)
        at = &text_at(worker, *at)->next;
    *at = text->next;
    texts->count--;
    queue_slab_give(text);
}

/* ---- tails ---- */

enum { VARIANT = 1 << 30, VARIANT_MAX = 1 << 15 };
_Static_assert((int)VARIANT >= (int)QUEUE_SLAB_NUMBERS, "no number has this bit");

static uint32_t add_variant(struct queue_worker *worker, uint32_t model, struct str differs)
{
    struct queue_variant *variant = queue_slab_take(&worker->slab, sizeof *variant + differs.len);
    variant->model = model;
    memcpy(variant->differs, differs.ptr, differs.len);
    return queue_slab_number(variant) | VARIANT;
}

uint32_t queue_tail_get(struct queue_worker *worker, struct str bytes)
{
    BUF_CLEANUP struct buf differs;
    buf_init(&differs, VARIANT_MAX);
    if (bytes.len == 0)
        return 0;
    uint32_t *bucket = bucket_for(worker, bytes, true);
    for (uint32_t number = *bucket; number != 0; number = text_at(worker, number)->next) {
        struct queue_text *text = text_at(worker, number);
        buf_clear(&differs);
        if (!text->is_model || !queue_alike_pack(str_in(text), bytes, &differs))
            continue;
        if (differs.len >= bytes.len)
            return queue_text_get(worker, bytes); /* alike in nothing that counts */
        text->references++;
        return differs.len == 0 ? number : add_variant(worker, number, buf_str(&differs));
    }
    return add_text(worker, bytes, true, bucket);
}

static struct queue_variant *variant_at(const struct queue_worker *worker, uint32_t tail)
{
    return (tail & VARIANT) != 0 ? queue_slab_at(&worker->slab, tail & ~(uint32_t)VARIANT) : NULL;
}

void queue_tail_unref(struct queue_worker *worker, uint32_t tail)
{
    struct queue_variant *variant = variant_at(worker, tail);
    queue_text_unref(worker, variant != NULL ? variant->model : tail);
    if (variant != NULL)
        queue_slab_give(variant);
}

struct str queue_tail_str(const struct queue_worker *worker, uint32_t tail, struct arena *arena)
{
    const struct queue_variant *variant = variant_at(worker, tail);
    if (variant == NULL)
        return queue_text_str(worker, tail);
    BUF_CLEANUP struct buf bytes;
    buf_init(&bytes, QUEUE_RECORD_MAX);
    queue_alike_unpack(queue_text_str(worker, variant->model), str_of(variant->differs, SIZE_MAX),
                       &bytes);
    check(!bytes.overflow);
    return arena_str(arena, buf_str(&bytes));
}

/* ---- both ---- */

void queue_tables_done(struct queue_worker *worker)
{
    check(worker->entries.count == 0 && worker->texts.count == 0);
    free(worker->entries.buckets);
    free(worker->texts.buckets);
    worker->entries = (struct queue_table){0};
    worker->texts = (struct queue_texts){0};
    queue_slab_done(&worker->slab);
}
