/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/site.c - runners: fibers that hold a lease and take one ready entry after the other.
 *
 * A runner with nothing to do keeps its connection for some seconds, so that the next message needs
 * no new one and no lease; when another worker wants the lease it lets go.
 *
 * While a destination is backed off its entries wait here for the probe. Nothing is done about each
 * retry that falls due meanwhile: they are counted when the entry is looked at, at latest when the
 * last of them is due, or its life ends, or its sender must hear of the delay.
 */
#include "queue/site.h"

#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "queue/hook.h"
#include "queue/retry.h"
#include "state/state.h"

#include <stdlib.h>

enum {
    IDLE_S = 5,
    IDLE_MAX = 512,      /* runners of a worker that may wait with a connection */
    TURN = 16,           /* messages before another worker's wish for the lease counts */
    REFUSE_AT_ONCE = 64, /* entries, then the loop has a turn */
    AGAIN_S = 1,
    PROGRESS_S = 1, /* a site in which nothing went through for so long makes none */
};

struct runner {
    struct queue_site *site;
    struct list link; /* in site->idle */
    struct fiber *fiber;
    bool idle;
    bool called; /* out of idle for an entry; counted in site->claimed */
    bool dismissed;
    struct queue_connection connection;
};

/* ---- sites ---- */

struct str queue_destination_name(const struct transport *transport, const struct queue_meta *meta)
{
    switch (transport->method) {
    case TRANSPORT_LOOKUP_MX:
        return meta->recipients[0].domain;
    case TRANSPORT_DISCARD:
        return STR("discard");
    default:
        return transport->server_name;
    }
}

static void timer_again(struct loop_timer *timer)
{
    queue_site_kick(CONTAINER(timer, struct queue_site, again));
}

/* The limits are the transport's, so it is part of the key. */
static void put_key(struct buf *key, const struct transport *transport,
                    const struct queue_meta *meta)
{
    buf_init(key, 1024);
    buf_append(key, transport->name);
    buf_append_byte(key, ' ');
    buf_append(key, queue_destination_name(transport, meta));
}

void queue_site_forgive(struct queue_worker *worker, const struct transport *transport,
                        const struct queue_meta *meta)
{
    BUF_CLEANUP struct buf key;
    put_key(&key, transport, meta);
    struct queue_destination *destination =
        queue_destination_get(worker->queue->destinations, buf_str(&key));
    queue_destination_forgive(destination);
    queue_destination_unref(destination);
}

static struct queue_site *find_site(struct queue_worker *worker, const struct transport *transport,
                                    const struct queue_meta *meta)
{
    BUF_CLEANUP struct buf key;
    put_key(&key, transport, meta);
    struct queue_site *site = map_get(&worker->sites, buf_str(&key));
    if (site == NULL) {
        site = NEW(struct queue_site);
        site->worker = worker;
        site->destination = queue_destination_get(worker->queue->destinations, buf_str(&key));
        site->again.fire = timer_again;
        queue_fair_init(&site->ready);
        list_init(&site->idle);
        list_init(&site->in_moving);
        list_init(&site->over);
        map_put(&worker->sites, buf_str(&key), site);
    }
    site->max = transport->limit_connections > 0 ? transport->limit_connections : 20;
    site->rate = transport->limit_messages;
    return site;
}

/* ---- who makes progress ---- */

static void count_fresh(struct queue_site *site, const struct queue_entry *entry, int sign)
{
    queue_fresh_count(&site->fresh, entry, sign);
    if (!list_is_empty(&site->in_moving))
        queue_fresh_count(&site->worker->moving_fresh, entry, sign);
}

void queue_site_not_fresh(struct queue_entry *entry)
{
    if (entry->site != NULL && entry->fresh)
        count_fresh(entry->site, entry, -1);
}

static void stop_moving(struct queue_site *site)
{
    if (list_is_empty(&site->in_moving))
        return;
    list_remove(&site->in_moving);
    queue_fresh_add(&site->worker->moving_fresh, &site->fresh, -1);
}

