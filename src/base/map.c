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

struct map_slot {
    uint64_t hash;
    char *key; /* NULL: never used */
    size_t key_len;
    void *value; /* NULL with a key of `removed`: was used */
};

static char removed[1];

void map_init(struct map *map)
{
    *map = (struct map){0};
}

void map_done(struct map *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        if (map->slots[i].key != removed)
            free(map->slots[i].key);
    }
    free(map->slots);
    map_init(map);
}

static struct map_slot *find(const struct map *map, struct str key, uint64_t hash)
{
    if (map->cap == 0)
        return NULL;
    for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
        struct map_slot *slot = &map->slots[i];
        if (!slot->key)
            return NULL;
        if (slot->hash == hash && slot->key != removed &&
            str_equal((struct str){slot->key, slot->key_len}, key))
            return slot;
    }
}

void *map_get(const struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, hash_bytes(key));
    return slot ? slot->value : NULL;
}

static struct map_slot *free_slot(struct map_slot *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);
    while (slots[i].key)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

static void grow(struct map *map)
{
    size_t cap = 16;
    while (cap < map->count * 3)
        cap *= 2;
    struct map_slot *slots = memory_alloc_array(cap, sizeof *slots);
    for (size_t i = 0; i < map->cap; i++) {
        struct map_slot *old = &map->slots[i];
        if (old->key && old->key != removed)
            *free_slot(slots, cap, old->hash) = *old;
    }
    free(map->slots);
    map->slots = slots;
    map->cap = cap;
    map->used = map->count;
}

void *map_put(struct map *map, struct str key, void *value)
{
    check(value != NULL);
    uint64_t hash = hash_bytes(key);
    struct map_slot *slot = find(map, key, hash);
    if (slot) {
        void *old = slot->value;
        slot->value = value;
        return old;
    }
    if ((map->used + 1) * 4 > map->cap * 3)
        grow(map);
    slot = free_slot(map->slots, map->cap, hash);
    char *copy = memory_alloc(key.len + 1);
    if (key.len)
        memcpy(copy, key.ptr, key.len);
    *slot = (struct map_slot){.hash = hash, .key = copy, .key_len = key.len, .value = value};
    map->count++;
    map->used++;
    return NULL;
}

void *map_remove(struct map *map, struct str key)
{
    struct map_slot *slot = find(map, key, hash_bytes(key));
    if (!slot)
        return NULL;
    void *value = slot->value;
    free(slot->key);
    slot->key = removed;
    slot->value = NULL;
    map->count--;
    return value;
}

bool map_next(const struct map *map, size_t *cursor, struct str *out_key, void **out_value)
{
    while (*cursor < map->cap) {
        struct map_slot *slot = &map->slots[(*cursor)++];
        if (slot->key && slot->key != removed) {
            *out_key = (struct str){slot->key, slot->key_len};
            *out_value = slot->value;
            return true;
        }
    }
    return false;
}
