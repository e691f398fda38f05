/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/man.h"

#include "base/buf.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

struct printing {
    struct buf *out;
    bool man;    /* else plain */
    bool at_gap; /* nothing stands since the last heading or empty line */
};

/* ---- characters ---- */

/* One UTF-8 character of valid text; man gets its number. */
static size_t put_wide(struct printing *to, struct str text)
{
    unsigned char first = (unsigned char)text.ptr[0];
    size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (length > text.len)
        length = text.len;
    uint32_t point = first & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++)
        point = point << 6 | ((unsigned char)text.ptr[i] & 0x3Fu);
    if (to->man)
        buf_printf(to->out, "\\[u%04X]", point);
    else
        buf_append(to->out, str_slice(text, 0, length));
    return length;
}

static void put_byte(struct printing *to, char c, bool code)
{
    if (to->man && c == '\\')
        buf_append(to->out, STR("\\e"));
    else if (to->man && c == '-' && code)
        buf_append(to->out, STR("\\-"));
    else if (to->man && c == '\'' && code)
        buf_append(to->out, STR("\\(aq"));
    else if (to->man && c == '^')
        buf_append(to->out, STR("\\(ha"));
    else if (to->man && c == '~')
        buf_append(to->out, STR("\\(ti"));
    else
        buf_append_byte(to->out, c);
}

/* What stands at the start of `text` outside of code and means something in Markdown; how long it
 * is, 0: it means nothing. */
static size_t put_markup(struct printing *to, struct str text)
{
    if (str_starts(text, STR("&lt;"))) {
        buf_append_byte(to->out, '<');
        return 4;
    }
    if (text.ptr[0] == '\\' && text.len > 1) {
        put_byte(to, text.ptr[1], false);
        return 2;
    }
    ptrdiff_t end = text.ptr[0] == '[' ? str_find_str(text, STR("](")) : -1;
    ptrdiff_t close = end > 0 ? str_find(str_from(text, (size_t)end), ')') : -1;
    if (close < 0)
        return 0;
    for (ptrdiff_t i = 1; i < end; i++) /* a link: its words */
        put_byte(to, text.ptr[i], false);
    return (size_t)(end + close + 1);
}

static void put_text(struct printing *to, struct str text)
{
    bool code = false;
    if (to->man && text.len && (text.ptr[0] == '.' || text.ptr[0] == '\''))
        buf_append(to->out, STR("\\&"));
    while (text.len) {
        size_t length = code ? 0 : put_markup(to, text);
        if (text.ptr[0] == '`') {
            code = !code;
            if (to->man)
                buf_append(to->out, code ? STR("\\fB") : STR("\\fP"));
            length = 1;
        } else if ((unsigned char)text.ptr[0] >= 0x80) {
            length = put_wide(to, text);
        } else if (!length) {
            bool escaped = code && text.ptr[0] == '\\' && text.len > 1 && text.ptr[1] == '|';
            put_byte(to, text.ptr[escaped ? 1 : 0], code); /* a bar in a table's cell */
            length = escaped ? 2 : 1;
        }
        text = str_from(text, length);
    }
    if (code && to->man)
        buf_append(to->out, STR("\\fP"));
    buf_append_byte(to->out, '\n');
}

/* ---- lines ---- */

static void put_heading(struct printing *to, struct str text)
{
    if (to->man) {
        buf_append(to->out, STR(".SH "));
        for (size_t i = 0; i < text.len; i++)
            if (text.ptr[i] != '`')
                put_byte(to, text.ptr[i], true);
        buf_append_byte(to->out, '\n');
    } else {
        put_text(to, text);
    }
    to->at_gap = true;
}

static void put_item(struct printing *to, struct str name, struct str text)
{
    if (to->man)
        buf_append(to->out, STR(".TP\n"));
    else
        buf_append(to->out, STR("  "));
    put_text(to, name);
    if (!to->man)
        buf_append(to->out, STR("      "));
    put_text(to, text);
    to->at_gap = false;
}

