/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/templates.c - the flows that are there without being written, and presets.
 *
 * Both are texts in the language of the file, so that `postern check`, traces and the manual show
 * the same thing that an administrator would write. A flow of the file hides a template of its
 * name.
 */
#include "config/load.h"
#include "flow/flow_internal.h"

#include "base/buf.h"

struct template
{
    const char *name;
    enum flow_type type;
    bool by_name;     /* usable as the name of a flow; else by { preset: … } only */
    const char *step; /* block that takes the preset's further keys, or NULL */
    /* Blocks whose steps are there only if the preset has a key of their name, which holds their
     * parameters; ends with NULL. */
    const char *optional[6];
    const char *text;
};

static const struct template templates[] = {
    {
        .name = "local-users",
        .type = FLOW_RECIPIENT,
        .step = "lookup-smtp",
        .text = "steps:\n"
                "  - accept: { when: authenticated }\n"
                "  - lookup-smtp:\n",
    },
    {
        .name = "relay-authenticated",
        .type = FLOW_RECIPIENT,
        .by_name = true,
        .text = "steps:\n"
                "  - accept: { when: authenticated or client in trusted }\n"
                "  - reject: { reply: \"554 5.7.1 Relay access denied\", reason: relay_denied }\n",
    },
    {
        .name = "incoming",
        .type = FLOW_CONTENT,
        .by_name = true,
        .text = "steps:\n"
                "  - deliver\n",
    },
    {
        .name = "outgoing",
        .type = FLOW_CONTENT,
        .by_name = true,
        .text = "steps:\n"
                "  - deliver\n",
    },
    {
        .name = "incoming",
        .type = FLOW_CONTENT,
        .optional = {"dnsbl", "attachment", "antivirus", "antispam", NULL},
        .text = "steps:\n"
                "  - dnsbl: { when: not (authenticated or client in trusted) }\n"
                "  - verify: { when: not (authenticated or client in trusted) }\n"
                "  - attachment: {}\n"
                "  - antivirus: {}\n"
                "  - antispam: {}\n"
                "  - deliver\n",
    },
    {
        .name = "outgoing",
        .type = FLOW_CONTENT,
        .optional = {"sender-match", "limit", "attachment", "antivirus", "antispam", NULL},
        .text = "steps:\n"
                "  - sender-match: {}\n"
                "  - limit: {}\n"
                "  - attachment: {}\n"
                "  - antivirus: {}\n"
                "  - antispam: {}\n"
                "  - dkim-sign\n"
                "  - deliver\n",
    },
};
enum { TEMPLATE_COUNT = sizeof templates / sizeof *templates };

/* The list of steps of a template's text. */
static const struct config_node *template_steps(const struct template *template,
                                                const struct flow_compile_context *context)
{
    struct config_node *root = ARENA_NEW(context->option.arena, struct config_node);
    struct str name = arena_printf(context->option.arena, "built-in %s", template->name);
    if (config_load_text(name, str_c(template->text), context->option.arena, context->option.report,
                         root) != OK)
        return NULL;
    return config_get(root, STR("steps"));
}

void flow_compile_templates(struct flow_set *set, const struct flow_compile_context *context)
{
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        const struct template *template = &templates[i];
        struct str name = str_c(template->name);
        if (!template->by_name || flow_find(set, template->type, name))
            continue;
        const struct config_node *steps = template_steps(template, context);
        if (steps)
            flow_set_add_builtin(set, template->type, name, steps, context);
    }
}

/* The pairs of the preset's map but for `preset`, as the parameters of the step that takes them. */
static const struct config_node *with_parameters(const struct template *template,
                                                 const struct config_node *steps,
                                                 const struct config_node *preset,
                                                 struct arena *arena)
{
    struct config_node *list = ARENA_NEW(arena, struct config_node);
    *list = *steps;
    list->place = preset->place;
    list->items = arena_alloc_array(arena, steps->count, sizeof *list->items);
    for (size_t i = 0; i < steps->count; i++) {
        list->items[i] = steps->items[i];
        if (steps->items[i].kind != CONFIG_MAP ||
            !str_equal(steps->items[i].pairs[0].key, str_c(template->step)))
            continue;
        struct config_pair *pair = ARENA_NEW(arena, struct config_pair);
        *pair = (struct config_pair){.key = str_c(template->step), .place = preset->place};
        pair->value = *preset;
        pair->value.count = 0;
        pair->value.pairs = arena_alloc_array(arena, preset->count, sizeof *pair->value.pairs);
        for (size_t k = 0; k < preset->count; k++)
            if (!str_equal(preset->pairs[k].key, STR("preset")))
                pair->value.pairs[pair->value.count++] = preset->pairs[k];
        list->items[i].pairs = pair;
        list->items[i].count = 1;
    }
    return list;
}

static bool is_optional(const struct template *template, struct str name)
{
    for (size_t i = 0; template->optional[i]; i++)
        if (str_equal(name, str_c(template->optional[i])))
            return true;
    return false;
}

