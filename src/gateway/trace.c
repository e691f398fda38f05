/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/trace.h"

#include "base/buf.h"
#include "base/clock.h"
#include "mail/header.h"

enum { HEAD_MAX = 8 * 1024 * 1024 };

/* "ESMTPSA" and its relatives (RFC 3848, 6531). */
static struct str protocol(const struct trace_facts *facts)
{
    static const char *const names[2][2][2] = {
        {{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
        {{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
    };
    if (!facts->esmtp)
        return STR("SMTP");
    return str_c(names[facts->smtputf8][facts->tls][facts->authenticated]);
}

/* HELO names come from outside: only what belongs into a header field. */
static void append_clean(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len && i < 255; i++) {
        char c = text.ptr[i];
        bool good = ascii_is_alpha(c) || ascii_is_digit(c) || c == '.' || c == '-' || c == '_' ||
                    c == ':' || c == '[' || c == ']';
        buf_append_byte(out, good ? c : '?');
    }
}

static void append_received(struct buf *out, const struct trace_facts *facts)
{
    char date[TIME_RFC5322_SIZE];
    buf_append(out, STR("Received: "));
    if (!facts->hide_client) {
        buf_append(out, STR("from "));
        append_clean(out, facts->helo.len ? facts->helo : STR("unknown"));
        buf_append(out, STR(" ("));
        append_clean(out, facts->client_name.len ? facts->client_name : STR("unknown"));
        buf_append(out, str_find(facts->client_ip, ':') >= 0 ? STR(" [IPv6:") : STR(" ["));
        buf_append(out, facts->client_ip);
        buf_append(out, STR("])\r\n\t"));
    }
    buf_append(out, STR("by "));
    buf_append(out, facts->hostname);
    buf_append(out, STR(" (Postern) with "));
    buf_append(out, protocol(facts));
    buf_append(out, STR(" id "));
    buf_append(out, str_c(mail_id_text(facts->message).chars));
    if (facts->recipient.len) {
        buf_append(out, STR("\r\n\tfor <"));
        buf_append(out, facts->recipient);
        buf_append_byte(out, '>');
    }
    buf_append(out, STR(";\r\n\t"));
    buf_append(out, clock_format_rfc5322(clock_wall_ns(), date));
    buf_append(out, STR("\r\n"));
}

struct found {
    bool date, message_id, bcc;
};

/* In one walk over the header, as every message of our own users has it. */
static struct found look_for_fields(struct str header)
{
    struct found found = {0};
    struct mail_field field;
    while (mail_header_next(&header, &field)) {
        found.date |= str_equal_nocase(field.name, STR("Date"));
        found.message_id |= str_equal_nocase(field.name, STR("Message-ID"));
        found.bcc |= str_equal_nocase(field.name, STR("Bcc"));
    }
    return found;
}

static void append_missing(struct buf *out, const struct trace_facts *facts,
                           const struct found *found)
{
    if (!found->date) {
        char date[TIME_RFC5322_SIZE];
        struct str now = clock_format_rfc5322(clock_wall_ns(), date);
        buf_printf(out, "Date: %.*s\r\n", STR_ARG(now));
    }
    if (!found->message_id)
        buf_printf(out, "Message-ID: <%s@%.*s>\r\n", mail_id_text(facts->message).chars,
                   STR_ARG(facts->hostname));
}

static void append_without_bcc(struct buf *out, struct str header)
{
    struct mail_field field;
    while (mail_header_next(&header, &field)) {
        if (!str_equal_nocase(field.name, STR("Bcc")))
            buf_append(out, field.raw);
    }
    buf_append(out, header); /* the empty line */
}

void trace_build(struct arena *arena, const struct trace_facts *facts, struct str header,
                 struct body *body, struct mail_content *out)
{
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    append_received(&head, facts);
    uint64_t body_start = 0;
    if (facts->own_user) {
        struct found found = look_for_fields(header);
        append_missing(&head, facts, &found);
        if (found.bcc) {
            append_without_bcc(&head, header);
            body_start = header.len;
        }
    }
    if (header.len == 0)
        buf_append(&head, STR("\r\n")); /* all of it is body: end our section */
    *out = (struct mail_content){
        .head = arena_str(arena, buf_str(&head)), .body = body, .body_start = body_start};
}
