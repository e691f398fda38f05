/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/keep.c - what changed goes to the keeper, lazily.
 *
 * Each shard lists its changed entries; every ten seconds its worker packs some into a batch, which
 * the state's own thread writes. A keeper that is slow or failing costs memory for a few batches
 * and no more: what is not taken stays on the list. state_flush() has all of it written at once.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "event/event.h"
#include "state/state_internal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAVE_S = 10,
    SAVE_MORE_S = 1,
    BATCH_RECORDS = 5000,
    BATCHES_MAX = 8,
    TEND_BATCHES = 16,
    FLUSH_S = 10,
    FACTS_MAX = 200000, /* that wait to be written; more are left out */
};
#define SECRET_LIFE_MS (INT64_C(3650) * 86400 * 1000)

struct batch {
    struct list link;
    struct arena *arena;
    struct state_record *records;
    size_t count;
};

static int64_t wall_ms(void)
{
    return clock_steady_wall_ns() / NS_PER_MS;
}

/* ---- the thread ---- */

static void batch_free(struct batch *batch)
{
    arena_free(batch->arena);
    free(batch);
}

/* Told once for each time it begins to fail. */
static void tell(struct state_keeping *keeping, enum result result, const struct error *err)
{
    if (result != OK && !keeping->failing)
        event_emit(EVENT_DAEMON_WARNING,
                   F_C(DETAIL, "counts and answers will not outlive a restart"),
                   F_C(ERROR, err->text));
    keeping->failing = result != OK;
}

/* False: it could not be stored. */
static bool write_batch(struct state_keeping *keeping, struct batch *batch)
{
    struct error err;
    struct state_keeper *keeper = keeping->keeper;
    enum result result = keeper->ops->store(keeper, batch->records, batch->count, &err);
    bool stored = result == OK;
    if (result == OK && ++keeping->written % TEND_BATCHES == 0)
        result = keeper->ops->tend(keeper, wall_ms(), keeping->most, &err);
    tell(keeping, result, &err);
    batch_free(batch);
    return stored;
}

static void *keep_main(void *arg)
{
    struct state_keeping *keeping = arg;
    pthread_setname_np(pthread_self(), "state");
    pthread_mutex_lock(&keeping->lock);
    for (;;) {
        struct list *link = list_shift(&keeping->batches);
        if (link) {
            pthread_mutex_unlock(&keeping->lock);
            bool stored = write_batch(keeping, CONTAINER(link, struct batch, link));
            pthread_mutex_lock(&keeping->lock);
            keeping->count--;
            keeping->settled++;
            if (!stored)
                keeping->failed = keeping->settled;
            pthread_cond_broadcast(&keeping->progress);
        } else if (keeping->ending) {
            break;
        } else {
            pthread_cond_wait(&keeping->work, &keeping->lock);
        }
    }
    pthread_mutex_unlock(&keeping->lock);
    return NULL;
}

