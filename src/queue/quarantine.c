/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/quarantine.c - what lies in each quarantine: how much, how long, and a part of it.
 *
 * A message in quarantine is a held entry whose meta names the quarantine. Shelves count them over
 * all workers; who has limits (the configuration) asks for what is over them to be removed.
 */
#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "queue/select.h"

#include <stdlib.h>

enum { EXPIRE_AT_ONCE = 10000 }; /* of a worker; the rest the next time */

/* ---- shelves ---- */

static struct queue_shelf *find_shelf(const struct queue *queue, struct str name)
{
    size_t count = atomic_load_explicit(&queue->shelf_count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        if (str_equal(queue->shelves[i].name, name))
            return &queue->shelves[i];
    return NULL;
}

/* It is made if need be. */
static struct queue_shelf *shelf_of(struct queue *queue, struct str name)
{
    struct queue_shelf *shelf = find_shelf(queue, name);
    if (shelf != NULL)
        return shelf;
    pthread_mutex_lock(&queue->shelving);
    shelf = find_shelf(queue, name); /* made meanwhile */
    size_t count = atomic_load_explicit(&queue->shelf_count, memory_order_relaxed);
    if (shelf == NULL && count < QUEUE_SHELVES_MAX) {
        char *copy = memory_alloc(name.len + 1);
        memcpy(copy, name.ptr, name.len);
        shelf = &queue->shelves[count];
        shelf->name = str_of(copy, name.len);
        atomic_store_explicit(&queue->shelf_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&queue->shelving);
    return shelf != NULL ? shelf : &queue->shelves[QUEUE_SHELVES_MAX - 1];
}

void queue_shelves_free(struct queue *queue)
{
    for (size_t i = 0; i < atomic_load(&queue->shelf_count); i++)
        free((char *)(uintptr_t)queue->shelves[i].name.ptr);
    free(queue->shelves);
    pthread_mutex_destroy(&queue->shelving);
}

struct str queue_entry_quarantine(const struct queue_entry *entry, struct arena *arena)
{
    struct queue_meta meta;
    struct queue_record record;
    if (!entry->shelved)
        return STR_EMPTY;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound);
    return meta.kept.quarantine;
}

void queue_shelf_count(const struct queue_entry *entry, int step)
{
    if (!entry->shelved)
        return;
    struct arena *arena = arena_new(0);
    struct queue_shelf *shelf =
        shelf_of(queue_worker_of(entry)->queue, queue_entry_quarantine(entry, arena));
    uint64_t one = (uint64_t)(int64_t)step;
    atomic_fetch_add_explicit(&shelf->entries, one, memory_order_relaxed);
    atomic_fetch_add_explicit(&shelf->bytes, entry->ready.size * one, memory_order_relaxed);
    arena_free(arena);
}

struct queue_quarantine_numbers *queue_quarantine_numbers(struct queue *queue, struct arena *arena,
                                                          size_t *out_count)
{
    size_t count = atomic_load_explicit(&queue->shelf_count, memory_order_acquire);
    struct queue_quarantine_numbers *out = arena_alloc_array(arena, count + 1, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = (struct queue_quarantine_numbers){
            .name = arena_str(arena, queue->shelves[i].name),
            .entries = atomic_load_explicit(&queue->shelves[i].entries, memory_order_relaxed),
            .bytes = atomic_load_explicit(&queue->shelves[i].bytes, memory_order_relaxed),
        };
    *out_count = count;
    return out;
}

uint64_t queue_quarantine_bytes(struct queue *queue, struct str name)
{
    struct queue_shelf *shelf = find_shelf(queue, name);
    return shelf == NULL ? 0 : atomic_load_explicit(&shelf->bytes, memory_order_relaxed);
}

/* ---- what is over the limits ---- */

struct expiring {
    struct mail_id entry;
    int64_t accepted_wall_ns;
    uint64_t size;
    size_t share;
    bool chosen;
    bool too_old;
};

struct expire_request {
    struct queue_ask ask;
    struct str name;
    int64_t before_wall_ns; /* accepted before that: too old */
    uint64_t excess;        /* bytes over the size */
    int64_t now_wall_ns;
};

static bool lies_in(const struct queue_entry *entry, struct str name, struct arena *arena)
{
    if (!entry->shelved || entry->state != QUEUE_HELD)
        return false;
    bool lies = str_equal(queue_entry_quarantine(entry, arena), name);
    arena_clear(arena);
    return lies;
}

static void note_expiring(struct queue_share *share, const struct queue_entry *entry, bool too_old)
{
    if (share->count == share->cap) {
        share->cap = share->cap == 0 ? 64 : share->cap * 2;
        share->out = memory_resize_array(share->out, share->cap, sizeof(struct expiring));
    }
    ((struct expiring *)share->out)[share->count++] =
        (struct expiring){.entry = entry->id,
                          .accepted_wall_ns = entry->accepted_wall_ns,
                          .size = entry->ready.size,
                          .share = (size_t)(share - share->ask->shares),
                          .too_old = too_old};
}

/* What may have to go: all that is too old, and of the rest the oldest, as much as the size asks
 * for if they were all of this worker. */
static void run_gather(struct queue_share *share) MAY_YIELD
{
    const struct expire_request *request = CONTAINER(share->ask, struct expire_request, ask);
    struct queue_worker *worker = share->worker;
    uint64_t bytes = 0;
    for (const struct queue_entry *entry = queue_table_oldest(worker); entry != NULL;
         entry = queue_table_newer(entry)) {
        bool too_old = entry->accepted_wall_ns < request->before_wall_ns;
        bool enough = bytes >= request->excess && !worker->age_is_mixed;
        if ((enough && !too_old) || share->count == EXPIRE_AT_ONCE)
            break;
        if ((request->excess == 0 && !too_old) || !lies_in(entry, request->name, share->arena))
            continue;
        note_expiring(share, entry, too_old);
        bytes += entry->ready.size;
    }
}

static void expire(struct queue_worker *worker, const struct expire_request *request,
                   const struct expiring *expiring)
{
    struct queue_entry *entry = queue_worker_find(worker, expiring->entry);
    struct arena *arena = arena_new(0);
    struct queue_unit unit;
    if (entry == NULL || !lies_in(entry, request->name, arena)) {
        arena_free(arena);
        return;
    }
    queue_unit_init(&unit, worker, arena);
    queue_unit_count(&unit, QUEUE_COUNT_DISCARDED, entry->pending);
    queue_unit_remove(&unit, entry);
    queue_unit_write(&unit);
    event_emit(
        EVENT_QUARANTINE_EXPIRED, F_C(MESSAGE, mail_id_text(entry->message).chars),
        F_C(ENTRY, mail_id_text(entry->id).chars), F_STR(QUARANTINE, request->name),
        F_C(REASON, mail_reason_name(expiring->too_old ? MAIL_REASON_EXPIRED : MAIL_REASON_SIZE)),
        F_INT(RECIPIENTS, entry->pending), F_INT(SIZE, entry->ready.size));
    queue_entry_free(entry);
    arena_free(arena);
}

static void run_expire(struct queue_share *share) MAY_YIELD
{
    const struct expire_request *request = CONTAINER(share->ask, struct expire_request, ask);
    const struct expiring *items = share->out;
    for (size_t i = 0; i < share->count; i++) {
        if (items[i].chosen) {
            expire(share->worker, request, &items[i]);
            share->total++;
        }
        if (i % QUEUE_ASK_SLICE == QUEUE_ASK_SLICE - 1)
            fiber_yield();
    }
}

static int compare_expiring(const void *a, const void *b)
{
    const struct expiring *left = *(struct expiring *const *)a;
    const struct expiring *right = *(struct expiring *const *)b;
    return left->accepted_wall_ns < right->accepted_wall_ns   ? -1
           : left->accepted_wall_ns > right->accepted_wall_ns ? 1
                                                              : 0;
}

/* The oldest of all workers. Returns how many. */
static size_t choose(struct expire_request *request)
{
    struct queue_ask *ask = &request->ask;
    size_t count = 0, chosen = 0;
    uint64_t freed = 0;
    for (size_t i = 0; i < ask->share_count; i++)
        count += ask->shares[i].count;
    struct expiring **all = memory_alloc_array(count + 1, sizeof(struct expiring *));
    count = 0;
    for (size_t i = 0; i < ask->share_count; i++)
        for (size_t k = 0; k < ask->shares[i].count; k++)
            all[count++] = &((struct expiring *)ask->shares[i].out)[k];
    qsort(all, count, sizeof *all, compare_expiring);
    for (size_t i = 0; i < count; i++) {
        all[i]->chosen = all[i]->too_old || freed < request->excess;
        freed += all[i]->chosen ? all[i]->size : 0;
        chosen += all[i]->chosen;
    }
    free(all);
    return chosen;
}

enum result queue_quarantine_expire(struct queue *queue,
                                    const struct queue_quarantine_limits *limits, size_t *out_count,
                                    struct error *err)
{
    *out_count = 0;
    if (find_shelf(queue, limits->name) == NULL)
        return OK;
    struct expire_request *request = queue_ask_new(queue, sizeof *request);
    uint64_t bytes = queue_quarantine_bytes(queue, limits->name);
    request->name = arena_str(request->ask.arena, limits->name);
    request->before_wall_ns = clock_steady_wall_ns() - limits->keep_ns;
    request->excess = limits->size > 0 && bytes > limits->size ? bytes - limits->size : 0;
    enum result result = queue_ask_all(&request->ask, run_gather, err);
    if (result == OK && choose(request) > 0)
        result = queue_ask_all(&request->ask, run_expire, err);
    for (size_t i = 0; result == OK && i < request->ask.share_count; i++)
        *out_count += request->ask.shares[i].total;
    queue_ask_unref(&request->ask);
    return result;
}

/* ---- missing keys ---- */

static void count_unreadable(struct queue_share *share, const struct queue_attempt *view)
{
    share->total += !queue_can_unseal(view->worker->queue, &view->meta);
}

static void run_unreadable(struct queue_share *share) MAY_YIELD
{
    struct queue_selector all = {.quarantine = STR("*"), .state = -1};
    queue_select_each(share, &all, count_unreadable);
}

enum result queue_quarantine_unreadable(struct queue *queue, size_t *out_count, struct error *err)
{
    struct queue_ask *ask = queue_ask_new(queue, sizeof *ask);
    enum result result = queue_ask_all(ask, run_unreadable, err);
    *out_count = 0;
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        *out_count += ask->shares[i].total;
    queue_ask_unref(ask);
    return result;
}

/* ---- digests ---- */

struct digested_request {
    struct queue_ask ask;
    struct mail_id *ids;
    size_t count;
};

static void note_digested(struct queue_entry *entry)
{
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    struct queue_unit unit;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound);
    record.digested = true;
    queue_entry_store(entry, &record);
    queue_unit_init(&unit, queue_worker_of(entry), arena);
    queue_unit_state(&unit, entry);
    queue_unit_write(&unit);
    arena_free(arena);
}

static void run_digested(struct queue_share *share) MAY_YIELD
{
    const struct digested_request *request = CONTAINER(share->ask, struct digested_request, ask);
    for (size_t i = 0; i < request->count; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, request->ids[i]);
        if (entry != NULL && entry->state == QUEUE_HELD)
            note_digested(entry);
        if (i % QUEUE_ASK_SLICE == QUEUE_ASK_SLICE - 1)
            fiber_yield();
    }
}

