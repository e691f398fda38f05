/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/settings_presets.c - short forms made long, on the tree itself, so that everything after
 * it reads one form only. What a preset adds has the place of the word that asked for it.
 */
#include "gateway/settings_internal.h"

#include "base/check.h"

#include <string.h>

struct preset {
    const char *name;
    const char *text;
};

static const struct preset listener_presets[] = {
    {"mx", "{ listen: [ '0.0.0.0:25', '[::]:25' ], authentication: none }"},
    {"submission", "{ listen: [ '0.0.0.0:587', '[::]:587' ], tls: required }"},
    {"submissions", "{ listen: [ '0.0.0.0:465', '[::]:465' ], tls: implicit }"},
    {NULL, NULL},
};
static const struct preset domain_presets[] = {
    {"relay-authenticated",
     "{ recipients: relay-authenticated, content: outgoing, transport: internet }"},
    {NULL, NULL},
};
static const char internet_text[] = "{ method: lookup-mx, direction: outbound }";

/* ---- trees of our own text ---- */

static void set_place(struct config_node *node, struct config_place place)
{
    node->place = place;
    for (size_t i = 0; i < node->count; i++) {
        if (node->kind == CONFIG_MAP) {
            node->pairs[i].place = place;
            set_place(&node->pairs[i].value, place);
        } else {
            set_place(&node->items[i], place);
        }
    }
}

static struct config_node parse_own(struct settings_loading *loading, const char *text,
                                    struct config_place place)
{
    struct config_node node;
    struct config_report ignored;
    config_report_init(&ignored, loading->arena);
    enum result parsed =
        config_load_text(STR("(built in)"), str_c(text), loading->arena, &ignored, &node);
    check(parsed == OK);
    set_place(&node, place);
    return node;
}

/* The map with room for `more` pairs, so that adding cannot touch the tree of the file. */
static void copy_map(struct settings_loading *loading, struct config_node *map, size_t more)
{
    struct config_pair *pairs =
        arena_alloc_array(loading->arena, map->count + more + 1, sizeof *pairs);
    if (map->count)
        memcpy(pairs, map->pairs, map->count * sizeof *pairs);
    map->pairs = pairs;
}

static struct config_node *get_mutable(struct config_node *map, const char *key)
{
    const struct config_pair *pair = config_get_pair(map, str_c(key));
    return pair ? &map->pairs[pair - map->pairs].value : NULL;
}

static void add_pair(struct config_node *map, struct config_pair pair)
{
    map->pairs[map->count++] = pair;
}

/* ---- presets ---- */

static const struct preset *find_preset(struct settings_loading *loading,
                                        const struct preset *presets,
                                        const struct config_node *value)
{
    struct str known[8];
    size_t count = 0;
    struct str name;
    if (!option_read_text(value, &loading->context, &name))
        return NULL;
    for (; presets[count].name && count < 8; count++) {
        known[count] = str_c(presets[count].name);
        if (str_equal(known[count], name))
            return &presets[count];
    }
    struct config_problem *problem = SETTINGS_ERROR(loading, "unknown-word", value->place,
                                                    "there is no preset \"%.*s\"", STR_ARG(name));
    struct arena *arena = loading->report->arena;
    config_suggest(problem, arena, name, known, count, config_known(arena, known, count));
    return NULL;
}

/* Put what the preset says behind what `map` says itself; its own keys win. */
static void apply_preset(struct settings_loading *loading, const struct preset *presets,
                         struct config_node *map)
{
    const struct config_pair *asked = config_get_pair(map, STR("preset"));
    if (!asked)
        return;
    struct config_pair wanted = *asked;
    struct config_node own = {.kind = CONFIG_MAP};
    const struct preset *preset = find_preset(loading, presets, &wanted.value);
    if (preset)
        own = parse_own(loading, preset->text, wanted.value.place);
    copy_map(loading, map, own.count);
    size_t kept = 0;
    for (size_t i = 0; i < map->count; i++) {
        if (!str_equal(map->pairs[i].key, STR("preset")))
            map->pairs[kept++] = map->pairs[i];
    }
    map->count = kept;
    for (size_t i = 0; i < own.count; i++) {
        if (!config_get(map, own.pairs[i].key))
            add_pair(map, own.pairs[i]);
    }
}

static void apply_presets(struct settings_loading *loading, const struct preset *presets,
                          struct config_node *section)
{
    if (!section || section->kind != CONFIG_MAP)
        return;
    copy_map(loading, section, 0);
    for (size_t i = 0; i < section->count; i++) {
        if (section->pairs[i].value.kind == CONFIG_MAP)
            apply_preset(loading, presets, &section->pairs[i].value);
    }
}

/* ---- transports in place of their names ---- */

/* { server: mail } is shared by all domains that say so; anything more is the domain's own. */
static struct str inline_name(struct settings_loading *loading, const struct config_pair *domain,
                              const struct config_node *map)
{
    const struct config_node *server = config_get(map, STR("server"));
    if (map->count == 1 && server && server->kind == CONFIG_SCALAR)
        return arena_printf(loading->arena, "server:%.*s", STR_ARG(server->text));
    return arena_printf(loading->arena, "domain:%.*s", STR_ARG(domain->key));
}