/* The pairs of both maps; of a value alone, that of the block's main parameter. */
static struct config_node merge_parameters(const struct config_node *own,
                                           const struct config_node *given, struct str block_name,
                                           struct arena *arena)
{
    const struct flow_block *block = flow_block_find(block_name);
    const char *shorthand = block->options->shorthand;
    struct config_node merged = *given;
    if (own->kind != CONFIG_MAP || !own->count)
        return merged;
    bool is_map = given->kind == CONFIG_MAP && !given->is_null;
    size_t more = is_map ? given->count : shorthand && !given->is_null;
    merged = *own;
    merged.place = given->place;
    merged.pairs = arena_alloc_array(arena, own->count + more, sizeof *merged.pairs);
    for (size_t i = 0; i < own->count; i++)
        merged.pairs[i] = own->pairs[i];
    for (size_t i = 0; i < more; i++)
        merged.pairs[merged.count++] = is_map ? given->pairs[i]
                                              : (struct config_pair){.key = str_c(shorthand),
                                                                     .place = given->place,
                                                                     .value = *given};
    return merged;
}

/* Steps of a template with some to choose: those that the preset's keys ask for, and the rest. */
static const struct config_node *with_chosen(const struct template *template,
                                             const struct config_node *steps,
                                             const struct config_node *preset, struct arena *arena)
{
    struct config_node *list = ARENA_NEW(arena, struct config_node);
    *list = *steps;
    list->place = preset->place;
    list->count = 0;
    list->items = arena_alloc_array(arena, steps->count, sizeof *list->items);
    for (size_t i = 0; i < steps->count; i++) {
        const struct config_node *step = &steps->items[i];
        struct config_node *out = &list->items[list->count];
        bool is_map = step->kind == CONFIG_MAP;
        *out = *step;
        if (!is_map || !is_optional(template, step->pairs[0].key)) {
            list->count++;
            continue;
        }
        const struct config_pair *given = config_get_pair(preset, step->pairs[0].key);
        if (!given)
            continue;
        struct config_pair *pair = ARENA_NEW(arena, struct config_pair);
        *pair = *given;
        pair->value =
            merge_parameters(&step->pairs[0].value, &given->value, step->pairs[0].key, arena);
        out->pairs = pair;
        out->place = given->place;
        list->count++;
    }
    return list;
}

static const struct template *find_template(enum flow_type type, const struct config_node *name,
                                            const struct flow_compile_context *context)
{
    struct str names[TEMPLATE_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        bool richer = i + 1 < TEMPLATE_COUNT && templates[i].by_name && type == FLOW_CONTENT;
        if (templates[i].type != type || richer)
            continue; /* of two with one name the preset is the one with steps to choose */
        if (name->kind == CONFIG_SCALAR && str_equal(name->text, str_c(templates[i].name)))
            return &templates[i];
        names[count++] = str_c(templates[i].name);
    }
    struct str shown = name->kind == CONFIG_SCALAR ? name->text : STR("");
    struct config_problem *problem = config_problem(
        context->option.report, CONFIG_ERROR, "unknown-preset", name->place,
        "there is no preset \"%.*s\" for %s flows", STR_ARG(shown), flow_type_name(type));
    struct arena *arena = context->option.report->arena;
    config_suggest(problem, arena, shown, names, count, config_known(arena, names, count));
    return NULL;
}

const struct config_node *flow_preset_steps(enum flow_type type, const struct config_node *node,
                                            const struct flow_compile_context *context)
{
    struct config_report *report = context->option.report;
    const struct config_node *name = config_get(node, STR("preset"));
    if (!name) {
        struct config_problem *problem =
            config_problem(report, CONFIG_ERROR, "wrong-type", node->place,
                           "expected the name of a flow, a list of steps, or { preset: … }");
        problem->fix = STR("put \"- \" before each step");
        return NULL;
    }
    const struct template *template = find_template(type, name, context);
    const struct config_node *steps = template ? template_steps(template, context) : NULL;
    if (!steps)
        return NULL;
    if (template->step)
        return with_parameters(template, steps, node, context->option.arena);
    for (size_t i = 0; i < node->count; i++) {
        if (str_equal(node->pairs[i].key, STR("preset")) ||
            is_optional(template, node->pairs[i].key))
            continue;
        config_problem(report, CONFIG_ERROR, "unknown-key", node->pairs[i].place,
                       "preset %s takes no \"%.*s\"", template->name, STR_ARG(node->pairs[i].key));
        return NULL;
    }
    return template->optional[0] ? with_chosen(template, steps, node, context->option.arena)
                                 : steps;
}

void flow_schema_presets(enum flow_type type, struct buf *out)
{
    buf_append(out, STR("{\"enum\":["));
    bool first = true;
    for (size_t i = 0; i < TEMPLATE_COUNT; i++) {
        if (templates[i].type != type)
            continue;
        buf_printf(out, "%s\"%s\"", first ? "" : ",", templates[i].name);
        first = false;
    }
    buf_append(out, STR("]}"));
}
