/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/selector.h - "to:@example.org reason:relay_denied today": what find and tail choose by.
 *
 * Terms stand between blanks and must all hold; a value with blanks stands in double quotes. A
 * story fits when each term fits one of its events; a live event when all fit it alone.
 */
#pragma once

#include "admin/store.h"
#include "base/arena.h"

enum { SELECTOR_TERMS_MAX = 16 };

enum selector_kind {
    SELECTOR_FIELD,    /* `key` has the text; "@x" is the domain of an address */
    SELECTOR_VERDICT,  /* by the event's type */
    SELECTOR_EVENT,    /* the event's name, or its beginning */
    SELECTOR_SEVERITY, /* at least */
    SELECTOR_WORD,     /* anywhere in a text */
};

struct selector_term {
    enum selector_kind kind;
    enum event_key key;
    int severity;
    struct str text;
};
struct selector {
    struct selector_term terms[SELECTOR_TERMS_MAX];
    size_t count;
    struct store_range range; /* since, until, today, yesterday, older, younger */
    bool has_range;
};

/* Texts in `arena`. FAILED says in `err` which word is wrong and what there is. */
enum result selector_parse(struct str text, struct arena *arena, struct selector *out,
                           struct error *err);
bool selector_term_fits(const struct selector_term *term, const struct event *event);
bool selector_fits(const struct selector *selector, const struct event *event);
/* The most selective word of the index among the terms; 0 without. */
uint64_t selector_word(const struct selector *selector);
/* "delivered", as in `verdict:`; NULL for an event that decides nothing. */
const char *selector_verdict(enum event_type type);
