/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/steer.c - destinations for operators: orders, numbers, a test of the way.
 */
#include "base/memory.h"
#include "event/event.h"
#include "queue/ask.h"
#include "queue/settle.h"

/* ---- orders ---- */

static void run_steer(struct queue_share *share) MAY_YIELD
{
    queue_site_steer_all(share->worker);
}

static void tell(const struct queue_steer *steer)
{
    static const enum event_type types[] = {[QUEUE_PAUSE] = EVENT_TRANSPORT_PAUSED,
                                            [QUEUE_RESUME] = EVENT_TRANSPORT_RESUMED,
                                            [QUEUE_SLOW] = EVENT_TRANSPORT_SLOWED};
    const struct event_field fields[] = {
        F_STR(TRANSPORT, steer->transport), F_STR(DESTINATION, steer->destination),
        F_STR(ACTOR, steer->actor),         F_STR(WHY, steer->reason),
        F_INT(COUNT, steer->slow.count),    F_INT(PERIOD, steer->slow.period_ns / NS_PER_S),
    };
    enum { ALL = sizeof fields / sizeof fields[0], OF_RATE = 2 };
    event_emit_fields(types[steer->verb], fields, steer->verb == QUEUE_SLOW ? ALL : ALL - OF_RATE);
}

enum result queue_steer(struct queue *queue, const struct queue_steer *steer, size_t *out_count,
                        struct error *err)
{
    struct queue_steering_order order = {.transport = steer->transport,
                                         .destination = steer->destination,
                                         .paused = steer->verb == QUEUE_PAUSE,
                                         .slow = steer->slow,
                                         .since_wall_ns = clock_steady_wall_ns(),
                                         .actor = steer->actor,
                                         .reason = steer->reason};
    enum result result;
    *out_count = 1;
    if (steer->verb == QUEUE_RESUME)
        result = queue_steering_clear(queue->steering, steer->transport, steer->destination,
                                      order.since_wall_ns, out_count, err);
    else
        result = queue_steering_put(queue->steering, &order, err);
    if (result == FAILED)
        return FAILED;
    tell(steer);
    struct queue_ask *ask = queue_ask_new(queue, sizeof *ask);
    result = queue_ask_all(ask, run_steer, err);
    queue_ask_unref(ask);
    return result;
}

struct queue_steering_order *queue_orders(struct queue *queue, struct arena *arena,
                                          size_t *out_count)
{
    return queue_steering_list(queue->steering, arena, out_count);
}

/* ---- numbers ---- */

static struct queue_place *place_of(struct queue_places *places, struct map *map,
                                    struct arena *arena, struct str transport, struct str name)
{
    struct str key =
        arena_lower(arena, arena_printf(arena, "%.*s %.*s", STR_ARG(transport), STR_ARG(name)));
    struct queue_place *place = map_get(map, key);
    if (place != NULL)
        return place;
    place = &places->items[places->count++];
    place->transport = arena_str(arena, transport);
    place->name = arena_lower(arena, name);
    place->last_error = STR_EMPTY;
    map_put(map, key, place);
    return place;
}

static bool is_asked(const struct queue_selector *selector, struct str transport, struct str name)
{
    return (selector->transport.len == 0 || str_equal(selector->transport, transport)) &&
           (selector->destination.len == 0 || str_equal_nocase(selector->destination, name));
}

static int64_t wall_of(int64_t monotonic_ns)
{
    return monotonic_ns == 0 ? 0 : clock_steady_wall_ns() + (monotonic_ns - clock_monotonic_ns());
}

static void fill_numbers(struct queue_place *place, const struct queue_destination_numbers *from)
{
    place->connections = from->connections;
    place->window = from->window;
    place->max = from->max;
    place->failures = from->failures;
    place->probing = from->probing;
    place->probe_wall_ns = wall_of(from->backoff_until_ns);
    place->failed_wall_ns = wall_of(from->failed_ns);
    place->last_error = from->last_error;
    place->per_minute = from->per_minute;
}

static void fill_group(struct queue_place *place, const struct queue_survey_group *group)
{
    place->entries = group->entries;
    place->bytes = group->bytes;
    place->oldest_wall_ns = group->oldest_wall_ns;
    for (size_t i = 0; i <= QUEUE_PAUSED; i++)
        place->states[i] = group->states[i];
}

