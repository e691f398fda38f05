/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/slab.c - blocks of 256K, aligned to their size, so that an item leads to its block.
 *
 * Sizes go in steps of 8 bytes up to 1K, of 512 up to 33K. What is larger has a block to itself.
 */
#include "queue/slab.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A sanitizer sees an item that was given back as it sees freed memory. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(ptr, size)   ((void)(ptr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(ptr, size) ((void)(ptr), (void)(size))
#endif

enum {
    BLOCK = 256 * 1024,
    UNIT = 8,
    UNITS = BLOCK / UNIT,
    FIRST = 8,   /* units of the head of a block */
    SMALL = 128, /* units of the largest item that is measured exactly; also their classes */
    STEP = 64,   /* units, of those beyond */
    LARGEST = SMALL + (QUEUE_SLAB_CLASSES - SMALL) * STEP,
    SPARE_MAX = 8, /* blocks that stay without items, for the next to come */
};

struct queue_slab_block {
    struct queue_slab *slab;
    struct list in_open;
    uint32_t number;
    uint32_t live;       /* items */
    uint32_t free;       /* unit of the first that was given back, or 0 */
    uint32_t next;       /* unit behind all that were ever taken */
    uint32_t end;        /* of the block, in units */
    uint32_t item_units; /* size of an item */
};
_Static_assert(sizeof(struct queue_slab_block) <= (size_t)FIRST * UNIT, "units of the head");

static struct queue_slab_block *block_of(const void *item)
{
    return (struct queue_slab_block *)((uintptr_t)item & ~(uintptr_t)(BLOCK - 1));
}

static char *unit_at(const struct queue_slab_block *block, uint32_t unit)
{
    return (char *)block + (size_t)unit * UNIT;
}

void queue_slab_init(struct queue_slab *slab, void *owner)
{
    *slab = (struct queue_slab){.owner = owner};
    for (size_t i = 0; i < QUEUE_SLAB_CLASSES; i++)
        list_init(&slab->open[i]);
}

static size_t size_of(uint32_t units)
{
    return ((size_t)units * UNIT + BLOCK - 1) & ~(size_t)(BLOCK - 1);
}

static void drop_block(struct queue_slab_block *block)
{
    struct queue_slab *slab = block->slab;
    list_remove(&block->in_open);
    slab->blocks[block->number] = NULL;
    if (block->number < slab->unused)
        slab->unused = block->number;
    size_t size = size_of(block->end);
    ASAN_UNPOISON_MEMORY_REGION(block, size);
    (void)munmap(block, size);
}

void queue_slab_done(struct queue_slab *slab)
{
    check(slab->items == 0);
    for (uint32_t i = 0; i < slab->block_count; i++)
        if (slab->blocks[i] != NULL)
            drop_block(slab->blocks[i]);
    free(slab->blocks);
    *slab = (struct queue_slab){0};
}

void queue_slab_settle(struct queue_slab *slab)
{
    for (uint32_t i = 0; i < slab->block_count && slab->spare > 0; i++)
        if (slab->blocks[i] != NULL && slab->blocks[i]->live == 0) {
            drop_block(slab->blocks[i]);
            slab->spare--;
        }
}

static uint32_t free_number(struct queue_slab *slab)
{
    while (slab->unused < slab->block_count && slab->blocks[slab->unused] != NULL)
        slab->unused++;
    if (slab->unused == slab->block_count) {
        if (slab->block_count == slab->block_cap) {
            slab->block_cap = slab->block_cap == 0 ? 64 : slab->block_cap * 2;
            slab->blocks = memory_resize_array(slab->blocks, slab->block_cap,
                                               sizeof(struct queue_slab_block *));
        }
        check(slab->block_count < QUEUE_SLAB_NUMBERS / UNITS);
        slab->block_count++;
    }
    return slab->unused++;
}

/*
 * Not of the heap: there a block would stand wherever the bodies of a burst had left room, and keep
 * their memory from going back. A page of it is touched only when it is needed.
 */
