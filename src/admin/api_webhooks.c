/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_webhooks.c - webhooks: how each stands, its deliveries, a test, pause and retry. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/page.h"
#include "admin/queue_selector.h"
#include "base/clock.h"
#include "webhook/webhooks.h"

#include <string.h>

enum { SHOWN = 50, SHOWN_MOST = 500 };

static json_t *time_json(int64_t wall_ms)
{
    return wall_ms ? admin_time_json(wall_ms * NS_PER_MS) : json_null();
}

/* ---- webhooks ---- */

static const char *state_of(const struct webhook_status *status)
{
    return status->is_disabled  ? "disabled"
           : status->is_paused  ? "paused"
           : status->is_failing ? "failing"
                                : "active";
}

static json_t *webhook_json(const struct webhook_status *status)
{
    double age = status->oldest_ms
                     ? (double)(clock_steady_wall_ns() / NS_PER_MS - status->oldest_ms) / 1000
                     : 0;
    return json_pack(
        "{s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I}",
        "webhook", admin_json(status->name), "origin", admin_json(status->origin), "state",
        state_of(status), "since", time_json(status->since_ms), "by", admin_json(status->by),
        "error", admin_json(status->error), "next_try", time_json(status->next_ms),
        "last_delivered", time_json(status->delivered_ms), "pending", (json_int_t)status->pending,
        "pending_bytes", (json_int_t)status->pending_bytes, "oldest_seconds", age > 0 ? age : 0.0,
        "in_flight", (json_int_t)status->in_flight, "secrets", (json_int_t)status->secrets,
        "delivered", (json_int_t)status->delivered, "failed", (json_int_t)status->failed, "dropped",
        (json_int_t)status->dropped, "attempts_failed", (json_int_t)status->attempts_failed);
}

