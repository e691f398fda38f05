/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/smtp.c - External SMTP Authentication: your mail server decides, by AUTH with the
 * user's own credentials.
 */
#include "flow/blocks.h"

struct parameters {
    struct str server;
    int64_t cache_ns;
};

static const struct option options[] = {
    {.name = "server",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, server),
     .text = "the mail server to verify against",
     .required = true,
     .refers_to = "servers"},
    {.name = "cache",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, cache_ns),
     .text = "how long a yes is believed without asking again; 0s: never",
     .fallback = "0s"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "smtp",
    .text = "Verifies login and password against a mail server.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};

static bool is_loopback(const struct server *server)
{
    for (size_t i = 0; i < server->endpoint_count; i++) {
        const struct server_endpoint *endpoint = &server->endpoints[i];
        struct net_ip ip;
        if (endpoint->unix_path.len || str_equal_nocase(endpoint->host, STR("localhost")))
            continue;
        if (!net_ip_parse(endpoint->host, &ip) || !net_ip_is_loopback(&ip))
            return false;
    }
    return true;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct config_place place = flow_place_of(node, "server", step->place);
    const struct server *server =
        flow_compile_server(compiling, parameters->server, 1u << SERVER_SMTP, place);
    step->prepared = server;
    if (!server || server->tls != SERVER_TLS_NONE || is_loopback(server))
        return;
    struct config_problem *problem =
        flow_problem(compiling, CONFIG_WARNING, "cleartext-credentials", place,
                     "passwords travel to server \"%.*s\" without TLS", STR_ARG(server->name));
    problem->fix = STR("say tls: verified at the server");
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          struct directory_answer *out)
{
    directory_login_smtp(running->run->directory, step->prepared, running->login, running->password,
                         running->run->arena, out);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct flow_login login = {.cache_ns = parameters->cache_ns, .ask = ask};
    return flow_login_run(running, step, &login, out_outcome, err);
}

const struct flow_block flow_block_smtp = {
    .name = "smtp",
    .text = "verifies login and password against a mail server",
    .flows = FLOW_IN_AUTHENTICATION,
    .options = &table,
    .outcomes = flow_login_outcomes,
    .prepare = prepare,
    .run = run,
    .ask = ask,
};
