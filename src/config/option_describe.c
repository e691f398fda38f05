/* SPDX-License-Identifier: Apache-2.0 */
/* config/option_describe.c - rows for people and editors: JSON Schema, manual, effective values. */
#include "config/option_internal.h"

#include "base/buf.h"
#include "config/internal.h"

#include <inttypes.h>

/* ---- JSON Schema ---- */

void option_print_json(struct str text, struct buf *out)
{
    buf_append_byte(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '"' || c == '\\')
            buf_append_byte(out, '\\');
        if (c < 0x20)
            buf_printf(out, "\\u%04x", c);
        else
            buf_append_byte(out, text.ptr[i]);
    }
    buf_append_byte(out, '"');
}

#define TIME_PATTERN "[0-9]+(ms|s|m|h|d)"
static const char text_schema[] = "\"type\":[\"string\",\"number\"]";
static const char texts_schema[] =
    "\"anyOf\":[{\"type\":[\"string\",\"number\"]},"
    "{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"number\"]}}]";

static void schema_words(const struct option *option, struct buf *out)
{
    buf_append(out, STR("\"enum\":["));
    for (const struct option_word *word = option->words; word->word; word++) {
        if (word != option->words)
            buf_append_byte(out, ',');
        option_print_json(str_c(word->word), out);
        int64_t whole;
        struct str number = str_c(word->word); /* 1.3 without quotes is no text to an editor */
        if (number.len == 3 && number.ptr[1] == '.' &&
            option_parse_int(str_slice(number, 0, 1), &whole))
            buf_printf(out, ",%s", word->word);
    }
    buf_append_byte(out, ']');
}

static void schema_type(const struct option *option, struct buf *out)
{
    switch (option->type) {
    case OPTION_BOOL:
        buf_append(out, STR("\"type\":\"boolean\""));
        break;
    case OPTION_INT:
        buf_append(out, STR("\"type\":\"integer\""));
        if (option->min || option->max)
            buf_printf(out, ",\"minimum\":%" PRId64 ",\"maximum\":%" PRId64, option->min,
                       option->max);
        break;
    case OPTION_DECIMAL:
        buf_append(out, STR("\"type\":\"number\""));
        break;
    case OPTION_DURATION:
        buf_append(out, STR("\"type\":\"string\",\"pattern\":\"^" TIME_PATTERN "$\""));
        break;
    case OPTION_DURATIONS:
        buf_append(out, STR("\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^" TIME_PATTERN
                            "$\"},{\"type\":\"array\",\"items\":{\"type\":\"string\","
                            "\"pattern\":\"^" TIME_PATTERN "$\"}}]"));
        break;
    case OPTION_SIZE:
        buf_append(out, STR("\"type\":[\"integer\",\"string\"],\"pattern\":\"^[0-9]+[KMGT]?$\""));
        break;
    case OPTION_RATE:
        buf_append(out, STR("\"type\":\"string\",\"pattern\":\"^[0-9]+/" TIME_PATTERN "$\""));
        break;
    case OPTION_WORD:
        schema_words(option, out);
        break;
    case OPTION_WORDS:
        buf_append(out, STR("\"anyOf\":[{"));
        schema_words(option, out);
        buf_append(out, STR("},{\"type\":\"array\",\"items\":{"));
        schema_words(option, out);
        buf_append(out, STR("}}]"));
        break;
    case OPTION_TEXTS:
    case OPTION_REFERENCES:
        buf_append(out, str_c(texts_schema));
        break;
    case OPTION_TEXT:
    case OPTION_PATH:
    case OPTION_REFERENCE:
        buf_append(out, str_c(text_schema));
        break;
    case OPTION_GROUP:
        buf_append(out, STR("\"allOf\":["));
        option_schema(option->group, out);
        buf_append_byte(out, ']');
        break;
    case OPTION_NODE:
        break; /* the module reads it itself: anything, as far as the row knows */
    }
}

static void schema_row(const struct option *option, struct buf *out)
{
    option_print_json(str_c(option->name), out);
    buf_append(out, STR(":{\"description\":"));
    option_print_json(str_c(option->text), out);
    if (option->fallback) {
        buf_append(out, STR(",\"default\":"));
        if (option->type == OPTION_BOOL || option->type == OPTION_INT ||
            option->type == OPTION_DECIMAL)
            buf_append(out, str_c(option->fallback));
        else
            option_print_json(str_c(option->fallback), out);
    }
    if (option->type != OPTION_NODE)
        buf_append_byte(out, ',');
    schema_type(option, out);
    buf_append_byte(out, '}');
}

