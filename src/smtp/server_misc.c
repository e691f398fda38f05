/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_misc.c - the verbs with hardly a rule of their own.
 */
#include "smtp/server_internal.h"

void smtp_server_rset(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    smtp_session_reset(session);
    smtp_session_say(session, 250, 0, 0, "Ok");
}

void smtp_server_noop(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    smtp_session_say(session, 250, 0, 0, "Ok");
}

void smtp_server_quit(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    smtp_session_say(session, 221, 0, 0, "Bye");
    /* who sends more behind it gets the reply first */
    session->quits = stream_buffered(session->stream).len == session->line_size;
    smtp_session_end(session, "quit");
}

void smtp_server_vrfy(struct smtp_session *session, struct str arguments)
{
    /* RFC 5321 4.5.1 wants it; nobody learns from the answer who exists */
    if (arguments.len == 0)
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4, "Give an address");
    else
        smtp_session_say(session, 252, 0, 0, "Send mail to it, then it will be seen");
}

void smtp_server_help(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    smtp_session_say(session, 214, 0, 0, "See RFC 5321");
}

void smtp_server_not_implemented(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 502, 5, 1, "Command not implemented");
}
