/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/balance.c - the books: what came in is somewhere.
 */
#include "base/memory.h"
#include "event/event.h"
#include "queue/unit.h"
#include "queue/worker.h"

#include <stdlib.h>

/* The first look is soon after the start, or after all is loaded; a difference is looked at again
 * before it is told. */
enum { AUDIT_S = 60, SOON_S = 1, SLICE = 128 };

static uint64_t counter(const struct queue *queue, enum queue_counter which)
{
    int64_t value = spool_counter(queue->spool, which);
    return value < 0 ? 0 : (uint64_t)value;
}

static void add_worker(struct queue_totals *totals, const struct queue_worker *worker,
                       int64_t *oldest_wall_ns)
{
    uint64_t gauge[QUEUE_STATE_COUNT];
    for (int i = 0; i < QUEUE_STATE_COUNT; i++)
        gauge[i] = atomic_load_explicit(&worker->gauge[i], memory_order_relaxed);
    uint64_t quarantined = atomic_load_explicit(&worker->quarantined, memory_order_relaxed);
    totals->ready += gauge[QUEUE_READY] + gauge[QUEUE_CONTENT];
    totals->waiting += gauge[QUEUE_WAITING];
    totals->inflight += gauge[QUEUE_INFLIGHT];
    totals->held += gauge[QUEUE_HELD] > quarantined ? gauge[QUEUE_HELD] - quarantined : 0;
    totals->quarantined += quarantined;
    totals->entries += atomic_load_explicit(&worker->entry_count, memory_order_relaxed);
    totals->bytes += atomic_load_explicit(&worker->bytes, memory_order_relaxed);
    int64_t oldest_ns = atomic_load_explicit(&worker->oldest_wall_ns, memory_order_relaxed);
    if (oldest_ns > 0 && (*oldest_wall_ns == 0 || oldest_ns < *oldest_wall_ns))
        *oldest_wall_ns = oldest_ns;
}

struct queue_totals queue_totals(struct queue *queue)
{
    struct queue_totals totals = {
        .accepted = counter(queue, QUEUE_COUNT_ACCEPTED),
        .generated = counter(queue, QUEUE_COUNT_GENERATED),
        .delivered = counter(queue, QUEUE_COUNT_DELIVERED),
        .failed_dsn = counter(queue, QUEUE_COUNT_FAILED_DSN),
        .failed_silent = counter(queue, QUEUE_COUNT_FAILED_SILENT),
        .discarded = counter(queue, QUEUE_COUNT_DISCARDED),
        .dropped = counter(queue, QUEUE_COUNT_DROPPED),
        .damaged = counter(queue, QUEUE_COUNT_DAMAGED),
    };
    int64_t oldest_wall_ns = 0;
    int64_t unloaded = atomic_load(&queue->unloaded);
    totals.loading = atomic_load(&queue->loading);
    totals.unloaded = (uint64_t)unloaded; /* wraps when damage makes it negative, as sums do */
    for (size_t i = 0; i < queue->worker_count; i++)
        add_worker(&totals, &queue->workers[i], &oldest_wall_ns);
    if (oldest_wall_ns > 0) {
        int64_t age_ns = clock_steady_wall_ns() - oldest_wall_ns;
        totals.oldest_ns = age_ns > 0 ? (uint64_t)age_ns : 0;
    }
    return totals;
}

/* What is in and not out; 0 when the books agree and nothing moves meanwhile. */
int64_t queue_balance(const struct queue_totals *totals)
{
    uint64_t in = totals->accepted + totals->generated;
    uint64_t out = totals->delivered + totals->failed_dsn + totals->failed_silent +
                   totals->discarded + totals->dropped + totals->damaged;
    uint64_t here = totals->ready + totals->waiting + totals->inflight + totals->held +
                    totals->quarantined + totals->unloaded;
    return (int64_t)(in - out - here);
}

/*
 * What was found at the start must be what the totals say is here. After damage it is not: what is
 * gone counts as damaged from now on, and what is here although the record that counted it is gone
 * counts as accepted. Without damage a difference is nobody's to settle; the audit tells of it.
 */
/* A disk that did not give it at an earlier start gives it now. */
static void count_again(struct queue *queue, int64_t difference)
{
    struct spool_change change = {
        .kind = SPOOL_COUNT, .counter = QUEUE_COUNT_DAMAGED, .delta = difference};
    spool_write(queue->spool, &change, 1);
    event_emit(EVENT_BALANCE_DIFFERENCE, F_INT(COUNT, difference),
               F_STR(DETAIL, STR("recipients that were counted as damaged are here again")));
}

