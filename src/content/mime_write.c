/* SPDX-License-Identifier: Apache-2.0 */
#include "content/mime_write.h"

#include "mail/header.h"

enum { LINE_MAX_LEN = 76 };

static void quote_byte(unsigned char c, struct buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    buf_append_byte(out, '=');
    buf_append_byte(out, digits[c >> 4]);
    buf_append_byte(out, digits[c & 15]);
}

static bool is_plain(char c)
{
    return c == '\t' || (c >= ' ' && c <= '~' && c != '=');
}

static void quote_line(struct str line, struct buf *out)
{
    size_t column = 0;
    for (size_t i = 0; i < line.len; i++) {
        char c = line.ptr[i];
        bool last = i + 1 == line.len;
        bool plain = is_plain(c) && !(last && (c == ' ' || c == '\t'));
        size_t width = plain ? 1 : 3;
        if (column + width > LINE_MAX_LEN - (last ? 0 : 1)) {
            buf_append(out, STR("=\r\n"));
            column = 0;
        }
        if (plain)
            buf_append_byte(out, c);
        else
            quote_byte((unsigned char)c, out);
        column += width;
    }
}

void mime_quote(struct str text, struct buf *out)
{
    while (text.len) {
        ptrdiff_t end = str_find(text, '\n');
        struct str line = str_slice(text, 0, end < 0 ? text.len : (size_t)end);
        text = str_from(text, end < 0 ? text.len : (size_t)end + 1);
        if (end >= 0 && str_ends(line, STR("\r")))
            line.len--;
        quote_line(line, out);
        if (end >= 0)
            buf_append(out, STR("\r\n"));
    }
}

void mime_retype(struct str own, struct str type, struct str encoding, bool is_message,
                 struct buf *out)
{
    struct str rest = own;
    struct mail_field field;
    bool has_version = false;
    while (mail_header_next(&rest, &field)) {
        has_version |= str_equal_nocase(field.name, STR("MIME-Version"));
        if (!str_equal_nocase(field.name, STR("Content-Type")) &&
            !str_equal_nocase(field.name, STR("Content-Transfer-Encoding")))
            buf_append(out, field.raw);
    }
    if (is_message && !has_version)
        buf_append(out, STR("MIME-Version: 1.0\r\n"));
    buf_printf(out, "Content-Type: %.*s\r\nContent-Transfer-Encoding: %.*s\r\n", STR_ARG(type),
               STR_ARG(encoding));
    buf_append(out, rest.len ? rest : STR("\r\n")); /* the empty line */
}