enum result queue_quarantine_digested(struct queue *queue, const struct mail_id *entries,
                                      size_t count, struct error *err)
{
    struct digested_request *request = queue_ask_new(queue, sizeof *request);
    request->ids = arena_alloc_array(request->ask.arena, count + 1, sizeof *entries);
    if (count > 0)
        memcpy(request->ids, entries, count * sizeof *entries);
    request->count = count;
    enum result result = queue_ask_all(&request->ask, run_digested, err);
    queue_ask_unref(&request->ask);
    return result;
}

/* ---- a part of an entry ---- */

struct parting {
    struct mail_recipient *chosen, *rest;
    size_t chosen_count, rest_count;
};

static void part(const struct queue_attempt *attempt, struct str to, struct parting *out)
{
    size_t count = attempt->meta.recipient_count;
    *out = (struct parting){
        .chosen = arena_alloc_array(attempt->arena, count + 1, sizeof(struct mail_recipient)),
        .rest = arena_alloc_array(attempt->arena, count + 1, sizeof(struct mail_recipient)),
    };
    for (size_t i = 0; i < count; i++) {
        const struct mail_recipient *recipient = &attempt->meta.recipients[i];
        if (attempt->record.status[i] != QUEUE_STATUS_PENDING)
            continue;
        if (queue_address_fits(attempt->arena, to, recipient->address))
            out->chosen[out->chosen_count++] = *recipient;
        else
            out->rest[out->rest_count++] = *recipient;
    }
}

