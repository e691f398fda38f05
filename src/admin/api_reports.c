/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_reports.c - aggregate reports that wait, and sending them before their time. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/reports.h"

static bool has_reports(const struct admin_request *request, struct admin_answer *answer)
{
    if (!request->reports)
        admin_problem(answer, 404, "Not found",
                      "no reports are made: the configuration has no reports.dmarc");
    return request->reports != NULL;
}

void admin_api_reports_list(struct admin_request *request, struct admin_answer *answer)
{
    struct reports_waiting *items;
    size_t count;
    struct error err;
    if (!has_reports(request, answer))
        return;
    admin_log_settle(request->log);
    if (reports_list(request->reports, request->arena, &items, &count, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:I, s:I}", "day", admin_json(items[i].day), "domain",
                            admin_json(items[i].domain), "rows", (json_int_t)items[i].rows,
                            "messages", (json_int_t)items[i].messages));
    answer->json = json_pack("{s:o}", "items", list);
}

/* {"today": true}: those of today too, although the day is not over. */
void admin_api_reports_send(struct admin_request *request, struct admin_answer *answer)
{
    size_t sent = 0;
    struct error err;
    if (!has_reports(request, answer))
        return;
    json_t *body = json_loadb(request->body.ptr, request->body.len, 0, NULL);
    bool today = json_is_true(json_object_get(body, "today"));
    json_decref(body);
    admin_log_settle(request->log);
    if (reports_send(request->reports, today, &sent, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    answer->object = arena_printf(request->arena, "%zu reports", sent);
    answer->json = json_pack("{s:I}", "sent", (json_int_t)sent);
}
