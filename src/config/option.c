/* SPDX-License-Identifier: Apache-2.0 */
/* config/option.c - binding a map to a struct by the rows of a table. */
#include "config/option.h"

#include "base/buf.h"
#include "base/check.h"
#include "config/internal.h"
#include "config/option_internal.h"

#include <string.h>

struct binding {
    const struct option_context *context;
    const struct option *option;
    void *target;
    bool is_default; /* the value comes from the row, not from the file */
};

/* ---- bounds ---- */

static struct str bound_text(struct arena *arena, enum option_type type, int64_t value)
{
    struct buf text;
    buf_init(&text, 64);
    if (type == OPTION_DURATION)
        option_print_duration(value, &text);
    else if (type == OPTION_SIZE)
        option_print_size((uint64_t)value, &text);
    else
        buf_printf(&text, "%lld", (long long)value);
    struct str copy = arena_str(arena, buf_str(&text));
    buf_done(&text);
    return copy;
}

static bool in_bounds(const struct binding *binding, const struct config_node *node, int64_t value)
{
    const struct option *option = binding->option;
    bool open = option->min == 0 && option->max == 0;
    if (open ? value >= 0 : value >= option->min && value <= option->max)
        return true;
    struct arena *arena = binding->context->report->arena;
    enum option_type type = option->type == OPTION_DURATIONS ? OPTION_DURATION : option->type;
    struct str low = bound_text(arena, type, option->min);
    struct str high = bound_text(arena, type, option->max);
    if (open)
        option_problem(binding->context, "out-of-bounds", node, "\"%s\" cannot be negative",
                       option->name);
    else if (option->min == option->max)
        option_problem(binding->context, "out-of-bounds", node, "\"%s\" must be %.*s", option->name,
                       STR_ARG(low));
    else
        option_problem(binding->context, "out-of-bounds", node,
                       "\"%s\" must be between %.*s and %.*s", option->name, STR_ARG(low),
                       STR_ARG(high));
    return false;
}

/* ---- a value of each type ---- */

static bool bind_int(const struct binding *binding, const struct config_node *node)
{
    int64_t value;
    if (!option_read_int(node, binding->context, INT64_MIN, INT64_MAX, &value) ||
        (!binding->is_default && !in_bounds(binding, node, value)))
        return false;
    *(int64_t *)binding->target = value;
    return true;
}

static bool bind_decimal(const struct binding *binding, const struct config_node *node)
{
    double value;
    const struct option *option = binding->option;
    if (!option_is_scalar(node, binding->context, "a number"))
        return false;
    if (node->quoted || !option_parse_decimal(node->text, &value)) {
        option_problem(binding->context, "wrong-type", node,
                       "a number is wanted here, not \"%.*s\"",
                       STR_ARG(str_slice(node->text, 0, 60)))
            ->fix = STR("write it as 7 or 7.5");
        return false;
    }
    if ((option->min || option->max) &&
        (value < (double)option->min || value > (double)option->max)) {
        option_problem(binding->context, "out-of-bounds", node, "%g is outside %lld to %lld", value,
                       (long long)option->min, (long long)option->max);
        return false;
    }
    *(double *)binding->target = value;
    return true;
}

static bool bind_duration(const struct binding *binding, const struct config_node *node)
{
    int64_t value;
    if (!option_read_duration(node, binding->context, &value) || !in_bounds(binding, node, value))
        return false;
    *(int64_t *)binding->target = value;
    return true;
}

static bool bind_size(const struct binding *binding, const struct config_node *node)
{
    uint64_t value;
    if (!option_read_size(node, binding->context, &value) ||
        !in_bounds(binding, node, (int64_t)value))
        return false;
    *(uint64_t *)binding->target = value;
    return true;
}

static bool find_word(const struct binding *binding, const struct config_node *node, int *out)
{
    const struct option_word *words = binding->option->words;
    if (!option_is_scalar(node, binding->context, "one word"))
        return false;
    struct str known[32];
    size_t count = 0;
    for (; words[count].word && count < 32; count++) {
        known[count] = str_c(words[count].word);
        if (str_equal(known[count], node->text)) {
            *out = words[count].value;
            return true;
        }
    }
    struct arena *arena = binding->context->report->arena;
    struct str list = STR_EMPTY;
    for (size_t i = 0; i < count; i++)
        list = arena_printf(arena, "%.*s%s%s", STR_ARG(list), i ? ", " : "", words[i].word);
    struct config_problem *problem =
        option_problem(binding->context, "unknown-word", node, "\"%.*s\" is not one of: %.*s",
                       STR_ARG(str_slice(node->text, 0, 60)), STR_ARG(list));
    config_suggest(problem, arena, node->text, known, count, STR_EMPTY);
    return false;
}

