/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- the hash: SipHash with 1 compression and 3 finalisation rounds ---- */

static uint64_t seed[2];
static atomic_int seed_state; /* 0 none, 1 being made, 2 ready */

static void make_seed(void)
{
    int expected = 0;
    if (atomic_compare_exchange_strong(&seed_state, &expected, 1)) {
        random_bytes(seed, sizeof seed);
        atomic_store(&seed_state, 2);
    }
    while (atomic_load(&seed_state) != 2)
        ;
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(struct str data)
{
    if (atomic_load_explicit(&seed_state, memory_order_acquire) != 2)
        make_seed();
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d,
                     seed[0] ^ 0x6c7967656e657261, seed[1] ^ 0x7465646279746573};
    const char *at = data.ptr;
    size_t left = data.len;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)data.len << 56;
    for (size_t i = 0; i < left; i++)
        last |= (uint64_t)(unsigned char)at[i] << (8 * i);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the map: open addressing, linear probing, removed slots marked ---- */

enum { INLINE_KEY = 16 }; /* ids, most of all: a key of its own would cost as much as the slot */

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_REMOVED };

struct map_slot {
    union {
        char bytes[INLINE_KEY]; /* a key that fits */
        char *key;
    };
    void *value;
    uint32_t hash; /* the lower half */
    uint32_t state : 2;
    uint32_t key_len : 30;
};

_Static_assert(sizeof(struct map_slot) == 32, "two slots a cache line");

void map_init(struct map *map)
{
    *map = (struct map){0};
}

static bool is_inline(size_t key_len)
{
    return key_len <= INLINE_KEY;
}

static struct str key_of(const struct map_slot *slot)
{
    return (struct str){is_inline(slot->key_len) ? slot->bytes : slot->key, slot->key_len};
}

static void free_key(struct map_slot *slot)
{
    if (slot->state == SLOT_TAKEN && !is_inline(slot->key_len))
        free(slot->key);
}

void map_done(struct map *map)
{
    for (size_t i = 0; i < map->cap; i++)
        free_key(&map->slots[i]);
    free(map->slots);
    map_init(map);
}

static struct map_slot *find(const struct map *map, struct str key, uint32_t hash)
{
    if (map->cap == 0)
        return NULL;
    for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
        struct map_slot *slot = &map->slots[i];
        if (slot->state == SLOT_FREE)
            return NULL;
        if (slot->state == SLOT_TAKEN && slot->hash == hash && str_equal(key_of(slot), key))
            return slot;
    }
}

void *map_get(const struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, (uint32_t)hash_bytes(key));
    return slot ? slot->value : NULL;
}

static struct map_slot *free_slot(struct map_slot *slots, size_t cap, uint32_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].state != SLOT_FREE)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

/* Room for what there is and as much again. */
static void resize(struct map *map)
{
    size_t cap = 16;
    while (cap < map->count * 2)
        cap *= 2;
    struct map_slot *slots = memory_alloc_array(cap, sizeof *slots);
    for (size_t i = 0; i < map->cap; i++) {
        struct map_slot *old = &map->slots[i];
        if (old->state == SLOT_TAKEN)
            *free_slot(slots, cap, old->hash) = *old;
    }
    free(map->slots);
    map->slots = slots;
    map->cap = cap;
    map->used = map->count;
}

static void set_key(struct map_slot *slot, struct str key)
{
    check(key.len < UINT32_C(1) << 30);
    slot->key_len = (uint32_t)key.len & (UINT32_MAX >> 2);
    if (!is_inline(key.len))
        slot->key = memory_alloc(key.len);
    if (key.len)
        memcpy(is_inline(key.len) ? slot->bytes : slot->key, key.ptr, key.len);
}

void *map_put(struct map *map, struct str key, void *value)
{
    check(value != NULL);
    uint32_t hash = (uint32_t)hash_bytes(key);
    struct map_slot *slot = find(map, key, hash);
    if (slot) {
        void *old = slot->value;
        slot->value = value;
        return old;
    }
    if ((map->used + 1) * 4 > map->cap * 3)
        resize(map);
    slot = free_slot(map->slots, map->cap, hash);
    *slot = (struct map_slot){.value = value, .hash = hash, .state = SLOT_TAKEN};
    set_key(slot, key);
    map->count++;
    map->used++;
    return NULL;
}

void *map_remove(struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, (uint32_t)hash_bytes(key));
    if (!slot)
        return NULL;
    void *value = slot->value;
    free_key(slot);
    slot->state = SLOT_REMOVED;
    slot->value = NULL;
    map->count--;
    return value;
}

void map_settle(struct map *map)
{
    enum { ALWAYS = 1024, TIMES = 16 };
    if (map->cap > ALWAYS && map->cap / TIMES > map->count)
        resize(map);
}

bool map_next(const struct map *map, size_t *cursor, struct str *out_key, void **out_value)
{
    while (*cursor < map->cap) {
        struct map_slot *slot = &map->slots[(*cursor)++];
        if (slot->state == SLOT_TAKEN) {
            *out_key = key_of(slot);
            *out_value = slot->value;
            return true;
        }
    }
    return false;
}
