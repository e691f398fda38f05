/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/yaml.c - the one door to libyaml: text in, a tree with places out.
 *
 * Strict where libyaml is not: one document, no duplicate keys, no anchors, aliases or tags, no
 * bare on/off/yes/no, and only the line breaks that an editor shows, so that the line numbers here
 * and there agree. Depth and number of nodes have a ceiling.
 */
#include "config/internal.h"

#include "base/check.h"
#include "base/map.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    const struct config_file *file;
    struct arena *arena;
    struct config_report *report;
    size_t nodes;
    bool stopped; /* nothing more can be read */
};

static struct config_problem *problem_at(struct reader *reader, const char *code,
                                         struct config_place place, const char *text)
{
    return config_problem(reader->report, CONFIG_ERROR, code, place, "%s", text);
}

static struct config_place place_of(const struct reader *reader, yaml_mark_t start, yaml_mark_t end)
{
    struct config_place place = {.file = reader->file,
                                 .line = (unsigned)start.line + 1,
                                 .column = (unsigned)start.column + 1,
                                 .length = 1};
    if (end.line == start.line && end.column > start.column)
        place.length = (unsigned)(end.column - start.column);
    return place;
}

/* ---- what libyaml says, in words that help ---- */

static const struct {
    const char *says; /* part of libyaml's text */
    const char *text;
    const char *fix;
} syntax_texts[] = {
    {"cannot start any token", "this character cannot start a value",
     "indent with spaces (no tabs), and put values that start with @ ` % or a tab in quotes"},
    {"mapping values are not allowed", "a colon where no key can stand",
     "check the indentation, or put a value that holds \": \" in quotes"},
    {"could not find expected ':'", "a key without its colon", "write \"key: value\""},
    {"did not find expected key", "the indentation does not fit the lines above",
     "give all keys of one map the same indentation"},
    {"did not find expected '-' indicator", "the indentation does not fit the list above",
     "start each item with \"- \" at the same indentation"},
    {"did not find expected ',' or '}'", "a \"{\" is not closed, or a comma is missing",
     "write { key: value, key: value }"},
    {"did not find expected ',' or ']'", "a \"[\" is not closed, or a comma is missing",
     "write [ one, two ]"},
    {"unexpected end of stream", "the text ends inside a quoted value", "close the quotes"},
    {"block sequence entries are not allowed", "a list item where none can stand",
     "put the list on lines of its own, below its key"},
    {"unknown escape character", "an unknown escape in double quotes",
     "write \\\\ for a backslash, or use single quotes"},
    {"expected <document start>", "something behind the end of the document",
     "check the indentation; a file holds one document"},
    {"undefined alias", "aliases (*name) are not part of this format", "write the value out"},
};

static void report_syntax(struct reader *reader)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *says = parser->problem ? parser->problem : "not valid YAML";
    struct config_place place = place_of(reader, parser->problem_mark, parser->problem_mark);
    reader->stopped = true;
    for (size_t i = 0; i < sizeof syntax_texts / sizeof *syntax_texts; i++) {
        if (!strstr(says, syntax_texts[i].says))
            continue;
        problem_at(reader, "syntax", place, syntax_texts[i].text)->fix = str_c(syntax_texts[i].fix);
        return;
    }
    struct config_problem *problem = problem_at(reader, "syntax", place, says);
    if (parser->context)
        problem->detail = arena_printf(reader->report->arena, "%s, line %zu", parser->context,
                                       parser->context_mark.line + 1);
}

static bool next_event(struct reader *reader, yaml_event_t *event)
{
    if (reader->stopped)
        return false;
    if (!yaml_parser_parse(&reader->parser, event)) {
        report_syntax(reader);
        return false;
    }
    return true;
}

/* ---- nodes ---- */

static void refuse_marks(struct reader *reader, const yaml_char_t *anchor, const yaml_char_t *tag,
                         struct config_place place)
{
    if (anchor)
        problem_at(reader, "yaml-anchor", place, "anchors (&name) are not part of this format")
            ->fix = STR("write the value out where it is needed");
    if (tag)
        problem_at(reader, "yaml-tag", place, "tags (!name) are not part of this format")->fix =
            STR("remove the tag");
}