static void note_progress(struct queue_site *site)
{
    stop_moving(site);
    list_append(&site->worker->moving, &site->in_moving);
    queue_fresh_add(&site->worker->moving_fresh, &site->fresh, 1);
    site->finished_ns = clock_monotonic_ns();
}

struct queue_fresh queue_site_moving_fresh(struct queue_worker *worker)
{
    int64_t since_ns = clock_monotonic_ns() - PROGRESS_S * NS_PER_S;
    while (!list_is_empty(&worker->moving)) {
        struct queue_site *site = CONTAINER(worker->moving.next, struct queue_site, in_moving);
        if (site->finished_ns > since_ns)
            break;
        stop_moving(site);
    }
    return worker->moving_fresh;
}

/* ---- sites, gone ---- */

static void site_free(struct queue_site *site)
{
    struct queue_worker *worker = site->worker;
    loop_timer_clear(&site->again);
    stop_moving(site);
    queue_destination_forget(site->destination, worker->index);
    map_remove(&worker->sites, queue_destination_key(site->destination));
    queue_destination_unref(site->destination);
    queue_fair_done(&site->ready);
    free(site);
}

static void free_if_unused(struct queue_site *site)
{
    if (site->runners == 0 && site->ready.count == 0 && !site->refusing &&
        list_is_empty(&site->over))
        site_free(site);
}

/* Nobody knows how long it stands: it takes no memory and holds up no sender meanwhile. */
static void park(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    queue_entry_not_fresh(entry);
    queue_parcel_unref(take(entry->parcel));
}

/* ---- backed off ---- */

static const struct transport *transport_of(const struct queue_site *site,
                                            const struct queue_snapshot *snapshot)
{
    struct str transport, name;
    const struct queue_handler *handler = &site->worker->queue->handler;
    queue_destination_parts(queue_destination_key(site->destination), &transport, &name);
    return handler->transport(snapshot, transport);
}

void queue_site_count(struct queue_entry *entry)
{
    struct queue_site *site = entry->site;
    if (!entry->backed_off || site == NULL || entry->record.due_wall_ns == 0)
        return;
    const struct queue_handler *handler = &site->worker->queue->handler;
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = transport_of(site, snapshot);
    if (transport != NULL)
        queue_retry_pass(transport, &entry->record.attempts, &entry->record.due_wall_ns,
                         site->waiting ? clock_steady_wall_ns() : site->flows_since_wall_ns);
    handler->release_snapshot(handler->context, snapshot);
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
    queue_schedule_set(&entry->worker->schedule, &entry->due,
                       clock_monotonic_ns() + (in_ns < 0 ? 0 : in_ns));
    queue_worker_arm(entry->worker);
}

