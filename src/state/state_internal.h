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
#include "base/arena.h"
#include "fiber/call.h"
#include "fiber/loop.h"
#include "state/breaker.h"
#include "state/keeper.h"
#include "state/state.h"

#include <pthread.h>
#include <stdatomic.h>

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
    struct list changed; /* what the keeper has not been told yet */
};

struct state_shard {
    struct state *state;
    struct loop *loop;
    struct state_table limits;
    struct state_table cache;
    struct state_table local; /* short-lived copies of answers that other shards own */
    struct list gone;         /* struct gone_key: dropped values that the keeper may have */
    size_t gone_count;
    struct loop_timer save;
    bool left;
    /* of state_flush(), under the lock of keeping */
    uint64_t flushed; /* the last one whose changes were handed over */
    bool flushed_last;
};

struct gone_key {
    struct list link;
    struct str key; /* owned */
};

struct fact {
    struct list link;
    struct str key; /* owned */
    int64_t until_ms;
};

struct state_keeping {
    struct state_keeper *keeper;
    size_t most; /* records */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t progress; /* monotonic: a shard was flushed, or a batch written */
    uint64_t flushes;
    uint64_t handed, settled; /* batches; settled: stored, or not */
    uint64_t failed;          /* the last of them that could not be stored */
    struct list facts;        /* struct fact: what the next batch takes first */
    atomic_size_t fact_count;
    struct list batches;
    size_t count; /* batches, with those being packed or written */
    bool ending;
    bool failing;     /* the thread's own, as what follows */
    uint64_t written; /* batches */
};

struct state {
    size_t count;
    struct state_shard *shards;
    size_t max_entries;
    unsigned char secret[STATE_SECRET_SIZE];
    unsigned char kept_secret[STATE_SECRET_SIZE];
    _Atomic(struct named_breaker *) breakers;
    atomic_uint breaker_count;
    struct state_keeping *keeping; /* NULL: nothing outlives the process */
};

struct named_breaker {
    struct named_breaker *next;
    struct breaker breaker;
};

struct limit_entry {
    struct list link;    /* in order */
    struct list changed; /* in the table's list, or alone */
    struct str key;      /* owned */
    int64_t period_ns;
    int64_t slot; /* number of the newest slot since the clock's start */
    uint32_t counts[LIMIT_SLOTS];
};

struct cache_entry {
    struct list link;
    struct list changed;
    struct str key; /* owned */
    bool has_value;
    bool flying; /* some fiber has the duty to find it */
    bool is_kept;
    bool outlives; /* a restart */
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
/* A record of an entry; `wall_offset_ms` makes wall time of monotonic time. And back. */
void limit_pack(const struct limit_entry *entry, int64_t wall_offset_ms, struct arena *arena,
                struct state_record *out);
void limit_unpack(struct state_table *table, const struct state_record *record);
/* cache.c */
void cache_table_clear(struct state_table *table);
/* Nobody will answer any more: give the duty of every flight to those who wait. */
void cache_release_waiters(struct state_shard *shard);
void cache_pack(const struct cache_entry *entry, int64_t wall_offset_ms, struct arena *arena,
                struct state_record *out);
void cache_unpack(struct state_table *table, const struct state_record *record, int64_t left_ns);

/* keep.c; nothing without a keeper. */
void state_keep_join(struct state_shard *shard);
void state_keep_leave(struct state_shard *shard);
void state_keep_end(struct state *state);
void state_gone_free(struct gone_key *gone);

/* breaker.c */
void state_breakers_free(struct state *state);
