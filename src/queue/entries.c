/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/entries.c - entries in memory: made, kept, moved between states, freed.
 */
#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "queue/settle.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* a body of the spool beyond that is in an open file while it is held; one that a step of a
     * flow made (a disclaimer, a milter) is in memory, however large */
    KEPT_MAX = 256 * 1024,
    LARGE_KEPT_MAX = 64, /* such files; the others are opened again when it is their turn */
    POSTPONED_S = 60,
};

/* ---- parcels ---- */

struct queue_parcel *queue_parcel_new(struct queue *queue, const struct mail_content *content)
{
    struct queue_parcel *parcel = memory_alloc(sizeof *parcel + content->head.len);
    char *head = (char *)(parcel + 1);
    memcpy(head, content->head.ptr, content->head.len);
    parcel->references = 1;
    parcel->queue = queue;
    parcel->content = (struct mail_content){.head = str_of(head, content->head.len),
                                            .body = body_ref(content->body),
                                            .body_start = content->body_start};
    uint64_t size = content->body->size;
    parcel->is_large = size > KEPT_MAX && !body_is_memory(content->body);
    parcel->charged = content->head.len + (parcel->is_large ? 0 : size);
    atomic_fetch_add_explicit(&queue->memory_used, parcel->charged, memory_order_relaxed);
    if (parcel->is_large)
        atomic_fetch_add_explicit(&queue->large_kept, 1, memory_order_relaxed);
    return parcel;
}

void queue_parcel_unref(struct queue_parcel *parcel)
{
    if (parcel == NULL || --parcel->references > 0)
        return;
    atomic_fetch_sub_explicit(&parcel->queue->memory_used, parcel->charged, memory_order_relaxed);
    if (parcel->is_large)
        atomic_fetch_sub_explicit(&parcel->queue->large_kept, 1, memory_order_relaxed);
    body_unref(parcel->content.body);
    free(parcel);
}

/* Memory and descriptors are for mail that goes soon: a queue that grows must not use them up. */
static bool is_too_much(const struct queue *queue, const struct queue_parcel *parcel)
{
    return atomic_load_explicit(&queue->memory_used, memory_order_relaxed) > queue->memory_budget ||
           (parcel->is_large &&
            atomic_load_explicit(&queue->large_kept, memory_order_relaxed) > LARGE_KEPT_MAX);
}

/* ---- making ---- */

/* The schedule names it by a number of the slab. */
_Static_assert(offsetof(struct queue_entry, due) % 8 == 0, "as queue_slab_number wants it");

void queue_entry_store(struct queue_entry *entry, const struct queue_record *record)
{
    struct queue_worker *worker = queue_worker_of(entry);
    BUF_CLEANUP struct buf tail;
    buf_init(&tail, QUEUE_RECORD_MAX);
    queue_record_split(record, &entry->record, &tail);
    check(!tail.overflow);
    uint32_t old = entry->tail;
    entry->tail = queue_tail_get(worker, buf_str(&tail));
    queue_tail_unref(worker, old);
    entry->pending = (uint32_t)queue_record_pending(record);
}

struct str queue_entry_record(const struct queue_entry *entry, struct arena *arena)
{
    BUF_CLEANUP struct buf buf;
    buf_init(&buf, QUEUE_RECORD_MAX);
    queue_record_join(&entry->record, queue_tail_str(queue_worker_of(entry), entry->tail, arena),
                      entry->recipients, &buf);
    check(!buf.overflow);
    return arena_str(arena, buf_str(&buf));
}

static bool read_meta(const struct queue_entry *entry, struct arena *arena, struct queue_meta *out)
{
    const struct queue_worker *worker = queue_worker_of(entry);
    if (!queue_meta_read(entry->message, queue_text_str(worker, entry->common),
                         queue_text_str(worker, entry->domain), str_of(entry->own, entry->own_len),
                         arena, out))
        return false;
    out->accepted_wall_ns = entry->accepted_wall_ns;
    return true;
}

