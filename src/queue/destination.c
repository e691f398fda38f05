/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/destination.c - leases and back-off.
 *
 * The window (how many connections at once) grows by one a message up to the transport's limit and
 * is halved by a failure. After three failures in a row nothing is tried for 15 s, doubling up to
 * 5 min; then a single lease probes.
 */
#include "queue/destination.h"

#include "base/check.h"
#include "base/map.h"
#include "base/memory.h"
#include "queue/shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEP_AT_FIRST = 4096, FORGET_AFTER_S = 900 };

struct queue_destination {
    struct queue_destinations *all;
    struct str key;      /* behind the members */
    unsigned references; /* under the table's mutex */
    atomic_uint wanted;  /* members that wait */
    atomic_bool steady;  /* window at its limit and no failures: success needs no mutex */
    pthread_mutex_t mutex;
    int64_t window;
    int64_t max; /* the transport's limit, as last told */
    unsigned leased;
    unsigned failures;
    int64_t last_failure_ns;
    int64_t backoff_until_ns; /* 0: none */
    bool probing;
    struct error last_error;
    struct queue_shares *shares;
    struct queue_member members[];
};

struct queue_destinations {
    struct loop *const *loops;
    size_t worker_count;
    void (*look)(void *context, struct queue_member *member);
    void *context;
    pthread_mutex_t mutex;
    struct map table;
    size_t sweep_at;
};

/* ---- the table ---- */

struct queue_destinations *
queue_destinations_new(struct loop *const *loops, size_t worker_count,
                       void (*look)(void *context, struct queue_member *member), void *context)
{
    struct queue_destinations *all = NEW(struct queue_destinations);
    all->loops = loops;
    all->worker_count = worker_count;
    all->look = look;
    all->context = context;
    all->sweep_at = SWEEP_AT_FIRST;
    pthread_mutex_init(&all->mutex, NULL);
    map_init(&all->table);
    return all;
}

static void destination_free(struct queue_destination *destination)
{
    pthread_mutex_destroy(&destination->mutex);
    queue_shares_free(destination->shares);
    free(destination);
}

void queue_destinations_free(struct queue_destinations *all)
{
    if (all == NULL)
        return;
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&all->table, &cursor, &key, &value))
        destination_free(value);
    map_done(&all->table);
    pthread_mutex_destroy(&all->mutex);
    free(all);
}

static struct queue_destination *destination_new(struct queue_destinations *all, struct str key)
{
    size_t size =
        sizeof(struct queue_destination) + all->worker_count * sizeof(struct queue_member);
    struct queue_destination *destination = memory_alloc(size + key.len);
    char *copy = (char *)destination + size;
    memcpy(copy, key.ptr, key.len);
    destination->all = all;
    destination->key = str_of(copy, key.len);
    destination->window = QUEUE_WINDOW_FIRST;
    if (all->worker_count > 1)
        destination->shares = queue_shares_new();
    pthread_mutex_init(&destination->mutex, NULL);
    for (size_t i = 0; i < all->worker_count; i++)
        destination->members[i] = (struct queue_member){.destination = destination, .worker = i};
    return destination;
}

/* Forget those that nobody uses and whose trouble is long past. */
static void sweep(struct queue_destinations *all)
{
    int64_t now_ns = clock_monotonic_ns();
    size_t cursor = 0;
    struct str key;
    void *value;
    while (map_next(&all->table, &cursor, &key, &value)) {
        struct queue_destination *destination = value;
        if (destination->references > 0 ||
            (destination->failures > 0 &&
             now_ns - destination->last_failure_ns < FORGET_AFTER_S * NS_PER_S))
            continue;
        map_remove(&all->table, key);
        destination_free(destination);
    }
    all->sweep_at = all->table.count * 2 > SWEEP_AT_FIRST ? all->table.count * 2 : SWEEP_AT_FIRST;
}

struct queue_destination *queue_destination_get(struct queue_destinations *all, struct str key)
{
    pthread_mutex_lock(&all->mutex);
    struct queue_destination *destination = map_get(&all->table, key);
    if (destination == NULL) {
        if (all->table.count >= all->sweep_at)
            sweep(all);
        destination = destination_new(all, key);
        map_put(&all->table, key, destination);
    }
    destination->references++;
    pthread_mutex_unlock(&all->mutex);
    return destination;
}

