/* SPDX-License-Identifier: Apache-2.0 */
/* flow/prefilter_none.c - where Hyperscan does not exist: every pattern is worth trying. */
#include "flow/prefilter.h"

bool prefilter_is_built(void)
{
    return false;
}

const struct prefilter *prefilter_new(struct arena *arena, const struct str *patterns, size_t count)
{
    (void)arena, (void)patterns, (void)count;
    return NULL;
}

void prefilter_scan(const struct prefilter *prefilter, struct str subject, size_t count,
                    uint64_t *bits)
{
    (void)prefilter, (void)subject;
    for (size_t i = 0; i < count; i++)
        bits[i / 64] |= UINT64_C(1) << i % 64;
}
