/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/test.h - for unit tests: flows compiled from text, with some servers and two lists.
 */
#pragma once

#include "base/buf.h"
#include "base/check.h"
#include "base/test.h"
#include "config/load.h"
#include "flow/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct flow_fixture {
    struct arena *arena;
    struct config_report report;
    struct config_node root;
    struct server_endpoint endpoints[3];
    struct server servers[5];
    struct net_network networks[1];
    struct str texts[3];
    struct flow_list lists[2];
    struct flow_compile_context context;
    struct flow_set *set;
    enum result result;
};

/* Stands before the flows of a test; its last line is line 4. */
#define FLOW_TEST_SERVERS                                                                          \
    "servers: {\n"                                                                                 \
    "  mail: { smtp: \"mail.example.org:25\" },\n"                                                 \
    "  plain: { smtp: \"192.0.2.9:25\", tls: none },\n"                                            \
    "  directory: { ldap: \"ldap://ldap.example.org\" }, filter: { milter: \"192.0.2.9:1\" }, "    \
    "hook: { http: \"http://192.0.2.9\" } }\n"

static inline void flow_fixture_context(struct flow_fixture *fixture)
{
    fixture->arena = arena_new(0);
    config_report_init(&fixture->report, fixture->arena);
    fixture->endpoints[0] = (struct server_endpoint){.host = STR("mail.example.org"), .port = 25};
    fixture->endpoints[1] = (struct server_endpoint){.host = STR("192.0.2.9"), .port = 25};
    fixture->servers[0] = (struct server){.name = STR("mail"),
                                          .kind = SERVER_SMTP,
                                          .tls = SERVER_TLS_VERIFIED,
                                          .endpoints = &fixture->endpoints[0],
                                          .endpoint_count = 1};
    fixture->servers[1] = (struct server){.name = STR("plain"),
                                          .kind = SERVER_SMTP,
                                          .tls = SERVER_TLS_NONE,
                                          .endpoints = &fixture->endpoints[1],
                                          .endpoint_count = 1};
    fixture->servers[2] = (struct server){.name = STR("directory"), .kind = SERVER_LDAP};
    fixture->servers[3] = (struct server){.name = STR("filter"), .kind = SERVER_MILTER};
    fixture->servers[4] = (struct server){.name = STR("hook"), .kind = SERVER_HTTP};
    check(net_network_parse(STR("192.0.2.0/24"), &fixture->networks[0]));
    fixture->texts[0] = STR("friend@example.net");
    fixture->texts[1] = STR("@example.com");
    fixture->texts[2] = STR("example.edu");
    fixture->lists[0] = (struct flow_list){
        .name = STR("office"), .networks = fixture->networks, .network_count = 1};
    fixture->lists[1] =
        (struct flow_list){.name = STR("friends"), .texts = fixture->texts, .text_count = 3};
    fixture->context = (struct flow_compile_context){
        .option = {.arena = fixture->arena, .report = &fixture->report, .root = &fixture->root},
        .servers = fixture->servers,
        .server_count = 5,
        .lists = fixture->lists,
        .list_count = 2,
        .root = &fixture->root,
    };
}

/* `text` is the file below FLOW_TEST_SERVERS. */
static inline void flow_fixture_open(struct flow_fixture *fixture, const char *text)
{
    *fixture = (struct flow_fixture){0};
    flow_fixture_context(fixture);
    struct str whole = arena_printf(fixture->arena, "%s%s", FLOW_TEST_SERVERS, text);
    fixture->result =
        config_load_text(STR("test.yaml"), whole, fixture->arena, &fixture->report, &fixture->root);
    if (fixture->result == OK)
        fixture->result = flow_compile_all(config_get(&fixture->root, STR("flows")),
                                           &fixture->context, &fixture->set);
}

static inline void flow_fixture_close(struct flow_fixture *fixture)
{
    arena_free(fixture->arena);
}

static inline void flow_fixture_print(const struct flow_fixture *fixture)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, 65536);
    config_report_print(&fixture->report, false, &out);
    print_error("%.*s", (int)out.len, out.ptr ? out.ptr : "");
}