/* Cheap, for there may be many: where its clock stood still, the look at it comes too early. */
static void wait_for_probe(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    const struct queue_site *site = entry->site;
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
static void stop_waiting(struct queue_entry *entry)
{
    if (!entry->backed_off)
        return;
    queue_site_count(entry);
    queue_schedule_remove(&entry->worker->schedule, &entry->due);
    entry->backed_off = false;
    entry->ready_since_ns = clock_monotonic_ns();
}

static void pause_entry(struct queue_fair_item *item)
{
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    if (entry->backed_off)
        queue_entry_set_state(entry, QUEUE_READY);
    stop_waiting(entry);
    park(item);
}

bool queue_site_waits(const struct queue_entry *entry, struct str *out_error,
                      int64_t *out_probe_wall_ns)
{
    int64_t probe_ns;
    if (!entry->backed_off || entry->site == NULL ||
        !queue_destination_is_down(entry->site->destination, &probe_ns))
        return false;
    int64_t in_ns = probe_ns - clock_monotonic_ns();
    *out_error = str_c(entry->site->refusal.text);
    *out_probe_wall_ns = clock_steady_wall_ns() + (in_ns < 0 ? 0 : in_ns);
    return true;
}

/* What operators said since we looked last. */
static void steer(struct queue_site *site)
{
    struct queue_steering *steering = site->worker->queue->steering;
    unsigned generation = queue_steering_generation(steering);
    struct str transport, name;
    if (site->steered == generation)
        return;
    queue_destination_parts(queue_destination_key(site->destination), &transport, &name);
    struct queue_steering_view view = queue_steering_find(steering, transport, name);
    if (view.slow.count != site->slow.count || view.slow.period_ns != site->slow.period_ns)
        site->limited_until_ns = 0;
    site->steered = generation;
    site->slow = view.slow;
    site->paused = view.paused;
    if (site->paused) {
        queue_fair_each(&site->ready, pause_entry);
        site->waiting = false;
    }
}

void queue_site_add(struct queue_entry *entry, const struct transport *transport,
                    const struct queue_meta *meta)
{
    struct queue_site *site = find_site(entry->worker, transport, meta);
    steer(site);
    queue_entry_set_state(entry, QUEUE_READY);
    entry->site = site;
    queue_fair_add(&site->ready, &entry->ready, meta->fairness_key, entry->ready.size);
    if (entry->fresh)
        count_fresh(site, entry, 1);
    if (site->paused)
        park(&entry->ready);
    else if (site->waiting)
        wait_for_probe(&entry->ready);
    queue_site_kick(site);
}

void queue_site_remove(struct queue_entry *entry)
{
    if (entry->site == NULL || entry->ready.sender == NULL)
        return;
    queue_site_not_fresh(entry);
    stop_waiting(entry);
    struct queue_site *site = take(entry->site);
    queue_fair_remove(&site->ready, &entry->ready);
    free_if_unused(site);
}

static struct queue_entry *next_entry(struct queue_site *site)
{
    struct queue_fair_item *item = queue_fair_next(&site->ready);
    if (item == NULL)
        return NULL;
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    queue_site_not_fresh(entry);
    stop_waiting(entry);
    entry->site = NULL;
    queue_entry_set_state(entry, QUEUE_INFLIGHT);
    return entry;
}

/* ---- rates ---- */

/* One more within this rate, counted under the key of the destination? */
static bool is_within(struct queue_site *site, const char *kind,
                      const struct option_rate *rate) MAY_YIELD
{
    struct state_limit_answer answer;
    struct error err;
    struct state *shared = site->worker->queue->shared;
    if (rate->count == 0 || shared == NULL)
        return true;
    BUF_CLEANUP struct buf key;
    buf_init(&key, 1100);
    buf_printf(&key, "%s %.*s", kind, STR_ARG(queue_destination_key(site->destination)));
    if (state_limit(shared, buf_str(&key), 1, rate->count, rate->period_ns, /* peek= */ false,
                    &answer, &err) == FAILED)
        return false;
    if (answer.allowed)
        return true;
    int64_t now_ns = clock_monotonic_ns();
    int64_t wait_ns = answer.retry_in_ns < NS_PER_MS ? NS_PER_MS : answer.retry_in_ns;
    site->limited_until_ns = now_ns + wait_ns;
    if (site->limited_since_ns == 0)
        site->limited_since_ns = now_ns;
    loop_timer_set(&site->again, site->limited_until_ns);
    return false;
}

/* May it have no mail now? The timer kicks the site when it may again. */
static bool stands(struct queue_site *site)
{
    steer(site);
    if (site->paused)
        return true;
    if (site->limited_until_ns <= clock_monotonic_ns())
        return false;
    loop_timer_set(&site->again, site->limited_until_ns);
    return true;
}

/* The next one, if the site may have it; asked before it is taken, so that whose turn it is is
 * decided as late as can be. */
static struct queue_entry *next_allowed(struct queue_site *site) MAY_YIELD
{
    if (site->ready.count == 0) {
        site->limited_since_ns = 0;
        return NULL;
    }
    if (stands(site) || !is_within(site, "slow", &site->slow) ||
        !is_within(site, "transport", &site->rate))
        return NULL;
    return next_entry(site);
}

/* ---- one entry ---- */

static void report(struct queue_site *site, const struct queue_attempt *attempt)
{
    struct queue_destination_news news;
    struct str key = queue_destination_key(site->destination);
    if (attempt->stopped)
        return;
    int64_t now_ns = clock_monotonic_ns();
    if (attempt->reached) {
        queue_destination_count(site->destination, site->worker->index, now_ns);
        queue_destination_success(site->destination, site->max, &news);
    } else {
        queue_destination_failure(site->destination, attempt->start_ns, now_ns, &attempt->error,
                                  &news);
    }
    if (news.backed_off)
        event_emit(EVENT_DESTINATION_BACKOFF, F_STR(DESTINATION, key),
                   F_C(ERROR, attempt->error.text), F_INT(COUNT, news.failures));
    if (news.came_up)
        event_emit(EVENT_DESTINATION_UP, F_STR(DESTINATION, key));
}

static void note_finished(struct queue_site *site)
{
    struct queue_worker *worker = site->worker;
    int64_t now_ns = clock_monotonic_ns();
    int64_t past_ns = now_ns - worker->window_start_ns;
    note_progress(site);
    worker->finished++;
    if (past_ns < 100 * NS_PER_MS)
        return;
    double rate = (double)worker->finished * (double)NS_PER_S / (double)past_ns;
    worker->rate = worker->rate == 0 || past_ns > NS_PER_S ? rate : 0.5 * (worker->rate + rate);
    worker->finished = 0;
    worker->window_start_ns = now_ns;
}

/* What comes before anything is sent. False: the entry is dealt with, or stays as it is. */
static bool prepare(struct queue_attempt *attempt) MAY_YIELD
{
    struct error err;
    if (queue_attempt_bar(attempt))
        return false;
    if (queue_is_expired(attempt)) {
        queue_settle_time(attempt);
        return false;
    }
    if (queue_attempt_load(attempt, &err) == OK)
        return true;
    if (err.kind == ERROR_PERMANENT) {
        queue_settle_damaged(attempt);
        return false;
    }
    attempt->stopped = err.kind == ERROR_CANCELLED;
    if (attempt->stopped)
        queue_settle(attempt);
    else
        queue_settle_unread(attempt, &err);
    return false;
}

bool queue_site_serve(struct queue_site *site, struct queue_entry *entry,
                      struct queue_connection *connection)
{
    struct queue_worker *worker = site->worker;
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    int64_t ready_since_ns = entry->ready_since_ns;
    _Atomic uint64_t *slot = queue_poison_note(worker, entry->id);
    bool reached = true;
    queue_attempt_init(&attempt, entry, arena);
    attempt.times.queue_us = (attempt.start_ns - ready_since_ns) / NS_PER_US;
    if (site->limited_since_ns != 0)
        attempt.times.limit_us =
            (attempt.start_ns -
             (site->limited_since_ns > ready_since_ns ? site->limited_since_ns : ready_since_ns)) /
            NS_PER_US;
    if (prepare(&attempt)) {
        if (queue_hook_deliver(&attempt, connection))
            report(site, &attempt);
        reached = attempt.reached;
        if (reached)
            note_finished(site);
        queue_settle(&attempt);
    }
    queue_attempt_done(&attempt);
    queue_poison_clear(slot);
    arena_free(arena);
    return reached;
}

void queue_site_refuse(struct queue_entry *entry, const struct error *error)
{
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    queue_attempt_init(&attempt, entry, arena);
    if (attempt.transport == NULL) {
        queue_entry_hold(entry, MAIL_REASON_TRANSPORT_MISSING, arena);
    } else {
        struct mail_reply reply = {.enhanced = {4, 4, 1}, .text = str_c(error->text)};
        int64_t late_ns = attempt.start_wall_ns - attempt.record.due_wall_ns;
        attempt.start_wall_ns -= late_ns;
        attempt.start_ns -= late_ns;
        for (size_t i = 0; i < attempt.meta.recipient_count; i++)
            attempt.results[i].said.reply = reply;
        queue_settle(&attempt);
    }
    queue_attempt_done(&attempt);
    arena_free(arena);
}

/* ---- runners ---- */

static void unclaim(struct runner *runner)
{
    if (runner->called) {
        runner->called = false;
        runner->site->claimed--;
    }
}

/* Keep the connection for a while. True: called for an entry. */
static bool wait_idle(struct runner *runner) MAY_YIELD
{
    struct queue_site *site = runner->site;
    struct queue_worker *worker = site->worker;
    struct scope scope;
    struct error err;
    if (runner->connection.client == NULL || worker->stopping || worker->idle_runners >= IDLE_MAX ||
        queue_destination_is_wanted(site->destination, worker->index))
        return false;
    runner->idle = true;
    list_prepend(&site->idle, &runner->link); /* the warmest is called first */
    worker->idle_runners++;
    scope_open(&scope, clock_deadline(IDLE_S * NS_PER_S));
    while (runner->idle && fiber_suspend(&err) == OK)
        ;
    scope_close(&scope);
    if (runner->idle) { /* time is up */
        list_remove(&runner->link);
        runner->idle = false;
    }
    worker->idle_runners--;
    return runner->called;
}

static void call_out(struct runner *runner, bool for_entry)
{
    list_remove(&runner->link);
    runner->idle = false;
    runner->called = for_entry;
    if (for_entry)
        runner->site->claimed++;
    fiber_wake(runner->fiber);
}

static void serve_all(struct runner *runner) MAY_YIELD
{
    struct queue_site *site = runner->site;
    struct queue_worker *worker = site->worker;
    unsigned served = 0;
    struct error err;
    while (!worker->stopping && fiber_check(&err) == OK) {
        unclaim(runner);
        struct queue_entry *entry = next_allowed(site);
        if (entry == NULL) {
            if (!wait_idle(runner))
                return;
            continue;
        }
        if (!queue_site_serve(site, entry, &runner->connection))
            return;
        if (++served % TURN == 0) {
            if (queue_destination_should_yield(site->destination, worker->index))
                return;
            fiber_yield();
        }
    }
}

static MAY_YIELD void run_runner(void *arg)
{
    struct runner *runner = arg;
    struct queue_site *site = runner->site;
    runner->fiber = fiber_current();
    serve_all(runner);
    unclaim(runner);
    queue_connection_close(&runner->connection, site->worker->queue, !site->worker->stopping);
    free(runner);
    queue_destination_release(site->destination, site->worker->index);
    site->runners--;
    queue_site_kick(site);
    free_if_unused(site);
}

/* A runner for a lease that we have. */
static bool start_runner(struct queue_site *site)
{
    struct runner *runner = NEW(struct runner);
    struct error err;
    runner->site = site;
    runner->called = true;
    list_init(&runner->link);
    site->claimed++;
    site->runners++;
    if (fiber_spawn(&site->worker->scope, "delivery", run_runner, runner, &err) == OK)
        return true;
    site->claimed--;
    site->runners--;
    free(runner);
    queue_destination_release(site->destination, site->worker->index);
    loop_timer_set(&site->again, clock_monotonic_ns() + AGAIN_S * NS_PER_S);
    return false;
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
    free_if_unused(site);
}

static void refuse_those_over(struct queue_site *site)
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
    struct queue *queue = entry->worker->queue;
    const struct queue_handler *handler = &queue->handler;
    struct arena *arena = arena_new(0);
    struct queue_meta meta;
    struct queue_record record;
    bool sound = queue_entry_decode(entry, arena, &meta, &record);
    check(sound); /* our own bytes */
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    const struct transport *transport = transport_of(entry->site, snapshot);
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
    struct queue_site *site = entry->site;
    int64_t probe_ns, look_ns;
    steer(site);
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
    entry->site = NULL;
    entry->backed_off = false;
    queue_entry_set_state(entry, QUEUE_READY);
    list_append(&site->over, &entry->ready.link);
    refuse_those_over(site);
}