void option_schema_rows(const struct option_table *table, struct buf *out)
{
    for (const struct option *option = table->options; option->name; option++) {
        if (option != table->options)
            buf_append_byte(out, ',');
        schema_row(option, out);
    }
}

void option_schema_required(const struct option_table *table, struct buf *out)
{
    bool first = true;
    for (const struct option *option = table->options; option->name; option++) {
        if (!option->required)
            continue;
        buf_append(out, first ? STR(",\"required\":[") : STR(","));
        option_print_json(str_c(option->name), out);
        first = false;
    }
    buf_append(out, first ? STR("") : STR("]"));
}

bool option_schema_shorthand(const struct option_table *table, struct buf *out)
{
    for (const struct option *option = table->options; table->shorthand && option->name; option++) {
        if (!str_equal(str_c(option->name), str_c(table->shorthand)))
            continue;
        buf_append_byte(out, '{');
        schema_type(option, out);
        buf_append_byte(out, '}');
        return true;
    }
    return false;
}

static void schema_object(const struct option_table *table, struct buf *out)
{
    buf_append(out, STR("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"));
    option_schema_rows(table, out);
    buf_append_byte(out, '}');
    option_schema_required(table, out);
    buf_append_byte(out, '}');
}

void option_schema(const struct option_table *table, struct buf *out)
{
    if (!table->shorthand) {
        schema_object(table, out);
        return;
    }
    buf_append(out, STR("{\"anyOf\":["));
    schema_object(table, out);
    buf_append_byte(out, ',');
    option_schema_shorthand(table, out);
    buf_append(out, STR("]}"));
}

/* ---- manual ---- */

void option_print_prose(struct str text, struct buf *out)
{
    bool code = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        code = c == '`' ? !code : code;
        if (!code && c == '<')
            buf_append(out, STR("&lt;"));
        else if (!code && (c == '*' || c == '[' || c == '|'))
            buf_printf(out, "\\%c", c);
        else
            buf_append_byte(out, c);
    }
}

static void manual_type(const struct option *option, struct buf *out)
{
    static const char *const names[] = {
        [OPTION_BOOL] = "true or false",
        [OPTION_INT] = "number",
        [OPTION_DECIMAL] = "number",
        [OPTION_DURATION] = "time",
        [OPTION_SIZE] = "size",
        [OPTION_RATE] = "rate",
        [OPTION_TEXT] = "text",
        [OPTION_PATH] = "path",
        [OPTION_WORD] = "word",
        [OPTION_WORDS] = "list of words",
        [OPTION_REFERENCE] = "name",
        [OPTION_TEXTS] = "text or list",
        [OPTION_REFERENCES] = "name or list",
        [OPTION_DURATIONS] = "time or list",
        [OPTION_GROUP] = "settings",
        [OPTION_NODE] = "see text",
    };
    if (option->type != OPTION_WORD && option->type != OPTION_WORDS) {
        buf_append(out, str_c(names[option->type]));
        if (option->refers_to)
            buf_printf(out, " of %s", option->refers_to);
        return;
    }
    if (option->type == OPTION_WORDS)
        buf_append(out, STR("any of "));
    for (const struct option_word *word = option->words; word->word; word++)
        buf_printf(out, "%s`%s`", word == option->words ? "" : ", ", word->word);
}

static void manual_bounds(const struct option *option, struct buf *out)
{
    if (option->min == 0 && option->max == 0)
        return;
    if (option->type == OPTION_INT) {
        buf_printf(out, ", %" PRId64 " to %" PRId64, option->min, option->max);
    } else if (option->type == OPTION_DURATION || option->type == OPTION_DURATIONS) {
        buf_append(out, STR(", "));
        option_print_duration(option->min, out);
        buf_append(out, STR(" to "));
        option_print_duration(option->max, out);
    } else if (option->type == OPTION_SIZE) {
        buf_append(out, STR(", "));
        option_print_size((uint64_t)option->min, out);
        buf_append(out, STR(" to "));
        option_print_size((uint64_t)option->max, out);
    }
}

static void manual_row(const struct option *option, struct buf *out)
{
    buf_printf(out, "- `%s`: ", option->name);
    manual_type(option, out);
    manual_bounds(option, out);
    if (option->required)
        buf_append(out, STR(", required"));
    else if (option->fallback && str_find_str(str_c(option->text), STR("default")) < 0)
        buf_printf(out, ", default `%s`", option->fallback);
    if (option->reload == RELOAD_RESTART)
        buf_append(out, STR(", needs a restart"));
    buf_append(out, STR(".\n  "));
    option_print_prose(str_c(option->text), out);
    buf_append_byte(out, '\n');
}

