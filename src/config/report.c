/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config/report.c - collecting problems and showing them with the line they are in.
 *
 * What is shown comes from a file that may hold anything: control characters are replaced, values
 * of inline secrets are masked, long lines are cut around the caret.
 */
#include "config/report.h"

#include "base/buf.h"
#include "base/memory.h"
#include "config/internal.h"

#include <stdlib.h>
#include <string.h>

enum { PROBLEMS_MAX = 1000, LINE_SHOWN_MAX = 140 };

void config_report_init(struct config_report *report, struct arena *arena)
{
    *report = (struct config_report){.arena = arena};
}

static struct config_problem *new_problem(struct config_report *report)
{
    if (report->count >= PROBLEMS_MAX) /* counted, not kept; the caller may still fill it */
        return ARENA_NEW(report->arena, struct config_problem);
    if (report->count == report->cap) {
        size_t cap = report->cap ? report->cap * 2 : 16;
        struct config_problem *problems =
            arena_alloc_array(report->arena, cap, sizeof *report->problems);
        if (report->count)
            memcpy(problems, report->problems, report->count * sizeof *problems);
        report->problems = problems;
        report->cap = cap;
    }
    return &report->problems[report->count++];
}

struct config_problem *config_problem(struct config_report *report, enum config_severity severity,
                                      const char *code, struct config_place place,
                                      const char *format, ...)
{
    if (severity == CONFIG_ERROR)
        report->errors++;
    else
        report->warnings++;
    struct config_problem *problem = new_problem(report);
    va_list args;
    va_start(args, format);
    *problem = (struct config_problem){.severity = severity,
                                       .code = str_c(code),
                                       .place = place,
                                       .text = arena_vprintf(report->arena, format, args),
                                       .detail = STR_EMPTY,
                                       .fix = STR_EMPTY};
    va_end(args);
    return problem;
}

/* ---- order ---- */

static int compare_places(const void *a, const void *b)
{
    const struct config_problem *const *left = a, *const *right = b;
    const struct config_place *p = &(*left)->place, *q = &(*right)->place;
    unsigned p_order = p->file ? p->file->order : 0, q_order = q->file ? q->file->order : 0;
    if (p_order != q_order)
        return p_order < q_order ? -1 : 1;
    if (p->line != q->line)
        return p->line < q->line ? -1 : 1;
    if (p->column != q->column)
        return p->column < q->column ? -1 : 1;
    return *left < *right ? -1 : 1; /* as they were found */
}

/* The problems by place; free() the array. */
static const struct config_problem **sorted(const struct config_report *report)
{
    const struct config_problem **list = memory_alloc_array(report->count + 1, sizeof *list);
    for (size_t i = 0; i < report->count; i++)
        list[i] = &report->problems[i];
    qsort(list, report->count, sizeof *list, compare_places);
    return list;
}

/* ---- the source line ---- */

static size_t utf8_step(struct str s, size_t at)
{
    size_t next = at + 1;
    while (next < s.len && ((unsigned char)s.ptr[next] & 0xC0) == 0x80)
        next++;
    return next - at;
}

/* Where the value of an inline secret begins in `line`, or the line's length. */
static size_t secret_start(struct str line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] != ':' || !config_is_secret_key(str_trim(str_slice(line, 0, i))))
            continue;
        size_t value = i + 1;
        while (value < line.len && line.ptr[value] == ' ')
            value++;
        return value;
    }
    return line.len;
}

/* The characters of `line` from number `first` (from 0) on; one column each. */
static void print_characters(struct buf *out, struct str line, unsigned first, unsigned count)
{
    size_t secret = secret_start(line);
    unsigned column = 0;
    for (size_t at = 0; at < line.len && column < first + count; column++) {
        size_t step = utf8_step(line, at);
        char c = line.ptr[at];
        uint32_t point;
        if (column >= first) {
            if (at >= secret)
                buf_append_byte(out, '*');
            else if (c == '\t')
                buf_append_byte(out, ' ');
            else if (str_utf8(str_from(line, at), &point) != step || str_is_unsafe_point(point))
                buf_append_byte(out, '?');
            else
                buf_append(out, str_slice(line, at, at + step));
        }
        at += step;
    }
}

static unsigned character_count(struct str line)
{
    unsigned count = 0;
    for (size_t at = 0; at < line.len; count++)
        at += utf8_step(line, at);
    return count;
}

