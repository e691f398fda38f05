/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/pattern.h - regular expressions with bounded cost; the door to PCRE2.
 *
 * Subjects come from strangers: a match that costs too much is FAILED, never a long wait.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

enum { PATTERN_SUBJECT_MAX = 16384 };

struct pattern;

/* In `arena`, which frees it. `out_offset`: where in the text the fault is, when FAILED. */
enum result pattern_new(struct arena *arena, struct str text, const struct pattern **out_pattern,
                        size_t *out_offset, struct error *err);
/* Looks at the first PATTERN_SUBJECT_MAX bytes of `subject`. Safe from several threads at once. */
enum result pattern_match(const struct pattern *pattern, struct str subject, bool *out_matches,
                          struct error *err);
/* As pattern_match; when it matches, *out_text is `form` with $0 … $9 filled in with what matched
 * (nothing for groups that did not), and $$ for a $. In `arena`, at most 4 KiB. */
enum result pattern_expand(const struct pattern *pattern, struct str subject, struct str form,
                           struct arena *arena, bool *out_matches, struct str *out_text,
                           struct error *err);
