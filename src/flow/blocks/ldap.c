/* SPDX-License-Identifier: Apache-2.0 */
/* flow/blocks/ldap.c - logins from a directory: search then bind, or bind at once. */
#include "flow/blocks.h"

struct parameters {
    struct str server;
    struct str base_dn;
    struct str filter;
    struct str bind_dn;
    struct str senders;
    int64_t cache_ns;
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
     .text = "which entry, as in (mail={user}); also {local} and {domain}",
     .fallback = "(mail={user})"},
    {.name = "bind_dn",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, bind_dn),
     .text = "bind as this without a search, as in uid={local},ou=people,dc=example,dc=org"},
    {.name = "senders",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, senders),
     .text = "attribute with further addresses that the user may send as"},
    {.name = "cache",
     .type = OPTION_DURATION,
     .offset = offsetof(struct parameters, cache_ns),
     .text = "how long a yes is believed without asking again; 0s: never",
     .fallback = "0s"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "ldap",
    .text = "Verifies login and password against LDAP.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct directory_ldap_query *query =
        ARENA_NEW(compiling->context->option.arena, struct directory_ldap_query);
    query->server = flow_compile_server(compiling, parameters->server, 1u << SERVER_LDAP,
                                        flow_place_of(node, "server", step->place));
    query->base_dn = parameters->base_dn;
    query->filter = parameters->filter;
    query->bind_dn = parameters->bind_dn;
    query->senders = parameters->senders;
    step->prepared = query;
    if (parameters->bind_dn.len)
        flow_check_placeholder(compiling, parameters->bind_dn, /* is_recipient= */ false,
                               flow_place_of(node, "bind_dn", step->place));
    else
        flow_check_placeholder(compiling, parameters->filter, /* is_recipient= */ false,
                               flow_place_of(node, "filter", step->place));
}

static MAY_YIELD void ask(struct flow_running *running, const struct flow_step *step,
                          struct directory_answer *out)
{
    directory_login_ldap(running->run->directory, step->prepared, running->login, running->password,
                         running->run->arena, out);
}

/* Where the directory is asked for {local} alone, anything may stand behind the @: the account is
 * what stands before it, or a new domain would be a new user to limits and holds. */
static struct str account_of(const struct flow_running *running,
                             const struct parameters *parameters)
{
    static const struct str of_all[] = {{"{user}", 6}, {"{address}", 9}, {"{domain}", 8}};
    struct str pattern = parameters->bind_dn.len ? parameters->bind_dn : parameters->filter;
    ptrdiff_t at = str_find_last(running->login, '@');
    for (size_t i = 0; i < sizeof of_all / sizeof *of_all; i++)
        if (str_find_str(pattern, of_all[i]) >= 0)
            return STR_EMPTY;
    return at < 0 ? STR_EMPTY : str_slice(running->login, 0, (size_t)at);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    struct flow_login login = {
        .cache_ns = parameters->cache_ns, .ask = ask, .account = account_of(running, parameters)};
    return flow_login_run(running, step, &login, out_outcome, err);
}

const struct flow_block flow_block_ldap = {
    .name = "ldap",
    .text = "verifies login and password against LDAP",
    .flows = FLOW_IN_AUTHENTICATION,
    .options = &table,
    .outcomes = flow_login_outcomes,
    .prepare = prepare,
    .run = run,
    .ask = ask,
};
