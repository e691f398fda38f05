/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/cache.c - answers kept for a while, each found by one fiber of all workers at a time.
 *
 * The first who finds no fresh value gets the duty to find it; those who come meanwhile wait in
 * the entry with their calls unanswered. A call that was abandoned by its fiber and is handed the
 * duty gives it back from its release function, so a duty is never lost.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "state/state_internal.h"

#include <stdlib.h>
#include <string.h>

enum { LOCAL_LIFE_NS = 1000000000 }; /* how long a copy of another worker's answer is believed */

struct cache_call {
    struct call call;
    struct list link; /* in the waiters of an entry */
    struct state_shard *shard;
    struct str key; /* owned */
    int64_t stale_ns;
    enum state_cache_status status;
    int64_t fresh_until_ns;
    struct state_value value;
};

/* ---- the table ---- */

static void value_free(struct cache_entry *entry)
{
    memory_wipe((char *)entry->value.ptr, entry->value.len);
    free((char *)entry->value.ptr);
    entry->value = (struct str){0};
}

static void entry_free(struct state_table *table, struct cache_entry *entry)
{
    map_remove(&table->map, entry->key);
    list_remove(&entry->link);
    list_remove(&entry->changed);
    table->kept_count -= entry->is_kept;
    value_free(entry);
    free((char *)entry->key.ptr);
    free(entry);
}

void cache_table_clear(struct state_table *table)
{
    struct list *lists[] = {&table->order, &table->kept};
    for (size_t i = 0; i < 2; i++)
        while (!list_is_empty(lists[i]))
            entry_free(table, CONTAINER(lists[i]->next, struct cache_entry, link));
    map_done(&table->map);
}

/* Entries in flight stay, their number is bounded by the fibers. */
static bool drop_oldest(struct state_table *table, struct list *order)
{
    LIST_EACH (order, link) {
        struct cache_entry *entry = CONTAINER(link, struct cache_entry, link);
        if (entry->flying)
            continue;
        entry_free(table, entry);
        return true;
    }
    return false;
}

static void table_make_room(struct state_table *table)
{
    size_t count = table->map.count;
    if (count < table->max)
        return;
    bool few_others = count - table->kept_count < table->max / 4;
    struct list *first = few_others ? &table->kept : &table->order;
    struct list *second = few_others ? &table->order : &table->kept;
    if (!drop_oldest(table, first))
        drop_oldest(table, second);
}

/* Make it the last to be forgotten. */
static void entry_touch(struct state_table *table, struct cache_entry *entry, bool is_kept)
{
    table->kept_count += (size_t)is_kept - (size_t)entry->is_kept;
    entry->is_kept = is_kept;
    list_remove(&entry->link);
    list_append(is_kept ? &table->kept : &table->order, &entry->link);
}

static struct cache_entry *entry_of(struct state_table *table, struct str key, bool make)
{
    struct cache_entry *entry = map_get(&table->map, key);
    if (entry) {
        entry_touch(table, entry, entry->is_kept);
        return entry;
    }
    if (!make)
        return NULL;
    table_make_room(table);
    entry = NEW(struct cache_entry);
    entry->key = state_key_copy(key);
    list_init(&entry->link);
    list_init(&entry->changed);
    list_init(&entry->waiters);
    entry_touch(table, entry, /* is_kept= */ false);
    map_put(&table->map, entry->key, entry);
    return entry;
}

static void entry_set(struct state_table *table, struct cache_entry *entry, struct str value,
                      int64_t life_ns, int64_t stale_ns)
{
    value_free(entry);
    entry->value = state_key_copy(value);
    entry->has_value = true;
    entry->fresh_until_ns = clock_deadline(life_ns);
    entry->stale_until_ns =
        stale_ns > INT64_MAX - entry->fresh_until_ns ? INT64_MAX : entry->fresh_until_ns + stale_ns;
    entry_touch(table, entry, stale_ns > 0);
}

static void value_set(struct state_value *out, struct str value)
{
    out->len = value.len;
    if (value.len)
        memcpy(out->bytes, value.ptr, value.len);
}

/* ---- on the owner's thread ---- */

static enum state_cache_status entry_duty(const struct cache_entry *entry, int64_t stale_ns)
{
    int64_t now = clock_monotonic_ns();
    bool usable =
        entry->has_value && now < entry->stale_until_ns && now - entry->fresh_until_ns < stale_ns;
    return usable ? STATE_CACHE_STALE : STATE_CACHE_MISS;
}

