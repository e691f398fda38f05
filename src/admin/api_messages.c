/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_messages.c - one message: its bytes, its recent events, and putting one in. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "base/buf.h"
#include "event/event.h"
#include "gateway/operations.h"
#include "queue/queue.h"

enum { RAW_MAX = 512 * 1024 * 1024, EVENTS_MAX = 4 * 1024 * 1024, RECIPIENTS_MAX = 1000 };

void admin_api_message_raw(struct admin_request *request, struct admin_answer *answer)
{
    struct mail_id id;
    bool found = false;
    struct error err;
    struct buf raw BUF_CLEANUP;
    buf_init(&raw, RAW_MAX);
    if (!mail_id_parse(request->parameter, &id)) {
        admin_problem(answer, 400, "Bad id", "an id has %d letters and digits", MAIL_ID_LEN);
    } else if (queue_raw(gateway_queue(request->gateway), id, &raw, &found, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (!found) {
        admin_problem(answer, 404, "Not found", "nothing in the queue has the id %.*s",
                      STR_ARG(request->parameter));
    } else {
        answer->text = arena_str(request->arena, buf_str(&raw));
        answer->type = "message/rfc822";
        event_emit(EVENT_ADMIN_ACTION, F_STR(ACTOR, request->actor), F_C(VERB, "message raw"),
                   F_STR(OBJECT, request->parameter));
    }
}

static bool is_id_or_ref(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_alpha(text.ptr[i]) && !ascii_is_digit(text.ptr[i]))
            return false;
    }
    return text.len == MAIL_ID_LEN || text.len == MAIL_REF_LEN;
}

/* Recent events that hold `text` as a value. */
static json_t *recent_with(struct admin_request *request, const char *text)
{
    struct buf lines BUF_CLEANUP;
    buf_init(&lines, EVENTS_MAX);
    admin_log_recent(request->log, str_c(text), &lines);
    json_t *items = json_array();
    struct str rest = buf_str(&lines);
    struct str line;
    while (str_split(&rest, '\n', &line)) {
        json_t *event = line.len ? json_loadb(line.ptr, line.len, 0, NULL) : NULL;
        if (event)
            json_array_append_new(items, event);
    }
    return items;
}

/* Does a decision end with this event: what comes after it belongs to the next one. */
static bool is_decision(json_t *event)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    static const char *const names[] = {"auth.", "recipient.", "message.", "session.protocol"};
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++) {
        if (str_starts(str_c(name), str_c(names[i])))
            return true;
    }
    return false;
}

/* What led to a refusal: the events of its session from the decision before it to its own. */
static json_t *events_of_ref(struct admin_request *request, const char *ref, json_t *found)
{
    const char *session = json_string_value(json_object_get(json_array_get(found, 0), "session"));
    if (!session)
        return found;
    json_t *all = recent_with(request, session);
    json_t *items = json_array();
    size_t i;
    json_t *event;
    json_array_foreach(all, i, event)
    {
        json_array_append(items, event);
        const char *own = json_string_value(json_object_get(event, "ref"));
        if (own && str_equal(str_c(own), str_c(ref)))
            break;
        if (is_decision(event))
            json_array_clear(items);
    }
    json_decref(all);
    json_decref(found);
    return items;
}

void admin_api_message_events(struct admin_request *request, struct admin_answer *answer)
{
    if (!is_id_or_ref(request->parameter)) {
        admin_problem(answer, 400, "Bad id", "give an id of %d or a ref of %d letters and digits",
                      MAIL_ID_LEN, MAIL_REF_LEN);
        return;
    }
    const char *text = arena_c(request->arena, request->parameter);
    json_t *items = recent_with(request, text);
    if (request->parameter.len == MAIL_REF_LEN)
        items = events_of_ref(request, text, items);
    answer->json = json_pack("{s:o}", "items", items);
}

static size_t read_recipients(json_t *list, struct str *out, struct admin_answer *answer)
{
    size_t count = json_array_size(list);
    if (count == 0 || count > RECIPIENTS_MAX) {
        admin_problem(answer, 400, "Bad request", "to: a list of 1 to %d addresses",
                      RECIPIENTS_MAX);
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        json_t *item = json_array_get(list, i);
        if (!json_is_string(item)) {
            admin_problem(answer, 400, "Bad request", "to: a list of addresses");
            return 0;
        }
        out[i] = str_of(json_string_value(item), json_string_length(item));
    }
    return count;
}

/* {"from": "a@b", "to": ["c@d"], "data": "From: …"} */
void admin_api_message_send(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = json_loadb(request->body.ptr, request->body.len, 0, NULL);
    json_t *data = json_object_get(root, "data");
    json_t *from = json_object_get(root, "from");
    struct str *recipients = arena_alloc_array(request->arena, RECIPIENTS_MAX, sizeof(struct str));
    size_t count = read_recipients(json_object_get(root, "to"), recipients, answer);
    if (count && (!json_is_string(data) || !json_is_string(from))) {
        admin_problem(answer, 400, "Bad request", "give from, to and data");
    } else if (count) {
        struct mail_id id;
        struct mail_reply reply = {0};
        struct error err;
        if (gateway_inject(request->gateway,
                           str_of(json_string_value(from), json_string_length(from)), recipients,
                           count, str_of(json_string_value(data), json_string_length(data)), &id,
                           request->arena, &reply, &err) != OK) {
            admin_problem(answer, 503, "Not now", "%s", err.text);
        } else {
            struct str line = mail_reply_text(request->arena, &reply);
            answer->json =
                json_pack("{s:b, s:o, s:s}", "accepted", (int)mail_reply_is_positive(&reply),
                          "reply", admin_json(line), "message", mail_id_text(id).chars);
            event_emit(EVENT_ADMIN_ACTION, F_STR(ACTOR, request->actor), F_C(VERB, "send"),
                       F_C(OBJECT, mail_id_text(id).chars));
        }
    }
    json_decref(root);
}
