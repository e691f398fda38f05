/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/memory.h - allocation that does not fail, and pointers that change hands.
 *
 * What outsiders can make grow has a ceiling where it grows; plain lack of memory aborts, and the
 * supervisor has the child back within a second with nothing acknowledged lost.
 */
#pragma once

#include <stddef.h>

/* Zeroed memory of `size` bytes (0 gives a valid pointer too); never NULL. Free with free(). */
[[nodiscard]] void *memory_alloc(size_t size);
/* Zeroed array; the product is checked. */
[[nodiscard]] void *memory_alloc_array(size_t count, size_t size);
/* As realloc of an array; new bytes are not zeroed. */
[[nodiscard]] void *memory_resize_array(void *old, size_t count, size_t size);
/* First of all in a process whose bursts come and go: large pieces, and what is free at the end of
 * a thread's heap, go back to the system by themselves. (Else the C library learns from the first
 * large piece that is freed to keep all up to 64M, a thread.) */
void memory_tune(void);
/* Give memory that was freed back to the system: after work that took much more than what stays. */
void memory_trim(void);
/* Overwrite a secret in a way that the compiler keeps. */
void memory_wipe(void *ptr, size_t size);

#define NEW(type) ((type *)memory_alloc(sizeof(type)))

/* Hand the pointer on: its value, with NULL left behind. */
#define take(pointer)                                                                              \
    ({                                                                                             \
        __typeof__(pointer) taken_ = (pointer);                                                    \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })
