/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/lookup_smtp.c - External SMTP Lookup: your mail server is asked with MAIL FROM:<> and
 * RCPT TO whether it knows the recipient.
 */
#include "flow/blocks.h"
#include "flow/lookup_options.h"

struct parameters {
    struct str server;
    struct flow_lookup_times times;
};
struct prepared {
    const struct server *server;
    struct str key;
};

static const struct option options[] = {
    {.name = "server",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, server),
     .text = "the mail server to ask",
     .required = true,
     .refers_to = "servers"},
    FLOW_LOOKUP_TIME_ROWS(struct parameters, times, "15m", "1m", "7d"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "lookup-smtp",
    .text = "Asks a mail server whether the recipient exists.",
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
    prepared->server =
        flow_compile_server(compiling, parameters->server, 1u << SERVER_SMTP | 1u << SERVER_LMTP,
                            flow_place_of(node, "server", step->place));
    if (!prepared->server || !prepared->server->endpoint_count)
        return;
    const struct server_endpoint *endpoint = &prepared->server->endpoints[0];
    prepared->key =
        arena_printf(arena, "smtp:%.*s:%.*s%.*s:%u", STR_ARG(parameters->server),
                     STR_ARG(endpoint->host), STR_ARG(endpoint->unix_path), endpoint->port);
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          struct directory_answer *out)
{
    const struct prepared *prepared = step->prepared;
    directory_lookup_smtp(running->run->directory, prepared->server, running->facts.recipient,
                          running->facts.smtputf8, running->run->arena, out);
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

const struct flow_block flow_block_lookup_smtp = {
    .name = "lookup-smtp",
    .text = "asks a mail server whether the recipient exists",
    .flows = FLOW_IN_RECIPIENT,
    .options = &table,
    .outcomes = flow_lookup_outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .ask = ask,
    .changes_field = flow_changes_no_field,
};