void option_manual(const struct option_table *table, struct buf *out)
{
    buf_printf(out, "## `%s`\n\n", table->name);
    option_print_prose(str_c(table->text), out);
    if (table->shorthand)
        buf_printf(out, " A value alone stands for `%s`.", table->shorthand);
    buf_append(out, STR("\n\n"));
    for (const struct option *option = table->options; option->name; option++)
        manual_row(option, out);
    buf_append_byte(out, '\n');
    for (const struct option *option = table->options; option->name; option++) {
        if (option->type == OPTION_GROUP)
            option_manual(option->group, out);
    }
}

/* ---- effective values ---- */

void option_print_text(struct str text, struct buf *out)
{
    bool plain = text.len > 0 && !config_is_bare_yes_no(text);
    for (size_t i = 0; i < text.len && plain; i++) {
        char c = text.ptr[i];
        plain = ascii_is_alpha(c) || ascii_is_digit(c) || c == '.' || c == '/' || c == '_' ||
                (c == '-' && i > 0) || (c == '@' && i > 0);
    }
    if (plain && !str_equal_nocase(text, STR("true")) && !str_equal_nocase(text, STR("false")) &&
        !str_equal_nocase(text, STR("null")))
        buf_append(out, text);
    else
        option_print_json(text, out);
}

static void print_word(const struct option *option, int value, struct buf *out)
{
    for (const struct option_word *word = option->words; word->word; word++) {
        if (word->value == value) {
            buf_append(out, str_c(word->word));
            return;
        }
    }
    buf_append(out, STR("null"));
}

static void print_words(const struct option *option, unsigned set, struct buf *out)
{
    buf_append_byte(out, '[');
    bool first = true;
    for (const struct option_word *word = option->words; word->word; word++) {
        if (!(set & 1u << word->value))
            continue;
        buf_printf(out, "%s%s", first ? " " : ", ", word->word);
        first = false;
    }
    buf_append(out, first ? STR("]") : STR(" ]"));
}

static void print_texts(const struct option_texts *texts, struct buf *out)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < texts->count; i++) {
        buf_append(out, i ? STR(", ") : STR(" "));
        option_print_text(texts->items[i], out);
    }
    buf_append(out, texts->count ? STR(" ]") : STR("]"));
}

static void print_durations(const struct option_durations *durations, struct buf *out)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < durations->count; i++) {
        buf_append(out, i ? STR(", ") : STR(" "));
        option_print_duration(durations->items[i], out);
    }
    buf_append(out, durations->count ? STR(" ]") : STR("]"));
}

/* May the text stand without quotes inside [ ] and { }? */
static bool fits_flow_style(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (str_find(STR(",[]{}#:&*!|>'\"%@`\n"), text.ptr[i]) >= 0)
            return false;
    }
    return true;
}

/* What the module reads itself is shown as it was written, in flow style. */
static void print_node(const struct config_node *node, struct str key, struct buf *out)
{
    if (!node || (node->kind == CONFIG_SCALAR && node->is_null)) {
        buf_append(out, STR("null"));
    } else if (config_is_secret_key(key)) {
        buf_append(out, STR("\"***\""));
    } else if (node->kind == CONFIG_SCALAR && !node->quoted && fits_flow_style(node->text)) {
        buf_append(out, node->text);
    } else if (node->kind == CONFIG_SCALAR) {
        option_print_json(node->text, out);
    } else {
        bool list = node->kind == CONFIG_LIST;
        buf_append(out, list ? STR("[") : STR("{"));
        for (size_t i = 0; i < node->count; i++) {
            buf_append(out, i ? STR(", ") : STR(" "));
            if (!list) {
                option_print_text(node->pairs[i].key, out);
                buf_append(out, STR(": "));
            }
            print_node(list ? &node->items[i] : &node->pairs[i].value,
                       list ? STR_EMPTY : node->pairs[i].key, out);
        }
        buf_append(out, list ? STR(" ]") : STR(" }"));
    }
}

void option_print_node(const struct config_node *node, struct buf *out)
{
    print_node(node, STR_EMPTY, out);
}

static void print_rate(const struct option_rate *rate, struct buf *out)
{
    if (!rate->count) {
        buf_append(out, STR("null"));
        return;
    }
    buf_printf(out, "%" PRIu64 "/", rate->count);
    option_print_duration(rate->period_ns, out);
}

