/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/header.h - the fields of a header section (RFC 5322): walk, find, change.
 *
 * One parse serves everybody: a field begins at the start of a line that is not folded; the
 * section ends at the first empty line. Bytes are kept as they came.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct mail_content;

struct mail_field {
    struct str raw;   /* with its final CRLF */
    struct str name;  /* without trailing blanks before the colon; empty for a line that is none */
    struct str value; /* behind the colon, still folded, without the final CRLF */
};

/* Length of the header section in `text` including the empty line's CRLF, or 0 if its end is not
 * in `text`. A message without a body may end with the last field. */
size_t mail_header_length(struct str text);
/* Next field of `*rest`, a header section; false at its end. */
bool mail_header_next(struct str *rest, struct mail_field *out_field);
/* First field of that name (ASCII case does not matter). */
bool mail_header_find(struct str header, struct str name, struct mail_field *out_field);
/* Name and value as a careless program may read them: blanks, folds and control characters around
 * the name are passed over ("From\r\n : x"). False if there is no colon. For whoever must see what
 * others could see. */
bool mail_field_loosely(const struct mail_field *field, struct str *out_name,
                        struct str *out_value);
/* Value unfolded and trimmed, in `arena`. */
struct str mail_field_text(struct arena *arena, const struct mail_field *field);
size_t mail_header_count(struct str header, struct str name);
