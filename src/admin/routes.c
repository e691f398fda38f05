/* SPDX-License-Identifier: Apache-2.0 */
/* admin/routes.c - every path of the API: what it takes, what it gives and who may ask for it. */
#include "admin/routes.h"

#include "admin/http.h"

/* clang-format off */
#define QUEUE_SELECTORS \
    {"id",          "string",  "a message, or an entry of it"}, \
    {"to",          "string",  "a recipient, or @domain"}, \
    {"from",        "string",  "the sender, or @domain"}, \
    {"transport",   "string",  "a transport by name"}, \
    {"destination", "string",  "a destination by name"}, \
    {"cause",       "string",  "a cause by its id"}, \
    {"user",        "string",  "who was logged in when it came"}, \
    {"state",       "string",  "ready, waiting, inflight, held, content or paused"}, \
    {"older",       "string",  "at least so old: 90s, 15m, 2h, 3d"}
#define PAGES \
    {"limit",  "integer", "so many items at most; a page has 1000 at most, and next leads to more"}, \
    {"cursor", "string",  "the next of the page before: what comes behind it"}
#define COUNTED \
    PAGES, {"count", "string", "exact: tell the total, too"}
#define SORTED \
    COUNTED, {"sort", "string", "-count (default: the largest first) or name, by which nothing is missed while numbers change"}

static const struct admin_parameter queue_query[] = {QUEUE_SELECTORS, COUNTED, {0}};
static const struct admin_parameter cause_query[] = {QUEUE_SELECTORS, SORTED, {0}};
static const struct admin_parameter page_query[] = {COUNTED, {0}};
static const struct admin_parameter shape_query[] = {QUEUE_SELECTORS, SORTED, {"by", "string", "destination (default) or sender"}, {0}};
static const struct admin_parameter incident_query[] = {{"state", "string", "open (default) or all"}, COUNTED, {0}};
static const struct admin_parameter place_query[] = {{"destination", "string", "only this one"}, COUNTED, {0}};
static const struct admin_parameter find_query[] = {
    {"q", "string", "an expression, as of postern find: to:@example.org reason:relay_denied today"},
    {"limit", "integer", "so many stories at most (50); a page has 1000 at most"},
    {"cursor", "string", "the next of the page before: older stories; after a search that gave up, too"}, {0}};
static const struct admin_parameter stream_query[] = {
    {"q", "string", "an expression: all of it must fit an event"},
    {"last_event_id", "string", "go on behind this event, for who cannot set the field Last-Event-ID"}, {0}};

static const struct admin_parameter decisions_query[] = {
    PAGES, {"last", "integer", "the same as limit"},
    {"since", "integer", "from this time on, in milliseconds since 1970"}, {0}};

static const struct admin_parameter file_query[] = {{"file", "string", "the users file; may be left out where there is one"}, {0}};
static const struct admin_parameter quarantine_query[] = {
    {"quarantine", "string", "one of them by name; default: all"},
    {"id",         "string", "a message, or an entry of it"},
    {"to",         "string", "a recipient, or @domain"},
    {"from",       "string", "the sender, or @domain"},
    {"subject",    "string", "a part of the subject"},
    {"older",      "string", "at least so old: 90s, 15m, 2h, 3d"}, COUNTED, {0}};

static const struct admin_parameter delivery_query[] = {
    {"state",  "string",  "pending, delivered or failed; default: all"}, PAGES, {0}};

#define ADMIN   ADMIN_SCOPE_ADMIN
#define OPERATE ADMIN_SCOPE_OPERATE
#define READ    ADMIN_SCOPE_READ

