/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/header.h"

/* End of the line that starts at `begin`, behind its CRLF (or the end of the text). */
static size_t line_end(struct str text, size_t begin)
{
    ptrdiff_t at = str_find(str_from(text, begin), '\n');
    return at < 0 ? text.len : begin + (size_t)at + 1;
}

size_t mail_header_length(struct str text)
{
    size_t at = 0;
    while (at < text.len) {
        size_t end = line_end(text, at);
        if (str_equal(str_slice(text, at, end), STR("\r\n")))
            return end;
        at = end;
    }
    return 0;
}

static bool is_fold(struct str text, size_t at)
{
    return at < text.len && (text.ptr[at] == ' ' || text.ptr[at] == '\t');
}

/* A field name is printable ASCII without colon and blank (RFC 5322 2.2); blanks before the colon
 * are tolerated (4.5, obsolete syntax). */
static struct str field_name(struct str raw, size_t colon)
{
    struct str name = str_slice(raw, 0, colon);
    while (name.len && (name.ptr[name.len - 1] == ' ' || name.ptr[name.len - 1] == '\t'))
        name.len--;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] <= ' ' || name.ptr[i] == 127)
            return STR_EMPTY;
    }
    return name;
}

bool mail_header_next(struct str *rest, struct mail_field *out_field)
{
    struct str text = *rest;
    if (text.len == 0 || str_starts(text, STR("\r\n")))
        return false;
    size_t end = line_end(text, 0);
    while (is_fold(text, end))
        end = line_end(text, end);
    struct str raw = str_slice(text, 0, end);
    *rest = str_from(text, end);
    struct mail_field field = {.raw = raw, .name = STR_EMPTY, .value = STR_EMPTY};
    ptrdiff_t colon = str_find(raw, ':');
    if (colon > 0)
        field.name = field_name(raw, (size_t)colon);
    if (field.name.len) {
        field.value = str_from(raw, (size_t)colon + 1);
        if (str_ends(field.value, STR("\r\n")))
            field.value.len -= 2;
    }
    *out_field = field;
    return true;
}

static bool is_blank(char c)
{
    return (c >= 0 && c <= ' ') || c == 127;
}

bool mail_field_loosely(const struct mail_field *field, struct str *out_name, struct str *out_value)
{
    ptrdiff_t colon = str_find(field->raw, ':');
    if (colon < 0)
        return false;
    struct str name = str_slice(field->raw, 0, (size_t)colon);
    while (name.len && is_blank(name.ptr[0]))
        name = str_from(name, 1);
    while (name.len && is_blank(name.ptr[name.len - 1]))
        name.len--;
    *out_name = name;
    *out_value = str_from(field->raw, (size_t)colon + 1);
    if (str_ends(*out_value, STR("\r\n")))
        out_value->len -= 2;
    return true;
}

bool mail_header_find(struct str header, struct str name, struct mail_field *out_field)
{
    struct mail_field field;
    while (mail_header_next(&header, &field)) {
        if (field.name.len && str_equal_nocase(field.name, name)) {
            *out_field = field;
            return true;
        }
    }
    return false;
}

struct str mail_field_text(struct arena *arena, const struct mail_field *field)
{
    struct str value = str_trim(field->value);
    char *text = arena_alloc(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] != '\r' && value.ptr[i] != '\n')
            text[len++] = value.ptr[i];
    }
    return str_of(text, len);
}

size_t mail_header_count(struct str header, struct str name)
{
    size_t count = 0;
    struct mail_field field;
    while (mail_header_next(&header, &field)) {
        if (field.name.len && str_equal_nocase(field.name, name))
            count++;
    }
    return count;
}
