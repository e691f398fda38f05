/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/pattern_set.h - many regular expressions at once: which is the first that fits?
 *
 * The answer is that of trying one after the other with pattern_match(); a prefilter only saves
 * the work for those that cannot fit, from a moment after the first use on.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

enum { PATTERN_SET_MAX = 10 * 1000 };

struct pattern_set;

/* Of `count` texts, at most PATTERN_SET_MAX, which stay the caller's and must outlive it. In
 * `arena`, which frees it. FAILED: *out_index is the one that is wrong, *out_offset where in it. */
enum result pattern_set_new(struct arena *arena, const struct str *texts, size_t count,
                            const struct pattern_set **out_set, size_t *out_index,
                            size_t *out_offset, struct error *err);
const struct str *pattern_set_texts(const struct pattern_set *set, size_t *out_count);
/* *out_fits is the text of the first that fits the first 16 KiB of `subject`, else empty with a
 * NULL ptr. FAILED: a pattern before it costs too much. Safe from several threads at once. */
enum result pattern_set_match(const struct pattern_set *set, struct str subject,
                              struct str *out_fits, struct error *err);
/* How many patterns pattern_set_match() would try on this subject, once the prefilter is there,
 * which this waits for. For tests, from one thread. */
size_t pattern_set_candidates(const struct pattern_set *set, struct str subject);
