/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_messages.c - one message: its bytes, and putting one in. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/queue_selector.h"
#include "base/buf.h"
#include "crypto/base64.h"
#include "gateway/operations.h"
#include "history/store.h"
#include "queue/queue.h"

#include <stdio.h>

enum { RAW_MAX = 512 * 1024 * 1024, RECIPIENTS_MAX = 1000 };

/* The id in the path, or the one in the queue that begins so; false after a problem. */
static bool read_id(struct admin_request *request, struct mail_id *out, struct admin_answer *answer)
{
    struct queue_selector selector = {.id = request->parameter, .state = -1, .limit = 1};
    struct queue_list found = {0};
    struct mail_id last;
    struct error err;
    if (mail_id_parse(request->parameter, out))
        return true;
    if (request->parameter.len < MAIL_REF_LEN || !mail_id_prefix(request->parameter, out, &last)) {
        admin_problem(answer, 400, "Bad id",
                      "an id has %d letters and digits, of which %d are enough", MAIL_ID_LEN,
                      MAIL_REF_LEN);
        return false;
    }
    if (!admin_id_is_clear(request, &selector, answer))
        return false;
    if (queue_list(gateway_queue(request->gateway), &selector, request->arena, &found, &err) !=
        OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return false;
    }
    if (found.count)
        *out = found.items[0].entry;
    return true; /* else it is none that the queue has */
}

void admin_api_message_raw(struct admin_request *request, struct admin_answer *answer)
{
    struct mail_id id;
    bool found = false;
    struct error err;
    struct buf raw BUF_CLEANUP;
    buf_init(&raw, RAW_MAX);
    if (!read_id(request, &id, answer))
        return;
    if (queue_raw(gateway_queue(request->gateway), id, &raw, &found, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
    } else if (!found) {
        admin_problem(answer, 404, "Not found", "nothing in the queue has the id %.*s",
                      STR_ARG(request->parameter));
    } else {
        answer->text = arena_str(request->arena, buf_str(&raw));
        answer->type = "message/rfc822";
    }
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

/* The message: text, or bytes as base64; false if there is neither. */
static bool read_data(json_t *root, struct buf *bytes, struct str *out)
{
    json_t *text = json_object_get(root, "data");
    json_t *encoded = json_object_get(root, "data_base64");
    if (json_is_string(text)) {
        *out = str_of(json_string_value(text), json_string_length(text));
        return true;
    }
    if (!json_is_string(encoded) ||
        !base64_decode(str_of(json_string_value(encoded), json_string_length(encoded)), bytes))
        return false;
    *out = buf_str(bytes);
    return true;
}

static void note_event(const struct event *event, struct str revision, void *taken)
{
    (void)revision;
    *(bool *)taken |= event->type == EVENT_MESSAGE_ACCEPTED;
}

/* It waits, or the history says that it came. */
static bool is_taken(struct admin_request *request, struct mail_id id)
{
    struct mail_id_text text = mail_id_text(id);
    struct queue_selector selector = {
        .id = str_c(text.chars), .state = -1, .limit = 1, .uncounted = true};
    struct queue_list list = {0};
    struct store_reader *reader = NULL;
    struct error err;
    bool taken =
        queue_list(gateway_queue(request->gateway), &selector, request->arena, &list, &err) == OK &&
        list.count > 0;
    if (taken || !request->store || store_reader_open(request->store, &reader, &err) != OK)
        return taken;
    store_story(reader, id, note_event, &taken);
    store_reader_close(reader);
    return taken;
}

bool admin_message_recover(struct admin_request *request, struct mail_id id,
                           struct admin_answer *answer)
{
    if (!str_equal(request->path, STR("/api/v1/messages")) || !is_taken(request, id))
        return false;
    char reply[64];
    snprintf(reply, sizeof reply, "250 2.0.0 Ok, queued as %s", mail_id_text(id).chars);
    answer->json = json_pack("{s:b, s:s, s:s}", "accepted", 1, "reply", reply, "message",
                             mail_id_text(id).chars);
    return true;
}

/* {"from": "a@b", "to": ["c@d"], "data": "From: …"}, or "data_base64" for any bytes */
void admin_api_message_send(struct admin_request *request, struct admin_answer *answer)
{
    json_t *root = request->json;
    struct buf bytes BUF_CLEANUP;
    struct str data = STR_EMPTY;
    buf_init(&bytes, RAW_MAX);
    json_t *from = json_object_get(root, "from");
    struct str *recipients = arena_alloc_array(request->arena, RECIPIENTS_MAX, sizeof(struct str));
    size_t count = read_recipients(json_object_get(root, "to"), recipients, answer);
    if (count && (!read_data(root, &bytes, &data) || !json_is_string(from))) {
        admin_problem(answer, 400, "Bad request", "give from, to and data");
    } else if (count) {
        struct mail_id id = request->new_id;
        struct mail_reply reply = {0};
        struct error err;
        if (gateway_inject(request->gateway,
                           str_of(json_string_value(from), json_string_length(from)), recipients,
                           count, data, &id, request->arena, &reply, &err) != OK) {
            admin_problem(answer, 503, "Not now", "%s", err.text);
        } else {
            struct str line = mail_reply_text(request->arena, &reply);
            answer->json =
                json_pack("{s:b, s:o, s:s}", "accepted", (int)mail_reply_is_positive(&reply),
                          "reply", admin_json(line), "message", mail_id_text(id).chars);
            answer->object = arena_str(request->arena, str_c(mail_id_text(id).chars));
            answer->undone = !mail_reply_is_positive(&reply);
        }
    }
}
