/* SPDX-License-Identifier: Apache-2.0 */
#include "event/ring.h"

#include "base/check.h"

#include <string.h>

enum { ALIGNMENT = 8, SKIP = 0xFFFF };

struct record {
    uint32_t size; /* with this header, a multiple of ALIGNMENT */
    uint16_t type; /* SKIP: nothing more before the end of the ring */
    uint16_t count;
    int64_t wall_ns;
};

struct field {
    uint8_t key;
    uint8_t kind;
    uint16_t length; /* of the bytes that follow */
};

_Static_assert(EVENT_KEY_COUNT <= UINT8_MAX, "keys fit a byte");
_Static_assert((int)EVENT_TYPE_COUNT < (int)SKIP, "types fit");

/* Where to cut, so that no UTF-8 sequence is split. */
static size_t cut(struct str text)
{
    if (text.len <= EVENT_TEXT)
        return text.len;
    size_t end = EVENT_TEXT;
    while (end > EVENT_TEXT - 3 && ((unsigned char)text.ptr[end] & 0xC0) == 0x80)
        end--;
    return end;
}

static size_t encode_field(char *to, const struct event_field *from)
{
    bool text = from->kind == EVENT_VALUE_STR;
    size_t length = text ? cut(from->text) : sizeof from->number;
    struct field field = {(uint8_t)from->key, (uint8_t)from->kind, (uint16_t)length};
    memcpy(to, &field, sizeof field);
    if (length)
        memcpy(to + sizeof field, text ? from->text.ptr : (const char *)&from->number, length);
    return sizeof field + length;
}

static size_t encoded_size(const struct event_field *const *fields, unsigned count)
{
    size_t size = sizeof(struct record);
    for (unsigned i = 0; i < count; i++) {
        size += sizeof(struct field);
        size +=
            fields[i]->kind == EVENT_VALUE_STR ? cut(fields[i]->text) : sizeof fields[i]->number;
    }
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool has_room(struct ring *ring, uint64_t head, size_t size)
{
    if (head + size - ring->known_tail <= RING_BYTES)
        return true;
    ring->known_tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return head + size - ring->known_tail <= RING_BYTES;
}

bool ring_put(struct ring *ring, enum event_type type, int64_t wall_ns,
              const struct event_field *const *fields, unsigned count, size_t keep_free)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t size = encoded_size(fields, count);
    size_t at = head % RING_BYTES;
    size_t skip = RING_BYTES - at < size ? RING_BYTES - at : 0;
    if (!has_room(ring, head, skip + size + keep_free))
        return false;
    if (skip) {
        /* A header may be larger than what is left; size and type always fit. */
        struct record filler = {.size = (uint32_t)skip, .type = SKIP};
        memcpy(ring->bytes + at, &filler, ALIGNMENT);
        at = 0;
    }
    struct record record = {(uint32_t)size, (uint16_t)type, (uint16_t)count, wall_ns};
    memcpy(ring->bytes + at, &record, sizeof record);
    at += sizeof record;
    for (unsigned i = 0; i < count; i++)
        at += encode_field(ring->bytes + at, fields[i]);
    /* Sequentially consistent, as the producer next looks whether the reader sleeps. */
    atomic_store(&ring->head, head + skip + size);
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
        if (record.type == SKIP) {
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

void event_unpack(struct str packed, struct event *out)
{
    struct record record;
    check(packed.len >= sizeof record);
    memcpy(&record, packed.ptr, sizeof record);
    out->packed = packed;
    out->type = (enum event_type)record.type;
    out->wall_ns = record.wall_ns;
    out->count = record.count;
    const char *at = packed.ptr + sizeof record;
    for (unsigned i = 0; i < record.count; i++) {
        struct field field;
        memcpy(&field, at, sizeof field);
        at += sizeof field;
        struct event_field *to = &out->fields[i];
        to->key = (enum event_key)field.key;
        to->kind = (enum event_value_kind)field.kind;
        if (to->kind == EVENT_VALUE_STR)
            to->text = (struct str){at, field.length};
        else
            memcpy(&to->number, at, sizeof to->number);
        at += field.length;
    }
}

void ring_get(struct ring *ring, struct event *event)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    event_unpack((struct str){ring->bytes + tail % RING_BYTES, record_at(ring, tail).size}, event);
}

bool ring_release(struct ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return settle(ring, tail + record_at(ring, tail).size);
}
