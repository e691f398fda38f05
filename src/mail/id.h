/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/id.h - ULIDs that name sessions, messages and queue entries, and the short refs in replies.
 *
 * 48 bits of wall clock (ms) and 80 random bits, shown as 26 Crockford base-32 characters; letters
 * and digits only, sortable by time, never reused.
 */
#pragma once

#include "base/str.h"

struct mail_id {
    uint64_t high;
    uint64_t low;
};

enum { MAIL_ID_LEN = 26, MAIL_REF_LEN = 8 };

struct mail_id_text {
    char chars[MAIL_ID_LEN + 1];
};
struct mail_ref {
    char chars[MAIL_REF_LEN + 1]; /* "7KQ2M9XD" */
};

/* Ids made by one thread ascend. */
struct mail_id mail_id_new(void);
struct mail_id_text mail_id_text(struct mail_id id);
/* Case does not matter; I, L read as 1 and O as 0. */
bool mail_id_parse(struct str text, struct mail_id *out_id);
/* The first and the last id that begin so; `text` has up to as many characters as an id. False if
 * no id does. */
bool mail_id_prefix(struct str text, struct mail_id *out_first, struct mail_id *out_last);
bool mail_id_equal(struct mail_id a, struct mail_id b);
/* Milliseconds since 1970 when it was made. */
int64_t mail_id_time_ms(struct mail_id id);
struct mail_ref mail_ref_new(void);
