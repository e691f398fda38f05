/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state/limit.c - sliding windows.
 *
 * A window is cut into 60 slots and the current one is counted beside them, so that no stretch of
 * the given length ever sees more than the limit; a count is forgotten at most 1/60 too late.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "state/state_internal.h"

#include <stdlib.h>
#include <string.h>

struct limit_question {
    struct str key;
    uint64_t amount;
    uint64_t max;
    int64_t period_ns;
    bool peek;
};

static void entry_free(struct limit_entry *entry)
{
    list_remove(&entry->link);
    list_remove(&entry->changed);
    free((char *)entry->key.ptr);
    free(entry);
}

void limit_table_clear(struct state_table *table)
{
    struct list *link;
    while ((link = list_shift(&table->order)))
        entry_free(CONTAINER(link, struct limit_entry, link));
    map_done(&table->map);
}

static struct limit_entry *entry_of(struct state_table *table, struct str key, bool make)
{
    struct limit_entry *entry = map_get(&table->map, key);
    if (entry) {
        list_remove(&entry->link);
        list_append(&table->order, &entry->link);
        return entry;
    }
    if (!make)
        return NULL;
    if (table->map.count >= table->max) {
        struct limit_entry *oldest = CONTAINER(table->order.next, struct limit_entry, link);
        map_remove(&table->map, oldest->key);
        entry_free(oldest);
    }
    entry = NEW(struct limit_entry);
    entry->key = state_key_copy(key);
    list_init(&entry->link);
    list_init(&entry->changed);
    list_append(&table->order, &entry->link);
    map_put(&table->map, entry->key, entry);
    return entry;
}

/* Slots are older than the machine's start when they come from a run before it. */
#define EPOCH_NS (INT64_C(20) * 365 * 86400 * NS_PER_S)

static int64_t limit_now_ns(void)
{
    return clock_monotonic_ns() + EPOCH_NS;
}

static int64_t width_of(int64_t period_ns)
{
    int64_t width = period_ns / (LIMIT_SLOTS - 1);
    return width > 0 ? width : 1;
}

/* Bring the ring up to `slot`: what is older than the window becomes zero. */
static void entry_advance(struct limit_entry *entry, int64_t slot, int64_t period_ns)
{
    if (entry->period_ns != period_ns || slot - entry->slot >= LIMIT_SLOTS || slot < entry->slot) {
        memset(entry->counts, 0, sizeof entry->counts);
        entry->period_ns = period_ns;
        entry->slot = slot;
        return;
    }
    while (entry->slot < slot) {
        entry->slot++;
        entry->counts[entry->slot % LIMIT_SLOTS] = 0;
    }
}

static uint64_t entry_sum(const struct limit_entry *entry)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < LIMIT_SLOTS; i++)
        sum += entry->counts[i];
    return sum;
}

/* Until enough of the oldest slots fall out of the window for `amount` to fit. */
static int64_t entry_wait_ns(const struct limit_entry *entry, const struct limit_question *question,
                             uint64_t count, int64_t width, int64_t now)
{
    if (question->amount > question->max)
        return question->period_ns;
    for (int64_t age = LIMIT_SLOTS - 1; age >= 0; age--) {
        int64_t slot = entry->slot - age;
        count -= entry->counts[slot % LIMIT_SLOTS];
        if (count + question->amount <= question->max)
            return (slot + LIMIT_SLOTS) * width - now;
    }
    return question->period_ns;
}

static void note_change(struct state_shard *shard, struct limit_entry *entry)
{
    if (shard->state->keeping && list_is_empty(&entry->changed))
        list_append(&shard->limits.changed, &entry->changed);
}

static void limit_apply(struct state_shard *shard, const struct limit_question *question,
                        struct state_limit_answer *out)
{
    int64_t now = limit_now_ns();
    int64_t width = width_of(question->period_ns);
    struct limit_entry *entry = entry_of(&shard->limits, question->key, !question->peek);
    *out = (struct state_limit_answer){.allowed = question->amount <= question->max};
    if (!entry) {
        out->retry_in_ns = out->allowed ? 0 : question->period_ns;
        return;
    }
    entry_advance(entry, now / width, question->period_ns);
    uint64_t count = entry_sum(entry);
    out->allowed = question->amount <= question->max && count <= question->max - question->amount;
    out->count = count;
    if (!out->allowed) {
        out->retry_in_ns = entry_wait_ns(entry, question, count, width, now);
        return;
    }
    if (question->peek)
        return;
    uint32_t *slot = &entry->counts[entry->slot % LIMIT_SLOTS];
    *slot = question->amount > UINT32_MAX - *slot ? UINT32_MAX : *slot + (uint32_t)question->amount;
    out->count = entry_sum(entry);
    note_change(shard, entry);
}

/* ---- for the keeper: "PERIOD_NS NEWEST_SLOT_MS AGE=COUNT ..." ---- */

void limit_pack(const struct limit_entry *entry, int64_t wall_offset_ms, struct arena *arena,
                struct state_record *out)
{
    struct buf text BUF_CLEANUP;
    int64_t width = width_of(entry->period_ns);
    int64_t newest_ms = (entry->slot * width - EPOCH_NS) / NS_PER_MS + wall_offset_ms;
    buf_init(&text, 4096);
    buf_append_int(&text, entry->period_ns);
    buf_append_byte(&text, ' ');
    buf_append_int(&text, newest_ms);
    for (int64_t age = 0; age < LIMIT_SLOTS && age <= entry->slot; age++) {
        uint32_t count = entry->counts[(entry->slot - age) % LIMIT_SLOTS];
        if (count)
            buf_printf(&text, " %d=%u", (int)age, count);
    }
    *out =
        (struct state_record){.kind = STATE_RECORD_LIMIT,
                              .key = arena_str(arena, entry->key),
                              .value = arena_str(arena, buf_str(&text)),
                              .until_ms = newest_ms + (width + entry->period_ns) / NS_PER_MS + 1};
}

