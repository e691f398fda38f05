/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/draft.h - writing a signature's field: tags, folded, with a hole for b= that is filled
 * once the rest is signed.
 */
#pragma once

#include "base/buf.h"
#include "content/canon.h"
#include "crypto/sign.h"

struct draft {
    struct buf before; /* up to and with "b=" */
    struct buf after;
    bool has_hole;
    bool one_line; /* b= is not folded: what is sealed later has no blanks inside of a word */
    size_t column;
    size_t tags;
};
void draft_open(struct draft *draft, struct str field_name);
void draft_close(struct draft *draft);

void draft_tag(struct draft *draft, const char *name, struct str value);
/* h=: `names` are joined with colons, where long lines may be folded. */
void draft_names(struct draft *draft, const struct str *names, size_t count);
/* b=. */
void draft_hole(struct draft *draft);
/* Add the draft itself to what `sink` has taken, sign that, and give the whole field, with its
 * CRLF, in `arena`. */
enum result draft_sign(struct draft *draft, enum dkim_canon canon, struct canon_sink *sink,
                       const struct sign_key *key, struct arena *arena, struct str *out_field,
                       struct error *err);
