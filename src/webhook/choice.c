/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/choice.h"

#include <string.h>

#define OWN_FAMILY STR("webhook.")

static struct str name_of(int type)
{
    return str_c(event_name((enum event_type)type));
}

static bool is_own(int type)
{
    return str_starts(name_of(type), OWN_FAMILY);
}

static bool is_debug(int type)
{
    return event_severity((enum event_type)type) == EVENT_DEBUG;
}

enum webhook_word webhook_choice_add(struct webhook_choice *choice, struct str word)
{
    bool all = str_equal(word, STR("*"));
    bool family = !all && str_ends(word, STR(".*"));
    struct str beginning = family ? str_slice(word, 0, word.len - 1) : STR_EMPTY;
    enum webhook_word found = WEBHOOK_WORD_UNKNOWN;
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        struct str name = name_of(type);
        bool fits = all      ? !is_debug(type)
                    : family ? beginning.len > 1 && str_starts(name, beginning)
                             : str_equal(name, word);
        if (!fits)
            continue;
        if (is_own(type)) {
            found = found == WEBHOOK_WORD_TAKEN ? found : WEBHOOK_WORD_OF_OWN;
            continue;
        }
        choice->wants[type] = true;
        found = WEBHOOK_WORD_TAKEN;
    }
    return found;
}

/* Does it name an event, so that debug ones may be meant? */
static bool names_event(const struct event_filter *filter)
{
    for (size_t i = 0; i < filter->count; i++)
        if (filter->terms[i].kind == EVENT_TERM_EVENT)
            return true;
    return false;
}

/* What the type alone decides is decided here, once. */
static bool can_fit(const struct event_filter *filter, int type)
{
    const struct event bare = {.type = (enum event_type)type};
    for (size_t i = 0; i < filter->count; i++) {
        const struct event_term *term = &filter->terms[i];
        bool by_type = term->kind == EVENT_TERM_VERDICT || term->kind == EVENT_TERM_EVENT ||
                       term->kind == EVENT_TERM_SEVERITY;
        if (by_type && !event_term_fits(term, &bare))
            return false;
    }
    return true;
}

enum result webhook_choice_filter(struct webhook_choice *choice, struct str expression, bool alone,
                                  struct arena *arena, struct error *err)
{
    if (event_filter_parse(expression, arena, &choice->filter, err) != OK)
        return FAILED;
    struct event_filter plain;
    if (event_filter_parse(STR_EMPTY, arena, &plain, err) != OK)
        return FAILED;
    const struct store_range *range = &choice->filter.range;
    if (range->since_ms != plain.range.since_ms || range->until_ms != plain.range.until_ms)
        return fail(err, ERROR_PERMANENT,
                    "a time (since, until, today …) has no meaning for what is to come");
    if (choice->filter.count == 0)
        return fail(err, ERROR_PERMANENT, "the expression is empty");
    bool debug = names_event(&choice->filter);
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        if (alone)
            choice->wants[type] = !is_own(type) && (debug || !is_debug(type));
        choice->wants[type] = choice->wants[type] && can_fit(&choice->filter, type);
    }
    return OK;
}

/* That webhooks lost events is none of theirs. */
static bool tells_of_own_loss(const struct event *event)
{
    for (unsigned i = 0; event->type == EVENT_TRACE_LOST && i < event->count; i++)
        if (event->fields[i].key == KEY_SINK && event->fields[i].kind == EVENT_VALUE_STR &&
            str_equal(event->fields[i].text, STR("webhooks")))
            return true;
    return false;
}

bool webhook_choice_fits(const struct webhook_choice *choice, const struct event *event)
{
    return choice->wants[event->type] && !tells_of_own_loss(event) &&
           event_filter_fits(&choice->filter, event);
}

const struct str *webhook_choice_names(struct arena *arena, size_t *out_count)
{
    struct str *names = arena_alloc_array(arena, 2 * EVENT_TYPE_COUNT + 1, sizeof *names);
    size_t count = 0;
    for (int type = 0; type < EVENT_TYPE_COUNT; type++) {
        struct str name = name_of(type);
        if (is_own(type))
            continue;
        ptrdiff_t dot = str_find(name, '.');
        struct str family = str_slice(name, 0, (size_t)dot + 1);
        bool is_first = type == 0 || !str_starts(name_of(type - 1), family);
        names[count++] = name;
        if (is_first)
            names[count++] = arena_printf(arena, "%.*s*", STR_ARG(family));
    }
    *out_count = count;
    return names;
}
