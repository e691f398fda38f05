/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emitting and draining. The reader is woken when it sleeps without anything to do, or when a
 * ring is a quarter full while it lets events gather; so a burst costs one wake-up.
 */
#include "event/event.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "event/ring.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OWN_FIELDS = 30, GATHER_MS = 20, QUARTER = RING_BYTES / 4 };
/* The last eighth of a ring is not for debug events, which are most of them. */
enum { KEPT_FROM_DEBUG = RING_BYTES / 8 };

const struct event_context *(*event_context_source)(void);

/* The process's one stream. */
static struct {
    pthread_once_t once;
    pthread_mutex_t lock; /* of the head of the list; its other links are the reader's */
    struct ring *rings;
    pthread_key_t thread_end;
    atomic_uint_least64_t dropped;
    uint64_t seq;          /* the reader's */
    uint64_t seen_dropped; /* of them, those that `seq` has passed over */
    struct event_decoder *decoder;
    enum { WAKE_NEVER, WAKE_QUARTER, WAKE_ANY } _Atomic wake;
    atomic_bool hurry;
    sem_t wakeups;
} stream = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct ring *own_ring;

/* ---- emitting ---- */

static void end_thread(void *arg)
{
    struct ring *ring = arg;
    own_ring = NULL;
    atomic_store_explicit(&ring->ended, true, memory_order_release);
}

static void init_stream(void)
{
    check(pthread_key_create(&stream.thread_end, end_thread) == 0);
    check(sem_init(&stream.wakeups, 0, 0) == 0);
}

/* The smallest number that no ring has, as readers keep tables by it. With the lock. */
static unsigned free_source(void)
{
    unsigned source = 0;
    for (const struct ring *ring = stream.rings; ring;) {
        bool taken = ring->source == source;
        source += taken;
        ring = taken ? stream.rings : ring->next;
    }
    return source;
}

static struct ring *ring_of_thread(void)
{
    if (own_ring)
        return own_ring;
    pthread_once(&stream.once, init_stream);
    struct ring *ring = NULL;
    check(posix_memalign((void **)&ring, _Alignof(struct ring), sizeof *ring) == 0);
    /* The bytes are left as they come: pages that no event reached cost nothing. */
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->ended, false);
    ring->known_tail = 0;
    memset(ring->images, 0, sizeof ring->images);
    check(pthread_setspecific(stream.thread_end, ring) == 0);
    pthread_mutex_lock(&stream.lock);
    ring->source = free_source();
    ring->next = stream.rings;
    stream.rings = ring;
    pthread_mutex_unlock(&stream.lock);
    own_ring = ring;
    return ring;
}

struct selection {
    const struct event_field *fields[EVENT_FIELDS];
    unsigned count;
    uint64_t seen[(EVENT_KEY_COUNT + 63) / 64]; /* a bit a key */
};

/* A key is given once: what is nearest to the event wins. */
static void select_fields(struct selection *selection, const struct event_field *fields,
                          size_t count, bool leave_out_empty)
{
    for (size_t i = 0; i < count && selection->count < EVENT_FIELDS; i++) {
        const struct event_field *field = &fields[i];
        uint64_t *seen = &selection->seen[field->key / 64];
        uint64_t bit = UINT64_C(1) << field->key % 64;
        if (*seen & bit ||
            (leave_out_empty && field->kind == EVENT_VALUE_STR && field->text.len == 0))
            continue;
        *seen |= bit;
        selection->fields[selection->count++] = field;
    }
}

static void wake_reader(const struct ring *ring)
{
    unsigned wake = atomic_load(&stream.wake);
    if (wake == WAKE_NEVER || (wake == WAKE_QUARTER && ring_used(ring) < QUARTER))
        return;
    if (atomic_exchange(&stream.wake, WAKE_NEVER) != WAKE_NEVER)
        sem_post(&stream.wakeups);
}

/* Own fields, and of the contexts that the fiber runs in. */
static void select_all(struct selection *selection, const struct event_field *fields, size_t count)
{
    check(count <= OWN_FIELDS);
    selection->count = 0; /* its fields are written before they are read */
    memset(selection->seen, 0, sizeof selection->seen);
    select_fields(selection, fields, count, false);
    const struct event_context *context = event_context_source ? event_context_source() : NULL;
    for (; context; context = context->outer)
        select_fields(selection, context->fields, context->count, true);
}

/* False: it was dropped. */
static bool put(struct ring *ring, enum event_type type, int64_t wall_ns,
                const struct selection *selection, uint32_t may_differ)
{
    size_t keep_free = event_severity(type) == EVENT_DEBUG ? KEPT_FROM_DEBUG : 0;
    if (ring_put(ring, type, wall_ns, selection->fields, selection->count, may_differ, keep_free))
        return true;
    atomic_fetch_add_explicit(&stream.dropped, 1, memory_order_relaxed);
    return false;
}

void event_emit_fields(enum event_type type, const struct event_field *fields, size_t count)
{
    struct selection selection;
    check(type < EVENT_TYPE_COUNT);
    select_all(&selection, fields, count);
    struct ring *ring = ring_of_thread();
    (void)put(ring, type, clock_wall_ns(), &selection, EVENT_ALL_CHANGED);
    wake_reader(ring);
}

