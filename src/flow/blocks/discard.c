/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/discard.c - takes the message and throws it away, without a word to anybody */
#include "flow/blocks.h"

static const struct option options[] = {{.name = NULL}};
static const struct option_table table = {
    .name = "discard",
    .text = "takes the message and throws it away, without a word to anybody",
    .options = options,
};
static const struct flow_outcome outcomes[] = {
    {.name = "discard", .action = ACTION_DISCARD, .text = "always"},
    {.name = NULL},
};

const struct flow_block flow_block_discard = {
    .name = "discard",
    .text = "takes the message and throws it away, without a word to anybody",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
};
