/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/compile.c - from nodes of the file to flows.
 */
#include "flow/flow.h"

#include "flow/flow_internal.h"

#include <stdarg.h>

/* Keys that every step may carry. */
static const char *const common_keys[] = {"id", "when", "observe", "note"};
enum { COMMON_KEYS = 4, OUTCOMES_MAX = 12 };

struct common {
    struct str id;
    bool observe;
    struct str note;
};
static const struct option common_options[] = {
    {.name = "id",
     .type = OPTION_TEXT,
     .offset = offsetof(struct common, id),
     .text = "name of the step in traces and metrics; default: position and block"},
    {.name = "observe",
     .type = OPTION_BOOL,
     .offset = offsetof(struct common, observe),
     .text = "do everything but act; what would have been done is in the trace"},
    {.name = "note",
     .type = OPTION_TEXT,
     .offset = offsetof(struct common, note),
     .text = "a comment for people, shown beside the step"},
    {.name = NULL},
};
static const struct option_table common_table = {
    .name = "flows.*.*[]",
    .text = "What every step may carry.",
    .options = common_options,
    .size = sizeof(struct common),
};

const char *flow_type_name(enum flow_type type)
{
    static const char *const names[] = {"authentication", "recipient", "content"};
    return names[type];
}

struct str flow_fix(const struct flow_compiling *compiling, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct str text = arena_vprintf(compiling->context->option.report->arena, format, args);
    va_end(args);
    return text;
}

/* ---- which block ---- */

static bool is_common_key(struct str key)
{
    for (size_t i = 0; i < COMMON_KEYS; i++)
        if (str_equal(key, str_c(common_keys[i])))
            return true;
    return false;
}

static void report_unknown_block(struct flow_compiling *compiling, struct str name,
                                 struct config_place place)
{
    struct arena *arena = compiling->context->option.report->arena;
    size_t count = 0;
    while (flow_blocks[count])
        count++;
    struct str *names = arena_alloc_array(arena, count, sizeof *names);
    size_t fitting = 0;
    for (size_t i = 0; i < count; i++)
        if (flow_blocks[i]->flows & (1u << compiling->flow->type))
            names[fitting++] = str_c(flow_blocks[i]->name);
    struct config_problem *problem = flow_problem(compiling, CONFIG_ERROR, "unknown-block", place,
                                                  "there is no block \"%.*s\"", STR_ARG(name));
    config_suggest(problem, arena, name, names, fitting,
                   STR("`postern block list` names the blocks of each type of flow"));
}

static const struct flow_block *block_of(struct flow_compiling *compiling, struct str name,
                                         struct config_place place)
{
    enum flow_type type = compiling->flow->type;
    const struct flow_block *block = flow_block_find(name);
    struct config_problem *problem;
    if (!block) {
        report_unknown_block(compiling, name, place);
        return NULL;
    }
    if (!(block->flows & (1u << type))) {
        problem = flow_problem(compiling, CONFIG_ERROR, "illegal-step", place,
                               "%s cannot stand in %s flow", block->name,
                               type == FLOW_AUTHENTICATION ? "an authentication"
                               : type == FLOW_RECIPIENT    ? "a recipient"
                                                           : "a content");
        if (type == FLOW_AUTHENTICATION && str_equal(name, STR("accept")))
            problem->fix = STR("only a backend's own yes may authenticate: use smtp, file or ldap");
        else if (type == FLOW_CONTENT && str_equal(name, STR("accept")))
            problem->fix = STR("say deliver");
        return NULL;
    }
    return block;
}

/* ---- one step ---- */

struct step_nodes {
    struct str name;
    struct config_place place;
    const struct config_node *parameters; /* NULL: none */
    const struct config_node *outer;      /* the map around, for keys beside the block */
};

/* `block`, `block: …`, or `block: …` with common keys beside it. */
static bool take_apart(struct flow_compiling *compiling, const struct config_node *node,
                       struct step_nodes *out)
{
    *out = (struct step_nodes){0};
    if (node->kind == CONFIG_SCALAR && !node->is_null) {
        out->name = node->text;
        out->place = node->place;
        return true;
    }
    const struct config_pair *found = NULL;
    for (size_t i = 0; node->kind == CONFIG_MAP && i < node->count; i++) {
        const struct config_pair *pair = &node->pairs[i];
        if (node->count > 1 && is_common_key(pair->key))
            continue;
        if (found) {
            struct config_problem *problem =
                flow_problem(compiling, CONFIG_ERROR, "wrong-type", pair->place,
                             "a step has one block; this one has \"%.*s\" and \"%.*s\"",
                             STR_ARG(found->key), STR_ARG(pair->key));
            problem->fix = flow_fix(compiling,
                                    "begin a new step with \"- %.*s\", or indent the parameters "
                                    "of %.*s",
                                    STR_ARG(pair->key), STR_ARG(found->key));
            return false;
        }
        found = pair;
    }
    if (!found) {
        flow_problem(compiling, CONFIG_ERROR, "wrong-type", node->place,
                     "expected a step: block, or block: { parameters }");
        return false;
    }
    out->name = found->key;
    out->place = found->place;
    out->parameters = found->value.is_null ? NULL : &found->value;
    out->outer = node;
    return true;
}

