/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/match.h - what a step `match` looks for, shared by its run and its replay.
 */
#pragma once

#include "flow/flow_internal.h"
#include "flow/pattern_set.h"

/* One kind of patterns. */
struct match_patterns {
    const struct pattern_set *set; /* NULL: none */
    struct option_texts given;     /* in the file itself */
    bool has_file;                 /* more are in a file of their own, which may change */
};
struct match_prepared {
    const struct expression *when; /* NULL: none */
    struct match_patterns header, body;
};
enum { MATCH_MATCHED, MATCH_UNMATCHED, MATCH_ERROR };

/* The detail of `unmatched`, so that a replay knows what was looked for in vain. */
#define MATCH_NO_HEADER "no header pattern fits"
#define MATCH_NO_BODY   "no body pattern fits"

/* flow_block.infer: by the patterns that fitted then, and those that did not. */
bool match_infer(const struct flow_step *step, const struct flow_answer *answers, size_t count,
                 const struct expression_knowledge *known, struct arena *arena,
                 unsigned *out_outcome, struct str *out_missing);
