/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/server_auth.c - AUTH (RFC 4954): the exchange. Whether a login is right the handler says,
 * and only its yes authenticates.
 */
#include "smtp/server_internal.h"

#include "mail/login.h"
#include "smtp/sasl.h"

enum { LOGIN_MAX = 255 };

/* May it be used over this connection as it is? */
static bool is_protected_enough(const struct smtp_session *session)
{
    const struct smtp_server_settings *settings = session->settings;
    return smtp_session_is_tls(session) ||
           (settings->allow_cleartext_auth && settings->tls != SMTP_TLS_REQUIRED);
}

static bool exists(const struct smtp_session *session)
{
    const struct smtp_server_settings *settings = session->settings;
    bool possible = is_protected_enough(session) || smtp_server_starttls_is_offered(session);
    return settings->authentication && session->handler->authenticate && possible;
}

bool smtp_server_auth_is_offered(const struct smtp_session *session)
{
    return exists(session) && is_protected_enough(session) && !session->peer.authenticated;
}

static MAY_YIELD void count_failure(struct smtp_session *session)
{
    int64_t limit = session->settings->limits.auth_failures;
    session->auth_failures++;
    if (limit == 0 || session->auth_failures < limit)
        return;
    smtp_session_tell_limit(session, "auth_failures", session->auth_failures);
    smtp_session_refuse_with(session, MAIL_REASON_AUTH_FAILED, 421, 7, 0, "Too many failed logins");
    smtp_session_end(session, "auth_failures");
}

/* Why no directory is asked. */
struct flaw {
    enum mail_reason reason; /* NONE: it is to be asked */
    const char *detail;
};

static struct flaw find_flaw(const struct smtp_sasl *sasl)
{
    if (sasl->login.len == 0 || sasl->login.len > LOGIN_MAX || !mail_login_is_plain(sasl->login))
        return (struct flaw){MAIL_REASON_PROTOCOL, "not a possible login"};
    if (sasl->authzid.len && !str_equal(sasl->authzid, sasl->login))
        return (struct flaw){MAIL_REASON_POLICY, "another identity was asked for"};
    if (sasl->password.len == 0)
        return (struct flaw){MAIL_REASON_PASSWORD_WRONG, "empty password"};
    return (struct flaw){MAIL_REASON_NONE, NULL};
}

/* A reply of the handler, or ours where it made none. */
static MAY_YIELD void answer(struct smtp_session *session, const struct mail_reply *reply,
                             struct mail_reply fallback)
{
    if (reply->code)
        smtp_session_reply(session, reply);
    else if (mail_reply_is_positive(&fallback))
        smtp_session_reply(session, &fallback);
    else
        smtp_session_refuse(session, MAIL_REASON_AUTH_FAILED, fallback);
}

static MAY_YIELD void decide(struct smtp_session *session, const struct smtp_sasl *sasl)
{
    struct mail_reply no = mail_reply_of(535, 5, 7, 8, STR("Authentication failed"));
    struct mail_reply reply = {.text = STR_EMPTY};
    struct flaw flaw = find_flaw(sasl);
    if (flaw.reason != MAIL_REASON_NONE) {
        event_emit(EVENT_AUTH_FAIL, F_STR(USER, str_slice(sasl->login, 0, LOGIN_MAX)),
                   F_STR(MECHANISM, smtp_sasl_name(sasl->mechanism)),
                   F_C(REASON, mail_reason_name(flaw.reason)), F_C(DETAIL, flaw.detail),
                   F_STR(HELO, session->peer.helo));
        smtp_session_refuse(session, MAIL_REASON_AUTH_FAILED, no);
        count_failure(session);
        return;
    }
    struct smtp_auth auth = {
        .mechanism = smtp_sasl_name(sasl->mechanism),
        .login = sasl->login,
        .password = sasl->password,
    };
    session->account = STR_EMPTY;
    switch (session->handler->authenticate(session->context, session, &auth, &reply)) {
    case SMTP_AUTH_YES:
        smtp_session_set_user(session, session->account.len ? session->account : sasl->login,
                              auth.mechanism);
        answer(session, &reply, mail_reply_of(235, 2, 7, 0, STR("Authenticated")));
        break;
    case SMTP_AUTH_NO:
        answer(session, &reply, no);
        count_failure(session);
        break;
    case SMTP_AUTH_LATER:
        session->errors++;
        answer(session, &reply,
               mail_reply_of(454, 4, 7, 0, STR("Temporary authentication failure")));
        break;
    }
}

/* Ask for a line until the mechanism has what it needs. False: the connection is over. */
static MAY_YIELD bool exchange(struct smtp_session *session, struct smtp_sasl *sasl,
                               struct str initial, enum smtp_sasl_step *out_step)
{
    struct str challenge;
    struct str line;
    enum smtp_sasl_step step = smtp_sasl_feed(sasl, initial, &challenge);
    smtp_session_wipe_line(session);
    session->command = STR("AUTH");
    while (step == SMTP_SASL_CHALLENGE) {
        smtp_session_reply_line(session, 334, false, challenge);
        size_t max = session->settings->limits.command_line;
        if (!smtp_session_read_line(session, max < INPUT_MAX ? max : INPUT_MAX - 1, &line))
            return false;
        step = smtp_sasl_feed(sasl, line, &challenge);
        smtp_session_wipe_line(session);
    }
    *out_step = step;
    return true;
}

static MAY_YIELD void authenticate(struct smtp_session *session, enum smtp_sasl_mechanism mechanism,
                                   struct str initial)
{
    struct smtp_sasl sasl;
    size_t max = session->settings->limits.command_line;
    smtp_sasl_init(&sasl, mechanism, max < INPUT_MAX ? max : INPUT_MAX);
    enum smtp_sasl_step step;
    if (exchange(session, &sasl, initial, &step)) {
        if (step == SMTP_SASL_DONE)
            decide(session, &sasl);
        else if (step == SMTP_SASL_CANCELLED)
            smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 0, 0,
                                     "Authentication cancelled");
        else
            smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 2,
                                     "Malformed authentication data");
    }
    smtp_sasl_wipe(&sasl);
}

void smtp_server_auth(struct smtp_session *session, struct str arguments)
{
    if (!exists(session)) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 502, 5, 1,
                                 "Authentication is not offered");
        return;
    }
    if (!is_protected_enough(session)) {
        smtp_session_refuse_with(session, MAIL_REASON_TLS_REQUIRED, 530, 7, 0,
                                 "Must issue a STARTTLS command first");
        return;
    }
    if (session->peer.authenticated) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 503, 5, 1, "Already authenticated");
        return;
    }
    ptrdiff_t blank = str_find(arguments, ' ');
    struct str name = blank < 0 ? arguments : str_slice(arguments, 0, (size_t)blank);
    struct str initial =
        blank < 0 ? (struct str){NULL, 0} : str_trim(str_from(arguments, (size_t)blank));
    if (name.len == 0) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 501, 5, 4, "Name a mechanism");
        return;
    }
    enum smtp_sasl_mechanism mechanism = smtp_sasl_find(name);
    if (mechanism == SMTP_SASL_NONE) {
        smtp_session_refuse_with(session, MAIL_REASON_PROTOCOL, 504, 5, 4,
                                 "Mechanism not supported");
        return;
    }
    authenticate(session, mechanism, initial);
}
