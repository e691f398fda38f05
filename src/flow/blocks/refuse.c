/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/refuse.c - reject refuses for good, defer asks the client to try again later. */
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
     .text =
         "what the client is told, with its codes: \"550 5.7.1 Not here\", \"451 4.7.1 Later\""},
    {.name = "reason",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, reason),
     .text = "what events and metrics count it as",
     .fallback = "none",
     .words = reasons},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    step->actions[0].reply = flow_compile_reply(compiling, parameters->reply, step->actions[0].kind,
                                                flow_place_of(node, "reply", step->place));
    step->actions[0].reason = (enum mail_reason)parameters->reason;
}

#define REFUSING_BLOCK(name_, action_, text_)                                                      \
    {                                                                                              \
        .name = (name_), .text = (text_),                                                          \
        .flows = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,                     \
        .options = &(const struct option_table){.name = (name_),                                   \
                                                .text = (text_),                                   \
                                                .options = options,                                \
                                                .shorthand = "reply",                              \
                                                .size = sizeof(struct parameters)},                \
        .outcomes =                                                                                \
            (const struct flow_outcome[]){                                                         \
                {.name = (name_), .action = (action_), .text = "always"}, {.name = NULL}},         \
        .prepare = prepare,                                                                        \
    }

const struct flow_block flow_block_reject =
    REFUSING_BLOCK("reject", ACTION_REJECT, "refuses for good");
const struct flow_block flow_block_defer =
    REFUSING_BLOCK("defer", ACTION_DEFER, "asks the client to try again later");
