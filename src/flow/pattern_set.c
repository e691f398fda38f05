/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/pattern_set.h"

#include "base/check.h"
#include "flow/pattern.h"
#include "flow/prefilter.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Below it trying all is as fast. */
enum { PREFILTER_LEAST = 16 };

/*
 * Putting the prefilter together may take seconds, which neither a check of the configuration nor
 * the first message waits for: a thread does it from the first use on, and all patterns are tried
 * until it is ready.
 */
struct building {
    atomic_bool begun;
    bool has_thread; /* written before the set can be released: whoever begins is using it */
    pthread_t thread;
    struct arena *arena;
    _Atomic(const struct prefilter *) ready; /* NULL: not yet, or there is none */
};

struct pattern_set {
    const struct str *texts;
    const struct pattern **patterns;
    size_t count;
    struct building *building;
};

struct candidates {
    uint64_t bits[(PATTERN_SET_MAX + 63) / 64];
};

static void *build(void *context)
{
    const struct pattern_set *set = context;
    atomic_store(&set->building->ready,
                 prefilter_new(set->building->arena, set->texts, set->count));
    return NULL;
}

static void begin(const struct pattern_set *set)
{
    struct building *building = set->building;
    if (set->count < PREFILTER_LEAST || atomic_exchange(&building->begun, true))
        return;
    building->arena = arena_new(0);
    building->has_thread = pthread_create(&building->thread, NULL, build, (void *)set) == 0;
}

static void finish(struct building *building)
{
    if (building->has_thread)
        pthread_join(building->thread, NULL);
    building->has_thread = false;
}

static void release(void *object)
{
    struct building *building = object;
    finish(building);
    if (building->arena)
        arena_free(building->arena);
}

enum result pattern_set_new(struct arena *arena, const struct str *texts, size_t count,
                            const struct pattern_set **out_set, size_t *out_index,
                            size_t *out_offset, struct error *err)
{
    struct pattern_set *set = ARENA_NEW(arena, struct pattern_set);
    check(count <= PATTERN_SET_MAX);
    *set = (struct pattern_set){.texts = texts, .count = count};
    set->patterns = arena_alloc_array(arena, count + 1, sizeof *set->patterns);
    for (size_t i = 0; i < count; i++) {
        *out_index = i;
        if (pattern_new(arena, texts[i], &set->patterns[i], out_offset, err) != OK)
            return FAILED;
    }
    set->building = ARENA_NEW(arena, struct building);
    arena_hook(arena, release, set->building);
    *out_set = set;
    return OK;
}

const struct str *pattern_set_texts(const struct pattern_set *set, size_t *out_count)
{
    *out_count = set->count;
    return set->texts;
}

static size_t words_of(const struct pattern_set *set)
{
    return (set->count + 63) / 64;
}

static void find_candidates(const struct pattern_set *set, struct str subject,
                            struct candidates *out)
{
    memset(out->bits, 0, words_of(set) * sizeof *out->bits);
    prefilter_scan(atomic_load_explicit(&set->building->ready, memory_order_acquire),
                   str_slice(subject, 0, PATTERN_SUBJECT_MAX), set->count, out->bits);
}

enum result pattern_set_match(const struct pattern_set *set, struct str subject,
                              struct str *out_fits, struct error *err)
{
    struct candidates candidates;
    *out_fits = (struct str){0};
    begin(set);
    find_candidates(set, subject, &candidates);
    for (size_t word = 0; word < words_of(set); word++) {
        for (uint64_t bits = candidates.bits[word]; bits; bits &= bits - 1) {
            size_t index = 64 * word + (size_t)__builtin_ctzll(bits);
            bool fits = false;
            if (pattern_match(set->patterns[index], subject, &fits, err) != OK)
                return FAILED;
            if (fits) {
                *out_fits = set->texts[index];
                return OK;
            }
        }
    }
    return OK;
}

size_t pattern_set_candidates(const struct pattern_set *set, struct str subject)
{
    struct candidates candidates;
    size_t count = 0;
    begin(set);
    finish(set->building);
    find_candidates(set, subject, &candidates);
    for (size_t word = 0; word < words_of(set); word++)
        count += (size_t)__builtin_popcountll(candidates.bits[word]);
    return count;
}