static bool bind_word(const struct binding *binding, const struct config_node *node)
{
    return find_word(binding, node, binding->target);
}

static bool bind_words(const struct binding *binding, const struct config_node *node)
{
    const struct config_node *items = node->kind == CONFIG_LIST ? node->items : node;
    size_t count = node->kind == CONFIG_LIST ? node->count : 1;
    unsigned set = 0;
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        int value = 0;
        if (find_word(binding, &items[i], &value))
            set |= 1u << value;
        else
            good = false;
    }
    if (good)
        *(unsigned *)binding->target = set;
    return good;
}

static bool bind_reference(const struct binding *binding, const struct config_node *node)
{
    if (binding->is_default)
        return option_read_text(node, binding->context, binding->target);
    return option_read_reference(node, binding->context, binding->option->refers_to,
                                 binding->target);
}

static bool bind_references(const struct binding *binding, const struct config_node *node)
{
    struct option_texts texts;
    if (!option_read_texts(node, binding->context, &texts))
        return false;
    const struct config_node *items = node->kind == CONFIG_LIST ? node->items : node;
    bool good = true;
    for (size_t i = 0; i < texts.count && !binding->is_default; i++)
        good = option_read_reference(&items[i], binding->context, binding->option->refers_to,
                                     &texts.items[i]) &&
               good;
    *(struct option_texts *)binding->target = texts;
    return good;
}

static bool bind_durations(const struct binding *binding, const struct config_node *node)
{
    const struct config_node *items = node->kind == CONFIG_LIST ? node->items : node;
    size_t count = node->kind == CONFIG_LIST ? node->count : 1;
    struct option_durations *out = binding->target;
    struct option_durations durations = {
        .items = arena_alloc_array(binding->context->arena, count + 1, sizeof(int64_t)),
    };
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        if (option_read_duration(&items[i], binding->context, &value) &&
            in_bounds(binding, &items[i], value))
            durations.items[durations.count++] = value;
        else
            good = false;
    }
    *out = durations;
    return good;
}

static bool bind_value(const struct binding *binding, const struct config_node *node)
{
    const struct option_context *context = binding->context;
    switch (binding->option->type) {
    case OPTION_BOOL:
        return option_read_bool(node, context, binding->target);
    case OPTION_INT:
        return bind_int(binding, node);
    case OPTION_DECIMAL:
        return bind_decimal(binding, node);
    case OPTION_DURATION:
        return bind_duration(binding, node);
    case OPTION_SIZE:
        return bind_size(binding, node);
    case OPTION_RATE:
        return option_read_rate(node, context, binding->target);
    case OPTION_TEXT:
        return option_read_text(node, context, binding->target);
    case OPTION_PATH:
        return option_read_path(node, context, binding->target);
    case OPTION_WORD:
        return bind_word(binding, node);
    case OPTION_WORDS:
        return bind_words(binding, node);
    case OPTION_REFERENCE:
        return bind_reference(binding, node);
    case OPTION_TEXTS:
        return option_read_texts(node, context, binding->target);
    case OPTION_REFERENCES:
        return bind_references(binding, node);
    case OPTION_DURATIONS:
        return bind_durations(binding, node);
    case OPTION_GROUP:
        return option_bind(binding->option->group, node, NULL, context, binding->target) == OK;
    case OPTION_NODE:
        *(const struct config_node **)binding->target = node;
        return true;
    }
    check_failed("option type", __FILE__, __LINE__, __func__);
}

/* ---- defaults ---- */

static struct config_node scalar_of(struct str text)
{
    return (struct config_node){.kind = CONFIG_SCALAR, .text = text};
}

/* "15m", or "[ 15m, 30m ]": what a row gives as its default, as a node. */
static struct config_node default_node(struct arena *arena, const char *fallback)
{
    struct str text = str_c(fallback);
    if (!str_starts(text, STR("[")))
        return scalar_of(text);
    struct str rest = str_trim(str_slice(text, 1, text.len - 1)), part;
    struct config_node list = {.kind = CONFIG_LIST};
    list.items = arena_alloc_array(arena, text.len / 2 + 1, sizeof *list.items);
    while (rest.ptr && rest.len && str_split(&rest, ',', &part))
        list.items[list.count++] = scalar_of(str_trim(part));
    return list;
}

