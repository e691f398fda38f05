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
/* A step may take microseconds, a delivery five days. */
static const double session_seconds[] = {0.01, 0.1, 0.5, 1, 5, 30, 120, 600, 3600, 0};
static const double stage_seconds[] = {0.0002, 0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 60, 300, 3600, 0};
static const double short_seconds[] = {0.00001, 0.0001, 0.001, 0.005, 0.025, 0.1, 0.5, 2, 10, 30, 0};
static const double ages[] = {0.025, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200, 43200, 172800, 432000, 0};
static const double sizes[] = {4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864, 0};

#define L(name_, key_)      {.name = (name_), .key = KEY_##key_}
#define NONE(name_, key_)   {.name = (name_), .key = KEY_##key_, .form = METRIC_OR_NONE}
#define FIXED(name_, text_) {.name = (name_), .fixed = (text_)}
#define TLS(name_, key_)    {.name = (name_), .key = KEY_##key_, .form = METRIC_TLS}
#define STAGE_OF(stage_)    {.name = "stage", .key = KEY_COMMAND, .form = METRIC_STAGE, .fixed = (stage_)}
#define CLASS_OF(key_)      {.name = "code", .key = KEY_##key_, .form = METRIC_CLASS}
#define LABELS(...)         {__VA_ARGS__}
#define COUNTER(name_, event_, labels_, text_) \
    {.name = (name_), .kind = METRIC_COUNTER, .event = EVENT_##event_, .labels = labels_, .text = (text_)}
#define SUM(name_, event_, labels_, key_, text_) \
    {.name = (name_), .kind = METRIC_COUNTER, .event = EVENT_##event_, .labels = labels_, .text = (text_), \
     .value = METRIC_FIELD, .key = KEY_##key_}
#define HISTOGRAM(name_, event_, labels_, value_, key_, bounds_, text_) \
    {.name = (name_), .kind = METRIC_HISTOGRAM, .event = EVENT_##event_, .labels = labels_, .text = (text_), \
     .value = (value_), .key = KEY_##key_, .bounds = (bounds_)}
/* A counter of what the event tells of: `value_` of `key_`. */
#define COUNTED(name_, event_, labels_, value_, key_, text_) \
    {.name = (name_), .kind = METRIC_COUNTER, .event = EVENT_##event_, .labels = labels_, .text = (text_), \
     .value = (value_), .key = KEY_##key_}
#define REJECTS(event_, stage_, code_, value_, key_) \
    COUNTED("postern_smtp_rejects_total", event_, LABELS(NONE("listener", LISTENER), stage_, NONE("reason", REASON), code_), \
            value_, key_, "What clients were refused, for good (5xx) or for now (4xx): connections, commands, recipients, messages.")
#define VERDICTS(event_, verdict_) \
    COUNTED("postern_verdicts_total", event_, LABELS(NONE("direction", DIRECTION), FIXED("verdict", verdict_)), METRIC_EACH, RECIPIENTS, \
            "What became of recipients; one who was held or quarantined and then delivered had two verdicts.")
#define STAGE(stage_, key_) \
    HISTOGRAM("postern_delivery_stage_seconds", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), FIXED("stage", stage_)), \
              METRIC_MICROSECONDS, key_, stage_seconds, "Time of each stage of a delivery that succeeded, a recipient.")

const struct metric_row metric_rows[] = {
    COUNTER("postern_smtp_sessions_total", SESSION_CLOSE, LABELS(L("listener", LISTENER), TLS("tls", TLS)),
            "Connections that have ended, by the TLS that they had."),
    HISTOGRAM("postern_smtp_session_seconds", SESSION_CLOSE, LABELS(L("listener", LISTENER)), METRIC_MICROSECONDS,
              DURATION_US, session_seconds, "How long connections lasted."),
    COUNTER("postern_smtp_tls_handshakes_total", SESSION_TLS,
            LABELS(L("listener", LISTENER), TLS("tls", TLS), FIXED("result", "ok")), "TLS handshakes of clients."),
    COUNTER("postern_smtp_tls_handshakes_total", SESSION_TLS_FAILED,
            LABELS(L("listener", LISTENER), TLS("tls", TLS), FIXED("result", "failed")), "TLS handshakes of clients."),
    COUNTER("postern_smtp_limits_total", SESSION_LIMIT, LABELS(L("listener", LISTENER), L("limit", LIMIT)),
            "Clients that reached a limit of the listener."),
    REJECTS(SESSION_LIMIT, FIXED("stage", "connect"), FIXED("code", "4xx"), METRIC_IF, REASON),
    REJECTS(SESSION_PROTOCOL, STAGE_OF("other"), CLASS_OF(CODE), METRIC_ONE, CODE),
    REJECTS(AUTH_FAIL, FIXED("stage", "auth"), FIXED("code", "5xx"), METRIC_IF, REF),
    REJECTS(AUTH_ERROR, FIXED("stage", "auth"), FIXED("code", "4xx"), METRIC_IF, REF),
    REJECTS(RECIPIENT_REJECT, FIXED("stage", "rcpt"), FIXED("code", "5xx"), METRIC_ONE, REF),
    REJECTS(RECIPIENT_DEFER, FIXED("stage", "rcpt"), FIXED("code", "4xx"), METRIC_ONE, REF),
    REJECTS(MESSAGE_REJECTED, STAGE_OF("data"), FIXED("code", "5xx"), METRIC_ONE, REF),
    REJECTS(MESSAGE_DEFERRED, STAGE_OF("data"), FIXED("code", "4xx"), METRIC_IF, REF),
    COUNTER("postern_auth_attempts_total", AUTH_OK,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "ok")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_auth_attempts_total", AUTH_FAIL,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "bad")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_auth_attempts_total", AUTH_ERROR,
            LABELS(L("listener", LISTENER), NONE("flow", FLOW), NONE("block", BLOCK), FIXED("result", "error")),
            "Logins; block: whose word it was, none where no step of the flow was asked."),
    COUNTER("postern_recipients_accepted_total", RECIPIENT_ACCEPT, LABELS(L("listener", LISTENER)), "Recipients that clients were told yes to."),
    COUNTER("postern_messages_received_total", MESSAGE_ACCEPTED, LABELS(NONE("listener", LISTENER), NONE("direction", DIRECTION)),
            "Messages that are on stable storage and were acknowledged; listener none: from the API or sendmail."),
    HISTOGRAM("postern_message_size_bytes", MESSAGE_ACCEPTED, LABELS(NONE("listener", LISTENER), NONE("direction", DIRECTION)), METRIC_FIELD, SIZE, sizes,
              "Sizes of accepted messages."),
    VERDICTS(DELIVERY_SENT, "delivered"),
    VERDICTS(DELIVERY_FAILED, "failed"),
    VERDICTS(DELIVERY_EXPIRED, "failed"),
    VERDICTS(RECIPIENT_REJECT, "rejected"),
    VERDICTS(MESSAGE_REJECTED, "rejected"),
    VERDICTS(MESSAGE_QUARANTINED, "quarantined"),
    VERDICTS(MESSAGE_HELD, "held"),
    VERDICTS(MESSAGE_DISCARDED, "discarded"),
    VERDICTS(DELIVERY_DROPPED, "dropped"),
    COUNTED("postern_quarantine_entered_total", MESSAGE_QUARANTINED, LABELS(L("quarantine", QUARANTINE), NONE("reason", REASON)), METRIC_ONE, QUARANTINE,
            "Messages that came into a quarantine."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_RELEASED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "released")),
            "Messages that left a quarantine."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_DELETED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "deleted")),
            "Messages that left a quarantine."),
    COUNTER("postern_quarantine_left_total", QUARANTINE_EXPIRED, LABELS(L("quarantine", QUARANTINE), FIXED("how", "expired")),
            "Messages that left a quarantine."),
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
    COUNTER("postern_delivery_tls_total", DELIVERY_SENT, LABELS(L("transport", TRANSPORT), NONE("policy", POLICY), TLS("tls", TLS), {.name = "result", .key = KEY_POLICY, .form = METRIC_SAFETY}),
            "TLS of deliveries that succeeded, a recipient; policy: what the configuration demands of it; result: plain, encrypted, verified."),
    COUNTER("postern_destination_backoffs_total", DESTINATION_BACKOFF, LABELS({0}), "Destinations that failed repeatedly."),
    COUNTER("postern_dsn_total", DSN_SENT, LABELS(L("kind", KIND)), "Delivery status notifications queued."),
    COUNTER("postern_dsn_undeliverable_total", DSN_FAILED, LABELS({0}), "Notifications that could not be delivered."),
    {.name = "postern_backend_up", .kind = METRIC_GAUGE, .event = EVENT_BACKEND_ANSWER, .labels = LABELS(L("backend", BACKEND)),
     .text = "Did a backend answer, when it was asked last? One that was never asked is not here.", .value = METRIC_ANSWERED, .key = KEY_OUTCOME},
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
