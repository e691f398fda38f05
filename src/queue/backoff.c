/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/backoff.c - entries whose destination is backed off, or paused: they stand in its site.
 *
 * Nothing is done about each retry that falls due while a destination is backed off: they are
 * counted when the entry is looked at, at latest when the last of them is due, or its life ends, or
 * its sender must hear of the delay. A restart does not know of them (STATES.md).
 */
#include "base/check.h"
#include "base/memory.h"
#include "queue/retry.h"
#include "queue/site.h"

enum {
    REFUSE_AT_ONCE = 64, /* entries, then the loop has a turn */
    AGAIN_S = 1,
};

/* Nobody knows how long it stands: it takes no memory and holds up no sender meanwhile. */
static void park(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    queue_entry_not_fresh(entry);
    queue_parcel_unref(take(entry->parcel));
}

static const struct transport *transport_of(const struct queue_site *site,
                                            const struct queue_snapshot *snapshot)
{
    struct str transport, name;
    const struct queue_handler *handler = &site->worker->queue->handler;
    queue_destination_parts(queue_destination_key(site->destination), &transport, &name);
    return handler->transport(snapshot, transport);
}

/* See queue_site_count; of one that stands here, or stood until just now. */
static void count_retries(struct queue_site *site, struct queue_entry *entry)
{
    if (!entry->backed_off || entry->record.due_wall_ns == 0)
        return;
    const struct queue_handler *handler = &site->worker->queue->handler;
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = transport_of(site, snapshot);
    if (transport != NULL)
        queue_retry_pass(transport, &entry->record.attempts, &entry->record.due_wall_ns,
                         site->waiting ? clock_steady_wall_ns() : site->flows_since_wall_ns);
    handler->release_snapshot(handler->context, snapshot);
}

void queue_site_count(struct queue_entry *entry)
{
    struct queue_site *site = queue_site_of(entry);
    if (site != NULL)
        count_retries(site, entry);
}

/* Until when it may wait without a look at it. */
static int64_t look_wall_ns(const struct queue_entry *entry, const struct transport *transport,
                            int64_t life_start_wall_ns, bool tells_delay)
{
    int64_t end_ns =
        queue_retry_give_up(transport, entry->record.attempts, entry->record.due_wall_ns,
                            life_start_wall_ns + transport->expire_ns);
    int64_t delay_ns = life_start_wall_ns + transport->delay_after_ns;
    return tells_delay && delay_ns < end_ns ? delay_ns : end_ns;
}

static void look_at(struct queue_entry *entry, int64_t wall_ns)
{
    int64_t in_ns = wall_ns - clock_steady_wall_ns();
    queue_schedule_set(&queue_worker_of(entry)->schedule, &entry->due,
                       clock_monotonic_ns() + (in_ns < 0 ? 0 : in_ns));
    queue_worker_arm(queue_worker_of(entry));
}

/* Cheap, for there may be many: where its clock stood still, the look at it comes too early. */
void queue_site_wait_for_probe(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    const struct queue_site *site = queue_site_of(entry);
    const struct queue_handler *handler = &site->worker->queue->handler;
    if (entry->due.index != 0)
        return;
    park(item);
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = transport_of(site, snapshot);
    if (transport != NULL) { /* else the probe finds that it is missing */
        if (!entry->backed_off)
            entry->record.due_wall_ns = clock_steady_wall_ns();
        entry->backed_off = true;
        queue_entry_set_state(entry, QUEUE_WAITING);
        look_at(entry, look_wall_ns(entry, transport, entry->accepted_wall_ns,
                                    !queue_record_delay_told(&entry->record)));
    }
    handler->release_snapshot(handler->context, snapshot);
}

/* Its retry is what comes next, not the clock. */
void queue_site_stop_waiting(struct queue_site *site, struct queue_entry *entry)
{
    if (!entry->backed_off)
        return;
    count_retries(site, entry);
    queue_schedule_remove(&queue_worker_of(entry)->schedule, &entry->due);
    entry->backed_off = false;
    entry->ready_since_ns = clock_monotonic_ns();
}

void queue_site_pause_entry(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    if (entry->backed_off)
        queue_entry_set_state(entry, QUEUE_READY);
    queue_site_stop_waiting(queue_site_of(entry), entry);
    park(item);
}

bool queue_site_waits(const struct queue_entry *entry, struct str *out_error,
                      int64_t *out_probe_wall_ns)
{
    int64_t probe_ns;
    const struct queue_site *site = queue_site_of(entry);
    if (!entry->backed_off || site == NULL ||
        !queue_destination_is_down(site->destination, &probe_ns))
        return false;
    int64_t in_ns = probe_ns - clock_monotonic_ns();
    *out_error = str_c(site->refusal.text);
    *out_probe_wall_ns = clock_steady_wall_ns() + (in_ns < 0 ? 0 : in_ns);
    return true;
}
/* ---- time runs out ---- */

static MAY_YIELD void run_refuser(void *arg)
{
    struct queue_site *site = arg;
    struct queue_worker *worker = site->worker;
    struct error error = site->refusal;
    struct error err;
    size_t count = 0;
    while (!worker->stopping && fiber_check(&err) == OK && !list_is_empty(&site->over)) {
        struct queue_entry *entry = CONTAINER(site->over.next, struct queue_entry, ready.link);
        list_remove(&entry->ready.link);
        queue_entry_set_state(entry, QUEUE_INFLIGHT);
        queue_site_refuse(entry, &error);
        if (++count % REFUSE_AT_ONCE == 0)
            fiber_yield();
    }
    site->refusing = false;
    queue_site_free_unused(site);
}

void queue_site_refuse_over(struct queue_site *site)
{
    struct error err;
    if (site->refusing || list_is_empty(&site->over) || site->worker->stopping)
        return;
    site->refusing = true;
    if (fiber_spawn(&site->worker->scope, "delivery back-off", run_refuser, site, &err) == OK)
        return;
    site->refusing = false;
    loop_timer_set(&site->again, clock_monotonic_ns() + AGAIN_S * NS_PER_S);
}

/* Exactly, with what is in its record and meta. */
static bool is_over(struct queue_entry *entry, int64_t *out_look_wall_ns)
{
    struct queue *queue = queue_worker_of(entry)->queue;
    const struct queue_handler *handler = &queue->handler;
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound); /* our own bytes */
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = transport_of(queue_site_of(entry), snapshot);
    *out_look_wall_ns = 0; /* without a transport it is held */
    if (transport != NULL)
        *out_look_wall_ns = look_wall_ns(entry, transport,
                                         queue_life_start_wall_ns(queue, transport, &meta, &record),
                                         !record.delay_told && (meta.flags & QUEUE_META_DSN) == 0);
    handler->release_snapshot(handler->context, snapshot);
    arena_free(arena);
    return *out_look_wall_ns <= clock_steady_wall_ns() + NS_PER_MS;
}

void queue_site_due(struct queue_entry *entry)
{
    struct queue_site *site = queue_site_of(entry);
    int64_t probe_ns, look_ns;
    queue_site_steer(site);
    if (!entry->backed_off) /* paused: its clock stands still */
        return;
    if (!queue_destination_is_down(site->destination, &probe_ns))
        return; /* it stands in line */
    if (!is_over(entry, &look_ns)) {
        look_at(entry, look_ns);
        return;
    }
    queue_site_count(entry);
    queue_fair_remove(&site->ready, &entry->ready);
    entry->backed_off = false;
    queue_entry_set_state(entry, QUEUE_READY);
    list_append(&site->over, &entry->ready.link);
    queue_site_refuse_over(site);
}
