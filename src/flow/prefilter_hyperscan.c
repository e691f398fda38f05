/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/prefilter.h"

#include "base/check.h"

#include <hs/hs.h>
#include <stdlib.h>
#include <string.h>

/* An approximation serves, as PCRE2 decides: constructs that Hyperscan lacks are widened. */
enum { FLAGS = HS_FLAG_PREFILTER | HS_FLAG_SINGLEMATCH | HS_FLAG_ALLOWEMPTY };

struct prefilter {
    hs_database_t *database;
    hs_scratch_t *scratch; /* the model that each scan copies: one serves one thread at a time */
    const bool *covered;   /* false: always worth trying */
};

bool prefilter_is_built(void)
{
    return true;
}

static void release(void *object)
{
    struct prefilter *prefilter = object;
    hs_free_scratch(prefilter->scratch);
    hs_free_database(prefilter->database);
}

/* The end of a character class that begins at `at`: behind its "]". */
static size_t class_end(struct str pattern, size_t at)
{
    size_t i = at + 1;
    if (i < pattern.len && pattern.ptr[i] == '^')
        i++;
    if (i < pattern.len && pattern.ptr[i] == ']') /* the first stands for itself */
        i++;
    for (; i < pattern.len && pattern.ptr[i] != ']'; i++) {
        if (pattern.ptr[i] == '\\')
            i++;
        else if (str_starts(str_from(pattern, i), STR("[:")))
            while (++i + 1 < pattern.len && pattern.ptr[i] != ']')
                ;
    }
    return i < pattern.len ? i + 1 : pattern.len;
}

/*
 * The pattern without \b and \B, which multiply the time that Hyperscan takes to build, and whose
 * absence can only let more fit (PCRE2 lets nobody repeat them). Left as it is where that needs a
 * closer look: quoting and comments.
 */
static const char *without_boundaries(struct arena *arena, struct str pattern)
{
    const char *whole = arena_c(arena, pattern);
    char *out = arena_alloc(arena, pattern.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < pattern.len;) {
        size_t end = i + 1;
        char next = end < pattern.len ? pattern.ptr[end] : '\0';
        bool escape = pattern.ptr[i] == '\\';
        if (pattern.ptr[i] == '#' || (escape && next == 'Q'))
            return whole;
        if (pattern.ptr[i] == '[')
            end = class_end(pattern, i);
        else if (escape && end < pattern.len)
            end++;
        bool boundary = escape && (next == 'b' || next == 'B');
        if (!boundary) {
            memcpy(out + len, pattern.ptr + i, end - i);
            len += end - i;
        }
        i = end;
    }
    out[len] = '\0';
    return out;
}

/* Those whose form Hyperscan can take at all. */
static size_t find_covered(const char *const *texts, size_t count, bool *out_covered)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        hs_expr_info_t *facts = NULL;
        hs_compile_error_t *error = NULL;
        out_covered[i] = hs_expression_info(texts[i], FLAGS, &facts, &error) == HS_SUCCESS;
        hs_free_compile_error(error);
        free(facts);
        found += out_covered[i];
    }
    return found;
}

/* What is said to be too large only when it is built is left out, and the rest tried again. */
static hs_database_t *build(struct arena *arena, const char *const *texts, size_t count,
                            bool *covered)
{
    const char **chosen = arena_alloc_array(arena, count, sizeof *chosen);
    unsigned *flags = arena_alloc_array(arena, count, sizeof *flags);
    unsigned *ids = arena_alloc_array(arena, count, sizeof *ids);
    enum { TRIES = 8 };
    for (unsigned try = 0; try < TRIES; try++) {
        unsigned used = 0;
        for (size_t i = 0; i < count; i++)
            if (covered[i]) {
                chosen[used] = texts[i];
                flags[used] = FLAGS;
                ids[used++] = (unsigned)i;
            }
        hs_database_t *database = NULL;
        hs_compile_error_t *error = NULL;
        if (used && hs_compile_multi(chosen, flags, ids, used, HS_MODE_BLOCK, NULL, &database,
                                     &error) == HS_SUCCESS)
            return database;
        int culprit = error ? error->expression : -1;
        hs_free_compile_error(error);
        if (culprit < 0)
            return NULL;
        covered[ids[culprit]] = false;
    }
    return NULL;
}

const struct prefilter *prefilter_new(struct arena *arena, const struct str *patterns, size_t count)
{
    if (hs_valid_platform() != HS_SUCCESS)
        return NULL;
    const char **texts = arena_alloc_array(arena, count, sizeof *texts);
    bool *covered = arena_alloc_array(arena, count, sizeof *covered);
    for (size_t i = 0; i < count; i++)
        texts[i] = without_boundaries(arena, patterns[i]);
    struct prefilter *prefilter = ARENA_NEW(arena, struct prefilter);
    if (find_covered(texts, count, covered))
        prefilter->database = build(arena, texts, count, covered);
    prefilter->covered = covered;
    if (!prefilter->database)
        return NULL;
    arena_hook(arena, release, prefilter);
    return hs_alloc_scratch(prefilter->database, &prefilter->scratch) == HS_SUCCESS ? prefilter
                                                                                    : NULL;
}

static int note(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
                void *bits)
{
    (void)from, (void)to, (void)flags;
    ((uint64_t *)bits)[id / 64] |= UINT64_C(1) << id % 64;
    return 0;
}

void prefilter_scan(const struct prefilter *prefilter, struct str subject, size_t count,
                    uint64_t *bits)
{
    hs_scratch_t *scratch = NULL;
    bool scanned = prefilter && hs_clone_scratch(prefilter->scratch, &scratch) == HS_SUCCESS &&
                   hs_scan(prefilter->database, subject.ptr, (unsigned)subject.len, 0, scratch,
                           note, bits) == HS_SUCCESS;
    hs_free_scratch(scratch);
    for (size_t i = 0; i < count; i++)
        if (!scanned || !prefilter->covered[i])
            bits[i / 64] |= UINT64_C(1) << i % 64;
}
