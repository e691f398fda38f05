/* SPDX-License-Identifier: Apache-2.0 */
#include "history/story.h"

#include "history/story_words.h"
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 128 * 1024, EVENTS_MAX = 50000 };

static const char *text_of(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text ? text : "";
}

static bool is(json_t *object, const char *name, const char *text)
{
    return strcmp(text_of(object, name), text) == 0;
}

/* ---- gathering ---- */

struct gathering {
    struct store_reader *reader;
    struct str node;
    json_t *items;
    struct buf line;
    struct mail_id found;
    bool has_found;
};

static void take_event(const struct event *event, struct str revision, void *arg)
{
    struct gathering *gathering = arg;
    if (json_array_size(gathering->items) >= EVENTS_MAX)
        return;
    buf_clear(&gathering->line);
    event_format_json(event, gathering->node, revision, &gathering->line);
    json_t *item = json_loadb(gathering->line.ptr, gathering->line.len, 0, NULL);
    if (item)
        json_array_append_new(gathering->items, item);
}

static bool take_first(struct mail_id id, void *arg)
{
    struct gathering *gathering = arg;
    gathering->found = id;
    gathering->has_found = true;
    store_story(gathering->reader, id, take_event, gathering);
    return false;
}

static bool take_each(struct mail_id id, void *arg)
{
    struct gathering *gathering = arg;
    take_first(id, gathering);
    return json_array_size(gathering->items) < EVENTS_MAX;
}

static const struct store_range always = {.since_ms = 0, .until_ms = INT64_C(1) << 47};

static int by_time(const void *a, const void *b)
{
    json_t *one = *(json_t *const *)a;
    json_t *two = *(json_t *const *)b;
    int order = strcmp(text_of(one, "time"), text_of(two, "time"));
    json_int_t first = json_integer_value(json_object_get(one, "seq"));
    json_int_t second = json_integer_value(json_object_get(two, "seq"));
    return order ? order : (first > second) - (first < second);
}

/* Events of several stories: the same one stands in the session's and in its messages'. */
static json_t *in_order(json_t *items)
{
    size_t count = json_array_size(items);
    json_t **sorted = calloc(count + 1, sizeof(json_t *));
    json_t *out = json_array();
    for (size_t i = 0; sorted && i < count; i++)
        sorted[i] = json_array_get(items, i);
    if (sorted)
        qsort(sorted, count, sizeof(json_t *), by_time);
    for (size_t i = 0; sorted && i < count; i++) {
        if (i == 0 || by_time(&sorted[i - 1], &sorted[i]) != 0)
            json_array_append(out, sorted[i]);
    }
    free(sorted);
    json_decref(items);
    return out;
}

/* Does a decision end with this event: what comes after it belongs to the next one. */
static bool is_decision(json_t *event)
{
    static const char *const names[] = {"auth.", "recipient.", "message.", "session.protocol"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (str_starts(str_c(text_of(event, "event")), str_c(names[i])))
            return true;
    }
    return false;
}

/* What led to a refusal: from the decision before it to its own. */
static json_t *until_ref(json_t *all, struct str ref)
{
    json_t *items = json_array();
    bool found = false;
    size_t i;
    json_t *event;
    json_array_foreach(all, i, event)
    {
        json_array_append(items, event);
        found = str_equal_nocase(str_c(text_of(event, "ref")), ref);
        if (found)
            break;
        if (is_decision(event))
            json_array_clear(items);
    }
    if (!found)
        json_array_clear(items);
    json_decref(all);
    return items;
}

struct wanted_ids {
    struct mail_id first, last;
    struct mail_id *ids;
    size_t count, max;
};

static bool is_before(struct mail_id a, struct mail_id b)
{
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}

static bool take_wanted(struct mail_id id, void *arg)
{
    struct wanted_ids *wanted = arg;
    if (!is_before(id, wanted->first) && !is_before(wanted->last, id))
        wanted->ids[wanted->count++] = id;
    return wanted->count < wanted->max;
}

size_t story_ids(struct store_reader *reader, struct str prefix, struct mail_id *out, size_t max)
{
    struct wanted_ids wanted = {.ids = out, .max = max};
    if (!mail_id_prefix(prefix, &wanted.first, &wanted.last))
        return 0;
    struct store_range range = {mail_id_time_ms(wanted.first), mail_id_time_ms(wanted.last)};
    store_search(reader, NULL, 0, range, take_wanted, &wanted);
    return wanted.count;
}

