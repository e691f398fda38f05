/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/header_edit.h - a header section as a list of fields, changed by place as others saw it.
 *
 * What another program says about "the second Subject" is about the fields that it was shown: our
 * own Received is not, and places count on while fields are taken out. Nothing gets above our
 * trace fields, and no value becomes a field of its own.
 */
#pragma once

#include "flow/flow_internal.h"
#include "mail/header.h"

struct header_slot {
    struct mail_field field;
    bool hidden; /* a trace field of ours that others need not see */
    bool gone;
};
struct header_edit {
    struct arena *arena;
    struct header_slot *slots;
    size_t count, cap;
    size_t own_begin; /* index of the first that is no trace field of ours */
    size_t old_own_len;
    struct str end; /* the empty line, or what stands behind the last field */
    bool has_8bit;  /* a value put in has bytes over 127 */
};

/* The section in force. Nothing changes before header_edit_commit(). */
void header_edit_begin(struct header_edit *edit, const struct flow_running *running);
/* Fields that others are shown, in order. In the arena. */
void header_edit_shown(const struct header_edit *edit, struct mail_field **out, size_t *out_count);

/* Values may be folded, with LF or CRLF; `has_blank`: with the blank behind the colon. Control
 * characters become "?". FAILED with ERROR_LIMIT: a line is over 998 bytes. */

/* Before the field at `place` (from 1; 0 is 1), at the end if there are not so many. */
enum result header_edit_insert(struct header_edit *edit, uint32_t place, struct str name,
                               struct str value, bool has_blank, struct error *err);
enum result header_edit_add(struct header_edit *edit, struct str name, struct str value,
                            bool has_blank, struct error *err);
/* The field `place` (from 1; 0 is 1) of that name; an empty value takes it out. One that is not
 * there is added. */
enum result header_edit_change(struct header_edit *edit, uint32_t place, struct str name,
                               struct str value, bool has_blank, struct error *err);
/* All of that name below our trace fields. */
void header_edit_remove(struct header_edit *edit, struct str name);

/* Make it the message's. FAILED with ERROR_LIMIT: it is over 4 MiB. */
enum result header_edit_commit(const struct header_edit *edit, struct flow_running *running,
                               struct error *err);
