/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_incident.c - accounts that are contained: list, show, contain, close. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/page.h"
#include "admin/queue_selector.h"
#include "base/clock.h"
#include "gateway/contain.h"
#include "gateway/operations.h"
#include "queue/queue.h"

#include <stdio.h>

enum { DESTINATIONS_SHOWN = 10, REASON_MAX = 1000 };

static json_t *number_json(int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)number);
    return json_string(text);
}

static json_t *shares_json(const struct incident_share *shares, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:o, s:I}", "name", admin_json(shares[i].name),
                                              "count", (json_int_t)shares[i].count));
    return list;
}

static void add_text(json_t *object, const char *name, struct str text)
{
    if (text.len)
        json_object_set_new(object, name, admin_json(text));
}

static json_t *incident_json(const struct incident *incident)
{
    json_t *object = json_pack(
        "{s:o, s:o, s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:o, s:o}", "incident",
        number_json(incident->number), "user", admin_json(incident->user), "state",
        incident_state_name(incident->state), "opened", admin_time_json(incident->opened_wall_ns),
        "opened_by", admin_json(incident->opened_by), "reason", admin_json(incident->reason),
        "messages", (json_int_t)incident->messages, "recipients", (json_int_t)incident->recipients,
        "unknown_recipients", (json_int_t)incident->unknown, "domains",
        shares_json(incident->domains, incident->domain_count), "clients",
        shares_json(incident->clients, incident->client_count));
    add_text(object, "flow", incident->flow);
    add_text(object, "step", incident->step);
    if (incident->recent_since_wall_ns)
        json_object_set_new(object, "since", admin_time_json(incident->recent_since_wall_ns));
    if (incident->what.len) {
        add_text(object, "limit", incident->what);
        add_text(object, "by", incident->by);
        add_text(object, "subject", incident->subject);
        json_object_set_new(object, "count", json_integer((json_int_t)incident->count));
        json_object_set_new(object, "max", json_integer((json_int_t)incident->max));
        json_object_set_new(object, "period_seconds",
                            json_integer((json_int_t)(incident->period_ns / NS_PER_S)));
    }
    if (incident->closed_wall_ns) {
        json_object_set_new(object, "closed", admin_time_json(incident->closed_wall_ns));
        add_text(object, "closed_by", incident->closed_by);
        add_text(object, "closing_reason", incident->closing_reason);
    }
    return object;
}