static bool next_number(struct str *rest, char separator, uint64_t max, uint64_t *out)
{
    struct str part;
    return str_split(rest, separator, &part) && str_to_uint(part, max, out);
}

void limit_unpack(struct state_table *table, const struct state_record *record)
{
    struct str rest = record->value;
    uint64_t period_ns, newest_ms, age, count;
    if (!next_number(&rest, ' ', INT64_MAX / 4, &period_ns) || period_ns == 0 ||
        !next_number(&rest, ' ', INT64_MAX / NS_PER_MS, &newest_ms))
        return;
    int64_t width = width_of((int64_t)period_ns);
    int64_t ago_ns = clock_steady_wall_ns() - (int64_t)newest_ms * NS_PER_MS;
    if (ago_ns < 0) /* the clock was set back: as if it were now */
        ago_ns = 0;
    if (ago_ns / width >= LIMIT_SLOTS)
        return;
    struct limit_entry *entry = entry_of(table, record->key, true);
    entry->period_ns = (int64_t)period_ns;
    entry->slot = (limit_now_ns() - ago_ns) / width;
    while (next_number(&rest, '=', LIMIT_SLOTS - 1, &age) &&
           next_number(&rest, ' ', UINT32_MAX, &count))
        entry->counts[(entry->slot - (int64_t)age) % LIMIT_SLOTS] = (uint32_t)count;
}

/* ---- asking ---- */

struct limit_call {
    struct call call;
    struct state_shard *shard;
    struct limit_question question;
    struct state_limit_answer answer;
};

static void limit_call_handle(struct call *call)
{
    struct limit_call *self = CONTAINER(call, struct limit_call, call);
    limit_apply(self->shard, &self->question, &self->answer);
    call_reply(call);
}

static void limit_call_release(struct call *call)
{
    struct limit_call *self = CONTAINER(call, struct limit_call, call);
    free((char *)self->question.key.ptr);
    free(self);
}

enum result state_limit(struct state *state, struct str key, uint64_t amount, uint64_t max,
                        int64_t period_ns, bool peek, struct state_limit_answer *out,
                        struct error *err)
{
    struct limit_question question = {
        .key = key, .amount = amount, .max = max, .period_ns = period_ns, .peek = peek};
    struct state_shard *owner = state_owner(state, key);
    if (owner == state_self(state)) {
        limit_apply(owner, &question, out);
        return OK;
    }
    struct limit_call *call = NEW(struct limit_call);
    call->call.handle = limit_call_handle;
    call->call.release = limit_call_release;
    call->shard = owner;
    call->question = question;
    call->question.key = state_key_copy(key);
    if (call_ask(owner->loop, &call->call, err) != OK)
        return FAILED;
    *out = call->answer;
    limit_call_release(&call->call);
    return OK;
}

/* ---- forgetting ---- */

struct limit_wish {
    struct post post;
    struct state_shard *shard;
    struct str prefix, suffix; /* owned; to give back: prefix is the key, suffix empty */
    uint64_t amount;
};

static void wish_done(struct limit_wish *wish)
{
    free((char *)wish->prefix.ptr);
    free((char *)wish->suffix.ptr);
    free(wish);
}

static void make_wish(struct state_shard *shard, struct limit_wish wish,
                      void (*run)(struct post *post))
{
    struct limit_wish *made = NEW(struct limit_wish);
    *made = wish;
    made->shard = shard;
    made->prefix = state_key_copy(wish.prefix);
    made->suffix = state_key_copy(wish.suffix);
    made->post.run = run;
    if (shard == state_self(shard->state))
        run(&made->post);
    else
        loop_post(shard->loop, &made->post);
}

/* They become nothing in place, and the keeper hears of that as of any change. */
static void forget(struct post *post)
{
    struct limit_wish *wish = CONTAINER(post, struct limit_wish, post);
    struct state_table *table = &wish->shard->limits;
    LIST_EACH (&table->order, link) {
        struct limit_entry *entry = CONTAINER(link, struct limit_entry, link);
        if (!str_starts(entry->key, wish->prefix) || !str_ends(entry->key, wish->suffix))
            continue;
        memset(entry->counts, 0, sizeof entry->counts);
        note_change(wish->shard, entry);
    }
    wish_done(wish);
}

void state_limit_forget(struct state *state, struct str prefix, struct str suffix)
{
    for (size_t i = 0; i < state->count; i++)
        make_wish(&state->shards[i], (struct limit_wish){.prefix = prefix, .suffix = suffix},
                  forget);
}

/* From the newest slot on: there it was counted, or nearly. */
static void give_back(struct post *post)
{
    struct limit_wish *wish = CONTAINER(post, struct limit_wish, post);
    struct limit_entry *entry = entry_of(&wish->shard->limits, wish->prefix, /* make= */ false);
    for (int64_t age = 0; entry && age < LIMIT_SLOTS && wish->amount; age++) {
        uint32_t *slot = &entry->counts[(entry->slot - age) % LIMIT_SLOTS];
        uint32_t part = *slot < wish->amount ? *slot : (uint32_t)wish->amount;
        *slot -= part;
        wish->amount -= part;
        note_change(wish->shard, entry);
    }
    wish_done(wish);
}

void state_limit_give_back(struct state *state, struct str key, uint64_t amount)
{
    make_wish(state_owner(state, key),
              (struct limit_wish){.prefix = key, .suffix = STR_EMPTY, .amount = amount}, give_back);
}