static void add_part(struct queue_unit *unit, const struct queue_attempt *attempt,
                     const struct queue_meta *meta, struct queue_parcel *parcel, bool held)
{
    struct queue_record record;
    queue_record_init(&record, meta->recipient_count, unit->arena);
    record.held = held;
    record.reason = held ? attempt->record.reason : MAIL_REASON_NONE;
    record.held_since_wall_ns = held ? attempt->record.held_since_wall_ns : 0;
    record.held_total_ns = attempt->record.held_total_ns;
    record.digested = held && attempt->record.digested;
    queue_unit_add(unit,
                   queue_entry_new(unit->worker, mail_id_new(), meta, &record, parcel,
                                   attempt->entry->ready.size),
                   meta);
}

static enum result commit_parts(struct queue_attempt *attempt, const struct parting *parting,
                                enum queue_verb verb, bool from_start, struct error *err) MAY_YIELD
{
    struct queue_unit unit;
    struct queue_meta meta = attempt->meta;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    unit.replaces = attempt->entry;
    struct queue_parcel *parcel = queue_parcel_new(attempt->worker->queue, &attempt->content);
    if (parting->rest_count > 0) {
        meta.recipients = parting->rest;
        meta.recipient_count = parting->rest_count;
        add_part(&unit, attempt, &meta, parcel, /* held= */ true);
    }
    meta.recipients = parting->chosen;
    meta.recipient_count = parting->chosen_count;
    if (from_start)
        meta.kept.step = STR_EMPTY;
    if (verb == QUEUE_DROP)
        queue_unit_count(&unit, QUEUE_COUNT_DROPPED, parting->chosen_count);
    else
        add_part(&unit, attempt, &meta, parcel, /* held= */ false);
    queue_unit_remove(&unit, attempt->entry);
    queue_parcel_unref(parcel);
    return queue_unit_commit(&unit, err);
}

bool queue_quarantine_part(struct queue_attempt *attempt, enum queue_verb verb, struct str to,
                           bool from_start)
{
    struct queue_entry *entry = attempt->entry;
    struct parting parting;
    struct error err;
    part(attempt, to, &parting);
    if (parting.chosen_count == 0)
        return false;
    queue_entry_seize(entry); /* nobody else takes it meanwhile */
    if (queue_attempt_load_stored(attempt, &err) == OK &&
        commit_parts(attempt, &parting, verb, from_start, &err) == OK) {
        queue_entry_free(entry);
        return true;
    }
    event_emit(EVENT_DAEMON_ERROR, F_C(MESSAGE, mail_id_text(entry->message).chars),
               F_C(DETAIL, "a part of a message in quarantine could not be changed"),
               F_C(ERROR, err.text));
    entry->wish = 0;
    queue_entry_place(entry);
    return false;
}
