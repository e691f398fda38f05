/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/tags.h - lists of tag=value (RFC 6376 3.2), as signatures, seals and key records are.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"

enum { TAGS_MAX = 32 };

struct tag {
    struct str name;
    struct str value; /* without blanks around it; folding inside is kept */
    struct str whole; /* all between "=" and ";" */
};
struct tags { /* slices of the text that was parsed */
    struct tag items[TAGS_MAX];
    size_t count;
};

/* False, and *out_fault says why, for a list that is none: a name twice, no "=", an octet that may
 * not stand there (NUL above all), too many tags. Names are compared with case. */
bool tags_parse(struct str text, struct tags *out, const char **out_fault);
/* NULL if it is not there. */
const struct tag *tags_find(const struct tags *tags, struct str name);
/* The value, or empty. */
struct str tags_value(const struct tags *tags, struct str name);

/* ---- values ---- */

/* Without any blanks and folding; in `arena`. */
struct str tags_pack(struct arena *arena, struct str value);
/* base64 with blanks anywhere (RFC 6376 2.10). */
bool tags_base64(struct str value, struct buf *out);
/* Next part of `*rest` between colons, trimmed; false at the end. As str_split. */
bool tags_next_part(struct str *rest, struct str *out_part);
/* Is `word` one of the parts between colons? Without case. */
bool tags_list_has(struct str list, struct str word);
