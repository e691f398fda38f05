/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/queue.c - life cycle: made, filled from the spool, joined and left by workers.
 */
#include "queue/queue.h"

#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "queue/retry.h"
#include "queue/unit.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { MEMORY_DEFAULT = 64 << 20 };

/* ---- made ---- */

static void worker_init(struct queue *queue, size_t index)
{
    struct queue_worker *worker = &queue->workers[index];
    worker->queue = queue;
    worker->index = index;
    worker->loop = queue->loops[index];
    map_init(&worker->sites);
    queue_slab_init(&worker->slab, worker);
    list_init(&worker->content_flows);
    list_init(&worker->moving);
    queue_schedule_init(&worker->schedule, &worker->slab);
    cond_init(&worker->drained);
    cond_init(&worker->drained_large);
}

struct queue *queue_new(struct spool *spool, struct state *state,
                        const struct queue_handler *handler, struct loop *const *loops,
                        size_t worker_count)
{
    check(worker_count > 0 && worker_count <= QUEUE_WORKERS_MAX);
    struct queue *queue = NEW(struct queue);
    queue->spool = spool;
    queue->shared = state;
    queue->handler = *handler;
    queue->worker_count = worker_count;
    queue->loops = memory_alloc_array(worker_count, sizeof(struct loop *));
    memcpy(queue->loops, loops, worker_count * sizeof(struct loop *));
    queue->memory_budget = MEMORY_DEFAULT;
    queue->steering = queue_steering_new();
    pthread_mutex_init(&queue->shelving, NULL);
    queue->shelves = memory_alloc_array(QUEUE_SHELVES_MAX, sizeof *queue->shelves);
    pthread_mutex_init(&queue->posting, NULL);
    queue->workers = memory_alloc_array(worker_count, sizeof *queue->workers);
    for (size_t i = 0; i < worker_count; i++)
        worker_init(queue, i);
    queue->destinations =
        queue_destinations_new(queue->loops, worker_count, queue_site_look, queue);
    return queue;
}

void queue_set_spool(struct queue *queue, struct spool *spool)
{
    queue->spool = spool;
    struct queue_totals totals = queue_totals(queue);
    int64_t here = queue_balance(&totals);
    for (size_t i = 0; i < queue->worker_count; i++)
        for (size_t k = 0; k < queue->workers[i].found_count; k++)
            here -= queue->workers[i].found[k]->pending;
    if (spool_is_loading(spool)) {
        atomic_store(&queue->unloaded, here);
        atomic_store(&queue->loading, true);
        return;
    }
    queue_square_books(queue, here);
}

void queue_set_vault(struct queue *queue, struct spool_vault *vault)
{
    queue->vault = vault;
}

enum result queue_open_steering(struct queue *queue, struct str path, struct error *err)
{
    return queue_steering_open(queue->steering, path, err);
}

void queue_stop_delivery(struct queue *queue)
{
    queue_steering_stop_all(queue->steering);
}

void queue_set_memory_budget(struct queue *queue, uint64_t bytes)
{
    queue->memory_budget = bytes;
}

void queue_set_suspects(struct queue *queue, const struct mail_id *ids, size_t count)
{
    free(queue->suspects);
    queue->suspects = memory_alloc_array(count, sizeof *ids);
    if (count > 0)
        memcpy(queue->suspects, ids, count * sizeof *ids);
    queue->suspect_count = count;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue->worker_count; i++) {
        struct queue_worker *worker = &queue->workers[i];
        check(!worker->joined);
        while (queue_table_oldest(worker) != NULL)
            queue_entry_free(queue_table_oldest(worker));
        for (size_t j = 0; j < worker->found_count; j++)
            queue_entry_free(worker->found[j]);
        queue_handover_done(worker);
        free(worker->found);
        check(worker->sites.count == 0);
        queue_tables_done(worker);
        map_done(&worker->sites);
        queue_content_flows_free(worker);
        queue_schedule_done(&worker->schedule);
    }
    queue_destinations_free(queue->destinations);
    queue_steering_free(queue->steering);
    queue_shelves_free(queue);
    pthread_mutex_destroy(&queue->posting);
    free(queue->suspects);
    free(queue->workers);
    free(queue->loops);
    free(queue);
}