static void call_fill(struct cache_call *call, enum state_cache_status status,
                      const struct cache_entry *entry)
{
    call->status = status;
    call->fresh_until_ns = entry->fresh_until_ns;
    value_set(&call->value, status == STATE_CACHE_MISS ? STR_EMPTY : entry->value);
}

/* False: somebody is finding it, and the question has to wait. */
static bool cache_try(struct state_shard *shard, struct cache_call *call)
{
    struct cache_entry *entry = entry_of(&shard->cache, call->key, true);
    if (entry->has_value && clock_monotonic_ns() < entry->fresh_until_ns) {
        call_fill(call, STATE_CACHE_HIT, entry);
        return true;
    }
    if (entry->flying && !shard->left)
        return false;
    entry->flying = true;
    call_fill(call, entry_duty(entry, call->stale_ns), entry);
    return true;
}

static void cache_call_handle(struct call *call)
{
    struct cache_call *self = CONTAINER(call, struct cache_call, call);
    if (cache_try(self->shard, self)) {
        call_reply(call);
        return;
    }
    struct cache_entry *entry = entry_of(&self->shard->cache, self->key, true);
    list_append(&entry->waiters, &self->link);
}

/* ---- for the keeper ---- */

void cache_pack(const struct cache_entry *entry, int64_t wall_offset_ms, struct arena *arena,
                struct state_record *out)
{
    struct buf text BUF_CLEANUP; /* when it is no longer fresh, and the value */
    buf_init(&text, STATE_VALUE_MAX + 32);
    buf_append_int(&text, entry->fresh_until_ns / NS_PER_MS + wall_offset_ms);
    buf_append_byte(&text, ' ');
    buf_append(&text, entry->value);
    int64_t until_ns =
        entry->stale_until_ns < INT64_MAX / 4 ? entry->stale_until_ns : INT64_MAX / 4;
    *out = (struct state_record){.kind = STATE_RECORD_VALUE,
                                 .key = arena_str(arena, entry->key),
                                 .value = arena_str(arena, buf_str(&text)),
                                 .until_ms = until_ns / NS_PER_MS + wall_offset_ms};
}

void cache_unpack(struct state_table *table, const struct state_record *record, int64_t left_ns)
{
    struct str rest = record->value;
    struct str number;
    uint64_t fresh_ms;
    if (!str_split(&rest, ' ', &number) || !str_to_uint(number, INT64_MAX / NS_PER_MS, &fresh_ms) ||
        rest.len > STATE_VALUE_MAX)
        return;
    int64_t fresh_ns = (int64_t)fresh_ms * NS_PER_MS - clock_steady_wall_ns();
    int64_t life_ns = fresh_ns > left_ns ? left_ns : fresh_ns; /* may be over already */
    struct cache_entry *entry = entry_of(table, record->key, true);
    entry_set(table, entry, rest, life_ns, left_ns - life_ns);
    entry->outlives = true;
}

/* The keeper is told to forget it; bounded, for a flood of drops may forget itself. */
static void tell_gone(struct state_shard *shard, struct str key)
{
    enum { GONE_MAX = 100000 };
    if (!shard->state->keeping || shard->gone_count == GONE_MAX)
        return;
    struct gone_key *gone = NEW(struct gone_key);
    gone->key = state_key_copy(key);
    list_append(&shard->gone, &gone->link);
    shard->gone_count++;
}

void state_gone_free(struct gone_key *gone)
{
    free((char *)gone->key.ptr);
    free(gone);
}

static void entry_changed(struct state_shard *shard, struct cache_entry *entry, bool outlives)
{
    if (entry->outlives && !outlives)
        tell_gone(shard, entry->key);
    entry->outlives = outlives;
    if (outlives && shard->state->keeping && list_is_empty(&entry->changed))
        list_append(&shard->cache.changed, &entry->changed);
}

static void cache_put(struct state_shard *shard, struct str key, struct str value, int64_t life_ns,
                      int64_t stale_ns, bool outlives)
{
    struct cache_entry *entry = entry_of(&shard->cache, key, life_ns > 0);
    if (!entry)
        return;
    if (life_ns > 0) {
        entry_set(&shard->cache, entry, value, life_ns, stale_ns);
        entry_changed(shard, entry, outlives);
    }
    entry->flying = false;
    struct list *link;
    while ((link = list_shift(&entry->waiters))) {
        struct cache_call *call = CONTAINER(link, struct cache_call, link);
        call->status = STATE_CACHE_HIT;
        call->fresh_until_ns = life_ns > 0 ? entry->fresh_until_ns : 0;
        value_set(&call->value, value);
        call_reply(&call->call);
    }
    if (!entry->has_value)
        entry_free(&shard->cache, entry);
}