enum result queue_places(struct queue *queue, const struct queue_selector *selector,
                         struct arena *arena, struct queue_places *out, struct error *err)
{
    struct queue_survey survey;
    size_t number_count, order_count;
    struct map map;
    if (queue_survey(queue, selector, QUEUE_BY_DESTINATION, arena, &survey, err) == FAILED)
        return FAILED;
    struct queue_destination_numbers *numbers =
        queue_destinations_numbers(queue->destinations, arena, &number_count);
    struct queue_steering_order *orders = queue_orders(queue, arena, &order_count);
    *out = (struct queue_places){
        .items = arena_alloc_array(arena, survey.count + number_count + order_count + 1,
                                   sizeof *out->items)};
    map_init(&map);
    for (size_t i = 0; i < survey.count; i++)
        fill_group(place_of(out, &map, arena, survey.groups[i].transport, survey.groups[i].name),
                   &survey.groups[i]);
    for (size_t i = 0; i < number_count; i++)
        if (is_asked(selector, numbers[i].transport, numbers[i].name))
            fill_numbers(place_of(out, &map, arena, numbers[i].transport, numbers[i].name),
                         &numbers[i]);
    for (size_t i = 0; i < order_count; i++)
        if (orders[i].destination.len > 0 &&
            is_asked(selector, orders[i].transport, orders[i].destination))
            (void)place_of(out, &map, arena, orders[i].transport, orders[i].destination);
    map_done(&map);
    for (size_t i = 0; i < out->count; i++) {
        struct queue_place *place = &out->items[i];
        struct queue_steering_view view =
            queue_steering_find(queue->steering, place->transport, place->name);
        place->paused = view.paused;
        place->slow = view.slow;
    }
    return OK;
}

/* ---- a test of the way ---- */

struct probe_request {
    struct queue_ask ask;
    struct str transport, domain;
    struct queue_probe probe; /* texts in the share's arena */
};

static void run_probe(struct queue_share *share) MAY_YIELD
{
    struct probe_request *request = CONTAINER(share->ask, struct probe_request, ask);
    const struct queue_handler *handler = &share->ask->queue->handler;
    if (share != &share->ask->shares[0])
        return;
    struct mail_recipient recipient = {
        .address = STR_EMPTY, .domain = request->domain, .orcpt = STR_EMPTY};
    struct queue_attempt attempt = {.worker = share->worker,
                                    .arena = share->arena,
                                    .meta = {.recipients = &recipient, .recipient_count = 1}};
    queue_record_init(&attempt.record, 1, share->arena);
    attempt.results = ARENA_NEW(share->arena, struct queue_result);
    attempt.snapshot = handler->take_snapshot(handler->context);
    attempt.transport = handler->transport(attempt.snapshot, request->transport);
    request->probe.known = attempt.transport != NULL;
    if (attempt.transport != NULL)
        queue_delivery_probe(&attempt, &request->probe);
    handler->release_snapshot(handler->context, attempt.snapshot);
}

static void copy_probe(struct arena *arena, const struct queue_probe *from, struct queue_probe *out)
{
    *out = *from;
    out->problem = arena_str(arena, from->problem);
    out->targets = arena_alloc_array(arena, from->count + 1, sizeof *out->targets);
    for (size_t i = 0; i < from->count; i++) {
        struct queue_probe_target *target = &out->targets[i];
        *target = from->targets[i];
        target->host = arena_str(arena, target->host);
        target->address = arena_str(arena, target->address);
        target->tls = arena_str(arena, target->tls);
        target->cipher = arena_str(arena, target->cipher);
        target->problem = arena_str(arena, target->problem);
    }
}

enum result queue_probe(struct queue *queue, struct str transport, struct str domain,
                        struct arena *arena, struct queue_probe *out, struct error *err)
{
    struct probe_request *request = queue_ask_new(queue, sizeof *request);
    request->transport = arena_str(request->ask.arena, transport);
    request->domain = arena_lower(request->ask.arena, domain);
    request->probe.problem = STR_EMPTY;
    enum result result = queue_ask_all(&request->ask, run_probe, err);
    if (result == OK)
        copy_probe(arena, &request->probe, out);
    queue_ask_unref(&request->ask);
    return result;
}