struct queue_entry *queue_entry_new(struct queue_worker *worker, struct mail_id id,
                                    const struct queue_meta *meta,
                                    const struct queue_record *record, struct queue_parcel *parcel,
                                    uint64_t size)
{
    BUF_CLEANUP struct buf common, own;
    struct str domain;
    buf_init(&common, QUEUE_META_MAX);
    buf_init(&own, QUEUE_META_MAX);
    queue_meta_split(meta, &common, &domain, &own);
    check(!common.overflow && own.len < 1 << 20); /* the whole is within the same bound */
    struct queue_entry *entry =
        queue_slab_take(&worker->slab, offsetof(struct queue_entry, own) + own.len);
    memcpy(entry->own, own.ptr, own.len);
    entry->own_len = (uint32_t)own.len & 0xfffff;
    entry->common = queue_text_get(worker, buf_str(&common));
    entry->domain = queue_text_get(worker, domain);
    entry->id = id;
    entry->message = meta->message;
    list_init(&entry->ready.link);
    entry->accepted_wall_ns = meta->accepted_wall_ns;
    entry->content = meta->content_flow.len > 0;
    check(meta->recipient_count < 1 << 20); /* as above */
    entry->recipients = (uint32_t)meta->recipient_count & 0xfffff;
    entry->shelved = meta->kept.quarantine.len > 0;
    entry->ready.size = size;
    queue_entry_store(entry, record);
    entry->parcel = parcel;
    if (parcel != NULL)
        parcel->references++;
    return entry;
}

bool queue_entry_decode(const struct queue_entry *entry, struct arena *arena,
                        struct queue_meta *out_meta, struct queue_record *out_record)
{
    return read_meta(entry, arena, out_meta) &&
           queue_record_read(&entry->record,
                             queue_tail_str(queue_worker_of(entry), entry->tail, arena),
                             out_meta->recipient_count, arena, out_record);
}

/* ---- tables ---- */

/* Those that were loaded while mail flowed stand in no order: then it is the oldest that was seen,
 * until the audit looks at all. */
static void note_oldest(struct queue_worker *worker, const struct queue_entry *come)
{
    int64_t oldest_ns = 0;
    const struct queue_entry *first = queue_table_oldest(worker);
    if (worker->age_is_mixed && first != NULL) {
        oldest_ns = atomic_load_explicit(&worker->oldest_wall_ns, memory_order_relaxed);
        if (come != NULL && (oldest_ns == 0 || come->accepted_wall_ns < oldest_ns))
            atomic_store_explicit(&worker->oldest_wall_ns, come->accepted_wall_ns,
                                  memory_order_relaxed);
        return;
    }
    worker->age_is_mixed = false;
    if (first != NULL)
        oldest_ns = first->accepted_wall_ns;
    atomic_store_explicit(&worker->oldest_wall_ns, oldest_ns, memory_order_relaxed);
}

static void gauge_leave(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    atomic_fetch_sub_explicit(&worker->gauge[entry->state], entry->counted, memory_order_relaxed);
    if (entry->quarantined) {
        atomic_fetch_sub_explicit(&worker->quarantined, entry->counted, memory_order_relaxed);
        queue_shelf_count(entry, -1);
    }
    entry->quarantined = false;
    entry->counted = 0;
}

static void gauge_enter(struct queue_entry *entry, enum queue_state state)
{
    struct queue_worker *worker = queue_worker_of(entry);
    entry->state = (uint32_t)state & 15;
    entry->counted = entry->pending;
    atomic_fetch_add_explicit(&worker->gauge[state], entry->counted, memory_order_relaxed);
}

void queue_entry_set_state(struct queue_entry *entry, enum queue_state state)
{
    gauge_leave(entry);
    gauge_enter(entry, state);
}

/* Out of whatever it waits in. */
static void unplace(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    queue_site_remove(entry);
    queue_schedule_remove(&worker->schedule, &entry->due);
    list_remove(&entry->in_content);
}