static void cache_abandon(struct state_shard *shard, struct str key)
{
    struct cache_entry *entry = entry_of(&shard->cache, key, false);
    if (!entry || !entry->flying)
        return;
    struct list *link = list_shift(&entry->waiters);
    if (link) {
        struct cache_call *call = CONTAINER(link, struct cache_call, link);
        call_fill(call, entry_duty(entry, call->stale_ns), entry);
        call_reply(&call->call);
        return;
    }
    entry->flying = false;
    if (!entry->has_value)
        entry_free(&shard->cache, entry);
}

static void table_drop(struct state_table *table, struct cache_entry *entry)
{
    entry->has_value = false;
    entry->outlives = false;
    list_remove(&entry->changed);
    if (!entry->flying)
        entry_free(table, entry);
}

static void cache_drop(struct state_shard *shard, struct str key)
{
    struct cache_entry *entry = map_get(&shard->cache.map, key);
    if (entry)
        table_drop(&shard->cache, entry);
    if (state_owner(shard->state, key) == shard)
        tell_gone(shard, key); /* it may have been pushed out of memory only */
    entry = map_get(&shard->local.map, key);
    if (entry)
        table_drop(&shard->local, entry);
}

static void drop_prefix_of(struct state_shard *shard, struct state_table *table, struct list *order,
                           struct str prefix)
{
    LIST_EACH (order, link) {
        struct cache_entry *entry = CONTAINER(link, struct cache_entry, link);
        if (!str_starts(entry->key, prefix))
            continue;
        if (entry->outlives)
            tell_gone(shard, entry->key);
        table_drop(table, entry);
    }
}

static void cache_drop_prefix(struct state_shard *shard, struct str prefix)
{
    struct state_table *tables[] = {&shard->cache, &shard->local};
    for (size_t i = 0; i < 2; i++) {
        drop_prefix_of(shard, tables[i], &tables[i]->order, prefix);
        drop_prefix_of(shard, tables[i], &tables[i]->kept, prefix);
    }
}

static void release_waiters_of(struct list *order)
{
    LIST_EACH (order, entry_link) {
        struct cache_entry *entry = CONTAINER(entry_link, struct cache_entry, link);
        struct list *link;
        while ((link = list_shift(&entry->waiters))) {
            struct cache_call *call = CONTAINER(link, struct cache_call, link);
            call_fill(call, entry_duty(entry, call->stale_ns), entry);
            call_reply(&call->call);
        }
    }
}

void cache_release_waiters(struct state_shard *shard)
{
    release_waiters_of(&shard->cache.order);
    release_waiters_of(&shard->cache.kept);
}

/* ---- telling the owner: nobody waits for it ---- */

enum notice_kind { NOTICE_PUT, NOTICE_PUT_KEPT, NOTICE_ABANDON, NOTICE_DROP, NOTICE_DROP_PREFIX };

struct notice {
    struct post post;
    struct state_shard *shard;
    enum notice_kind kind;
    struct str key; /* owned */
    int64_t life_ns;
    int64_t stale_ns;
    struct state_value value;
};

static void notice_apply(const struct notice *notice)
{
    switch (notice->kind) {
    case NOTICE_PUT:
    case NOTICE_PUT_KEPT:
        cache_put(notice->shard, notice->key, str_of(notice->value.bytes, notice->value.len),
                  notice->life_ns, notice->stale_ns, notice->kind == NOTICE_PUT_KEPT);
        break;
    case NOTICE_ABANDON:
        cache_abandon(notice->shard, notice->key);
        break;
    case NOTICE_DROP:
        cache_drop(notice->shard, notice->key);
        break;
    case NOTICE_DROP_PREFIX:
        cache_drop_prefix(notice->shard, notice->key);
        break;
    }
}

static void notice_run(struct post *post)
{
    struct notice *notice = CONTAINER(post, struct notice, post);
    notice_apply(notice);
    memory_wipe(&notice->value, sizeof notice->value);
    free((char *)notice->key.ptr);
    free(notice);
}

static void notice_send(struct state_shard *shard, const struct notice *what)
{
    struct notice direct = *what;
    direct.shard = shard;
    if (shard == state_self(shard->state)) {
        notice_apply(&direct);
        return;
    }
    struct notice *notice = NEW(struct notice);
    *notice = direct;
    notice->key = state_key_copy(what->key);
    notice->post.run = notice_run;
    loop_post(shard->loop, &notice->post);
}

