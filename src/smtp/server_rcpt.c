/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_rcpt.c - RCPT TO: for whom (RFC 5321 3.3, 3461). Each recipient is the handler's to
 * judge; without a handler nobody is a recipient.
 */
#include "smtp/server_internal.h"

#include "smtp/address.h"
#include "smtp/parameter.h"

#include <string.h>

enum { FIRST_ROOM = 8, ARENA_RESERVE = 4 * COMMAND_LINE_MAX };

static void add_recipient(struct smtp_session *session, const struct mail_recipient *recipient)
{
    if (session->recipient_count == session->recipient_room) {
        size_t room = session->recipient_room ? session->recipient_room * 2 : FIRST_ROOM;
        struct mail_recipient *grown =
            arena_alloc_array(smtp_session_arena(session), room, sizeof *grown);
        if (session->recipient_count)
            memcpy(grown, session->recipients, session->recipient_count * sizeof *grown);
        session->recipients = grown;
        session->recipient_room = room;
    }
    session->recipients[session->recipient_count++] = *recipient;
}

/* Something other than the address forbids another one. */
static MAY_YIELD bool refuse_by_state(struct smtp_session *session)
{
    int64_t limit = session->settings->limits.recipients;
    if (session->chunks != CHUNK_NONE) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 503, 5, 1,
                                 "Not after the first BDAT");
        return true;
    }
    bool full = !arena_has_room(smtp_session_arena(session), ARENA_RESERVE);
    if (!full && (limit == 0 || session->recipient_count < (size_t)limit))
        return false;
    smtp_session_tell_limit(session, "recipients", (int64_t)session->recipient_count);
    smtp_session_refuse_with(session, MAIL_REASON_RATE_LIMIT, 452, 5, 3, "Too many recipients");
    return true;
}

static MAY_YIELD void ask(struct smtp_session *session, const struct mail_address *address,
                          struct mail_recipient *recipient)
{
    struct mail_reply reply = {.text = STR_EMPTY};
    if (session->handler->recipient)
        session->handler->recipient(session->context, session, address, recipient, &reply);
    if (reply.code == 0) {
        smtp_session_refuse_with(session, MAIL_REASON_RELAY_DENIED, 550, 7, 1, "Relaying denied");
        return;
    }
    if (mail_reply_is_positive(&reply)) {
        add_recipient(session, recipient);
        session->commands--;
    } else if (mail_reply_is_permanent(&reply) && !smtp_session_is_own(session))
        session->errors++; /* who guesses addresses is cut off; a user's old list is not a crime */
    smtp_session_reply(session, &reply);
}

void smtp_server_rcpt(struct smtp_session *session, struct str arguments)
{
    struct str path;
    struct str parameters;
    struct mail_reply fault;
    struct mail_address address;
    /* given back when it is accepted: a refused one may have cost a lookup */
    session->commands++;
    if (refuse_by_state(session))
        return;
    if (!smtp_command_path(arguments, STR("TO"), &path, &parameters) || path.len == 0) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4,
                                 "Syntax: RCPT TO:<address>");
        return;
    }
    struct arena *arena = smtp_session_arena(session);
    struct smtp_address_rules rules = {
        .smtputf8 = session->sender.smtputf8,
        .allow_routed = session->settings->allow_routed_local_parts || smtp_session_is_own(session),
        .known_domain = session->recipient_domain,
        .own = {&session->peer.local.ip, &stream_local(session->stream)->ip},
    };
    struct mail_recipient recipient = {.orcpt = STR_EMPTY};
    if (!smtp_parameter_recipient(parameters, rules.smtputf8, arena, &recipient, &fault) ||
        !smtp_address_recipient(arena, path, &rules, &address, &fault)) {
        smtp_session_refuse(session, MAIL_REASON_PROTOCOL, fault);
        return;
    }
    recipient.address = mail_address_text(arena, &address);
    recipient.domain = address.domain;
    session->recipient_domain = address.kind == MAIL_DOMAIN_NAME ? address.domain : STR_EMPTY;
    ask(session, &address, &recipient);
}
