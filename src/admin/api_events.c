/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_events.c - what happened: the events of one story, the story, a search, live. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/queue_selector.h"
#include "history/event_filter.h"
#include "history/story.h"
#include "history/tail.h"
#include "base/clock.h"

#include <string.h>

enum { LIMIT_DEFAULT = 50, LIMIT_MAX = 10000, SCAN_MAX = 100000, TO_MAX = 10 };
enum { SCAN_BYTES = 1024 * 1024 * 1024 };

/* ---- one story ---- */

static bool is_id_or_ref(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_alpha(text.ptr[i]) && !ascii_is_digit(text.ptr[i]))
            return false;
    }
    return text.len == MAIL_ID_LEN || text.len == MAIL_REF_LEN;
}

/* What had happened when it was asked for is found. */
static struct store_reader *open_reader(struct admin_request *request, struct admin_answer *answer)
{
    struct store_reader *reader = NULL;
    struct error err = {.text = "there is no history"};
    admin_log_settle(request->log);
    if (!request->store || store_reader_open(request->store, &reader, &err) != OK)
        admin_problem(answer, 503, "Not now", "%s", err.text);
    return reader;
}

/* The events that the path's {id} names; NULL after a problem. */
static json_t *read_events(struct admin_request *request, bool only_ref, struct mail_id *out_id,
                           struct admin_answer *answer)
{
    if (!is_id_or_ref(request->parameter)) {
        admin_problem(answer, 400, "Bad id", "give an id of %d or a ref of %d letters and digits",
                      MAIL_ID_LEN, MAIL_REF_LEN);
        return NULL;
    }
    struct store_reader *reader = open_reader(request, answer);
    if (!reader)
        return NULL;
    json_t *items = story_events(reader, request->node, request->parameter, only_ref, out_id);
    store_reader_close(reader);
    return items;
}

void admin_api_message_events(struct admin_request *request, struct admin_answer *answer)
{
    struct mail_id id;
    json_t *items = read_events(request, true, &id, answer);
    if (items)
        answer->json = json_pack("{s:o}", "items", items);
}

void admin_api_message_trace(struct admin_request *request, struct admin_answer *answer)
{
    struct mail_id id;
    json_t *items = read_events(request, false, &id, answer);
    if (!items)
        return;
    char ref[MAIL_REF_LEN + 1] = "";
    if (request->parameter.len == MAIL_REF_LEN)
        str_to_c(request->parameter, ref, sizeof ref);
    for (char *at = ref; *at; at++)
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
    if (json_array_size(items) == 0)
        admin_problem(answer, 404, "Not found", "the history knows nothing of %.*s",
                      STR_ARG(request->parameter));
    else
        answer->json = story_tell(items, id, ref[0] ? ref : NULL);
    json_decref(items);
}

/* ---- search ---- */

struct search {
    struct store_reader *reader;
    struct event_filter filter;
    uint64_t limit;
    size_t looked_at;
    json_t *items;

    /* of the story being looked at */
    unsigned fits; /* a bit a term */
    json_t *item;
    const char *verdict;
};

static void note_text(json_t *item, const struct event_field *field)
{
    const char *name = event_key_name(field->key);
    static const enum event_key shown[] = {KEY_MESSAGE,  KEY_SESSION,    KEY_FROM,   KEY_CLIENT,
                                           KEY_USER,     KEY_REF,        KEY_REASON, KEY_REPLY,
                                           KEY_LISTENER, KEY_MESSAGE_ID, KEY_SUBJECT};
    json_t *list = json_object_get(item, "to");
    if (field->kind != EVENT_VALUE_STR || field->text.len == 0)
        return;
    if (field->key == KEY_TO && json_array_size(list) < TO_MAX) {
        size_t i;
        json_t *known;
        json_array_foreach(list, i, known)
        {
            if (str_equal(str_c(json_string_value(known)), field->text))
                return;
        }
        json_array_append_new(list, admin_json(field->text));
    }
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        if (shown[i] == field->key)
            json_object_set_new(item, name, admin_json(field->text));
    }
}

static void try_event(const struct event *event, struct str revision, void *arg)
{
    struct search *search = arg;
    (void)revision;
    for (size_t i = 0; i < search->filter.count; i++) {
        if (!(search->fits & 1U << i) && event_term_fits(&search->filter.terms[i], event))
            search->fits |= 1U << i;
    }
}

