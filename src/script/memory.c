/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/memory.c - the memory of one Lua state: counted, bounded, and given back all at once.
 *
 * Lua asks a second time after it has collected its garbage; refused again, the run is over, for a
 * script that catches the error could make Lua collect without end.
 */
#include "script/internal.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { GRAIN = 16, SLAB_SIZE = 16 * 1024, BYTES_A_STEP = 16 };
_Static_assert(SCRIPT_CLASSES *GRAIN == SCRIPT_SMALL, "a list for each size");

struct script_slab {
    struct script_slab *next;
    size_t unused; /* keeps what follows aligned */
    char bytes[SLAB_SIZE - 16];
};
struct script_large {
    struct script_large *next, *previous;
    char bytes[];
};

void script_memory_init(struct script_memory *memory, size_t max)
{
    *memory = (struct script_memory){.max = max};
}

void script_memory_done(struct script_memory *memory)
{
    while (memory->slabs) {
        struct script_slab *next = memory->slabs->next;
        free(memory->slabs);
        memory->slabs = next;
    }
    while (memory->large) {
        struct script_large *next = memory->large->next;
        free(memory->large);
        memory->large = next;
    }
}

static size_t class_of(size_t size)
{
    return (size - 1) / GRAIN;
}

static void *take_small(struct script_memory *memory, size_t size)
{
    size_t class = class_of(size);
    size_t rounded = (class + 1) * GRAIN;
    void *block = memory->free[class];
    if (block) {
        memcpy(&memory->free[class], block, sizeof(void *));
        return block;
    }
    if (memory->fresh_len < rounded) { /* the rest is lost: less than the largest small block */
        struct script_slab *slab = malloc(sizeof *slab);
        check(slab);
        slab->next = memory->slabs;
        memory->slabs = slab;
        memory->fresh = slab->bytes;
        memory->fresh_len = sizeof slab->bytes;
    }
    block = memory->fresh;
    memory->fresh += rounded;
    memory->fresh_len -= rounded;
    return block;
}

static void *take_large(struct script_memory *memory, size_t size)
{
    struct script_large *large = malloc(sizeof *large + size);
    check(large);
    large->previous = NULL;
    large->next = memory->large;
    if (large->next)
        large->next->previous = large;
    memory->large = large;
    return large->bytes;
}

static struct script_large *large_of(void *block)
{
    return (struct script_large *)((char *)block - offsetof(struct script_large, bytes));
}

static void give(struct script_memory *memory, void *block, size_t size)
{
    if (size <= SCRIPT_SMALL) {
        size_t class = class_of(size);
        memcpy(block, &memory->free[class], sizeof(void *));
        memory->free[class] = block;
        return;
    }
    struct script_large *large = large_of(block);
    if (large->next)
        large->next->previous = large->previous;
    if (large->previous)
        large->previous->next = large->next;
    else
        memory->large = large->next;
    free(large);
}

static void *move(struct script_memory *memory, void *block, size_t old_size, size_t new_size)
{
    bool small = old_size <= SCRIPT_SMALL || new_size <= SCRIPT_SMALL;
    if (old_size <= SCRIPT_SMALL && new_size <= SCRIPT_SMALL &&
        class_of(old_size) == class_of(new_size))
        return block;
    if (!small) {
        struct script_large *large = realloc(large_of(block), sizeof *large + new_size);
        check(large);
        if (large->next)
            large->next->previous = large;
        if (large->previous)
            large->previous->next = large;
        else
            memory->large = large;
        return large->bytes;
    }
    void *moved =
        new_size <= SCRIPT_SMALL ? take_small(memory, new_size) : take_large(memory, new_size);
    memcpy(moved, block, old_size < new_size ? old_size : new_size);
    give(memory, block, old_size);
    return moved;
}

/* May it grow by so much? The state's work is counted here too: what is written costs time. */
static bool may_grow(struct script_sandbox *sandbox, size_t old_size, size_t new_size)
{
    struct script_memory *memory = &sandbox->memory;
    size_t more = new_size - old_size;
    if (more <= memory->max - (memory->used < memory->max ? memory->used : memory->max)) {
        memory->refused = false;
        sandbox->work_left -= (int64_t)(new_size / BYTES_A_STEP);
        return true;
    }
    /* Lua goes through all of its memory now */
    sandbox->work_left -= (int64_t)(memory->used / BYTES_A_STEP);
    if (memory->refused && memory->refused_size == new_size && !sandbox->stop)
        sandbox->stop = SCRIPT_STOP_MEMORY;
    memory->refused = true;
    memory->refused_size = new_size;
    return false;
}

void *script_memory_resize(void *context, void *block, size_t old_size, size_t new_size)
{
    struct script_sandbox *sandbox = context;
    struct script_memory *memory = &sandbox->memory;
    if (!block)
        old_size = 0; /* Lua says what it is for */
    if (new_size == 0) {
        if (block) {
            give(memory, block, old_size);
            memory->used -= old_size;
        }
        return NULL;
    }
    if (new_size > old_size && !may_grow(sandbox, old_size, new_size))
        return NULL;
    memory->used = memory->used - old_size + new_size;
    if (memory->used > memory->peak)
        memory->peak = memory->used;
    if (block)
        return move(memory, block, old_size, new_size);
    return new_size <= SCRIPT_SMALL ? take_small(memory, new_size) : take_large(memory, new_size);
}