static const struct config_node *common_node(const struct step_nodes *nodes, const char *key)
{
    const struct config_node *node =
        nodes->parameters ? config_get(nodes->parameters, str_c(key)) : NULL;
    if (!node && nodes->outer && nodes->outer->count > 1)
        node = config_get(nodes->outer, str_c(key));
    return node;
}

static bool id_is_good(struct str id)
{
    bool good = id.len > 0 && id.len <= 64;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        good = good && (ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_' || c == '.');
    }
    return good;
}

static void set_id(struct flow_compiling *compiling, struct flow_step *step, struct str given,
                   struct config_place place)
{
    struct arena *arena = compiling->context->option.arena;
    step->id = given.len ? given
                         : arena_printf(arena, "%.*s-%s", STR_ARG(step->number), step->block->name);
    if (given.len && !id_is_good(given)) {
        struct config_problem *problem =
            flow_problem(compiling, CONFIG_ERROR, "bad-name", place, "\"%.*s\" is no id",
                         STR_ARG(str_slice(given, 0, 64)));
        problem->fix = STR("letters, digits, - _ and . only, at most 64");
        return;
    }
    if (map_put(&compiling->ids, step->id, step))
        flow_problem(compiling, CONFIG_ERROR, "duplicate-id", place,
                     "two steps of this flow have the id \"%.*s\"", STR_ARG(step->id));
}

/* id, when, observe, note: one set beside the parameters or among them. */
static void compile_common(struct flow_compiling *compiling, const struct step_nodes *nodes,
                           struct flow_step *step)
{
    struct config_pair pairs[COMMON_KEYS];
    struct config_node map = {.kind = CONFIG_MAP, .place = nodes->place, .pairs = pairs};
    for (size_t i = 0; i < COMMON_KEYS; i++) {
        const struct config_node *node = common_node(nodes, common_keys[i]);
        if (!node)
            continue;
        if (str_equal(str_c(common_keys[i]), STR("when"))) {
            if (step->block->own_when)
                continue;
            step->when_place = node->place;
            step->when = expression_parse(node, compiling->flow->type, compiling->context);
            continue;
        }
        pairs[map.count++] = (struct config_pair){
            .key = str_c(common_keys[i]), .place = node->place, .value = *node};
    }
    struct common common = {0};
    struct config_place id_place = flow_place_of(&map, "id", nodes->place);
    if (option_bind(&common_table, &map, NULL, &compiling->context->option, &common) != OK)
        return;
    step->observe = common.observe;
    step->note = common.note;
    set_id(compiling, step, common.id, id_place);
}

static void compile_outcomes(struct flow_compiling *compiling, const struct step_nodes *nodes,
                             struct flow_step *step)
{
    const struct flow_block *block = step->block;
    while (block->outcomes[step->outcome_count].name)
        step->outcome_count++;
    step->actions = arena_alloc_array(compiling->context->option.arena, step->outcome_count,
                                      sizeof *step->actions);
    for (unsigned i = 0; i < step->outcome_count; i++) {
        const struct flow_outcome *outcome = &block->outcomes[i];
        step->actions[i].kind = outcome->action;
        if (outcome->action == ACTION_QUARANTINE)
            step->actions[i].quarantine = flow_only_quarantine(compiling);
        if (!outcome->key || !nodes->parameters)
            continue;
        const struct config_node *node = config_get(nodes->parameters, str_c(outcome->key));
        if (node)
            flow_compile_action(compiling, step, outcome, node, &step->actions[i]);
    }
}

static void bind_parameters(struct flow_compiling *compiling, const struct step_nodes *nodes,
                            struct flow_step *step)
{
    const struct flow_block *block = step->block;
    const char *also[COMMON_KEYS + OUTCOMES_MAX + 1] = {0};
    size_t count = 0;
    for (size_t i = 0; i < COMMON_KEYS; i++)
        if (!(block->own_when && str_equal(str_c(common_keys[i]), STR("when"))))
            also[count++] = common_keys[i];
    for (size_t i = 0; block->outcomes[i].name && i < OUTCOMES_MAX; i++)
        if (block->outcomes[i].key)
            also[count++] = block->outcomes[i].key;
    size_t size = block->options->size;
    step->written = nodes->parameters;
    step->parameters = arena_alloc(compiling->context->option.arena, size ? size : 1);
    enum result bound = option_bind(block->options, nodes->parameters, also,
                                    &compiling->context->option, step->parameters);
    if (block->prepare && bound == OK)
        block->prepare(compiling, step, nodes->parameters);
}

