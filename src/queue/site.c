/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/site.c - runners: fibers that hold a lease and take one ready entry after the other.
 *
 * A runner with nothing to do keeps its connection for some seconds, so that the next message needs
 * no new one and no lease; when another worker wants the lease it lets go.
 * Entries of a destination that is backed off wait for the probe here too (backoff.c).
 */
#include "queue/site.h"

#include "base/check.h"
#include "base/memory.h"
#include "state/state.h"

#include <stdlib.h>

enum {
    IDLE_S = 5,
    IDLE_MAX = 512, /* runners of a worker that may wait with a connection */
    TURN = 16,      /* messages before another worker's wish for the lease counts */
    AGAIN_S = 1,
    PROGRESS_S = 1, /* a site in which nothing went through for so long makes none */
};

struct runner {
    struct queue_site *site;
    struct list link; /* in site->idle */
    struct fiber *fiber;
    bool idle;
    bool called; /* out of idle for an entry; counted in site->claimed */
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
        queue_fair_init(&site->ready, queue_destination_shares(site->destination));
        list_init(&site->idle);
        list_init(&site->in_moving);
        list_init(&site->over);
        map_put(&worker->sites, buf_str(&key), site);
    }
    site->max = transport->limit_connections > 0 ? transport->limit_connections : 20;
    if (site->rate.count != transport->limit_messages.count ||
        site->rate.period_ns != transport->limit_messages.period_ns)
        site->limited_until_ns = 0;
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
    struct queue_site *site = queue_site_of(entry);
    if (site != NULL && entry->fresh)
        count_fresh(site, entry, -1);
}

static void stop_moving(struct queue_site *site)
{
    if (list_is_empty(&site->in_moving))
        return;
    list_remove(&site->in_moving);
    queue_fresh_add(&site->worker->moving_fresh, &site->fresh, -1);
}

void queue_site_note_progress(struct queue_site *site)
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

void queue_site_free_unused(struct queue_site *site)
{
    if (site->runners == 0 && site->ready.count == 0 && !site->refusing &&
        list_is_empty(&site->over))
        site_free(site);
}

/* What operators said since we looked last. */
void queue_site_steer(struct queue_site *site)
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
        queue_fair_each(&site->ready, queue_site_pause_entry);
        site->waiting = false;
    }
}

void queue_site_add(struct queue_entry *entry, const struct transport *transport,
                    const struct queue_meta *meta)
{
    struct queue_site *site = find_site(queue_worker_of(entry), transport, meta);
    queue_site_steer(site);
    queue_entry_set_state(entry, QUEUE_READY);
    queue_fair_add(&site->ready, &entry->ready, meta->fairness_key, entry->ready.size);
    if (entry->fresh)
        count_fresh(site, entry, 1);
    if (site->paused)
        queue_site_pause_entry(&entry->ready);
    else if (site->waiting)
        queue_site_wait_for_probe(&entry->ready);
    queue_site_kick(site);
}

void queue_site_remove(struct queue_entry *entry)
{
    struct queue_site *site = queue_site_of(entry);
    if (site == NULL)
        return;
    queue_site_not_fresh(entry);
    queue_site_stop_waiting(site, entry);
    queue_fair_remove(&site->ready, &entry->ready);
    queue_site_free_unused(site);
}

static struct queue_entry *next_entry(struct queue_site *site)
{
    struct queue_fair_item *item = queue_fair_next(&site->ready);
    if (item == NULL)
        return NULL;
    struct queue_entry *entry = CONTAINER(item, struct queue_entry, ready);
    if (entry->fresh)
        count_fresh(site, entry, -1);
    queue_site_stop_waiting(site, entry);
    queue_entry_set_state(entry, QUEUE_INFLIGHT);
    return entry;
}

/* ---- rates ---- */

static void put_rate_key(struct buf *key, const struct queue_site *site, const char *kind)
{
    buf_init(key, 1100);
    buf_printf(key, "%s %.*s", kind, STR_ARG(queue_destination_key(site->destination)));
}

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
    put_rate_key(&key, site, kind);
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

/* It was counted, and nothing leaves. */
static void give_back(struct queue_site *site, const char *kind, const struct option_rate *rate)
{
    struct state *shared = site->worker->queue->shared;
    if (rate->count == 0 || shared == NULL)
        return;
    BUF_CLEANUP struct buf key;
    put_rate_key(&key, site, kind);
    state_limit_give_back(shared, buf_str(&key), 1);
}

/* May it have no mail now? The timer kicks the site when it may again. */
static bool stands(struct queue_site *site)
{
    queue_site_steer(site);
    if (site->paused)
        return true;
    if (site->limited_until_ns <= clock_monotonic_ns())
        return false;
    loop_timer_set(&site->again, site->limited_until_ns);
    return true;
}

/* Asking takes time, and each yes is counted: so it is asked for as many entries as there are, as
 * if the one who asks was called for one of them. */
static bool rates_allow(struct queue_site *site, const struct option_rate *slow,
                        const struct option_rate *rate) MAY_YIELD
{
    if (slow->count == 0 && rate->count == 0)
        return true;
    if (site->ready.count <= site->claimed)
        return false;
    site->claimed++;
    bool is_slow_enough = is_within(site, "slow", slow);
    bool allowed = is_slow_enough && is_within(site, "transport", rate);
    if (is_slow_enough && !allowed)
        give_back(site, "slow", slow);
    site->claimed--;
    return allowed;
}

/* The next one, if the site may have it; asked before it is taken, so that whose turn it is is
 * decided as late as can be. */
static struct queue_entry *next_allowed(struct queue_site *site) MAY_YIELD
{
    if (site->ready.count == 0) {
        site->limited_since_ns = 0;
        return NULL;
    }
    if (stands(site))
        return NULL;
    struct option_rate slow = site->slow, rate = site->rate; /* others change them meanwhile */
    if (!rates_allow(site, &slow, &rate))
        return NULL;
    struct queue_entry *entry = site->paused ? NULL : next_entry(site);
    if (entry == NULL) { /* somebody took it away while we asked */
        give_back(site, "slow", &slow);
        give_back(site, "transport", &rate);
    }
    return entry;
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
            if (queue_destination_should_yield(site->destination, worker->index,
                                               queue_fair_is_owed(&site->ready)))
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
    queue_site_free_unused(site);
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

/* ---- who runs ---- */

static void await_probe(struct queue_site *site)
{
    int64_t probe_ns;
    int64_t again_ns = clock_monotonic_ns() + AGAIN_S * NS_PER_S;
    if (!site->waiting) {
        site->waiting = true;
        queue_fair_each(&site->ready, queue_site_wait_for_probe);
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
    queue_site_refuse_over(site);
    if (site->ready.count == 0 || stands(site))
        return;
    while (!worker->stopping && site->ready.count > site->claimed) {
        if (!list_is_empty(&site->idle)) {
            call_out(CONTAINER(site->idle.next, struct runner, link), true);
            continue;
        }
        switch (queue_destination_acquire(site->destination, worker->index,
                                          queue_fair_is_owed(&site->ready), site->max,
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
        queue_site_steer(value);
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
            ;
        while (!list_is_empty(&site->over))
            list_remove(site->over.next);
        site_free(site);
    }
}
