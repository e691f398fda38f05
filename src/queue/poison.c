/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/poison.c - which entries were in work when the process died.
 *
 * Each worker has its own part of the page, so that a slot has one writer. The high word of an id
 * is never 0 (it begins with the time), so 0 marks a free slot.
 */
#include "queue/worker.h"

enum { PROBES = 64 };

void queue_poison_page(struct queue *queue, struct queue_poison_page *page)
{
    queue->poison = page;
}

_Atomic uint64_t *queue_poison_note(struct queue_worker *worker, struct mail_id id)
{
    struct queue_poison_page *page = worker->queue->poison;
    if (page == NULL)
        return NULL;
    size_t share = QUEUE_POISON_SLOTS / worker->queue->worker_count;
    for (size_t i = 0; i < share && i < PROBES; i++) {
        size_t at = worker->index * share + (worker->poison_next + i) % share;
        if (atomic_load_explicit(&page->ids[at][0], memory_order_relaxed) != 0)
            continue;
        worker->poison_next = (worker->poison_next + i + 1) % share;
        atomic_store_explicit(&page->ids[at][1], id.low, memory_order_relaxed);
        atomic_store_explicit(&page->ids[at][0], id.high, memory_order_release);
        return &page->ids[at][0];
    }
    return NULL; /* all taken: this one is not guarded */
}

void queue_poison_clear(_Atomic uint64_t *slot)
{
    if (slot != NULL)
        atomic_store_explicit(slot, 0, memory_order_release);
}
