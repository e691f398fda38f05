/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_parameters.c - MAIL and RCPT commands with the parameters the peer knows: SIZE
 * (RFC 1870), BODY (6152), SMTPUTF8 (6531), RET, ENVID, NOTIFY, ORCPT (3461, 6533).
 */
#include "smtp/client_internal.h"

enum { ENVID_MAX = 100, ORCPT_MAX = 500 }; /* as RFC 3461 4.4 and 4.2 have it */

bool smtp_client_address_is_safe(struct str address, bool smtputf8)
{
    for (size_t i = 0; i < address.len; i++) {
        unsigned char byte = (unsigned char)address.ptr[i];
        if (byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !smtputf8))
            return false;
    }
    return true;
}

static bool is_xtext_plain(unsigned char byte)
{
    return byte > 0x20 && byte < 0x7F && byte != '+' && byte != '=';
}

static void append_xtext(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        if (is_xtext_plain(byte))
            buf_append_byte(out, (char)byte);
        else
            buf_printf(out, "+%02X", byte);
    }
}

/* The address of a "utf-8;" ORCPT as utf-8-addr-unitext: UTF-8 as it is, specials as \x{2B}; a
 * \x{…} that the sender wrote stays. */
static void append_unitext(struct buf *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char byte = (unsigned char)text.ptr[i];
        bool escape = byte == '\\' && str_starts(str_from(text, i), STR("\\x{"));
        if (byte >= 0x80 || escape || (is_xtext_plain(byte) && byte != '\\'))
            buf_append_byte(out, (char)byte);
        else
            buf_printf(out, "\\x{%02X}", byte);
    }
}

static void append_orcpt(struct buf *out, struct str orcpt, bool smtputf8)
{
    ptrdiff_t semicolon = str_find(orcpt, ';');
    if (semicolon <= 0 || orcpt.len > ORCPT_MAX)
        return;
    struct str type = str_slice(orcpt, 0, (size_t)semicolon);
    struct str address = str_from(orcpt, (size_t)semicolon + 1);
    if (!smtp_client_address_is_safe(orcpt, true) || str_find(type, ' ') >= 0)
        return;
    bool ascii = smtp_client_address_is_safe(orcpt, false);
    if (!ascii && !smtputf8)
        return; /* a 7-bit peer cannot be told */
    buf_append(out, STR(" ORCPT="));
    append_xtext(out, type);
    buf_append_byte(out, ';');
    if (str_equal_nocase(type, STR("utf-8")))
        append_unitext(out, address);
    else
        append_xtext(out, address);
}

static void append_notify(struct buf *out, unsigned notify)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = {
        {MAIL_NOTIFY_SUCCESS, "SUCCESS"},
        {MAIL_NOTIFY_FAILURE, "FAILURE"},
        {MAIL_NOTIFY_DELAY, "DELAY"},
    };
    if (!notify)
        return;
    buf_append(out, STR(" NOTIFY="));
    if (notify & MAIL_NOTIFY_NEVER) {
        buf_append(out, STR("NEVER"));
        return;
    }
    bool first = true;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (!(notify & words[i].bit))
            continue;
        buf_printf(out, "%s%s", first ? "" : ",", words[i].word);
        first = false;
    }
}

void smtp_client_add_mail(struct smtp_client *client, const struct smtp_client_mail *mail)
{
    const struct mail_sender *sender = mail->sender;
    struct buf *out = &client->out;
    unsigned offered = client->extensions;
    buf_append(out, STR("MAIL FROM:<"));
    buf_append(out, sender->address);
    buf_append_byte(out, '>');
    if (offered & SMTP_EXT_SIZE) {
        buf_append(out, STR(" SIZE="));
        buf_append_int(out, (int64_t)mail_content_size(mail->content));
    }
    if (mail->has_8bit && (offered & SMTP_EXT_8BITMIME))
        buf_append(out, STR(" BODY=8BITMIME"));
    if (mail->needs_smtputf8 && (offered & SMTP_EXT_SMTPUTF8))
        buf_append(out, STR(" SMTPUTF8"));
    if (offered & SMTP_EXT_DSN) {
        if (sender->ret != MAIL_RET_NONE)
            buf_printf(out, " RET=%s", sender->ret == MAIL_RET_FULL ? "FULL" : "HDRS");
        if (sender->envid.len && sender->envid.len <= ENVID_MAX) {
            buf_append(out, STR(" ENVID="));
            append_xtext(out, sender->envid);
        }
    }
    buf_append(out, STR("\r\n"));
}

void smtp_client_add_rcpt(struct smtp_client *client, const struct mail_recipient *recipient,
                          bool smtputf8)
{
    struct buf *out = &client->out;
    buf_append(out, STR("RCPT TO:<"));
    buf_append(out, recipient->address);
    buf_append_byte(out, '>');
    if (client->extensions & SMTP_EXT_DSN) {
        append_notify(out, recipient->notify);
        append_orcpt(out, recipient->orcpt, smtputf8);
    }
    buf_append(out, STR("\r\n"));
}
