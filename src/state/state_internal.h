/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/state_internal.h - the shards, shared by the files of this folder only.
 *
 * A shard belongs to one worker: everything in it is touched on that worker's thread alone. Other
 * workers ask by struct call or tell by struct post.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "fiber/call.h"
#include "state/state.h"

enum {
    STATE_KEY_MAX = 2048,
    LIMIT_SLOTS = 61, /* the current one and 60 before it: a window is never shorter than asked */
};

/*
 * Entries by key, the least recently used first in each list. `kept` holds those that may outlive
 * an outage: strangers can fill a cache with names that do not exist, but only a quarter of it.
 */
struct state_table {
    struct map map;
    struct list order;
    struct list kept;
    size_t kept_count;
    size_t max;
};

struct state_shard {
    struct state *state;
    struct loop *loop;
    struct state_table limits;
    struct state_table cache;
    struct state_table local; /* short-lived copies of answers that other shards own */
    bool left;
};

struct state {
    size_t count;
    struct state_shard *shards;
    unsigned char secret[STATE_SECRET_SIZE];
};

struct limit_entry {
    struct list link; /* in order */
    struct str key;   /* owned */
    int64_t period_ns;
    int64_t slot; /* number of the newest slot since the clock's start */
    uint32_t counts[LIMIT_SLOTS];
};

struct cache_entry {
    struct list link;
    struct str key; /* owned */
    bool has_value;
    bool flying; /* some fiber has the duty to find it */
    bool is_kept;
    int64_t fresh_until_ns;
    int64_t stale_until_ns;
    struct list waiters; /* struct cache_call */
    struct str value;    /* owned */
};

/* The shard of the calling thread, or NULL. */
struct state_shard *state_self(struct state *state);
struct state_shard *state_owner(struct state *state, struct str key);

void state_table_init(struct state_table *table, size_t max);
struct str state_key_copy(struct str key);

/* limit.c */
void limit_table_clear(struct state_table *table);
/* cache.c */
void cache_table_clear(struct state_table *table);
/* Nobody will answer any more: give the duty of every flight to those who wait. */
void cache_release_waiters(struct state_shard *shard);
