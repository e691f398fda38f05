/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/route.c - chooses a transport in place of the one of the domain.
 *
 * The last choice counts: in a content flow for all of its recipients, and over one of a recipient
 * flow.
 */
#include "flow/blocks.h"

struct parameters {
    struct str transport;
};

static const struct option options[] = {
    {.name = "transport",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, transport),
     .refers_to = "transports",
     .text = "by which it goes",
     .required = true},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "route",
    .text = "Chooses another transport.",
    .options = options,
    .shorthand = "transport",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    {.name = "routed", .action = ACTION_NEXT, .text = "always"},
    {.name = NULL},
};

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    (void)err;
    *out_outcome = 0;
    running->detail = parameters->transport;
    if (!step->observe)
        flow_set_transport(running, parameters->transport);
    return OK;
}

static bool may_look_up(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct parameters *parameters = step->parameters;
    return !relay->looks_up || relay->looks_up(relay->context, parameters->transport);
}

static size_t ways(const struct flow_step *step, const struct str **out)
{
    const struct parameters *parameters = step->parameters;
    *out = &parameters->transport;
    return 1;
}

const struct flow_block flow_block_route = {
    .name = "route",
    .text = "chooses another transport than that of the domain",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .may_route = true,
    .routes = true,
    .ways = ways,
    .may_look_up = may_look_up,
    .options = &table,
    .outcomes = outcomes,
    .run = run,
    .changes_field = flow_changes_no_field,
};
