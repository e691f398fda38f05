/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_status.c - GET /status: one object that answers "is mail flowing?". */
#include "admin/routes.h"

#include "admin/domain_watch.h"
#include "admin/http.h"
#include "admin/log.h"
#include "base/clock.h"
#include "gateway/operations.h"
#include "queue/queue.h"

#include <limits.h>

static json_t *totals_json(const struct queue_totals *totals)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "accepted", (json_int_t)totals->accepted,
        "generated", (json_int_t)totals->generated, "delivered", (json_int_t)totals->delivered,
        "failed_dsn", (json_int_t)totals->failed_dsn, "failed_silent",
        (json_int_t)totals->failed_silent, "quarantined", (json_int_t)totals->quarantined,
        "discarded", (json_int_t)totals->discarded, "dropped", (json_int_t)totals->dropped,
        "damaged", (json_int_t)totals->damaged);
}

static json_t *queue_json(const struct queue_totals *totals)
{
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "loading", totals->loading,
                     "unloaded", (json_int_t)totals->unloaded, "ready", (json_int_t)totals->ready,
                     "waiting", (json_int_t)totals->waiting, "inflight",
                     (json_int_t)totals->inflight, "held", (json_int_t)totals->held, "entries",
                     (json_int_t)totals->entries, "bytes", (json_int_t)totals->bytes,
                     "oldest_seconds", (double)totals->oldest_ns / (double)NS_PER_S);
}

static json_t *listeners_json(const struct gateway_status *status)
{
    json_t *list = json_array();
    for (size_t i = 0; i < status->listener_count; i++) {
        const struct gateway_listener_status *listener = &status->listeners[i];
        json_t *addresses = json_array();
        for (size_t k = 0; k < listener->address_count; k++)
            json_array_append_new(addresses, admin_json(listener->addresses[k]));
        json_array_append_new(list, json_pack("{s:o, s:o, s:I}", "name", admin_json(listener->name),
                                              "addresses", addresses, "sessions",
                                              (json_int_t)listener->sessions));
    }
    return list;
}

static const char *health(const struct gateway_status *status, bool loading)
{
    if (status->draining)
        return "draining: no new connections are taken";
    if (!status->has_room)
        return "no room: the spool's disk is full, clients are told to try later";
    if (status->delivery_paused)
        return "delivery is paused after repeated crashes; mail is accepted";
    return loading ? "ok; the queue is still being loaded from the spool, what is shown of it is "
                     "incomplete"
                   : "ok";
}

void admin_api_status(struct admin_request *request, struct admin_answer *answer)
{
    struct gateway_status status = {0};
    gateway_status(request->gateway, request->arena, &status);
    struct queue_totals totals = queue_totals(gateway_queue(request->gateway));
    struct domain_watch_numbers domains;
    domain_watch_numbers(request->domains, &domains);
    char started[TIME_RFC3339_SIZE];
    answer->json = json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:b, s:I, s:I, s:I, "
        "s:I, s:I}",
        "health", health(&status, totals.loading), "version", POSTERN_VERSION, "hostname",
        admin_json(status.hostname), "revision", admin_json(status.revision), "config",
        admin_json(status.config_path), "started",
        admin_json(clock_format_rfc3339(status.started_wall_ns, started)), "workers",
        (json_int_t)status.workers, "sessions", (json_int_t)status.sessions_now, "sessions_total",
        (json_int_t)status.sessions_total, "messages_accepted",
        (json_int_t)status.messages_accepted, "listeners", listeners_json(&status), "queue",
        queue_json(&totals), "totals", totals_json(&totals), "balanced",
        queue_balance(&totals) == 0, "protected_mailboxes", (json_int_t)status.protected_mailboxes,
        "incidents_open", (json_int_t)status.incidents_open, "domains_unhealthy",
        (json_int_t)domains.any, "events_dropped", (json_int_t)status.events_dropped, "log_lost",
        (json_int_t)admin_log_lost(request->log));
    admin_config_add(request, answer->json);
    if (status.certificate_days_left != INT_MAX)
        json_object_set_new(answer->json, "certificate_days_left",
                            json_integer(status.certificate_days_left));
}