void admin_api_incident_list(struct admin_request *request, struct admin_answer *answer)
{
    size_t all_count, count = 0, at;
    struct admin_page page;
    struct str state = admin_query(request, "state");
    bool all = str_equal(state, STR("all"));
    if (state.len && !all && !str_equal(state, STR("open"))) {
        admin_problem(answer, 400, "Bad request", "state: open or all");
        return;
    }
    if (!admin_page_read(request, "incidents", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    struct incident *incidents =
        incidents_list(gateway_incidents(request->gateway), request->arena, &all_count);
    struct admin_row *rows = arena_alloc_array(request->arena, all_count + 1, sizeof *rows);
    for (size_t i = 0; i < all_count; i++)
        if (all || incidents[i].state == INCIDENT_OPEN)
            rows[count++] = (struct admin_row){
                admin_page_falling(request->arena, (uint64_t)incidents[i].number), &incidents[i]};
    count = admin_page_rows(&page, rows, count, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(items, incident_json(rows[i].item));
    answer->json = admin_page_json(&page, items);
}

/* "7"; 0: it is no number of an incident. */
static int64_t read_number(const struct admin_request *request)
{
    uint64_t number;
    return str_to_uint(request->parameter, INT64_MAX, &number) ? (int64_t)number : 0;
}

static void say_unknown(const struct admin_request *request, struct admin_answer *answer)
{
    admin_problem(answer, 404, "Not found", "there is no incident %.*s",
                  STR_ARG(str_slice(request->parameter, 0, 100)));
}

/* What of the account's mail waits, and where it would go. */
static void add_queued(struct admin_request *request, const struct incident *incident, json_t *out)
{
    struct queue_selector selector = {.user = incident->user, .state = -1};
    struct queue_survey survey;
    struct error err;
    if (queue_survey(gateway_queue(request->gateway), &selector, QUEUE_BY_DESTINATION,
                     request->arena, &survey, &err) != OK)
        return;
    json_t *list = json_array();
    for (size_t i = 0; i < survey.count && i < DESTINATIONS_SHOWN; i++)
        json_array_append_new(list, admin_survey_json(&survey.groups[i], QUEUE_BY_DESTINATION));
    json_object_set_new(out, "queued", list);
    json_object_set_new(out, "queued_entries", json_integer((json_int_t)survey.entries));
}

void admin_api_incident_show(struct admin_request *request, struct admin_answer *answer)
{
    struct incident incident;
    if (!incidents_find(gateway_incidents(request->gateway), read_number(request), request->arena,
                        &incident)) {
        say_unknown(request, answer);
        return;
    }
    answer->json = incident_json(&incident);
    add_queued(request, &incident, answer->json);
}

/* A text of the request, cut to what is kept. */
static struct str text_of(const struct admin_request *request, json_t *root, const char *name)
{
    json_t *value = json_object_get(root, name);
    struct str text = json_is_string(value)
                          ? str_of(json_string_value(value), json_string_length(value))
                          : STR_EMPTY;
    return arena_str(request->arena, str_slice(text, 0, REASON_MAX));
}

static size_t count_entries(struct admin_request *request, struct str user)
{
    struct queue_selector selector = {.user = user, .state = -1};
    struct queue_survey survey;
    struct error err;
    return queue_survey(gateway_queue(request->gateway), &selector, QUEUE_BY_DESTINATION,
                        request->arena, &survey, &err) == OK
               ? survey.entries
               : 0;
}

static void try_containment(struct admin_request *request, struct str user,
                            struct admin_answer *answer)
{
    int64_t number = 0;
    bool is_new = !incidents_contains(gateway_incidents(request->gateway), user, &number);
    answer->json =
        json_pack("{s:o, s:o, s:b, s:I, s:b}", "incident",
                  is_new ? json_string("") : number_json(number), "user", admin_json(user), "new",
                  (int)is_new, "held", (json_int_t)count_entries(request, user), "dry_run", 1);
}

/* {"user": "anna", "reason": "..."} */
void admin_api_incident_open(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    struct gateway_containment wish = {
        .user = text_of(request, root, "user"), .actor = request->actor, .reason = request->reason};
    int64_t number;
    bool is_new;
    size_t held;
    struct error err;
    answer->object = wish.user;
    if (wish.user.len == 0 || wish.user.len > INCIDENT_USER_MAX) {
        admin_problem(answer, 400, "Bad request", "user: a name of 1 to %d bytes",
                      INCIDENT_USER_MAX);
        return;
    }
    if (request->dry_run) {
        try_containment(request, wish.user, answer);
        return;
    }
    if (gateway_contain(request->gateway, &wish, &number, &is_new, &held, &err) != OK) {
        bool never = err.kind == ERROR_PERMANENT;
        admin_problem(answer, never ? 400 : 503, never ? "Bad request" : "Not now", "%s", err.text);
        return;
    }
    answer->json = json_pack("{s:o, s:o, s:b, s:I}", "incident", number_json(number), "user",
                             admin_json(wish.user), "new", (int)is_new, "held", (json_int_t)held);
}

static void try_closing(struct admin_request *request, const struct incident_closing *closing,
                        struct admin_answer *answer)
{
    struct incident incident;
    if (!incidents_find(gateway_incidents(request->gateway), closing->number, request->arena,
                        &incident))
        say_unknown(request, answer);
    else if (incident.state != INCIDENT_OPEN)
        admin_problem(answer, 409, "Not open", "incident %.*s is closed already",
                      STR_ARG(request->parameter));
    else
        answer->json =
            json_pack("{s:o, s:s, s:I, s:b, s:b}", "incident", number_json(closing->number), "held",
                      closing->drop ? "drop" : "release", "count",
                      (json_int_t)count_entries(request, incident.user), "done", 0, "dry_run", 1);
}

/* {"held": "release", "reason": "..."} */
void admin_api_incident_close(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    struct str held = text_of(request, root, "held");
    bool drop = str_equal(held, STR("drop"));
    struct incident_closing closing = {.number = read_number(request),
                                       .drop = drop,
                                       .actor = request->actor,
                                       .reason = request->reason};
    struct gateway_incident_end end;
    struct error err;
    if (!drop && !str_equal(held, STR("release")))
        admin_problem(answer, 400, "Bad request", "held: release or drop");
    else if (request->dry_run)
        try_closing(request, &closing, answer);
    else if (gateway_close_incident(request->gateway, &closing, &end, &err) != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (end.was == INCIDENT_STATES)
        say_unknown(request, answer);
    else if (end.was != INCIDENT_OPEN)
        admin_problem(answer, 409, "Not open", "incident %.*s is closed already",
                      STR_ARG(request->parameter));
    else
        answer->json = json_pack("{s:o, s:s, s:I, s:b}", "incident", number_json(closing.number),
                                 "held", drop ? "drop" : "release", "count",
                                 (json_int_t)end.settled, "done", (int)end.done);
}
