/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void *memory_alloc(size_t size)
{
    return memory_alloc_array(1, size);
}

void *memory_alloc_array(size_t count, size_t size)
{
    void *ptr = calloc(count ? count : 1, size ? size : 1);
    check(ptr != NULL);
    return ptr;
}

void *memory_resize_array(void *old, size_t count, size_t size)
{
    size_t bytes;
    check(!__builtin_mul_overflow(count, size, &bytes));
    void *ptr = realloc(old, bytes ? bytes : 1);
    check(ptr != NULL);
    return ptr;
}

/* Not inlined: where optimization over all files looks through CONTAINER, gcc takes the object that
 * contains for the member and warns. */
__attribute__((noinline)) void memory_wipe(void *ptr, size_t size)
{
    if (size)
        explicit_bzero(ptr, size);
}
