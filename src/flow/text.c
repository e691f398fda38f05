/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/text.h"

#include "crypto/base64.h"
#include "mail/address.h"

/* Bytes of the UTF-8 sequence at the front of `text`, or 0 (RFC 3629). */
static size_t sequence(struct str text)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } kinds[] = {{0x80, 0, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    if (!text.len)
        return 0;
    unsigned char lead = (unsigned char)text.ptr[0];
    for (size_t k = 0; k < 4; k++) {
        if ((lead & kinds[k].mask) != kinds[k].lead)
            continue;
        uint32_t code = lead & (unsigned char)~kinds[k].mask;
        if (text.len < k + 1)
            return 0;
        for (size_t i = 1; i <= k; i++) {
            unsigned char next = (unsigned char)text.ptr[i];
            if ((next & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (next & 0x3f);
        }
        bool good = code >= kinds[k].least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        return good ? k + 1 : 0;
    }
    return 0;
}

static bool is_control(char c)
{
    return (unsigned char)c < ' ' || c == 127;
}

bool flow_text_is_clean(struct str text, bool lines_allowed)
{
    while (text.len) {
        char c = text.ptr[0];
        size_t len = sequence(text);
        bool line = lines_allowed && (c == '\n' || c == '\r');
        if (!len || (is_control(c) && c != '\t' && !line))
            return false;
        text = str_from(text, len);
    }
    return true;
}

bool flow_text_is_ascii(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] > 126)
            return false;
    return true;
}

void flow_text_encode(struct str text, struct buf *out)
{
    enum { WORD_BYTES = 45 }; /* 60 characters of base64, 72 with "=?utf-8?B?" and "?=" */
    if (flow_text_is_ascii(text) && str_find_str(text, STR("=?")) < 0) {
        buf_append(out, text);
        return;
    }
    bool first = true;
    while (text.len) {
        size_t len = 0;
        size_t next;
        while ((next = sequence(str_from(text, len))) > 0 && len + next <= WORD_BYTES)
            len += next;
        if (!len)
            len = 1; /* cannot be: texts are checked */
        buf_append(out, first ? STR("=?utf-8?B?") : STR("\r\n =?utf-8?B?"));
        base64_encode(str_slice(text, 0, len), out);
        buf_append(out, STR("?="));
        text = str_from(text, len);
        first = false;
    }
}

void flow_text_append(struct str text, struct buf *out)
{
    enum { LINE_MAX_LEN = 900 };
    size_t column = 0;
    while (text.len) {
        char c = text.ptr[0];
        size_t len = sequence(text);
        if (c == '\n') {
            buf_append(out, STR("\r\n"));
            column = 0;
        } else if (c != '\r') {
            bool shown = len && (!is_control(c) || c == '\t');
            if (column >= LINE_MAX_LEN) {
                buf_append(out, STR("\r\n"));
                column = 0;
            }
            buf_append(out, shown ? str_slice(text, 0, len) : STR("?"));
            column += shown ? len : 1;
        }
        text = str_from(text, len ? len : 1);
    }
}

bool flow_compile_address(struct flow_compiling *compiling, struct str text,
                          struct config_place place, struct mail_recipient *out)
{
    struct arena *arena = compiling->context->option.arena;
    struct mail_address address;
    if (mail_address_parse(arena, text, false, true, &address) == MAIL_ADDRESS_OK &&
        address.kind == MAIL_DOMAIN_NAME) {
        *out = (struct mail_recipient){.address = mail_address_text(arena, &address),
                                       .domain = address.domain,
                                       .orcpt = STR_EMPTY};
        return true;
    }
    flow_problem(compiling, CONFIG_ERROR, "bad-address", place, "\"%.*s\" is no address",
                 STR_ARG(str_slice(text, 0, 80)))
        ->fix = STR("as in security@example.org");
    return false;
}
