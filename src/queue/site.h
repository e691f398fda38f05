/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/site.h - what one worker does about one destination. See worker.h for its data.
 */
#pragma once

#include "queue/settle.h"

/* Something changed (mail came, a lease may be free): see that runners run. */
void queue_site_kick(struct queue_site *site);
/* Serve one entry; true when the destination was reached. The entry may be gone. */
bool queue_site_serve(struct queue_site *site, struct queue_entry *entry,
                      struct queue_connection *connection) MAY_YIELD;
/* Its time ran out while its destination was backed off: the retry that was due is an attempt that
 * ends with `error`. */
void queue_site_refuse(struct queue_entry *entry, const struct error *error) MAY_YIELD;
