/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_reports.c - aggregate reports that wait, and sending them before their time. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/page.h"
#include "admin/reports.h"
#include "base/clock.h"

static bool has_reports(const struct admin_request *request, struct admin_answer *answer)
{
    if (!request->reports)
        admin_problem(answer, 404, "Not found",
                      "no reports are made: the configuration has no reports.dmarc");
    return request->reports != NULL;
}

static json_t *report_json(const struct reports_waiting *report)
{
    return json_pack("{s:o, s:o, s:I, s:I}", "day", admin_json(report->day), "domain",
                     admin_json(report->domain), "rows", (json_int_t)report->rows, "messages",
                     (json_int_t)report->messages);
}

void admin_api_reports_list(struct admin_request *request, struct admin_answer *answer)
{
    struct reports_waiting *items;
    struct admin_page page;
    size_t count, at;
    struct error err;
    if (!has_reports(request, answer) ||
        !admin_page_read(request, "reports", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    admin_log_settle(request->log);
    if (reports_list(request->reports, request->arena, &items, &count, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    struct admin_row *rows = arena_alloc_array(request->arena, count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct admin_row){
            arena_join(request->arena, items[i].day, STR(" "), items[i].domain), &items[i]};
    count = admin_page_rows(&page, rows, count, &at);
    json_t *list = json_array();
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(list, report_json(rows[i].item));
    answer->json = admin_page_json(&page, list);
}

static void try_sending(struct admin_request *request, bool today, struct admin_answer *answer)
{
    struct reports_waiting *items;
    size_t count, due = 0;
    struct error err;
    char now[TIME_RFC3339_SIZE];
    struct str date = str_slice(clock_format_rfc3339(clock_wall_ns(), now), 0, 10);
    if (reports_list(request->reports, request->arena, &items, &count, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    for (size_t i = 0; i < count; i++)
        due += today || str_compare(items[i].day, date) < 0;
    answer->json = json_pack("{s:I, s:b}", "sent", (json_int_t)due, "dry_run", 1);
}

/* {"today": true}: those of today too, although the day is not over. */
void admin_api_reports_send(struct admin_request *request, struct admin_answer *answer)
{
    size_t sent = 0;
    struct error err;
    if (!has_reports(request, answer))
        return;
    bool today = json_is_true(json_object_get(request->json, "today"));
    admin_log_settle(request->log);
    if (request->dry_run) {
        try_sending(request, today, answer);
        return;
    }
    if (reports_send(request->reports, today, &sent, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    answer->object = arena_printf(request->arena, "%zu reports", sent);
    answer->json = json_pack("{s:I}", "sent", (json_int_t)sent);
}
