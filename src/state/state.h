/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/state.h - what must be one for all workers: limits, caches, single flight.
 *
 * Keys are hashed to an owning worker, which is asked by fiber/call.h; no locks. Everything is
 * bounded: the oldest goes first.
 */
#pragma once

#include "base/str.h"
#include "fiber/fiber.h"

struct state;
struct loop;

/* `loops`: the workers, in order; the state lives until state_free. Each worker calls state_join
 * once, on its thread, before use. */
struct state *state_new(struct loop *const *loops, size_t count, size_t max_entries);
void state_join(struct state *state, size_t worker);
void state_leave(struct state *state, size_t worker);
void state_free(struct state *state);

/* A random key of this boot, for keys that must not show what they hide (passwords). */
enum { STATE_SECRET_SIZE = 32 };
const unsigned char *state_secret(const struct state *state);
/* The same for keys of what outlives a restart. It lies on disk beside them: not for passwords. */
const unsigned char *state_kept_secret(const struct state *state);

/* ---- what outlives a restart ---- */

struct state_keeper;
typedef void state_take_fact(struct str key, int64_t until_ms, void *arg);
/* Take what the keeper has, and from now on tell it lazily of every count, of the values put with
 * state_cache_put_kept(), and of facts; those that it has are given to `take` (NULL: to nobody).
 * Before the workers join. The keeper becomes the state's; FAILED: it is closed, and the state
 * works without. A crash loses some seconds. */
enum result state_keep(struct state *state, struct state_keeper *keeper, state_take_fact *take,
                       void *arg, struct error *err);
/* Keep a key that means something to somebody above, until then (wall clock); who does so bounds
 * how many there are. Any thread. Without a keeper, nothing. */
void state_keep_fact(struct state *state, struct str key, int64_t until_ms);
/* What was counted, forgotten and put before is with the keeper, on disk, when this returns OK.
 * From a thread that is no worker: blocks, ten seconds at most. Without a keeper, nothing. */
enum result state_flush(struct state *state, struct error *err);

/* ---- limits: sliding windows ---- */

struct state_limit_answer {
    bool allowed;
    uint64_t count;      /* in the window, with this one if allowed */
    int64_t retry_in_ns; /* when not allowed */
};
/* Count `amount` for `key` if that stays within `max` in the last `period_ns`. `peek`: do not
 * count. FAILED as fiber_suspend(). */
enum result state_limit(struct state *state, struct str key, uint64_t amount, uint64_t max,
                        int64_t period_ns, bool peek, struct state_limit_answer *out,
                        struct error *err) MAY_YIELD;

/* What was counted for `key` a moment ago came to nothing. From any thread. */
void state_limit_give_back(struct state *state, struct str key, uint64_t amount);

/* Begin anew with every count whose key starts and ends so. From any thread; looks at all of them,
 * so for what people do. Counts that come at the same moment may stay. */
void state_limit_forget(struct state *state, struct str prefix, struct str suffix);

/* ---- caches with single flight ---- */

enum state_cache_status {
    STATE_CACHE_HIT,   /* `out_value` holds it */
    STATE_CACHE_STALE, /* no fresh value and this fiber should ask; a stale one is in out_value */
    STATE_CACHE_MISS,  /* this fiber should ask, and must call state_cache_put or _abandon */
};
enum { STATE_VALUE_MAX = 600 };
struct state_value {
    char bytes[STATE_VALUE_MAX];
    size_t len;
};
/*
 * Fresh value of `key`, or the duty to find it. While another fiber of any worker is finding it,
 * waits for its answer (single flight). `stale_ns`: how long past its life a value may still be
 * returned as STALE.
 */
enum result state_cache_get(struct state *state, struct str key, int64_t stale_ns,
                            enum state_cache_status *out_status, struct state_value *out_value,
                            struct error *err) MAY_YIELD;
/* Tell the answer to everybody who waits, and keep it for `life_ns` and, as stale, for `stale_ns`
 * beyond. Life 0: tell only; what was kept before stays. A value that is too long is an abandon. */
void state_cache_put(struct state *state, struct str key, struct str value, int64_t life_ns,
                     int64_t stale_ns);
/* The same for a value that is to outlive a restart. Nothing that must not lie on a disk. */
void state_cache_put_kept(struct state *state, struct str key, struct str value, int64_t life_ns,
                          int64_t stale_ns);
/* Could not find it: one of those who wait gets the duty. */
void state_cache_abandon(struct state *state, struct str key);
void state_cache_drop(struct state *state, struct str key);
/* Forget every key that starts with `prefix` (reload). */
void state_cache_drop_prefix(struct state *state, struct str prefix);
