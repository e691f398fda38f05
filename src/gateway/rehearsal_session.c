/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rehearsal_session.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"
#include "gateway/rehearsal_internal.h"
#include "net/stream.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_ENTRIES = 1000, RECIPIENTS_MAX = 1000 };

struct talk {
    const struct rehearsal_session *in;
    int fd;
    enum result result;
    struct error err;
    struct smtp_server_settings smtp; /* the listener's, made fit for this */
    struct net_network front;         /* the loopback, which names the client */
    struct rehearsal_in rehearsal;
    struct rehearsal decision;
    struct rehearsing run;
    struct str *own_addresses; /* of the user, for the session */
    size_t own_address_count;
    const struct settings_domain *domains[RECIPIENTS_MAX]; /* of accepted recipients, in order */
    size_t domain_count;
    struct loop *loop;
    struct scope root;
    struct loop_hook stop_when_empty;
};

static void fill_facts(struct talk *talk, struct smtp_session *smtp)
{
    const struct smtp_peer *peer = smtp_session_peer(smtp);
    const struct mail_sender *sender = smtp_session_sender(smtp);
    struct flow_facts *facts = &talk->run.facts;
    *facts = (struct flow_facts){
        .authenticated = peer->authenticated,
        .trusted = peer->trusted,
        .user = peer->user.ptr ? peer->user : STR_EMPTY,
        .client = peer->client.ip,
        .client_name = STR_EMPTY,
        .helo = peer->helo,
        .tls = talk->in->tls || (peer->tls && peer->tls->active) ? STR("TLSv1.3") : STR_EMPTY,
        .listener = talk->in->listener->name,
        .sender = sender ? sender->address : STR_EMPTY,
        .sender_domain = STR_EMPTY,
        .recipient = STR_EMPTY,
        .recipient_domain = STR_EMPTY,
        .header = STR_EMPTY,
        .checks = &talk->run.checks,
        .own_addresses = talk->own_addresses,
        .own_address_count = talk->own_address_count,
    };
    ptrdiff_t at = str_find_last(facts->sender, '@');
    if (at >= 0)
        facts->sender_domain = str_from(facts->sender, (size_t)at + 1);
    talk->rehearsal.arena = smtp_session_long_arena(smtp);
    rehearsal_clear(&talk->decision);
}

/* ---- what the SMTP server asks ---- */

static NO_YIELD_CHECK enum smtp_auth_verdict on_authenticate(void *context,
                                                             struct smtp_session *smtp,
                                                             const struct smtp_auth *auth,
                                                             struct mail_reply *out_reply)
{
    struct talk *talk = context;
    fill_facts(talk, smtp);
    struct str login = arena_str(talk->rehearsal.arena, auth->login);
    bool good = rehearsal_login(&talk->run, login, auth->password);
    talk->in->tell(talk->in->context, &talk->decision, "authentication");
    if (good) {
        talk->own_addresses = talk->run.facts.own_addresses;
        talk->own_address_count = talk->run.facts.own_address_count;
        smtp_session_set_account(smtp, talk->run.facts.user);
        return SMTP_AUTH_YES;
    }
    *out_reply = talk->decision.reply;
    return out_reply->code >= 500 ? SMTP_AUTH_NO : SMTP_AUTH_LATER;
}

static void on_mail(void *context, struct smtp_session *smtp, const struct mail_sender *sender,
                    const struct mail_address *address, struct mail_reply *out_reply)
{
    (void)context, (void)smtp, (void)sender, (void)address;
    *out_reply = mail_reply_of(250, 2, 1, 0, STR("Ok"));
}

static NO_YIELD_CHECK void on_recipient(void *context, struct smtp_session *smtp,
                                        const struct mail_address *address,
                                        struct mail_recipient *recipient,
                                        struct mail_reply *out_reply)
{
    struct talk *talk = context;
    fill_facts(talk, smtp);
    talk->run.to = *address;
    rehearsal_recipient(&talk->run);
    talk->in->tell(talk->in->context, &talk->decision, "recipient");
    if (!str_equal(str_c(talk->decision.recipient), STR("accept"))) {
        *out_reply = talk->decision.reply;
        return;
    }
    const struct settings_domain *chosen = talk->run.chosen;
    bool own_user = talk->run.facts.authenticated || talk->run.facts.trusted;
    bool other = talk->domain_count > 0 && talk->domains[0]->content != chosen->content;
    if ((other && !own_user) || talk->domain_count == RECIPIENTS_MAX) {
        *out_reply = mail_reply_of(452, 4, 5, 3, STR("Send this recipient in another transaction"));
        return;
    }
    talk->domains[talk->domain_count++] = chosen;
    recipient->address = talk->run.facts.recipient;
    recipient->domain = talk->run.facts.recipient_domain;
    *out_reply = mail_reply_of(250, 2, 1, 5, STR("Ok"));
}

