/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/author.h - the domains in From (RFC 5322 3.6.2), read the way an attacker writes them.
 *
 * Mail programs differ in what they show of a From that breaks the rules. So a From is either
 * clear, with one domain that nobody can read otherwise, or it is not; then all domains that a
 * reader could see are listed.
 */
#pragma once

#include "base/arena.h"

enum { AUTHOR_DOMAINS_MAX = 8, AUTHOR_ADDRESSES_MAX = 32 };

enum author_kind {
    AUTHOR_CLEAR,     /* one field, all of its addresses in one domain */
    AUTHOR_NONE,      /* no field, or no address in it (an empty group) */
    AUTHOR_AMBIGUOUS, /* several fields or domains, or broken syntax */
};

struct author {
    enum author_kind kind;
    struct str domains[AUTHOR_DOMAINS_MAX]; /* lower-case A-labels, each once */
    size_t domain_count;
    struct str address;                         /* clear: the first address, "local@domain" */
    struct str addresses[AUTHOR_ADDRESSES_MAX]; /* clear: all of them */
    size_t address_count;
    const char *problem; /* ambiguous: why */
    bool cut;            /* likewise: there is more than is looked at */
};

/* `header` is a header section; texts live in `arena`. */
void author_read(struct str header, struct arena *arena, struct author *out);
/* One field's value, folded or not; what is in *out already counts too. */
void author_read_value(struct str value, struct arena *arena, struct author *out);
