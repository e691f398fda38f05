/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/reply.h"

#include "base/buf.h"
#include "base/check.h"

struct mail_reply mail_reply_of(unsigned code, unsigned class, unsigned subject, unsigned detail,
                                struct str text)
{
    return (struct mail_reply){
        .code = (unsigned short)code,
        .enhanced = {(unsigned char)class, (unsigned short)subject, (unsigned short)detail},
        .text = text,
    };
}

/* "5.7.1" at the front of `text`; the rest, without the blank, into *out_rest. */
static bool parse_enhanced(struct str text, struct mail_enhanced *out, struct str *out_rest)
{
    ptrdiff_t blank = str_find(text, ' ');
    struct str head = blank < 0 ? text : str_slice(text, 0, (size_t)blank);
    struct str part[3];
    uint64_t number[3];
    for (size_t i = 0; i < 3; i++) {
        if (!str_split(&head, '.', &part[i]) || part[i].len > 3 ||
            !str_to_uint(part[i], 999, &number[i]))
            return false;
    }
    if (head.ptr || (number[0] != 2 && number[0] != 4 && number[0] != 5))
        return false;
    *out = (struct mail_enhanced){(unsigned char)number[0], (unsigned short)number[1],
                                  (unsigned short)number[2]};
    *out_rest = blank < 0 ? STR_EMPTY : str_from(text, (size_t)blank + 1);
    return true;
}

bool mail_reply_parse(struct str text, struct mail_reply *out_reply)
{
    uint64_t code;
    if (text.len < 3 || !str_to_uint(str_slice(text, 0, 3), 599, &code) || code < 200)
        return false;
    if (text.len > 3 && text.ptr[3] != ' ')
        return false;
    struct mail_reply reply = {.code = (unsigned short)code, .text = str_from(text, 4)};
    if (code >= 300 && code < 400)
        return false;
    struct str rest;
    if (parse_enhanced(reply.text, &reply.enhanced, &rest)) {
        if (reply.enhanced.class != code / 100)
            return false;
        reply.text = rest;
    }
    for (size_t i = 0; i < reply.text.len; i++) {
        unsigned char c = (unsigned char)reply.text.ptr[i];
        if (c < 32 || c == 127)
            return false;
    }
    *out_reply = reply;
    return true;
}

struct str mail_enhanced_text(struct mail_enhanced enhanced, char out[MAIL_ENHANCED_TEXT])
{
    struct buf text = {.ptr = out, .cap = MAIL_ENHANCED_TEXT, .max = MAIL_ENHANCED_TEXT};
    if (enhanced.class == 0)
        return STR_EMPTY;
    buf_append_int(&text, enhanced.class);
    buf_append_byte(&text, '.');
    buf_append_int(&text, enhanced.subject);
    buf_append_byte(&text, '.');
    buf_append_int(&text, enhanced.detail);
    return buf_str(&text);
}

struct str mail_reply_text(struct arena *arena, const struct mail_reply *reply)
{
    struct str line;
    if (reply->enhanced.class) {
        line = arena_printf(arena, "%03u %u.%u.%u %.*s", reply->code, reply->enhanced.class,
                            reply->enhanced.subject, reply->enhanced.detail, STR_ARG(reply->text));
    } else {
        line = arena_printf(arena, "%03u %.*s", reply->code, STR_ARG(reply->text));
    }
    char *at = (char *)line.ptr;
    for (size_t i = 0; i < line.len; i++) {
        if (at[i] == '\n')
            at[i] = ' ';
    }
    return line;
}

bool mail_reply_is_positive(const struct mail_reply *reply)
{
    return reply->code >= 200 && reply->code < 300;
}

bool mail_reply_is_transient(const struct mail_reply *reply)
{
    return reply->code >= 400 && reply->code < 500;
}

bool mail_reply_is_permanent(const struct mail_reply *reply)
{
    return reply->code >= 500 && reply->code < 600;
}

struct mail_reply mail_reply_copy(struct arena *arena, const struct mail_reply *reply)
{
    struct mail_reply copy = *reply;
    copy.text = arena_str(arena, reply->text);
    return copy;
}

const char *mail_reason_name(enum mail_reason reason)
{
    static const char *const names[] = {
#define MAIL_REASON(id, name) [MAIL_REASON_##id] = name,
#include "mail/reasons.h"
#undef MAIL_REASON
    };
    check((unsigned)reason < MAIL_REASON_COUNT);
    return names[reason];
}