void queue_square_books(struct queue *queue, int64_t difference)
{
    int64_t gone = spool_counter(queue->spool, QUEUE_COUNT_DAMAGED);
    if (difference < 0 && gone >= -difference) {
        count_again(queue, difference);
        return;
    }
    if (difference == 0 || spool_stats(queue->spool).damaged == 0)
        return;
    struct spool_change change = {.kind = SPOOL_COUNT,
                                  .counter =
                                      difference > 0 ? QUEUE_COUNT_DAMAGED : QUEUE_COUNT_ACCEPTED,
                                  .delta = difference > 0 ? difference : -difference};
    spool_write(queue->spool, &change, 1);
    event_emit(EVENT_BALANCE_DIFFERENCE, F_INT(COUNT, difference),
               F_STR(DETAIL, difference > 0
                                 ? STR("recipients of damaged mail are counted as damaged")
                                 : STR("recipients whose count was damaged are counted again")));
}

/* ---- the audit ---- */

static struct mail_id *all_ids(struct queue_worker *worker, size_t *out_count)
{
    size_t count = 0;
    int64_t oldest_ns = 0;
    struct mail_id *ids = memory_alloc_array(worker->entries.count + 1, sizeof *ids);
    for (const struct queue_entry *entry = queue_table_oldest(worker); entry != NULL;
         entry = queue_table_newer(entry)) {
        ids[count++] = entry->id;
        if (oldest_ns == 0 || entry->accepted_wall_ns < oldest_ns)
            oldest_ns = entry->accepted_wall_ns;
    }
    atomic_store_explicit(&worker->oldest_wall_ns, oldest_ns, memory_order_relaxed);
    *out_count = count;
    return ids;
}

/* An entry leaves the queue when its removal is handed to the spool, so as long as it is here the
 * spool must know it. */
static bool is_missing(struct queue_worker *worker, struct mail_id id)
{
    const struct queue_entry *entry = queue_worker_find(worker, id);
    return entry != NULL && entry->state != QUEUE_INFLIGHT && !spool_has(worker->queue->spool, id);
}

static void tell_missing(struct queue_worker *worker, struct mail_id id)
{
    struct queue_entry *entry = queue_worker_find(worker, id);
    if (entry->missing)
        return;
    entry->missing = true;
    event_emit(EVENT_BALANCE_DIFFERENCE, F_C(MESSAGE, mail_id_text(entry->message).chars),
               F_C(ENTRY, mail_id_text(entry->id).chars), F_INT(RECIPIENTS, entry->pending),
               F_STR(DETAIL, STR("the queue has it, the spool does not")));
}

size_t queue_audit_worker(struct queue_worker *worker)
{
    size_t count, missing = 0;
    struct mail_id *ids = all_ids(worker, &count);
    for (size_t i = 0; i < count; i++) {
        if (is_missing(worker, ids[i])) {
            tell_missing(worker, ids[i]);
            missing++;
        }
        if (i % SLICE == SLICE - 1)
            fiber_yield();
    }
    free(ids);
    return missing + (worker->index == 0 ? queue_audit_strays(worker) : 0);
}

/* What is just moving differs from look to look; what stays the same is no movement. */
static int64_t steady_balance(struct queue *queue) MAY_YIELD
{
    enum { LOOKS = 10, PAUSE_MS = 30 };
    struct error err;
    struct queue_totals totals = queue_totals(queue);
    int64_t first = queue_balance(&totals);
    for (int i = 0; i < LOOKS && first != 0; i++) {
        if (fiber_sleep(PAUSE_MS * NS_PER_MS, &err) == FAILED)
            return 0;
        totals = queue_totals(queue);
        if (queue_balance(&totals) != first)
            return 0;
    }
    return first;
}

void queue_audit_totals(struct queue *queue)
{
    int64_t balance = steady_balance(queue);
    int64_t before = queue->last_balance;
    queue->last_balance = balance;
    if (balance == 0 || balance != before || balance == queue->told_balance)
        return;
    queue->told_balance = balance;
    event_emit(EVENT_BALANCE_DIFFERENCE, F_INT(COUNT, balance),
               F_STR(DETAIL, STR("recipients that came in, and neither left nor are here")));
}

static void set_timer(struct queue_worker *worker, int64_t seconds)
{
    loop_timer_set(&worker->audit_timer, clock_monotonic_ns() + seconds * NS_PER_S);
}

static MAY_YIELD void run_audit(void *arg)
{
    struct queue_worker *worker = arg;
    struct queue *queue = worker->queue;
    (void)queue_audit_worker(worker);
    if (worker->index != 0)
        return;
    queue_audit_totals(queue);
    if (queue->last_balance != 0 && queue->last_balance != queue->told_balance)
        set_timer(worker, SOON_S);
}

static void audit_fires(struct loop_timer *timer)
{
    struct queue_worker *worker = CONTAINER(timer, struct queue_worker, audit_timer);
    struct error err;
    if (atomic_load(&worker->queue->loading)) {
        set_timer(worker, SOON_S);
        return;
    }
    (void)!fiber_spawn(&worker->scope, "queue audit", run_audit, worker, &err);
    set_timer(worker, AUDIT_S);
}

void queue_audit_begin(struct queue_worker *worker)
{
    worker->audit_timer.fire = audit_fires;
    set_timer(worker, SOON_S);
}