void queue_destination_unref(struct queue_destination *destination)
{
    if (destination == NULL)
        return;
    struct queue_destinations *all = destination->all;
    pthread_mutex_lock(&all->mutex);
    check(destination->references > 0);
    destination->references--;
    pthread_mutex_unlock(&all->mutex);
}

struct str queue_destination_key(const struct queue_destination *destination)
{
    return destination->key;
}

void queue_destination_parts(struct str key, struct str *out_transport, struct str *out_name)
{
    size_t at = (size_t)str_find_last(key, ' '); /* a name of a place has none */
    *out_transport = str_slice(key, 0, at);
    *out_name = str_from(key, at + 1);
}

/* ---- telling other workers ---- */

static void run_look(struct post *post)
{
    struct queue_member *member = CONTAINER(post, struct queue_member, post);
    struct queue_destination *destination = member->destination;
    struct queue_destinations *all = destination->all;
    atomic_store(&member->posted, false);
    all->look(all->context, member);
    queue_destination_unref(destination);
}

static void tell(struct queue_member *member)
{
    struct queue_destinations *all = member->destination->all;
    if (atomic_exchange(&member->posted, true))
        return;
    pthread_mutex_lock(&all->mutex);
    member->destination->references++;
    pthread_mutex_unlock(&all->mutex);
    member->post.run = run_look;
    loop_post(all->loops[member->worker], &member->post);
}

static void set_waits(struct queue_member *member, bool waits)
{
    if (member->waits == waits)
        return;
    member->waits = waits;
    if (waits)
        atomic_fetch_add(&member->destination->wanted, 1);
    else
        atomic_fetch_sub(&member->destination->wanted, 1);
}

/* ---- leases; the mutex is held ---- */

static int64_t allowed_now(const struct queue_destination *destination, int64_t max)
{
    if (destination->probing)
        return 1;
    return destination->window < max ? destination->window : max;
}

/* Others have connections that may be idle: ask them to let go. */
static void ask_others(struct queue_destination *destination, size_t worker)
{
    for (size_t i = 0; i < destination->all->worker_count; i++)
        if (i != worker && destination->members[i].leased > 0)
            tell(&destination->members[i]);
}

enum queue_lease queue_destination_acquire(struct queue_destination *destination, size_t worker,
                                           bool is_owed, int64_t max, int64_t now_ns,
                                           struct error *error)
{
    struct queue_member *member = &destination->members[worker];
    enum queue_lease lease = QUEUE_LEASE_GRANTED;
    pthread_mutex_lock(&destination->mutex);
    destination->max = max;
    if (max > destination->window)
        atomic_store_explicit(&destination->steady, false, memory_order_relaxed);
    if (destination->backoff_until_ns > now_ns) {
        *error = destination->last_error;
        set_waits(member, false);
        lease = QUEUE_LEASE_BACKED_OFF;
    } else {
        if (destination->backoff_until_ns != 0) {
            destination->backoff_until_ns = 0;
            destination->probing = true;
        }
        if ((int64_t)destination->leased < allowed_now(destination, max)) {
            destination->leased++;
            member->leased++;
            set_waits(member, false);
        } else {
            lease = QUEUE_LEASE_FULL;
            if (!member->waits)
                ask_others(destination, worker);
            set_waits(member, true);
            member->is_owed = is_owed;
        }
    }
    pthread_mutex_unlock(&destination->mutex);
    return lease;
}

bool queue_destination_is_down(struct queue_destination *destination, int64_t *out_probe_ns)
{
    pthread_mutex_lock(&destination->mutex);
    bool down = destination->failures >= QUEUE_BACKOFF_AFTER;
    *out_probe_ns = destination->backoff_until_ns;
    pthread_mutex_unlock(&destination->mutex);
    return down;
}

unsigned queue_destination_take_granted(struct queue_destination *destination, size_t worker)
{
    pthread_mutex_lock(&destination->mutex);
    unsigned granted = destination->members[worker].granted;
    destination->members[worker].granted = 0;
    pthread_mutex_unlock(&destination->mutex);
    return granted;
}

