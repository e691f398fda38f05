/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/unit.h - what happens to the queue all at once: entries added, changed, removed, counted.
 */
#pragma once

#include "queue/worker.h"

/* The books that live as records in the spool. */
enum queue_counter {
    QUEUE_COUNT_ACCEPTED,
    QUEUE_COUNT_GENERATED,
    QUEUE_COUNT_DELIVERED,
    QUEUE_COUNT_FAILED_DSN,
    QUEUE_COUNT_FAILED_SILENT,
    QUEUE_COUNT_DISCARDED,
    QUEUE_COUNT_DROPPED,
    QUEUE_COUNT_DAMAGED,
    QUEUE_COUNTER_COUNT
};

struct queue_unit {
    struct queue_worker *worker;
    struct arena *arena;
    struct spool_change *changes;
    size_t count, cap;
    struct queue_entry **added;
    size_t added_count, added_cap;
    int64_t counts[QUEUE_COUNTER_COUNT];
    const struct queue_entry *replaces; /* or NULL: what an operator asks of it until the unit is
                                           committed goes for those of its message that are added */
};

void queue_unit_init(struct queue_unit *unit, struct queue_worker *worker, struct arena *arena);
/* The entry, which was made of `meta`, is the unit's until it was committed; then it is in the
 * queue.
 */
void queue_unit_add(struct queue_unit *unit, struct queue_entry *entry,
                    const struct queue_meta *meta);
/* What queue_entry_store() left in the entry is written. */
void queue_unit_state(struct queue_unit *unit, struct queue_entry *entry);
void queue_unit_remove(struct queue_unit *unit, const struct queue_entry *entry);
void queue_unit_count(struct queue_unit *unit, enum queue_counter counter, uint64_t delta);
/* OK: durable, and the added entries are under way. FAILED: nothing happened, they are gone. */
enum result queue_unit_commit(struct queue_unit *unit, struct error *err) MAY_YIELD;
/* Lazily; for units that add nothing. */
void queue_unit_write(struct queue_unit *unit);
/* Drop what was not committed. */
void queue_unit_discard(struct queue_unit *unit);
