/* SPDX-License-Identifier: Apache-2.0 */
/* config/nearest.c - "did you mean": the known word that a person most likely wanted to write. */
#include "config/report.h"

enum { WORD_MAX = 48, LIST_MAX = 400, COST = 4 /* of a whole edit; look-alikes cost less */ };

static char folded(char c)
{
    return c == '-' ? '_' : ascii_lower(c);
}

static unsigned change_cost(char a, char b)
{
    return a == b ? 0 : folded(a) == folded(b) ? 1 : COST;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Edits between the words, with swaps of neighbours as one edit (optimal string alignment). */
static unsigned distance(struct str a, struct str b)
{
    unsigned rows[3][WORD_MAX + 1];
    for (unsigned j = 0; j <= b.len; j++)
        rows[0][j] = j * COST;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];
        row[0] = i * COST;
        for (unsigned j = 1; j <= b.len; j++) {
            char x = a.ptr[i - 1], y = b.ptr[j - 1];
            row[j] =
                least(above[j - 1] + change_cost(x, y), least(above[j] + COST, row[j - 1] + COST));
            if (i > 1 && j > 1 && folded(x) == folded(b.ptr[j - 2]) &&
                folded(a.ptr[i - 2]) == folded(y))
                row[j] = least(row[j], second[j - 2] + COST);
        }
    }
    return rows[a.len % 3][b.len];
}

struct str config_nearest(struct str word, const struct str *candidates, size_t count)
{
    struct str best = STR_EMPTY;
    unsigned best_cost = 0;
    if (word.len == 0 || word.len > WORD_MAX)
        return best;
    for (size_t i = 0; i < count; i++) {
        struct str candidate = candidates[i];
        if (candidate.len == 0 || candidate.len > WORD_MAX)
            continue;
        size_t longer = word.len > candidate.len ? word.len : candidate.len;
        size_t shorter = word.len + candidate.len - longer;
        unsigned cost = distance(word, candidate);
        unsigned limit = longer < 3 ? COST - 1 : (unsigned)(COST * (1 + longer / 4));
        /* a beginning or an end of the word ("cert"): weaker than a slip of the finger */
        bool part = shorter >= 3 &&
                    (str_starts_nocase(candidate, word) || str_starts_nocase(word, candidate) ||
                     str_ends_nocase(candidate, word) || str_ends_nocase(word, candidate));
        if (part && cost > COST + 3)
            cost = COST + 3;
        if (part && limit < cost)
            limit = cost;
        bool nearer =
            best.len == 0 || cost < best_cost || (cost == best_cost && candidate.len < best.len);
        if (cost <= limit && nearer) {
            best = candidate;
            best_cost = cost;
        }
    }
    return best;
}

void config_suggest(struct config_problem *problem, struct arena *arena, struct str word,
                    const struct str *candidates, size_t count, struct str otherwise)
{
    struct str near = config_nearest(word, candidates, count);
    problem->fix =
        near.len ? arena_printf(arena, "did you mean \"%.*s\"?", STR_ARG(near)) : otherwise;
}

struct str config_known(struct arena *arena, const struct str *names, size_t count)
{
    struct str list = STR("known here:");
    for (size_t i = 0; i < count && list.len < LIST_MAX; i++)
        list = arena_printf(arena, "%.*s%s %.*s", STR_ARG(list), i ? "," : "", STR_ARG(names[i]));
    return list;
}
