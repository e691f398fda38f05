/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of memory that come and go with each wait, kept by the loop. The heap would join each with
 * its neighbours and cut it off again, several times a message.
 */
#include "base/memory.h"
#include "fiber/internal.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define KEEPS_BLOCKS 0 /* so that a use after the end is seen */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS_BLOCKS 0
#endif
#endif
#ifndef KEEPS_BLOCKS
#define KEEPS_BLOCKS 1
#endif

/* The spare blocks of this size, or NULL: it is none that is kept. */
static struct spare_blocks *spare_of(size_t size)
{
    struct loop *loop = loop_current();
    if (!KEEPS_BLOCKS || !loop || (size != LOOP_BLOCK && size != 2 * LOOP_BLOCK))
        return NULL;
    return &loop->spare[size / LOOP_BLOCK - 1];
}

void *loop_block_take(size_t size)
{
    struct spare_blocks *spare = spare_of(size);
    if (spare && spare->count)
        return spare->blocks[--spare->count];
    return memory_resize_array(NULL, size, 1);
}

void loop_block_give(void *block, size_t size)
{
    struct spare_blocks *spare = block ? spare_of(size) : NULL;
    if (spare && spare->count < LOOP_SPARE_BLOCKS)
        spare->blocks[spare->count++] = block;
    else
        free(block);
}

void blocks_done(struct loop *loop)
{
    for (size_t i = 0; i < sizeof loop->spare / sizeof loop->spare[0]; i++) {
        while (loop->spare[i].count)
            free(loop->spare[i].blocks[--loop->spare[i].count]);
    }
}