/* ---- asking ---- */

static void cache_call_free(struct cache_call *call)
{
    memory_wipe(&call->value, sizeof call->value);
    free((char *)call->key.ptr);
    free(call);
}

static void cache_call_release(struct call *call)
{
    struct cache_call *self = CONTAINER(call, struct cache_call, call);
    if (self->status != STATE_CACHE_HIT)
        state_cache_abandon(self->shard->state, self->key);
    cache_call_free(self);
}

static bool local_get(struct state_shard *self, struct str key, struct state_value *out)
{
    struct cache_entry *entry = self ? map_get(&self->local.map, key) : NULL;
    if (!entry)
        return false;
    if (clock_monotonic_ns() >= entry->fresh_until_ns) {
        entry_free(&self->local, entry);
        return false;
    }
    value_set(out, entry->value);
    return true;
}

static void local_put(struct state_shard *self, struct str key, struct str value, int64_t life_ns)
{
    if (!self || life_ns <= 0)
        return;
    struct cache_entry *entry = entry_of(&self->local, key, true);
    entry_set(&self->local, entry, value, life_ns < LOCAL_LIFE_NS ? life_ns : LOCAL_LIFE_NS, 0);
}

static struct cache_call *cache_call_new(struct state_shard *owner, struct str key,
                                         int64_t stale_ns)
{
    struct cache_call *call = NEW(struct cache_call);
    call->call.handle = cache_call_handle;
    call->call.release = cache_call_release;
    list_init(&call->link);
    call->shard = owner;
    call->key = state_key_copy(key);
    call->stale_ns = stale_ns;
    call->status = STATE_CACHE_HIT; /* until the owner says otherwise: no duty */
    return call;
}

enum result state_cache_get(struct state *state, struct str key, int64_t stale_ns,
                            enum state_cache_status *out_status, struct state_value *out_value,
                            struct error *err)
{
    struct state_shard *owner = state_owner(state, key);
    struct state_shard *self = state_self(state);
    if (owner != self && local_get(self, key, out_value)) {
        *out_status = STATE_CACHE_HIT;
        return OK;
    }
    struct cache_call *call = cache_call_new(owner, key, stale_ns);
    if (owner != self || !cache_try(owner, call)) {
        if (call_ask(owner->loop, &call->call, err) != OK)
            return FAILED; /* abandoned: it frees itself */
        if (call->status == STATE_CACHE_HIT && owner != self)
            local_put(self, key, str_of(call->value.bytes, call->value.len),
                      call->fresh_until_ns - clock_monotonic_ns());
    }
    *out_status = call->status;
    *out_value = call->value;
    cache_call_free(call);
    return OK;
}

static void put(struct state *state, enum notice_kind kind, struct str key, struct str value,
                int64_t life_ns, int64_t stale_ns)
{
    if (value.len > STATE_VALUE_MAX) {
        state_cache_abandon(state, key);
        return;
    }
    struct state_shard *owner = state_owner(state, key);
    struct state_shard *self = state_self(state);
    struct notice notice = {.kind = kind, .key = key, .life_ns = life_ns, .stale_ns = stale_ns};
    value_set(&notice.value, value);
    if (owner != self)
        local_put(self, key, value, life_ns);
    notice_send(owner, &notice);
}

void state_cache_put(struct state *state, struct str key, struct str value, int64_t life_ns,
                     int64_t stale_ns)
{
    put(state, NOTICE_PUT, key, value, life_ns, stale_ns);
}

void state_cache_put_kept(struct state *state, struct str key, struct str value, int64_t life_ns,
                          int64_t stale_ns)
{
    put(state, NOTICE_PUT_KEPT, key, value, life_ns, stale_ns);
}

void state_cache_abandon(struct state *state, struct str key)
{
    notice_send(state_owner(state, key), &(struct notice){.kind = NOTICE_ABANDON, .key = key});
}

void state_cache_drop(struct state *state, struct str key)
{
    for (size_t i = 0; i < state->count; i++)
        notice_send(&state->shards[i], &(struct notice){.kind = NOTICE_DROP, .key = key});
}

void state_cache_drop_prefix(struct state *state, struct str prefix)
{
    for (size_t i = 0; i < state->count; i++)
        notice_send(&state->shards[i], &(struct notice){.kind = NOTICE_DROP_PREFIX, .key = prefix});
}
