/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_quarantine.c - mail in quarantine: list, show, read, release, delete; digests, keys. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/page.h"
#include "admin/quarantine.h"
#include "admin/queue_selector.h"
#include "base/buf.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/queue.h"
#include "spool/vault.h"

enum { RAW_MAX = 512 * 1024 * 1024, SAMPLE = 5 };

/* ---- what there is ---- */

static const struct queue_quarantine_numbers *numbers_of(const struct queue_quarantine_numbers *all,
                                                         size_t count, struct str name)
{
    static const struct queue_quarantine_numbers none;
    for (size_t i = 0; i < count; i++)
        if (str_equal(all[i].name, name))
            return &all[i];
    return &none;
}

static json_t *quarantine_json(const struct gateway_quarantine *one,
                               const struct queue_quarantine_numbers *numbers)
{
    return json_pack(
        "{s:o, s:b, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "quarantine", admin_json(one->name),
        "configured", 1, "count", (json_int_t)numbers->entries, "bytes", (json_int_t)numbers->bytes,
        "keep_seconds", (json_int_t)(one->keep_ns / NS_PER_S), "size", (json_int_t)one->size,
        "when_full", one->defers ? "defer" : "oldest", "release_by",
        one->by_recipient ? "recipient" : "admin", "digest", one->daily ? "daily" : "none");
}

/* Its mail stays until somebody decides: nothing says how long or how much. */
static json_t *former_json(const struct queue_quarantine_numbers *numbers)
{
    return json_pack("{s:o, s:b, s:I, s:I}", "quarantine", admin_json(numbers->name), "configured",
                     0, "count", (json_int_t)numbers->entries, "bytes", (json_int_t)numbers->bytes);
}

static bool is_configured(const struct gateway_quarantine *all, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++)
        if (str_equal(all[i].name, name))
            return true;
    return false;
}

void admin_api_quarantine_names(struct admin_request *request, struct admin_answer *answer)
{
    size_t count, number_count;
    char key[SPOOL_VAULT_ID_SIZE] = "";
    struct admin_page page;
    if (!admin_page_read(request, "quarantines", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    struct gateway_quarantine *all = gateway_quarantines(request->gateway, request->arena, &count);
    struct queue_quarantine_numbers *numbers =
        queue_quarantine_numbers(gateway_queue(request->gateway), request->arena, &number_count);
    struct admin_row *rows =
        arena_alloc_array(request->arena, count + number_count + 1, sizeof *rows);
    size_t row_count = 0, at;
    for (size_t i = 0; i < count; i++)
        rows[row_count++] = (struct admin_row){all[i].name, &all[i]};
    for (size_t i = 0; i < number_count; i++)
        if (numbers[i].entries && !is_configured(all, count, numbers[i].name))
            rows[row_count++] = (struct admin_row){numbers[i].name, NULL};
    row_count = admin_page_rows(&page, rows, row_count, &at);
    json_t *items = json_array();
    for (size_t i = at; i < at + row_count; i++) {
        const struct queue_quarantine_numbers *mail =
            numbers_of(numbers, number_count, rows[i].key);
        json_array_append_new(items, rows[i].item ? quarantine_json(rows[i].item, mail)
                                                  : former_json(mail));
    }
    uint64_t id = spool_vault_current(gateway_vault(request->gateway));
    if (id)
        spool_vault_id_text(id, key);
    answer->json = admin_page_json(&page, items);
    json_object_set_new(answer->json, "key", json_string(key));
}

static json_t *item_json(const struct queue_item *item)
{
    const struct queue_item_kept *kept = item->kept;
    json_t *to = json_array();
    for (size_t i = 0; i < item->recipient_count; i++)
        json_array_append_new(to, admin_json(item->recipients[i].address));
    json_t *object = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:b}",
        "entry", mail_id_text(item->entry).chars, "message", mail_id_text(item->message).chars,
        "quarantine", admin_json(kept->quarantine), "from", admin_json(item->sender), "to", to,
        "author", admin_json(kept->author), "subject", admin_json(kept->subject), "reason",
        admin_json(item->hold_reason), "detail", admin_json(kept->why), "findings",
        admin_json(kept->findings), "flow", admin_json(kept->flow), "step", admin_json(kept->step),
        "problem", admin_json(kept->problem), "size", (json_int_t)item->size, "accepted",
        admin_time_json(item->accepted_wall_ns), "since", admin_time_json(kept->held_since_wall_ns),
        "digested", (int)kept->digested);
    json_object_set_new(object, "score",
                        kept->scored ? json_real((double)kept->score / 1000) : json_null());
    return object;
}

static json_t *items_json(const struct queue_list *list)
{
    json_t *items = json_array();
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].kept)
            json_array_append_new(items, item_json(&list->items[i]));
    return items;
}