static char *map_block(size_t size)
{
    char *start =
        mmap(NULL, size + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(start != MAP_FAILED); /* as memory_alloc */
    size_t before = (BLOCK - (uintptr_t)start % BLOCK) % BLOCK;
    if (before > 0)
        (void)munmap(start, before);
    if (before < BLOCK)
        (void)munmap(start + before + size, BLOCK - before);
    return start + before;
}

static struct queue_slab_block *new_block(struct queue_slab *slab, uint32_t item_units,
                                          uint32_t units)
{
    size_t size = size_of(units);
    struct queue_slab_block *block = (struct queue_slab_block *)map_block(size);
    uint32_t number = free_number(slab);
    *block = (struct queue_slab_block){.slab = slab,
                                       .number = number,
                                       .next = FIRST,
                                       .end = (uint32_t)(size / UNIT),
                                       .item_units = item_units};
    list_init(&block->in_open);
    slab->blocks[number] = block;
    ASAN_POISON_MEMORY_REGION(unit_at(block, FIRST), size - (size_t)FIRST * UNIT);
    return block;
}

static bool is_full(const struct queue_slab_block *block)
{
    return block->free == 0 && block->next + block->item_units > block->end;
}

static void *take_from(struct queue_slab_block *block)
{
    size_t size = (size_t)block->item_units * UNIT;
    char *item = unit_at(block, block->free != 0 ? block->free : block->next);
    ASAN_UNPOISON_MEMORY_REGION(item, size);
    if (block->free != 0)
        memcpy(&block->free, item, sizeof block->free);
    else
        block->next += block->item_units;
    memset(item, 0, size);
    block->live++;
    block->slab->items++;
    return item;
}

static size_t class_of(uint32_t item_units)
{
    return item_units <= SMALL ? item_units - 1 : SMALL + (item_units - SMALL - 1) / STEP;
}

void *queue_slab_take(struct queue_slab *slab, size_t size)
{
    check(size > 0 && size <= UINT32_MAX / 2);
    uint32_t item_units = (uint32_t)((size + UNIT - 1) / UNIT);
    if (item_units > LARGEST)
        return take_from(new_block(slab, item_units, FIRST + item_units));
    if (item_units > SMALL)
        item_units = SMALL + (item_units - SMALL + STEP - 1) / STEP * STEP;
    struct list *open = &slab->open[class_of(item_units)];
    if (list_is_empty(open))
        list_append(open, &new_block(slab, item_units, UNITS)->in_open);
    struct queue_slab_block *block = CONTAINER(open->next, struct queue_slab_block, in_open);
    if (block->live == 0 && block->next > FIRST)
        slab->spare--;
    void *item = take_from(block);
    if (is_full(block))
        list_remove(&block->in_open);
    return item;
}

void queue_slab_give(void *item)
{
    struct queue_slab_block *block = block_of(item);
    struct queue_slab *slab = block->slab;
    slab->items--;
    block->live--;
    if (block->item_units > LARGEST) {
        drop_block(block);
        return;
    }
    struct list *open = &slab->open[class_of(block->item_units)];
    memcpy(item, &block->free, sizeof block->free);
    block->free = (uint32_t)((size_t)((char *)item - (char *)block) / UNIT);
    ASAN_POISON_MEMORY_REGION(item, (size_t)block->item_units * UNIT);
    if (list_is_empty(&block->in_open))
        list_append(open, &block->in_open);
    if (block->live > 0)
        return;
    bool is_only = open->next == &block->in_open && open->prev == &block->in_open;
    if (is_only && slab->spare < SPARE_MAX)
        slab->spare++;
    else
        drop_block(block);
}

uint32_t queue_slab_number(const void *item)
{
    const struct queue_slab_block *block = block_of(item);
    return block->number * UNITS +
           (uint32_t)((size_t)((const char *)item - (const char *)block) / UNIT);
}

void *queue_slab_at(const struct queue_slab *slab, uint32_t number)
{
    return number == 0 ? NULL : unit_at(slab->blocks[number / UNITS], number % UNITS);
}

void *queue_slab_owner(const void *item)
{
    return block_of(item)->slab->owner;
}
