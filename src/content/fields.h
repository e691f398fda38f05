/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/fields.h - the fields of a header section by name, counted from the bottom up, as h= of
 * a signature takes them (RFC 6376 5.4.2).
 */
#pragma once

#include "base/map.h"
#include "mail/header.h"

enum { FIELDS_NONE = -1 };

struct fields_entry {
    struct mail_field field;
    int above; /* the next field of this name above, or FIELDS_NONE */
};
struct fields_group; /* the fields of one name */
struct fields {
    struct arena *arena;
    struct map groups;
    struct fields_entry *entries; /* from the top down */
    int count;
    unsigned turn;
};

/* Slices of `header`, in `arena`; lines that are no fields are left out. */
void fields_init(struct fields *fields, struct arena *arena, struct str header);
void fields_done(struct fields *fields);

/* Start taking from the bottom again. */
void fields_restart(struct fields *fields);
/* The lowest field of that name that was not taken yet; NULL: none is left. */
const struct mail_field *fields_take(struct fields *fields, struct str name);
/* How many there are. */
int fields_count(const struct fields *fields, struct str name);
