/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_starttls.c - STARTTLS (RFC 3207) and implicit TLS (RFC 8314).
 *
 * That nothing came behind STARTTLS was checked by the verb table. After the handshake the session
 * is as new; after a failed one the connection is dead.
 */
#include "smtp/server_internal.h"

bool smtp_server_starttls_is_offered(const struct smtp_session *session)
{
    const struct smtp_server_settings *settings = session->settings;
    return (settings->tls == SMTP_TLS_OFFERED || settings->tls == SMTP_TLS_REQUIRED) &&
           settings->tls_context && !smtp_session_is_tls(session);
}

bool smtp_server_tls(struct smtp_session *session)
{
    struct error err;
    struct scope scope;
    int64_t start_ns = clock_monotonic_ns();
    scope_open(&scope, smtp_session_command_wait(session).deadline_ns);
    enum result result = stream_tls_accept(session->stream, session->settings->tls_context, &err);
    scope_close(&scope);
    int64_t duration_us = (clock_monotonic_ns() - start_ns) / NS_PER_US;
    session->unsent = 0;
    if (result == FAILED) {
        event_emit(EVENT_SESSION_TLS_FAILED, F_C(ERROR, err.text), F_INT(DURATION_US, duration_us));
        smtp_session_end(session, "TLS handshake failed");
        return false;
    }
    session->peer.tls = stream_tls_info(session->stream);
    event_emit(EVENT_SESSION_TLS, F_STR(TLS, session->peer.tls->version),
               F_STR(CIPHER, session->peer.tls->cipher), F_INT(DURATION_US, duration_us));
    return true;
}

void smtp_server_starttls(struct smtp_session *session, struct str arguments)
{
    (void)arguments;
    if (smtp_session_is_tls(session)) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 503, 5, 1, "TLS is already active");
        return;
    }
    if (!smtp_server_starttls_is_offered(session)) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 502, 5, 1, "STARTTLS not offered");
        return;
    }
    smtp_session_consume_line(session);
    session->command = STR("STARTTLS");
    smtp_session_say(session, 220, 0, 0, "Ready to start TLS");
    if (smtp_server_tls(session))
        smtp_session_forget(session);
}
