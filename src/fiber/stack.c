/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/stack.h"

#include "base/memory.h"
#include "fiber/context.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(CONTEXT_ASAN)
#include <sanitizer/asan_interface.h>
#endif
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       (void)(id)
#endif

enum { KIB = 1024 };

/* Instrumented frames are several times as large. */
#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
enum { STACK_SIZE = 1024 * KIB };
#else
enum { STACK_SIZE = 256 * KIB };
#endif
enum { GUARD_SIZE = 256 * KIB };
enum { PROCESS_STACKS = 28000 };
/* As many times the warm ones may be kept cold: they cost two mappings and some page tables. */
enum { COLD_PER_WARM = 4 };

/* Of all pools: what they share is a limit of the process. */
static atomic_size_t mapped;

void stack_pool_init(struct stack_pool *pool, size_t max_warm)
{
    list_init(&pool->free);
    pool->warm = 0;
    pool->cold = 0;
    pool->max_warm = max_warm;
}

static void unmap(struct stack *stack)
{
    VALGRIND_STACK_DEREGISTER(stack->valgrind_id);
    munmap(stack->base - GUARD_SIZE, GUARD_SIZE + STACK_SIZE);
    atomic_fetch_sub(&mapped, 1);
    free(stack);
}

void stack_pool_done(struct stack_pool *pool)
{
    for (struct list *link; (link = list_shift(&pool->free));)
        unmap(CONTAINER(link, struct stack, link));
}

static char *map_region(void)
{
    char *region = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        return NULL;
    if (mprotect(region + GUARD_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE) != 0) {
        munmap(region, GUARD_SIZE + STACK_SIZE);
        return NULL;
    }
    return region;
}

static struct stack *map(void)
{
    char *region = NULL;
    if (atomic_fetch_add(&mapped, 1) < PROCESS_STACKS)
        region = map_region();
    if (!region) {
        atomic_fetch_sub(&mapped, 1);
        return NULL;
    }
    struct stack *stack = NEW(struct stack);
    list_init(&stack->link);
    stack->base = region + GUARD_SIZE;
    stack->size = STACK_SIZE;
    stack->valgrind_id = VALGRIND_STACK_REGISTER(stack->base, stack->base + STACK_SIZE - 1);
    return stack;
}

struct stack *stack_take(struct stack_pool *pool)
{
    struct list *link = list_shift(&pool->free);
    if (!link)
        return map();
    struct stack *stack = CONTAINER(link, struct stack, link);
    if (stack->cold)
        pool->cold--;
    else
        pool->warm--;
    stack->cold = false;
    return stack;
}

void stack_give(struct stack_pool *pool, struct stack *stack)
{
#if defined(CONTEXT_ASAN)
    /* A fiber's last frames never returned, so their red zones are still marked. */
    __asan_unpoison_memory_region(stack->base, stack->size);
#endif
    if (pool->warm < pool->max_warm) {
        pool->warm++;
        list_prepend(&pool->free, &stack->link);
    } else if (pool->cold < COLD_PER_WARM * pool->max_warm) {
        madvise(stack->base, stack->size, MADV_DONTNEED);
        stack->cold = true;
        pool->cold++;
        list_append(&pool->free, &stack->link);
    } else {
        unmap(stack);
    }
}

size_t stack_pool_left(const struct stack_pool *pool)
{
    size_t used = atomic_load(&mapped);
    return pool->warm + pool->cold + (used < PROCESS_STACKS ? PROCESS_STACKS - used : 0);
}