/* Cells of a row: a name, what it is, more of that, and what it means. */
static void put_row(struct printing *to, struct str line)
{
    enum { CELLS = 4 };
    struct str cells[CELLS];
    size_t count = 0;
    size_t start = 1;
    for (size_t i = 1; i < line.len && count < CELLS; i++) {
        if (line.ptr[i] != '|' || line.ptr[i - 1] == '\\')
            continue;
        cells[count++] = str_trim(str_slice(line, start, i));
        start = i + 1;
    }
    if (count < 2)
        return;
    if (count == 2) {
        put_item(to, cells[0], cells[1]);
        return;
    }
    char name[512];
    const struct str none = STR_EMPTY;
    const struct str more = count == CELLS ? cells[2] : none;
    snprintf(name, sizeof name, "%.*s (%.*s%s%.*s)", STR_ARG(cells[0]), STR_ARG(cells[1]),
             more.len ? "; " : "", STR_ARG(more));
    put_item(to, str_c(name), cells[count - 1]);
}

/* A list's "- `name`: text"; the part before the colon is the item's name. */
static void put_list_item(struct printing *to, struct str text)
{
    bool code = str_starts(text, STR("`")); /* in which there may be colons */
    ptrdiff_t colon = str_find_str(text, code ? STR("`: ") : STR(": "));
    if (colon >= 0 && code)
        colon++;
    if (colon < 0)
        put_item(to, text, STR_EMPTY);
    else
        put_item(to, str_slice(text, 0, (size_t)colon), str_from(text, (size_t)colon + 2));
}

static void put_line(struct printing *to, struct str line, struct str next)
{
    if (str_starts(line, STR("# ")) || str_starts(line, STR("|---")) ||
        (str_starts(line, STR("|")) && str_starts(next, STR("|---"))))
        return; /* the title, and heads of tables */
    if (str_starts(line, STR("## "))) {
        put_heading(to, str_from(line, 3));
    } else if (line.len == 0) {
        if (!to->at_gap)
            buf_append(to->out, to->man && next.len && !str_starts(next, STR("- ")) &&
                                        next.ptr[0] != '|' && next.ptr[0] != '#'
                                    ? STR(".PP\n")
                                : to->man ? STR("")
                                          : STR("\n"));
        to->at_gap = true;
    } else if (str_starts(line, STR("- "))) {
        put_list_item(to, str_from(line, 2));
    } else if (str_starts(line, STR("|"))) {
        put_row(to, line);
    } else {
        if (str_starts(line, STR("  "))) /* goes on with an item */
            buf_append(to->out, to->man ? STR(".br\n") : STR("    "));
        put_text(to, to->man ? str_trim(line) : line);
        to->at_gap = false;
    }
}

static void put_lines(struct printing *to, struct str text)
{
    while (text.len) {
        ptrdiff_t end = str_find(text, '\n');
        size_t length = end < 0 ? text.len : (size_t)end;
        struct str rest = str_from(text, end < 0 ? length : length + 1);
        ptrdiff_t next = str_find(rest, '\n');
        put_line(to, str_slice(text, 0, length),
                 next < 0 ? rest : str_slice(rest, 0, (size_t)next));
        text = rest;
    }
}

void man_print_plain(struct str markdown, struct buf *out)
{
    struct printing to = {.out = out, .at_gap = true};
    put_lines(&to, markdown);
}

/* The day it was made; what builds packages may say which (reproducible-builds.org). */
static struct str man_date(char text[TIME_RFC3339_SIZE])
{
    const char *given = getenv("SOURCE_DATE_EPOCH");
    int64_t now = given ? strtoll(given, NULL, 10) * NS_PER_S : clock_wall_ns();
    return str_slice(clock_format_rfc3339(now, text), 0, 10);
}

void man_print(const struct man_page *page, struct str markdown, struct buf *out)
{
    struct printing to = {.out = out, .man = true, .at_gap = true};
    char day[TIME_RFC3339_SIZE];
    struct str date = man_date(day);
    buf_printf(out,
               ".\\\" Made from the tables of the code; edit those.\n"
               ".TH %s %s %.*s \"Postern %s\" \"Postern\"\n.SH NAME\n%s \\- %s\n",
               page->name, page->section, STR_ARG(date), POSTERN_VERSION, page->name, page->text);
    if (page->synopsis) {
        buf_append(out, STR(".SH SYNOPSIS\n"));
        put_lines(&to, str_c(page->synopsis));
    }
    if (page->examples) { /* first: that is what most people look for */
        buf_append(out, STR(".SH EXAMPLES\n"));
        to.at_gap = true;
        put_lines(&to, str_c(page->examples));
    }
    buf_append(out, STR(".SH DESCRIPTION\n"));
    to.at_gap = true;
    put_lines(&to, markdown);
    buf_printf(out, ".SH SEE ALSO\n%s\n", page->see_also);
}
