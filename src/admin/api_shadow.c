/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_shadow.c - recorded decisions with the values of then, for a replay elsewhere. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "history/store.h"
#include "base/buf.h"

enum { LAST_DEFAULT = 1000, LAST_MAX = 20000, EVENTS_MAX = 5000, LINE_MAX_BYTES = 128 * 1024 };

struct decisions {
    struct store_reader *reader;
    struct str node;
    struct buf line;
    json_t *items;
    json_t *events; /* of the story being read */
    bool decides;   /* it holds a decision */
    size_t last;
};

static bool is_decision(enum event_type type)
{
    switch (type) {
    case EVENT_AUTH_OK:
    case EVENT_AUTH_FAIL:
    case EVENT_AUTH_ERROR:
    case EVENT_RECIPIENT_ACCEPT:
    case EVENT_RECIPIENT_REJECT:
    case EVENT_RECIPIENT_DEFER:
    case EVENT_MESSAGE_ACCEPTED:
    case EVENT_MESSAGE_REJECTED:
    case EVENT_MESSAGE_DEFERRED:
        return true;
    default:
        return false;
    }
}

static void take_event(const struct event *event, struct str revision, void *arg)
{
    struct decisions *decisions = arg;
    bool decision = is_decision(event->type);
    if ((!decision && event->type != EVENT_FLOW_STEP && event->type != EVENT_SESSION_TLS &&
         event->type != EVENT_MESSAGE_HEADER && event->type != EVENT_FLOW_FINDING) ||
        json_array_size(decisions->events) >= EVENTS_MAX)
        return;
    decisions->decides |= decision;
    buf_clear(&decisions->line);
    event_format_json(event, decisions->node, revision, &decisions->line);
    json_t *item = json_loadb(decisions->line.ptr, decisions->line.len, 0, NULL);
    if (item)
        json_array_append_new(decisions->events, item);
}

static bool take_story(struct mail_id id, void *arg)
{
    struct decisions *decisions = arg;
    decisions->events = json_array();
    decisions->decides = false;
    store_story(decisions->reader, id, take_event, decisions);
    if (decisions->decides)
        json_array_append_new(
            decisions->items,
            json_pack("{s:s, s:o}", "id", mail_id_text(id).chars, "events", decisions->events));
    else
        json_decref(decisions->events);
    return json_array_size(decisions->items) < decisions->last;
}

/* ?last=1000&since=MS: the stories of messages and refused sessions, newest first. */
void admin_api_config_decisions(struct admin_request *request, struct admin_answer *answer)
{
    struct decisions decisions = {.node = request->node, .last = LAST_DEFAULT};
    struct store_range range = {.since_ms = 0, .until_ms = INT64_C(1) << 47};
    struct str last = admin_query(request, "last");
    struct str since = admin_query(request, "since");
    struct error err = {.text = "there is no history"};
    uint64_t number;
    if (last.len && (!str_to_uint(last, LAST_MAX, &number) || number == 0)) {
        admin_problem(answer, 400, "Bad request", "last: 1 to %d", LAST_MAX);
        return;
    }
    decisions.last = last.len ? (size_t)number : since.len ? LAST_MAX : LAST_DEFAULT;
    if (since.len && !str_to_uint(since, INT64_MAX, &number)) {
        admin_problem(answer, 400, "Bad request", "since: milliseconds since 1970");
        return;
    }
    range.since_ms = since.len ? (int64_t)number : 0;
    admin_log_settle(request->log);
    if (!request->store || store_reader_open(request->store, &decisions.reader, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return;
    }
    decisions.items = json_array();
    buf_init(&decisions.line, LINE_MAX_BYTES);
    store_find(decisions.reader, 0, range, take_story, &decisions);
    buf_done(&decisions.line);
    store_reader_close(decisions.reader);
    answer->json = json_pack("{s:o}", "items", decisions.items);
}
