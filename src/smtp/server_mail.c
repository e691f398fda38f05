/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_mail.c - MAIL FROM: who sends (RFC 5321 3.3, 1870, 6531).
 */
#include "smtp/server_internal.h"

#include "smtp/address.h"
#include "smtp/parameter.h"

static MAY_YIELD void take_answer(struct smtp_session *session, const struct mail_sender *sender,
                                  const struct mail_address *address)
{
    struct mail_reply reply = {.text = STR_EMPTY};
    session->sender = *sender;
    if (session->handler->mail)
        session->handler->mail(session->context, session, &session->sender, address, &reply);
    if (reply.code == 0)
        reply = mail_reply_of(250, 2, 1, 0, STR("Ok"));
    if (mail_reply_is_positive(&reply)) {
        session->in_transaction = true;
        smtp_session_reply(session, &reply);
        return;
    }
    smtp_session_reply(session, &reply);
    smtp_session_reset(session);
}

void smtp_server_mail(struct smtp_session *session, struct str arguments)
{
    const struct smtp_server_settings *settings = session->settings;
    struct str path;
    struct str parameters;
    struct mail_reply fault;
    if (settings->authentication_required && !session->peer.authenticated) {
        smtp_session_refuse_with(session, MAIL_REASON_AUTH_REQUIRED, 530, 7, 0,
                                 "Authentication required");
        return;
    }
    if (!smtp_command_path(arguments, STR("FROM"), &path, &parameters)) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4,
                                 "Syntax: MAIL FROM:<address>");
        return;
    }
    struct arena *arena = smtp_session_arena(session);
    struct mail_sender sender = {.address = STR_EMPTY, .envid = STR_EMPTY};
    struct mail_address address = {
        .local = STR_EMPTY, .domain = STR_EMPTY, .kind = MAIL_DOMAIN_NONE};
    if (!smtp_parameter_mail(parameters, arena, &sender, &fault) ||
        (path.len && !smtp_address_sender(arena, path, sender.smtputf8, &address, &fault))) {
        smtp_session_refuse(session, MAIL_REASON_PROTOCOL, fault);
        return;
    }
    if (settings->limits.size && sender.size > settings->limits.size) {
        smtp_session_tell_limit(session, "size", (int64_t)(sender.size & INT64_MAX));
        smtp_session_refuse_with(session, MAIL_REASON_SIZE, 552, 3, 4, "Message too big");
        return;
    }
    if (path.len)
        sender.address = mail_address_text(arena, &address);
    take_answer(session, &sender, &address);
}
