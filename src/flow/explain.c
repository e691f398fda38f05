/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/explain.c - what a flow would do in one case, step by step, without running it.
 *
 * Conditions are judged by the facts that are given; of what would have to be asked, every outcome
 * is shown. A step behind which control never goes on ends the list.
 */
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"

enum { ROWS_MAX = 2000 };

struct explaining {
    const struct flow *flow;
    struct expression_knowledge known;
    struct arena *arena;
    struct flow_explanation *out;
    size_t cap;
    bool ends; /* control can pass the end of the flow */
};

const char *flow_verdict_name(enum flow_verdict_kind kind)
{
    static const char *const names[] = {
        [FLOW_ACCEPT] = "accept",   [FLOW_REJECT] = "reject", [FLOW_DEFER] = "defer",
        [FLOW_DELIVER] = "deliver", [FLOW_HOLD] = "hold",     [FLOW_QUARANTINE] = "quarantine",
        [FLOW_DISCARD] = "discard",
    };
    return names[kind];
}

static const unsigned addresses = 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN |
                                  1u << NAME_RECIPIENT | 1u << NAME_RECIPIENT_DOMAIN;

static struct flow_explained *add_row(struct explaining *explaining)
{
    struct flow_explanation *out = explaining->out;
    if (out->count == explaining->cap) {
        size_t cap = explaining->cap ? explaining->cap * 2 : 16;
        struct flow_explained *rows = arena_alloc_array(explaining->arena, cap, sizeof *rows);
        for (size_t i = 0; i < out->count; i++)
            rows[i] = out->rows[i];
        out->rows = rows;
        explaining->cap = cap;
    }
    struct flow_explained *row = &out->rows[out->count];
    if (out->count < ROWS_MAX)
        out->count++;
    *row = (struct flow_explained){.step = STR_EMPTY,
                                   .block = "",
                                   .text = "",
                                   .condition = "",
                                   .outcome = "",
                                   .action = "",
                                   .reply = STR_EMPTY};
    return row;
}

static struct str refusal(const struct explaining *explaining, const struct flow_outcome *outcome,
                          const struct flow_action *action)
{
    enum flow_verdict_kind kind = flow_verdict_of(explaining->flow->type, action->kind);
    if (kind != FLOW_REJECT && kind != FLOW_DEFER)
        return STR_EMPTY;
    struct mail_reply reply =
        flow_refusal_reply(explaining->flow->type, kind, outcome, action, NULL);
    return mail_reply_text(explaining->arena, &reply);
}

/* May a recipient be another behind it? As far as one can tell without knowing which. */
static bool changes_recipient(const struct flow_step *step)
{
    static const struct flow_relay_case nobody;
    const struct flow_block *block = step->block;
    return block->may_rewrite && !step->observe &&
           (!block->may_change || block->may_change(step, &nobody));
}

static bool walk(struct explaining *explaining, const struct flow_steps *steps, unsigned depth);

/* True if control may go on behind the step. */
static bool explain_outcome(struct explaining *explaining, const struct flow_step *step,
                            unsigned index, unsigned depth)
{
    const struct flow_outcome *outcome = &step->block->outcomes[index];
    const struct flow_action *action = &step->actions[index];
    struct flow_explained *row = add_row(explaining);
    row->depth = depth;
    row->step = step->id;
    row->block = step->block->name;
    row->text = outcome->text ? outcome->text : "";
    row->condition = !step->when ? "" : "true";
    row->outcome = outcome->name;
    row->action = flow_action_name(action);
    row->observed = step->observe;
    row->rewrites = changes_recipient(step);
    row->routes = step->block->routes;
    if (step->block->ways && !step->observe)
        row->way_count = step->block->ways(step, &row->ways);
    if (step->when && expression_judge(step->when, &explaining->known) == EXPRESSION_UNDECIDED)
        row->condition = "open";
    if (flow_actions[action->kind].decides) {
        row->reply = refusal(explaining, outcome, action);
        if (!step->observe)
            explaining->out->verdicts |= 1u
                                         << flow_verdict_of(explaining->flow->type, action->kind);
    }
    if (step->observe)
        return true;
    if (action->kind == ACTION_BRANCH) {
        explaining->ends |= walk(explaining, &action->branch, depth + 1);
        return false;
    }
    return !flow_actions[action->kind].decides;
}

/* True if control may pass the end of the steps. */
static bool walk(struct explaining *explaining, const struct flow_steps *steps, unsigned depth)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        const struct flow_block *block = step->block;
        enum expression_truth when =
            step->when ? expression_judge(step->when, &explaining->known) : EXPRESSION_TRUE;
        if (when == EXPRESSION_FALSE) {
            struct flow_explained *row = add_row(explaining);
            row->depth = depth;
            row->step = step->id;
            row->block = block->name;
            row->condition = "false";
            row->action = "next";
            continue;
        }
        bool goes_on = when != EXPRESSION_TRUE;
        for (unsigned k = 0; k < (block->run ? step->outcome_count : 1); k++) {
            if (!block->is_reachable || block->is_reachable(step, k, &explaining->known))
                goes_on |= explain_outcome(explaining, step, k, depth);
        }
        if (!goes_on)
            return false;
        if (block->may_rewrite && !step->observe) /* by whom and to whom, is open from here on */
            explaining->known.given &= ~addresses;
    }
    return true;
}

static void explain_end(struct explaining *explaining, enum flow_verdict_kind kind,
                        const char *text)
{
    struct mail_reply reply = flow_standard_reply(explaining->flow->type, kind);
    struct flow_explained *row = add_row(explaining);
    row->text = text;
    row->action = flow_verdict_name(kind);
    row->reply = mail_reply_text(explaining->arena, &reply);
    explaining->out->verdicts |= 1u << kind;
}

void flow_explain(const struct flow *flow, const struct flow_facts *facts, unsigned given,
                  struct arena *arena, struct flow_explanation *out)
{
    unsigned names = 1u << NAME_AUTHENTICATED | 1u << NAME_TRUSTED | 1u << NAME_USER |
                     1u << NAME_LISTENER | 1u << NAME_RECIPIENT | 1u << NAME_RECIPIENT_DOMAIN;
    if (given & FLOW_GIVEN_CLIENT)
        names |= 1u << NAME_CLIENT;
    if (given & FLOW_GIVEN_SENDER)
        names |= 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN;
    if (given & FLOW_GIVEN_TLS)
        names |= 1u << NAME_TLS;
    if (given & FLOW_GIVEN_HELO)
        names |= 1u << NAME_HELO;
    struct explaining explaining = {
        .flow = flow, .known = {.facts = facts, .given = names}, .arena = arena, .out = out};
    *out = (struct flow_explanation){0};
    if (!walk(&explaining, &flow->steps, 0) && !explaining.ends)
        return;
    if (flow->type == FLOW_CONTENT) {
        explain_end(&explaining, FLOW_DEFER, "no step has decided");
        return;
    }
    explain_end(&explaining, FLOW_REJECT, "no step has decided");
    if (flow->type == FLOW_AUTHENTICATION)
        explain_end(&explaining, FLOW_DEFER, "no step has decided, and a backend gave no answer");
}
