/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_transports.c - transports and their destinations: numbers, orders, tests. */
#include "admin/routes.h"

#include "admin/page.h"
#include "admin/queue_selector.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/steering.h"

static const char *const verb_names[] = {
    [QUEUE_PAUSE] = "pause", [QUEUE_RESUME] = "resume", [QUEUE_SLOW] = "slow"};

/* "100/1m", or null. */
static json_t *rate_json(struct arena *arena, uint64_t count, int64_t period_ns)
{
    static const struct {
        int64_t ns;
        const char *unit;
    } units[] = {{86400 * NS_PER_S, "d"}, {3600 * NS_PER_S, "h"}, {60 * NS_PER_S, "m"}};
    if (count == 0)
        return json_null();
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (period_ns % units[i].ns == 0)
            return admin_json(arena_printf(arena, "%llu/%lld%s", (unsigned long long)count,
                                           (long long)(period_ns / units[i].ns), units[i].unit));
    return admin_json(arena_printf(arena, "%llu/%llds", (unsigned long long)count,
                                   (long long)(period_ns / NS_PER_S)));
}

/* ---- looking ---- */

static json_t *place_json(struct arena *arena, const struct queue_place *place)
{
    json_t *object = json_pack(
        "{s:o, s:o, s:b, s:o, s:I, s:I, s:o, s:o}", "transport", admin_json(place->transport),
        "destination", admin_json(place->name), "paused", (int)place->paused, "slow",
        rate_json(arena, place->slow.count, place->slow.period_ns), "count",
        (json_int_t)place->entries, "size", (json_int_t)place->bytes, "states",
        admin_states_json(place->states), "oldest", admin_time_json(place->oldest_wall_ns));
    json_t *numbers = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o}", "connections",
        (json_int_t)place->connections, "connections_allowed", (json_int_t)place->window,
        "connections_max", (json_int_t)place->max, "per_minute", (json_int_t)place->per_minute,
        "failures", (json_int_t)place->failures, "probing", (int)place->probing, "next_probe",
        admin_time_json(place->probe_wall_ns), "last_failure",
        admin_time_json(place->failed_wall_ns), "error", admin_json(place->last_error));
    json_object_update(object, numbers);
    json_decref(numbers);
    return object;
}

struct sums {
    uint64_t states[QUEUE_PAUSED + 1];
    uint64_t entries, connections, per_minute, destinations, backed_off;
};

static void sum_up(const struct queue_places *places, struct str transport, struct sums *out)
{
    *out = (struct sums){0};
    for (size_t i = 0; i < places->count; i++) {
        const struct queue_place *place = &places->items[i];
        if (!str_equal(place->transport, transport))
            continue;
        out->destinations++;
        out->entries += place->entries;
        out->connections += place->connections;
        out->per_minute += place->per_minute;
        out->backed_off += place->probe_wall_ns != 0;
        for (size_t k = 0; k <= QUEUE_PAUSED; k++)
            out->states[k] += place->states[k];
    }
}

/* The order that holds for the whole transport. */
static void add_orders(struct admin_request *request, struct str transport, json_t *object)
{
    size_t count;
    json_t *list = json_array();
    struct queue_steering_order *orders =
        queue_orders(gateway_queue(request->gateway), request->arena, &count);
    bool paused = false;
    json_t *slow = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct queue_steering_order *order = &orders[i];
        if (!str_equal(order->transport, transport))
            continue;
        json_t *rate = rate_json(request->arena, order->slow.count, order->slow.period_ns);
        json_array_append_new(
            list,
            json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "verb", order->paused ? "pause" : "slow",
                      "destination", admin_json(order->destination), "messages", json_incref(rate),
                      "since", admin_time_json(order->since_wall_ns), "actor",
                      admin_json(order->actor), "reason", admin_json(order->reason)));
        if (order->destination.len == 0 && order->paused)
            paused = true;
        if (order->destination.len == 0 && !order->paused)
            slow = json_incref(rate);
        json_decref(rate);
    }
    json_object_set_new(object, "paused", json_boolean(paused));
    json_object_set_new(object, "slow", slow ? slow : json_null());
    json_object_set_new(object, "orders", list);
}

