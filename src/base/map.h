/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/map.h - hash map from byte strings to pointers; keys are copied.
 *
 * The hash is keyed with a random seed of the process, so that outsiders cannot choose keys that
 * collide. A map belongs to one thread.
 */
#pragma once

#include "base/str.h"

struct map_slot;

struct map {
    struct map_slot *slots;
    size_t cap; /* a power of two, or 0 */
    size_t count;
    size_t used; /* slots that are or were taken */
};

void map_init(struct map *map);
/* Frees keys and slots, not the values. */
void map_done(struct map *map);

void *map_get(const struct map *map, struct str key);
/* Returns the value that was there, or NULL. `value` must not be NULL. */
void *map_put(struct map *map, struct str key, void *value);
/* Returns the value that was there, or NULL. */
void *map_remove(struct map *map, struct str key);

/* Give room back that was for many more than there are; to be called now and then. Not during a
 * walk. */
void map_settle(struct map *map);

/* Walk in no particular order: start with *cursor = 0; false at the end. The map must not grow
 * meanwhile; removing the item just returned is allowed. */
bool map_next(const struct map *map, size_t *cursor, struct str *out_key, void **out_value);

/* SipHash-1-3 of `data` under the process's random seed. */
uint64_t hash_bytes(struct str data);
