/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/defer.c - asks the client to try again later */
#include "flow/blocks.h"

struct parameters {
    struct str reply;
    int reason;
};

static const struct option_word reasons[] = {
#define MAIL_REASON(id, name) {name, MAIL_REASON_##id},
#include "mail/reasons.h"
#undef MAIL_REASON
    {NULL, 0},
};
static const struct option options[] = {
    {.name = "reply",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, reply),
     .text = "what the client is told, with its codes: \"451 4.7.1 Try again later\""},
    {.name = "reason",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, reason),
     .text = "what events and metrics count it as",
     .fallback = "none",
     .words = reasons},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "defer",
    .text = "asks the client to try again later",
    .options = options,
    .shorthand = "reply",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    {.name = "defer", .action = ACTION_DEFER, .text = "always"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    step->actions[0].reply = flow_compile_reply(compiling, parameters->reply, ACTION_DEFER,
                                                flow_place_of(node, "reply", step->place));
    step->actions[0].reason = (enum mail_reason)parameters->reason;
}

const struct flow_block flow_block_defer = {
    .name = "defer",
    .text = "asks the client to try again later",
    .flows = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
};