void queue_entry_free(struct queue_entry *entry)
{
    if (entry == NULL)
        return;
    struct queue_worker *worker = queue_worker_of(entry);
    queue_entry_not_fresh(entry);
    if (entry->started) {
        unplace(entry);
        gauge_leave(entry);
        queue_table_remove(entry);
        note_oldest(worker, NULL);
        atomic_fetch_sub_explicit(&worker->entry_count, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&worker->bytes, entry->ready.size, memory_order_relaxed);
    }
    queue_parcel_unref(entry->parcel);
    queue_tail_unref(worker, entry->tail);
    queue_text_unref(worker, entry->common);
    queue_text_unref(worker, entry->domain);
    queue_slab_give(entry);
}

void queue_fresh_add(struct queue_fresh *fresh, const struct queue_fresh *more, int sign)
{
    fresh->small += sign > 0 ? more->small : 0 - more->small;
    fresh->large_bytes += sign > 0 ? more->large_bytes : 0 - more->large_bytes;
}

void queue_fresh_count(struct queue_fresh *fresh, const struct queue_entry *entry, int sign)
{
    uint64_t size = entry->ready.size;
    struct queue_fresh one = {.small = size <= QUEUE_SMALL_MAX,
                              .large_bytes = size <= QUEUE_SMALL_MAX ? 0 : size};
    queue_fresh_add(fresh, &one, sign);
}

void queue_entry_not_fresh(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    if (!entry->fresh)
        return;
    queue_site_not_fresh(entry);
    entry->fresh = false;
    queue_fresh_count(&worker->fresh, entry, -1);
    cond_signal(entry->ready.size > QUEUE_SMALL_MAX ? &worker->drained_large : &worker->drained);
}

void queue_entry_start(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    struct queue *queue = worker->queue;
    entry->started = true;
    queue_table_add(entry);
    if (atomic_load_explicit(&queue->loading, memory_order_relaxed))
        worker->age_is_mixed = true;
    note_oldest(worker, entry);
    atomic_fetch_add_explicit(&worker->entry_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&worker->bytes, entry->ready.size, memory_order_relaxed);
    if (entry->parcel != NULL && is_too_much(queue, entry->parcel))
        queue_parcel_unref(take(entry->parcel));
    queue_entry_place(entry);
}

void queue_entry_seize(struct queue_entry *entry)
{
    unplace(entry);
    queue_entry_set_state(entry, QUEUE_INFLIGHT);
}

/* ---- states ---- */

bool queue_reason_is_quarantine(enum mail_reason reason)
{
    return reason != MAIL_REASON_NONE && reason != MAIL_REASON_ADMIN &&
           reason != MAIL_REASON_POLICY && reason != MAIL_REASON_CRASH &&
           reason != MAIL_REASON_CONTAINED && reason != MAIL_REASON_TRANSPORT_MISSING &&
           reason != MAIL_REASON_BACKEND_DOWN;
}

