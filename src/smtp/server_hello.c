/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_hello.c - greeting, EHLO and HELO. The list behind EHLO says only what is true now.
 */
#include "smtp/server_internal.h"

#include <stdio.h>
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
    char text[300];
    snprintf(text, sizeof text, "%.*s ESMTP",
             STR_ARG(str_slice(session->settings->hostname, 0, 255)));
    smtp_session_reply_line(session, 220, false, str_c(text));
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

void smtp_server_hello(struct smtp_session *session, struct str arguments)
{
    const struct smtp_limits *limits = &session->settings->limits;
    char line[64];
    if (!take_name(session, arguments))
        return;
    smtp_session_reset(session);
    session->peer.esmtp = true;
    smtp_session_reply_line(session, 250, true, session->settings->hostname);
    smtp_session_reply_line(session, 250, true, STR("PIPELINING"));
    snprintf(line, sizeof line, "SIZE %llu", (unsigned long long)limits->size);
    smtp_session_reply_line(session, 250, true, str_c(line));
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
    if (limits->recipients) {
        snprintf(line, sizeof line, "LIMITS RCPTMAX=%lld", (long long)limits->recipients);
        smtp_session_reply_line(session, 250, true, str_c(line));
    }
    smtp_session_reply_line(session, 250, false, STR("DSN"));
}
