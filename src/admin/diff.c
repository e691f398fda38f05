/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/diff.c - the longest common lines of what is left between a common beginning and end; a
 * change that is too large for that is shown as all old lines and all new ones.
 */
#include "admin/diff.h"

#include "base/buf.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 3, LINES_MAX = 2000 };

struct lines {
    struct str *items;
    size_t count;
};

/* One line of the result: ' ', '-' or '+'. */
struct edit {
    char sign;
    struct str line;
    size_t from_line, to_line; /* lines before this one */
};
struct edits {
    struct edit *items;
    size_t count;
};

static struct lines split(struct str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '\n';
    struct lines lines = {.items = memory_alloc_array(count + 2, sizeof(struct str))};
    struct str line;
    if (text.len && text.ptr[text.len - 1] == '\n')
        text.len--;
    else if (text.len == 0)
        return lines;
    while (str_split(&text, '\n', &line))
        lines.items[lines.count++] = line;
    return lines;
}

static void add(struct edits *edits, char sign, struct str line, size_t from_line, size_t to_line)
{
    edits->items[edits->count++] = (struct edit){sign, line, from_line, to_line};
}

/* common[i][j]: the most lines that from[i…] and to[j…] have in common. */
static unsigned short *count_common(const struct str *from, size_t n, const struct str *to,
                                    size_t m)
{
    unsigned short *common = memory_alloc_array((n + 1) * (m + 1), sizeof *common);
    for (size_t i = n; i-- > 0;) {
        for (size_t j = m; j-- > 0;) {
            unsigned short *at = &common[i * (m + 1) + j];
            unsigned short right = at[1];
            unsigned short down = at[m + 1];
            if (str_equal(from[i], to[j]))
                *at = (unsigned short)(at[m + 2] + 1);
            else
                *at = right > down ? right : down;
        }
    }
    return common;
}

static void compare_middle(struct edits *edits, const struct str *from, size_t n,
                           const struct str *to, size_t m, size_t offset)
{
    bool small = n <= LINES_MAX && m <= LINES_MAX;
    unsigned short *common = small ? count_common(from, n, to, m) : NULL;
    size_t i = 0;
    size_t j = 0;
    while (i < n || j < m) {
        if (common && i < n && j < m && str_equal(from[i], to[j])) {
            add(edits, ' ', from[i], offset + i, offset + j);
            i++, j++;
        } else if (j >= m || (i < n && (!common || common[(i + 1) * (m + 1) + j] >=
                                                       common[i * (m + 1) + j + 1]))) {
            add(edits, '-', from[i], offset + i, offset + j);
            i++;
        } else {
            add(edits, '+', to[j], offset + i, offset + j);
            j++;
        }
    }
    free(common);
}

static void compare(struct edits *edits, const struct lines *from, const struct lines *to)
{
    size_t least = from->count < to->count ? from->count : to->count;
    size_t begin = 0;
    size_t end = 0;
    while (begin < least && str_equal(from->items[begin], to->items[begin]))
        begin++;
    while (end < least - begin &&
           str_equal(from->items[from->count - 1 - end], to->items[to->count - 1 - end]))
        end++;
    for (size_t i = 0; i < begin; i++)
        add(edits, ' ', from->items[i], i, i);
    compare_middle(edits, from->items + begin, from->count - begin - end, to->items + begin,
                   to->count - begin - end, begin);
    for (size_t i = 0; i < end; i++) {
        size_t at = from->count - end + i;
        add(edits, ' ', from->items[at], at, to->count - end + i);
    }
}

/* Is there a change at most CONTEXT lines away? */
static bool is_shown(const struct edits *edits, size_t index)
{
    size_t first = index > CONTEXT ? index - CONTEXT : 0;
    for (size_t i = first; i < edits->count && i <= index + CONTEXT; i++)
        if (edits->items[i].sign != ' ')
            return true;
    return false;
}

static void print_hunk(const struct edits *edits, size_t begin, size_t end, struct buf *out)
{
    size_t from = 0;
    size_t to = 0;
    for (size_t i = begin; i < end; i++) {
        from += edits->items[i].sign != '+';
        to += edits->items[i].sign != '-';
    }
    const struct edit *first = &edits->items[begin];
    buf_printf(out, "@@ -%zu,%zu +%zu,%zu @@\n", first->from_line + (from > 0), from,
               first->to_line + (to > 0), to);
    for (size_t i = begin; i < end; i++) {
        buf_append_byte(out, edits->items[i].sign);
        buf_append(out, edits->items[i].line);
        buf_append_byte(out, '\n');
    }
}

void diff_text(struct str name, struct str from, struct str to, struct diff_sides sides,
               struct buf *out)
{
    if (str_equal(from, to))
        return;
    struct lines before = split(from);
    struct lines after = split(to);
    struct edits edits = {
        .items = memory_alloc_array(before.count + after.count + 1, sizeof(struct edit))};
    compare(&edits, &before, &after);
    buf_printf(out, "--- %.*s\t%.*s\n+++ %.*s\t%.*s\n", STR_ARG(name), STR_ARG(sides.before),
               STR_ARG(name), STR_ARG(sides.after));
    for (size_t i = 0; i < edits.count;) {
        size_t end = i;
        while (end < edits.count && is_shown(&edits, end))
            end++;
        if (end > i)
            print_hunk(&edits, i, end, out);
        i = end > i ? end : i + 1;
    }
    free(edits.items);
    free(before.items);
    free(after.items);
}

/* ---- files ---- */

static struct str beside(const struct config_texts *texts, size_t index)
{
    ptrdiff_t slash = str_find_last(texts->items[0].name, '/');
    return index == 0 ? STR_EMPTY : str_from(texts->items[index].name, (size_t)(slash + 1));
}

static struct str find(const struct config_texts *texts, struct str name)
{
    for (size_t i = 0; i < texts->count; i++)
        if (str_equal(beside(texts, i), name))
            return texts->items[i].text;
    return STR_EMPTY;
}

void diff_texts(const struct config_texts *from, const struct config_texts *to,
                struct diff_sides sides, struct buf *out)
{
    for (size_t i = 0; i < to->count; i++)
        diff_text(to->items[i].name, find(from, beside(to, i)), to->items[i].text, sides, out);
    for (size_t i = 0; i < from->count; i++) {
        bool gone = true;
        for (size_t k = 0; k < to->count && gone; k++)
            gone = !str_equal(beside(from, i), beside(to, k));
        if (gone)
            diff_text(from->items[i].name, from->items[i].text, STR_EMPTY, sides, out);
    }
}
