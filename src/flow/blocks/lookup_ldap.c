/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/lookup_ldap.c - recipients from LDAP: one entry or more means that it exists. */
#include "flow/blocks.h"
#include "flow/lookup_options.h"

struct parameters {
    struct str server;
    struct str base_dn;
    struct str filter;
    struct flow_lookup_times times;
};
struct prepared {
    struct directory_ldap_query query;
    struct str key;
};

static const struct option options[] = {
    {.name = "server",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, server),
     .text = "the LDAP server",
     .required = true,
     .refers_to = "servers"},
    {.name = "base_dn",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, base_dn),
     .text = "where to search; default: the server's"},
    {.name = "filter",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, filter),
     .text = "which entries, with {address}, {local} and {domain}",
     .fallback = "(mail={address})"},
    FLOW_LOOKUP_TIME_ROWS(struct parameters, times, "15m", "1m", "7d"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "lookup-ldap",
    .text = "Asks LDAP whether the recipient exists.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    step->prepared = prepared;
    prepared->query.server = flow_compile_server(compiling, parameters->server, 1u << SERVER_LDAP,
                                                 flow_place_of(node, "server", step->place));
    prepared->query.base_dn = parameters->base_dn;
    prepared->query.filter = parameters->filter;
    prepared->key = arena_printf(arena, "ldap:%.*s:%.*s:%.*s", STR_ARG(parameters->server),
                                 STR_ARG(parameters->base_dn), STR_ARG(parameters->filter));
    flow_check_placeholder(compiling, parameters->filter, /* is_recipient= */ true,
                           flow_place_of(node, "filter", step->place));
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          struct directory_answer *out)
{
    const struct prepared *prepared = step->prepared;
    directory_lookup_ldap(running->run->directory, &prepared->query, running->facts.recipient,
                          running->run->arena, out);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct prepared *prepared = step->prepared;
    struct flow_lookup lookup = {.key = prepared->key,
                                 .cache_ns = parameters->times.cache_ns,
                                 .cache_missing_ns = parameters->times.cache_missing_ns,
                                 .stale_ns = parameters->times.stale_ns,
                                 .ask = ask};
    return flow_lookup_run(running, step, &lookup, out_outcome, err);
}

const struct flow_block flow_block_lookup_ldap = {
    .name = "lookup-ldap",
    .text = "asks LDAP whether the recipient exists",
    .flows = FLOW_IN_RECIPIENT,
    .options = &table,
    .outcomes = flow_lookup_outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .ask = ask,
    .changes_field = flow_changes_no_field,
};
