/* SPDX-License-Identifier: Apache-2.0 */
#include "smtp/server_rig.h"

#include "base/check.h"
#include "smtp/server_internal.h"

static const struct smtp_limits defaults = {
    .size = 50 << 20,
    .recipients = 1000,
    .line = 64 << 10,
    .command_line = 12288,
    .header_bytes = 256 << 10,
    .header_fields = 1000,
    .hops = 50,
    .errors = 10,
    .commands = 1000,
    .command_timeout_ns = 300 * NS_PER_S,
    .session_timeout_ns = 3600 * NS_PER_S,
    .data_timeout_ns = 600 * NS_PER_S,
    .min_rate = 500,
    .auth_failures = 3,
};

void rig_init(struct rig *rig)
{
    *rig = (struct rig){
        .settings =
            {
                .listener = STR("test"),
                .hostname = STR("mx.example.org"),
                .authentication = true,
                .allow_cleartext_auth = true,
                .limits = defaults,
            },
    };
    stream_pair(&rig->server, &rig->client);
    buf_init(&rig->envelope, 64 << 10);
    buf_init(&rig->message, 16 << 20);
    buf_init(&rig->facts, 4096);
}

void rig_done(struct rig *rig)
{
    stream_close(rig->client);
    buf_done(&rig->envelope);
    buf_done(&rig->message);
    buf_done(&rig->facts);
}

static void rig_connected(void *context, struct smtp_session *session, struct mail_reply *out)
{
    struct rig *rig = context;
    (void)session;
    rig->connections++;
    if (rig->refuse_connection)
        *out = mail_reply_of(554, 5, 7, 1, STR("Go away (ref TESTTEST)"));
}

static enum smtp_auth_verdict rig_authenticate(void *context, struct smtp_session *session,
                                               const struct smtp_auth *auth,
                                               struct mail_reply *out_reply)
{
    struct rig *rig = context;
    (void)session;
    (void)out_reply;
    rig->asked++;
    check(auth->password.len > 0 && auth->login.len > 0);
    if (str_equal(auth->login, STR("later")))
        return SMTP_AUTH_LATER;
    if (str_equal(auth->login, STR("alice")) && str_equal(auth->password, STR("secret")))
        return SMTP_AUTH_YES;
    return SMTP_AUTH_NO;
}

static void rig_mail(void *context, struct smtp_session *session, const struct mail_sender *sender,
                     const struct mail_address *address, struct mail_reply *out_reply)
{
    struct rig *rig = context;
    const struct smtp_peer *peer = smtp_session_peer(session);
    char client[NET_ADDRESS_TEXT];
    char local[NET_ADDRESS_TEXT];
    (void)address;
    buf_clear(&rig->facts);
    buf_printf(&rig->facts, "%.*s > %.*s %.*s %s",
               STR_ARG(net_address_format(&peer->client, client)),
               STR_ARG(net_address_format(&peer->local, local)), STR_ARG(peer->helo),
               peer->esmtp ? "esmtp" : "smtp");
    if (peer->client_name.len)
        buf_printf(&rig->facts, " name=%.*s", STR_ARG(peer->client_name));
    if (peer->authenticated)
        buf_printf(&rig->facts, " user=%.*s/%.*s", STR_ARG(peer->user), STR_ARG(peer->mechanism));
    if (peer->trusted)
        buf_append(&rig->facts, STR(" trusted"));
    if (peer->via_proxy)
        buf_append(&rig->facts, STR(" proxy"));
    if (peer->tls->active)
        buf_append(&rig->facts, STR(" tls"));
    if (str_starts(sender->address, STR("refused@")))
        *out_reply = mail_reply_of(550, 5, 7, 1, STR("Not you (ref TESTTEST)"));
}

static void rig_recipient(void *context, struct smtp_session *session,
                          const struct mail_address *address, struct mail_recipient *recipient,
                          struct mail_reply *out_reply)
{
    (void)context;
    (void)session;
    (void)recipient;
    if (str_equal(address->local, STR("unknown")))
        *out_reply = mail_reply_of(550, 5, 1, 1, STR("No such user (ref TESTTEST)"));
    else if (str_equal(address->local, STR("later")))
        *out_reply = mail_reply_of(451, 4, 3, 0, STR("Try later (ref TESTTEST)"));
    else if (address->kind != MAIL_DOMAIN_NAME || str_equal(address->domain, STR("example.org")) ||
             str_equal(address->domain, STR("example.net")))
        *out_reply = mail_reply_of(250, 2, 1, 5, STR("Ok"));
}

static struct body *rig_begin_data(void *context, struct smtp_session *session,
                                   struct mail_reply *out_reply)
{
    struct rig *rig = context;
    (void)out_reply;
    if (str_starts(smtp_session_sender(session)->address, STR("nobody@")))
        return NULL;
    return body_memory_new(rig->body_max ? rig->body_max : 16 << 20);
}

static MAY_YIELD void keep_body(struct rig *rig, struct body *body)
{
    char space[4096];
    struct str part;
    struct error err;
    uint64_t offset = 0;
    buf_clear(&rig->message);
    while (body_read(body, offset, sizeof space, space, &part, &err) == OK && part.len) {
        buf_append(&rig->message, part);
        offset += part.len;
    }
    check(offset == body->size);
}

static MAY_YIELD void rig_message(void *context, struct smtp_session *session,
                                  const struct smtp_message *message, struct mail_reply *out_reply)
{
    struct rig *rig = context;
    (void)session;
    if (str_starts(message->sender->address, STR("reject@"))) {
        *out_reply = mail_reply_of(554, 5, 7, 1, STR("Not this (ref TESTTEST)"));
        return;
    }
    buf_clear(&rig->envelope);
    buf_printf(&rig->envelope, "%.*s >", STR_ARG(message->sender->address));
    for (size_t i = 0; i < message->recipient_count; i++)
        buf_printf(&rig->envelope, " %.*s", STR_ARG(message->recipients[i].address));
    keep_body(rig, message->body);
    rig->last = *message;
    rig->messages++;
    *out_reply = mail_reply_of(250, 2, 0, 0, STR("Ok, queued as TEST"));
}

static void rig_reset(void *context, struct smtp_session *session)
{
    struct rig *rig = context;
    (void)session;
    rig->resets++;
}

static void rig_refused(void *context, struct smtp_session *session, struct str command,
                        enum mail_reason reason, struct mail_reply *reply)
{
    (void)context;
    (void)reason;
    /* no credential may come along */
    check(!str_starts_nocase(command, STR("AUTH")) || command.len == 4);
    event_emit(EVENT_SESSION_PROTOCOL, F_STR(COMMAND, command), F_STR(REPLY, reply->text));
    reply->text =
        arena_printf(smtp_session_arena(session), "%.*s (ref TESTTEST)", STR_ARG(reply->text));
}

static const struct smtp_handler handler = {
    .connected = rig_connected,
    .authenticate = rig_authenticate,
    .mail = rig_mail,
    .recipient = rig_recipient,
    .begin_data = rig_begin_data,
    .message = rig_message,
    .reset = rig_reset,
    .refused = rig_refused,
};

MAY_YIELD void rig_serve(void *arg)
{
    struct rig *rig = arg;
    smtp_server_run(&rig->settings, &handler, rig, rig->server, &rig->draining);
    stream_close(rig->server);
    rig->done = true;
}
