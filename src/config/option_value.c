/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/option_value.c - one node, one value: types are never guessed, and each fault says what
 * to write instead.
 */
#include "config/option_internal.h"

#include "config/internal.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 4096, QUOTED_MAX = 60 /* characters of a value inside a message */ };

static const char *const kind_names[] = {"one value", "a list", "a map"};

struct config_problem *option_problem(const struct option_context *context, const char *code,
                                      const struct config_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct str text = arena_vprintf(context->report->arena, format, args);
    va_end(args);
    return config_problem(context->report, CONFIG_ERROR, code, node->place, "%.*s", STR_ARG(text));
}

static struct str shown(struct str text)
{
    return str_slice(text, 0, QUOTED_MAX);
}

bool option_is_scalar(const struct config_node *node, const struct option_context *context,
                      const char *wanted)
{
    if (node->kind != CONFIG_SCALAR) {
        option_problem(context, "wrong-type", node, "%s is wanted here, not %s", wanted,
                       kind_names[node->kind]);
        return false;
    }
    if (node->is_null) {
        option_problem(context, "empty-value", node, "there is no value")->fix =
            STR("give it a value, or remove the line");
        return false;
    }
    /* reported when it was read */
    return node->quoted || !config_is_bare_yes_no(node->text);
}

static bool is_truth(struct str text)
{
    return str_equal_nocase(text, STR("true")) || str_equal_nocase(text, STR("false"));
}

bool option_read_text(const struct config_node *node, const struct option_context *context,
                      struct str *out)
{
    if (!option_is_scalar(node, context, "text"))
        return false;
    if (!node->quoted && is_truth(node->text)) {
        option_problem(context, "wrong-type", node, "text is wanted here, not true or false")->fix =
            STR("put it in quotes if it is meant as text");
        return false;
    }
    if (node->text.len > TEXT_MAX || str_has_nul(node->text)) {
        option_problem(context, "wrong-value", node, "this text is too long or holds a NUL");
        return false;
    }
    *out = node->text;
    return true;
}

/* A credential that systemd put in place for this service (systemd.exec(5), LoadCredential=). */
static bool credential_path(const struct config_node *node, const struct option_context *context,
                            struct str name, struct str *out)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (!folder || name.len == 0 || str_find(name, '/') >= 0) {
        option_problem(context, "unreadable", node, "there is no credential \"%.*s\"",
                       STR_ARG(shown(name)))
            ->fix = STR("start the service by systemd with LoadCredential=, or give a path");
        return false;
    }
    *out = arena_printf(context->arena, "%s/%.*s", folder, STR_ARG(name));
    return true;
}

void option_paths_add(struct option_paths *paths, struct arena *arena, struct str path)
{
    if (!paths)
        return;
    if (paths->count == paths->cap) {
        size_t cap = paths->cap ? 2 * paths->cap : 16;
        struct str *items = arena_alloc_array(arena, cap, sizeof *items);
        for (size_t i = 0; i < paths->count; i++)
            items[i] = paths->items[i];
        paths->items = items;
        paths->cap = cap;
    }
    paths->items[paths->count++] = path;
}

static bool find_path(const struct config_node *node, const struct option_context *context,
                      struct str *out)
{
    struct str path;
    if (!option_read_text(node, context, &path))
        return false;
    if (path.len == 0) {
        option_problem(context, "empty-value", node, "a path is wanted here");
        return false;
    }
    if (str_starts(path, STR("credential:")))
        return credential_path(node, context, str_from(path, sizeof "credential:" - 1), out);
    const struct config_file *file = node->place.file;
    if (path.ptr[0] == '/' || !file || file->folder.len == 0)
        *out = path;
    else
        *out = arena_printf(context->arena, "%.*s/%.*s", STR_ARG(file->folder), STR_ARG(path));
    return true;
}

bool option_read_path(const struct config_node *node, const struct option_context *context,
                      struct str *out)
{
    if (!find_path(node, context, out))
        return false;
    option_paths_add(context->paths, context->arena, *out);
    return true;
}

