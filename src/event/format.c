/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events as text. What comes out is printable ASCII whatever went in, so that neither a log nor
 * a terminal can be tricked. In quotes, a valid UTF-8 sequence becomes \uXXXX (a surrogate pair
 * beyond the BMP), and a byte that is part of none becomes \u00XX, as if it were Latin-1.
 */
#include "event/event.h"

#include "base/buf.h"
#include "base/clock.h"
#include "event/format.h"
#include "event/names.h"

static void put_unit(struct buf *out, uint32_t unit)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\',
                    'u',
                    digits[unit >> 12 & 15],
                    digits[unit >> 8 & 15],
                    digits[unit >> 4 & 15],
                    digits[unit & 15]};
    buf_append(out, (struct str){text, sizeof text});
}

/* Escape what stands at the start of `text`; returns how many bytes that were. */
static size_t put_escaped(struct buf *out, struct str text)
{
    unsigned char byte = (unsigned char)text.ptr[0];
    uint32_t point = byte;
    size_t length = byte < 0x80 ? 1 : str_utf8(text, &point);
    if (point == '"' || point == '\\') {
        buf_append_byte(out, '\\');
        buf_append_byte(out, (char)point);
    } else if (point == '\n' || point == '\r' || point == '\t') {
        buf_append_byte(out, '\\');
        buf_append_byte(out, point == '\n' ? 'n' : point == '\r' ? 'r' : 't');
    } else if (point >= 0x10000) {
        put_unit(out, 0xD800 + ((point - 0x10000) >> 10));
        put_unit(out, 0xDC00 + ((point - 0x10000) & 0x3FF));
    } else {
        put_unit(out, point);
    }
    return length ? length : 1;
}

/* A table: this is asked for each byte of each event. */
static const bool plain_bytes[256] = {
    [' ' ... '!'] = true, ['#' ... '['] = true, [']' ... '~'] = true};

static bool is_plain(char byte)
{
    return plain_bytes[(unsigned char)byte];
}

static void put_quoted(struct buf *out, struct str text)
{
    buf_append_byte(out, '"');
    while (text.len) {
        size_t plain = 0;
        while (plain < text.len && is_plain(text.ptr[plain]))
            plain++;
        buf_append(out, str_slice(text, 0, plain));
        text = str_from(text, plain);
        if (text.len)
            text = str_from(text, put_escaped(out, text));
    }
    buf_append_byte(out, '"');
}

void format_value(const struct event_field *field, struct buf *out)
{
    switch (field->kind) {
    case EVENT_VALUE_STR:
        put_quoted(out, field->text);
        break;
    case EVENT_VALUE_INT:
        buf_append_int(out, field->number);
        break;
    case EVENT_VALUE_BOOL:
        buf_append(out, field->number ? STR("true") : STR("false"));
        break;
    }
}

void format_json_rest(const struct event *event, struct str node, struct str revision,
                      struct buf *out, struct format_places *places)
{
    buf_append(out, event_type_piece(event->type));
    buf_append(out, str_c(event_severity_name(event_severity(event->type))));
    buf_append_byte(out, '"');
    if (node.len) {
        buf_append(out, STR(",\"node\":"));
        put_quoted(out, node);
    }
    if (revision.len) {
        buf_append(out, STR(",\"rev\":"));
        put_quoted(out, revision);
    }
    for (unsigned i = 0; i < event->count; i++) {
        buf_append(out, event_key_piece(event->fields[i].key));
        if (places)
            places->begin[i] = (uint32_t)out->len;
        format_value(&event->fields[i], out);
        if (places)
            places->end[i] = (uint32_t)out->len;
    }
    buf_append(out, STR("}\n"));
}

void event_format_json(const struct event *event, struct str node, struct str revision,
                       struct buf *out)
{
    char time[TIME_RFC3339_SIZE];
    buf_append(out, STR("{\"time\":\""));
    buf_append(out, clock_format_rfc3339(event->wall_ns, time));
    buf_append(out, STR("\",\"seq\":"));
    buf_append_int(out, (int64_t)event->seq);
    format_json_rest(event, node, revision, out, NULL);
}

/* True if the text can stand without quotes and be told from the next field. */
static bool is_word(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_plain(text.ptr[i]) || text.ptr[i] == ' ' || text.ptr[i] == '=')
            return false;
    }
    return text.len > 0;
}

void event_format_words(const struct event *event, struct buf *out)
{
    buf_append(out, str_c(event_name(event->type)));
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        buf_printf(out, " %s=", event_key_name(field->key));
        if (field->kind == EVENT_VALUE_STR && is_word(field->text))
            buf_append(out, field->text);
        else
            format_value(field, out);
    }
}

void event_format_human(const struct event *event, struct buf *out)
{
    char time[TIME_RFC3339_SIZE];
    buf_append(out, clock_format_rfc3339(event->wall_ns, time));
    buf_printf(out, " %-6s ", event_severity_name(event_severity(event->type)));
    event_format_words(event, out);
    buf_append_byte(out, '\n');
}