void event_emit_each(enum event_type type, const struct event_field *fields, size_t count,
                     enum event_key key, const struct str *values, size_t value_count)
{
    struct selection selection;
    struct event_field value = {.key = key, .kind = EVENT_VALUE_STR};
    check(type < EVENT_TYPE_COUNT);
    select_all(&selection, fields, count);
    unsigned place = 0;
    while (place < selection.count && selection.fields[place]->key != key)
        place++;
    check(place < selection.count);
    selection.fields[place] = &value;
    struct ring *ring = ring_of_thread();
    int64_t wall_ns = clock_wall_ns();
    uint32_t may_differ = EVENT_ALL_CHANGED;
    for (size_t i = 0; i < value_count; i++) {
        value.text = values[i];
        bool is_last = put(ring, type, wall_ns, &selection, may_differ);
        may_differ = is_last ? UINT32_C(1) << place : EVENT_ALL_CHANGED;
    }
    wake_reader(ring);
}

uint64_t event_dropped(void)
{
    return atomic_load_explicit(&stream.dropped, memory_order_relaxed);
}

/* ---- the reader ---- */

static struct ring *first_ring(void)
{
    pthread_mutex_lock(&stream.lock);
    struct ring *ring = stream.rings;
    pthread_mutex_unlock(&stream.lock);
    return ring;
}

static void forget(struct ring *ring)
{
    pthread_mutex_lock(&stream.lock);
    struct ring **link = &stream.rings;
    while (*link != ring)
        link = &(*link)->next;
    *link = ring->next;
    pthread_mutex_unlock(&stream.lock);
    for (unsigned type = 0; type < EVENT_TYPE_COUNT; type++)
        free(ring->images[type]);
    free(ring);
}

static void forget_ended(void)
{
    for (struct ring *ring = first_ring(), *next; ring; ring = next) {
        next = ring->next;
        /* In this order: a thread that has ended writes no more. */
        if (atomic_load_explicit(&ring->ended, memory_order_acquire) && ring_used(ring) == 0)
            forget(ring);
    }
}

/* Of rings that have events before their limits: where the one whose next event is the oldest is
 * linked in. */
static struct ring **oldest(struct ring **rings)
{
    struct ring **found = rings;
    for (struct ring **link = &(*rings)->next_busy; *link; link = &(*link)->next_busy) {
        if ((*link)->next_wall_ns < (*found)->next_wall_ns)
            found = link;
    }
    return found;
}

/* Most threads have nothing to say. */
static struct ring *busy_rings(void)
{
    struct ring *busy = NULL;
    for (struct ring *ring = first_ring(); ring; ring = ring->next) {
        if (!ring_begin(ring))
            continue;
        ring->next_busy = busy;
        busy = ring;
    }
    return busy;
}

size_t event_drain(void (*take_event)(const struct event *event, void *arg), void *arg)
{
    size_t taken = 0;
    uint64_t dropped = event_dropped();
    if (!stream.decoder)
        stream.decoder = event_decoder_new();
    for (struct ring *busy = busy_rings(); busy; taken++) {
        struct ring **link = oldest(&busy);
        struct ring *ring = *link;
        take_event(event_decode(stream.decoder, ring->source, ring_get(ring), ++stream.seq), arg);
        if (!ring_release(ring))
            *link = ring->next_busy;
    }
    /* what was dropped until now came behind what filled the rings: it is missing here */
    stream.seq += dropped - stream.seen_dropped;
    stream.seen_dropped = dropped;
    forget_ended();
    return taken;
}

static size_t fullest(void)
{
    size_t most = 0;
    for (const struct ring *ring = first_ring(); ring; ring = ring->next) {
        if (ring_used(ring) > most)
            most = ring_used(ring);
    }
    return most;
}

/* Sleep until a ring holds `enough` bytes, at most `timeout_ms`. */
static void wait_until_used(size_t enough, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ms * NS_PER_MS;
    until.tv_sec += ns / NS_PER_S;
    until.tv_nsec = ns % NS_PER_S;
    /* First say what is wanted, then look: emitters write first, then look. */
    atomic_store(&stream.wake, enough < QUARTER ? WAKE_ANY : WAKE_QUARTER);
    while (fullest() < enough && !atomic_load(&stream.hurry)) {
        if (sem_clockwait(&stream.wakeups, CLOCK_MONOTONIC, &until) == 0)
            break;
        if (errno == ETIMEDOUT)
            break;
    }
    atomic_store(&stream.wake, WAKE_NEVER);
}

void event_wait(int timeout_ms)
{
    pthread_once(&stream.once, init_stream);
    /* A wake-up left over from the time before would only cost a round; drop it. */
    while (sem_trywait(&stream.wakeups) == 0)
        continue;
    if (fullest() == 0)
        wait_until_used(1, timeout_ms);
    if (fullest() > 0)
        wait_until_used(QUARTER, timeout_ms < GATHER_MS ? timeout_ms : GATHER_MS);
    atomic_store(&stream.hurry, false);
}

void event_hurry(void)
{
    pthread_once(&stream.once, init_stream);
    atomic_store(&stream.hurry, true);
    if (atomic_exchange(&stream.wake, WAKE_NEVER) != WAKE_NEVER)
        sem_post(&stream.wakeups);
}
