/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/table.c - entries by id, and texts that many of them share. The links are in the objects:
 * a long queue costs a pointer an entry here.
 */
#include "base/check.h"
#include "base/memory.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 256 };

/* ---- entries ---- */

static size_t entry_bucket(const struct queue_table *table, struct mail_id id)
{
    /* the low half of an id is random bits of our own: no outsider chooses them */
    uint64_t mixed = (id.low ^ id.high * 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;
    return (size_t)(mixed >> 32) & (table->bucket_count - 1);
}

struct queue_entry *queue_table_find(const struct queue_table *table, struct mail_id id)
{
    if (table->bucket_count == 0)
        return NULL;
    struct queue_entry *entry = table->buckets[entry_bucket(table, id)];
    while (entry != NULL && !mail_id_equal(entry->id, id))
        entry = entry->next;
    return entry;
}

static void grow_table(struct queue_table *table)
{
    struct queue_table grown = {.bucket_count = table->bucket_count == 0 ? FIRST_BUCKETS
                                                                         : table->bucket_count * 2};
    grown.buckets = memory_alloc_array(grown.bucket_count, sizeof(void *));
    for (size_t i = 0; i < table->bucket_count; i++)
        for (struct queue_entry *entry = table->buckets[i], *next; entry != NULL; entry = next) {
            size_t bucket = entry_bucket(&grown, entry->id);
            next = entry->next;
            entry->next = grown.buckets[bucket];
            grown.buckets[bucket] = entry;
        }
    grown.count = table->count;
    free(table->buckets);
    *table = grown;
}

void queue_table_add(struct queue_table *table, struct queue_entry *entry)
{
    if (table->count >= table->bucket_count)
        grow_table(table);
    size_t bucket = entry_bucket(table, entry->id);
    entry->next = table->buckets[bucket];
    table->buckets[bucket] = entry;
    table->count++;
}

void queue_table_remove(struct queue_table *table, struct queue_entry *entry)
{
    struct queue_entry **at = &table->buckets[entry_bucket(table, entry->id)];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    table->count--;
}

void queue_table_done(struct queue_table *table)
{
    check(table->count == 0);
    free(table->buckets);
    *table = (struct queue_table){0};
}

/* ---- texts ---- */

static size_t text_bucket(const struct queue_texts *texts, struct str bytes)
{
    return (size_t)hash_bytes(bytes) & (texts->bucket_count - 1);
}

static void grow_texts(struct queue_texts *texts)
{
    struct queue_texts grown = {.bucket_count = texts->bucket_count == 0 ? FIRST_BUCKETS
                                                                         : texts->bucket_count * 2};
    grown.buckets = memory_alloc_array(grown.bucket_count, sizeof(void *));
    for (size_t i = 0; i < texts->bucket_count; i++)
        for (struct queue_text *text = texts->buckets[i], *next; text != NULL; text = next) {
            size_t bucket = text_bucket(&grown, queue_text_str(text));
            next = text->next;
            text->next = grown.buckets[bucket];
            grown.buckets[bucket] = text;
        }
    grown.count = texts->count;
    free(texts->buckets);
    *texts = grown;
}

struct str queue_text_str(const struct queue_text *text)
{
    return text == NULL ? STR_EMPTY : str_of(text->bytes, text->len);
}

struct queue_text *queue_text_get(struct queue_texts *texts, struct str bytes)
{
    if (bytes.len == 0)
        return NULL;
    if (texts->count >= texts->bucket_count)
        grow_texts(texts);
    size_t bucket = text_bucket(texts, bytes);
    struct queue_text *text = texts->buckets[bucket];
    while (text != NULL && !str_equal(queue_text_str(text), bytes))
        text = text->next;
    if (text != NULL) {
        text->references++;
        return text;
    }
    text = memory_alloc(sizeof *text + bytes.len);
    text->references = 1;
    text->len = (uint32_t)bytes.len;
    memcpy(text->bytes, bytes.ptr, bytes.len);
    text->next = texts->buckets[bucket];
    texts->buckets[bucket] = text;
    texts->count++;
    return text;
}

void queue_text_unref(struct queue_texts *texts, struct queue_text *text)
{
    if (text == NULL || --text->references > 0)
        return;
    struct queue_text **at = &texts->buckets[text_bucket(texts, queue_text_str(text))];
    while (*at != text)
        at = &(*at)->next;
    *at = text->next;
    texts->count--;
    free(text);
}

void queue_texts_done(struct queue_texts *texts)
{
    check(texts->count == 0);
    free(texts->buckets);
    *texts = (struct queue_texts){0};
}