const struct admin_route admin_routes[] = {
    {"GET",  "/api/v1/status",               admin_api_status,         "Health, listeners, queue and totals.",
     READ, NULL, NULL, NULL, "Status", 0, NULL},
    {"GET",  "/api/v1/domains",              admin_api_domain_list,    "The listed domains, and what DNS said of them last.",
     READ, NULL, page_query, NULL, "Domains", 0, NULL},
    {"GET",  "/metrics",                     admin_api_metrics,        "Numbers for Prometheus.",
     READ, NULL, NULL, NULL, "text/plain", 0, NULL},
    {"GET",  "/api/v1/openapi.json",         admin_api_openapi,        "This description.",
     READ, NULL, NULL, NULL, "Description", 0, NULL},
    {"GET",  "/api/v1/problems",             admin_api_problem_list,   "What can go wrong, and what it means.",
     READ, NULL, page_query, NULL, "Problems", 0, NULL},
    {"GET",  "/api/v1/problems/{id}",        admin_api_problem_show,   "What the type of a problem leads to.",
     READ, NULL, NULL, NULL, "ProblemKind", 0, NULL},
    {"GET",  "/api/v1/queue/messages",       admin_api_queue_list,     "Entries of the queue that fit the selectors.",
     READ, NULL, queue_query, NULL, "Entries", 0, NULL},
    {"GET",  "/api/v1/queue/messages/{id}",  admin_api_queue_show,     "The entries of one message.",
     READ, NULL, page_query, NULL, "Entries", 0, NULL},
    {"POST", "/api/v1/queue/selections",     admin_api_queue_freeze,   "Keep what is selected now, for an order that acts on exactly that.",
     OPERATE, NULL, NULL, "SelectionWish", "Selection", 0, NULL},
    {"GET",  "/api/v1/queue/selections/{id}", admin_api_queue_selection, "A selection that was kept: how many it has, and the first of them that are still there.",
     OPERATE, NULL, NULL, NULL, "Selection", 0, NULL},
    {"POST", "/api/v1/queue/actions",        admin_api_queue_act,      "Retry, hold, release, fail or drop a selection.",
     OPERATE, "queue", NULL, "QueueAction", "QueueActed", ADMIN_DRY, NULL},
    {"GET",  "/api/v1/queue/causes",         admin_api_queue_causes,   "Deferred mail by what remote servers said.",
     READ, NULL, cause_query, NULL, "Causes", 0, NULL},
    {"GET",  "/api/v1/queue/causes/{id}",    admin_api_queue_cause,    "One cause and its oldest entries.",
     READ, NULL, NULL, NULL, "Cause", 0, NULL},
    {"GET",  "/api/v1/queue/shape",          admin_api_queue_shape,    "Destination (or by=sender) against age.",
     READ, NULL, shape_query, NULL, "Shape", 0, NULL},
    {"GET",  "/api/v1/transports",           admin_api_transport_list, "Transports, their orders and numbers.",
     READ, NULL, page_query, NULL, "Transports", 0, NULL},
    {"GET",  "/api/v1/transports/{id}",      admin_api_transport_show, "A transport with its destinations.",
     READ, NULL, place_query, NULL, "Transport", 0, admin_transport_version},
    {"GET",  "/api/v1/transports/{id}/destinations", admin_api_transport_places, "The destinations of a transport that mail waits for, or that are known.",
     READ, NULL, place_query, NULL, "Places", 0, NULL},
    {"POST", "/api/v1/transports/{id}/actions", admin_api_transport_act, "Pause, slow or resume a transport or a destination of it.",
     OPERATE, "transport", NULL, "TransportAction", "TransportActed", ADMIN_DRY, admin_transport_version},
    {"POST", "/api/v1/transports/{id}/tests", admin_api_transport_test, "Speak to the hosts of a destination, without mail.",
     OPERATE, "transport test", NULL, "TransportTest", "TransportTested", 0, NULL},
    {"GET",  "/api/v1/incidents",            admin_api_incident_list,  "Accounts that are contained, newest first; state=all: closed ones, too.",
     READ, NULL, incident_query, NULL, "Incidents", 0, NULL},
    {"POST", "/api/v1/incidents",            admin_api_incident_open,  "Contain an account: hold its mail, refuse its logins.",
     OPERATE, "contain", NULL, "IncidentWish", "IncidentOpened", ADMIN_DRY, NULL},
    {"GET",  "/api/v1/incidents/{id}",       admin_api_incident_show,  "An incident with the numbers behind it, and the account's mail in the queue.",
     READ, NULL, NULL, NULL, "Incident", 0, NULL},
    {"POST", "/api/v1/incidents/{id}/closings", admin_api_incident_close, "Free the account; release or drop its held mail.",
     OPERATE, "incident close", NULL, "IncidentClosing", "IncidentClosed", ADMIN_DRY, NULL},
    {"GET",  "/api/v1/reports/dmarc",        admin_api_reports_list,   "Aggregate reports of DMARC that will be sent.",
     READ, NULL, page_query, NULL, "Reports", 0, NULL},
    {"POST", "/api/v1/reports/dmarc/send",   admin_api_reports_send,   "Send those that are due; with today, all.",
     OPERATE, "report send", NULL, "ReportWish", "ReportsSent", ADMIN_DRY, NULL},
    {"POST", "/api/v1/messages",             admin_api_message_send,   "Put a message in as an own user.",
     ADMIN, "send", NULL, "Mail", "MailTaken", ADMIN_LARGE, NULL},
    {"GET",  "/api/v1/messages/{id}/raw",    admin_api_message_raw,    "The message as it would be sent.",
     ADMIN, "message raw", NULL, NULL, "message/rfc822", 0, NULL},
    {"GET",  "/api/v1/messages/{id}/events", admin_api_message_events, "The events of an id or a ref.",
     READ, NULL, NULL, NULL, "Events", 0, NULL},
    {"GET",  "/api/v1/messages/{id}/trace",  admin_api_message_trace,  "The same put in order: session, steps, recipients, attempts.",
     READ, NULL, NULL, NULL, "Story", 0, NULL},
    {"POST", "/api/v1/explanations",         admin_api_explanation_make, "What would become of a message, by the configuration in force; none is sent.",
     READ, NULL, NULL, "Question", "Explanation", 0, NULL},
    {"GET",  "/api/v1/events",               admin_api_events_find,    "Messages and refusals that fit an expression (q), newest first.",
     READ, NULL, find_query, NULL, "Found", 0, NULL},
    {"GET",  "/api/v1/events/stream",        admin_api_events_stream,  "Events as they happen (server-sent events) that fit an expression (q).",
     READ, NULL, stream_query, NULL, "text/event-stream", 0, NULL},
    {"GET",  "/api/v1/quarantines",          admin_api_quarantine_names, "The quarantines: limits, and what lies in them.",
     READ, NULL, page_query, NULL, "Quarantines", 0, NULL},
    {"GET",  "/api/v1/quarantine/messages",  admin_api_quarantine_list, "Mail in quarantine that fits the selectors.",
     READ, NULL, quarantine_query, NULL, "Quarantined", 0, NULL},
    {"GET",  "/api/v1/quarantine/messages/{id}", admin_api_quarantine_show, "One message in quarantine.",
     READ, NULL, page_query, NULL, "Quarantined", 0, NULL},
    {"GET",  "/api/v1/quarantine/messages/{id}/raw", admin_api_quarantine_raw, "The message, decrypted.",
     ADMIN, "quarantine raw", NULL, NULL, "message/rfc822", 0, NULL},
    {"POST", "/api/v1/quarantine/actions",   admin_api_quarantine_act, "Release or delete a selection; with a recipient, for him alone.",
     OPERATE, "quarantine", NULL, "QuarantineAction", "QuarantineActed", ADMIN_DRY, NULL},
    {"POST", "/api/v1/quarantine/digests",   admin_api_quarantine_digest, "Send the digests of what is new now.",
     OPERATE, "quarantine digest", NULL, "DigestWish", "DigestsSent", 0, NULL},
    {"POST", "/api/v1/quarantine/keys",      admin_api_quarantine_key, "A new key for what comes from now on.",
     ADMIN, "quarantine key", NULL, NULL, "QuarantineKey", 0, NULL},
    {"GET",  "/api/v1/users",                admin_api_user_list,      "Users of the users files that logins are looked up in; never a hash.",
     READ, NULL, page_query, NULL, "Users", ADMIN_WHOLE, admin_users_version},
    {"POST", "/api/v1/users",                admin_api_user_create,    "A new user, in a users file under the spool's folder.",
     ADMIN, "user add", NULL, "UserWish", "UserChanged", ADMIN_DRY | ADMIN_SECRET, admin_users_version},
    {"POST", "/api/v1/users/{id}/passwords", admin_api_user_password,  "Another password, from now on.",
     ADMIN, "user passwd", NULL, "PasswordWish", "UserChanged", ADMIN_DRY | ADMIN_SECRET, admin_users_version},
    {"DELETE", "/api/v1/users/{id}",         admin_api_user_remove,    "Remove a user.",
     ADMIN, "user rm", file_query, NULL, "UserChanged", ADMIN_DRY, admin_users_version},
    {"GET",  "/api/v1/webhooks",             admin_api_webhook_list,   "Web services that are told of events, and how it goes.",
     READ, NULL, page_query, NULL, "Webhooks", 0, NULL},
    {"GET",  "/api/v1/webhooks/{id}",        admin_api_webhook_show,   "One of them by its name.",
     READ, NULL, NULL, NULL, "Webhook", 0, NULL},
    {"POST", "/api/v1/webhooks/{id}/actions", admin_api_webhook_act,   "Pause it, or resume it, also after it answered 410.",
     OPERATE, "webhook", NULL, "WebhookAction", "Webhook", 0, NULL},
    {"POST", "/api/v1/webhooks/{id}/tests",  admin_api_webhook_test,   "Send it a test now, and tell what it answered.",
     OPERATE, "webhook test", NULL, NULL, "WebhookDelivery", 0, NULL},
    {"GET",  "/api/v1/webhooks/{id}/deliveries", admin_api_webhook_deliveries, "Its deliveries, newest first: those that wait, and the last ones that are over.",
     READ, NULL, delivery_query, NULL, "WebhookDeliveries", 0, NULL},
    {"GET",  "/api/v1/webhook-deliveries/{id}", admin_api_webhook_delivery, "One delivery with its payload.",
     READ, NULL, NULL, NULL, "WebhookDelivery", 0, NULL},
    {"POST", "/api/v1/webhook-deliveries/{id}/retries", admin_api_webhook_retry, "Try it again now, whatever became of it.",
     OPERATE, "webhook retry", NULL, NULL, "WebhookDelivery", 0, NULL},
    {"GET",  "/api/v1/tokens",               admin_api_token_list,     "Tokens for the API over TCP, without their secrets.",
     ADMIN, NULL, page_query, NULL, "Tokens", 0, admin_tokens_version},
    {"POST", "/api/v1/tokens",               admin_api_token_create,   "Make a token; this answer is the only one that shows it.",
     ADMIN, "token create", NULL, "TokenWish", "TokenMade", ADMIN_DRY | ADMIN_SECRET, admin_tokens_version},
    {"DELETE", "/api/v1/tokens/{id}",        admin_api_token_revoke,   "Make a token worthless at once.",
     ADMIN, "token revoke", NULL, NULL, "TokenRevoked", ADMIN_DRY, admin_tokens_version},
    {"GET",  "/api/v1/config",               admin_api_config_show,    "The configuration in force: revision, file, what waits for its confirmation.",
     READ, NULL, NULL, NULL, "Config", 0, admin_config_version},
    {"GET",  "/api/v1/config/revisions",     admin_api_config_history, "Revisions that are kept, newest first.",
     READ, NULL, page_query, NULL, "Revisions", 0, NULL},
    {"GET",  "/api/v1/config/revisions/{id}", admin_api_config_revision, "A revision with its files.",
     READ, NULL, NULL, NULL, "Revision", 0, NULL},
    {"GET",  "/api/v1/config/decisions",     admin_api_config_decisions, "Recorded decisions with the values of then.",
     READ, NULL, decisions_query, NULL, "Decisions", 0, NULL},
    {"POST", "/api/v1/config/applications",  admin_api_config_apply,   "Check a configuration and put it into force, for all or a share of the sessions; with If-Match, only while that revision is in force.",
     ADMIN, "config apply", NULL, "ConfigApplication", "ConfigDone", ADMIN_DRY | ADMIN_LARGE, admin_config_version},
    {"POST", "/api/v1/config/confirmations", admin_api_config_confirm, "Keep what waits for its confirmation.",
     ADMIN, "config confirm", NULL, "ConfigConfirmation", "ConfigDone", 0, admin_config_version},
    {"POST", "/api/v1/config/rollbacks",     admin_api_config_rollback, "Go back to a revision.",
     ADMIN, "config rollback", NULL, "ConfigRollback", "ConfigDone", 0, admin_config_version},
    {0},
};
/* clang-format on */
