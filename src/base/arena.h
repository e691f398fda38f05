/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/arena.h - memory with one life span: allocate piece by piece, give back all at once.
 *
 * Life spans are chosen once: configuration snapshot, session, transaction, flow run, attempt.
 * An arena belongs to one thread at a time. Under AddressSanitizer each allocation is its own, so
 * that the tool sees every object.
 */
#pragma once

#include "base/str.h"

#include <stdarg.h>

struct arena;

/* `max_bytes`: bound of arena_has_room(), 0 = none (trusted input); a small one starts small. */
struct arena *arena_new(size_t max_bytes);
/* Runs the hooks in reverse order and frees everything. NULL is allowed. */
void arena_free(struct arena *arena);
/* As arena_free, but the arena stays, empty. */
void arena_clear(struct arena *arena);

/* Zeroed and aligned for any type; never NULL. Code that copies outside input of unbounded size
 * asks arena_has_room() first. */
[[nodiscard]] void *arena_alloc(struct arena *arena, size_t size);
[[nodiscard]] void *arena_alloc_array(struct arena *arena, size_t count, size_t size);
bool arena_has_room(const struct arena *arena, size_t size);
size_t arena_used(const struct arena *arena);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))

/* Copies end in a NUL that is not counted. */
struct str arena_str(struct arena *arena, struct str text);
struct str arena_lower(struct arena *arena, struct str text);
const char *arena_c(struct arena *arena, struct str text);
/* Up to three texts as one; for what is said for every message, where printf costs too much. */
struct str arena_join(struct arena *arena, struct str a, struct str b, struct str c);
struct str arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
struct str arena_vprintf(struct arena *arena, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* Call `release(object)` when the arena is cleared or freed. */
void arena_hook(struct arena *arena, void (*release)(void *object), void *object);
