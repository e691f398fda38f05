/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/list.h - lists of the API, page after page, and what --json and --plain make of things.
 */
#pragma once

#include "ctl/ctl.h"

struct ctl_list {
    const char *path;   /* with its query, but limit and cursor */
    const char *schema; /* name of an item's in admin/schemas.c: its order is that of --plain */
    const char *limit;  /* of the command line; NULL: all there is */
    bool uncounted;     /* the API knows no total of it */
    void (*print)(json_t *item);               /* for a person; NULL: nothing is shown to anybody */
    void (*look)(json_t *item, void *context); /* each item, too; NULL: nobody */
    void *context;
};
struct ctl_listed {
    size_t shown;
    bool more;            /* the limit left some out */
    long long total;      /* when there was a limit, for a person */
    json_t *first, *last; /* pages, for what stands beside their items */
};
/* GET all pages and show their items, with a warning while not all is there. CTL_YES: *out is
 * filled, and to be freed; else an exit code, and nothing is. */
int ctl_list(struct ctl *ctl, const struct ctl_list *list, struct ctl_listed *out);
void ctl_listed_free(struct ctl_listed *listed);
/* "5 of 12 shown"; in the arena. */
const char *ctl_list_count(struct ctl *ctl, const struct ctl_listed *listed);

/* One thing, as --json or --plain say; either sets ctl->json. */
void ctl_print(const struct ctl *ctl, json_t *object);
/* A text that a command makes, for a program: {NAME: VALUE, "text": …}. */
void ctl_print_page(const struct ctl *ctl, const char *name, const char *value, struct str text);
/* The answer to a change, for a program, or of a dry run for anybody; false: it was a change, and a
 * person wants to hear of it in words. */
bool ctl_print_change(const struct ctl *ctl, json_t *answer);
/* One of a list; without a schema --plain has all of its members in their order. */
void ctl_print_item(const struct ctl *ctl, json_t *item, const char *schema);