bool option_parse_bool(struct str text, bool *out)
{
    if (!str_equal(text, STR("true")) && !str_equal(text, STR("false")))
        return false;
    *out = text.ptr[0] == 't';
    return true;
}

bool option_read_bool(const struct config_node *node, const struct option_context *context,
                      bool *out)
{
    if (!option_is_scalar(node, context, "true or false"))
        return false;
    if (!node->quoted && option_parse_bool(node->text, out))
        return true;
    struct config_problem *problem =
        option_problem(context, "wrong-type", node, "true or false is wanted here, not \"%.*s\"",
                       STR_ARG(shown(node->text)));
    problem->fix = is_truth(node->text) ? STR("write it in lower case, without quotes")
                                        : STR("write true or false");
    return false;
}

/* Digits, perhaps a sign in front, perhaps a point and up to nine digits behind. */
bool option_parse_decimal(struct str text, double *out)
{
    bool negative = str_starts(text, STR("-"));
    struct str digits = negative ? str_from(text, 1) : text;
    ptrdiff_t point = str_find(digits, '.');
    struct str behind = point >= 0 ? str_from(digits, (size_t)point + 1) : STR("0");
    uint64_t whole, fraction;
    if (behind.len > 9 ||
        !str_to_uint(point >= 0 ? str_slice(digits, 0, (size_t)point) : digits, 1000000000000,
                     &whole) ||
        !str_to_uint(behind, UINT64_MAX, &fraction))
        return false;
    double part = (double)fraction;
    for (size_t i = 0; i < behind.len; i++)
        part /= 10;
    *out = negative ? -((double)whole + part) : (double)whole + part;
    return true;
}

bool option_parse_int(struct str text, int64_t *out)
{
    bool negative = str_starts(text, STR("-"));
    uint64_t value;
    if (!str_to_uint(negative ? str_from(text, 1) : text, INT64_MAX, &value))
        return false;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

bool option_read_int(const struct config_node *node, const struct option_context *context,
                     int64_t min, int64_t max, int64_t *out)
{
    int64_t value;
    if (!option_is_scalar(node, context, "a whole number"))
        return false;
    if (node->quoted || !option_parse_int(node->text, &value)) {
        struct config_problem *problem = option_problem(
            context, "wrong-type", node, "a whole number is wanted here, not \"%.*s\"",
            STR_ARG(shown(node->text)));
        problem->fix = option_parse_int(node->text, &value) ? STR("write it without quotes")
                                                            : STR("write decimal digits only");
        return false;
    }
    if (value < min || value > max) {
        option_problem(context, "out-of-bounds", node, "%lld is outside %lld to %lld",
                       (long long)value, (long long)min, (long long)max);
        return false;
    }
    *out = value;
    return true;
}

bool option_read_duration(const struct config_node *node, const struct option_context *context,
                          int64_t *out_ns)
{
    if (!option_is_scalar(node, context, "a time"))
        return false;
    if (option_parse_duration(node->text, out_ns))
        return true;
    option_problem(context, "wrong-unit", node, "\"%.*s\" is not a time with its unit",
                   STR_ARG(shown(node->text)))
        ->fix = option_suggest_duration(context->report->arena, node->text);
    return false;
}

bool option_read_size(const struct config_node *node, const struct option_context *context,
                      uint64_t *out_bytes)
{
    if (!option_is_scalar(node, context, "a size"))
        return false;
    if (option_parse_size(node->text, out_bytes))
        return true;
    option_problem(context, "wrong-unit", node, "\"%.*s\" is not a size",
                   STR_ARG(shown(node->text)))
        ->fix = option_suggest_size(context->report->arena, node->text);
    return false;
}

bool option_read_rate(const struct config_node *node, const struct option_context *context,
                      struct option_rate *out)
{
    if (!option_is_scalar(node, context, "a rate"))
        return false;
    if (option_parse_rate(node->text, out))
        return true;
    option_problem(context, "wrong-unit", node, "\"%.*s\" is not a count for a time",
                   STR_ARG(shown(node->text)))
        ->fix = option_suggest_rate(context->report->arena, node->text);
    return false;
}

/* ---- lists ---- */

bool option_read_texts(const struct config_node *node, const struct option_context *context,
                       struct option_texts *out)
{
    const struct config_node *items = node->kind == CONFIG_LIST ? node->items : node;
    size_t count = node->kind == CONFIG_LIST ? node->count : 1;
    *out = (struct option_texts){0};
    out->items = arena_alloc_array(context->arena, count + 1, sizeof *out->items);
    out->places = arena_alloc_array(context->arena, count + 1, sizeof *out->places);
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        if (!option_read_text(&items[i], context, &out->items[out->count])) {
            good = false;
            continue;
        }
        out->places[out->count++] = items[i].place;
    }
    return good;
}