static void bind_default(const struct binding *binding)
{
    const struct option *option = binding->option;
    if (option->type == OPTION_GROUP) {
        /* what a group requires, it requires only when it is there */
        struct config_report ignored;
        config_report_init(&ignored, binding->context->report->arena);
        struct option_context quiet = *binding->context;
        quiet.report = &ignored;
        (void)!option_bind(option->group, NULL, NULL, &quiet, binding->target);
        return;
    }
    if (!option->fallback)
        return;
    struct config_node *node = ARENA_NEW(binding->context->arena, struct config_node);
    *node = default_node(binding->context->arena, option->fallback);
    bool good = bind_value(binding, node);
    check(good); /* a row with a default that it does not allow */
}

/* ---- the table ---- */

static const struct option *find_option(const struct option_table *table, struct str name)
{
    for (const struct option *option = table->options; option->name; option++) {
        if (str_equal(name, str_c(option->name)))
            return option;
    }
    return NULL;
}

static bool is_listed(const char *const *names, struct str name)
{
    for (; names && *names; names++) {
        if (str_equal(name, str_c(*names)))
            return true;
    }
    return false;
}

static void report_unknown(const struct option_table *table, const struct config_pair *pair,
                           const char *const *also_allowed, const struct option_context *context)
{
    struct str known[128];
    size_t count = 0;
    for (const struct option *option = table->options; option->name && count < 96; option++)
        known[count++] = str_c(option->name);
    for (; also_allowed && *also_allowed && count < 128; also_allowed++)
        known[count++] = str_c(*also_allowed);
    option_unknown_key(pair, context, known, count);
}

static void bind_pair(const struct option_table *table, const struct config_pair *pair,
                      const char *const *also_allowed, const struct option_context *context,
                      void *target)
{
    const struct option *option = find_option(table, pair->key);
    if (!option) {
        if (!is_listed(also_allowed, pair->key))
            report_unknown(table, pair, also_allowed, context);
        return;
    }
    struct binding binding = {context, option, (char *)target + option->offset, false};
    if (option->type != OPTION_NODE && pair->value.kind == CONFIG_SCALAR && pair->value.is_null) {
        config_problem(context->report, CONFIG_ERROR, "empty-value", pair->place,
                       "\"%s\" has no value", option->name)
            ->fix = STR("give it a value, or remove the line");
        return;
    }
    bind_value(&binding, &pair->value);
}

static void bind_defaults(const struct option_table *table, const struct config_node *node,
                          const struct option_context *context, void *target)
{
    for (const struct option *option = table->options; option->name; option++) {
        if (config_get(node, str_c(option->name)) && option->type == OPTION_GROUP)
            continue; /* the group fills its own */
        struct binding binding = {context, option, (char *)target + option->offset, true};
        bind_default(&binding);
        if (!option->required || config_get(node, str_c(option->name)))
            continue;
        struct config_place place = node ? node->place : (struct config_place){0};
        config_problem(context->report, CONFIG_ERROR, "missing-key", place, "\"%s\" is missing",
                       option->name)
            ->fix =
            arena_printf(context->report->arena, "add \"%s:\", %s", option->name, option->text);
    }
}

static void bind_shorthand(const struct option_table *table, const struct config_node *node,
                           const struct option_context *context, void *target)
{
    if (node->kind == CONFIG_SCALAR && node->is_null) {
        option_problem(context, "empty-value", node, "there is no value")->fix =
            STR("give it a value, or remove the line");
        return;
    }
    if (!table->shorthand) {
        option_problem(context, "wrong-type", node, "a map of settings is wanted here")->fix =
            STR("write { key: value }, or keys on lines of their own, indented");
        return;
    }
    const struct option *option = find_option(table, str_c(table->shorthand));
    check(option);
    struct binding binding = {context, option, (char *)target + option->offset, false};
    bind_value(&binding, node);
}

enum result option_bind(const struct option_table *table, const struct config_node *node,
                        const char *const *also_allowed, const struct option_context *context,
                        void *target)
{
    size_t errors_before = context->report->errors;
    if (node && node->kind != CONFIG_MAP) {
        /* what is required is not asked for when the form itself is another */
        struct config_report ignored;
        config_report_init(&ignored, context->report->arena);
        struct option_context quiet = *context;
        quiet.report = &ignored;
        bind_defaults(table, NULL, &quiet, target);
        bind_shorthand(table, node, context, target);
    } else {
        bind_defaults(table, node, context, target);
        for (size_t i = 0; node && i < node->count; i++)
            bind_pair(table, &node->pairs[i], also_allowed, context, target);
    }
    return context->report->errors == errors_before ? OK : FAILED;
}
