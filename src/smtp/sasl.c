/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/sasl.h"

#include "base/memory.h"
#include "crypto/base64.h"

enum { STAGE_START, STAGE_PLAIN, STAGE_LOGIN_NAME, STAGE_LOGIN_PASSWORD };

enum smtp_sasl_mechanism smtp_sasl_find(struct str name)
{
    if (str_equal_nocase(name, STR("PLAIN")))
        return SMTP_SASL_PLAIN;
    if (str_equal_nocase(name, STR("LOGIN")))
        return SMTP_SASL_LOGIN;
    return SMTP_SASL_NONE;
}

struct str smtp_sasl_name(enum smtp_sasl_mechanism mechanism)
{
    switch (mechanism) {
    case SMTP_SASL_PLAIN:
        return STR("PLAIN");
    case SMTP_SASL_LOGIN:
        return STR("LOGIN");
    default:
        return STR_EMPTY;
    }
}

void smtp_sasl_init(struct smtp_sasl *sasl, enum smtp_sasl_mechanism mechanism, size_t max_line)
{
    *sasl = (struct smtp_sasl){
        .mechanism = mechanism,
        .authzid = STR_EMPTY,
        .login = STR_EMPTY,
        .password = STR_EMPTY,
    };
    /* two lines at most are kept (LOGIN); the room is taken at once, so that no secret stays behind
     * in memory that the buffer grew out of */
    buf_init(&sasl->secrets, 2 * max_line);
    (void)buf_reserve(&sasl->secrets, 2 * max_line);
}

void smtp_sasl_wipe(struct smtp_sasl *sasl)
{
    if (sasl->secrets.ptr)
        memory_wipe(sasl->secrets.ptr, sasl->secrets.cap);
    buf_done(&sasl->secrets);
    *sasl = (struct smtp_sasl){0};
}

/* Decode a line behind what is kept already. */
static bool decode(struct smtp_sasl *sasl, struct str line, struct str *out)
{
    size_t before = sasl->secrets.len;
    if (!base64_decode(line, &sasl->secrets))
        return false;
    *out = str_from(buf_str(&sasl->secrets), before);
    return true;
}

/* [authzid] NUL authcid NUL passwd (RFC 4616 2) */
static enum smtp_sasl_step split_plain(struct smtp_sasl *sasl, struct str line)
{
    struct str message;
    if (!decode(sasl, line, &message))
        return SMTP_SASL_MALFORMED;
    ptrdiff_t first = str_find(message, 0);
    if (first < 0)
        return SMTP_SASL_MALFORMED;
    struct str rest = str_from(message, (size_t)first + 1);
    ptrdiff_t second = str_find(rest, 0);
    if (second < 0)
        return SMTP_SASL_MALFORMED;
    struct str password = str_from(rest, (size_t)second + 1);
    if (str_has_nul(password))
        return SMTP_SASL_MALFORMED;
    sasl->authzid = str_slice(message, 0, (size_t)first);
    sasl->login = str_slice(rest, 0, (size_t)second);
    sasl->password = password;
    return SMTP_SASL_DONE;
}

static enum smtp_sasl_step take_login(struct smtp_sasl *sasl, struct str line,
                                      struct str *out_challenge)
{
    struct str *target = sasl->stage == STAGE_LOGIN_NAME ? &sasl->login : &sasl->password;
    struct str text;
    if (!decode(sasl, line, &text) || str_has_nul(text))
        return SMTP_SASL_MALFORMED;
    *target = text;
    if (sasl->stage == STAGE_LOGIN_PASSWORD)
        return SMTP_SASL_DONE;
    sasl->stage = STAGE_LOGIN_PASSWORD;
    *out_challenge = STR("UGFzc3dvcmQ6"); /* "Password:" */
    return SMTP_SASL_CHALLENGE;
}

enum smtp_sasl_step smtp_sasl_feed(struct smtp_sasl *sasl, struct str response,
                                   struct str *out_challenge)
{
    *out_challenge = STR_EMPTY;
    if (sasl->stage == STAGE_START) {
        bool plain = sasl->mechanism == SMTP_SASL_PLAIN;
        sasl->stage = plain ? STAGE_PLAIN : STAGE_LOGIN_NAME;
        if (!response.ptr) {
            *out_challenge = plain ? STR_EMPTY : STR("VXNlcm5hbWU6"); /* "Username:" */
            return SMTP_SASL_CHALLENGE;
        }
        if (str_equal(response, STR("=")))
            response = STR_EMPTY;
    }
    if (str_equal(response, STR("*")))
        return SMTP_SASL_CANCELLED;
    return sasl->stage == STAGE_PLAIN ? split_plain(sasl, response)
                                      : take_login(sasl, response, out_challenge);
}
