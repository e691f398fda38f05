/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/pattern.h - regular expressions with bounded cost; the door to PCRE2.
 *
 * Subjects come from strangers: a match that costs too much is FAILED, never a long wait.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct pattern;

/* In `arena`, which frees it. `out_offset`: where in the text the fault is, when FAILED. */
enum result pattern_new(struct arena *arena, struct str text, const struct pattern **out_pattern,
                        size_t *out_offset, struct error *err);
/* Looks at the first 16 KiB of `subject`. Safe from several threads at once. */
enum result pattern_match(const struct pattern *pattern, struct str subject, bool *out_matches,
                          struct error *err);
