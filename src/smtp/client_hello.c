/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smtp/client_hello.c - the phases before mail: greeting, EHLO and what it offers, STARTTLS.
 */
#include "smtp/client_internal.h"

enum result smtp_client_greeting(struct smtp_client *client, struct mail_reply *out_reply,
                                 struct error *err)
{
    return smtp_client_read(client, out_reply, err);
}

/* ---- EHLO ---- */

static void take_size(struct smtp_client *client, struct str arguments)
{
    uint64_t size;
    client->extensions |= SMTP_EXT_SIZE;
    /* 0: no fixed limit (RFC 1870); nonsense counts as none */
    client->max_size = str_to_uint(str_trim(arguments), UINT64_MAX, &size) ? size : 0;
}

static void take_auth(struct smtp_client *client, struct str arguments)
{
    struct str word;
    while (str_split(&arguments, ' ', &word)) {
        if (str_equal_nocase(word, STR("PLAIN")))
            client->extensions |= SMTP_EXT_AUTH_PLAIN;
        else if (str_equal_nocase(word, STR("LOGIN")))
            client->extensions |= SMTP_EXT_AUTH_LOGIN;
    }
}

/* RFC 9422 */
static void take_limits(struct smtp_client *client, struct str arguments)
{
    struct str word;
    while (str_split(&arguments, ' ', &word)) {
        uint64_t count;
        if (str_starts_nocase(word, STR("RCPTMAX=")) &&
            str_to_uint(str_from(word, 8), INT32_MAX, &count))
            client->max_recipients = (int64_t)count;
    }
}

static void take_extension(struct smtp_client *client, struct str line)
{
    static const struct {
        const char *keyword;
        unsigned extension;
        void (*take)(struct smtp_client *client, struct str arguments);
    } known[] = {
        {"PIPELINING", SMTP_EXT_PIPELINING, NULL},
        {"8BITMIME", SMTP_EXT_8BITMIME, NULL},
        {"SMTPUTF8", SMTP_EXT_SMTPUTF8, NULL},
        {"CHUNKING", SMTP_EXT_CHUNKING, NULL},
        {"DSN", SMTP_EXT_DSN, NULL},
        {"STARTTLS", SMTP_EXT_STARTTLS, NULL},
        {"ENHANCEDSTATUSCODES", SMTP_EXT_ENHANCED, NULL},
        {"SIZE", 0, take_size},
        {"AUTH", 0, take_auth},
        {"LIMITS", 0, take_limits},
    };
    struct str arguments = line;
    struct str keyword;
    (void)str_split(&arguments, ' ', &keyword);
    if (str_starts_nocase(keyword, STR("AUTH="))) {
        /* how it was written before RFC 2554; some servers say only this */
        take_auth(client, str_from(line, 5));
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!str_equal_nocase(keyword, str_c(known[i].keyword)))
            continue;
        client->extensions |= known[i].extension;
        if (known[i].take)
            known[i].take(client, arguments.ptr ? arguments : STR_EMPTY);
    }
}

static void forget_extensions(struct smtp_client *client)
{
    client->extensions = 0;
    client->max_size = 0;
    client->max_recipients = 0;
}

static void take_extensions(struct smtp_client *client, struct str text)
{
    struct str line;
    (void)str_split(&text, '\n', &line); /* the first is the server's name */
    while (str_split(&text, '\n', &line))
        take_extension(client, str_trim(line));
    if (stream_tls_info(client->stream)->active)
        client->extensions &= ~(unsigned)SMTP_EXT_STARTTLS;
    client->extensions &= ~client->ignored;
}

enum result smtp_client_hello(struct smtp_client *client, struct str name,
                              struct mail_reply *out_reply, struct error *err)
{
    forget_extensions(client);
    client->needs_reset = false;
    if (smtp_client_ask(client, out_reply, err, "%s %.*s", client->lmtp ? "LHLO" : "EHLO",
                        STR_ARG(name)) != OK)
        return FAILED;
    if (mail_reply_is_positive(out_reply)) {
        take_extensions(client, out_reply->text);
        return OK;
    }
    if (client->lmtp || !mail_reply_is_permanent(out_reply))
        return OK;
    return smtp_client_ask(client, out_reply, err, "HELO %.*s", STR_ARG(name));
}

/* ---- STARTTLS (RFC 3207) ---- */

/* ERROR_PROTOCOL stays for injected bytes: whoever asked may go on in clear after a handshake that
 * failed, but not after those. */
static enum result shake_hands(struct smtp_client *client, struct tls_context *context,
                               struct str server_name, struct error *err) MAY_YIELD
{
    if (stream_tls_connect(client->stream, context, server_name, err) == OK)
        return OK;
    if (err->kind == ERROR_PROTOCOL)
        err->kind = ERROR_TEMPORARY;
    return FAILED;
}

enum result smtp_client_starttls(struct smtp_client *client, struct tls_context *context,
                                 struct str server_name, struct mail_reply *out_reply,
                                 struct error *err)
{
    if (smtp_client_ask(client, out_reply, err, "STARTTLS") != OK)
        return FAILED;
    if (!mail_reply_is_positive(out_reply))
        return OK;
    struct error error;
    enum result result = stream_fill_available(client->stream, SMTP_CLIENT_INPUT_MAX, &error);
    /* whoever put bytes behind the 220 wants us to take them for the server's words under TLS */
    if (result == OK && stream_buffered(client->stream).len)
        result = fail(&error, ERROR_PROTOCOL, "the server sent bytes behind its STARTTLS reply");
    if (result == OK)
        result = shake_hands(client, context, server_name, &error);
    if (result != OK) {
        if (err)
            *err = error;
        return smtp_client_break(client, &error);
    }
    forget_extensions(client);
    return OK;
}
