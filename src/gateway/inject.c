/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/inject.c - a message from an operator, by the way of a user's own mail.
 */
#include "gateway/operations.h"

#include "base/buf.h"
#include "gateway/ask.h"
#include "gateway/settings.h"
#include "gateway/submission.h"
#include "mail/header.h"

enum { DATA_MAX = 64 * 1024 * 1024, TIMEOUT_S = 240 };

struct inject {
    struct gateway *gateway;
    struct settings *settings; /* referenced while it runs */
    struct arena *arena;       /* the asking thread waits, so its memory may be used */
    struct str sender;
    const struct str *recipients;
    size_t recipient_count;
    struct str data;
    struct mail_id message;
    struct mail_reply reply;
};

/* Every line end becomes CRLF, and the last line has one. */
static void make_canonical(struct str data, struct buf *out)
{
    for (size_t i = 0; i < data.len; i++) {
        char c = data.ptr[i];
        if (c == '\r' && i + 1 < data.len && data.ptr[i + 1] == '\n')
            continue;
        if (c == '\r' || c == '\n')
            buf_append(out, STR("\r\n"));
        else if (c != '\0')
            buf_append_byte(out, c);
    }
    if (out->len < 2 || out->ptr[out->len - 1] != '\n')
        buf_append(out, STR("\r\n"));
}

static bool refuse(struct inject *inject, unsigned code, struct str text)
{
    inject->reply = mail_reply_of(code, code / 100, 1, 0, text);
    return false;
}

/* Addresses and their domains; false with a reply. */
static bool prepare(struct inject *inject, const struct settings *settings,
                    struct mail_recipient *recipients, const struct settings_domain **domains)
{
    for (size_t i = 0; i < inject->recipient_count; i++) {
        struct mail_address address;
        if (mail_address_parse(inject->arena, inject->recipients[i], false, true, &address) !=
                MAIL_ADDRESS_OK ||
            address.kind != MAIL_DOMAIN_NAME)
            return refuse(inject, 501,
                          arena_printf(inject->arena, "not an address: %.*s",
                                       STR_ARG(str_slice(inject->recipients[i], 0, 200))));
        domains[i] = settings_route(settings, address.domain);
        if (!domains[i])
            return refuse(inject, 550,
                          arena_printf(inject->arena, "no domain takes mail for %.*s",
                                       STR_ARG(address.domain)));
        recipients[i] =
            (struct mail_recipient){.address = mail_address_text(inject->arena, &address),
                                    .domain = address.domain,
                                    .orcpt = STR_EMPTY};
    }
    return true;
}

static bool read_sender(struct inject *inject, struct mail_sender *out, struct flow_facts *facts)
{
    struct mail_address address;
    *out = (struct mail_sender){.address = STR_EMPTY, .envid = STR_EMPTY};
    if (inject->sender.len == 0)
        return true;
    if (mail_address_parse(inject->arena, inject->sender, false, true, &address) != MAIL_ADDRESS_OK)
        return refuse(inject, 501, STR("the sender is not an address"));
    out->address = mail_address_text(inject->arena, &address);
    out->smtputf8 = address.smtputf8;
    facts->sender = out->address;
    facts->sender_domain = address.domain;
    return true;
}

static bool has_8bit(struct str data)
{
    for (size_t i = 0; i < data.len; i++) {
        if ((unsigned char)data.ptr[i] > 127)
            return true;
    }
    return false;
}

static void submit(struct inject *inject) MAY_YIELD
{
    struct worker *worker = worker_current();
    const struct settings *settings = inject->settings;
    size_t count = inject->recipient_count;
    struct mail_recipient *recipients =
        arena_alloc_array(inject->arena, count, sizeof(struct mail_recipient));
    const struct settings_domain **domains =
        arena_alloc_array(inject->arena, count, sizeof(struct settings_domain *));
    struct mail_sender sender;
    struct flow_facts facts = {.session = mail_id_new(),
                               .trusted = true,
                               .listener = STR("control"),
                               .client = {.family = 4, .bytes = {127, 0, 0, 1}},
                               .client_name = STR("localhost"),
                               .helo = STR("localhost"),
                               .sender = STR_EMPTY,
                               .sender_domain = STR_EMPTY,
                               .user = STR_EMPTY,
                               .tls = STR_EMPTY};
    if (!read_sender(inject, &sender, &facts) || !prepare(inject, settings, recipients, domains))
        return;
    struct body *body = intake_new(inject->gateway->spool, &worker->intake);
    struct body *whole = NULL;
    if (body_append(body, inject->data, NULL) != OK || intake_finish(body, &whole, NULL) != OK) {
        body_unref(body);
        refuse(inject, 452, STR("Insufficient system storage"));
        return;
    }
    if (inject->message.high == 0)
        inject->message = mail_id_new();
    struct submission submission = {
        .worker = worker,
        .settings = settings,
        .arena = inject->arena,
        .facts = &facts,
        .message = inject->message,
        .sender = &sender,
        .recipients = recipients,
        .domains = domains,
        .recipient_count = count,
        .body = whole,
        .header_length = mail_header_length(inject->data),
        .has_8bit = has_8bit(inject->data),
        .own_user = true,
        .fairness_key = STR("<control>"),
        .direct_timeout_ns = TIMEOUT_S * NS_PER_S,
        .trace = {.hostname = settings->hostname,
                  .helo = STR("localhost"),
                  .client_ip = STR("127.0.0.1"),
                  .client_name = STR("localhost"),
                  .message = inject->message,
                  .recipient = count == 1 ? recipients[0].address : STR_EMPTY,
                  .own_user = true},
    };
    submission_run(&submission, &inject->reply);
    body_unref(whole);
    body_unref(body);
}

NO_YIELD_CHECK static void run(void *arg)
{
    struct inject *inject = arg;
    inject->settings = settings_ref(worker_current()->settings); /* a reload may come meanwhile */
    submit(inject);
    settings_unref(inject->settings);
}

enum result gateway_inject(struct gateway *gateway, struct str sender, const struct str *recipients,
                           size_t recipient_count, struct str data, struct mail_id *message,
                           struct arena *arena, struct mail_reply *out_reply, struct error *err)
{
    struct buf canonical BUF_CLEANUP;
    buf_init(&canonical, DATA_MAX);
    make_canonical(data, &canonical);
    if (canonical.overflow)
        return fail(err, ERROR_LIMIT, "the message is larger than %d bytes", DATA_MAX);
    struct inject inject = {.gateway = gateway,
                            .arena = arena,
                            .sender = sender,
                            .recipients = recipients,
                            .recipient_count = recipient_count,
                            .data = buf_str(&canonical),
                            .message = *message};
    if (ask_worker(&gateway->workers[0], run, &inject, err) != OK)
        return FAILED;
    *message = inject.message;
    *out_reply = inject.reply;
    return OK;
}