/* The next worker behind `worker` that waits, one that is owed before others; or NULL. */
static struct queue_member *next_waiting(struct queue_destination *destination, size_t worker)
{
    size_t count = destination->all->worker_count;
    struct queue_member *first = NULL;
    for (size_t i = 1; i <= count; i++) {
        struct queue_member *member = &destination->members[(worker + i) % count];
        if (member->waits && member->is_owed)
            return member;
        if (member->waits && first == NULL)
            first = member;
    }
    return first;
}

void queue_destination_release(struct queue_destination *destination, size_t worker)
{
    pthread_mutex_lock(&destination->mutex);
    check(destination->leased > 0 && destination->members[worker].leased > 0);
    destination->members[worker].leased--;
    struct queue_member *next = next_waiting(destination, worker);
    bool hand_over = next != NULL && destination->backoff_until_ns == 0 &&
                     (int64_t)destination->leased <= allowed_now(destination, destination->max);
    if (hand_over) {
        next->leased++;
        next->granted++;
        set_waits(next, false);
    } else {
        destination->leased--;
    }
    if (next != NULL)
        tell(next);
    pthread_mutex_unlock(&destination->mutex);
}

void queue_destination_forget(struct queue_destination *destination, size_t worker)
{
    pthread_mutex_lock(&destination->mutex);
    set_waits(&destination->members[worker], false);
    pthread_mutex_unlock(&destination->mutex);
}

bool queue_destination_is_wanted(const struct queue_destination *destination, size_t worker)
{
    unsigned wanted = atomic_load_explicit(&destination->wanted, memory_order_relaxed);
    bool own = atomic_load_explicit(&destination->members[worker].waits, memory_order_relaxed);
    return wanted > (own ? 1 : 0);
}

bool queue_destination_should_yield(struct queue_destination *destination, size_t worker,
                                    bool is_owed)
{
    if (!queue_destination_is_wanted(destination, worker))
        return false;
    unsigned active = 0, least = ~0u;
    bool other_is_owed = false;
    pthread_mutex_lock(&destination->mutex);
    for (size_t i = 0; i < destination->all->worker_count; i++) {
        const struct queue_member *member = &destination->members[i];
        bool waits = atomic_load_explicit(&member->waits, memory_order_relaxed);
        active += waits || member->leased > 0;
        if (waits && i != worker && member->leased < least)
            least = member->leased;
        other_is_owed |= waits && i != worker && member->is_owed;
    }
    int64_t share = allowed_now(destination, destination->max) / (active > 0 ? active : 1);
    bool yield = least == 0 || (int64_t)destination->members[worker].leased > share;
    pthread_mutex_unlock(&destination->mutex);
    if (is_owed != other_is_owed)
        yield = other_is_owed;
    return yield && least != ~0u;
}

struct queue_shares *queue_destination_shares(struct queue_destination *destination)
{
    return destination->shares;
}

void queue_destination_forgive(struct queue_destination *destination)
{
    pthread_mutex_lock(&destination->mutex);
    if (destination->backoff_until_ns != 0)
        destination->backoff_until_ns = 1;
    pthread_mutex_unlock(&destination->mutex);
}

/* ---- reports ---- */

void queue_destination_success(struct queue_destination *destination, int64_t max,
                               struct queue_destination_news *out)
{
    *out = (struct queue_destination_news){0};
    if (atomic_load_explicit(&destination->steady, memory_order_relaxed))
        return;
    pthread_mutex_lock(&destination->mutex);
    out->came_up = destination->failures >= QUEUE_BACKOFF_AFTER;
    out->failures = destination->failures;
    destination->failures = 0;
    destination->probing = false;
    destination->backoff_until_ns = 0;
    if (destination->window < max)
        destination->window++;
    if (destination->window >= max)
        atomic_store_explicit(&destination->steady, true, memory_order_relaxed);
    for (size_t i = 0; i < destination->all->worker_count; i++)
        if (destination->members[i].waits)
            tell(&destination->members[i]);
    pthread_mutex_unlock(&destination->mutex);
}

static int64_t backoff_ns(unsigned failures)
{
    unsigned doublings = failures - QUEUE_BACKOFF_AFTER;
    int64_t seconds =
        doublings > 10 ? QUEUE_BACKOFF_MAX_S : (int64_t)QUEUE_BACKOFF_FIRST_S << doublings;
    return (seconds > QUEUE_BACKOFF_MAX_S ? QUEUE_BACKOFF_MAX_S : seconds) * NS_PER_S;
}

