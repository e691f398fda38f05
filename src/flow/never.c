/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/never.c - conditions that can never hold: by themselves, or where they stand.
 *
 * Where a step stands, the conditions of the branches around it hold, and those of steps before it
 * that always decide do not. What backends say is open. A warning is certain; what cannot be told
 * (flow/expression_proof.c) is not warned about.
 */
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"

struct never {
    struct config_report *report;
    enum flow_type type;
    struct expression_knowledge known;
    struct expression_assumption assumed[EXPRESSION_ASSUMED_MAX];
    unsigned epochs;
};

static void assume(struct never *never, const struct expression *expression, bool truth)
{
    if (expression && never->known.assumed_count + 1 < EXPRESSION_ASSUMED_MAX)
        never->assumed[never->known.assumed_count++] =
            (struct expression_assumption){expression, truth, never->known.epoch, NULL};
}

static bool can_be(const struct never *never, const struct expression *expression, bool alone)
{
    struct expression_assumption items[EXPRESSION_ASSUMED_MAX];
    size_t count = alone ? 0 : never->known.assumed_count;
    for (size_t i = 0; i < count; i++)
        items[i] = never->assumed[i];
    items[count++] = (struct expression_assumption){expression, true, never->known.epoch, NULL};
    return expression_possible(items, count, &never->known);
}

/* True if control always goes on without what the step does. */
static bool report_never(const struct never *never, const struct flow_step *step,
                         const struct expression *expression)
{
    if (!expression || can_be(never, expression, /* alone= */ false))
        return false;
    struct config_place place = step->block->own_when
                                    ? flow_place_of(step->written, "when", step->place)
                                    : step->when_place;
    bool alone = !can_be(never, expression, /* alone= */ true);
    config_problem(never->report, CONFIG_WARNING, "never", place,
                   alone
                       ? "this condition never holds"
                       : "this condition never holds here: the branch around it, or a step before "
                         "it that decides, rules it out")
        ->fix = alone
                    ? STR("one part of it contradicts another: look for \"and\" that means \"or\"")
                    : STR("take the step out, or move it up");
    return true;
}

/* Does control never go on behind the step once its condition holds? Held mail does when it is
 * released. */
static bool always_decides(const struct flow_step *step)
{
    for (unsigned k = 0; k < step->outcome_count; k++) {
        enum flow_action_kind kind = step->actions[k].kind;
        if (kind == ACTION_HOLD || kind == ACTION_QUARANTINE ||
            (kind != ACTION_BRANCH && !flow_actions[kind].decides))
            return false;
    }
    return !step->observe && step->outcome_count > 0;
}

/* The last step of a list that says what happens to the rest, if there is any: good to have. */
static bool is_backstop(const struct never *never, const struct flow_steps *steps, size_t index)
{
    const struct flow_step *step = &steps->items[index];
    enum flow_action_kind kind = step->actions[0].kind;
    return index + 1 == steps->count && !step->when && step->outcome_count == 1 &&
           flow_actions[kind].decides && (never->type == FLOW_CONTENT || kind != ACTION_ACCEPT);
}

/* Do the steps before it leave nothing for this one? */
static bool is_cut_off(const struct never *never, const struct flow_steps *steps, size_t index)
{
    const struct flow_step *step = &steps->items[index];
    if (expression_possible(never->assumed, never->known.assumed_count, &never->known))
        return false;
    if (!is_backstop(never, steps, index))
        config_problem(never->report, CONFIG_WARNING, "dead-step", step->place,
                       "this step is never reached: the conditions of the steps before it that "
                       "decide leave nothing for it")
            ->fix = STR("take it out, move it up, or narrow a condition before it");
    return true;
}

static void check_steps(struct never *never, const struct flow_steps *steps);

static void check_branches(struct never *never, const struct flow_step *step)
{
    size_t mark = never->known.assumed_count;
    unsigned epoch = never->known.epoch;
    assume(never, step->when, true);
    for (unsigned k = 0; k < step->outcome_count; k++) {
        bool truth = true;
        size_t inner = never->known.assumed_count;
        const struct expression *condition =
            step->block->condition ? step->block->condition(step, k, &truth) : NULL;
        if (truth && step->block->own_when && report_never(never, step, condition))
            continue; /* once is enough: all in it is never reached */
        if (step->actions[k].kind != ACTION_BRANCH)
            continue;
        assume(never, condition, truth);
        check_steps(never, &step->actions[k].branch);
        never->known.assumed_count = inner;
        never->known.epoch = epoch;
    }
    never->known.assumed_count = mark;
}

static void check_steps(struct never *never, const struct flow_steps *steps)
{
    size_t outer = never->known.assumed_count;
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        never->known.epoch = ++never->epochs;
        if (i && is_cut_off(never, steps, i))
            break; /* and so are those behind it */
        if (report_never(never, step, step->when))
            continue;
        check_branches(never, step);
        if (step->when && always_decides(step))
            assume(never, step->when, false);
    }
    never->known.assumed_count = outer;
}

void flow_check_never(const struct flow *flow, const struct flow_compile_context *context)
{
    const unsigned stable = 1u << NAME_AUTHENTICATED | 1u << NAME_TRUSTED | 1u << NAME_USER |
                            1u << NAME_CLIENT | 1u << NAME_CLIENT_NAME | 1u << NAME_HELO |
                            1u << NAME_TLS | 1u << NAME_LISTENER;
    struct never never = {.report = context->option.report,
                          .type = flow->type,
                          .known = {.listener = STR_EMPTY, .unstable = ~stable}};
    never.known.assumed = never.assumed;
    check_steps(&never, &flow->steps);
}
