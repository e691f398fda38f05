/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/unit.c - collects the changes of one commit unit.
 */
#include "queue/unit.h"

#include "base/check.h"
#include "base/memory.h"
#include "spool/vault.h"

#include <string.h>

void queue_unit_init(struct queue_unit *unit, struct queue_worker *worker, struct arena *arena)
{
    *unit = (struct queue_unit){.worker = worker, .arena = arena};
}

static struct spool_change *add_change(struct queue_unit *unit)
{
    if (unit->count == unit->cap) {
        size_t cap = unit->cap == 0 ? 8 : unit->cap * 2;
        struct spool_change *grown = arena_alloc_array(unit->arena, cap, sizeof *grown);
        if (unit->count > 0)
            memcpy(grown, unit->changes, unit->count * sizeof *grown);
        unit->changes = grown;
        unit->cap = cap;
    }
    struct spool_change *change = &unit->changes[unit->count++];
    *change = (struct spool_change){0};
    return change;
}

/* Its flow, which has yet to run, may put it into a quarantine: encrypted, instead of this text. */
static bool may_be_sealed(const struct queue *queue, const struct queue_entry *entry)
{
    return entry->content && !entry->shelved && queue->vault != NULL &&
           spool_vault_current(queue->vault) != 0;
}

static struct str encode(const struct queue_meta *meta, struct arena *arena)
{
    BUF_CLEANUP struct buf buf;
    buf_init(&buf, QUEUE_META_MAX);
    queue_meta_encode(meta, &buf);
    check(!buf.overflow); /* submit looked */
    return arena_str(arena, buf_str(&buf));
}

void queue_unit_add(struct queue_unit *unit, struct queue_entry *entry,
                    const struct queue_meta *meta)
{
    check(entry->parcel != NULL);
    struct spool_change *change = add_change(unit);
    change->kind = SPOOL_ADD;
    change->entry = entry->id;
    change->message = entry->message;
    change->meta = encode(meta, unit->arena);
    change->state = queue_entry_record(entry, unit->arena);
    change->content = &entry->parcel->content;
    change->is_private = may_be_sealed(unit->worker->queue, entry);
    if (unit->added_count == unit->added_cap) {
        size_t cap = unit->added_cap == 0 ? 8 : unit->added_cap * 2;
        struct queue_entry **grown = arena_alloc_array(unit->arena, cap, sizeof *grown);
        if (unit->added_count > 0)
            memcpy(grown, unit->added, unit->added_count * sizeof *grown);
        unit->added = grown;
        unit->added_cap = cap;
    }
    unit->added[unit->added_count++] = entry;
}

void queue_unit_state(struct queue_unit *unit, struct queue_entry *entry)
{
    struct spool_change *change = add_change(unit);
    change->kind = SPOOL_STATE;
    change->entry = entry->id;
    change->message = entry->message;
    change->state = queue_entry_record(entry, unit->arena);
}

void queue_unit_remove(struct queue_unit *unit, const struct queue_entry *entry)
{
    struct spool_change *change = add_change(unit);
    change->kind = SPOOL_REMOVE;
    change->entry = entry->id;
    change->message = entry->message;
}

void queue_unit_count(struct queue_unit *unit, enum queue_counter counter, uint64_t delta)
{
    unit->counts[counter] += (int64_t)delta;
}

static void put_counts(struct queue_unit *unit)
{
    for (unsigned i = 0; i < QUEUE_COUNTER_COUNT; i++) {
        if (unit->counts[i] == 0)
            continue;
        struct spool_change *change = add_change(unit);
        change->kind = SPOOL_COUNT;
        change->counter = i;
        change->delta = unit->counts[i];
        unit->counts[i] = 0;
    }
}

/* Not to what a flow generated: that is another message. */
static void pass_wish_on(const struct queue_unit *unit, struct queue_entry *entry)
{
    if (unit->replaces != NULL && mail_id_equal(entry->message, unit->replaces->message))
        entry->wish = unit->replaces->wish;
}

enum result queue_unit_commit(struct queue_unit *unit, struct error *err)
{
    put_counts(unit);
    if (unit->count > 0 &&
        spool_commit(unit->worker->queue->spool, unit->changes, unit->count, err) == FAILED) {
        queue_unit_discard(unit);
        return FAILED;
    }
    for (size_t i = 0; i < unit->added_count; i++) {
        pass_wish_on(unit, unit->added[i]);
        queue_entry_start(unit->added[i]);
    }
    unit->added_count = 0;
    unit->count = 0;
    return OK;
}

void queue_unit_write(struct queue_unit *unit)
{
    check(unit->added_count == 0);
    put_counts(unit);
    if (unit->count > 0)
        spool_write(unit->worker->queue->spool, unit->changes, unit->count);
    unit->count = 0;
}

void queue_unit_discard(struct queue_unit *unit)
{
    for (size_t i = 0; i < unit->added_count; i++)
        queue_entry_free(unit->added[i]);
    unit->added_count = 0;
    unit->count = 0;
}
