/* SPDX-License-Identifier: Apache-2.0 */
/* daemon/revise_tell.h - events of what revise.c decided, and the state they speak of. */
#pragma once

#include "admin/revisions.h"
#include "event/event.h"

struct child;

/* Zero where no revisions are kept. */
struct revisions_state revise_state(const struct child *child);

/* An event about a revision. */
void revise_tell(enum event_type type, unsigned number, struct str actor, struct str reason);
/* A share of the clients gets the revision that waits for its confirmation. */
void revise_tell_shared(const struct child *child, struct str actor, struct str reason);
/* What is in force now, and what was before. */
void revise_tell_applied(struct child *child, struct str actor, struct str reason);
