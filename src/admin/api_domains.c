/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_domains.c - the listed domains, and what DNS said of them last. */
#include "admin/routes.h"

#include "admin/domain_watch.h"
#include "admin/http.h"
#include "admin/page.h"
#include "admin/queue_selector.h"
#include "base/clock.h"
#include "gateway/operations.h"

static json_t *name_json(const struct admin_request *request, unsigned part)
{
    return admin_json(arena_lower(request->arena, str_c(domain_part_names[part])));
}

static json_t *domain_json(const struct admin_request *request, const struct domain_watched *item)
{
    json_t *problems = json_array();
    json_t *object = json_pack("{s:o, s:o}", "domain", admin_json(item->domain), "looked",
                               admin_time_json(item->looked_wall_ns));
    for (unsigned i = 0; i < DOMAIN_WATCHED; i++) {
        struct str name = arena_lower(request->arena, str_c(domain_part_names[i]));
        json_object_set_new(object, arena_c(request->arena, name),
                            json_string(domain_health_names[item->parts[i].health]));
        if (item->parts[i].health == DOMAIN_UNHEALTHY)
            json_array_append_new(problems,
                                  json_pack("{s:o, s:o, s:o}", "check", name_json(request, i),
                                            "text", admin_json(item->parts[i].text), "record",
                                            admin_json(item->parts[i].record)));
    }
    json_object_set_new(object, "problems", problems);
    return object;
}

void admin_api_domain_list(struct admin_request *request, struct admin_answer *answer)
{
    struct domain_watched *items;
    struct admin_page page;
    size_t count, at;
    if (!admin_page_read(request, "domains", ADMIN_PAGE_MAX, NULL, &page, answer))
        return;
    json_t *list = json_array();
    struct settings *settings = gateway_settings_ref(request->gateway);
    int64_t every_ns = settings->domain_checks.every_ns;
    settings_unref(settings);
    domain_watch_list(request->domains, request->arena, &items, &count);
    struct admin_row *rows = arena_alloc_array(request->arena, count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct admin_row){items[i].domain, &items[i]};
    count = admin_page_rows(&page, rows, count, &at);
    for (size_t i = at; i < at + count; i++)
        json_array_append_new(list, domain_json(request, rows[i].item));
    answer->json = admin_page_json(&page, list);
    json_object_set_new(answer->json, "every_seconds",
                        json_integer((json_int_t)(every_ns / NS_PER_S)));
}
