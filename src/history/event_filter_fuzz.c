/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/event_filter_fuzz.c - a line as an expression of find, the rest as what an event says:
 * whatever fits has in one of its texts what store_scan() would look for, else find would miss it.
 */
#include "history/event_filter.h"

#include "history/store_text.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_event(struct str texts, struct event *out)
{
    static const enum event_key keys[] = {KEY_MESSAGE, KEY_FROM,  KEY_TO,      KEY_MESSAGE_ID,
                                          KEY_SUBJECT, KEY_REPLY, KEY_VALUES,  KEY_CLIENT,
                                          KEY_USER,    KEY_HELO,  KEY_FINDING, KEY_REF};
    struct str line;
    *out = (struct event){.type = EVENT_MESSAGE_REJECTED};
    for (size_t i = 0; i < sizeof keys / sizeof *keys && str_split(&texts, '\n', &line); i++)
        out->fields[out->count++] =
            (struct event_field){.key = keys[i], .kind = EVENT_VALUE_STR, .text = line};
    out->fields[out->count++] = F_INT(CODE, 550);
    out->fields[out->count++] = F_BOOL(OBSERVED, true);
}

static bool stands_in(struct str text, const struct event *event)
{
    struct store_text wanted;
    store_text_init(&wanted, text);
    for (unsigned i = 0; i < event->count; i++) {
        if (event->fields[i].kind == EVENT_VALUE_STR &&
            store_text_is_in(&wanted, event->fields[i].text))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str rest = str_of((const char *)data, size);
    struct str line = STR_EMPTY;
    struct arena *arena = arena_new(0);
    struct store_term terms[EVENT_FILTER_TERMS_MAX];
    struct event_filter filter;
    struct event event;
    struct error err;
    (void)str_split(&rest, '\n', &line);
    make_event(rest, &event);
    if (event_filter_parse(line, arena, &filter, &err) == OK) {
        do {
            check(event_filter_index(&filter, terms) <= filter.count);
            struct str text = event_filter_text(&filter);
            if (event_filter_fits(&filter, &event) && text.len)
                check(stands_in(text, &event));
        } while (event_filter_loosen(&filter));
    }
    arena_free(arena);
    return 0;
}