static void place_held(struct queue_entry *entry, const struct queue_record *record)
{
    queue_entry_not_fresh(entry);
    queue_parcel_unref(take(entry->parcel)); /* nobody knows for how long */
    queue_entry_set_state(entry, QUEUE_HELD);
    if (!entry->shelved && !queue_reason_is_quarantine(record->reason))
        return;
    entry->quarantined = true;
    queue_shelf_count(entry, 1);
    atomic_fetch_add_explicit(&queue_worker_of(entry)->quarantined, entry->counted,
                              memory_order_relaxed);
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t monotonic_of(int64_t wall_ns)
{
    int64_t in_ns = wall_ns - clock_steady_wall_ns();
    return clock_monotonic_ns() + (in_ns < 0 ? 0 : in_ns);
}

/* Ready: the transport says where it goes; without one it is held. */
static void place_ready(struct queue_entry *entry, const struct queue_meta *meta,
                        struct arena *arena)
{
    struct queue *queue = queue_worker_of(entry)->queue;
    const struct queue_handler *handler = &queue->handler;
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = handler->transport(snapshot, meta->transport);
    entry->record.due_wall_ns = 0; /* now */
    entry->ready_since_ns = clock_monotonic_ns();
    if (transport != NULL)
        queue_site_add(entry, transport, meta);
    else
        queue_entry_hold(entry, MAIL_REASON_TRANSPORT_MISSING, arena);
    handler->release_snapshot(handler->context, snapshot);
}

int64_t queue_life_start_wall_ns(const struct queue *queue, const struct transport *transport,
                                 const struct queue_meta *meta, const struct queue_record *record)
{
    return meta->accepted_wall_ns + record->held_total_ns +
           queue_steering_paused_ns(queue->steering, transport->name,
                                    queue_destination_name(transport, meta), meta->accepted_wall_ns,
                                    clock_steady_wall_ns());
}

static enum queue_account account_of(const struct queue *queue, const struct queue_meta *meta)
{
    const struct queue_handler *handler = &queue->handler;
    bool of_user = meta->fairness_key.len > 0 &&
                   (meta->flags & (QUEUE_META_OWN_USER | QUEUE_META_DSN)) == QUEUE_META_OWN_USER;
    return handler->account != NULL && of_user
               ? handler->account(handler->context, meta->fairness_key)
               : QUEUE_ACCOUNT_FREE;
}

bool queue_is_contained(const struct queue *queue, const struct queue_meta *meta)
{
    return account_of(queue, meta) == QUEUE_ACCOUNT_CONTAINED;
}

bool queue_entry_settles(const struct queue_entry *entry)
{
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    bool settles = read_meta(entry, arena, &meta) &&
                   account_of(queue_worker_of(entry)->queue, &meta) == QUEUE_ACCOUNT_SETTLING;
    arena_free(arena);
    return settles;
}

/* It was accepted, or its records were lost, while the account became free: nobody else would let
 * it go. What a start finds of an account that is still being seen to stays. */
static bool is_left_over(const struct queue_entry *entry, const struct queue_meta *meta,
                         const struct queue_record *record)
{
    if (!record->held || record->reason != MAIL_REASON_CONTAINED)
        return false;
    enum queue_account account = account_of(queue_worker_of(entry)->queue, meta);
    return account == QUEUE_ACCOUNT_FREE || (account == QUEUE_ACCOUNT_SETTLING && !entry->found);
}

static void let_go(struct queue_entry *entry, struct queue_record *record, struct arena *arena)
{
    int64_t stood_ns = clock_steady_wall_ns() - record->held_since_wall_ns;
    record->held_total_ns += stood_ns > 0 ? stood_ns : 0;
    record->held = false;
    record->reason = MAIL_REASON_NONE;
    record->due_wall_ns = 0;
    queue_entry_store(entry, record);
    struct queue_unit unit;
    queue_unit_init(&unit, queue_worker_of(entry), arena);
    queue_unit_state(&unit, entry);
    queue_unit_write(&unit);
}

bool queue_is_paused(const struct queue *queue, const struct transport *transport,
                     const struct queue_meta *meta)
{
    return queue_steering_find(queue->steering, transport->name,
                               queue_destination_name(transport, meta))
        .paused;
}

/* What is due first of the retry, the delay notice (unless told) and the end of its life. A clock
 * that stands still reaches neither of these; they are looked at again after the retry. */
static int64_t wake_wall_ns(const struct queue_entry *entry, const struct queue_meta *meta,
                            const struct queue_record *record)
{
    const struct queue_handler *handler = &queue_worker_of(entry)->queue->handler;
    int64_t wake_ns = record->due_wall_ns;
    int64_t again_ns = clock_steady_wall_ns() + POSTPONED_S * NS_PER_S;
    if (entry->wish != 0) /* came too late for its attempt, or could not be written */
        return entry->postponed ? again_ns : 0;
    if (entry->content || entry->found)
        return wake_ns;
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = handler->transport(snapshot, meta->transport);
    if (transport != NULL && !queue_is_paused(queue_worker_of(entry)->queue, transport, meta)) {
        int64_t start_ns =
            queue_life_start_wall_ns(queue_worker_of(entry)->queue, transport, meta, record);
        if (record->attempts > 0)
            wake_ns = earlier(wake_ns, start_ns + transport->expire_ns);
        if (!record->delay_told && (meta->flags & QUEUE_META_DSN) == 0)
            wake_ns = earlier(wake_ns, start_ns + transport->delay_after_ns);
    }
    handler->release_snapshot(handler->context, snapshot);
    return entry->postponed && wake_ns < again_ns ? again_ns : wake_ns;
}

void queue_entry_place(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    unplace(entry);
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound); /* our own bytes; found ones were looked at by queue_recover */
    entry->backed_off = false;
    if (is_left_over(entry, &meta, &record))
        let_go(entry, &record, arena);
    bool drops = entry->wish == QUEUE_DROP + 1;
    if (record.held && !drops) {
        entry->wish = 0; /* it is held already, or may be encrypted: who fails it looks first */
        place_held(entry, &record);
    } else if (!drops && queue_is_contained(worker->queue, &meta)) {
        entry->wish = 0;
        queue_entry_hold(entry, MAIL_REASON_CONTAINED, arena);
    } else if (entry->wish != 0 || record.due_wall_ns > clock_steady_wall_ns()) {
        queue_entry_set_state(entry, entry->content ? QUEUE_CONTENT : QUEUE_WAITING);
        queue_schedule_set(&worker->schedule, &entry->due,
                           monotonic_of(wake_wall_ns(entry, &meta, &record)));
        queue_worker_arm(worker);
    } else if (entry->content) {
        queue_entry_set_state(entry, QUEUE_CONTENT);
        queue_content_wait(worker, entry, meta.content_flow);
        queue_content_kick(worker);
    } else {
        place_ready(entry, &meta, arena);
    }
    arena_free(arena);
}

