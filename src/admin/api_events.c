/* SPDX-License-Identifier: Apache-2.0 */
/* admin/api_events.c - what happened: the events of one story, the story, a search, live. */
#include "admin/routes.h"

#include "admin/http.h"
#include "admin/log.h"
#include "admin/page.h"
#include "admin/queue_selector.h"
#include "history/event_filter.h"
#include "history/story.h"
#include "history/tail.h"
#include "base/clock.h"

#include <string.h>

enum { LIMIT_DEFAULT = 50, SCAN_MAX = 100000, TO_MAX = 10 };
enum { SCAN_BYTES = 1024 * 1024 * 1024 };

/* ---- one story ---- */

static bool is_id_or_ref(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_alpha(text.ptr[i]) && !ascii_is_digit(text.ptr[i]))
            return false;
    }
    return text.len >= MAIL_REF_LEN && text.len <= MAIL_ID_LEN;
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

/* What the path's {id} names. */
struct named {
    json_t *items;     /* its events */
    struct mail_id id; /* of the story */
    bool by_ref;
};

/* The one story whose id begins so; false after a problem: there are several. */
static bool complete(struct admin_request *request, struct store_reader *reader, bool only_ref,
                     struct named *io_named, struct admin_answer *answer)
{
    struct mail_id ids[ADMIN_IDS_SHOWN];
    size_t count = story_ids(reader, request->parameter, ids, ADMIN_IDS_SHOWN);
    if (count > 1) {
        admin_tell_ambiguous(answer, request->parameter, ids, count);
        return false;
    }
    if (count == 0)
        return true;
    json_decref(io_named->items);
    io_named->items = story_events(reader, request->node, str_c(mail_id_text(ids[0]).chars),
                                   only_ref, &io_named->id);
    io_named->by_ref = false;
    return true;
}

/* False after a problem. Events are none when nothing is known. */
static bool read_events(struct admin_request *request, bool only_ref, struct named *out,
                        struct admin_answer *answer)
{
    struct str text = request->parameter;
    if (!is_id_or_ref(text)) {
        admin_problem(answer, 400, "Bad id",
                      "give an id of %d letters and digits, of which %d are enough, or a ref of %d",
                      MAIL_ID_LEN, MAIL_REF_LEN, MAIL_REF_LEN);
        return false;
    }
    struct store_reader *reader = open_reader(request, answer);
    if (!reader)
        return false;
    *out = (struct named){.by_ref = text.len == MAIL_REF_LEN};
    out->items = story_events(reader, request->node, text, only_ref, &out->id);
    bool good = json_array_size(out->items) > 0 || text.len == MAIL_ID_LEN ||
                complete(request, reader, only_ref, out, answer);
    if (!good)
        json_decref(out->items);
    store_reader_close(reader);
    return good;
}

void admin_api_message_events(struct admin_request *request, struct admin_answer *answer)
{
    struct named named;
    if (read_events(request, true, &named, answer))
        answer->json = json_pack("{s:o}", "items", named.items);
}

void admin_api_message_trace(struct admin_request *request, struct admin_answer *answer)
{
    struct named named;
    if (!read_events(request, false, &named, answer))
        return;
    char ref[MAIL_REF_LEN + 1] = "";
    if (named.by_ref)
        str_to_c(request->parameter, ref, sizeof ref);
    for (char *at = ref; *at; at++)
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
    if (json_array_size(named.items) == 0)
        admin_problem(answer, 404, "Not found", "the history knows nothing of %.*s",
                      STR_ARG(request->parameter));
    else
        answer->json = story_tell(named.items, named.id, ref[0] ? ref : NULL);
    json_decref(named.items);
}

/* ---- search ---- */

struct search {
    struct store_reader *reader;
    struct event_filter filter;
    size_t limit;
    struct mail_id after; /* older ones are told; zero: all */
    struct mail_id last;  /* that was looked at, in the order of all */
    struct mail_id named; /* an id among the terms: told before the others, on the first page */
    bool is_next;         /* this is another page */
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
    bool named = mail_id_equal(id, search->named);
    if (named ? search->is_next : !admin_page_is_older(id, search->after))
        return true;
    search->fits = 0;
    search->looked_at++;
    if (!named)
        search->last = id;
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
 * The pages behind are of the same search. */
static const char as_said[] = "events", as_texts[] = "texts";

static int64_t find(struct search *search, struct admin_page *page)
{
    if (page->list == as_texts)
        event_filter_loosen(&search->filter);
    int64_t back_ms =
        event_filter_search(&search->filter, search->reader, SCAN_BYTES, take_story, search);
    if (json_array_size(search->items) > 0 || page->after.len ||
        !event_filter_loosen(&search->filter))
        return back_ms;
    page->list = as_texts;
    return event_filter_search(&search->filter, search->reader, SCAN_BYTES, take_story, search);
}

static bool read_page(struct admin_request *request, struct admin_page *out,
                      struct admin_answer *answer)
{
    struct admin_answer other = {.status = 200};
    bool good = admin_page_read(request, as_texts, LIMIT_DEFAULT, NULL, out, &other);
    json_decref(other.json);
    return (good && out->after.len) ||
           admin_page_read(request, as_said, LIMIT_DEFAULT, NULL, out, answer);
}

void admin_api_events_find(struct admin_request *request, struct admin_answer *answer)
{
    struct search search = {0};
    struct admin_page page;
    struct error err;
    if (event_filter_parse(admin_query(request, "q"), request->arena, &search.filter, &err) != OK) {
        admin_problem(answer, 400, "Bad expression", "%s", err.text);
        return;
    }
    if (!read_page(request, &page, answer) || !admin_page_after_id(&page, &search.after, answer))
        return;
    search.limit = page.limit;
    search.is_next = page.after.len > 0;
    event_filter_names(&search.filter, &search.named);
    admin_page_narrow(&search.filter.range, search.after);
    search.reader = open_reader(request, answer);
    if (!search.reader)
        return;
    search.items = json_array();
    int64_t back_ms = find(&search, &page);
    store_reader_close(search.reader);
    bool complete = back_ms == 0 && !is_over(&search);
    if (!search.last.high) /* the named one alone: the others are all behind it */
        search.last = search.after;
    if (back_ms) /* on from there */
        search.last = (struct mail_id){.high = (uint64_t)back_ms << 16};
    admin_page_ids(&page, request->arena, search.last, !complete);
    page.counts = false; /* nobody knows without looking at all */
    answer->json = admin_page_json(&page, search.items);
    json_object_set_new(answer->json, "complete", json_boolean(complete));
    json_object_set_new(answer->json, "understood", understood(&search.filter));
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
