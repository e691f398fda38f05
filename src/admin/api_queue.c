/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_queue.c - the queue: list, show, act on a selection. */
#include "admin/routes.h"

#include "admin/page.h"
#include "admin/queue_selector.h"
#include "admin/selections.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/queue.h"

enum { SAMPLE = 5, CAUSE_ENTRIES = 10 };

static const char *const verb_names[] = {
    [QUEUE_RETRY] = "retry", [QUEUE_HOLD] = "hold", [QUEUE_RELEASE] = "release",
    [QUEUE_FAIL] = "fail",   [QUEUE_DROP] = "drop",
};

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
        admin_state_name(item->state), "from", admin_json(item->sender), "to",
        recipients_json(item), "transport", admin_json(item->transport), "destination",
        admin_json(item->destination), "reason", admin_json(item->hold_reason), "error",
        admin_json(item->last_error), "size", (json_int_t)item->size, "attempt",
        (json_int_t)item->attempts, "accepted", admin_time_json(item->accepted_wall_ns), "last_try",
        admin_time_json(item->last_try_wall_ns), "next_try",
        admin_time_json(item->next_try_wall_ns), "give_up", admin_time_json(item->give_up_wall_ns));
}

/* Asked before the queue is: what is shown may lack what was loaded only then. */
static bool is_loading(const struct admin_request *request)
{
    return queue_totals(gateway_queue(request->gateway)).loading;
}

static void say_loading(struct admin_answer *answer, bool loading)
{
    if (loading)
        json_object_set_new(answer->json, "loading", json_true());
}

static json_t *items_json(const struct queue_list *list)
{
    json_t *items = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(items, item_json(&list->items[i]));
    return items;
}

