/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/payload.h"

#include "base/clock.h"

#include <string.h>

/* Ids, names out of the configuration, numbers, words of closed lists. */
static const bool thin_keys[EVENT_KEY_COUNT] = {
    [KEY_SESSION] = true,  [KEY_MESSAGE] = true,     [KEY_ENTRY] = true,
    [KEY_REF] = true,      [KEY_LISTENER] = true,    [KEY_DIRECTION] = true,
    [KEY_DOMAIN] = true,   [KEY_FLOW] = true,        [KEY_FLOW_TYPE] = true,
    [KEY_STEP] = true,     [KEY_BLOCK] = true,       [KEY_OUTCOME] = true,
    [KEY_ACTION] = true,   [KEY_REASON] = true,      [KEY_CODE] = true,
    [KEY_ENHANCED] = true, [KEY_LIMIT] = true,       [KEY_SIZE] = true,
    [KEY_COUNT] = true,    [KEY_TRANSPORT] = true,   [KEY_DESTINATION] = true,
    [KEY_PROVIDER] = true, [KEY_ATTEMPT] = true,     [KEY_NEXT_TRY] = true,
    [KEY_GIVE_UP] = true,  [KEY_DURATION_US] = true, [KEY_BACKEND] = true,
    [KEY_SINCE] = true,    [KEY_REVISION] = true,    [KEY_VERB] = true,
    [KEY_KIND] = true,     [KEY_INCIDENT] = true,    [KEY_PERIOD] = true,
    [KEY_HELD] = true,     [KEY_CHECK] = true,       [KEY_QUARANTINE] = true,
    [KEY_SINK] = true,     [KEY_WEBHOOK] = true,     [KEY_RECIPIENTS] = true,
};

static void put_head(struct str type, int64_t wall_ns, struct buf *out)
{
    char time[TIME_RFC3339_SIZE];
    buf_clear(out);
    buf_printf(out, "{\"type\":\"%.*s\",\"timestamp\":\"", STR_ARG(type));
    buf_append(out, clock_format_rfc3339(wall_ns, time));
    buf_append(out, STR("\",\"data\":"));
}

/* The event as the log has it, a line; its newline goes. */
static void put(const struct event *event, struct str node, struct str revision, struct buf *out)
{
    put_head(str_c(event_name(event->type)), event->wall_ns, out);
    event_format_json(event, node, revision, out);
    if (!out->overflow)
        out->ptr[out->len - 1] = '}';
}

static void put_thin(const struct event *event, struct str node, struct str revision,
                     struct buf *out)
{
    struct event thin = *event;
    thin.count = 0;
    for (unsigned i = 0; i < event->count; i++)
        if (thin_keys[event->fields[i].key])
            thin.fields[thin.count++] = event->fields[i];
    put(&thin, node, revision, out);
    for (unsigned i = 0; out->overflow || out->len > WEBHOOK_PAYLOAD_MAX; i++) {
        thin.count = thin.count > 4 ? 4 : 0; /* of ids that no program of ours makes that long */
        put(&thin, i ? STR_EMPTY : node, revision, out);
    }
}

void webhook_payload_write(enum webhook_payload form, const struct event *event, struct str node,
                           struct str revision, struct buf *out)
{
    if (form == WEBHOOK_FULL) {
        put(event, node, revision, out);
        if (!out->overflow && out->len <= WEBHOOK_PAYLOAD_MAX)
            return;
    }
    put_thin(event, node, revision, out);
    if (form != WEBHOOK_FULL)
        return;
    out->len--; /* the last brace */
    buf_append(out, STR(",\"truncated\":true}"));
}

void webhook_payload_test(struct str webhook, struct str node, int64_t wall_ns, struct buf *out)
{
    put_head(STR("webhook.test"), wall_ns, out);
    buf_printf(out, "{\"webhook\":\"%.*s\",\"node\":\"%.*s\"}}", STR_ARG(webhook), STR_ARG(node));
}