/* ---- who runs ---- */

static void await_probe(struct queue_site *site)
{
    int64_t probe_ns;
    int64_t again_ns = clock_monotonic_ns() + AGAIN_S * NS_PER_S;
    if (!site->waiting) {
        site->waiting = true;
        queue_fair_each(&site->ready, wait_for_probe);
    }
    bool known = queue_destination_is_down(site->destination, &probe_ns) && probe_ns != 0;
    loop_timer_set(&site->again, known ? probe_ns : again_ns);
}

/* Is this a lease to send, or to probe with? */
static void note_lease(struct queue_site *site)
{
    int64_t probe_ns;
    if (!site->waiting || queue_destination_is_down(site->destination, &probe_ns))
        return;
    site->waiting = false;
    site->flows_since_wall_ns = clock_steady_wall_ns();
}

void queue_site_kick(struct queue_site *site)
{
    struct queue_worker *worker = site->worker;
    refuse_those_over(site);
    if (site->ready.count == 0 || stands(site))
        return;
    while (!worker->stopping && site->ready.count > site->claimed) {
        if (!list_is_empty(&site->idle)) {
            call_out(CONTAINER(site->idle.next, struct runner, link), true);
            continue;
        }
        switch (queue_destination_acquire(site->destination, worker->index, site->max,
                                          clock_monotonic_ns(), &site->refusal)) {
        case QUEUE_LEASE_GRANTED:
            note_lease(site);
            if (!start_runner(site))
                return;
            break;
        case QUEUE_LEASE_FULL:
            return;
        case QUEUE_LEASE_BACKED_OFF:
            await_probe(site);
            return;
        }
    }
}

