/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"

#include "base/check.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHER_MALLOC 1
#endif
#endif

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

void memory_tune(void)
{
#ifndef OTHER_MALLOC
    enum { LARGE = 256 * 1024 };
    (void)mallopt(M_MMAP_THRESHOLD, LARGE);
    (void)mallopt(M_TRIM_THRESHOLD, LARGE);
#endif
}

void memory_trim(void)
{
/* Where a sanitizer's malloc is used that of the C library is not set up, and two threads that come
 * here first would trip over each other. */
#ifndef OTHER_MALLOC
    (void)malloc_trim(0);
#endif
}
