/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prefilter.h - which of many patterns are worth trying on a text; the door to Hyperscan.
 *
 * All are looked for in one pass. What comes back is a superset of those that fit, so whoever
 * asks tries them one by one. Where Hyperscan does not exist there is no prefilter, and all are
 * worth trying.
 */
#pragma once

#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>

struct prefilter;

/* Was this built with Hyperscan? */
bool prefilter_is_built(void);

/* Of patterns that PCRE2 has compiled. In `arena`, which frees it. NULL: there is none, as no
 * pattern can be looked for like this. May take seconds for thousands of patterns. */
const struct prefilter *prefilter_new(struct arena *arena, const struct str *patterns,
                                      size_t count);
/* Set bit i of `bits` (room for all, zeroed) if pattern i may fit. Safe from several threads at
 * once. A prefilter of NULL sets all `count`. */
void prefilter_scan(const struct prefilter *prefilter, struct str subject, size_t count,
                    uint64_t *bits);