static bool is_null_text(struct str text)
{
    return text.len == 0 || str_equal(text, STR("~")) || str_equal(text, STR("null")) ||
           str_equal(text, STR("Null")) || str_equal(text, STR("NULL"));
}

static void refuse_yes_no(struct reader *reader, struct str text, struct config_place place,
                          bool is_key)
{
    if (!config_is_bare_yes_no(text))
        return;
    struct config_problem *problem = config_problem(
        reader->report, CONFIG_ERROR, "yes-no", place,
        "\"%.*s\" without quotes means true or false to some readers of YAML and text to others",
        STR_ARG(text));
    problem->fix = is_key ? STR("put the name in quotes")
                          : STR("write true or false; put it in quotes if it is meant as text");
}

static void read_scalar(struct reader *reader, const yaml_event_t *event, struct config_node *out)
{
    struct str text = str_of((const char *)event->data.scalar.value, event->data.scalar.length);
    out->kind = CONFIG_SCALAR;
    out->place = place_of(reader, event->start_mark, event->end_mark);
    out->text = arena_str(reader->arena, text);
    out->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    out->is_null = !out->quoted && is_null_text(text);
    refuse_marks(reader, event->data.scalar.anchor, event->data.scalar.tag, out->place);
}

static bool read_node(struct reader *reader, yaml_event_t *event, unsigned depth,
                      struct config_node *out);

/* Skip what an unusable key holds, so that reading can go on. */
static void read_bad_key(struct reader *reader, yaml_event_t *event, unsigned depth,
                         struct config_pair *out)
{
    struct config_node ignored = {.kind = CONFIG_SCALAR};
    out->place = place_of(reader, event->start_mark, event->end_mark);
    out->key = STR_EMPTY;
    problem_at(reader, "syntax", out->place, "a key must be a single word or text")->fix =
        STR("put a value that starts with { or [ in quotes");
    read_node(reader, event, depth, &ignored);
}

static void read_key(struct reader *reader, yaml_event_t *event, unsigned depth,
                     struct config_pair *out)
{
    if (event->type != YAML_SCALAR_EVENT) {
        read_bad_key(reader, event, depth, out);
        return;
    }
    struct config_node key = {.kind = CONFIG_SCALAR};
    read_scalar(reader, event, &key);
    out->key = key.text;
    out->place = key.place;
    if (!key.quoted)
        refuse_yes_no(reader, key.text, key.place, /* is_key= */ true);
    if (key.is_null)
        problem_at(reader, "syntax", key.place, "a key without a name")->fix =
            STR("write \"key: value\"");
}

static void check_duplicates(struct reader *reader, const struct config_node *node)
{
    struct map seen;
    map_init(&seen);
    for (size_t i = 0; i < node->count; i++) {
        struct config_pair *pair = &node->pairs[i];
        const struct config_pair *first = map_get(&seen, pair->key);
        if (!first) {
            map_put(&seen, pair->key, pair);
            continue;
        }
        if (pair->key.len == 0)
            continue; /* was reported as a bad key */
        struct config_problem *problem =
            config_problem(reader->report, CONFIG_ERROR, "duplicate-key", pair->place,
                           "\"%.*s\" stands here twice", STR_ARG(pair->key));
        problem->fix = arena_printf(reader->report->arena, "keep one; the first is in line %u",
                                    first->place.line);
    }
    map_done(&seen);
}

static bool too_many(struct reader *reader, struct config_place place)
{
    if (++reader->nodes <= CONFIG_NODES_MAX)
        return false;
    problem_at(reader, "too-large", place, "the file holds too many values")->fix =
        STR("move long lists to files of their own: lists, domains_file");
    reader->stopped = true;
    return true;
}

static void *grow(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap)
        return items;
    *cap = *cap ? *cap * 2 : 8;
    return memory_resize_array(items, *cap, size);
}

