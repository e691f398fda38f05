/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, SMALL_CHUNK = 256, FIRST_CHUNK = 2048, LARGEST_CHUNK = 64 * 1024 };

#if defined(__SANITIZE_ADDRESS__)
#define SEPARATE_ALLOCATIONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SEPARATE_ALLOCATIONS 1
#endif
#endif
#ifndef SEPARATE_ALLOCATIONS
#define SEPARATE_ALLOCATIONS 0
#endif

struct chunk {
    struct chunk *next;
    size_t size;
    size_t used;
    _Alignas(ALIGNMENT) char bytes[];
};

struct hook {
    struct hook *next;
    void (*release)(void *object);
    void *object;
};

struct arena {
    struct chunk *chunks; /* newest first */
    struct hook *hooks;   /* newest first */
    size_t used;
    size_t max_bytes;
    size_t next_chunk;
};

/* Who expects little gets little: a session that waits holds its long-lived words only. */
static size_t first_chunk(const struct arena *arena)
{
    size_t share = arena->max_bytes / 256;
    if (arena->max_bytes == 0 || share > FIRST_CHUNK)
        return FIRST_CHUNK;
    return share < SMALL_CHUNK ? SMALL_CHUNK : share;
}

struct arena *arena_new(size_t max_bytes)
{
    struct arena *arena = NEW(struct arena);
    arena->max_bytes = max_bytes;
    arena->next_chunk = first_chunk(arena);
    return arena;
}

void arena_clear(struct arena *arena)
{
    while (arena->hooks) {
        struct hook *hook = arena->hooks;
        arena->hooks = hook->next;
        hook->release(hook->object);
    }
    while (arena->chunks) {
        struct chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        free(chunk);
    }
    arena->used = 0;
    arena->next_chunk = first_chunk(arena);
}

void arena_free(struct arena *arena)
{
    if (!arena)
        return;
    arena_clear(arena);
    free(arena);
}

static struct chunk *add_chunk(struct arena *arena, size_t at_least)
{
    size_t size = at_least;
    if (!SEPARATE_ALLOCATIONS && size < arena->next_chunk) {
        size = arena->next_chunk;
        if (arena->next_chunk < LARGEST_CHUNK)
            arena->next_chunk *= 2;
    }
    struct chunk *chunk = malloc(sizeof *chunk + size);
    check(chunk != NULL);
    *chunk = (struct chunk){.next = arena->chunks, .size = size};
    arena->chunks = chunk;
    return chunk;
}

/* For bytes that are all written at once. */
static void *alloc_unset(struct arena *arena, size_t size)
{
    check(size <= SIZE_MAX / 2);
    size_t rounded = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (rounded == 0)
        rounded = ALIGNMENT;
    struct chunk *chunk = arena->chunks;
    if (SEPARATE_ALLOCATIONS)
        chunk = add_chunk(arena, size ? size : 1);
    else if (!chunk || chunk->size - chunk->used < rounded)
        chunk = add_chunk(arena, rounded);
    char *ptr = chunk->bytes + chunk->used;
    chunk->used += SEPARATE_ALLOCATIONS ? chunk->size : rounded;
    arena->used += rounded;
    return ptr;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    return memset(alloc_unset(arena, size), 0, size);
}

void *arena_alloc_array(struct arena *arena, size_t count, size_t size)
{
    size_t bytes;
    check(!__builtin_mul_overflow(count, size, &bytes));
    return arena_alloc(arena, bytes);
}

bool arena_has_room(const struct arena *arena, size_t size)
{
    return arena->max_bytes == 0 ||
           (arena->used <= arena->max_bytes && size <= arena->max_bytes - arena->used);
}

size_t arena_used(const struct arena *arena)
{
    return arena->used;
}

struct str arena_str(struct arena *arena, struct str text)
{
    char *copy = alloc_unset(arena, text.len + 1);
    if (text.len)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return (struct str){copy, text.len};
}

struct str arena_lower(struct arena *arena, struct str text)
{
    char *copy = alloc_unset(arena, text.len + 1);
    for (size_t i = 0; i < text.len; i++)
        copy[i] = ascii_lower(text.ptr[i]);
    copy[text.len] = '\0';
    return (struct str){copy, text.len};
}

const char *arena_c(struct arena *arena, struct str text)
{
    return arena_str(arena, text).ptr;
}

struct str arena_join(struct arena *arena, struct str a, struct str b, struct str c)
{
    const struct str parts[] = {a, b, c};
    char *text = alloc_unset(arena, a.len + b.len + c.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].len)
            memcpy(text + len, parts[i].ptr, parts[i].len);
        len += parts[i].len;
    }
    text[len] = '\0';
    return (struct str){text, len};
}

struct str arena_vprintf(struct arena *arena, const char *format, va_list args)
{
    /* at once where most texts end: to count first would be the work twice */
    char first[128];
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(first, sizeof first, format, again);
    va_end(again);
    check(len >= 0);
    char *text = alloc_unset(arena, (size_t)len + 1);
    if ((size_t)len < sizeof first)
        memcpy(text, first, (size_t)len + 1);
    else
        vsnprintf(text, (size_t)len + 1, format, args);
    return (struct str){text, (size_t)len};
}

struct str arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct str text = arena_vprintf(arena, format, args);
    va_end(args);
    return text;
}

void arena_hook(struct arena *arena, void (*release)(void *object), void *object)
{
    struct hook *hook = ARENA_NEW(arena, struct hook);
    *hook = (struct hook){.next = arena->hooks, .release = release, .object = object};
    arena->hooks = hook;
}
