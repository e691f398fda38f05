/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/selections.h - frozen selections: which entries of the queue somebody looked at, so that an
 * order acts on exactly these and on none that came since.
 *
 * In memory, for some minutes, and bounded; the oldest make room. Any thread.
 */
#pragma once

#include "base/arena.h"
#include "mail/id.h"

struct selections;

enum { SELECTIONS_MAX = 32, SELECTION_IDS_MAX = 1000000, SELECTION_MINUTES = 15 };

struct selections *selections_new(void);
void selections_free(struct selections *selections); /* NULL is allowed */

/* Keep a copy. False: more than SELECTION_IDS_MAX. *out_expires_ns: wall clock. */
bool selections_keep(struct selections *selections, const struct mail_id *ids, size_t count,
                     struct mail_id *out_name, int64_t *out_expires_ns);
/* Its ids in `arena`; false: there is none of that name any more. */
bool selections_find(struct selections *selections, struct mail_id name, struct arena *arena,
                     struct mail_id **out_ids, size_t *out_count, int64_t *out_expires_ns);