static void print_value(const struct option *option, const void *at, struct buf *out)
{
    switch (option->type) {
    case OPTION_BOOL:
        buf_append(out, *(const bool *)at ? STR("true") : STR("false"));
        break;
    case OPTION_INT:
        buf_printf(out, "%" PRId64, *(const int64_t *)at);
        break;
    case OPTION_DECIMAL:
        buf_printf(out, "%g", *(const double *)at);
        break;
    case OPTION_DURATION:
        option_print_duration(*(const int64_t *)at, out);
        break;
    case OPTION_SIZE:
        option_print_size(*(const uint64_t *)at, out);
        break;
    case OPTION_RATE:
        print_rate(at, out);
        break;
    case OPTION_WORD:
        print_word(option, *(const int *)at, out);
        break;
    case OPTION_WORDS:
        print_words(option, *(const unsigned *)at, out);
        break;
    case OPTION_TEXT:
    case OPTION_PATH:
    case OPTION_REFERENCE:
        if (((const struct str *)at)->len == 0)
            buf_append(out, STR("null"));
        else if (config_is_secret_key(str_c(option->name)))
            buf_append(out, STR("\"***\""));
        else
            option_print_text(*(const struct str *)at, out);
        break;
    case OPTION_TEXTS:
    case OPTION_REFERENCES:
        print_texts(at, out);
        break;
    case OPTION_DURATIONS:
        print_durations(at, out);
        break;
    case OPTION_NODE:
        print_node(*(const struct config_node *const *)at, str_c(option->name), out);
        break;
    case OPTION_GROUP:
        break;
    }
}

static void spaces(struct buf *out, unsigned count)
{
    buf_printf(out, "%*s", (int)count, "");
}

/* Has the row nothing to show: no default, and nothing given? */
static bool is_absent(const struct option *option, const void *at)
{
    switch (option->type) {
    case OPTION_INT:
        return (option->min || option->max) && *(const int64_t *)at < option->min;
    case OPTION_RATE:
        return ((const struct option_rate *)at)->count == 0;
    case OPTION_WORD:
        return *(const int *)at < 0;
    case OPTION_TEXT:
    case OPTION_PATH:
    case OPTION_REFERENCE:
        return ((const struct str *)at)->len == 0;
    case OPTION_TEXTS:
    case OPTION_REFERENCES:
        return ((const struct option_texts *)at)->count == 0;
    case OPTION_NODE:
        return *(const struct config_node *const *)at == NULL;
    default:
        return false;
    }
}

/* A group that needs something written is not there until it is. */
static bool needs_writing(const struct option_table *table)
{
    bool needs = false;
    for (const struct option *option = table->options; option->name; option++)
        needs = needs || option->required;
    return needs;
}

static void print_group(const struct option *option, const void *at, const struct config_node *node,
                        unsigned indent, struct buf *out)
{
    if (!node && needs_writing(option->group))
        return;
    struct buf inner BUF_CLEANUP;
    buf_init(&inner, 1 << 20);
    option_effective(option->group, at, node, indent + 2, &inner);
    if (inner.len == 0)
        return;
    spaces(out, indent);
    buf_printf(out, "%s:\n", option->name);
    buf_append(out, buf_str(&inner));
}

/* Where a value comes from: where it was written, else a default. */
void option_print_origin(const struct config_node *written, struct buf *out)
{
    if (!written)
        buf_append(out, STR("  # default\n"));
    else if (written->place.line)
        buf_printf(out, "  # %.*s:%u\n", STR_ARG(config_file_name(written->place.file)),
                   written->place.line);
    else
        buf_append_byte(out, '\n');
}

void option_effective(const struct option_table *table, const void *target,
                      const struct config_node *node, unsigned indent, struct buf *out)
{
    for (const struct option *option = table->options; option->name; option++) {
        const struct config_node *given = config_get(node, str_c(option->name));
        const void *at = (const char *)target + option->offset;
        if (!given && is_absent(option, at))
            continue;
        if (option->type == OPTION_GROUP) {
            print_group(option, at, given, indent, out);
            continue;
        }
        spaces(out, indent);
        buf_printf(out, "%s: ", option->name);
        print_value(option, at, out);
        bool from_shorthand = node && node->kind != CONFIG_MAP && table->shorthand &&
                              str_equal(str_c(option->name), str_c(table->shorthand));
        option_print_origin(given ? given : from_shorthand ? node : NULL, out);
    }
}
