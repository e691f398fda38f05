/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/hold.c - takes the message and keeps it: in the queue, or in a quarantine.
 *
 * Both remember the step, so that a release goes on behind it.
 */
#include "flow/blocks.h"

static const struct flow_outcome hold_outcomes[] = {
    {.name = "hold", .action = ACTION_HOLD, .text = "always"},
    {.name = NULL},
};
static const struct flow_outcome quarantine_outcomes[] = {
    {.name = "quarantine", .action = ACTION_QUARANTINE, .text = "always"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    struct flow_kept *kept = step->parameters;
    (void)node;
    if (step->block == &flow_block_quarantine)
        flow_compile_quarantine(compiling, kept, step->place);
    flow_action_keep(&step->actions[0], kept);
}

const struct flow_block flow_block_hold = {
    .name = "hold",
    .text = "takes the message and keeps it in the queue until somebody releases it",
    .flows = FLOW_IN_CONTENT,
    .options = &flow_hold_table,
    .outcomes = hold_outcomes,
    .prepare = prepare,
};

const struct flow_block flow_block_quarantine = {
    .name = "quarantine",
    .text = "takes the message and puts it aside, into a quarantine",
    .flows = FLOW_IN_CONTENT,
    .options = &flow_quarantine_table,
    .outcomes = quarantine_outcomes,
    .prepare = prepare,
};
