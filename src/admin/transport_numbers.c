/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/transport_numbers.h"

#include "base/clock.h"
#include "base/memory.h"
#include "gateway/operations.h"
#include "queue/steering.h"

#include <pthread.h>
#include <stdlib.h>

enum { SHORT = 100000 /* entries */, SHARE = 100, TRANSPORTS_MAX = 10000 };

struct transport_watch {
    pthread_mutex_t mutex;
    struct arena *arena; /* of what follows; NULL: nobody looked yet */
    struct transport_numbers *items;
    size_t count;
    int64_t looked_ns, took_ns; /* monotonic: the end of the last walk, and how long it was */
};

struct transport_watch *transport_watch_new(void)
{
    struct transport_watch *watch = NEW(struct transport_watch);
    pthread_mutex_init(&watch->mutex, NULL);
    return watch;
}

void transport_watch_free(struct transport_watch *watch)
{
    if (!watch)
        return;
    if (watch->arena)
        arena_free(watch->arena);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

static bool is_due(const struct transport_watch *watch, struct queue *queue, int64_t now_ns)
{
    return !watch->arena || queue_totals(queue).entries <= SHORT ||
           now_ns - watch->looked_ns > SHARE * watch->took_ns;
}

/* FAILED: a worker does not answer; the numbers stay as they were. */
static enum result walk(struct transport_watch *watch, struct queue *queue)
{
    struct arena *arena = arena_new(0);
    struct queue_selector all = {.state = -1};
    struct queue_survey survey = {0};
    struct error err;
    int64_t begun_ns = clock_monotonic_ns();
    if (queue_survey(queue, &all, QUEUE_BY_TRANSPORT, arena, &survey, &err) != OK) {
        arena_free(arena);
        return FAILED;
    }
    if (watch->arena)
        arena_free(watch->arena);
    watch->arena = arena;
    watch->count = 0;
    watch->items = arena_alloc_array(arena, survey.count + 1, sizeof *watch->items);
    for (size_t i = 0; i < survey.count; i++) {
        const struct queue_survey_group *group = &survey.groups[i];
        struct transport_numbers *item = &watch->items[watch->count++];
        *item = (struct transport_numbers){.name = group->transport,
                                           .oldest_wall_ns = group->oldest_due_wall_ns,
                                           .limited = group->limited};
        for (size_t k = 0; k <= QUEUE_PAUSED; k++) {
            item->messages[k] = group->states[k];
            item->bytes[k] = group->state_bytes[k];
        }
    }
    watch->looked_ns = clock_monotonic_ns();
    watch->took_ns = watch->looked_ns - begun_ns;
    return OK;
}

static struct transport_numbers *find(struct transport_numbers *items, size_t count,
                                      struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_equal(items[i].name, name))
            return &items[i];
    return NULL;
}

/* What an operator said is asked each time: it costs nothing. */
static void note_orders(struct queue *queue, struct arena *arena, struct transport_numbers *items,
                        size_t count)
{
    size_t order_count;
    struct queue_steering_order *orders = queue_orders(queue, arena, &order_count);
    for (size_t i = 0; i < order_count; i++) {
        struct transport_numbers *item = find(items, count, orders[i].transport);
        if (item && orders[i].paused && orders[i].destination.len == 0)
            item->paused = true;
    }
}

struct transport_numbers *transport_watch_look(struct transport_watch *watch,
                                               struct gateway *gateway, struct arena *arena,
                                               size_t *out_count, double *out_seconds)
{
    struct queue *queue = gateway_queue(gateway);
    size_t configured, count = 0;
    struct gateway_transport *transports = gateway_transports(gateway, arena, &configured);
    pthread_mutex_lock(&watch->mutex);
    if (is_due(watch, queue, clock_monotonic_ns()))
        (void)walk(watch, queue);
    struct transport_numbers *items =
        arena_alloc_array(arena, configured + watch->count + 1, sizeof *items);
    for (size_t i = 0; i < configured; i++)
        items[count++] = (struct transport_numbers){.name = transports[i].name};
    for (size_t i = 0; i < watch->count && count < TRANSPORTS_MAX; i++) {
        struct transport_numbers *item = find(items, count, watch->items[i].name);
        if (!item)
            item = &items[count++];
        *item = watch->items[i];
        item->name = arena_str(arena, item->name);
    }
    *out_seconds =
        watch->arena ? (double)(clock_monotonic_ns() - watch->looked_ns) / (double)NS_PER_S : 0;
    pthread_mutex_unlock(&watch->mutex);
    note_orders(queue, arena, items, count);
    *out_count = count;
    return items;
}
