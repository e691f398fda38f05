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

/* ---- between site.c, backoff.c and serve.c ---- */

/* Where the entry stands, or NULL. */
static inline struct queue_site *queue_site_of(const struct queue_entry *entry)
{
    struct queue_fair *ready = queue_fair_of(&entry->ready);
    return ready == NULL ? NULL : CONTAINER(ready, struct queue_site, ready);
}
/* Something went through. */
void queue_site_note_progress(struct queue_site *site);
/* Heed what operators said since the last look. */
void queue_site_steer(struct queue_site *site);
/* Forget it if nothing is there: the site may be gone. */
void queue_site_free_unused(struct queue_site *site);
/* The entry stands until the destination is probed. Cheap, for there may be many. */
void queue_site_wait_for_probe(struct queue_fair_item *item);
/* It does not any more: its retry is what comes next, not the clock. */
void queue_site_stop_waiting(struct queue_site *site, struct queue_entry *entry);
/* It stands until an operator lets it go. */
void queue_site_pause_entry(struct queue_fair_item *item);
/* Give those up whose time ran out meanwhile, in a fiber. */
void queue_site_refuse_over(struct queue_site *site);
