/* SPDX-License-Identifier: Apache-2.0 */
/* admin/queue_selector.c - reading selectors. */
#include "admin/queue_selector.h"

#include "base/buf.h"
#include "base/clock.h"
#include "gateway/operations.h"

static const char *const state_names[] = {
    [QUEUE_READY] = "ready", [QUEUE_WAITING] = "waiting", [QUEUE_INFLIGHT] = "inflight",
    [QUEUE_HELD] = "held",   [QUEUE_CONTENT] = "content", [QUEUE_PAUSED] = "paused",
};
enum { STATES = QUEUE_PAUSED + 1 };

const char *admin_state_name(enum queue_state state)
{
    return state_names[state];
}

json_t *admin_states_json(const uint64_t *states)
{
    json_t *object = json_object();
    for (size_t i = 0; i < STATES; i++)
        json_object_set_new(object, state_names[i], json_integer((json_int_t)states[i]));
    return object;
}

int admin_find_name(const char *const *names, size_t count, struct str word)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(str_c(names[i]), word))
            return (int)i;
    }
    return -1;
}

json_t *admin_time_json(int64_t wall_ns)
{
    char text[TIME_RFC3339_SIZE];
    return wall_ns > 0 ? admin_json(clock_format_rfc3339(wall_ns, text)) : json_null();
}

bool admin_parse_age(struct str text, int64_t *out_ns)
{
    static const struct {
        char unit;
        int64_t ns;
    } units[] = {
        {'s', NS_PER_S}, {'m', 60 * NS_PER_S}, {'h', 3600 * NS_PER_S}, {'d', 86400 * NS_PER_S}};
    uint64_t number;
    int64_t unit = NS_PER_S;
    for (size_t i = 0; text.len && i < sizeof units / sizeof *units; i++) {
        if (text.ptr[text.len - 1] == units[i].unit) {
            unit = units[i].ns;
            text.len--;
            break;
        }
    }
    if (!str_to_uint(text, 100000, &number))
        return false;
    *out_ns = (int64_t)number * unit;
    return true;
}

static struct str selector_value(const struct admin_queue_selector_source *source, const char *name)
{
    if (!source->object)
        return admin_query(source->request, name);
    json_t *value = json_object_get(source->object, name);
    return str_of(json_string_value(value) ? json_string_value(value) : "",
                  json_string_length(value));
}

bool admin_read_queue_selector(const struct admin_queue_selector_source *source,
                               struct queue_selector *out, struct admin_answer *answer)
{
    *out = (struct queue_selector){
        .id = selector_value(source, "id"),
        .to = selector_value(source, "to"),
        .from = selector_value(source, "from"),
        .transport = selector_value(source, "transport"),
        .destination = selector_value(source, "destination"),
        .cause = selector_value(source, "cause"),
        .quarantine = selector_value(source, "quarantine"),
        .subject = selector_value(source, "subject"),
        .user = selector_value(source, "user"),
        .state = -1,
    };
    struct str state = selector_value(source, "state");
    struct str older = selector_value(source, "older");
    struct str limit = source->object ? selector_value(source, "limit") : STR_EMPTY;
    uint64_t number = 0;
    if (state.len && (out->state = admin_find_name(state_names, STATES, state)) < 0) {
        admin_problem(answer, 400, "Bad selector",
                      "state: ready, waiting, inflight, held, content or paused, not \"%.*s\"",
                      STR_ARG(state));
        return false;
    }
    if (older.len && !admin_parse_age(older, &out->older_ns)) {
        admin_problem(answer, 400, "Bad selector", "older: like 90s, 15m, 2h or 3d, not \"%.*s\"",
                      STR_ARG(older));
        return false;
    }
    if (limit.len && !str_to_uint(limit, 1000000, &number)) {
        admin_problem(answer, 400, "Bad selector", "limit: a number up to 1000000");
        return false;
    }
    out->limit = (size_t)number;
    return true;
}

/* ---- the beginning of an id ---- */

void admin_tell_ambiguous(struct admin_answer *answer, struct str text, const struct mail_id *ids,
                          size_t count)
{
    struct buf names BUF_CLEANUP;
    buf_init(&names, 4096);
    for (size_t i = 0; i < count; i++)
        buf_printf(&names, "%s%s", i ? ", " : "", mail_id_text(ids[i]).chars);
    admin_problem(answer, 400, "Ambiguous id", "several ids begin with %.*s: %.*s%s", STR_ARG(text),
                  STR_ARG(buf_str(&names)), count == ADMIN_IDS_SHOWN ? ", …" : "; give more of it");
}

/* Whose id it is: the message's, unless only the entry's begins so. */
static struct mail_id named_by(const struct queue_item *item, struct str text)
{
    struct mail_id_text message = mail_id_text(item->message);
    return str_starts_nocase(str_c(message.chars), text) ? item->message : item->entry;
}

bool admin_id_is_clear(struct admin_request *request, const struct queue_selector *selector,
                       struct admin_answer *answer)
{
    enum { ENTRIES = 1000 }; /* of one message, for as many destinations */
    struct queue_selector by_id = {.id = selector->id, .quarantine = selector->quarantine};
    struct queue_list list = {0};
    struct mail_id ids[ADMIN_IDS_SHOWN];
    size_t count = 0;
    struct error err;
    by_id.state = -1;
    by_id.limit = ENTRIES;
    if (selector->id.len == 0 || selector->id.len == MAIL_ID_LEN)
        return true;
    if (queue_list(gateway_queue(request->gateway), &by_id, request->arena, &list, &err) != OK) {
        admin_problem(answer, 503, "Not now", "%s", err.text);
        return false;
    }
    for (size_t i = 0; i < list.count && count < ADMIN_IDS_SHOWN; i++) {
        struct mail_id id = named_by(&list.items[i], selector->id);
        bool known = false;
        for (size_t k = 0; k < count; k++)
            known = known || mail_id_equal(ids[k], id);
        if (!known)
            ids[count++] = id;
    }
    if (count < 2)
        return true;
    admin_tell_ambiguous(answer, selector->id, ids, count);
    return false;
}