void queue_destination_failure(struct queue_destination *destination, int64_t started_ns,
                               int64_t now_ns, const struct error *error,
                               struct queue_destination_news *out)
{
    *out = (struct queue_destination_news){0};
    pthread_mutex_lock(&destination->mutex);
    destination->last_error = *error;
    if (started_ns >= destination->last_failure_ns || destination->failures == 0) {
        destination->last_failure_ns = now_ns;
        destination->failures++;
        destination->window = destination->window > 1 ? destination->window / 2 : 1;
        destination->probing = false;
        atomic_store_explicit(&destination->steady, false, memory_order_relaxed);
        if (destination->failures >= QUEUE_BACKOFF_AFTER) {
            destination->backoff_until_ns = now_ns + backoff_ns(destination->failures);
            out->backed_off = true;
        }
        out->failures = destination->failures;
        out->backoff_until_ns = destination->backoff_until_ns;
        for (size_t i = 0; i < destination->all->worker_count; i++)
            if (destination->members[i].waits)
                tell(&destination->members[i]);
    }
    pthread_mutex_unlock(&destination->mutex);
}

void queue_destination_count(struct queue_destination *destination, size_t worker, int64_t now_ns)
{
    struct queue_member *member = &destination->members[worker];
    int64_t minute = now_ns / (60 * NS_PER_S);
    int64_t before = atomic_load_explicit(&member->minute, memory_order_relaxed);
    if (minute != before) {
        uint64_t last = minute == before + 1 ? atomic_load(&member->this_minute) : 0;
        atomic_store_explicit(&member->last_minute, last, memory_order_relaxed);
        atomic_store_explicit(&member->this_minute, 0, memory_order_relaxed);
        atomic_store_explicit(&member->minute, minute, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&member->this_minute, 1, memory_order_relaxed);
}

/* ---- for operators ---- */

/* This minute, and of the one before the share that is not yet 60 s ago. */
static uint64_t per_minute(struct queue_destination *destination, int64_t now_ns)
{
    int64_t minute = now_ns / (60 * NS_PER_S);
    uint64_t into_s = (uint64_t)(now_ns / NS_PER_S) % 60;
    uint64_t sum = 0, last = 0;
    for (size_t i = 0; i < destination->all->worker_count; i++) {
        struct queue_member *member = &destination->members[i];
        int64_t age = minute - atomic_load(&member->minute);
        if (age == 0) {
            sum += atomic_load(&member->this_minute);
            last += atomic_load(&member->last_minute);
        } else if (age == 1) {
            last += atomic_load(&member->this_minute);
        }
    }
    return sum + last * (60 - into_s) / 60;
}

static void numbers_of(struct queue_destination *destination, struct arena *arena, int64_t now_ns,
                       struct queue_destination_numbers *out)
{
    struct str key = arena_str(arena, destination->key);
    *out = (struct queue_destination_numbers){.last_error = STR_EMPTY};
    queue_destination_parts(key, &out->transport, &out->name);
    out->per_minute = per_minute(destination, now_ns);
    pthread_mutex_lock(&destination->mutex);
    out->connections = destination->leased;
    out->window = allowed_now(destination, destination->max);
    out->max = destination->max;
    out->failures = destination->failures;
    out->backoff_until_ns = destination->backoff_until_ns;
    out->probing = destination->probing;
    out->failed_ns = destination->last_failure_ns;
    if (destination->last_failure_ns != 0)
        out->last_error = arena_str(arena, str_c(destination->last_error.text));
    pthread_mutex_unlock(&destination->mutex);
}

struct queue_destination_numbers *queue_destinations_numbers(struct queue_destinations *all,
                                                             struct arena *arena, size_t *out_count)
{
    size_t cursor = 0;
    struct str key;
    void *value;
    int64_t now_ns = clock_monotonic_ns();
    *out_count = 0;
    pthread_mutex_lock(&all->mutex);
    struct queue_destination_numbers *numbers =
        arena_alloc_array(arena, all->table.count + 1, sizeof *numbers);
    while (map_next(&all->table, &cursor, &key, &value))
        numbers_of(value, arena, now_ns, &numbers[(*out_count)++]);
    pthread_mutex_unlock(&all->mutex);
    return numbers;
}