static void name_transport(struct settings_loading *loading, struct config_pair *domain,
                           struct config_node *transports)
{
    struct config_node *value =
        domain->value.kind == CONFIG_MAP ? get_mutable(&domain->value, "transport") : NULL;
    if (!value)
        return;
    if (value->kind == CONFIG_MAP) {
        struct config_pair pair = {inline_name(loading, domain, value), value->place, *value};
        if (!config_get(transports, pair.key))
            add_pair(transports, pair);
        copy_map(loading, &domain->value, 0);
        *get_mutable(&domain->value, "transport") = (struct config_node){
            .kind = CONFIG_SCALAR, .quoted = true, .place = pair.place, .text = pair.key};
    } else if (value->kind == CONFIG_SCALAR && str_equal(value->text, STR("internet")) &&
               !config_get(transports, value->text)) {
        add_pair(transports, (struct config_pair){value->text, value->place,
                                                  parse_own(loading, internet_text, value->place)});
    }
}

static void name_transports(struct settings_loading *loading, struct config_node *root,
                            struct config_node *domains)
{
    struct config_node *transports = get_mutable(root, "transports");
    if (!transports) {
        add_pair(root, (struct config_pair){STR("transports"), {0}, {.kind = CONFIG_MAP}});
        transports = &root->pairs[root->count - 1].value;
    }
    if (transports->kind != CONFIG_MAP)
        return; /* reported when it is bound */
    copy_map(loading, transports, domains->count + 1);
    for (size_t i = 0; i < domains->count; i++)
        name_transport(loading, &domains->pairs[i], transports);
}

void settings_expand(struct settings_loading *loading, struct config_node *root)
{
    copy_map(loading, root, 1);
    apply_presets(loading, listener_presets, get_mutable(root, "listeners"));
    struct config_node *domains = get_mutable(root, "domains");
    apply_presets(loading, domain_presets, domains);
    if (domains && domains->kind == CONFIG_MAP)
        name_transports(loading, root, domains);
}

/* ---- flows ---- */

/* Names that the flow module knows without a definition, for "did you mean". */
static const struct {
    enum flow_type type;
    const char *name;
} built_in_flows[] = {
    {FLOW_CONTENT, "incoming"},
    {FLOW_CONTENT, "outgoing"},
    {FLOW_RECIPIENT, "relay-authenticated"},
};
enum { BUILT_IN_FLOWS = sizeof built_in_flows / sizeof *built_in_flows };

static const char *section_of(enum flow_type type)
{
    static const char *const sections[] = {[FLOW_AUTHENTICATION] = "authentication",
                                           [FLOW_RECIPIENT] = "recipient",
                                           [FLOW_CONTENT] = "content"};
    return sections[type];
}

static const struct flow *compile(struct settings_loading *loading, enum flow_type type,
                                  struct str name, const struct config_node *node)
{
    const struct flow *flow = NULL;
    if (!loading->settings->flows || flow_compile_inline(loading->settings->flows, type, name, node,
                                                         &loading->flow_context, &flow) == FAILED)
        return NULL;
    if (flow)
        flow_mark_used(flow);
    return flow;
}

static void report_unknown_flow(struct settings_loading *loading, enum flow_type type,
                                struct str name, struct config_place place)
{
    const struct config_node *section =
        config_get(config_get(loading->context.root, STR("flows")), str_c(section_of(type)));
    if (config_get(section, name))
        return; /* it is there, and what is wrong with it was reported */
    size_t section_count = section && section->kind == CONFIG_MAP ? section->count : 0;
    struct str *known =
        arena_alloc_array(loading->report->arena, section_count + BUILT_IN_FLOWS, sizeof *known);
    size_t count = 0;
    for (size_t i = 0; i < section_count; i++)
        known[count++] = section->pairs[i].key;
    for (size_t i = 0; i < BUILT_IN_FLOWS; i++) {
        if (built_in_flows[i].type == type)
            known[count++] = str_c(built_in_flows[i].name);
    }
    struct config_problem *problem =
        SETTINGS_ERROR(loading, "unknown-name", place, "there is no %s flow \"%.*s\"",
                       section_of(type), STR_ARG(name));
    config_suggest(problem, loading->report->arena, name, known, count,
                   arena_printf(loading->report->arena,
                                "define it under \"flows.%s\", or write its steps here",
                                section_of(type)));
}

const struct flow *settings_resolve_flow(struct settings_loading *loading, enum flow_type type,
                                         const struct config_node *node, struct str fallback,
                                         struct str owner)
{
    struct str name = fallback;
    if (node && node->kind != CONFIG_SCALAR)
        return compile(loading, type, owner, node); /* steps, or a preset */
    if (!loading->settings->flows || (node && !option_read_text(node, &loading->context, &name)))
        return NULL;
    const struct flow *flow = flow_find(loading->settings->flows, type, name);
    if (flow)
        flow_mark_used(flow);
    else
        report_unknown_flow(loading, type, name, node ? node->place : (struct config_place){0});
    return flow;
}
