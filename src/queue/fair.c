/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/fair.c - deficit round robin.
 */
#include "queue/fair.h"

#include "base/check.h"
#include "base/memory.h"
#include "queue/shares.h"

#include <stdlib.h>

enum { LOOK_AT = 64 }; /* senders, so that a pick takes a bounded time */

struct queue_fair_sender {
    struct queue_fair *fair;
    struct queue_share *share;
    struct list link; /* in turns */
    struct list items;
    int64_t deficit; /* bytes it may still send in this turn; negative: owed */
    unsigned sent;   /* messages in this turn */
    struct str key;  /* behind the struct */
};

void queue_fair_init(struct queue_fair *fair, struct queue_shares *shares)
{
    fair->shares = shares;
    map_init(&fair->senders);
    list_init(&fair->turns);
    fair->count = 0;
}

void queue_fair_done(struct queue_fair *fair)
{
    check(fair->count == 0);
    map_done(&fair->senders);
}

static struct queue_fair_sender *find_sender(struct queue_fair *fair, struct str key)
{
    struct queue_fair_sender *sender = map_get(&fair->senders, key);
    if (sender != NULL)
        return sender;
    sender = memory_alloc(sizeof *sender + key.len);
    char *copy = (char *)(sender + 1);
    for (size_t i = 0; i < key.len; i++)
        copy[i] = key.ptr[i];
    sender->key = str_of(copy, key.len);
    sender->fair = fair;
    if (fair->shares != NULL)
        sender->share = queue_shares_join(fair->shares, key);
    sender->deficit = QUEUE_FAIR_BYTES;
    list_init(&sender->items);
    list_append(&fair->turns, &sender->link);
    map_put(&fair->senders, key, sender);
    return sender;
}

void queue_fair_add(struct queue_fair *fair, struct queue_fair_item *item, struct str key,
                    uint64_t size)
{
    check(item->sender == NULL);
    item->sender = find_sender(fair, key);
    item->size = size;
    list_append(&item->sender->items, &item->link);
    fair->count++;
}

struct queue_fair *queue_fair_of(const struct queue_fair_item *item)
{
    return item->sender == NULL ? NULL : item->sender->fair;
}

void queue_fair_remove(struct queue_fair *fair, struct queue_fair_item *item)
{
    struct queue_fair_sender *sender = item->sender;
    if (sender == NULL)
        return;
    list_remove(&item->link);
    item->sender = NULL;
    fair->count--;
    if (!list_is_empty(&sender->items))
        return;
    list_remove(&sender->link);
    map_remove(&fair->senders, sender->key);
    if (sender->share != NULL)
        queue_shares_leave(fair->shares, sender->share);
    free(sender);
}

static void end_turn(struct queue_fair *fair, struct queue_fair_sender *sender)
{
    sender->deficit += QUEUE_FAIR_BYTES;
    if (sender->deficit > QUEUE_FAIR_BYTES)
        sender->deficit = QUEUE_FAIR_BYTES; /* nothing is saved up */
    sender->sent = 0;
    list_remove(&sender->link);
    list_append(&fair->turns, &sender->link);
}

static bool is_ahead(const struct queue_fair_sender *sender)
{
    return sender->share != NULL && queue_share_is_ahead(sender->fair->shares, sender->share);
}

bool queue_fair_is_owed(const struct queue_fair *fair)
{
    size_t seen = 0;
    LIST_EACH (&fair->turns, turn) {
        if (!is_ahead(CONTAINER(turn, struct queue_fair_sender, link)))
            return true;
        if (++seen == LOOK_AT)
            break;
    }
    return false;
}

static struct queue_fair_sender *whose_turn(struct queue_fair *fair)
{
    size_t passed = 0, most = fair->senders.count < LOOK_AT ? fair->senders.count : LOOK_AT;
    for (;;) {
        struct queue_fair_sender *sender =
            CONTAINER(fair->turns.next, struct queue_fair_sender, link);
        if (sender->deficit <= 0 || sender->sent >= QUEUE_FAIR_MESSAGES) {
            end_turn(fair, sender);
        } else if (passed < most && is_ahead(sender)) {
            passed++; /* his turn waits; if all are ahead, none is passed over twice */
            list_remove(&sender->link);
            list_append(&fair->turns, &sender->link);
        } else {
            return sender;
        }
    }
}

struct queue_fair_item *queue_fair_next(struct queue_fair *fair)
{
    if (fair->count == 0)
        return NULL;
    struct queue_fair_sender *sender = whose_turn(fair);
    struct queue_fair_item *item = CONTAINER(sender->items.next, struct queue_fair_item, link);
    sender->sent++;
    sender->deficit -= (int64_t)item->size;
    if (sender->share != NULL)
        queue_shares_charge(fair->shares, sender->share, item->size);
    queue_fair_remove(fair, item);
    return item;
}

void queue_fair_each(const struct queue_fair *fair, void (*look)(struct queue_fair_item *item))
{
    LIST_EACH (&fair->turns, turn) {
        struct queue_fair_sender *sender = CONTAINER(turn, struct queue_fair_sender, link);
        LIST_EACH (&sender->items, link) {
            look(CONTAINER(link, struct queue_fair_item, link));
        }
    }
}