struct queue_worker *queue_worker_current(struct queue *queue)
{
    struct loop *loop = loop_current();
    for (size_t i = 0; i < queue->worker_count; i++)
        if (queue->loops[i] == loop)
            return &queue->workers[i];
    check_failed("called on a worker", __FILE__, __LINE__, __func__);
}

/* ---- filled from the spool, before the workers run ---- */

static bool is_suspect(const struct queue *queue, struct mail_id id)
{
    for (size_t i = 0; i < queue->suspect_count; i++)
        if (mail_id_equal(queue->suspects[i], id))
            return true;
    return false;
}

struct queue_entry *queue_entry_of_found(struct queue *queue, const struct spool_found *found)
{
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    size_t index = (size_t)(found->entry.low % queue->worker_count);
    struct queue_worker *worker = &queue->workers[index];
    if (!queue_meta_decode(found->meta, arena, &meta) ||
        !queue_record_decode(found->state, meta.recipient_count, arena, &record)) {
        event_emit(EVENT_SPOOL_DAMAGED, F_C(MESSAGE, mail_id_text(found->message).chars),
                   F_C(ENTRY, mail_id_text(found->entry).chars),
                   F_STR(DETAIL, STR("the entry cannot be read; it stays in the spool")));
        arena_free(arena);
        return NULL;
    }
    uint64_t body_size =
        found->body_size > found->body_start ? found->body_size - found->body_start : 0;
    struct queue_entry *entry =
        queue_entry_new(worker, found->entry, &meta, &record, NULL, found->head_size + body_size);
    entry->found = true;
    entry->suspect = is_suspect(queue, found->entry) && !record.held;
    arena_free(arena);
    return entry;
}

/* Before the workers run it is put into the tables after queue_join. */
void queue_recover(struct queue *queue, const struct spool_found *found)
{
    if (atomic_load(&queue->loading)) {
        queue_handover_give(queue, found);
        return;
    }
    struct queue_entry *entry = queue_entry_of_found(queue, found);
    if (entry == NULL)
        return;
    struct queue_worker *worker = queue_worker_of(entry);
    if (worker->found_count == worker->found_cap) {
        worker->found_cap = worker->found_cap == 0 ? 64 : worker->found_cap * 2;
        worker->found = memory_resize_array(worker->found, worker->found_cap, sizeof(void *));
    }
    worker->found[worker->found_count++] = entry;
}

static int compare_age(const void *a, const void *b)
{
    const struct queue_entry *left = *(struct queue_entry *const *)a;
    const struct queue_entry *right = *(struct queue_entry *const *)b;
    return left->accepted_wall_ns < right->accepted_wall_ns   ? -1
           : left->accepted_wall_ns > right->accepted_wall_ns ? 1
                                                              : 0;
}

/* The wall clock was set back while we were away: wait for one delay, not for the old date. */
static void limit_due(struct queue_entry *entry)
{
    const struct queue_handler *handler = &queue_worker_of(entry)->queue->handler;
    if (entry->record.due_wall_ns <= clock_steady_wall_ns())
        return;
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound); /* queue_recover looked at it */
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = handler->transport(snapshot, meta.transport);
    int64_t delay_ns = transport == NULL || entry->content
                           ? QUEUE_CONTENT_DELAY_MAX_S * NS_PER_S
                           : transport_retry_delay(transport, record.attempts);
    if (delay_ns < 0)
        delay_ns = 0;
    int64_t latest_ns = clock_steady_wall_ns() + delay_ns + delay_ns / 10;
    if (record.due_wall_ns > latest_ns) {
        record.due_wall_ns = latest_ns;
        queue_entry_store(entry, &record);
    }
    handler->release_snapshot(handler->context, snapshot);
    arena_free(arena);
}

void queue_settle_found(struct queue *queue)
{
    queue->settles_found = true;
}

void queue_entry_start_found(struct queue_entry *entry)
{
    limit_due(entry);
    queue_entry_start(entry);
    bool settles = queue_worker_of(entry)->queue->settles_found && entry->state != QUEUE_HELD &&
                   queue_entry_settles(entry);
    if (!entry->suspect && !settles)
        return;
    struct arena *arena = arena_new(0);
    queue_entry_hold(entry, entry->suspect ? MAIL_REASON_CRASH : MAIL_REASON_CONTAINED, arena);
    arena_free(arena);
}

