/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_queue.c - the queue: list, show, act on a selection. */
#include "admin/routes.h"

#include "admin/http.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/queue.h"

static const char *const state_names[] = {
    [QUEUE_READY] = "ready", [QUEUE_WAITING] = "waiting", [QUEUE_INFLIGHT] = "inflight",
    [QUEUE_HELD] = "held",   [QUEUE_CONTENT] = "content",
};
static const char *const verb_names[] = {
    [QUEUE_RETRY] = "retry", [QUEUE_HOLD] = "hold", [QUEUE_RELEASE] = "release",
    [QUEUE_FAIL] = "fail",   [QUEUE_DROP] = "drop",
};

/* Index of `word`, or -1. */
static int find_name(const char *const *names, size_t count, struct str word)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(str_c(names[i]), word))
            return (int)i;
    }
    return -1;
}

static json_t *time_json(int64_t wall_ns)
{
    char text[TIME_RFC3339_SIZE];
    return wall_ns > 0 ? admin_json(clock_format_rfc3339(wall_ns, text)) : json_null();
}

static json_t *recipients_json(const struct queue_item *item)
{
    json_t *list = json_array();
    for (size_t i = 0; i < item->recipient_count; i++) {
        const struct queue_item_recipient *recipient = &item->recipients[i];
        json_array_append_new(
            list, json_pack("{s:o, s:b, s:o}", "to", admin_json(recipient->address), "done",
                            (int)recipient->done, "reply", admin_json(recipient->last_reply)));
    }
    return list;
}

static json_t *item_json(const struct queue_item *item)
{
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o}", "entry",
        mail_id_text(item->entry).chars, "message", mail_id_text(item->message).chars, "state",
        state_names[item->state], "from", admin_json(item->sender), "to", recipients_json(item),
        "transport", admin_json(item->transport), "destination", admin_json(item->destination),
        "reason", admin_json(item->hold_reason), "error", admin_json(item->last_error), "size",
        (json_int_t)item->size, "attempt", (json_int_t)item->attempts, "accepted",
        time_json(item->accepted_wall_ns), "last_try", time_json(item->last_try_wall_ns),
        "next_try", time_json(item->next_try_wall_ns), "give_up", time_json(item->give_up_wall_ns));
}

/* "90", "15m", "2h" as nanoseconds; false for anything else. */
static bool parse_age(struct str text, int64_t *out_ns)
{
    static const struct {
        char unit;
        int64_t ns;
    } units[] = {
        {'s', NS_PER_S}, {'m', 60 * NS_PER_S}, {'h', 3600 * NS_PER_S}, {'d', 86400 * NS_PER_S}};
    uint64_t number;
    int64_t unit = NS_PER_S;
    for (size_t i = 0; text.len && i < sizeof units / sizeof *units; i++) {
        if (text.ptr[text.len - 1] == units[i].unit) {
            unit = units[i].ns;
            text.len--;
            break;
        }
    }
    if (!str_to_uint(text, 100000, &number))
        return false;
    *out_ns = (int64_t)number * unit;
    return true;
}

/* Where selectors come from: the query of a GET, or the object "select" of a POST. */
struct selector_source {
    const struct admin_request *request;
    json_t *object;
};

static struct str selector_value(const struct selector_source *source, const char *name)
{
    if (!source->object)
        return admin_query(source->request, name);
    json_t *value = json_object_get(source->object, name);
    return str_of(json_string_value(value) ? json_string_value(value) : "",
                  json_string_length(value));
}

static bool read_selector(const struct selector_source *source, struct queue_selector *out,
                          struct admin_answer *answer)
{
    *out = (struct queue_selector){
        .id = selector_value(source, "id"),
        .to = selector_value(source, "to"),
        .from = selector_value(source, "from"),
        .transport = selector_value(source, "transport"),
        .destination = selector_value(source, "destination"),
        .state = -1,
    };
    struct str state = selector_value(source, "state");
    struct str older = selector_value(source, "older");
    struct str limit = selector_value(source, "limit");
    uint64_t number = 0;
    if (state.len && (out->state = find_name(state_names, 5, state)) < 0) {
        admin_problem(answer, 400, "Bad selector",
                      "state: ready, waiting, inflight, held or content, not \"%.*s\"",
                      STR_ARG(state));
        return false;
    }
    if (older.len && !parse_age(older, &out->older_ns)) {
        admin_problem(answer, 400, "Bad selector", "older: like 90s, 15m, 2h or 3d, not \"%.*s\"",
                      STR_ARG(older));
        return false;
    }
    if (limit.len && !str_to_uint(limit, 1000000, &number)) {
        admin_problem(answer, 400, "Bad selector", "limit: a number up to 1000000");
        return false;
    }
    out->limit = (size_t)number;
    return true;
}

static void answer_list(struct admin_request *request, const struct queue_selector *selector,
                        struct admin_answer *answer)
{
    struct queue_list list = {0};
    struct error err;
    if (queue_list(gateway_queue(request->gateway), selector, request->arena, &list, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    json_t *items = json_array();
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(items, item_json(&list.items[i]));
    answer->json = json_pack("{s:o, s:I}", "items", items, "total", (json_int_t)list.total);
}

void admin_api_queue_list(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct selector_source source = {.request = request};
    if (read_selector(&source, &selector, answer))
        answer_list(request, &selector, answer);
}

void admin_api_queue_show(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {.id = request->parameter, .state = -1};
    answer_list(request, &selector, answer);
    if (answer->status == 200 && json_integer_value(json_object_get(answer->json, "total")) == 0)
        admin_problem(answer, 404, "Not found", "nothing in the queue has the id %.*s",
                      STR_ARG(request->parameter));
}

/* {"verb": "retry", "select": {...}, "reason": "..."}; select may be {} for all. */
void admin_api_queue_act(struct admin_request *request, struct admin_answer *answer)
{
    json_error_t problem;
    json_t *root = json_loadb(request->body.ptr, request->body.len, 0, &problem);
    json_t *select = json_object_get(root, "select");
    struct selector_source source = {.request = request, .object = select};
    const char *reason = json_string_value(json_object_get(root, "reason"));
    int verb = find_name(verb_names, 5, str_c(json_string_value(json_object_get(root, "verb"))));
    struct queue_selector selector;
    if (!json_is_object(select) || verb < 0) {
        admin_problem(answer, 400, "Bad request",
                      "give verb (retry, hold, release, fail, drop) and select (an object)");
    } else if (read_selector(&source, &selector, answer)) {
        size_t count = 0;
        struct error err;
        if (queue_act(gateway_queue(request->gateway), &selector, (enum queue_verb)verb,
                      request->actor, str_c(reason), &count, &err) != OK)
            admin_problem(answer, 503, "Not now", "%s", err.text);
        else
            answer->json =
                json_pack("{s:s, s:I}", "verb", verb_names[verb], "count", (json_int_t)count);
    }
    json_decref(root);
}
