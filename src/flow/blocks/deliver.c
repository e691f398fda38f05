/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/deliver.c - sends the message on */
#include "flow/blocks.h"

static const struct option options[] = {{.name = NULL}};
static const struct option_table table = {
    .name = "deliver",
    .text = "sends the message on",
    .options = options,
};
static const struct flow_outcome outcomes[] = {
    {.name = "deliver", .action = ACTION_DELIVER, .text = "always"},
    {.name = NULL},
};

const struct flow_block flow_block_deliver = {
    .name = "deliver",
    .text = "sends the message on",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
};
