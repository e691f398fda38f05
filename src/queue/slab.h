/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/slab.h - memory of what there is one of for every message that waits.
 *
 * Items of one size lie side by side in blocks of their own: nothing stands between them, mail that
 * comes and goes does not tear holes around those that stay, and a number of 32 bits names each.
 * Belongs to one worker.
 */
#pragma once

#include "base/list.h"

#include <stdint.h>

enum { QUEUE_SLAB_CLASSES = 192, QUEUE_SLAB_NUMBERS = 1 << 30 /* 8 GiB of items */ };

struct queue_slab_block;
struct queue_slab {
    void *owner;
    struct queue_slab_block **blocks; /* by number; NULL: gone */
    uint32_t block_count;
    uint32_t block_cap;
    uint32_t unused; /* no block with a lower number is gone */
    uint32_t spare;  /* blocks without items */
    size_t items;
    struct list open[QUEUE_SLAB_CLASSES]; /* blocks with room, by size of their items */
};

/* Must stay where it is. */
void queue_slab_init(struct queue_slab *slab, void *owner);
/* All items must have been given back. */
void queue_slab_done(struct queue_slab *slab);
/* Blocks that wait for items to come go back; for a quiet moment. */
void queue_slab_settle(struct queue_slab *slab);
/* Zeroed, aligned to 8. */
[[nodiscard]] void *queue_slab_take(struct queue_slab *slab, size_t size);
void queue_slab_give(void *item);
/* Never 0, less than QUEUE_SLAB_NUMBERS; the item's until it is given back. So it is for what
 * stands in an item at a multiple of 8 bytes. */
uint32_t queue_slab_number(const void *item);
/* 0: NULL. */
void *queue_slab_at(const struct queue_slab *slab, uint32_t number);
/* As told to queue_slab_init. */
void *queue_slab_owner(const void *item);
