/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/reply_parser.h"

#include "base/check.h"

void smtp_reply_parser_init(struct smtp_reply_parser *parser)
{
    *parser = (struct smtp_reply_parser){0};
    buf_init(&parser->text, SMTP_REPLY_MAX_BYTES);
}

void smtp_reply_parser_done(struct smtp_reply_parser *parser)
{
    buf_done(&parser->text);
}

static void start_reply(struct smtp_reply_parser *parser)
{
    buf_clear(&parser->text);
    parser->enhanced = (struct mail_enhanced){0};
    parser->code = 0;
    parser->lines = 0;
    parser->bytes = 0;
}

/* Up to three digits at `*at`, no leading zero. */
static bool read_number(struct str text, size_t *at, unsigned *out_number)
{
    size_t begin = *at;
    unsigned number = 0;
    while (*at < text.len && *at - begin < 3 && ascii_is_digit(text.ptr[*at]))
        number = number * 10 + (unsigned)(text.ptr[(*at)++] - '0');
    if (*at == begin || (*at - begin > 1 && text.ptr[begin] == '0'))
        return false;
    *out_number = number;
    return true;
}

/* Does `text` begin with an enhanced code that fits `code` (RFC 3463)? Then it and the blank behind
 * it are `*out_length` bytes. An IP address at the start of a text is none. */
static bool read_enhanced(struct str text, unsigned code, struct mail_enhanced *out,
                          size_t *out_length)
{
    if (text.len < 5 || text.ptr[1] != '.' || (unsigned)(text.ptr[0] - '0') != code / 100 ||
        code / 100 == 3)
        return false;
    size_t at = 2;
    unsigned subject, detail;
    if (!read_number(text, &at, &subject) || at >= text.len || text.ptr[at] != '.')
        return false;
    at++;
    if (!read_number(text, &at, &detail) || (at < text.len && text.ptr[at] != ' '))
        return false;
    *out = (struct mail_enhanced){
        .class = (unsigned char)(code / 100),
        .subject = (unsigned short)subject,
        .detail = (unsigned short)detail,
    };
    *out_length = at < text.len ? at + 1 : at;
    return true;
}

static bool is_continuation(struct str text, size_t at)
{
    return at < text.len && ((unsigned char)text.ptr[at] & 0xC0) == 0x80;
}