void admin_api_webhook_list(struct admin_request *request, struct admin_answer *answer)
{
    struct admin_page page;
    size_t count;
    if (!admin_page_read(request, "webhooks", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    struct webhook_status *items = webhooks_list(request->webhooks, request->arena, &count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, webhook_json(&items[i]));
    answer->json =
        admin_page_json(&page, admin_page_objects(&page, request->arena, list, "webhook"));
    json_decref(list);
}

static void no_such_webhook(const struct admin_request *request, struct admin_answer *answer)
{
    admin_problem(answer, 404, "Not found", "there is no webhook %.*s",
                  STR_ARG(request->parameter));
}

void admin_api_webhook_show(struct admin_request *request, struct admin_answer *answer)
{
    size_t count;
    struct webhook_status *items = webhooks_list(request->webhooks, request->arena, &count);
    for (size_t i = 0; i < count; i++) {
        if (!str_equal(items[i].name, request->parameter))
            continue;
        answer->json = webhook_json(&items[i]);
        return;
    }
    no_such_webhook(request, answer);
}

/* {"verb": "pause" or "resume"} */
void admin_api_webhook_act(struct admin_request *request, struct admin_answer *answer)
{
    struct error err;
    bool known = false;
    const char *verb = json_string_value(json_object_get(request->json, "verb"));
    bool pause = verb && strcmp(verb, "pause") == 0;
    if (!verb || (!pause && strcmp(verb, "resume") != 0)) {
        admin_problem(answer, 400, "Bad request", "verb: pause or resume");
    } else if (webhooks_pause(request->webhooks, request->parameter, pause, request->actor, &known,
                              &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (!known) {
        no_such_webhook(request, answer);
    } else {
        answer->object = arena_printf(request->arena, "%s %.*s", pause ? "pause" : "resume",
                                      STR_ARG(request->parameter));
        admin_api_webhook_show(request, answer);
    }
}

/* ---- deliveries ---- */

static const char *const states[] = {[WEBHOOK_STATE_WAITING] = "pending",
                                     [WEBHOOK_STATE_DELIVERED] = "delivered",
                                     [WEBHOOK_STATE_FAILED] = "failed"};
enum { STATES = sizeof states / sizeof *states };

static json_t *delivery_json(const struct webhook_delivery *delivery)
{
    bool waits = delivery->state == WEBHOOK_STATE_WAITING;
    return json_pack("{s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:o, s:o}", "id",
                     admin_json(delivery->id), "webhook", admin_json(delivery->webhook), "event",
                     admin_json(delivery->type), "state", states[delivery->state], "attempts",
                     (json_int_t)delivery->attempts, "created", time_json(delivery->created_ms),
                     "last_try", time_json(delivery->last_ms), "next_try",
                     time_json(waits ? delivery->next_ms : 0), "status",
                     delivery->status ? json_integer(delivery->status) : json_null(), "took_ms",
                     (json_int_t)delivery->took_ms, "error", admin_json(delivery->error), "answer",
                     admin_json(delivery->answer));
}

static json_t *whole_delivery_json(const struct webhook_delivery *delivery)
{
    json_t *json = delivery_json(delivery);
    json_object_set_new(json, "payload",
                        json_loadb(delivery->body.ptr, delivery->body.len, 0, NULL));
    return json;
}

/* A state of the query, -1: any; and a cursor, 0: none. False: the answer is a problem. */
static bool read_query(const struct admin_request *request, const struct admin_page *page,
                       int *out_state, uint64_t *out_before, struct admin_answer *answer)
{
    struct str state = admin_query(request, "state");
    *out_state = -1;
    *out_before = 0;
    for (int i = 0; i < STATES; i++)
        if (str_equal(state, str_c(states[i])))
            *out_state = i;
    if (state.len && *out_state < 0)
        admin_problem(answer, 400, "Bad request", "state: pending, delivered or failed");
    else if (page->after.len && !str_to_uint(page->after, INT64_MAX, out_before))
        admin_problem(answer, 400, "Bad request",
                      "cursor: it is none that this list gave; begin without one");
    else
        return true;
    return false;
}

void admin_api_webhook_deliveries(struct admin_request *request, struct admin_answer *answer)
{
    struct webhook_deliveries found = {0};
    struct admin_page page;
    struct error err;
    bool known = false;
    int state;
    uint64_t before;
    if (!admin_page_read(request, "webhook-deliveries", SHOWN, NULL, &page, answer) ||
        !read_query(request, &page, &state, &before, answer))
        return;
    if (webhooks_deliveries(request->webhooks, request->parameter, state, (int64_t)before,
                            page.limit < SHOWN_MOST ? page.limit : SHOWN_MOST, request->arena,
                            &known, &found, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    if (!known) {
        no_such_webhook(request, answer);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < found.count; i++)
        json_array_append_new(list, delivery_json(&found.items[i]));
    page.more = found.has_more;
    page.counts = false; /* nobody knows without looking at all */
    if (found.count)
        page.last =
            arena_printf(request->arena, "%lld", (long long)found.items[found.count - 1].row);
    answer->json = admin_page_json(&page, list);
}

void admin_api_webhook_delivery(struct admin_request *request, struct admin_answer *answer)
{
    struct webhook_delivery delivery;
    struct error err;
    bool found = false;
    if (webhooks_delivery(request->webhooks, request->parameter, request->arena, &delivery, &found,
                          &err) != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (!found)
        admin_problem(answer, 404, "Not found", "there is no delivery %.*s",
                      STR_ARG(request->parameter));
    else
        answer->json = whole_delivery_json(&delivery);
}

void admin_api_webhook_retry(struct admin_request *request, struct admin_answer *answer)
{
    struct error err;
    bool found = false;
    if (webhooks_retry(request->webhooks, request->parameter, &found, &err) != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (!found)
        admin_problem(answer, 404, "Not found", "there is no delivery %.*s",
                      STR_ARG(request->parameter));
    else
        admin_api_webhook_delivery(request, answer);
}

void admin_api_webhook_test(struct admin_request *request, struct admin_answer *answer)
{
    struct webhook_delivery delivery;
    struct error err;
    bool known = false;
    if (webhooks_test(request->webhooks, request->parameter, request->arena, &known, &delivery,
                      &err) != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (!known)
        no_such_webhook(request, answer);
    else
        answer->json = whole_delivery_json(&delivery);
}