static void tell_event(const struct event *event, struct str revision, void *arg)
{
    struct search *search = arg;
    (void)revision;
    if (!json_object_get(search->item, "time")) {
        char time[TIME_RFC3339_SIZE];
        json_object_set_new(search->item, "time",
                            admin_json(clock_format_rfc3339(event->wall_ns, time)));
    }
    const char *verdict = event_filter_verdict(event->type);
    search->verdict = verdict ? verdict : search->verdict;
    if (!json_object_get(search->item, "event"))
        json_object_set_new(search->item, "event", json_string(event_name(event->type)));
    /* whom a notice went to is its own story, not a recipient of this one */
    for (unsigned i = 0; i < event->count; i++)
        if (event->type != EVENT_DSN_SENT || event->fields[i].key != KEY_TO)
            note_text(search->item, &event->fields[i]);
}

static bool is_over(const struct search *search)
{
    return json_array_size(search->items) >= search->limit || search->looked_at >= SCAN_MAX;
}

/* Many are looked at for each that fits: only that one is read again and told. */
static bool take_story(struct mail_id id, void *arg)
{
    struct search *search = arg;
    search->fits = 0;
    search->looked_at++;
    if (store_story(search->reader, id, try_event, search) &&
        search->fits == (1U << search->filter.count) - 1) {
        search->verdict = NULL;
        search->item = json_pack("{s:s, s:[]}", "id", mail_id_text(id).chars, "to");
        store_story(search->reader, id, tell_event, search);
        if (search->verdict)
            json_object_set_new(search->item, "verdict", json_string(search->verdict));
        json_array_append_new(search->items, search->item);
    }
    return !is_over(search);
}

/* "anna@example.org" was taken for …, for each word without a key. */
static json_t *understood(const struct event_filter *filter)
{
    json_t *list = json_array();
    for (size_t i = 0; i < filter->count; i++) {
        const struct event_term *term = &filter->terms[i];
        if (term->as)
            json_array_append_new(
                list, json_pack("{s:o, s:s}", "word", admin_json(term->text), "as", term->as));
    }
    return list;
}

/* What looks like a domain may be a host's name in a reply: if nothing else fits, words are texts.
 */
static int64_t find(struct search *search)
{
    int64_t back_ms =
        event_filter_search(&search->filter, search->reader, SCAN_BYTES, take_story, search);
    if (json_array_size(search->items) == 0 && event_filter_loosen(&search->filter))
        back_ms =
            event_filter_search(&search->filter, search->reader, SCAN_BYTES, take_story, search);
    return back_ms;
}

void admin_api_events_find(struct admin_request *request, struct admin_answer *answer)
{
    struct search search = {.limit = LIMIT_DEFAULT};
    struct str limit = admin_query(request, "limit");
    struct error err;
    if (event_filter_parse(admin_query(request, "q"), request->arena, &search.filter, &err) != OK) {
        admin_problem(answer, 400, "Bad expression", "%s", err.text);
        return;
    }
    if (limit.len && !str_to_uint(limit, LIMIT_MAX, &search.limit)) {
        admin_problem(answer, 400, "Bad limit", "limit: at most %d", LIMIT_MAX);
        return;
    }
    search.reader = open_reader(request, answer);
    if (!search.reader)
        return;
    search.items = json_array();
    int64_t back_ms = search.limit ? find(&search) : 0;
    store_reader_close(search.reader);
    answer->json = json_pack("{s:o, s:b, s:o}", "items", search.items, "complete",
                             (int)(back_ms == 0 && !is_over(&search)), "understood",
                             understood(&search.filter));
    if (back_ms)
        json_object_set_new(answer->json, "looked_back_to", admin_time_json(back_ms * NS_PER_MS));
}

/* ---- live ---- */

void admin_api_events_stream(struct admin_request *request, struct admin_answer *answer)
{
    struct event_filter filter;
    struct error err;
    struct str query = admin_query(request, "q");
    if (event_filter_parse(query, request->arena, &filter, &err) != OK) {
        admin_problem(answer, 400, "Bad expression", "%s", err.text);
        return;
    }
    struct tail_request wish = {
        .query = query, .last_id = request->last_event_id, .node = request->node};
    if (!wish.last_id.len) /* for who cannot set a field */
        wish.last_id = admin_query(request, "last_event_id");
    answer->tail = request->tail ? tail_join(request->tail, &wish) : NULL;
    if (!answer->tail)
        admin_problem(answer, 503, "Not now", "too many listen already");
}
