/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/accept.c - takes the recipient */
#include "flow/blocks.h"

static const struct option options[] = {{.name = NULL}};
static const struct option_table table = {
    .name = "accept",
    .text = "takes the recipient",
    .options = options,
};
static const struct flow_outcome outcomes[] = {
    {.name = "accept", .action = ACTION_ACCEPT, .text = "always"},
    {.name = NULL},
};

const struct flow_block flow_block_accept = {
    .name = "accept",
    .text = "takes the recipient",
    .flows = FLOW_IN_RECIPIENT,
    .options = &table,
    .outcomes = outcomes,
};
