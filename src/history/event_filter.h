/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history/event_filter.h - "to:@example.org reason:relay_denied today": what find and tail choose
 * by.
 *
 * Terms stand between blanks and must all hold; a value with blanks stands in double quotes. A
 * story fits when each term fits one of its events; a live event when all fit it alone.
 */
#pragma once

#include "history/store.h"
#include "base/arena.h"

enum { EVENT_FILTER_TERMS_MAX = 16 };

enum event_term_kind {
    EVENT_TERM_FIELD,    /* `key` has the text; "@x" is the domain of an address */
    EVENT_TERM_VERDICT,  /* by the event's type */
    EVENT_TERM_EVENT,    /* the event's name, or its beginning */
    EVENT_TERM_SEVERITY, /* at least */
    EVENT_TERM_WORD,     /* anywhere in a text */
    /* of words without a key (event_guess.h): */
    EVENT_TERM_ID,      /* of a message, session or entry, or its beginning */
    EVENT_TERM_ADDRESS, /* a sender's, recipient's, user's; a Message-ID */
    EVENT_TERM_DOMAIN,  /* of a sender's or recipient's address */
};

struct event_term {
    enum event_term_kind kind;
    enum event_key key;
    int severity;
    struct str text;
    const char *as; /* of a word without a key: what it was taken for; else NULL */
};
struct event_filter {
    struct event_term terms[EVENT_FILTER_TERMS_MAX];
    size_t count;
    struct store_range range; /* since, until, today, yesterday, older, younger */
};

/* Texts in `arena`. FAILED says in `err` which word is wrong and what there is. */
enum result event_filter_parse(struct str text, struct arena *arena, struct event_filter *out,
                               struct error *err);
/* Take words without a key that were something else for parts of any text; false: there are none.
 */
bool event_filter_loosen(struct event_filter *filter);
/* A key whose text fits when what was asked for is a part of it. */
bool event_filter_takes_part(enum event_key key);
bool event_term_fits(const struct event_term *term, const struct event *event);
bool event_filter_fits(const struct event_filter *filter, const struct event *event);
/* The terms that the index knows, those that are likely the most selective first; how many. */
size_t event_filter_index(const struct event_filter *filter,
                          struct store_term out[EVENT_FILTER_TERMS_MAX]);
/* A text that stands in each story that fits, for store_scan(), the longest there is; empty: none
 * is known. */
struct str event_filter_text(const struct event_filter *filter);
/* An id among the terms is the story itself, unless it is a session's or an entry's: searches give
 * it before all others. */
bool event_filter_names(const struct event_filter *filter, struct mail_id *out_id);
/* Ids of the stories that may fit (look at them), newest first, until `take`
 * says false. Without a term that the index knows, at most so many bytes are looked through: then
 * the time up to which it came back is returned, in ms since 1970, else 0. */
int64_t event_filter_search(const struct event_filter *filter, struct store_reader *reader,
                            uint64_t bytes_max, bool (*take)(struct mail_id id, void *arg),
                            void *arg);
/* "delivered", as in `verdict:`; NULL for an event that decides nothing. */
const char *event_filter_verdict(enum event_type type);
