/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/resolve.c - what parameters of blocks name: servers, files, placeholders.
 */
#include "flow/flow_internal.h"

#include <unistd.h>

const struct server *flow_compile_server(struct flow_compiling *compiling, struct str name,
                                         unsigned kinds, struct config_place place)
{
    const struct flow_compile_context *context = compiling->context;
    if (!name.len)
        return NULL; /* the binder has said that it is missing */
    const struct server *server = server_find(context->servers, context->server_count, name);
    if (!server) {
        /* with the whole file at hand the binder has reported it, and names the section */
        if (!context->option.root)
            flow_problem(compiling, CONFIG_ERROR, "unknown-name", place,
                         "there is no server \"%.*s\" under servers", STR_ARG(name));
        return NULL;
    }
    if (kinds & (1u << server->kind))
        return server;
    struct config_problem *problem =
        flow_problem(compiling, CONFIG_ERROR, "wrong-server", place,
                     "server \"%.*s\" is of another kind than this block needs", STR_ARG(name));
    problem->fix = kinds & (1u << SERVER_LDAP)     ? STR("name a server with an ldap: address")
                   : kinds & (1u << SERVER_CLAMD)  ? STR("name a server with clamd:")
                   : kinds & (1u << SERVER_RSPAMD) ? STR("name a server with rspamd: or spamd:")
                                                   : STR("name a server with an smtp: address");
    return NULL;
}

struct config_place flow_place_of(const struct config_node *node, const char *key,
                                  struct config_place fallback)
{
    if (!node)
        return fallback;
    if (node->kind != CONFIG_MAP)
        return node->place;
    const struct config_node *value = config_get(node, str_c(key));
    return value ? value->place : fallback;
}

void flow_check_file(struct flow_compiling *compiling, struct str path, struct config_place place)
{
    char name[4096];
    if (!path.len || (str_to_c(path, name, sizeof name) && access(name, R_OK) == 0))
        return;
    struct config_problem *problem = flow_problem(compiling, CONFIG_WARNING, "missing-file", place,
                                                  "%.*s cannot be read now", STR_ARG(path));
    problem->fix = STR("until it can, this step answers with the outcome error");
}

void flow_check_placeholder(struct flow_compiling *compiling, struct str text, bool is_recipient,
                            struct config_place place)
{
    static const struct str login_names[] = {
        {"{user}", 6}, {"{local}", 7}, {"{address}", 9}, {NULL, 0}};
    static const struct str recipient_names[] = {{"{address}", 9}, {"{local}", 7}, {NULL, 0}};
    const struct str *names = is_recipient ? recipient_names : login_names;
    for (size_t i = 0; names[i].len; i++)
        if (str_find_str(text, names[i]) >= 0)
            return;
    struct config_problem *problem =
        flow_problem(compiling, CONFIG_ERROR, "bad-filter", place,
                     "this does not depend on the %s: everybody would get the same answer",
                     is_recipient ? "recipient" : "user");
    problem->fix = is_recipient ? STR("use {address}, or {local} with {domain}")
                                : STR("use {user}, or {local} with {domain}");
}
