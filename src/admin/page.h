/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/page.h - lists in pages: `?limit`, `?cursor`, `?count=exact`, `?sort`, and {items, next}.
 *
 * Each item of a list has a key, unique and in the list's order. A cursor is the key of the last
 * item shown, so what comes and goes meanwhile moves nothing: an item that is there all the time is
 * seen once. Clients take it as it is; it says of which list it is, and another one is a 400.
 */
#pragma once

#include "admin/http.h"
#include "history/store.h"
#include "mail/id.h"

enum {
    ADMIN_PAGE_MAX = 1000, /* items; a greater limit gives these and a cursor */
    ADMIN_PAGE_KEY_MAX = 4096,
};

struct admin_page {
    const char *list; /* static */
    const char *sort; /* one of those allowed, static; "" where there is no choice */
    size_t limit;
    struct str after; /* a key; empty: from the beginning */
    bool counts;      /* the total is asked for */

    /* what was found; see admin_page_rows and admin_page_ids */
    struct str last; /* key of the last item of this page */
    bool more;
    size_t total;
};

/* The key that a cursor of this list and order leads on behind; false: it is none. */
bool admin_cursor_read(struct str cursor, const char *list, const char *sort, struct arena *arena,
                       struct str *out_key);
/* Read the query; `limit` is the default. `sorts`: names, the default first, ends with NULL; NULL:
 * no choice. False: the answer is a problem. */
bool admin_page_read(const struct admin_request *request, const char *list, size_t limit,
                     const char *const *sorts, struct admin_page *out, struct admin_answer *answer);

struct admin_row {
    struct str key;
    const void *item;
};
/* Put all rows of a list in order by their keys, and tell which are on the page: from *out_begin,
 * so many. */
size_t admin_page_rows(struct admin_page *page, struct admin_row *rows, size_t count,
                       size_t *out_begin);
/* The same for an array of objects, in the order of a member: those that are on the page. */
json_t *admin_page_objects(struct admin_page *page, struct arena *arena, json_t *all,
                           const char *member);
/* For a list by ids that is found page by page: the id to go on behind (zero: none), and what came
 * of it. False: the cursor is none of ids, and the answer is a problem. */
bool admin_page_after_id(const struct admin_page *page, struct mail_id *out_after,
                         struct admin_answer *answer);
/* For lists with the newest first: is it behind `after` (zero: always)? And the range where such
 * are. */
bool admin_page_is_older(struct mail_id id, struct mail_id after);
void admin_page_narrow(struct store_range *range, struct mail_id after);
void admin_page_ids(struct admin_page *page, struct arena *arena, struct mail_id last, bool more);

/* {"items", "next"}, and "total" where it was asked for; items are taken. */
json_t *admin_page_json(const struct admin_page *page, json_t *items);
/* The same for a list within an object. */
json_t *admin_page_next(const struct admin_page *page);
/* So that greater numbers come first: a key of fixed length, in the arena. */
struct str admin_page_falling(struct arena *arena, uint64_t number);
