/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/hold.c - takes the message and keeps it in the queue until somebody releases it */
#include "flow/blocks.h"

static const struct option options[] = {{.name = NULL}};
static const struct option_table table = {
    .name = "hold",
    .text = "takes the message and keeps it in the queue until somebody releases it",
    .options = options,
};
static const struct flow_outcome outcomes[] = {
    {.name = "hold", .action = ACTION_HOLD, .text = "always"},
    {.name = NULL},
};

const struct flow_block flow_block_hold = {
    .name = "hold",
    .text = "takes the message and keeps it in the queue until somebody releases it",
    .flows = FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
};
