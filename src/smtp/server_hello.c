/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_hello.c - greeting, EHLO and HELO. The list behind EHLO says only what is true now.
 */
#include "smtp/server_internal.h"

#include <string.h>

void smtp_server_greet(struct smtp_session *session, bool first)
{
    struct mail_reply reply = {.text = STR_EMPTY};
    if (session->handler->connected)
        session->handler->connected(session->context, session, &reply);
    if (reply.code >= 400) {
        smtp_session_reply(session, &reply);
        smtp_session_end(session, "refused");
        return;
    }
    if (first && smtp_session_has_more_input(session)) {
        smtp_session_tell_protocol(session, "input before the greeting");
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 554, 5, 1,
                                 "Input before the greeting");
        smtp_session_end(session, "protocol");
        return;
    }
    static const char protocol[] = " ESMTP";
    char text[255 + sizeof protocol];
    struct str name = str_slice(session->settings->hostname, 0, 255);
    if (name.len)
        memcpy(text, name.ptr, name.len);
    memcpy(text + name.len, protocol, sizeof protocol);
    smtp_session_reply_line(session, 220, false, str_of(text, name.len + sizeof protocol - 1));
}

void smtp_session_set_helo(struct smtp_session *session, struct str name)
{
    name = str_slice(name, 0, HELO_MAX);
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool fine = ascii_is_alpha(c) || ascii_is_digit(c) || (c && strchr("-._:[]", c));
        session->helo[i] = fine ? c : '?';
    }
    session->helo[name.len] = 0;
    session->peer.helo = str_of(session->helo, name.len);
}

/* Take the client's name for itself. */
static MAY_YIELD bool take_name(struct smtp_session *session, struct str name)
{
    bool blank = str_find(name, ' ') >= 0 || str_find(name, '\t') >= 0;
    if (name.len == 0 || name.len > HELO_MAX || blank) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4,
                                 "Give your host name or address literal");
        return false;
    }
    smtp_session_set_helo(session, name);
    session->hello = true;
    return true;
}

void smtp_server_helo(struct smtp_session *session, struct str arguments)
{
    if (!take_name(session, arguments))
        return;
    smtp_session_reset(session);
    session->peer.esmtp = false;
    smtp_session_reply_line(session, 250, false, session->settings->hostname);
}

/* Without printf: each session has these lines. */
static MAY_YIELD void offer_with_number(struct smtp_session *session, struct str keyword,
                                        uint64_t number)
{
    char line[64];
    char *end = line + sizeof line;
    char *at = end;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    at -= keyword.len;
    memcpy(at, keyword.ptr, keyword.len);
    smtp_session_reply_line(session, 250, true, str_of(at, (size_t)(end - at)));
}

void smtp_server_hello(struct smtp_session *session, struct str arguments)
{
    const struct smtp_limits *limits = &session->settings->limits;
    if (!take_name(session, arguments))
        return;
    smtp_session_reset(session);
    session->peer.esmtp = true;
    smtp_session_reply_line(session, 250, true, session->settings->hostname);
    smtp_session_reply_line(session, 250, true, STR("PIPELINING"));
    offer_with_number(session, STR("SIZE "), limits->size);
    if (smtp_server_starttls_is_offered(session))
        smtp_session_reply_line(session, 250, true, STR("STARTTLS"));
    if (smtp_server_auth_is_offered(session))
        smtp_session_reply_line(session, 250, true, STR("AUTH PLAIN LOGIN"));
    if (session->may_xclient)
        smtp_session_reply_line(session, 250, true,
                                STR("XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"));
    smtp_session_reply_line(session, 250, true, STR("ENHANCEDSTATUSCODES"));
    smtp_session_reply_line(session, 250, true, STR("8BITMIME"));
    smtp_session_reply_line(session, 250, true, STR("SMTPUTF8"));
    smtp_session_reply_line(session, 250, true, STR("CHUNKING"));
    if (limits->recipients)
        offer_with_number(session, STR("LIMITS RCPTMAX="), (uint64_t)limits->recipients);
    smtp_session_reply_line(session, 250, false, STR("DSN"));
}