static MAY_YIELD void run_time(void *arg)
{
    struct queue_entry *entry = arg;
    struct queue_attempt attempt;
    struct arena *arena = arena_new(0);
    queue_attempt_init(&attempt, entry, arena);
    if (queue_grant_wish(&attempt))
        ;
    else if (attempt.transport == NULL)
        queue_entry_hold(entry, MAIL_REASON_TRANSPORT_MISSING, arena);
    else
        queue_settle_time(&attempt);
    queue_attempt_done(&attempt);
    arena_free(arena);
}

void queue_entry_due(struct queue_entry *entry)
{
    struct queue_worker *worker = queue_worker_of(entry);
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    struct error err;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound);
    entry->postponed = false;
    bool is_due = record.due_wall_ns <= clock_steady_wall_ns() + NS_PER_MS || entry->content;
    if (is_due && entry->wish == 0) {
        record.due_wall_ns = 0; /* the two clocks may differ by a little */
        queue_entry_store(entry, &record);
        queue_entry_place(entry);
    } else {
        queue_entry_set_state(entry, QUEUE_INFLIGHT);
        if (fiber_spawn(&worker->scope, "queue time", run_time, entry, &err) == FAILED) {
            queue_entry_set_state(entry, QUEUE_WAITING);
            queue_schedule_set(&worker->schedule, &entry->due,
                               clock_monotonic_ns() + 10 * NS_PER_S);
        }
    }
    arena_free(arena);
}

void queue_entry_hold(struct queue_entry *entry, enum mail_reason reason, struct arena *arena)
{
    struct queue_meta meta;
    struct queue_record record;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound);
    unplace(entry);
    record.held = true;
    record.reason = reason;
    record.held_since_wall_ns = clock_steady_wall_ns();
    queue_entry_store(entry, &record);
    struct queue_unit unit;
    queue_unit_init(&unit, queue_worker_of(entry), arena);
    queue_unit_state(&unit, entry);
    queue_unit_write(&unit);
    place_held(entry, &record);
    event_emit(EVENT_DELIVERY_HELD, F_C(MESSAGE, mail_id_text(entry->message).chars),
               F_C(ENTRY, mail_id_text(entry->id).chars), F_STR(TRANSPORT, meta.transport),
               F_C(REASON, mail_reason_name(reason)), F_INT(COUNT, entry->pending));
}
