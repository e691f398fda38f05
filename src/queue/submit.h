/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/submit.h - groups of recipients become entries.
 */
#pragma once

#include "queue/unit.h"

/* Entries of one destination and at most QUEUE_RECIPIENTS_MAX recipients each (a single one while a
 * content run is due). `meta` gives all but transport, flow and recipients. `fresh`: they count for
 * back-pressure until they were tried. */
void queue_plan_group(struct queue_unit *unit, const struct queue_snapshot *snapshot,
                      const struct queue_meta *meta, const struct queue_group *group, bool fresh);
/* Does what makes an entry of each group fit into a record of the spool? */
bool queue_groups_fit(const struct queue_meta *meta, const struct queue_group *groups,
                      size_t count);
