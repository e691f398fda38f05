/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/ends.c - does every path of a flow end as it must, and is every step reached?
 */
#include "flow/flow_internal.h"

bool flow_step_may_pass(const struct flow_step *step)
{
    if (step->observe || (step->when && expression_judge(step->when, NULL) != EXPRESSION_TRUE))
        return true;
    for (unsigned i = 0; i < step->outcome_count; i++) {
        const struct flow_action *action = &step->actions[i];
        /* a branch stands in place of the rest: control does not come back */
        if (action->kind != ACTION_BRANCH && !flow_actions[action->kind].decides)
            return true;
    }
    return false;
}

bool flow_steps_may_pass(const struct flow_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++)
        if (!flow_step_may_pass(&steps->items[i]))
            return false;
    return true;
}

/* It holds or puts aside: what stands behind it is for the message once it is released. */
static bool may_be_released(const struct flow_step *step)
{
    for (unsigned i = 0; i < step->outcome_count; i++)
        if (step->actions[i].kind == ACTION_HOLD || step->actions[i].kind == ACTION_QUARANTINE)
            return true;
    return false;
}

static void check_dead(const struct flow_steps *steps, struct config_report *report)
{
    for (size_t i = 0; i + 1 < steps->count; i++) {
        if (flow_step_may_pass(&steps->items[i]) || may_be_released(&steps->items[i]))
            continue;
        const struct flow_step *dead = &steps->items[i + 1];
        struct config_problem *problem = config_problem(
            report, CONFIG_WARNING, "dead-step", dead->place,
            "this step is never reached: step %.*s always decides", STR_ARG(steps->items[i].id));
        problem->fix = STR("take it out, or move it up");
        return;
    }
}

static void check_steps(const struct flow *flow, const struct flow_steps *steps,
                        struct config_report *report)
{
    if (steps->count == 0)
        return;
    check_dead(steps, report);
    if (flow->type == FLOW_CONTENT && flow_steps_may_pass(steps)) {
        const struct flow_step *last = &steps->items[steps->count - 1];
        struct config_problem *problem =
            config_problem(report, CONFIG_ERROR, "no-verdict", last->place,
                           "%s can end behind this step without a verdict",
                           steps == &flow->steps ? "this content flow" : "this branch");
        problem->fix = STR("end it with deliver, or another verdict without a condition");
    }
    for (size_t i = 0; i < steps->count; i++)
        for (unsigned k = 0; k < steps->items[i].outcome_count; k++)
            if (steps->items[i].actions[k].kind == ACTION_BRANCH)
                check_steps(flow, &steps->items[i].actions[k].branch, report);
}

/* What changes a signed message makes its signature worthless; so a step that does stands before.
 */
static void check_order(const struct flow_steps *steps, bool is_signed,
                        struct config_report *report)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        if (is_signed && step->block->breaks_signatures && !step->observe) {
            config_problem(report, CONFIG_ERROR, "after-signature", step->place,
                           "%s changes the message behind a step that signs it", step->block->name)
                ->fix = STR("move it up, before dkim-sign and arc-seal");
            return;
        }
        bool behind = is_signed || step->block->signs;
        for (unsigned k = 0; k < step->outcome_count; k++)
            if (step->actions[k].kind == ACTION_BRANCH)
                check_order(&step->actions[k].branch, behind, report);
        is_signed = behind;
    }
}

void flow_check_ends(const struct flow *flow, const struct flow_compile_context *context)
{
    check_steps(flow, &flow->steps, context->option.report);
    check_order(&flow->steps, /* is_signed= */ false, context->option.report);
}
