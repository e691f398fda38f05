/* SPDX-License-Identifier: Apache-2.0 */
#include "state/state.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"
#include "state/state_internal.h"

#include <stdlib.h>
#include <string.h>

void state_table_init(struct state_table *table, size_t max)
{
    map_init(&table->map);
    list_init(&table->order);
    list_init(&table->kept);
    list_init(&table->changed);
    table->max = max ? max : 1;
}

struct str state_key_copy(struct str key)
{
    char *copy = memory_alloc(key.len);
    if (key.len)
        memcpy(copy, key.ptr, key.len);
    return str_of(copy, key.len);
}

struct state *state_new(struct loop *const *loops, size_t count, size_t max_entries)
{
    check(count > 0);
    struct state *state = NEW(struct state);
    state->count = count;
    state->shards = memory_alloc_array(count, sizeof *state->shards);
    state->max_entries = max_entries;
    random_bytes(state->secret, sizeof state->secret);
    random_bytes(state->kept_secret, sizeof state->kept_secret);
    for (size_t i = 0; i < count; i++) {
        struct state_shard *shard = &state->shards[i];
        shard->state = state;
        shard->loop = loops ? loops[i] : NULL;
        list_init(&shard->gone);
        state_table_init(&shard->limits, max_entries / count);
        state_table_init(&shard->cache, max_entries / count);
        state_table_init(&shard->local, max_entries / count);
    }
    return state;
}

void state_join(struct state *state, size_t worker)
{
    check(worker < state->count);
    check(state->shards[worker].loop == loop_current());
    state_keep_join(&state->shards[worker]);
}

void state_leave(struct state *state, size_t worker)
{
    check(worker < state->count);
    struct state_shard *shard = &state->shards[worker];
    shard->left = true;
    cache_release_waiters(shard);
    state_keep_leave(shard);
}

void state_free(struct state *state)
{
    if (!state)
        return;
    state_keep_end(state);
    for (size_t i = 0; i < state->count; i++) {
        struct list *link;
        while ((link = list_shift(&state->shards[i].gone)))
            state_gone_free(CONTAINER(link, struct gone_key, link));
        limit_table_clear(&state->shards[i].limits);
        cache_table_clear(&state->shards[i].cache);
        cache_table_clear(&state->shards[i].local);
    }
    state_breakers_free(state);
    memory_wipe(state->secret, sizeof state->secret);
    memory_wipe(state->kept_secret, sizeof state->kept_secret);
    free(state->shards);
    free(state);
}

const unsigned char *state_secret(const struct state *state)
{
    return state->secret;
}

const unsigned char *state_kept_secret(const struct state *state)
{
    return state->kept_secret;
}

struct state_shard *state_self(struct state *state)
{
    struct loop *loop = loop_current();
    for (size_t i = 0; i < state->count; i++)
        if (state->shards[i].loop == loop)
            return &state->shards[i];
    return NULL;
}

struct state_shard *state_owner(struct state *state, struct str key)
{
    check(key.len <= STATE_KEY_MAX);
    return &state->shards[state->count == 1 ? 0 : hash_bytes(key) % state->count];
}