static json_t *transport_json(struct admin_request *request,
                              const struct gateway_transport *transport,
                              const struct queue_places *places)
{
    struct sums sums;
    sum_up(places, transport->name, &sums);
    json_t *limits =
        json_pack("{s:I, s:o}", "connections", (json_int_t)transport->limit_connections, "messages",
                  rate_json(request->arena, transport->limit_count, transport->limit_period_ns));
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:I, s:I, s:I}", "transport",
                  admin_json(transport->name), "method", admin_json(transport->method), "server",
                  admin_json(transport->server), "direction", admin_json(transport->direction),
                  "limits", limits, "count", (json_int_t)sums.entries, "states",
                  admin_states_json(sums.states), "connections", (json_int_t)sums.connections,
                  "per_minute", (json_int_t)sums.per_minute, "destinations_known",
                  (json_int_t)sums.destinations, "backed_off", (json_int_t)sums.backed_off);
    add_orders(request, transport->name, object);
    return object;
}

static bool find_places(struct admin_request *request, struct queue_selector *selector,
                        struct queue_places *out, struct admin_answer *answer)
{
    struct error err;
    selector->state = -1;
    if (queue_places(gateway_queue(request->gateway), selector, request->arena, out, &err) == OK)
        return true;
    admin_problem(answer, 503, "Not now", "%s", err.text);
    return false;
}