/* Oldest first and in slices, so that a long queue does not stop the loop. */
static MAY_YIELD void run_start(void *arg)
{
    enum { SLICE = 64 };
    struct queue_worker *worker = arg;
    struct error err;
    size_t count = worker->found_count;
    for (size_t i = 0; i < count && !worker->stopping; i++) {
        queue_entry_start_found(take(worker->found[i]));
        if (i % SLICE == SLICE - 1)
            fiber_yield();
        if (fiber_check(&err) == FAILED)
            return;
    }
    free(take(worker->found));
    worker->found_count = worker->found_cap = 0;
    memory_trim(); /* recovery took much more than what stays */
}

static void start_found(struct queue_worker *worker)
{
    struct error err;
    if (worker->found_count == 0)
        return;
    qsort(worker->found, worker->found_count, sizeof worker->found[0], compare_age);
    enum result result = fiber_spawn(&worker->scope, "queue start", run_start, worker, &err);
    check(result == OK); /* the first fiber of the loop, or nearly so */
}

/* ---- joined and left ---- */

static void timer_fires(struct loop_timer *timer)
{
    struct queue_worker *worker = CONTAINER(timer, struct queue_worker, timer);
    enum { AT_ONCE = 256 }; /* the rest in the next turn, so that the loop stays lively */
    struct queue_due *due;
    for (int i = 0; i < AT_ONCE && (due = queue_schedule_first(&worker->schedule)) != NULL &&
                    due->due_ns <= clock_monotonic_ns();
         i++) {
        struct queue_entry *entry = CONTAINER(due, struct queue_entry, due);
        queue_schedule_remove(&worker->schedule, due);
        if (entry->backed_off)
            queue_site_due(entry);
        else
            queue_entry_due(entry);
    }
    queue_worker_arm(worker);
}

void queue_worker_arm(struct queue_worker *worker)
{
    struct queue_due *first = queue_schedule_first(&worker->schedule);
    if (first == NULL || !worker->joined || worker->stopping)
        return;
    if (worker->timer.heap_index == 0 || worker->timer.due_ns > first->due_ns)
        loop_timer_set(&worker->timer, first->due_ns);
}

void queue_join(struct queue *queue, size_t index, struct dns *dns)
{
    check(index < queue->worker_count);
    struct queue_worker *worker = &queue->workers[index];
    check(worker->loop == loop_current() && !worker->joined);
    worker->dns = dns;
    worker->joined = true;
    worker->window_start_ns = clock_monotonic_ns();
    worker->timer.fire = timer_fires;
    scope_init_root(&worker->scope, worker->loop);
    start_found(worker);
    queue_audit_begin(worker);
    pthread_mutex_lock(&queue->posting);
    atomic_store(&worker->reachable, true);
    bool all = ++queue->joined == queue->worker_count;
    pthread_mutex_unlock(&queue->posting);
    if (all && atomic_load(&queue->loading))
        spool_load(queue->spool);
}

static void wait_for_end(struct queue_worker *worker, int64_t deadline_ns) MAY_YIELD
{
    struct error err;
    while (!scope_is_empty(&worker->scope) && clock_monotonic_ns() < deadline_ns)
        if (fiber_sleep(2 * NS_PER_MS, &err) == FAILED)
            return;
}

void queue_rest(struct queue *queue, size_t index)
{
    queue_slab_settle(&queue->workers[index].slab);
}

void queue_leave(struct queue *queue, size_t index, int64_t deadline_ns)
{
    struct queue_worker *worker = &queue->workers[index];
    struct scope shield;
    pthread_mutex_lock(&queue->posting);
    atomic_store(&worker->reachable, false);
    pthread_mutex_unlock(&queue->posting);
    worker->stopping = true;
    loop_timer_clear(&worker->timer);
    loop_timer_clear(&worker->audit_timer);
    cond_broadcast(&worker->drained);
    cond_broadcast(&worker->drained_large);
    scope_open_shielded(&shield, TIME_NEVER - 1);
    queue_site_let_go(worker);
    wait_for_end(worker, deadline_ns);
    scope_cancel(&worker->scope);
    wait_for_end(worker, TIME_NEVER);
    scope_close(&shield);
    queue_site_drop_all(worker);
    for (struct queue_entry *entry = queue_table_oldest(worker); entry != NULL;
         entry = queue_table_newer(entry))
        queue_parcel_unref(
            take(entry->parcel)); /* the spool is closed next, and wants its bodies */
    worker->joined = false;
}