static void answer_list(struct admin_request *request, struct queue_selector *selector,
                        struct admin_answer *answer)
{
    struct queue_list list = {0};
    struct admin_page page;
    struct error err;
    bool loading = queue_totals(gateway_queue(request->gateway)).loading;
    if (!admin_page_read(request, "quarantined", ADMIN_PAGE_MAX, NULL, &page, answer) ||
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
    if (loading)
        json_object_set_new(answer->json, "loading", json_true());
}

/* Selectors of the queue, and never anything that is in no quarantine. */
static bool read_selector(const struct admin_queue_selector_source *source,
                          struct queue_selector *out, struct admin_answer *answer)
{
    if (!admin_read_queue_selector(source, out, answer))
        return false;
    if (!out->quarantine.len)
        out->quarantine = STR("*");
    return true;
}

void admin_api_quarantine_list(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector;
    struct admin_queue_selector_source source = {.request = request};
    if (read_selector(&source, &selector, answer))
        answer_list(request, &selector, answer);
}

static void tell_missing(const struct admin_request *request, struct admin_answer *answer)
{
    admin_problem(answer, 404, "Not found", "nothing in quarantine has the id %.*s",
                  STR_ARG(request->parameter));
}

void admin_api_quarantine_show(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {
        .id = request->parameter, .quarantine = STR("*"), .state = -1};
    if (!admin_id_is_clear(request, &selector, answer))
        return;
    answer_list(request, &selector, answer);
    if (answer->status == 200 && !json_array_size(json_object_get(answer->json, "items")))
        tell_missing(request, answer);
}

void admin_api_quarantine_raw(struct admin_request *request, struct admin_answer *answer)
{
    struct queue_selector selector = {
        .id = request->parameter, .quarantine = STR("*"), .state = -1, .limit = 1};
    struct queue_list found = {0};
    struct error err;
    struct buf raw BUF_CLEANUP;
    bool is_there = false;
    buf_init(&raw, RAW_MAX);
    struct queue *queue = gateway_queue(request->gateway);
    if (!admin_id_is_clear(request, &selector, answer))
        return;
    enum result result = queue_list(queue, &selector, request->arena, &found, &err);
    if (result == OK && found.count)
        result = queue_raw(queue, found.items[0].entry, &raw, &is_there, &err);
    if (result != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (!is_there) {
        tell_missing(request, answer);
    } else {
        answer->text = arena_str(request->arena, buf_str(&raw));
        answer->type = "message/rfc822";
    }
}

/* ---- what is done ---- */

static void act(struct admin_request *request, const struct queue_selector *selector,
                const struct queue_action *action, struct admin_answer *answer)
{
    struct queue_action_result result;
    struct error err;
    if (queue_act(gateway_queue(request->gateway), selector, action, &result, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    if (result.refused) {
        admin_problem(answer, 409, "Not what you expected",
                      "%zu are selected, not %zu; nothing was done", result.matched,
                      action->expected);
        return;
    }
    answer->json = json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "verb",
                             action->verb == QUEUE_RELEASE ? "release" : "delete", "dry_run",
                             (int)action->dry_run, "matched", (json_int_t)result.matched, "count",
                             (json_int_t)result.done, "unreadable", (json_int_t)result.unreadable,
                             "failed", (json_int_t)result.failed);
    answer->object = arena_printf(request->arena, "%s %zu of %zu",
                                  action->verb == QUEUE_RELEASE ? "release" : "delete", result.done,
                                  result.matched);
    struct queue_selector few = *selector;
    struct queue_list list;
    few.limit = SAMPLE;
    few.uncounted = true;
    if (action->dry_run &&
        queue_list(gateway_queue(request->gateway), &few, request->arena, &list, &err) == OK)
        json_object_set_new(answer->json, "sample", items_json(&list));
}

/* {"verb": "release", "select": {...}, "from": "start", "reason": "...", "dry_run": true,
 * "expect": 12}; with a recipient in select for him alone. */
void admin_api_quarantine_act(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    json_t *select = json_object_get(root, "select");
    json_t *expect = json_object_get(root, "expect");
    json_t *from = json_object_get(root, "from");
    struct admin_queue_selector_source source = {.request = request, .object = select};
    struct str verb = str_c(json_string_value(json_object_get(root, "verb")));
    struct queue_selector selector;
    bool release = str_equal(verb, STR("release"));
    bool from_start = str_equal(str_c(json_string_value(from)), STR("start"));
    struct queue_action action = {
        .verb = release ? QUEUE_RELEASE : QUEUE_DROP,
        .actor = request->actor,
        .reason = request->reason,
        .dry_run = request->dry_run,
        .only_to = true,
        .from_start = from_start,
        .expects = json_is_integer(expect),
        .expected = (size_t)json_integer_value(expect),
    };
    if (!json_is_object(select) || (!release && !str_equal(verb, STR("delete"))))
        admin_problem(answer, 400, "Bad request",
                      "give verb (release, delete) and select (an object)");
    else if (from && (!from_start || !release))
        admin_problem(answer, 400, "Bad request", "from: only \"start\", and to release");
    else if (read_selector(&source, &selector, answer) &&
             admin_id_is_clear(request, &selector, answer))
        act(request, &selector, &action, answer);
}

/* {"quarantine": "spam"}, or {} for all that have digests */
void admin_api_quarantine_digest(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    struct str name = str_c(json_string_value(json_object_get(root, "quarantine")));
    struct error err;
    bool found = false;
    size_t sent = 0;
    enum result result = quarantine_keeper_digest(request->quarantines, name, &found, &sent, &err);
    if (result != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    else if (!found)
        admin_problem(answer, 404, "Not found", "no quarantine %.*s%shas digests", STR_ARG(name),
                      name.len ? " " : "");
    else
        answer->json = json_pack("{s:I}", "sent", (json_int_t)sent);
    if (result == OK && found)
        answer->object = arena_printf(request->arena, "%.*s%s%zu digests", STR_ARG(name),
                                      name.len ? ", " : "", sent);
}

void admin_api_quarantine_key(struct admin_request *request, struct admin_answer *answer)
{
    char text[SPOOL_VAULT_ID_SIZE];
    uint64_t id;
    struct error err;
    if (spool_vault_add_key(gateway_vault(request->gateway), &id, &err) != OK) {
        admin_problem(answer, err.kind == ERROR_PERMANENT ? 409 : 503, "Not done", "%s", err.text);
        return;
    }
    spool_vault_id_text(id, text);
    answer->json = json_pack("{s:s}", "key", text);
    answer->object = arena_str(request->arena, str_c(text));
}
