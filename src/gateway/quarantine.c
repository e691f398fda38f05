/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/quarantine.h"

#include "event/event.h"
#include "gateway/ask.h"
#include "gateway/glue.h"
#include "gateway/operations.h"
#include "gateway/settings.h"
#include "mail/address.h"
#include "mail/header.h"
#include "queue/queue.h"
#include "spool/vault.h"

#include <stdlib.h>

enum { NOTICE_MAX = 16 * 1024 * 1024 };

/* ---- keys ---- */

enum result quarantine_open(struct gateway *gateway, struct error *err)
{
    struct arena *arena = arena_new(0);
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    struct str path =
        arena_printf(arena, "%.*s/quarantine.keys", STR_ARG(gateway->settings->spool.path));
    struct str extra =
        credentials ? arena_printf(arena, "%s/quarantine.keys", credentials) : STR_EMPTY;
    enum result result = spool_vault_open(path, extra, &gateway->vault, err);
    if (result == OK) {
        queue_set_vault(gateway->queue, gateway->vault);
        quarantine_prepare(gateway, gateway->settings);
    }
    arena_free(arena);
    return result;
}

void quarantine_prepare(struct gateway *gateway, const struct settings *settings)
{
    struct error err;
    if (settings->quarantine_count && spool_vault_prepare(gateway->vault, &err) != OK)
        event_emit(EVENT_QUARANTINE_PROBLEM, F_C(ERROR, err.text),
                   F_C(DETAIL, "there is no key: what would go into a quarantine is deferred"));
}

struct spool_vault *gateway_vault(struct gateway *gateway)
{
    return gateway->vault;
}

/* ---- for administration ---- */

static struct settings *settings_now(struct gateway *gateway)
{
    pthread_mutex_lock(&gateway->mutex);
    struct settings *settings = settings_ref(gateway->settings);
    pthread_mutex_unlock(&gateway->mutex);
    return settings;
}

static struct gateway_quarantine describe(const struct settings *settings,
                                          const struct settings_quarantine *from,
                                          struct arena *arena)
{
    return (struct gateway_quarantine){
        .name = arena_str(arena, from->name),
        .keep_ns = from->keep_ns,
        .size = from->size,
        .defers = from->when_full == SETTINGS_FULL_DEFER,
        .by_recipient = from->release_by == SETTINGS_RELEASE_RECIPIENT,
        .daily = from->digest == SETTINGS_DIGEST_DAILY,
        .digest_at_ns = from->digest_at_ns,
        .from = arena_str(arena, from->digest_from.len ? from->digest_from : settings->postmaster),
        .link = arena_str(arena, from->link),
        .hostname = arena_str(arena, settings->hostname),
    };
}

struct gateway_quarantine *gateway_quarantines(struct gateway *gateway, struct arena *arena,
                                               size_t *out_count)
{
    struct settings *settings = settings_now(gateway);
    size_t count = settings->quarantine_count;
    struct gateway_quarantine *out = arena_alloc_array(arena, count + 1, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = describe(settings, &settings->quarantines[i], arena);
    *out_count = count;
    settings_unref(settings);
    return out;
}

bool gateway_is_own_recipient(struct gateway *gateway, struct str address)
{
    struct settings *settings = settings_now(gateway);
    ptrdiff_t at = str_find_last(address, '@');
    struct arena *arena = arena_new(0);
    bool own = at >= 0 &&
               settings_is_listed(settings, arena_lower(arena, str_from(address, (size_t)at + 1)));
    arena_free(arena);
    settings_unref(settings);
    return own;
}

/* ---- a message of our own ---- */

struct notify {
    struct gateway *gateway;
    struct settings *settings; /* referenced while it runs */
    struct arena *arena;       /* the asking thread waits, so its memory may be used */
    struct str to, data;
    struct mail_id message;
    enum result result;
    struct error *err;
};

static bool has_8bit(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] > 127)
            return true;
    }
    return false;
}

static enum result submit(struct notify *notify, const struct mail_recipient *to,
                          struct str transport, struct body *body) MAY_YIELD
{
    struct queue_handler handler;
    const struct queue_snapshot *snapshot = (const struct queue_snapshot *)notify->settings;
    size_t header_len = mail_header_length(notify->data);
    struct mail_content content = {
        .head = str_slice(notify->data, 0, header_len), .body = body, .body_start = header_len};
    struct mail_sender sender = {
        .address = STR_EMPTY, .envid = STR_EMPTY, .smtputf8 = has_8bit(to->address)};
    glue_fill_handler(notify->gateway, &handler);
    struct str signature = handler.sign(snapshot, &content, notify->arena);
    content.head =
        arena_printf(notify->arena, "%.*s%.*s", STR_ARG(signature), STR_ARG(content.head));
    struct queue_group group = {.content = content,
                                .transport = transport,
                                .content_flow = STR_EMPTY,
                                .recipients = to,
                                .recipient_count = 1,
                                .generated = true};
    struct queue_submission submission = {.message = notify->message,
                                          .sender = &sender,
                                          .own_user = true,
                                          .fairness_key = STR("<>"),
                                          .origin = STR_EMPTY,
                                          .has_8bit = has_8bit(notify->data),
                                          .needs_smtputf8 = has_8bit(to->address),
                                          .groups = &group,
                                          .group_count = 1};
    return queue_submit(notify->gateway->queue, &submission, notify->err);
}

static enum result send_notice(struct notify *notify) MAY_YIELD
{
    struct mail_address address;
    struct body *body = body_memory_new(NOTICE_MAX);
    if (mail_address_parse(notify->arena, notify->to, false, true, &address) != MAIL_ADDRESS_OK ||
        address.kind != MAIL_DOMAIN_NAME) {
        body_unref(body);
        return fail(notify->err, ERROR_PERMANENT, "not an address");
    }
    const struct settings_domain *domain = settings_route(notify->settings, address.domain);
    struct mail_recipient to = {.address = mail_address_text(notify->arena, &address),
                                .domain = address.domain,
                                .orcpt = STR_EMPTY};
    enum result result = body_append(body, notify->data, notify->err);
    if (result == OK)
        result = body_seal(body, notify->err);
    if (result == OK)
        result = domain ? submit(notify, &to, domain->transport->name, body)
                        : fail(notify->err, ERROR_PERMANENT, "no domain takes mail for it");
    body_unref(body);
    return result;
}

NO_YIELD_CHECK static void run_notify(void *arg)
{
    struct notify *notify = arg;
    notify->settings = settings_ref(worker_current()->settings);
    notify->result = send_notice(notify);
    settings_unref(notify->settings);
}

enum result gateway_notify(struct gateway *gateway, struct str to, struct str data,
                           struct arena *arena, struct mail_id *out_message, struct error *err)
{
    struct notify notify = {.gateway = gateway,
                            .arena = arena,
                            .to = to,
                            .data = data,
                            .message = mail_id_new(),
                            .err = err};
    if (ask_worker(&gateway->workers[0], run_notify, &notify, err) != OK)
        return FAILED;
    *out_message = notify.message;
    return notify.result;
}
