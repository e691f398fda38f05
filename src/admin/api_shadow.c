/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_shadow.c - recorded decisions with the values of then, for a replay elsewhere. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/page.h"
#include "history/store.h"
#include "base/buf.h"

enum { EVENTS_MAX = 5000, LINE_MAX_BYTES = 128 * 1024, PAGE_BYTES = 8 * 1024 * 1024 };

struct decisions {
    struct store_reader *reader;
    struct str node;
    struct buf line;
    json_t *items;
    json_t *events; /* of the story being read */
    bool decides;   /* it holds a decision */
    size_t limit;
    size_t bytes;         /* of all events on the page */
    struct mail_id after; /* older ones are told; zero: all */
    struct mail_id last;  /* that was looked at */
    bool more;
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
    decisions->bytes += decisions->line.len;
    if (item)
        json_array_append_new(decisions->events, item);
}

static bool take_story(struct mail_id id, void *arg)
{
    struct decisions *decisions = arg;
    if (!admin_page_is_older(id, decisions->after))
        return true;
    decisions->last = id;
    decisions->events = json_array();
    decisions->decides = false;
    store_story(decisions->reader, id, take_event, decisions);
    if (decisions->decides)
        json_array_append_new(
            decisions->items,
            json_pack("{s:s, s:o}", "id", mail_id_text(id).chars, "events", decisions->events));
    else
        json_decref(decisions->events);
    decisions->more =
        json_array_size(decisions->items) >= decisions->limit || decisions->bytes > PAGE_BYTES;
    return !decisions->more;
}

/* ?limit=1000&since=MS: the stories of messages and refused sessions, newest first. `last` is what
 * limit was called before there were cursors. */
void admin_api_config_decisions(struct admin_request *request, struct admin_answer *answer)
{
    struct decisions decisions = {.node = request->node};
    struct store_range range = {.since_ms = 0, .until_ms = INT64_C(1) << 47};
    struct str last = admin_query(request, "last");
    struct str since = admin_query(request, "since");
    struct error err = {.text = "there is no history"};
    struct admin_page page;
    uint64_t number = 0;
    if (!admin_page_read(request, "decisions", ADMIN_PAGE_MAX, NULL, &page, answer) ||
        !admin_page_after_id(&page, &decisions.after, answer))
        return;
    if (last.len && (!str_to_uint(last, UINT32_MAX, &number) || number == 0)) {
        admin_problem(answer, 400, "Bad request", "last: a number, at least 1");
        return;
    }
    decisions.limit = last.len && number < page.limit ? (size_t)number : page.limit;
    if (since.len && !str_to_uint(since, INT64_MAX, &number)) {
        admin_problem(answer, 400, "Bad request", "since: milliseconds since 1970");
        return;
    }
    range.since_ms = since.len ? (int64_t)number : 0;
    admin_page_narrow(&range, decisions.after);
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
    page.counts = false;
    admin_page_ids(&page, request->arena, decisions.last, decisions.more);
    answer->json = admin_page_json(&page, decisions.items);
}