void admin_api_transport_list(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {0};
    struct queue_places places;
    struct admin_page page;
    size_t count, at;
    if (!admin_page_read(request, "transports", ADMIN_PAGE_MAX, NULL, &page, answer) ||
        !find_places(request, &selector, &places, answer))
        return;
    struct gateway_transport *transports =
        gateway_transports(request->gateway, request->arena, &count);
    struct admin_row *rows = arena_alloc_array(request->arena, count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct admin_row){transports[i].name, &transports[i]};
    count = admin_page_rows(&page, rows, count, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(items, transport_json(request, rows[i].item, &places));
    answer->json = admin_page_json(&page, items);
}

/* NULL: there is none, and the answer says so. */
static const struct gateway_transport *find_transport(struct admin_request *request,
                                                      struct admin_answer *answer)
{
    size_t count;
    struct gateway_transport *transports =
        gateway_transports(request->gateway, request->arena, &count);
    for (size_t i = 0; i < count; i++)
        if (str_equal(transports[i].name, request->parameter))
            return &transports[i];
    admin_problem(answer, 404, "Not found", "there is no transport %.*s",
                  STR_ARG(request->parameter));
    return NULL;
}

/* One list, whether it stands in the transport or by itself. */
static bool read_places_page(struct admin_request *request, struct admin_page *out,
                             struct admin_answer *answer)
{
    return admin_page_read(request, "places", ADMIN_PAGE_MAX, NULL, out, answer);
}

static json_t *places_json(struct admin_request *request, const struct queue_places *places,
                           struct admin_page *page)
{
    struct admin_row *rows = arena_alloc_array(request->arena, places->count + 1, sizeof *rows);
    size_t at;
    for (size_t i = 0; i < places->count; i++)
        rows[i] = (struct admin_row){places->items[i].name, &places->items[i]};
    size_t count = admin_page_rows(page, rows, places->count, &at);
    json_t *list = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(list, place_json(request->arena, rows[i].item));
    return list;
}

void admin_api_transport_show(struct admin_request *request, struct admin_answer *answer)
{
    const struct gateway_transport *transport = find_transport(request, answer);
    struct queue_selector selector = {.transport = request->parameter,
                                      .destination = admin_query(request, "destination")};
    struct queue_places places;
    struct admin_page page;
    if (!transport || !read_places_page(request, &page, answer) ||
        !find_places(request, &selector, &places, answer))
        return;
    answer->json = transport_json(request, transport, &places);
    json_object_set_new(answer->json, "destinations", places_json(request, &places, &page));
    json_object_set_new(answer->json, "next", admin_page_next(&page));
}

void admin_api_transport_places(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {.transport = request->parameter,
                                      .destination = admin_query(request, "destination")};
    struct queue_places places;
    struct admin_page page;
    if (!find_transport(request, answer) || !read_places_page(request, &page, answer) ||
        !find_places(request, &selector, &places, answer))
        return;
    json_t *items = places_json(request, &places, &page);
    answer->json = admin_page_json(&page, items);
}

/* Of the orders that hold for it; its numbers move all the time. */
struct str admin_transport_version(struct admin_request *request)
{
    json_t *object = json_object();
    add_orders(request, request->parameter, object);
    struct str tag = admin_tag_of(request->arena, object);
    json_decref(object);
    return tag;
}

/* ---- steering ---- */

static struct str text_of(json_t *root, const char *name)
{
    json_t *value = json_object_get(root, name);
    return str_of(json_string_value(value) ? json_string_value(value) : "",
                  json_string_length(value));
}

/* That a resume would take back. */
static size_t count_orders(struct admin_request *request, struct str destination)
{
    size_t count, found = 0;
    struct queue_steering_order *orders =
        queue_orders(gateway_queue(request->gateway), request->arena, &count);
    for (size_t i = 0; i < count; i++)
        found += str_equal(orders[i].transport, request->parameter) &&
                 (!destination.len || str_equal_nocase(orders[i].destination, destination));
    return found;
}

static void steer(struct admin_request *request, json_t *root, struct admin_answer *answer)
{
    struct queue_steer order = {.transport = request->parameter,
                                .destination = text_of(root, "destination"),
                                .actor = request->actor,
                                .reason = request->reason};
    int verb = admin_find_name(verb_names, 3, text_of(root, "verb"));
    struct error err;
    size_t count;
    if (verb < 0) {
        admin_problem(answer, 400, "Bad request", "verb: pause, resume or slow");
        return;
    }
    order.verb = (enum queue_steer_verb)verb;
    if (verb == QUEUE_SLOW &&
        (!option_parse_rate(text_of(root, "messages"), &order.slow) || order.slow.count == 0)) {
        admin_problem(answer, 400, "Bad request", "messages: a count for a time, like 100/1m");
        return;
    }
    if (request->dry_run) {
        count = verb == QUEUE_RESUME ? count_orders(request, order.destination) : 1;
    } else if (queue_steer(gateway_queue(request->gateway), &order, &count, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    answer->json =
        json_pack("{s:s, s:o, s:o, s:I, s:b}", "verb", verb_names[verb], "transport",
                  admin_json(order.transport), "destination", admin_json(order.destination),
                  "count", (json_int_t)count, "dry_run", (int)request->dry_run);
}

/* {"verb": "slow", "destination": "example.net", "messages": "100/1m", "reason": "…"} */
void admin_api_transport_act(struct admin_request *request, struct admin_answer *answer)
{
    if (!find_transport(request, answer))
        return;
    json_t *root = request->json;
    steer(request, root, answer);
}

/* ---- testing ---- */

static json_t *target_json(const struct queue_probe_target *target)
{
    return json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:I, s:I, s:I}", "host",
                     admin_json(target->host), "address", admin_json(target->address), "ready",
                     (int)target->ready, "error", admin_json(target->problem), "tls",
                     admin_json(target->tls), "cipher", admin_json(target->cipher), "connect_us",
                     (json_int_t)target->connect_us, "greeting_us", (json_int_t)target->greeting_us,
                     "tls_us", (json_int_t)target->tls_us);
}

/* {"destination": "example.net"} */
void admin_api_transport_test(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_probe probe = {0};
    struct error err;
    const struct gateway_transport *transport = find_transport(request, answer);
    if (!transport)
        return;
    json_t *root = request->json;
    struct str domain = text_of(root, "destination");
    if (str_equal(transport->method, STR("lookup-mx")) && domain.len == 0) {
        admin_problem(answer, 400, "Bad request", "destination: a domain whose hosts to speak to");
    } else if (queue_probe(gateway_queue(request->gateway), request->parameter, domain,
                           request->arena, &probe, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else {
        json_t *items = json_array();
        bool ready = probe.count == 0 && probe.problem.len == 0;
        for (size_t i = 0; i < probe.count; i++) {
            ready |= probe.targets[i].ready;
            json_array_append_new(items, target_json(&probe.targets[i]));
        }
        answer->json = json_pack("{s:b, s:o, s:I, s:o}", "ready", (int)ready, "error",
                                 admin_json(probe.problem), "dns_us", (json_int_t)probe.dns_us,
                                 "items", items);
    }
}
