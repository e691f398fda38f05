/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/match.c - a fork in the road: `match: { when: EXPR, matched: …, unmatched: … }`.
 */
#include "flow/blocks.h"

struct parameters {
    const struct config_node *when;
};
enum { MATCHED, UNMATCHED };

static const struct option options[] = {
    {.name = "when",
     .type = OPTION_NODE,
     .offset = offsetof(struct parameters, when),
     .text = "the test, as in size > 25M or header(\"Precedence\") == \"bulk\"",
     .required = true},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "match",
    .text = "Goes on in one of two ways.",
    .options = options,
    .shorthand = "when",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [MATCHED] = {.name = "matched", .key = "matched", .action = ACTION_NEXT, .text = "it is true"},
    [UNMATCHED] = {.name = "unmatched",
                   .key = "unmatched",
                   .action = ACTION_NEXT,
                   .text = "it is not"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    (void)node;
    if (!parameters->when)
        return;
    step->prepared = expression_parse(parameters->when, compiling->flow->type, compiling->context);
    if (step->actions[MATCHED].kind == ACTION_NEXT && step->actions[UNMATCHED].kind == ACTION_NEXT)
        flow_problem(compiling, CONFIG_WARNING, "dead-step", step->place,
                     "this match changes nothing: give matched or unmatched an action");
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    bool matches;
    if (expression_eval(step->prepared, &running->facts, running->run->arena, &matches, err) != OK)
        return FAILED;
    *out_outcome = matches ? MATCHED : UNMATCHED;
    return OK;
}

static bool is_reachable(const struct flow_step *step, unsigned outcome,
                         const struct expression_knowledge *known)
{
    enum expression_truth truth = expression_judge(step->prepared, known);
    return truth == EXPRESSION_UNDECIDED || (truth == EXPRESSION_TRUE) == (outcome == MATCHED);
}

static const struct expression *condition(const struct flow_step *step, unsigned outcome,
                                          bool *out_truth)
{
    *out_truth = outcome == MATCHED;
    return step->prepared;
}

const struct flow_block flow_block_match = {
    .name = "match",
    .text = "goes on in one of two ways",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .own_when = true,
    .prepare = prepare,
    .run = run,
    .is_reachable = is_reachable,
    .condition = condition,
};