void queue_site_look(void *context, struct queue_member *member)
{
    struct queue *queue = context;
    struct queue_worker *worker = &queue->workers[member->worker];
    struct queue_destination *destination = member->destination;
    struct queue_site *site = map_get(&worker->sites, queue_destination_key(destination));
    unsigned granted = queue_destination_take_granted(destination, worker->index);
    for (unsigned i = 0; i < granted; i++) {
        bool useful =
            site != NULL && !worker->stopping && site->ready.count > site->claimed && !stands(site);
        if (useful)
            note_lease(site);
        if (!useful || !start_runner(site))
            if (!useful)
                queue_destination_release(destination, worker->index);
    }
    if (site == NULL) {
        queue_destination_forget(destination, worker->index);
        return;
    }
    if (queue_destination_is_wanted(destination, worker->index) && !list_is_empty(&site->idle))
        call_out(CONTAINER(site->idle.prev, struct runner, link), false);
    queue_site_kick(site);
}

void queue_site_steer_all(struct queue_worker *worker)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&worker->sites, &cursor, &key, &value)) {
        steer(value);
        queue_site_kick(value);
    }
}

void queue_site_let_go(struct queue_worker *worker)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&worker->sites, &cursor, &key, &value)) {
        struct queue_site *site = value;
        while (!list_is_empty(&site->idle))
            call_out(CONTAINER(site->idle.next, struct runner, link), false);
    }
}

void queue_site_drop_all(struct queue_worker *worker)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&worker->sites, &cursor, &key, &value)) {
        struct queue_site *site = value;
        check(site->runners == 0);
        struct queue_fair_item *item;
        while ((item = queue_fair_next(&site->ready)) != NULL)
            CONTAINER(item, struct queue_entry, ready)->site = NULL;
        while (!list_is_empty(&site->over))
            list_remove(site->over.next);
        site_free(site);
    }
}