void flow_compile_step(struct flow_compiling *compiling, const struct config_node *node,
                       struct str number, struct flow_step *out_step)
{
    struct step_nodes nodes;
    out_step->number = number;
    if (!take_apart(compiling, node, &nodes))
        return;
    out_step->place = nodes.place;
    const struct flow_block *block = block_of(compiling, nodes.name, nodes.place);
    if (!block)
        return;
    out_step->block = block;
    compile_common(compiling, &nodes, out_step);
    out_step->key = arena_printf(compiling->context->option.arena, "%s:%.*s/%.*s",
                                 flow_type_name(compiling->flow->type),
                                 STR_ARG(compiling->flow->name), STR_ARG(out_step->id));
    compile_outcomes(compiling, &nodes, out_step);
    bind_parameters(compiling, &nodes, out_step);
}

void flow_compile_steps(struct flow_compiling *compiling, const struct config_node *list,
                        struct str number_prefix, struct flow_steps *out_steps)
{
    out_steps->place = list->place;
    if (list->kind != CONFIG_LIST) {
        struct config_problem *problem = flow_problem(compiling, CONFIG_ERROR, "wrong-type",
                                                      list->place, "a flow is a list of steps");
        problem->fix = STR("put \"- \" before each step");
        return;
    }
    if (list->count == 0) {
        flow_problem(compiling, CONFIG_ERROR, "empty-flow", list->place,
                     "there is no step in this list");
        return;
    }
    compiling->steps += list->count;
    if (compiling->steps > FLOW_STEPS_MAX) {
        flow_problem(compiling, CONFIG_ERROR, "too-long", list->place,
                     "a flow has at most %d steps", FLOW_STEPS_MAX);
        return;
    }
    struct arena *arena = compiling->context->option.arena;
    struct flow_step *items = arena_alloc_array(arena, list->count, sizeof *items);
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct str number = arena_printf(arena, "%.*s%zu", STR_ARG(number_prefix), i + 1);
        flow_compile_step(compiling, &list->items[i], number, &items[count]);
        if (items[count].block) /* a step with errors is left out; the flow is never run */
            count++;
    }
    out_steps->items = items;
    out_steps->count = count;
}

/* ---- flows ---- */

static void set_add(struct flow_set *set, struct flow *flow)
{
    if (set->count == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 16;
        struct flow **flows = arena_alloc_array(set->arena, cap, sizeof(struct flow *));
        for (size_t i = 0; i < set->count; i++)
            flows[i] = set->flows[i];
        set->flows = flows;
        set->cap = cap;
    }
    set->flows[set->count++] = flow;
}

static struct flow *compile_flow(struct flow_set *set, enum flow_type type, struct str name,
                                 const struct config_node *steps, struct config_place place,
                                 const struct flow_compile_context *context)
{
    struct flow *flow = ARENA_NEW(set->arena, struct flow);
    flow->type = type;
    flow->name = arena_str(set->arena, name);
    flow->place = place;
    flow->used = ARENA_NEW(set->arena, bool);
    struct flow_compiling compiling = {.context = context, .flow = flow};
    size_t errors = context->option.report->errors;
    map_init(&compiling.ids);
    flow_compile_steps(&compiling, steps, STR(""), &flow->steps);
    map_done(&compiling.ids);
    flow->broken = context->option.report->errors != errors;
    if (!flow->broken) {
        flow_check_ends(flow, context);
        flow_check_never(flow, context);
        flow_collect_fields(flow, set->arena);
    }
    return flow;
}

void flow_set_add_builtin(struct flow_set *set, enum flow_type type, struct str name,
                          const struct config_node *steps,
                          const struct flow_compile_context *context)
{
    struct flow *flow = compile_flow(set, type, name, steps, steps->place, context);
    flow->builtin = true;
    set_add(set, flow);
}

static void compile_section(struct flow_set *set, enum flow_type type,
                            const struct config_node *section,
                            const struct flow_compile_context *context)
{
    if (section->is_null)
        return;
    if (section->kind != CONFIG_MAP) {
        config_problem(context->option.report, CONFIG_ERROR, "wrong-type", section->place,
                       "expected names of flows, each with its list of steps");
        return;
    }
    for (size_t i = 0; i < section->count; i++) {
        const struct config_pair *pair = &section->pairs[i];
        const struct config_node *steps = &pair->value;
        if (steps->kind == CONFIG_MAP)
            steps = flow_preset_steps(type, steps, context);
        if (steps)
            set_add(set, compile_flow(set, type, pair->key, steps, pair->place, context));
    }
}