/* Length of a well-formed UTF-8 character beyond ASCII at `at` that is not a C1 control; else 0. */
static size_t utf8_length(struct str text, size_t at)
{
    unsigned char first = (unsigned char)text.ptr[at];
    unsigned char second = at + 1 < text.len ? (unsigned char)text.ptr[at + 1] : 0;
    if (!is_continuation(text, at + 1) || first < 0xC2 || first > 0xF4)
        return 0;
    if (first < 0xE0)
        return first == 0xC2 && second < 0xA0 ? 0 : 2;
    if (!is_continuation(text, at + 2))
        return 0;
    if (first < 0xF0)
        return (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ? 0 : 3;
    if (!is_continuation(text, at + 3) || (first == 0xF0 && second < 0x90) ||
        (first == 0xF4 && second > 0x8F))
        return 0;
    return 4;
}

/* Every byte that is not printable ASCII or well-formed UTF-8 becomes a question mark. */
static void append_harmless(struct buf *out, struct str text)
{
    for (size_t at = 0; at < text.len;) {
        unsigned char byte = (unsigned char)text.ptr[at];
        size_t length = byte >= 0x80 ? utf8_length(text, at) : 1;
        if (length > 1)
            buf_append(out, str_slice(text, at, at + length));
        else if (length == 0 || (byte < 0x20 && byte != '\t') || byte == 0x7F)
            buf_append_byte(out, '?');
        else
            buf_append_byte(out, byte == '\t' ? ' ' : (char)byte);
        at += length ? length : 1;
    }
}

/* The three digits at the start of a line, or 0. */
static unsigned read_code(struct str line)
{
    if (line.len < 3 || line.ptr[0] < '2' || line.ptr[0] > '5' || !ascii_is_digit(line.ptr[1]) ||
        !ascii_is_digit(line.ptr[2]))
        return 0;
    return (unsigned)(line.ptr[0] - '0') * 100 + (unsigned)(line.ptr[1] - '0') * 10 +
           (unsigned)(line.ptr[2] - '0');
}

/* One line without its end. `*out_last`: it was the last one of the reply. */
static enum result take_line(struct smtp_reply_parser *parser, struct str line, bool *out_last,
                             struct error *err)
{
    unsigned code = read_code(line);
    char separator = line.len > 3 ? line.ptr[3] : ' ';
    if (!code || (separator != ' ' && separator != '-'))
        return fail(err, ERROR_PROTOCOL, "the server sent a line that is not an SMTP reply");
    if (parser->lines && code != parser->code)
        return fail(err, ERROR_PROTOCOL, "the codes of the server's reply differ: %u and %u",
                    parser->code, code);
    if (++parser->lines > SMTP_REPLY_MAX_LINES)
        return fail(err, ERROR_PROTOCOL, "the server's reply has over %d lines",
                    SMTP_REPLY_MAX_LINES);

    struct str text = str_from(line, 4);
    struct mail_enhanced enhanced;
    size_t length;
    if (read_enhanced(text, code, &enhanced, &length)) {
        bool same = parser->enhanced.subject == enhanced.subject &&
                    parser->enhanced.detail == enhanced.detail;
        if (parser->lines == 1)
            parser->enhanced = enhanced;
        /* a code that differs from the first is information: it stays in the text */
        if (parser->lines == 1 || (parser->enhanced.class && same))
            text = str_from(text, length);
    }
    if (parser->lines > 1)
        buf_append_byte(&parser->text, '\n');
    append_harmless(&parser->text, text);
    parser->code = code;
    *out_last = separator == ' ';
    return OK;
}

static enum result check_ceilings(const struct smtp_reply_parser *parser, size_t line_length,
                                  struct error *err)
{
    if (line_length > SMTP_REPLY_MAX_LINE)
        return fail(err, ERROR_PROTOCOL, "a line of the server's reply is over %d octets",
                    SMTP_REPLY_MAX_LINE);
    if (parser->bytes + line_length > SMTP_REPLY_MAX_BYTES)
        return fail(err, ERROR_PROTOCOL, "the server's reply is over %d octets",
                    SMTP_REPLY_MAX_BYTES);
    return OK;
}

enum result smtp_reply_feed(struct smtp_reply_parser *parser, struct str input, size_t *out_used,
                            enum smtp_reply_progress *out_progress, struct mail_reply *out_reply,
                            struct error *err)
{
    size_t used = 0;
    for (;;) {
        struct str rest = str_from(input, used);
        ptrdiff_t end = str_find(rest, '\n');
        size_t length = end < 0 ? rest.len : (size_t)end;
        /* the CR of the line end does not count; a bare LF is tolerated from servers */
        if (length && rest.ptr[length - 1] == '\r')
            length--;
        if (check_ceilings(parser, length, err) != OK)
            return FAILED;
        if (end < 0) {
            *out_used = used;
            *out_progress = SMTP_REPLY_MORE;
            return OK;
        }
        if (!parser->lines)
            start_reply(parser);
        bool last = false;
        if (take_line(parser, str_slice(rest, 0, length), &last, err) != OK)
            return FAILED;
        parser->bytes += (size_t)end + 1;
        used += (size_t)end + 1;
        if (last)
            break;
    }
    check(!parser->text.overflow);
    *out_used = used;
    *out_progress = SMTP_REPLY_COMPLETE;
    *out_reply = (struct mail_reply){
        .code = (unsigned short)parser->code,
        .enhanced = parser->enhanced,
        .text = buf_str(&parser->text),
    };
    parser->lines = 0; /* the next line starts a new reply; the text stays until then */
    parser->bytes = 0;
    return OK;
}
