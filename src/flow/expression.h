/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression.h - the conditions of flows: `when: authenticated or client in trusted`.
 *
 * Parsed and typed when the file is loaded; names come from a closed table. `or` binds weaker than
 * `and`, that weaker than `not`. Texts compare without ASCII case; patterns (`~`) are PCRE2 and
 * respect case unless they say (?i). An address is also `in` a list that holds its domain.
 */
#pragma once

#include "flow/flow.h"

struct expression;

enum { EXPRESSION_TEXT_MAX = 4096 };

/*
 * The scalar `node` as a condition of a flow of that type, in the context's arena; NULL when
 * problems were reported. Places of problems point into the scalar.
 */
const struct expression *expression_parse(const struct config_node *node, enum flow_type type,
                                          const struct flow_compile_context *context);

/* FAILED: a pattern was too costly; the caller takes that as an internal error of the flow. */
enum result expression_eval(const struct expression *expression, const struct flow_facts *facts,
                            struct arena *scratch, bool *out_value, struct error *err);

/* What a proof knows about the client. */
struct expression_knowledge {
    bool stranger;       /* not authenticated, not in trusted_networks */
    struct str listener; /* empty: not known */
    /* Or one case instead of all clients: the facts of which `given` (a set of 1 << name, see
     * expression_internal.h) holds; the rest stays undecided. */
    const struct flow_facts *facts;
    unsigned given;
};
enum expression_truth { EXPRESSION_FALSE, EXPRESSION_TRUE, EXPRESSION_UNDECIDED };
/* Three-valued: what does not follow from `known` is undecided. */
enum expression_truth expression_judge(const struct expression *expression,
                                       const struct expression_knowledge *known);

struct buf;
/* The table of names, for the manual. */
void expression_describe(struct buf *out);
