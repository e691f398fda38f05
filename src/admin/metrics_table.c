/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/metrics_table.c - what is counted, and from which events.
 *
 * A name has the prefix postern_ and its unit; the sum over all labels means something. No address,
 * user or recipient's domain is ever a label: for those there are `find` and the queue.
 */
#include "admin/metrics.h"

#include <stddef.h>

/* clang-format off */
static const double seconds[] = {0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600, 0};
static const double short_seconds[] = {0.0001, 0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 0};
static const double ages[] = {0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 43200, 172800, 0};
static const double sizes[] = {4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 0};

#define L(name_, key_)      {.name = (name_), .key = KEY_##key_}
#define NONE(name_, key_)   {.name = (name_), .key = KEY_##key_, .form = METRIC_OR_NONE}
#define FIXED(name_, text_) {.name = (name_), .fixed = (text_)}
#define LABELS(...)         {__VA_ARGS__}
#define COUNTER(name_, event_, labels_, text_) \
    {.name = (name_), .kind = METRIC_COUNTER, .event = EVENT_##event_, .labels = labels_, .text = (text_)}
#define SUM(name_, event_, labels_, key_, text_) \
    {.name = (name_), .kind = METRIC_COUNTER, .event = EVENT_##event_, .labels = labels_, .text = (text_), \
     .value = METRIC_FIELD, .key = KEY_##key_}
#define HISTOGRAM(name_, event_, labels_, value_, key_, bounds_, text_) \
    {.name = (name_), .kind = METRIC_HISTOGRAM, .event = EVENT_##event_, .labels = labels_, .text = (text_), \
     .value = (value_), .key = KEY_##key_, .bounds = (bounds_)}
#define STAGE(stage_, key_) \
    HISTOGRAM("postern_delivery_stage_seconds", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), FIXED("stage", stage_)), \
              METRIC_MICROSECONDS, key_, seconds, "Time of each stage of a delivery that succeeded, a recipient.")

const struct metric_row metric_rows[] = {
    COUNTER("postern_smtp_sessions_total", SESSION_OPEN, LABELS(L("listener", LISTENER)), "Connections taken."),
    HISTOGRAM("postern_smtp_session_seconds", SESSION_CLOSE, LABELS(L("listener", LISTENER)), METRIC_MICROSECONDS,
              DURATION_US, seconds, "How long connections lasted."),
    COUNTER("postern_smtp_tls_handshakes_total", SESSION_TLS,
            LABELS(L("listener", LISTENER), NONE("tls", TLS), FIXED("result", "ok")), "TLS handshakes of clients."),
    COUNTER("postern_smtp_tls_handshakes_total", SESSION_TLS_FAILED,
            LABELS(L("listener", LISTENER), NONE("tls", TLS), FIXED("result", "failed")), "TLS handshakes of clients."),
    COUNTER("postern_smtp_limits_total", SESSION_LIMIT, LABELS(L("listener", LISTENER), L("limit", LIMIT)),
            "Clients that reached a limit of the listener."),
    COUNTER("postern_smtp_protocol_errors_total", SESSION_PROTOCOL, LABELS(L("listener", LISTENER), NONE("reason", REASON)),
            "Clients that broke the protocol and were refused."),
    COUNTER("postern_auth_attempts_total", AUTH_OK,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "ok")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_auth_attempts_total", AUTH_FAIL,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "bad")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_auth_attempts_total", AUTH_ERROR,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "error")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_recipients_total", RECIPIENT_ACCEPT,
            LABELS(L("listener", LISTENER), FIXED("verdict", "accepted"), FIXED("reason", "")), "Recipients asked for."),
    COUNTER("postern_recipients_total", RECIPIENT_REJECT,
            LABELS(L("listener", LISTENER), FIXED("verdict", "rejected"), L("reason", REASON)), "Recipients asked for."),
    COUNTER("postern_recipients_total", RECIPIENT_DEFER,
            LABELS(L("listener", LISTENER), FIXED("verdict", "deferred"), L("reason", REASON)), "Recipients asked for."),
    COUNTER("postern_messages_total", MESSAGE_ACCEPTED,
            LABELS(L("listener", LISTENER), NONE("direction", DIRECTION), FIXED("verdict", "accepted"), FIXED("reason", "")), "Messages answered after their data."),
    COUNTER("postern_messages_total", MESSAGE_REJECTED,
            LABELS(L("listener", LISTENER), NONE("direction", DIRECTION), FIXED("verdict", "rejected"), L("reason", REASON)), "Messages answered after their data."),
    COUNTER("postern_messages_total", MESSAGE_DEFERRED,
            LABELS(L("listener", LISTENER), NONE("direction", DIRECTION), FIXED("verdict", "deferred"), NONE("reason", REASON)), "Messages answered after their data."),
    HISTOGRAM("postern_message_size_bytes", MESSAGE_ACCEPTED, LABELS(L("listener", LISTENER), NONE("direction", DIRECTION)), METRIC_FIELD, SIZE, sizes,
              "Sizes of accepted messages."),
    COUNTER("postern_messages_held_total", MESSAGE_HELD, LABELS(NONE("direction", DIRECTION), NONE("quarantine", QUARANTINE), NONE("reason", REASON)),
            "Messages held by a flow, in a quarantine or for a person to decide."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_RELEASED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "released")),
            "Messages that left a quarantine."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_DELETED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "deleted")),
            "Messages that left a quarantine."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_EXPIRED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "expired")),
            "Messages that left a quarantine."),
    COUNTER("postern_messages_discarded_total", MESSAGE_DISCARDED, LABELS(NONE("direction", DIRECTION), NONE("flow", FLOW)), "Messages thrown away by a flow."),
    COUNTER("postern_flow_steps_total", FLOW_STEP,
            LABELS(L("type", FLOW_TYPE), L("flow", FLOW), L("step", STEP), L("outcome", OUTCOME), L("observed", OBSERVED)),
            "Steps of flows that ran, by outcome."),
    HISTOGRAM("postern_flow_step_duration_seconds", FLOW_STEP, LABELS(L("type", FLOW_TYPE), L("flow", FLOW), L("step", STEP)),
              METRIC_MICROSECONDS, DURATION_US, short_seconds, "How long steps took."),
    COUNTER("postern_limits_reached_total", LIMIT_REACHED, LABELS(L("flow", FLOW), L("step", STEP)), "Limit blocks that said no."),
    COUNTER("postern_limits_near_total", LIMIT_NEAR, LABELS(L("flow", FLOW), L("step", STEP), L("limit", LIMIT)),
            "Times that a limit block's warn_at was passed."),
    COUNTER("postern_incidents_total", INCIDENT_OPENED, LABELS(NONE("flow", FLOW), NONE("limit", LIMIT)), "Accounts that were contained."),
    COUNTER("postern_incidents_closed_total", INCIDENT_CLOSED, LABELS(L("held", ACTION)), "Incidents that were closed, by what became of the mail."),
    COUNTER("postern_delivery_attempts_total", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), NONE("provider", PROVIDER), FIXED("result", "sent")),
            "Attempts, a recipient; provider: who runs the MX host, none for a server of the configuration."),
    COUNTER("postern_delivery_attempts_total", DELIVERY_DEFERRED, LABELS(L("transport", TRANSPORT), NONE("provider", PROVIDER), FIXED("result", "deferred")),
            "Attempts, a recipient; provider: who runs the MX host, none for a server of the configuration."),
    COUNTER("postern_delivery_attempts_total", DELIVERY_FAILED, LABELS(L("transport", TRANSPORT), NONE("provider", PROVIDER), FIXED("result", "failed")),
            "Attempts, a recipient; provider: who runs the MX host, none for a server of the configuration."),
    COUNTER("postern_delivery_attempts_total", DELIVERY_EXPIRED, LABELS(L("transport", TRANSPORT), NONE("provider", PROVIDER), FIXED("result", "expired")),
            "Attempts, a recipient; provider: who runs the MX host, none for a server of the configuration."),
    SUM("postern_delivery_sent_bytes_total", DELIVERY_SENT, LABELS(L("transport", TRANSPORT)), SIZE,
        "Bytes of messages sent, a recipient."),
    HISTOGRAM("postern_delivery_latency_seconds", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), NONE("direction", DIRECTION)), METRIC_MESSAGE_AGE, MESSAGE, ages,
              "From the client's MAIL to the next server's yes, a recipient."),
    STAGE("queue", QUEUE_US),
    STAGE("limit", LIMIT_US),
    STAGE("dns", DNS_US),
    STAGE("connect", CONNECT_US),
    STAGE("tls", TLS_US),
    STAGE("greeting", GREETING_US),
    STAGE("transfer", TRANSFER_US),
    COUNTER("postern_delivery_tls_total", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), NONE("policy", POLICY), NONE("tls", TLS)),
            "TLS of deliveries that succeeded, a recipient; policy: what the configuration demands of it."),
    COUNTER("postern_destination_backoffs_total", DESTINATION_BACKOFF, LABELS({0}), "Destinations that failed repeatedly."),
    COUNTER("postern_dsn_total", DSN_SENT, LABELS(L("kind", KIND)), "Delivery status notifications queued."),
    COUNTER("postern_dsn_undeliverable_total", DSN_FAILED, LABELS({0}), "Notifications that could not be delivered."),
    {.name = "postern_backend_up", .kind = METRIC_GAUGE, .event = EVENT_BACKEND_UP, .labels = LABELS(L("backend", BACKEND)),
     .text = "Does a backend answer? Only those that failed once are here."},
    {.name = "postern_backend_up", .kind = METRIC_GAUGE, .event = EVENT_BACKEND_DOWN, .labels = LABELS(L("backend", BACKEND)),
     .text = "Does a backend answer? Only those that failed once are here.", .value = METRIC_ZERO},
    HISTOGRAM("postern_backend_duration_seconds", BACKEND_ANSWER, LABELS(L("backend", BACKEND), L("result", OUTCOME)),
              METRIC_MICROSECONDS, DURATION_US, short_seconds, "How long questions to backends took; what was in a cache is not asked."),
    COUNTER("postern_config_applies_total", CONFIG_APPLIED, LABELS(FIXED("result", "applied")), "Configurations read."),
    COUNTER("postern_config_applies_total", CONFIG_REFUSED, LABELS(FIXED("result", "refused")), "Configurations read."),
    COUNTER("postern_admin_actions_total", ADMIN_ACTION, LABELS(NONE("verb", VERB)), "What administrators did."),
    COUNTER("postern_queue_actions_total", QUEUE_ACTION, LABELS(NONE("verb", VERB)), "What operators did to the queue."),
    COUNTER("postern_spool_errors_total", SPOOL_ERROR, LABELS({0}), "Times that the spool could not write."),
    COUNTER("postern_spool_damaged_total", SPOOL_DAMAGED, LABELS({0}), "Damaged records that were set aside."),
    COUNTER("postern_balance_differences_total", BALANCE_DIFFERENCE, LABELS({0}), "Differences between the books of queue and spool."),
    {0},
};
/* clang-format on */
