/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_probe.c - the question of a recipient lookup: MAIL, RCPT, RSET, no content.
 */
#include "smtp/client_internal.h"

#include <string.h>

/* RSET's reply is read to stay in step, but the answer is there already: a failure here only means
 * that the connection is of no more use. */
static void read_reset(struct smtp_client *client) MAY_YIELD
{
    struct error ignored;
    struct mail_reply reply;
    if (smtp_client_read(client, &reply, &ignored) != OK)
        return;
    if (!mail_reply_is_positive(&reply)) {
        (void)fail(&ignored, ERROR_PROTOCOL, "the server answered RSET with %u", reply.code);
        (void)smtp_client_break(client, &ignored);
    }
    client->needs_reset = false;
}

/* A 421 is about the connection, not about the address. */
static enum result read_answer(struct smtp_client *client, struct mail_reply *out_reply,
                               struct error *err) MAY_YIELD
{
    if (smtp_client_read(client, out_reply, err) != OK)
        return FAILED;
    return smtp_client_check(client, err);
}

/* The reply that is handed out must outlive the next one, whose text takes its place. */
static struct str copy_text(struct str text, char space[static SMTP_CLIENT_KEPT_TEXT])
{
    text = str_slice(text, 0, SMTP_CLIENT_KEPT_TEXT);
    memcpy(space, text.ptr, text.len);
    return str_of(space, text.len);
}

enum result smtp_client_probe(struct smtp_client *client, struct str sender, struct str address,
                              bool smtputf8, struct mail_reply *out_mail,
                              struct mail_reply *out_rcpt, struct error *err)
{
    bool pipelining = client->extensions & SMTP_EXT_PIPELINING;
    bool utf8 = smtputf8 && (client->extensions & SMTP_EXT_SMTPUTF8);
    if (smtp_client_check(client, err) != OK)
        return FAILED;
    if (!smtp_client_address_is_safe(sender, utf8) || !smtp_client_address_is_safe(address, utf8))
        return fail(err, ERROR_PERMANENT, "the address cannot be expressed to this server");
    *out_rcpt = (struct mail_reply){.text = STR_EMPTY};

    smtp_client_add(client, "MAIL FROM:<%.*s>%s", STR_ARG(sender), utf8 ? " SMTPUTF8" : "");
    if (pipelining) {
        smtp_client_add(client, "RCPT TO:<%.*s>", STR_ARG(address));
        smtp_client_add(client, "RSET");
    }
    if (smtp_client_send_batch(client, err) != OK || read_answer(client, out_mail, err) != OK)
        return FAILED;
    out_mail->text = copy_text(out_mail->text, client->kept_mail);
    bool go = mail_reply_is_positive(out_mail);
    if (!go && !pipelining)
        return OK;
    if (!pipelining) {
        smtp_client_add(client, "RCPT TO:<%.*s>", STR_ARG(address));
        if (smtp_client_send_batch(client, err) != OK)
            return FAILED;
    }
    struct mail_reply rcpt;
    if (read_answer(client, &rcpt, err) != OK)
        return FAILED;
    if (go) {
        *out_rcpt = rcpt;
        out_rcpt->text = copy_text(rcpt.text, client->kept_rcpt);
    }
    if (!pipelining) {
        smtp_client_add(client, "RSET");
        if (smtp_client_send_batch(client, NULL) != OK)
            return OK;
    }
    read_reset(client);
    return OK;
}