static struct body *on_begin_data(void *context, struct smtp_session *smtp,
                                  struct mail_reply *out_reply)
{
    struct talk *talk = context;
    (void)smtp, (void)out_reply;
    return body_memory_new(talk->smtp.limits.size + 1);
}

/* The header section as the client sent it. */
static struct str read_header(struct talk *talk, const struct smtp_message *message) MAY_YIELD
{
    struct str data;
    struct error err;
    size_t len = 0;
    char *space = arena_alloc(talk->rehearsal.arena, (size_t)message->header_length + 1);
    while (len < message->header_length &&
           body_read(message->body, len, (size_t)message->header_length - len, space + len, &data,
                     &err) == OK &&
           data.len > 0) {
        if (data.ptr != space + len)
            memcpy(space + len, data.ptr, data.len);
        len += data.len;
    }
    return str_of(space, len);
}

/* Each content flow once, for all recipients of its domains; the first refusal is the reply. */
static NO_YIELD_CHECK void on_message(void *context, struct smtp_session *smtp,
                                      const struct smtp_message *message,
                                      struct mail_reply *out_reply)
{
    struct talk *talk = context;
    *out_reply = mail_reply_of(250, 2, 0, 0, STR("Ok, and forgotten: this is a rehearsal"));
    for (size_t i = 0; i < talk->domain_count; i++) {
        size_t before = 0;
        while (talk->domains[before]->content != talk->domains[i]->content)
            before++;
        if (before != i)
            continue;
        fill_facts(talk, smtp);
        talk->run.chosen = talk->domains[i];
        talk->run.facts.recipients = message->recipients;
        talk->run.facts.recipient_count = message->recipient_count;
        talk->run.facts.size = message->body->size;
        talk->run.facts.header = read_header(talk, message);
        rehearsal_content(&talk->run, message->body);
        talk->in->tell(talk->in->context, &talk->decision, "content");
        if (talk->decision.reply.code >= 400 && out_reply->code < 400)
            *out_reply = talk->decision.reply;
    }
}

static void on_reset(void *context, struct smtp_session *smtp)
{
    struct talk *talk = context;
    (void)smtp;
    talk->domain_count = 0;
    talk->run.checks = (struct flow_checks){0};
}

static const struct smtp_handler handler = {
    .authenticate = on_authenticate,
    .mail = on_mail,
    .recipient = on_recipient,
    .begin_data = on_begin_data,
    .message = on_message,
    .reset = on_reset,
};

/* ---- the conversation ---- */

static MAY_YIELD void converse(void *arg)
{
    struct talk *talk = arg;
    struct stream *stream;
    talk->result = stream_open_fd(talk->fd, &stream, &talk->err);
    if (talk->result != OK) {
        close(talk->fd);
        return;
    }
    smtp_server_run(&talk->smtp, &handler, talk, stream, NULL);
    stream_close(stream);
}

static void end_turn(struct loop_hook *hook)
{
    struct talk *talk = CONTAINER(hook, struct talk, stop_when_empty);
    if (scope_is_empty(&talk->root))
        loop_stop(talk->loop);
}

static void prepare(struct talk *talk)
{
    const struct rehearsal_session *in = talk->in;
    talk->smtp = in->listener->smtp;
    check(net_network_parse(STR("127.0.0.0/8"), &talk->front));
    talk->smtp.proxy_from = &talk->front;
    talk->smtp.proxy_from_count = 1;
    talk->smtp.xclient_from_count = 0;
    if (in->tls) { /* nobody types TLS: it is taken as done */
        talk->smtp.tls = SMTP_TLS_NONE;
        talk->smtp.allow_cleartext_auth = true;
    }
    talk->rehearsal = (struct rehearsal_in){.settings = in->settings,
                                            .listener = in->listener,
                                            .directory = in->directory,
                                            .resolver = in->resolver};
    talk->run.in = &talk->rehearsal;
    talk->run.out = &talk->decision;
    talk->run.state = state_new(&talk->loop, 1, STATE_ENTRIES);
}

enum result rehearsal_session_run(const struct rehearsal_session *in, int fd, struct error *err)
{
    struct talk *talk = NEW(struct talk);
    talk->in = in;
    talk->fd = fd;
    if (loop_new(NULL, &talk->loop, err) != OK) {
        free(talk);
        close(fd);
        return FAILED;
    }
    prepare(talk);
    state_join(talk->run.state, 0);
    scope_init_root(&talk->root, talk->loop);
    talk->stop_when_empty = (struct loop_hook){.run = end_turn};
    enum result result = fiber_spawn(&talk->root, "rehearsal", converse, talk, err);
    if (result == OK) {
        loop_hook_add(talk->loop, &talk->stop_when_empty);
        loop_run(talk->loop);
        loop_hook_remove(&talk->stop_when_empty);
        result = talk->result;
        *err = talk->err;
    }
    state_leave(talk->run.state, 0);
    state_free(talk->run.state);
    loop_free(talk->loop);
    free(talk);
    return result;
}
