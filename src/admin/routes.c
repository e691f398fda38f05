/* SPDX-License-Identifier: Apache-2.0 */
/* admin/routes.c - every path of the API. */
#include "admin/routes.h"

#include "admin/http.h"

/* clang-format off */
const struct admin_route admin_routes[] = {
    {"GET",  "/api/v1/status",               admin_api_status,         "Health, listeners, queue and totals."},
    {"GET",  "/metrics",                    admin_api_metrics,        "Numbers for Prometheus."},
    {"GET",  "/api/v1/queue/messages",       admin_api_queue_list,     "Entries of the queue that fit the selectors."},
    {"GET",  "/api/v1/queue/messages/{id}",  admin_api_queue_show,     "The entries of one message."},
    {"POST", "/api/v1/queue/actions",        admin_api_queue_act,      "Retry, hold, release, fail or drop a selection."},
    {"GET",  "/api/v1/queue/causes",         admin_api_queue_causes,   "Deferred mail by what remote servers said."},
    {"GET",  "/api/v1/queue/causes/{id}",    admin_api_queue_cause,    "One cause and its oldest entries."},
    {"GET",  "/api/v1/queue/shape",          admin_api_queue_shape,    "Destination (or by=sender) against age."},
    {"GET",  "/api/v1/transports",           admin_api_transport_list, "Transports, their orders and numbers."},
    {"GET",  "/api/v1/transports/{id}",      admin_api_transport_show, "A transport with its destinations."},
    {"POST", "/api/v1/transports/{id}/actions", admin_api_transport_act, "Pause, slow or resume a transport or a destination of it."},
    {"POST", "/api/v1/transports/{id}/tests", admin_api_transport_test, "Speak to the hosts of a destination, without mail."},
    {"GET",  "/api/v1/reports/dmarc",        admin_api_reports_list,   "Aggregate reports of DMARC that will be sent."},
    {"POST", "/api/v1/reports/dmarc/send",   admin_api_reports_send,   "Send those that are due; with today, all."},
    {"POST", "/api/v1/messages",             admin_api_message_send,   "Put a message in as an own user."},
    {"GET",  "/api/v1/messages/{id}/raw",    admin_api_message_raw,    "The message as it would be sent."},
    {"GET",  "/api/v1/messages/{id}/events", admin_api_message_events, "The events of an id or a ref."},
    {"GET",  "/api/v1/messages/{id}/trace",  admin_api_message_trace,  "The same put in order: session, steps, recipients, attempts."},
    {"GET",  "/api/v1/events",               admin_api_events_find,    "Messages and refusals that fit a selector (q), newest first."},
    {"GET",  "/api/v1/events/stream",        admin_api_events_stream,  "Events as they happen (server-sent events) that fit a selector (q)."},
    {0},
};
/* clang-format on */
