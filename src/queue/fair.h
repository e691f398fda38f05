/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/fair.h - deficit round robin over senders: one who sends much delays himself only.
 *
 * Items are embedded. A sender has the turn for 16 messages or 1 MiB; what a large message took
 * over that is owed in the next turns. Who had more of the destination than others, on other
 * workers too (shares.h), comes after them.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"

enum { QUEUE_FAIR_MESSAGES = 16, QUEUE_FAIR_BYTES = 1 << 20 };

struct queue_shares;
struct queue_fair {
    struct map senders;
    struct list turns; /* senders with items, the first has the turn */
    size_t count;
    struct queue_shares *shares; /* what senders had elsewhere too; NULL: there is no other */
};
struct queue_fair_item {
    struct list link;
    struct queue_fair_sender *sender; /* NULL: not in a queue */
    uint64_t size;
};

void queue_fair_init(struct queue_fair *fair, struct queue_shares *shares);
/* Must be empty. */
void queue_fair_done(struct queue_fair *fair);
void queue_fair_add(struct queue_fair *fair, struct queue_fair_item *item, struct str key,
                    uint64_t size);
/* NULL when empty. */
struct queue_fair_item *queue_fair_next(struct queue_fair *fair);
/* Is there a sender who did not have more than others, elsewhere too? (Only some are looked at.) */
bool queue_fair_is_owed(const struct queue_fair *fair);
/* Call `look` for every item; none may come or go meanwhile. */
void queue_fair_each(const struct queue_fair *fair, void (*look)(struct queue_fair_item *item));
/* The queue that it is in, or NULL. */
struct queue_fair *queue_fair_of(const struct queue_fair_item *item);
/* No harm when it is in no queue. */
void queue_fair_remove(struct queue_fair *fair, struct queue_fair_item *item);
