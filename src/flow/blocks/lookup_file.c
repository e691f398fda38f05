/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/lookup_file.c - recipients from a file: an address, @domain or pattern a line.
 *
 * The file is in memory and reread when it changes, so that answers need no cache.
 */
#include "flow/blocks.h"

struct parameters {
    struct str path;
};

static const struct option options[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, path),
     .text = "the file: an address, @domain or /regular expression/ a line",
     .required = true},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "lookup-file",
    .text = "Looks for the recipient in a file.",
    .options = options,
    .shorthand = "path",
    .size = sizeof(struct parameters),
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    flow_check_file(compiling, parameters->path, flow_place_of(node, "path", step->place));
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          struct directory_answer *out)
{
    const struct parameters *parameters = step->parameters;
    directory_lookup_file(running->run->directory, parameters->path, running->facts.recipient,
                          running->run->arena, out);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    struct flow_lookup lookup = {.ask = ask};
    return flow_lookup_run(running, step, &lookup, out_outcome, err);
}

const struct flow_block flow_block_lookup_file = {
    .name = "lookup-file",
    .text = "looks for the recipient in a file",
    .flows = FLOW_IN_RECIPIENT,
    .options = &table,
    .outcomes = flow_lookup_outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .ask = ask,
    .changes_field = flow_changes_no_field,
};