/* Array of the heap to the arena. */
static void *settle(struct reader *reader, void *items, size_t count, size_t size)
{
    void *copy = NULL;
    if (count) {
        copy = arena_alloc_array(reader->arena, count, size);
        memcpy(copy, items, count * size);
    }
    free(items);
    return copy;
}

static void read_map(struct reader *reader, unsigned depth, struct config_node *out)
{
    struct config_pair *pairs = NULL;
    size_t cap = 0;
    yaml_event_t event;
    while (next_event(reader, &event)) {
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        pairs = grow(pairs, out->count, &cap, sizeof *pairs);
        struct config_pair *pair = &pairs[out->count];
        *pair = (struct config_pair){.key = STR_EMPTY};
        read_key(reader, &event, depth, pair);
        yaml_event_delete(&event);
        if (!next_event(reader, &event))
            break;
        /* a value on lines of its own is named by its key: that is what a person looks for */
        bool block = (event.type == YAML_MAPPING_START_EVENT &&
                      event.data.mapping_start.style != YAML_FLOW_MAPPING_STYLE) ||
                     (event.type == YAML_SEQUENCE_START_EVENT &&
                      event.data.sequence_start.style != YAML_FLOW_SEQUENCE_STYLE);
        bool read = read_node(reader, &event, depth, &pair->value);
        yaml_event_delete(&event);
        if (!read)
            break;
        if (block || pair->value.is_null)
            pair->value.place = pair->place;
        out->count++;
    }
    out->pairs = settle(reader, pairs, out->count, sizeof *pairs);
    check_duplicates(reader, out);
}

static void read_list(struct reader *reader, unsigned depth, struct config_node *out)
{
    struct config_node *items = NULL;
    size_t cap = 0;
    yaml_event_t event;
    while (next_event(reader, &event)) {
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            break;
        }
        items = grow(items, out->count, &cap, sizeof *items);
        bool read = read_node(reader, &event, depth, &items[out->count]);
        yaml_event_delete(&event);
        if (!read)
            break;
        out->count++;
    }
    out->items = settle(reader, items, out->count, sizeof *items);
}

/* The node that begins with `event`. False: reading stopped. */
static bool read_node(struct reader *reader, yaml_event_t *event, unsigned depth,
                      struct config_node *out)
{
    *out = (struct config_node){.kind = CONFIG_SCALAR,
                                .place = place_of(reader, event->start_mark, event->end_mark),
                                .text = STR_EMPTY};
    if (too_many(reader, out->place))
        return false;
    if (depth >= CONFIG_DEPTH_MAX) {
        problem_at(reader, "too-large", out->place, "nested too deeply")->fix =
            STR("use at most 48 levels");
        reader->stopped = true;
        return false;
    }
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        read_scalar(reader, event, out);
        if (!out->quoted)
            refuse_yes_no(reader, out->text, out->place, /* is_key= */ false);
        break;
    case YAML_SEQUENCE_START_EVENT:
        out->kind = CONFIG_LIST;
        refuse_marks(reader, event->data.sequence_start.anchor, event->data.sequence_start.tag,
                     out->place);
        read_list(reader, depth + 1, out);
        break;
    case YAML_MAPPING_START_EVENT:
        out->kind = CONFIG_MAP;
        refuse_marks(reader, event->data.mapping_start.anchor, event->data.mapping_start.tag,
                     out->place);
        read_map(reader, depth + 1, out);
        break;
    default: /* an alias: nothing else is left */
        out->is_null = true;
        problem_at(reader, "yaml-anchor", out->place, "aliases (*name) are not part of this format")
            ->fix = STR("write the value out");
        break;
    }
    return !reader->stopped;
}

/* ---- the text before libyaml sees it ---- */

/* Length of the UTF-8 character at `p`, or 0; `*out_code` its number. */
static size_t utf8_length(const unsigned char *p, size_t left, uint32_t *out_code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (p[0] < 0x80) {
        *out_code = p[0];
        return 1;
    }
    size_t len = (p[0] & 0xE0) == 0xC0   ? 2
                 : (p[0] & 0xF0) == 0xE0 ? 3
                 : (p[0] & 0xF8) == 0xF0 ? 4
                                         : 0;
    if (!len || len > left)
        return 0;
    uint32_t code = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3Fu);
    }
    if (code < least[len] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    *out_code = code;
    return len;
}

