/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/selection.h - which mail a command of the queue or the quarantine means, and verbs on it.
 */
#pragma once

#include "ctl/ctl.h"

enum { SELECTION_QUEUE = 1, SELECTION_QUARANTINE = 2, SELECTION_BOTH = 3 };

struct selector {
    const char *option; /* "--to" */
    const char *value;  /* what stands behind it, as help names it */
    const char *text;   /* what fits */
    unsigned of;
};
extern const struct selector selection_selectors[]; /* ends with a NULL option */

/* Whose selectors a command takes: 0, SELECTION_QUEUE or SELECTION_QUARANTINE. */
unsigned selection_kind_of(const struct ctl_command *command);
/* Take those of the running command out of its arguments: an object of texts, to be freed. */
json_t *selection_take(struct ctl *ctl);

/* For a list: --limit apart from the others; NULL: there is none. */
const char *selection_take_limit(struct ctl *ctl, json_t *selectors);

/* What verbs act on. */
struct selection {
    const char *actions; /* path of the API */
    const char
        *selections; /* where what is selected is kept while a person thinks; NULL: nowhere */
    const char *one, *many; /* "entry", "entries" */
    const char *where;      /* " in quarantine", as the question says it */
    void (*print_item)(json_t *item);
};

/*
 * The body of an action on a selection: takes --reason, --expect, --all, --dry-run and an id out of
 * the arguments. `object` (the selectors) is taken. `out_ask`: a person should be asked first.
 * NULL: it makes no sense, and that was said.
 */
json_t *selection_take_action(struct ctl *ctl, const char *verb, json_t *object, bool final,
                              bool *out_ask);
/* Give the order, say what came of it; the exit code. `body` is taken. */
int selection_act(struct ctl *ctl, const struct selection *what, const char *verb, json_t *body,
                  bool ask);