json_t *story_events(struct store_reader *reader, struct str node, struct str text, bool only_ref,
                     struct mail_id *out_id)
{
    struct gathering gathering = {.reader = reader, .node = node, .items = json_array()};
    buf_init(&gathering.line, LINE_MAX_BYTES);
    *out_id = (struct mail_id){0};
    if (text.len == MAIL_REF_LEN) {
        store_find(reader, store_word(KEY_REF, text), always, take_first, &gathering);
        *out_id = gathering.found;
    } else if (mail_id_parse(text, out_id)) {
        store_story(reader, *out_id, take_event, &gathering);
        store_find(reader, store_word(KEY_SESSION, text), always, take_each, &gathering);
        if (json_array_size(gathering.items) == 0)
            store_find(reader, store_word(KEY_ENTRY, text), always, take_first, &gathering);
        if (gathering.has_found && !store_story(reader, *out_id, take_event, &gathering))
            *out_id = gathering.found;
    }
    buf_done(&gathering.line);
    json_t *items = in_order(gathering.items);
    return only_ref && text.len == MAIL_REF_LEN ? until_ref(items, text) : items;
}

/* ---- telling ---- */

static void copy(json_t *from, json_t *to, const char *name)
{
    json_t *value = json_object_get(from, name);
    if (value && !(json_is_string(value) && json_string_length(value) == 0))
        json_object_set(to, name, value);
}

/* All of an event but what the story says elsewhere. */
static json_t *without_frame(json_t *event)
{
    static const char *const frame[] = {"seq",     "severity", "node",    "rev",
                                        "session", "message",  "listener"};
    json_t *out = json_copy(event);
    const char *name;
    json_t *value;
    void *next;
    for (size_t i = 0; i < sizeof frame / sizeof *frame; i++)
        json_object_del(out, frame[i]);
    json_object_foreach_safe(out, next, name, value)
    {
        if (json_is_string(value) && json_string_length(value) == 0)
            json_object_del(out, name);
    }
    return out;
}

static json_t *member(json_t *object, const char *name, json_t *(*make)(void))
{
    json_t *value = json_object_get(object, name);
    if (!value) {
        value = make();
        json_object_set_new(object, name, value);
    }
    return value;
}

static json_t *recipient_of(json_t *story, const char *to)
{
    json_t *list = member(story, "recipients", json_array);
    size_t i;
    json_t *recipient;
    json_array_foreach(list, i, recipient)
    {
        if (is(recipient, "to", to))
            return recipient;
    }
    recipient = json_object();
    json_object_set_new(recipient, "to", json_string(to));
    json_array_append_new(list, recipient);
    return recipient;
}

static void tell_session(json_t *story, json_t *event)
{
    static const char *const names[] = {"session", "listener", "client", "client_port", "helo",
                                        "tls",     "cipher",   "user",   "mechanism"};
    if (text_of(event, "listener")[0] == '\0')
        return;
    json_t *session = member(story, "session", json_object);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!json_object_get(session, names[i]))
            copy(event, session, names[i]);
    }
}

/* "spf=pass score=4.2" as an object; numbers as numbers. */
static json_t *values_of(struct str text)
{
    json_t *values = json_object();
    struct str pair;
    while (text.len && str_split(&text, ' ', &pair)) {
        ptrdiff_t equal = str_find(pair, '=');
        char name[64], value[300];
        if (equal <= 0 || !str_to_c(str_slice(pair, 0, (size_t)equal), name, sizeof name) ||
            !str_to_c(str_from(pair, (size_t)equal + 1), value, sizeof value))
            continue;
        json_object_set_new(values, name,
                            strcmp(name, "score") == 0 ? json_real(strtod(value, NULL))
                                                       : json_string(value));
    }
    return values;
}

/* Told before the step that found it. */
static void tell_finding(json_t *story, json_t *event)
{
    json_t *finding = json_object();
    json_object_set(finding, "name", json_object_get(event, "finding"));
    json_object_set_new(finding, "text", json_string(text_of(event, "detail")));
    json_array_append_new(member(story, "found", json_array), finding);
}

static void tell_step(json_t *story, json_t *event)
{
    json_t *step = without_frame(event);
    json_t *place;
    json_object_del(step, "event");
    json_object_del(step, "findings");
    if (json_object_get(step, "values"))
        json_object_set_new(step, "values", values_of(str_c(text_of(event, "values"))));
    json_t *found = json_object_get(story, "found");
    if (found)
        json_object_set(step, "findings", found);
    json_object_del(story, "found");
    if (is(event, "type", "recipient"))
        place = recipient_of(story, text_of(event, "rcpt"));
    else
        place =
            member(story, is(event, "type", "content") ? "content" : "authentication", json_object);
    json_array_append_new(member(place, "steps", json_array), step);
}