static void report_unknown_type(const struct config_pair *pair,
                                const struct flow_compile_context *context)
{
    const struct str names[] = {STR("authentication"), STR("recipient"), STR("content")};
    struct config_problem *problem =
        config_problem(context->option.report, CONFIG_ERROR, "unknown-key", pair->place,
                       "there is no type of flow \"%.*s\"", STR_ARG(pair->key));
    config_suggest(problem, context->option.report->arena, pair->key, names, 3,
                   STR("flows are of type authentication, recipient or content"));
}

enum result flow_compile_all(const struct config_node *section,
                             const struct flow_compile_context *context, struct flow_set **out_set)
{
    struct flow_set *set = ARENA_NEW(context->option.arena, struct flow_set);
    struct config_report *report = context->option.report;
    size_t errors = report->errors;
    set->arena = context->option.arena;
    if (section && section->kind != CONFIG_MAP && !section->is_null)
        config_problem(report, CONFIG_ERROR, "wrong-type", section->place,
                       "expected authentication, recipient or content with their flows");
    for (size_t i = 0; section && section->kind == CONFIG_MAP && i < section->count; i++) {
        const struct config_pair *pair = &section->pairs[i];
        int type = -1;
        for (int t = FLOW_AUTHENTICATION; t <= FLOW_CONTENT; t++)
            if (str_equal(pair->key, str_c(flow_type_name((enum flow_type)t))))
                type = t;
        if (type < 0)
            report_unknown_type(pair, context);
        else
            compile_section(set, (enum flow_type)type, &pair->value, context);
    }
    flow_compile_templates(set, context);
    *out_set = set;
    return report->errors == errors ? OK : FAILED;
}

/* A name in place of steps: the flow of that name. */
static enum result inline_by_name(const struct flow_set *set, enum flow_type type,
                                  const struct config_node *node,
                                  const struct flow_compile_context *context,
                                  const struct flow **out_flow)
{
    const struct flow *flow = flow_find(set, type, node->text);
    if (flow) {
        flow_mark_used(flow);
        *out_flow = flow;
        return OK;
    }
    struct arena *arena = context->option.report->arena;
    struct str *names = arena_alloc_array(arena, set->count + 1, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; i < set->count; i++)
        if (set->flows[i]->type == type)
            names[count++] = set->flows[i]->name;
    struct config_problem *problem =
        config_problem(context->option.report, CONFIG_ERROR, "unknown-name", node->place,
                       "there is no %s flow \"%.*s\"", flow_type_name(type), STR_ARG(node->text));
    config_suggest(problem, arena, node->text, names, count,
                   arena_printf(arena, "define it under flows.%s", flow_type_name(type)));
    return FAILED;
}

enum result flow_compile_inline(struct flow_set *set, enum flow_type type, struct str name,
                                const struct config_node *node,
                                const struct flow_compile_context *context,
                                const struct flow **out_flow)
{
    struct config_report *report = context->option.report;
    size_t errors = report->errors;
    *out_flow = NULL;
    if (node->kind == CONFIG_SCALAR && !node->is_null)
        return inline_by_name(set, type, node, context, out_flow);
    const struct config_node *steps = node;
    if (node->kind == CONFIG_MAP) {
        steps = flow_preset_steps(type, node, context);
        if (!steps)
            return FAILED;
    }
    struct flow *flow = compile_flow(set, type, name, steps, node->place, context);
    *flow->used = true;
    set_add(set, flow);
    *out_flow = flow;
    return report->errors == errors ? OK : FAILED;
}

const struct flow *flow_find(const struct flow_set *set, enum flow_type type, struct str name)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->flows[i]->type == type && str_equal(set->flows[i]->name, name))
            return set->flows[i];
    return NULL;
}

void flow_mark_used(const struct flow *flow)
{
    *flow->used = true;
}

void flow_report_unused(const struct flow_set *set, struct config_report *report)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct flow *flow = set->flows[i];
        if (flow->builtin || *flow->used)
            continue;
        struct config_problem *problem = config_problem(
            report, CONFIG_WARNING, "unused-name", flow->place, "nothing uses the %s flow \"%.*s\"",
            flow_type_name(flow->type), STR_ARG(flow->name));
        problem->fix = flow->type == FLOW_AUTHENTICATION
                           ? STR("name it as authentication of a listener, or take it out")
                           : STR("name it in a domain, or take it out");
    }
}

struct str flow_name(const struct flow *flow)
{
    return flow->name;
}
