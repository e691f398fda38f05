/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/file.c - logins and crypt(5) hashes from a file, reread when it changes. */
#include "flow/blocks.h"

struct parameters {
    struct str path;
    int64_t cache_ns;
};

static const struct option options[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, path),
     .text = "the file; `postern user passwd` writes it",
     .required = true},
    {.name = "cache",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, cache_ns),
     .text = "how long a yes is believed without a look into the file; 0s: never",
     .fallback = "0s"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "file",
    .text = "Verifies login and password against a file of users.",
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
    directory_login_file(running->run->directory, parameters->path, running->login,
                         running->password, running->run->arena, out);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct flow_login login = {.cache_ns = parameters->cache_ns, .ask = ask};
    return flow_login_run(running, step, &login, out_outcome, err);
}

const struct flow_block flow_block_file = {
    .name = "file",
    .text = "verifies login and password against a file",
    .flows = FLOW_IN_AUTHENTICATION,
    .options = &table,
    .outcomes = flow_login_outcomes,
    .prepare = prepare,
    .run = run,
    .ask = ask,
};
