/* SPDX-License-Identifier: Apache-2.0 */
#include "event/ring.h"

#include "base/memory.h"

#include <string.h>

static bool has_room(struct ring *ring, uint64_t head, size_t size)
{
    if (head + size - ring->known_tail <= RING_BYTES)
        return true;
    ring->known_tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return head + size - ring->known_tail <= RING_BYTES;
}

static struct image *image_of(struct ring *ring, enum event_type type)
{
    if (!ring->images[type])
        ring->images[type] = NEW(struct image);
    return ring->images[type];
}

bool ring_put(struct ring *ring, enum event_type type, int64_t wall_ns,
              const struct event_field *const *fields, unsigned count, uint32_t may_differ,
              size_t keep_free)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    struct image *image = image_of(ring, type);
    struct record_plan plan = record_plan(image, fields, count, may_differ);
    size_t at = head % RING_BYTES;
    size_t skip = RING_BYTES - at < plan.size ? RING_BYTES - at : 0;
    if (!has_room(ring, head, skip + plan.size + keep_free))
        return false;
    if (skip) {
        /* A header may be larger than what is left; size and type always fit. */
        struct record filler = {.size = (uint32_t)skip, .type = RECORD_SKIP};
        memcpy(ring->bytes + at, &filler, RECORD_ALIGNMENT);
        at = 0;
    }
    record_write(ring->bytes + at, &plan, type, wall_ns, fields, count);
    record_note(image, &plan, fields, count);
    /* Sequentially consistent, as the producer next looks whether the reader sleeps. */
    atomic_store(&ring->head, head + skip + plan.size);
    return true;
}

size_t ring_used(const struct ring *ring)
{
    uint64_t tail = atomic_load(&ring->tail);
    return (size_t)(atomic_load(&ring->head) - tail);
}

/* ---- the reader ---- */

static struct record record_at(struct ring *ring, uint64_t tail)
{
    struct record record = {0};
    size_t at = tail % RING_BYTES;
    size_t left = RING_BYTES - at;
    memcpy(&record, ring->bytes + at, left < sizeof record ? left : sizeof record);
    return record;
}

/* Step over a filler and note the time of the record there; false at the limit. */
static bool settle(struct ring *ring, uint64_t tail)
{
    if (tail < ring->limit) {
        struct record record = record_at(ring, tail);
        if (record.type == RECORD_SKIP) {
            tail += record.size;
            record = record_at(ring, tail);
        }
        ring->next_wall_ns = record.wall_ns;
    }
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return tail < ring->limit;
}

bool ring_begin(struct ring *ring)
{
    ring->limit = atomic_load_explicit(&ring->head, memory_order_acquire);
    return settle(ring, atomic_load_explicit(&ring->tail, memory_order_relaxed));
}

struct str ring_get(struct ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return (struct str){ring->bytes + tail % RING_BYTES, record_at(ring, tail).size};
}

bool ring_release(struct ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return settle(ring, tail + record_at(ring, tail).size);
}