static void start_thread(struct state_keeping *keeping)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    check(pthread_create(&keeping->thread, NULL, keep_main, keeping) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- packing, on a worker ---- */

static struct batch *batch_new(size_t cap)
{
    struct batch *batch = NEW(struct batch);
    batch->arena = arena_new(0);
    batch->records = arena_alloc_array(batch->arena, cap, sizeof(struct state_record));
    return batch;
}

static void fact_free(struct fact *fact)
{
    free((char *)fact->key.ptr);
    free(fact);
}

static struct fact *next_fact(struct state_keeping *keeping)
{
    pthread_mutex_lock(&keeping->lock);
    struct list *link = list_shift(&keeping->facts);
    if (link)
        atomic_fetch_sub(&keeping->fact_count, 1);
    pthread_mutex_unlock(&keeping->lock);
    return link ? CONTAINER(link, struct fact, link) : NULL;
}

static void pack_facts(struct state_keeping *keeping, struct batch *batch, size_t cap)
{
    struct fact *fact;
    while (batch->count < cap && (fact = next_fact(keeping)) != NULL) {
        batch->records[batch->count++] =
            (struct state_record){.kind = STATE_RECORD_FACT,
                                  .key = arena_str(batch->arena, fact->key),
                                  .value = STR_EMPTY,
                                  .until_ms = fact->until_ms};
        fact_free(fact);
    }
}

void state_keep_fact(struct state *state, struct str key, int64_t until_ms)
{
    struct state_keeping *keeping = state->keeping;
    if (!keeping || atomic_load(&keeping->fact_count) >= FACTS_MAX)
        return;
    struct fact *fact = NEW(struct fact);
    fact->key = state_key_copy(key);
    fact->until_ms = until_ms;
    pthread_mutex_lock(&keeping->lock);
    list_append(&keeping->facts, &fact->link);
    atomic_fetch_add(&keeping->fact_count, 1);
    pthread_mutex_unlock(&keeping->lock);
}

static void pack(struct state_shard *shard, struct batch *batch, size_t cap)
{
    struct list *link;
    int64_t wall_offset_ms = wall_ms() - clock_monotonic_ns() / NS_PER_MS;
    pack_facts(shard->state->keeping, batch, cap);
    while (batch->count < cap && (link = list_shift(&shard->gone))) {
        struct gone_key *gone = CONTAINER(link, struct gone_key, link);
        batch->records[batch->count++] = (struct state_record){
            .kind = STATE_RECORD_VALUE, .key = arena_str(batch->arena, gone->key)};
        shard->gone_count--;
        state_gone_free(gone);
    }
    while (batch->count < cap && (link = list_shift(&shard->limits.changed)))
        limit_pack(CONTAINER(link, struct limit_entry, changed), wall_offset_ms, batch->arena,
                   &batch->records[batch->count++]);
    while (batch->count < cap && (link = list_shift(&shard->cache.changed)))
        cache_pack(CONTAINER(link, struct cache_entry, changed), wall_offset_ms, batch->arena,
                   &batch->records[batch->count++]);
}

static bool has_more(const struct state_shard *shard)
{
    return !list_is_empty(&shard->limits.changed) || !list_is_empty(&shard->cache.changed) ||
           !list_is_empty(&shard->gone) || atomic_load(&shard->state->keeping->fact_count) > 0;
}

/* `last`: however many wait already. */
static void hand_over(struct state_shard *shard, bool last)
{
    struct state_keeping *keeping = shard->state->keeping;
    pthread_mutex_lock(&keeping->lock);
    bool full = keeping->count >= BATCHES_MAX && !last;
    keeping->count += !full;
    pthread_mutex_unlock(&keeping->lock);
    if (full)
        return;
    struct batch *batch = batch_new(BATCH_RECORDS);
    pack(shard, batch, BATCH_RECORDS);
    pthread_mutex_lock(&keeping->lock);
    list_append(&keeping->batches, &batch->link);
    keeping->handed++;
    pthread_cond_signal(&keeping->work);
    pthread_mutex_unlock(&keeping->lock);
}

static void save(struct loop_timer *timer)
{
    struct state_shard *shard = CONTAINER(timer, struct state_shard, save);
    if (has_more(shard))
        hand_over(shard, /* last= */ false);
    loop_timer_set(timer, clock_deadline((has_more(shard) ? SAVE_MORE_S : SAVE_S) * NS_PER_S));
}

void state_keep_join(struct state_shard *shard)
{
    if (!shard->state->keeping)
        return;
    shard->save.fire = save;
    loop_timer_set(&shard->save, clock_deadline(SAVE_S * NS_PER_S));
}

/* All of it is handed over: as far as the flush of this number, or for good. */
static void hand_over_all(struct state_shard *shard, uint64_t number, bool last)
{
    struct state_keeping *keeping = shard->state->keeping;
    while (has_more(shard))
        hand_over(shard, /* last= */ true);
    pthread_mutex_lock(&keeping->lock);
    if (number > shard->flushed)
        shard->flushed = number;
    shard->flushed_last |= last;
    pthread_cond_broadcast(&keeping->progress);
    pthread_mutex_unlock(&keeping->lock);
}

void state_keep_leave(struct state_shard *shard)
{
    if (!shard->state->keeping)
        return;
    loop_timer_clear(&shard->save);
    hand_over_all(shard, /* number= */ 0, /* last= */ true);
}

/* ---- at once ---- */

struct flush {
    struct post post;
    struct state_shard *shard;
    uint64_t number;
};

static void flush_shard(struct post *post)
{
    struct flush *flush = CONTAINER(post, struct flush, post);
    hand_over_all(flush->shard, flush->number, /* last= */ false);
    free(flush);
}

static bool is_flushed(const struct state *state, uint64_t number)
{
    for (size_t i = 0; i < state->count; i++)
        if (state->shards[i].flushed < number && !state->shards[i].flushed_last)
            return false;
    return true;
}

/* A shard's posts come in order: one of a higher number stands for those before it. */
enum result state_flush(struct state *state, struct error *err)
{
    struct state_keeping *keeping = state->keeping;
    struct timespec until;
    if (!keeping)
        return OK;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += FLUSH_S;
    pthread_mutex_lock(&keeping->lock);
    uint64_t number = ++keeping->flushes, before = keeping->settled;
    for (size_t i = 0; i < state->count; i++) {
        if (state->shards[i].flushed_last)
            continue;
        struct flush *flush = NEW(struct flush);
        flush->post.run = flush_shard;
        flush->shard = &state->shards[i];
        flush->number = number;
        loop_post(flush->shard->loop, &flush->post);
    }
    bool late = false;
    while (!late && !is_flushed(state, number))
        late = pthread_cond_timedwait(&keeping->progress, &keeping->lock, &until) != 0;
    uint64_t target = keeping->handed;
    while (!late && keeping->settled < target)
        late = pthread_cond_timedwait(&keeping->progress, &keeping->lock, &until) != 0;
    bool stored = keeping->failed <= before;
    pthread_mutex_unlock(&keeping->lock);
    if (late)
        return fail(err, ERROR_TIMEOUT, "counts were not written within %d s", FLUSH_S);
    return stored ? OK : fail(err, ERROR_TEMPORARY, "counts could not be written");
}

/* ---- start and end ---- */

struct taking {
    struct state *state;
    state_take_fact *fact;
    void *arg;
};

static void take_record(const struct state_record *record, void *arg)
{
    const struct taking *taking = arg;
    struct state *state = taking->state;
    if (record->key.len > STATE_KEY_MAX)
        return;
    if (record->kind == STATE_RECORD_FACT) {
        if (taking->fact)
            taking->fact(record->key, record->until_ms, taking->arg);
        return;
    }
    struct state_shard *shard = state_owner(state, record->key);
    int64_t left_ns = (record->until_ms - wall_ms()) * NS_PER_MS;
    if (record->kind == STATE_RECORD_LIMIT)
        limit_unpack(&shard->limits, record);
    else if (record->kind == STATE_RECORD_VALUE)
        cache_unpack(&shard->cache, record, left_ns);
    else if (record->value.len == STATE_SECRET_SIZE)
        memcpy(state->kept_secret, record->value.ptr, STATE_SECRET_SIZE);
}

/* Keys hashed with it must be found again. */
static enum result keep_secret(struct state *state, struct state_keeper *keeper, struct error *err)
{
    struct state_record record = {.kind = STATE_RECORD_SECRET,
                                  .key = STR("secret"),
                                  .value =
                                      str_of((const char *)state->kept_secret, STATE_SECRET_SIZE),
                                  .until_ms = wall_ms() + SECRET_LIFE_MS};
    return keeper->ops->store(keeper, &record, 1, err);
}

enum result state_keep(struct state *state, struct state_keeper *keeper, state_take_fact *take,
                       void *arg, struct error *err)
{
    struct taking taking = {.state = state, .fact = take, .arg = arg};
    check(!state->keeping);
    if (keeper->ops->load(keeper, wall_ms(), take_record, &taking, err) != OK ||
        keep_secret(state, keeper, err) != OK) {
        keeper->ops->close(keeper);
        return FAILED;
    }
    struct state_keeping *keeping = NEW(struct state_keeping);
    keeping->keeper = keeper;
    keeping->most = 2 * state->max_entries;
    list_init(&keeping->batches);
    list_init(&keeping->facts);
    pthread_mutex_init(&keeping->lock, NULL);
    pthread_cond_init(&keeping->work, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&keeping->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
    state->keeping = keeping;
    start_thread(keeping);
    return OK;
}

void state_keep_end(struct state *state)
{
    struct state_keeping *keeping = state->keeping;
    if (!keeping)
        return;
    pthread_mutex_lock(&keeping->lock);
    keeping->ending = true;
    pthread_cond_signal(&keeping->work);
    pthread_mutex_unlock(&keeping->lock);
    pthread_join(keeping->thread, NULL);
    keeping->keeper->ops->close(keeping->keeper);
    for (struct fact *fact; (fact = next_fact(keeping)) != NULL;) /* that came too late */
        fact_free(fact);
    pthread_cond_destroy(&keeping->work);
    pthread_cond_destroy(&keeping->progress);
    pthread_mutex_destroy(&keeping->lock);
    free(keeping);
    state->keeping = NULL;
}
