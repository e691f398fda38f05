/* SPDX-License-Identifier: Apache-2.0 */
/* Stand-ins for flows and the spool's rows, for the tests of settings alone. */
#include "flow/flow.h"

#include "spool/spool.h"

#include <stddef.h>

static const struct option spool_rows[] = {
    {.name = "path",
     .type = OPTION_PATH,
     .offset = offsetof(struct spool_settings, path),
     .text = "folder",
     .fallback = "/var/spool/postern"},
    {0},
};
const struct option_table spool_options = {
    .name = "spool", .text = "t", .options = spool_rows, .size = sizeof(struct spool_settings)};

struct flow {
    struct str name;
    enum flow_type type;
    struct config_place place;
    bool used, built_in;
    struct flow *next;
};
struct flow_set {
    struct flow *flows;
};

static struct flow *add(struct flow_set *set, struct arena *arena, enum flow_type type,
                        struct str name, struct config_place place, bool built_in)
{
    struct flow *flow = ARENA_NEW(arena, struct flow);
    *flow = (struct flow){name, type, place, false, built_in, set->flows};
    set->flows = flow;
    return flow;
}

enum result flow_compile_all(const struct config_node *section,
                             const struct flow_compile_context *context, struct flow_set **out_set)
{
    static const char *const names[] = {"authentication", "recipient", "content"};
    struct flow_set *set = ARENA_NEW(context->option.arena, struct flow_set);
    add(set, context->option.arena, FLOW_CONTENT, STR("incoming"), (struct config_place){0}, true);
    add(set, context->option.arena, FLOW_CONTENT, STR("outgoing"), (struct config_place){0}, true);
    add(set, context->option.arena, FLOW_RECIPIENT, STR("relay-authenticated"),
        (struct config_place){0}, true);
    for (int type = 0; type < 3; type++) {
        const struct config_node *flows = config_get(section, str_c(names[type]));
        for (size_t i = 0; flows && flows->kind == CONFIG_MAP && i < flows->count; i++)
            add(set, context->option.arena, (enum flow_type)type, flows->pairs[i].key,
                flows->pairs[i].place, false);
    }
    *out_set = set;
    return OK;
}

enum result flow_compile_inline(struct flow_set *set, enum flow_type type, struct str name,
                                const struct config_node *node,
                                const struct flow_compile_context *context,
                                const struct flow **out_flow)
{
    *out_flow = add(set, context->option.arena, type, name, node->place, true);
    return OK;
}

const struct flow *flow_find(const struct flow_set *set, enum flow_type type, struct str name)
{
    for (const struct flow *flow = set->flows; flow; flow = flow->next) {
        if (flow->type == type && str_equal(flow->name, name))
            return flow;
    }
    return NULL;
}

void flow_mark_used(const struct flow *flow)
{
    ((struct flow *)flow)->used = true;
}

void flow_report_unused(const struct flow_set *set, struct config_report *report)
{
    for (const struct flow *flow = set->flows; flow; flow = flow->next) {
        if (!flow->used && !flow->built_in)
            config_problem(report, CONFIG_WARNING, "unused-flow", flow->place, "unused");
    }
}

struct str flow_name(const struct flow *flow)
{
    return flow->name;
}

/* A flow named "open" lets strangers through. */
void flow_prove_relay(const struct flow_relay_case *cases, size_t count,
                      struct config_report *report)
{
    for (size_t i = 0; i < count; i++) {
        const struct flow_relay_case *at = &cases[i];
        if (!at->authentication_required && (at->is_any || at->is_lookup_mx) &&
            str_equal(flow_name(at->recipient_flow), STR("open")))
            config_problem(report, at->allow_open_relay.len ? CONFIG_WARNING : CONFIG_ERROR,
                           "open-relay", at->place, "listener %.*s", STR_ARG(at->listener));
    }
}
