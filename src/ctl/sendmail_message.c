/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/sendmail_message.c - from what a program wrote to a message with its recipients. */
#include "base/clock.h"
#include "ctl/sendmail.h"
#include "mail/header.h"
#include "mail/id.h"

#include <string.h>

/* ---- addresses ---- */

/* What is left of an entry of the list: the part in < >, else all of it, without blanks. */
static void add_entry(struct arena *arena, struct str entry, const char *domain,
                      struct sendmail_recipients *out)
{
    ptrdiff_t open = str_find_last(entry, '<');
    ptrdiff_t close = str_find_last(entry, '>');
    if (open >= 0 && close > open)
        entry = str_slice(entry, (size_t)open + 1, (size_t)close);
    entry = str_trim(entry);
    if (entry.len == 0)
        return;
    if (out->count == SENDMAIL_RECIPIENTS_MAX) {
        out->too_many = true;
        return;
    }
    const char *text = str_find_last(entry, '@') >= 0
                           ? arena_c(arena, entry)
                           : arena_printf(arena, "%.*s@%s", STR_ARG(entry), domain).ptr;
    out->items[out->count++] = text;
}

void sendmail_add_addresses(struct arena *arena, struct str list, const char *domain,
                            struct sendmail_recipients *out)
{
    char *entry = arena_alloc(arena, list.len + 1);
    size_t length = 0;
    unsigned comments = 0;
    bool quoted = false, angle = false;
    for (size_t i = 0; i < list.len; i++) {
        char c = list.ptr[i];
        bool escape = c == '\\' && i + 1 < list.len && (quoted || comments);
        if (comments) { /* passed over, with comments in it */
            comments += c == '(' ? 1 : c == ')' ? -1u : 0;
            i += escape;
        } else if (c == '(' && !quoted) {
            comments = 1;
        } else if (!quoted && !angle && (c == ',' || c == ';')) {
            add_entry(arena, str_of(entry, length), domain, out);
            length = 0;
        } else if (!quoted && !angle && c == ':') {
            length = 0; /* the name of a group */
        } else if (c != '\r' && c != '\n') {
            quoted = c == '"' ? !quoted : quoted;
            angle = !quoted && (c == '<' || (angle && c != '>'));
            entry[length++] = c;
            if (escape)
                entry[length++] = list.ptr[++i];
        }
    }
    add_entry(arena, str_of(entry, length), domain, out);
}

/* ---- the message ---- */

static void canonical(struct str typed, struct buf *out)
{
    for (size_t i = 0; i < typed.len; i++) {
        if (typed.ptr[i] == '\r' && i + 1 < typed.len && typed.ptr[i + 1] == '\n')
            continue;
        if (typed.ptr[i] == '\n')
            buf_append(out, STR("\r\n"));
        else
            buf_append_byte(out, typed.ptr[i]);
    }
    if (out->len && out->ptr[out->len - 1] != '\n')
        buf_append(out, STR("\r\n"));
}

/* Length of the fields at the start; a line that is no field ends them. */
static size_t fields_length(struct str text)
{
    struct str rest = text;
    struct mail_field field;
    size_t length = 0;
    while (rest.len && !str_starts(rest, STR("\r\n")) && mail_header_next(&rest, &field) &&
           field.name.len && str_find(field.name, ' ') < 0)
        length += field.raw.len;
    return length;
}

static bool is_recipient_field(struct str name)
{
    return str_equal_nocase(name, STR("to")) || str_equal_nocase(name, STR("cc")) ||
           str_equal_nocase(name, STR("bcc"));
}

static void add_missing(struct str header, const char *sender, const char *full_name,
                        const char *domain, struct buf *out)
{
    struct mail_field field;
    char date[TIME_RFC5322_SIZE];
    if (!mail_header_find(header, STR("From"), &field)) {
        buf_append(out, STR("From: "));
        if (full_name) {
            buf_append_byte(out, '"');
            for (const char *at = full_name; *at; at++)
                if ((unsigned char)*at >= 32 && *at != '"' && *at != '\\')
                    buf_append_byte(out, *at);
            buf_append(out, STR("\" "));
        }
        buf_printf(out, "<%s>\r\n", sender);
    }
    if (!mail_header_find(header, STR("Date"), &field))
        buf_printf(out, "Date: %.*s\r\n", STR_ARG(clock_format_rfc5322(clock_wall_ns(), date)));
    if (!mail_header_find(header, STR("Message-ID"), &field))
        buf_printf(out, "Message-ID: <%s@%s>\r\n", mail_id_text(mail_id_new()).chars, domain);
}

bool sendmail_complete(struct arena *arena, struct str typed, bool fields, const char *sender,
                       const char *full_name, const char *domain, struct sendmail_recipients *out,
                       struct buf *message)
{
    struct buf whole BUF_CLEANUP;
    buf_init(&whole, message->max);
    canonical(typed, &whole);
    struct str text = buf_str(&whole);
    size_t length = fields_length(text);
    struct str header = str_slice(text, 0, length);
    struct str rest = header;
    struct mail_field field;
    while (rest.len && mail_header_next(&rest, &field)) {
        if (fields && is_recipient_field(field.name))
            sendmail_add_addresses(arena, field.value, domain, out);
        if (!str_equal_nocase(field.name, STR("bcc")))
            buf_append(message, field.raw);
    }
    add_missing(header, sender, full_name, domain, message);
    struct str body = str_from(text, length);
    if (!str_starts(body, STR("\r\n")))
        buf_append(message, STR("\r\n"));
    buf_append(message, body);
    return !whole.overflow && !message->overflow;
}