/* Text against the character, or NULL if it may stand in a file. */
static const char *character_fault(uint32_t code, unsigned next)
{
    if (code == 0x85 || code == 0x2028 || code == 0x2029)
        return "an invisible line break (NEL, LS or PS)";
    if (code == '\r' && next != '\n')
        return "a CR without LF";
    if (code == 0xFEFF)
        return "a byte order mark inside the text";
    bool allowed = code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code != 0x7F);
    if (!allowed || (code >= 0x80 && code < 0xA0))
        return "a control character";
    if (code == 0xFFFE || code == 0xFFFF)
        return "a character that is none";
    return NULL;
}

static bool check_characters(struct reader *reader, struct str text)
{
    struct config_place place = {.file = reader->file, .line = 1, .column = 1, .length = 1};
    for (size_t i = 0; i < text.len;) {
        const unsigned char *p = (const unsigned char *)text.ptr + i;
        uint32_t code = 0;
        size_t len = utf8_length(p, text.len - i, &code);
        const char *fault =
            len ? character_fault(code, i + 1 < text.len ? p[1] : 0) : "bytes that are not UTF-8";
        if (fault) {
            problem_at(reader, "encoding", place, fault)->fix =
                len ? STR("take it out") : STR("save the file as UTF-8 text");
            return false;
        }
        i += len;
        place.column++;
        if (code == '\n') {
            place.line++;
            place.column = 1;
        }
    }
    return true;
}

/* ---- the document ---- */

static void check_document_start(struct reader *reader, const yaml_event_t *event)
{
    struct config_place place = place_of(reader, event->start_mark, event->end_mark);
    if (event->data.document_start.tag_directives.start !=
        event->data.document_start.tag_directives.end)
        problem_at(reader, "yaml-tag", place, "%TAG is not part of this format")->fix =
            STR("remove the line");
    const yaml_version_directive_t *version = event->data.document_start.version_directive;
    if (version && (version->major != 1 || version->minor != 2))
        problem_at(reader, "syntax", place, "only YAML 1.2 is read")->fix = STR("remove the line");
}

/* One event at top level; false: the end. */
static bool read_top(struct reader *reader, unsigned *documents, struct config_node *out_root)
{
    yaml_event_t event;
    if (!next_event(reader, &event))
        return false;
    bool more = event.type != YAML_STREAM_END_EVENT;
    if (event.type == YAML_DOCUMENT_START_EVENT) {
        check_document_start(reader, &event);
        if (++*documents > 1) {
            problem_at(reader, "syntax", place_of(reader, event.start_mark, event.end_mark),
                       "a second document begins here")
                ->fix = STR("a file holds one document; use conf.d for more files");
            more = false;
        }
    } else if (event.type == YAML_SCALAR_EVENT || event.type == YAML_MAPPING_START_EVENT ||
               event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_ALIAS_EVENT) {
        more = read_node(reader, &event, 0, out_root);
    }
    yaml_event_delete(&event);
    return more;
}

enum result config_yaml_read(const struct config_file *file, struct arena *arena,
                             struct config_report *report, struct config_node *out_root)
{
    size_t errors_before = report->errors;
    struct reader reader = {.file = file, .arena = arena, .report = report};
    *out_root = (struct config_node){.kind = CONFIG_MAP,
                                     .text = STR_EMPTY,
                                     .place = {.file = file, .line = 1, .column = 1, .length = 1}};
    if (!check_characters(&reader, file->text))
        return FAILED;
    if (!yaml_parser_initialize(&reader.parser))
        check_failed("yaml_parser_initialize", __FILE__, __LINE__, __func__);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)file->text.ptr,
                                 file->text.len);
    unsigned documents = 0;
    while (read_top(&reader, &documents, out_root))
        ;
    yaml_parser_delete(&reader.parser);
    if (reader.stopped)
        *out_root = (struct config_node){.kind = CONFIG_MAP, .place = out_root->place};
    return report->errors == errors_before ? OK : FAILED;
}