static void print_source(struct buf *out, const struct config_place *place, const char *mark,
                         const char *end)
{
    struct str line = config_source_line(place->file, place->line);
    unsigned column = place->column ? place->column - 1 : 0;
    unsigned total = character_count(line);
    unsigned first = column + place->length > LINE_SHOWN_MAX && column > 60 ? column - 60 : 0;
    buf_printf(out, "%5u | ", place->line);
    print_characters(out, line, first, LINE_SHOWN_MAX);
    buf_printf(out, "\n      | %*s%s", (int)(column - first), "", mark);
    unsigned length = place->length ? place->length : 1;
    if (column + length > total)
        length = total > column ? total - column : 1;
    if (column - first + length > LINE_SHOWN_MAX)
        length = LINE_SHOWN_MAX - (column - first);
    for (unsigned i = 0; i < length; i++)
        buf_append_byte(out, '^');
    buf_printf(out, "%s\n", end);
}

/* Text of ours may quote the file: no control characters reach the terminal. */
static void print_text(struct buf *out, struct str text)
{
    while (text.len) {
        uint32_t point;
        size_t length = str_utf8(text, &point);
        if (length == 0 || str_is_unsafe_point(point))
            buf_append_byte(out, '?');
        else
            buf_append(out, str_slice(text, 0, length));
        text = str_from(text, length ? length : 1);
    }
}

static void print_problem(struct buf *out, const struct config_problem *problem, bool colour)
{
    bool is_error = problem->severity == CONFIG_ERROR;
    const char *strong = !colour ? "" : is_error ? "\033[1;31m" : "\033[1;33m";
    const char *plain = colour ? "\033[0m" : "";
    buf_printf(out, "%s%s[%.*s]%s ", strong, is_error ? "error" : "warning", STR_ARG(problem->code),
               plain);
    if (problem->place.file) {
        print_text(out, problem->place.file->name);
        if (problem->place.line)
            buf_printf(out, ":%u:%u", problem->place.line, problem->place.column);
        buf_append(out, STR("  "));
    }
    print_text(out, problem->text);
    buf_append_byte(out, '\n');
    if (problem->place.file && problem->place.line)
        print_source(out, &problem->place, strong, plain);
    struct str rest = problem->detail, line;
    while (rest.len && str_split(&rest, '\n', &line)) {
        buf_append(out, STR("   "));
        print_text(out, line);
        buf_append_byte(out, '\n');
    }
    if (problem->fix.len) {
        buf_append(out, STR("   fix: "));
        print_text(out, problem->fix);
        buf_append_byte(out, '\n');
    }
}

void config_report_print(const struct config_report *report, bool colour, struct buf *out)
{
    const struct config_problem **list = sorted(report);
    for (size_t i = 0; i < report->count; i++) {
        print_problem(out, list[i], colour);
        buf_append_byte(out, '\n');
    }
    free(list);
    if (report->errors + report->warnings > report->count)
        buf_printf(out, "%zu more are not shown\n\n",
                   report->errors + report->warnings - report->count);
}

void config_report_summary(const struct config_report *report, struct buf *out)
{
    buf_printf(out, "%zu error%s, %zu warning%s.%s\n", report->errors,
               report->errors == 1 ? "" : "s", report->warnings, report->warnings == 1 ? "" : "s",
               report->errors ? " Nothing was applied." : "");
}

/* ---- JSON ---- */

static void json_text(struct buf *out, struct str text)
{
    buf_append_byte(out, '"');
    while (text.len) {
        uint32_t point = (unsigned char)text.ptr[0]; /* of no sequence: as if it were Latin-1 */
        size_t length = str_utf8(text, &point);
        if (point == '"' || point == '\\')
            buf_printf(out, "\\%c", (int)point);
        else if (length && point < 0x10000 && !str_is_unsafe_point(point))
            buf_append(out, str_slice(text, 0, length));
        else if (point < 0x10000)
            buf_printf(out, "\\u%04x", point);
        else
            buf_printf(out, "\\u%04x\\u%04x", 0xD800 + ((point - 0x10000) >> 10),
                       0xDC00 + ((point - 0x10000) & 0x3FF));
        text = str_from(text, length ? length : 1);
    }
    buf_append_byte(out, '"');
}

static void json_member(struct buf *out, const char *name, struct str text)
{
    buf_printf(out, ",\"%s\":", name);
    json_text(out, text);
}

void config_report_json(const struct config_report *report, struct buf *out)
{
    const struct config_problem **list = sorted(report);
    for (size_t i = 0; i < report->count; i++) {
        const struct config_problem *problem = list[i];
        buf_printf(out, "{\"severity\":\"%s\"",
                   problem->severity == CONFIG_ERROR ? "error" : "warning");
        json_member(out, "code", problem->code);
        json_member(out, "file", problem->place.file ? problem->place.file->name : STR_EMPTY);
        buf_printf(out, ",\"line\":%u,\"column\":%u,\"length\":%u", problem->place.line,
                   problem->place.column, problem->place.length);
        json_member(out, "text", problem->text);
        json_member(out, "detail", problem->detail);
        json_member(out, "fix", problem->fix);
        buf_append(out, STR("}\n"));
    }
    free(list);
}
