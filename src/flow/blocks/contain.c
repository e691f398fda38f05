/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/contain.c - the account that sends this is not in its owner's hands.
 *
 * The step itself only says so; what follows (the mail is held, logins are refused, an incident is
 * opened) is the gateway's, for it must be on disk before it counts.
 */
#include "flow/blocks.h"

struct parameters {
    char none;
};

static const struct option options[] = {{.name = NULL}};
static const struct option_table table = {
    .name = "contain",
    .text = "Holds the account of the logged-in user: its mail, and its logins. Where nobody is "
            "logged in, or the account is exempt, it is a defer.",
    .options = options,
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    {.name = "contain",
     .action = ACTION_CONTAIN,
     .reply = "450 4.7.1 Too much in too short a time, try again later",
     .reason = MAIL_REASON_CONTAINED,
     .text = "always"},
    {.name = NULL},
};

const struct flow_block flow_block_contain = {
    .name = "contain",
    .text = "holds the account of the user: all its mail waits, logins are refused, an incident is "
            "opened",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
};