static void tell_recipient(json_t *story, json_t *event)
{
    static const char *const names[] = {"domain",   "flow",  "step",   "reason", "code",
                                        "enhanced", "reply", "detail", "ref"};
    json_t *recipient = recipient_of(story, text_of(event, "to"));
    const char *verdict = text_of(event, "event") + strlen("recipient.");
    copy(event, story, "from");
    json_object_set_new(recipient, "verdict",
                        json_string(strcmp(verdict, "accept") == 0  ? "accepted"
                                    : strcmp(verdict, "defer") == 0 ? "deferred"
                                                                    : "refused"));
    copy(event, recipient, "time");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        copy(event, recipient, names[i]);
}

static void tell_delivery(json_t *story, json_t *event)
{
    json_t *attempt = without_frame(event);
    json_t *stages = json_object();
    static const char *const names[] = {"queue_us", "limit_us",    "dns_us",     "connect_us",
                                        "tls_us",   "greeting_us", "transfer_us"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char stage[16];
        struct str name = str_c(names[i]);
        str_to_c(str_slice(name, 0, name.len - 3), stage, sizeof stage);
        json_t *value = json_object_get(attempt, names[i]);
        if (value)
            json_object_set(stages, stage, value);
        json_object_del(attempt, names[i]);
    }
    json_object_set_new(attempt, "stages_us", stages);
    json_object_set_new(attempt, "result",
                        json_string(text_of(event, "event") + strlen("delivery.")));
    json_array_append_new(member(recipient_of(story, text_of(event, "to")), "attempts", json_array),
                          attempt);
}

static void tell_event(json_t *story, json_t *event)
{
    struct str name = str_c(text_of(event, "event"));
    tell_session(story, event);
    if (str_equal(name, STR("flow.step"))) {
        tell_step(story, event);
    } else if (str_equal(name, STR("flow.finding"))) {
        tell_finding(story, event);
    } else if (str_starts(name, STR("recipient."))) {
        tell_recipient(story, event);
    } else if (str_starts(name, STR("delivery.")) && text_of(event, "to")[0]) {
        tell_delivery(story, event);
    } else if (!str_equal(name, STR("session.open")) && !str_equal(name, STR("session.tls")) &&
               !str_equal(name, STR("session.close"))) {
        json_array_append_new(member(story, "outcomes", json_array), without_frame(event));
    }
    if (str_equal(name, STR("message.accepted"))) {
        copy(event, story, "from");
        copy(event, story, "size");
        copy(event, story, "message_id");
        copy(event, story, "subject");
    }
}

/* The outcome that has the ref, behind what was told since the decision before: the limit that it
 * is about, the answer of a backend. */
static json_t *outcomes_of(json_t *all, const char *ref)
{
    json_t *some = json_array();
    size_t i;
    json_t *outcome;
    json_array_foreach(all, i, outcome)
    {
        json_array_append(some, outcome);
        if (is(outcome, "ref", ref))
            return some;
        if (text_of(outcome, "ref")[0] || is_decision(outcome))
            json_array_clear(some);
    }
    json_array_clear(some);
    return some;
}

/* Leave only what has the ref: a recipient, or an outcome with all that led to it. */
static void keep_ref(json_t *story, const char *ref)
{
    size_t i;
    json_t *recipient;
    json_t *outcomes = outcomes_of(json_object_get(story, "outcomes"), ref);
    json_array_foreach(json_object_get(story, "recipients"), i, recipient)
    {
        if (!is(recipient, "ref", ref))
            continue;
        json_t *only = json_pack("[O]", recipient);
        json_object_set_new(story, "recipients", only);
        json_object_del(story, "content");
        break;
    }
    json_object_set_new(story, "outcomes", outcomes);
}

static void explain(json_t *story)
{
    enum { WORDS_MAX = 64 * 1024 };
    struct buf words BUF_CLEANUP;
    buf_init(&words, WORDS_MAX);
    story_explain(story, &words);
    if (words.len)
        json_object_set_new(story, "explanation", json_stringn(words.ptr, words.len));
}

json_t *story_tell(json_t *events, struct mail_id id, const char *ref)
{
    json_t *story = json_object();
    json_t *first = json_array_get(events, 0);
    json_t *last = json_array_get(events, json_array_size(events) - 1);
    size_t i;
    json_t *event;
    const char *text = mail_id_text(id).chars;
    json_object_set_new(story, "id", json_string(text));
    json_object_set(story, "begin", json_object_get(first, "time"));
    json_object_set(story, "end", json_object_get(last, "time"));
    copy(last, story, "rev");
    copy(last, story, "node");
    json_array_foreach(events, i, event)
    {
        if (is(event, "message", text))
            json_object_set_new(story, "message", json_string(text));
        tell_event(story, event);
    }
    if (ref) {
        json_object_set_new(story, "ref", json_string(ref));
        keep_ref(story, ref);
    }
    explain(story);
    return story;
}