/* ---- names ---- */

/* The map at a path such as "flows.content", or NULL. */
static const struct config_node *find_section(const struct config_node *root, const char *path)
{
    struct str rest = str_c(path), part;
    const struct config_node *node = root;
    while (node && rest.ptr && str_split(&rest, '.', &part))
        node = config_get(node, part);
    return node && node->kind == CONFIG_MAP ? node : NULL;
}

static const char *singular_name(const char *section)
{
    static const struct {
        const char *section, *singular;
    } names[] = {
        {"servers", "server"},
        {"certificates", "certificate"},
        {"transports", "transport"},
        {"quarantines", "quarantine"},
        {"domains", "domain"},
        {"lists", "list"},
        {"flows.authentication", "authentication flow"},
        {"flows.recipient", "recipient flow"},
        {"flows.content", "content flow"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].section, section) == 0)
            return names[i].singular;
    }
    return section;
}

static struct str *key_list(struct arena *arena, const struct config_node *map, size_t *out_count)
{
    *out_count = map ? map->count : 0;
    struct str *keys = arena_alloc_array(arena, *out_count + 1, sizeof *keys);
    for (size_t i = 0; i < *out_count; i++)
        keys[i] = map->pairs[i].key;
    return keys;
}

bool option_read_reference(const struct config_node *node, const struct option_context *context,
                           const char *refers_to, struct str *out)
{
    struct str name;
    if (!option_read_text(node, context, &name))
        return false;
    const struct config_node *section =
        context->root ? find_section(context->root, refers_to) : NULL;
    if (context->root && !config_get(section, name)) {
        size_t count;
        struct str *names = key_list(context->report->arena, section, &count);
        struct config_problem *problem =
            option_problem(context, "unknown-name", node, "there is no %s \"%.*s\"",
                           singular_name(refers_to), STR_ARG(shown(name)));
        config_suggest(problem, context->report->arena, name, names, count,
                       arena_printf(context->report->arena, "define it under \"%s\"", refers_to));
        return false;
    }
    *out = name;
    return true;
}

void option_unknown_key(const struct config_pair *pair, const struct option_context *context,
                        const struct str *known, size_t known_count)
{
    struct arena *arena = context->report->arena;
    struct str file_key = arena_printf(arena, "%.*s_file", STR_ARG(pair->key));
    bool secret = false;
    for (size_t i = 0; i < known_count && config_is_secret_key(pair->key); i++)
        secret = secret || str_equal(known[i], file_key);
    if (secret) {
        config_problem(context->report, CONFIG_ERROR, "secret-inline", pair->place,
                       "secrets do not stand in this file")
            ->fix = arena_printf(arena, "put it in a file of its own and write \"%.*s: PATH\"",
                                 STR_ARG(file_key));
        return;
    }
    if (pair->key.len == 0)
        return; /* reported when it was read */
    struct config_problem *problem =
        config_problem(context->report, CONFIG_ERROR, "unknown-key", pair->place,
                       "unknown key \"%.*s\"", STR_ARG(shown(pair->key)));
    config_suggest(problem, arena, pair->key, known, known_count,
                   config_known(arena, known, known_count));
}
