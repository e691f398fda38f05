/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_auth.c - AUTH PLAIN and AUTH LOGIN (RFC 4954, 4616) from the client's side.
 */
#include "base/memory.h"
#include "crypto/base64.h"
#include "smtp/client_internal.h"

enum {
    SECRET_MAX = 8 * 1024,
    INITIAL_RESPONSE_MAX = 480, /* longer ones do not fit a command line of 512 octets */
};

static void wipe(struct buf *buf)
{
    if (buf->cap)
        memory_wipe(buf->ptr, buf->cap);
    buf_done(buf);
}

/* base64 of the three parts of a PLAIN message; everything in between is wiped. */
static bool encode_plain(struct str login, struct str password, struct buf *out)
{
    struct buf clear;
    buf_init(&clear, SECRET_MAX);
    /* room for all first: growing would leave copies behind */
    (void)buf_reserve(&clear, login.len + password.len + 2);
    buf_append_byte(&clear, '\0');
    buf_append(&clear, login);
    buf_append_byte(&clear, '\0');
    buf_append(&clear, password);
    bool fits = !clear.overflow;
    if (fits)
        base64_encode(buf_str(&clear), out);
    wipe(&clear);
    return fits && !out->overflow;
}

/* Answer a challenge with what stands in `response`. */
static enum result respond(struct smtp_client *client, const struct buf *response,
                           struct mail_reply *out_reply, struct error *err) MAY_YIELD
{
    return smtp_client_ask(client, out_reply, err, "%.*s", STR_ARG(buf_str(response)));
}

/* A challenge where none belongs: cancel, which gives a 501 (RFC 4954 4). */
static enum result finish(struct smtp_client *client, struct mail_reply *out_reply,
                          struct error *err) MAY_YIELD
{
    if (out_reply->code != 334)
        return OK;
    return smtp_client_ask(client, out_reply, err, "*");
}

static enum result auth_plain(struct smtp_client *client, const struct buf *message,
                              struct mail_reply *out_reply, struct error *err) MAY_YIELD
{
    enum result result;
    if (message->len <= INITIAL_RESPONSE_MAX) {
        result =
            smtp_client_ask(client, out_reply, err, "AUTH PLAIN %.*s", STR_ARG(buf_str(message)));
    } else {
        result = smtp_client_ask(client, out_reply, err, "AUTH PLAIN");
        if (result == OK && out_reply->code == 334)
            result = respond(client, message, out_reply, err);
    }
    return result == OK ? finish(client, out_reply, err) : FAILED;
}

static enum result auth_login(struct smtp_client *client, struct str login,
                              const struct buf *password, struct mail_reply *out_reply,
                              struct error *err) MAY_YIELD
{
    struct buf name;
    buf_init(&name, 2 * SECRET_MAX);
    base64_encode(login, &name);
    enum result result = smtp_client_ask(client, out_reply, err, "AUTH LOGIN");
    if (result == OK && out_reply->code == 334)
        result = respond(client, &name, out_reply, err);
    if (result == OK && out_reply->code == 334)
        result = respond(client, password, out_reply, err);
    wipe(&name);
    return result == OK ? finish(client, out_reply, err) : FAILED;
}

enum result smtp_client_auth(struct smtp_client *client, struct str login, struct str password,
                             struct mail_reply *out_reply, struct error *err)
{
    bool plain = client->extensions & SMTP_EXT_AUTH_PLAIN;
    *out_reply = (struct mail_reply){.text = STR_EMPTY};
    if (!plain && !(client->extensions & SMTP_EXT_AUTH_LOGIN))
        return OK;
    struct error error;
    struct buf secret;
    buf_init(&secret, 2 * SECRET_MAX);
    (void)buf_reserve(&secret, 2 * (login.len + password.len) + 16);
    bool fits = login.len <= SECRET_MAX && password.len <= SECRET_MAX;
    enum result result;
    if (str_has_nul(login) || str_has_nul(password) || !fits) {
        /* a NUL would move the border between login and password */
        result = fail(&error, ERROR_PERMANENT, "the login or password cannot be sent");
    } else if (plain) {
        result = encode_plain(login, password, &secret)
                     ? auth_plain(client, &secret, out_reply, &error)
                     : fail(&error, ERROR_PERMANENT, "the login or password is too long");
    } else {
        base64_encode(password, &secret);
        result = auth_login(client, login, &secret, out_reply, &error);
    }
    wipe(&secret);
    if (result == OK)
        return OK;
    if (err)
        *err = error;
    return smtp_client_break(client, &error);
}
