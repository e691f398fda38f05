/* SPDX-License-Identifier: Apache-2.0 */
/* history/event_search.c - from an expression to the stories that may fit it. */
#include "history/event_filter.h"

#include "history/event_guess.h"

#include <string.h>

/* ---- the index ---- */

static bool term_fits_type(const struct event_term *term, enum event_type type)
{
    const struct event event = {.type = type};
    return event_term_fits(term, &event);
}

/* Every type of event that fits, when the index has them all. */
static bool index_types(const struct event_term *term, struct store_term *out)
{
    for (int i = 0; i < EVENT_TYPE_COUNT; i++) {
        if (!term_fits_type(term, (enum event_type)i))
            continue;
        uint64_t word = store_event_word((enum event_type)i);
        if (!word || out->count == STORE_WORDS_MAX)
            return false;
        out->words[out->count++] = word;
    }
    out->is_recent = true;
    return true;
}

static bool index_field(const struct event_term *term, struct store_term *out)
{
    enum event_key key = term->key;
    bool domain = term->text.len && term->text.ptr[0] == '@';
    if (term->text.len == 0 || !store_is_indexed(key))
        return false;
    if (domain && key != KEY_TO && key != KEY_RCPT && key != KEY_FROM)
        return false;
    if (key == KEY_REASON && str_equal_nocase(term->text, STR("none")))
        return false;
    if (key == KEY_DOMAIN)
        return false; /* there those of addresses; the field is the domain that the gateway chose */
    if (key == KEY_MESSAGE_ID)
        return event_guess_index_message_id(term->text, out);
    *out = (struct store_term){.count = 1, .is_recent = key == KEY_REASON};
    out->words[0] =
        domain ? store_word(KEY_DOMAIN, str_from(term->text, 1)) : store_word(key, term->text);
    return true;
}

/* The smaller, the fewer stories are likely to have it. */
static int rank(const struct event_term *term)
{
    static const enum event_key order[] = {KEY_REF,  KEY_MESSAGE_ID, KEY_SESSION, KEY_ENTRY,
                                           KEY_TO,   KEY_RCPT,       KEY_USER,    KEY_CLIENT,
                                           KEY_FROM, KEY_REASON};
    enum { KEYS = sizeof order / sizeof *order };
    if (term->kind == EVENT_TERM_ID)
        return 0;
    if (term->kind == EVENT_TERM_ADDRESS)
        return 4; /* as to: */
    if (term->kind == EVENT_TERM_DOMAIN)
        return KEYS + 1;
    if (term->kind != EVENT_TERM_FIELD)
        return KEYS;
    if (term->text.len && term->text.ptr[0] == '@')
        return KEYS + 1;
    for (int i = 0; i < KEYS; i++) {
        if (order[i] == term->key)
            return i;
    }
    return KEYS + 1;
}

static bool index_term(const struct event_term *term, struct store_term *out)
{
    switch (term->kind) {
    case EVENT_TERM_FIELD:
        return index_field(term, out);
    case EVENT_TERM_ID:
    case EVENT_TERM_ADDRESS:
    case EVENT_TERM_DOMAIN:
        return event_guess_index(term, out);
    default:
        return index_types(term, out);
    }
}

size_t event_filter_index(const struct event_filter *filter,
                          struct store_term out[EVENT_FILTER_TERMS_MAX])
{
    enum { RANKS = 12 };
    size_t count = 0;
    for (int at = 0; at < RANKS; at++) {
        for (size_t i = 0; i < filter->count; i++) {
            const struct event_term *term = &filter->terms[i];
            if (rank(term) != at || term->kind == EVENT_TERM_WORD)
                continue;
            out[count] = (struct store_term){0};
            count += index_term(term, &out[count]);
        }
    }
    return count;
}

/* Numbers and truth do not stand in a row as they are written here. */
static bool is_plain_text(struct str text)
{
    uint64_t number;
    return text.len && !str_to_uint(text, UINT64_MAX, &number) && !str_equal(text, STR("true")) &&
           !str_equal(text, STR("false"));
}

struct str event_filter_text(const struct event_filter *filter)
{
    struct str longest = STR_EMPTY;
    for (size_t i = 0; i < filter->count; i++) {
        const struct event_term *term = &filter->terms[i];
        bool is_text = term->kind == EVENT_TERM_WORD ||
                       (term->kind == EVENT_TERM_FIELD &&
                        (event_filter_takes_part(term->key) || is_plain_text(term->text)));
        if (is_text && term->text.len > longest.len)
            longest = term->text;
    }
    return longest;
}

/* ---- what is looked at ---- */

/* A word that begins an id, or is one, is of that time; what names a session or an entry is found
 * by the index. */
static struct store_range range_of(const struct event_filter *filter)
{
    struct store_range range = filter->range;
    for (size_t i = 0; i < filter->count; i++) {
        const struct event_term *term = &filter->terms[i];
        struct mail_id first;
        struct mail_id last;
        if (term->kind != EVENT_TERM_ID || term->text.len == MAIL_ID_LEN ||
            !mail_id_prefix(term->text, &first, &last))
            continue;
        if (range.since_ms < mail_id_time_ms(first))
            range.since_ms = mail_id_time_ms(first);
        if (range.until_ms > mail_id_time_ms(last))
            range.until_ms = mail_id_time_ms(last);
    }
    return range;
}

bool event_filter_names(const struct event_filter *filter, struct mail_id *out_id)
{
    for (size_t i = 0; i < filter->count; i++) {
        const struct event_term *term = &filter->terms[i];
        bool is_id = term->kind == EVENT_TERM_ID ||
                     (term->kind == EVENT_TERM_FIELD && term->key == KEY_MESSAGE);
        if (is_id && mail_id_parse(term->text, out_id))
            return true;
    }
    return false;
}

/* The rest, without the story that the id named. */
struct others {
    struct mail_id named;
    bool (*take)(struct mail_id id, void *arg);
    void *arg;
};

static bool take_other(struct mail_id id, void *arg)
{
    const struct others *others = arg;
    return mail_id_equal(id, others->named) || others->take(id, others->arg);
}

int64_t event_filter_search(const struct event_filter *filter, struct store_reader *reader,
                            uint64_t bytes_max, bool (*take)(struct mail_id id, void *arg),
                            void *arg)
{
    struct store_term terms[EVENT_FILTER_TERMS_MAX];
    struct others others = {.take = take, .arg = arg};
    struct store_range range = range_of(filter);
    struct str text = event_filter_text(filter);
    if (event_filter_names(filter, &others.named) && !take(others.named, arg))
        return 0;
    size_t count = event_filter_index(filter, terms);
    if (count == 0 && text.len)
        return store_scan(reader, text, range, bytes_max, take_other, &others);
    store_search(reader, terms, count, range, take_other, &others);
    return 0;
}
