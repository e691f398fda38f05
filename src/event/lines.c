/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of a log. Of each stream the last line is kept without its time and number, and where in it
 * each value stands: the next line is a copy with other values in the places that changed.
 */
#include "event/event.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "event/format.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_KEPT = 4096, VALUE_MAX = 16 * 1024, REVISION_MAX = 16 };

struct line {
    struct buf text; /* empty: not known */
    struct format_places places;
    char revision[REVISION_MAX];
    size_t revision_len;
};

struct event_lines {
    struct event_slots lines; /* of each stream: struct line */
    struct buf node, value;
    int64_t second; /* that `time` tells */
    char time[TIME_RFC3339_SIZE];
};

struct event_lines *event_lines_new(struct str node)
{
    struct event_lines *lines = NEW(struct event_lines);
    buf_init(&lines->node, LINE_KEPT);
    buf_append(&lines->node, node);
    buf_init(&lines->value, VALUE_MAX);
    lines->second = -1;
    return lines;
}

static void line_free(void *arg)
{
    struct line *line = arg;
    buf_done(&line->text);
    free(line);
}

void event_lines_free(struct event_lines *lines)
{
    if (!lines)
        return;
    event_slots_done(&lines->lines, line_free);
    buf_done(&lines->node);
    buf_done(&lines->value);
    free(lines);
}

/* Another value in the place of field `index`, and what stands behind it moved. */
static void replace(struct line *line, unsigned index, unsigned count, struct str value)
{
    uint32_t begin = line->places.begin[index];
    uint32_t end = line->places.end[index];
    if (value.len != end - begin) {
        if (value.len > end - begin && !buf_reserve(&line->text, value.len - (end - begin)))
            return; /* it overflowed: the line is given up */
        memmove(line->text.ptr + begin + value.len, line->text.ptr + end, line->text.len - end);
        uint32_t shift = (uint32_t)value.len - (end - begin); /* modulo: it may be negative */
        line->text.len = line->text.len + value.len - (end - begin);
        line->places.end[index] += shift;
        for (unsigned i = index + 1; i < count; i++) {
            line->places.begin[i] += shift;
            line->places.end[i] += shift;
        }
    }
    memcpy(line->text.ptr + begin, value.ptr, value.len);
}

static void update(struct event_lines *lines, struct line *line, const struct event *event)
{
    for (uint32_t rest = event->changed; rest && !line->text.overflow; rest &= rest - 1) {
        unsigned index = (unsigned)__builtin_ctz(rest);
        buf_clear(&lines->value);
        format_value(&event->fields[index], &lines->value);
        replace(line, index, event->count, buf_str(&lines->value));
    }
}

static void write_anew(struct event_lines *lines, struct line *line, const struct event *event,
                       struct str revision)
{
    buf_clear(&line->text);
    format_json_rest(event, buf_str(&lines->node), revision, &line->text, &line->places);
    line->revision_len = revision.len;
    if (revision.len > REVISION_MAX)
        line->text.overflow = true;
    else
        memcpy(line->revision, revision.ptr, revision.len);
}

static struct line *line_of(struct event_lines *lines, const struct event *event)
{
    struct line **line = (struct line **)event_slot(&lines->lines, event->source, event->type);
    if (!*line) {
        *line = NEW(struct line);
        buf_init(&(*line)->text, LINE_KEPT);
    }
    return *line;
}

static void put_head(struct event_lines *lines, const struct event *event, struct buf *out)
{
    enum { MILLISECONDS = sizeof "2026-01-01T00:00:00." - 1, LENGTH = MILLISECONDS + 4 };
    int64_t second = event->wall_ns / NS_PER_S;
    if (second != lines->second) {
        clock_format_rfc3339(event->wall_ns, lines->time);
        lines->second = second;
    }
    int64_t ms = event->wall_ns / NS_PER_MS % 1000;
    lines->time[MILLISECONDS] = (char)('0' + ms / 100);
    lines->time[MILLISECONDS + 1] = (char)('0' + ms / 10 % 10);
    lines->time[MILLISECONDS + 2] = (char)('0' + ms % 10);
    buf_append(out, STR("{\"time\":\""));
    buf_append(out, str_of(lines->time, LENGTH));
    buf_append(out, STR("\",\"seq\":"));
    buf_append_int(out, (int64_t)event->seq);
}

void event_lines_json(struct event_lines *lines, const struct event *event, struct str revision,
                      struct buf *out)
{
    struct line *line = line_of(lines, event);
    bool is_known = line->text.len && !line->text.overflow && event->changed != EVENT_ALL_CHANGED &&
                    str_equal(revision, str_of(line->revision, line->revision_len));
    if (is_known)
        update(lines, line, event);
    else
        write_anew(lines, line, event, revision);
    if (line->text.overflow) {
        buf_clear(&line->text);
        event_format_json(event, buf_str(&lines->node), revision, out);
        return;
    }
    put_head(lines, event, out);
    buf_append(out, buf_str(&line->text));
}
