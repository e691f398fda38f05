/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/stack.h - stacks for fibers: mapped, guarded, kept for the next fiber.
 *
 * Private to fiber/. Below each stack lies an equally wide region without access, so that one
 * large frame cannot jump over it. That is two mappings a stack, and a process may have 65,530
 * (vm.max_map_count), beyond which malloc fails too: so all pools together map at most 28,000
 * stacks, and a pool does not keep many that others may need.
 */
#pragma once

#include "base/list.h"

struct stack {
    struct list link;
    char *base; /* lowest usable byte */
    size_t size;
    unsigned valgrind_id;
    bool cold; /* its pages were given back to the system */
};

struct stack_pool {
    struct list free; /* warm ones first */
    size_t warm;
    size_t cold;
    size_t max_warm;
};

void stack_pool_init(struct stack_pool *pool, size_t max_warm);
/* All stacks must be back. */
void stack_pool_done(struct stack_pool *pool);
/* NULL when the system gives no more, or all pools together have too many. */
struct stack *stack_take(struct stack_pool *pool);
void stack_give(struct stack_pool *pool, struct stack *stack);
/* How many more may be taken: those that lie in the pool, and those that the process may still map.
 */
size_t stack_pool_left(const struct stack_pool *pool);
