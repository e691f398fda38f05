/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/stack.h - stacks for fibers: mapped, guarded, kept for the next fiber.
 *
 * Private to fiber/. Below each stack lies an equally wide region without access, so that one
 * large frame cannot jump over it. Two mappings a stack: vm.max_map_count (65,530) is what caps
 * the number of fibers.
 */
#pragma once

#include "base/list.h"

struct stack {
    struct list link;
    char *base; /* lowest usable byte */
    size_t size;
    unsigned valgrind_id;
    bool cold; /* its pages were given back */
};

struct stack_pool {
    struct list free; /* warm ones first */
    size_t warm;
    size_t max_warm;
};

void stack_pool_init(struct stack_pool *pool, size_t max_warm);
/* All stacks must be back. */
void stack_pool_done(struct stack_pool *pool);
/* NULL when the system gives no more. */
struct stack *stack_take(struct stack_pool *pool);
void stack_give(struct stack_pool *pool, struct stack *stack);