static void answer_list(struct admin_request *request, struct queue_selector *selector,
                        struct admin_answer *answer)
{
    struct queue_list list = {0};
    struct admin_page page;
    struct error err;
    bool loading = is_loading(request);
    if (!admin_page_read(request, "queue", ADMIN_PAGE_MAX, NULL, &page, answer) ||
        !admin_page_after_id(&page, &selector->after, answer))
        return;
    selector->limit = page.limit;
    selector->uncounted = !page.counts;
    if (queue_list(gateway_queue(request->gateway), selector, request->arena, &list, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    if (list.count)
        admin_page_ids(&page, request->arena, list.items[list.count - 1].entry, list.more);
    page.total = list.total;
    answer->json = admin_page_json(&page, items_json(&list));
    say_loading(answer, loading);
}

void admin_api_queue_list(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct admin_queue_selector_source source = {.request = request};
    if (admin_read_queue_selector(&source, &selector, answer))
        answer_list(request, &selector, answer);
}

void admin_api_queue_show(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {.id = request->parameter, .state = -1};
    if (!admin_id_is_clear(request, &selector, answer))
        return;
    answer_list(request, &selector, answer);
    if (answer->status == 200 && !json_array_size(json_object_get(answer->json, "items")) &&
        !admin_query(request, "cursor").len)
        admin_problem(answer, 404, "Not found", "nothing in the queue has the id %.*s",
                      STR_ARG(request->parameter));
}

/* A few of what a dry run would have acted on. */
static void add_sample(struct admin_request *request, struct queue_selector selector, json_t *out)
{
    struct queue_list list;
    struct error err;
    selector.limit = SAMPLE;
    selector.uncounted = true;
    if (queue_list(gateway_queue(request->gateway), &selector, request->arena, &list, &err) == OK)
        json_object_set_new(out, "sample", items_json(&list));
}

static void act(struct admin_request *request, const struct queue_selector *selector,
                const struct queue_action *action, struct admin_answer *answer)
{
    struct queue_action_result result;
    struct error err;
    bool loading = is_loading(request);
    if (queue_act(gateway_queue(request->gateway), selector, action, &result, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (result.refused) {
        admin_problem(answer, 409, "Not what you expected",
                      "%zu are selected, not %zu; nothing was done", result.matched,
                      action->expected);
    } else {
        size_t selected = selector->ids ? selector->id_count : result.matched;
        answer->json =
            json_pack("{s:s, s:b, s:I, s:I, s:I}", "verb", verb_names[action->verb], "dry_run",
                      (int)action->dry_run, "matched", (json_int_t)selected, "count",
                      (json_int_t)result.done, "failed", (json_int_t)result.failed);
        if (!action->dry_run)
            json_object_set_new(answer->json, "skipped",
                                json_integer((json_int_t)(selected - result.done - result.failed)));
        say_loading(answer, loading && !selector->ids);
        if (action->dry_run)
            add_sample(request, *selector, answer->json);
    }
}

/* A selection that was kept: exactly these, of which some may be gone. */
static bool read_selection(struct admin_request *request, struct str name,
                           struct queue_selector *out, int64_t *out_expires_ns,
                           struct admin_answer *answer)
{
    struct mail_id id;
    struct mail_id *ids;
    *out = (struct queue_selector){.state = -1};
    if (mail_id_parse(name, &id) && selections_find(request->selections, id, request->arena, &ids,
                                                    &out->id_count, out_expires_ns)) {
        out->ids = ids;
        return true;
    }
    admin_problem(answer, 404, "Not found",
                  "there is no such selection any more: they are kept for %d minutes",
                  SELECTION_MINUTES);
    return false;
}

static bool read_selector(struct admin_request *request, struct queue_selector *out,
                          struct queue_action *action, struct admin_answer *answer)
{
    json_t *select = json_object_get(request->json, "select");
    json_t *selection = json_object_get(request->json, "selection");
    struct admin_queue_selector_source source = {.request = request, .object = select};
    int64_t expires_ns;
    if (!select == !selection) {
        admin_problem(answer, 400, "Bad request", "give either select or selection");
        return false;
    }
    if (select)
        return admin_read_queue_selector(&source, out, answer);
    if (!read_selection(request, str_c(json_string_value(selection)), out, &expires_ns, answer))
        return false;
    if (action->expects && action->expected != out->id_count) {
        admin_problem(answer, 409, "Not what you expected",
                      "%zu are selected, not %zu; nothing was done", out->id_count,
                      action->expected);
        return false;
    }
    action->expects = false; /* some may be gone, which the answer tells */
    return true;
}

/* {"verb": "retry", "select": {...}, "reason": "...", "dry_run": true, "expect": 12}; select may be
 * {} for all. Or, in its place, "selection": a name. */
void admin_api_queue_act(struct admin_request *request, struct admin_answer *answer)
{
    json_t *expect = json_object_get(request->json, "expect");
    struct str word = str_c(json_string_value(json_object_get(request->json, "verb")));
    int verb = admin_find_name(verb_names, sizeof verb_names / sizeof *verb_names, word);
    struct queue_selector selector;
    struct queue_action action = {
        .verb = (enum queue_verb)verb,
        .actor = request->actor,
        .reason = request->reason,
        .dry_run = request->dry_run,
        .expects = json_is_integer(expect),
        .expected = (size_t)json_integer_value(expect),
    };
    if (verb < 0) {
        admin_problem(answer, 400, "Bad request", "verb: retry, hold, release, fail or drop");
        admin_problem_pointer(answer, STR("#/verb"), "retry, hold, release, fail or drop");
    } else if (read_selector(request, &selector, &action, answer) &&
               admin_id_is_clear(request, &selector, answer)) {
        act(request, &selector, &action, answer);
    }
}

static void answer_selection(struct admin_request *request, struct mail_id name,
                             const struct queue_selector *selector, int64_t expires_ns,
                             struct admin_answer *answer)
{
    answer->json =
        json_pack("{s:s, s:I, s:o, s:[]}", "selection", mail_id_text(name).chars, "count",
                  (json_int_t)selector->id_count, "expires", admin_time_json(expires_ns), "sample");
    add_sample(request, *selector, answer->json);
}

/* {"select": {...}} */
void admin_api_queue_freeze(struct admin_request *request, struct admin_answer *answer)
{
    struct admin_queue_selector_source source = {
        .request = request, .object = json_object_get(request->json, "select")};
    struct queue_selector selector, frozen = {.state = -1};
    struct mail_id *ids;
    struct mail_id name;
    int64_t expires_ns;
    struct error err;
    bool loading = is_loading(request);
    if (!admin_read_queue_selector(&source, &selector, answer) ||
        !admin_id_is_clear(request, &selector, answer))
        return;
    if (queue_select(gateway_queue(request->gateway), &selector, request->arena, &ids,
                     &frozen.id_count, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    frozen.ids = ids;
    if (!selections_keep(request->selections, ids, frozen.id_count, &name, &expires_ns)) {
        admin_problem(answer, 409, "Too many", "at most %d are kept: say limit", SELECTION_IDS_MAX);
        return;
    }
    answer_selection(request, name, &frozen, expires_ns, answer);
    say_loading(answer, loading);
}

void admin_api_queue_selection(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct mail_id name;
    int64_t expires_ns;
    if (read_selection(request, request->parameter, &selector, &expires_ns, answer) &&
        mail_id_parse(request->parameter, &name))
        answer_selection(request, name, &selector, expires_ns, answer);
}

/* ---- in groups ---- */

static json_t *places_json(const struct queue_survey_group *group)
{
    json_t *list = json_array();
    for (size_t i = 0; i < group->place_count; i++)
        json_array_append_new(list, admin_json(group->places[i]));
    return list;
}

json_t *admin_survey_json(const struct queue_survey_group *group, enum queue_survey_by by)
{
    json_t *object = json_pack("{s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}",
                               by == QUEUE_BY_CAUSE    ? "cause"
                               : by == QUEUE_BY_SENDER ? "sender"
                                                       : "destination",
                               admin_json(group->name), "count", (json_int_t)group->entries,
                               "recipients", (json_int_t)group->recipients, "size",
                               (json_int_t)group->bytes, "states", admin_states_json(group->states),
                               "oldest", admin_time_json(group->oldest_wall_ns), "last_try",
                               admin_time_json(group->last_wall_ns), "next_try",
                               admin_time_json(group->next_wall_ns));
    if (by == QUEUE_BY_DESTINATION)
        json_object_set_new(object, "transport", admin_json(group->transport));
    if (by == QUEUE_BY_CAUSE) {
        json_object_set_new(object, "pattern", admin_json(group->pattern));
        json_object_set_new(object, "sample", admin_json(group->sample));
        json_object_set_new(object, "destinations", places_json(group));
        return object;
    }
    json_t *ages = json_array();
    for (size_t i = 0; i < QUEUE_AGES; i++)
        json_array_append_new(ages, json_integer((json_int_t)group->ages[i]));
    json_object_set_new(object, "ages", ages);
    return object;
}

/* The largest first, or in the order of their names: then a group that is there all the time is
 * shown once, whatever its number does. */
static const char *const survey_sorts[] = {"-count", "name", NULL};

static struct str survey_key(struct arena *arena, const struct admin_page *page,
                             const struct queue_survey_group *group)
{
    struct str name =
        arena_printf(arena, "%.*s\n%.*s", STR_ARG(group->name), STR_ARG(group->transport));
    if (page->sort == survey_sorts[1])
        return name;
    return arena_join(arena, admin_page_falling(arena, group->entries), name, STR_EMPTY);
}

static bool find_survey(struct admin_request *request, struct queue_selector *selector,
                        enum queue_survey_by by, struct queue_survey *out,
                        struct admin_answer *answer)
{
    struct error err;
    if (queue_survey(gateway_queue(request->gateway), selector, by, request->arena, out, &err) ==
        OK)
        return true;
    admin_problem(answer, 503, "Not now", "%s", err.text);
    return false;
}

static void answer_survey(struct admin_request *request, struct queue_selector *selector,
                          enum queue_survey_by by, struct admin_answer *answer)
{
    struct queue_survey survey;
    struct admin_page page;
    size_t at;
    const char *list = by == QUEUE_BY_CAUSE    ? "causes"
                       : by == QUEUE_BY_SENDER ? "senders"
                                               : "destinations";
    bool loading = is_loading(request);
    if (!admin_page_read(request, list, ADMIN_PAGE_MAX, survey_sorts, &page, answer) ||
        !find_survey(request, selector, by, &survey, answer))
        return;
    struct admin_row *rows = arena_alloc_array(request->arena, survey.count + 1, sizeof *rows);
    for (size_t i = 0; i < survey.count; i++)
        rows[i] = (struct admin_row){survey_key(request->arena, &page, &survey.groups[i]),
                                     &survey.groups[i]};
    size_t count = admin_page_rows(&page, rows, survey.count, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(items, admin_survey_json(rows[i].item, by));
    answer->json = admin_page_json(&page, items);
    json_object_set_new(answer->json, "count", json_integer((json_int_t)survey.entries));
    say_loading(answer, loading);
}

void admin_api_queue_causes(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct admin_queue_selector_source source = {.request = request};
    if (admin_read_queue_selector(&source, &selector, answer))
        answer_survey(request, &selector, QUEUE_BY_CAUSE, answer);
}

/* The cause and the oldest of its entries. */
void admin_api_queue_cause(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {.cause = request->parameter, .state = -1};
    const struct queue_survey_group *found = NULL;
    struct queue_survey survey;
    struct queue_list list = {0};
    struct error err;
    bool loading = is_loading(request);
    if (!find_survey(request, &selector, QUEUE_BY_CAUSE, &survey, answer))
        return;
    for (size_t i = 0; i < survey.count && !found; i++)
        if (str_equal_nocase(survey.groups[i].name, request->parameter))
            found = &survey.groups[i];
    if (!found) {
        admin_problem(answer, 404, "Not found", "nothing in the queue has the cause %.*s",
                      STR_ARG(request->parameter));
        return;
    }
    answer->json = admin_survey_json(found, QUEUE_BY_CAUSE);
    selector.limit = CAUSE_ENTRIES;
    selector.uncounted = true;
    if (queue_list(gateway_queue(request->gateway), &selector, request->arena, &list, &err) == OK)
        json_object_set_new(answer->json, "items", items_json(&list));
    say_loading(answer, loading);
}

void admin_api_queue_shape(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct admin_queue_selector_source source = {.request = request};
    bool senders = str_equal(admin_query(request, "by"), STR("sender"));
    if (!admin_read_queue_selector(&source, &selector, answer))
        return;
    answer_survey(request, &selector, senders ? QUEUE_BY_SENDER : QUEUE_BY_DESTINATION, answer);
    if (answer->status != 200)
        return;
    json_t *minutes = json_array(); /* where each column ends; the last one does not */
    for (json_int_t i = 0, top = 5; i < QUEUE_AGES - 1; i++, top *= 2)
        json_array_append_new(minutes, json_integer(top));
    json_object_set_new(answer->json, "age_minutes", minutes);
}
