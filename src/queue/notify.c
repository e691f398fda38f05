/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/notify.c - who is told what about recipients that failed, wait or were reached.
 */
#include "event/event.h"
#include "mail/header.h"
#include "queue/settle.h"
#include "queue/submit.h"

#include <string.h>

/* ---- who wants to know ---- */

bool queue_notice_wants(const struct queue_notice *notice, const struct mail_recipient *recipient,
                        enum queue_dsn_action action)
{
    static const struct {
        unsigned notify, transport;
    } kinds[] = {
        [QUEUE_DSN_FAILED] = {MAIL_NOTIFY_FAILURE, 1u << TRANSPORT_NOTIFY_FAILURE},
        [QUEUE_DSN_DELAYED] = {MAIL_NOTIFY_DELAY, 1u << TRANSPORT_NOTIFY_DELAY},
        [QUEUE_DSN_DELIVERED] = {MAIL_NOTIFY_SUCCESS, 1u << TRANSPORT_NOTIFY_SUCCESS},
        [QUEUE_DSN_RELAYED] = {MAIL_NOTIFY_SUCCESS, 1u << TRANSPORT_NOTIFY_SUCCESS},
    };
    bool success = kinds[action].notify == MAIL_NOTIFY_SUCCESS;
    unsigned by_transport =
        notice->transport != NULL ? notice->transport->dsn : 1u << TRANSPORT_NOTIFY_FAILURE;
    if (notice->meta->sender.address.len == 0 || (recipient->notify & MAIL_NOTIFY_NEVER) != 0 ||
        (by_transport & kinds[action].transport) == 0)
        return false;
    if (success)
        return (recipient->notify & MAIL_NOTIFY_SUCCESS) != 0;
    return recipient->notify == 0 || (recipient->notify & kinds[action].notify) != 0;
}

/* May a notification go to this sender at all, or would it be backscatter? */
static bool may_tell(const struct queue_notice *notice)
{
    if (notice->meta->flags & QUEUE_META_OWN_USER)
        return true;
    int policy =
        notice->transport != NULL ? notice->transport->dsn_to_strangers : TRANSPORT_DSN_VERIFIED;
    if (policy == TRANSPORT_DSN_VERIFIED)
        return (notice->meta->flags & QUEUE_META_SENDER_VERIFIED) != 0;
    return policy == TRANSPORT_DSN_ALWAYS;
}

enum queue_fate queue_notice_fate(const struct queue_notice *notice,
                                  const struct mail_recipient *recipient)
{
    if (!queue_notice_wants(notice, recipient, QUEUE_DSN_FAILED))
        return QUEUE_FATE_SILENT;
    if (queue_is_contained(notice->worker->queue, notice->meta))
        return QUEUE_FATE_KEEP;
    return may_tell(notice) ? QUEUE_FATE_DSN : QUEUE_FATE_KEEP;
}

/* ---- a new entry ---- */

static struct str domain_of(struct arena *arena, struct str address)
{
    ptrdiff_t at = str_find_last(address, '@');
    struct str domain;
    if (at < 0)
        return STR_EMPTY;
    domain = str_from(address, (size_t)at + 1);
    if (domain.len > 0 && domain.ptr[0] == '[')
        return arena_lower(arena, domain);
    struct str normal;
    return mail_domain_normalize(arena, domain, &normal) ? normal : arena_lower(arena, domain);
}

struct outgoing {
    struct str to;
    unsigned flags;
    struct mail_id id;
};

/* An entry from <> to one address, by the transport that takes its domain. */
static bool add_entry(struct queue_unit *unit, const struct queue_notice *notice,
                      const struct outgoing *outgoing, const struct mail_content *content)
{
    const struct queue_handler *handler = &notice->worker->queue->handler;
    struct mail_recipient recipient = {.address = outgoing->to,
                                       .domain = domain_of(unit->arena, outgoing->to)};
    struct str transport = handler->route(notice->snapshot, recipient.domain);
    if (transport.len == 0)
        return false;
    struct queue_meta meta = {
        .message = outgoing->id,
        .session = notice->meta->session,
        .accepted_wall_ns = clock_steady_wall_ns(),
        .flags = outgoing->flags | QUEUE_META_OWN_USER,
        .fairness_key = STR("<>"),
        .transport = transport,
        .recipients = &recipient,
        .recipient_count = 1,
    };
    meta.sender.body = outgoing->flags & QUEUE_META_HAS_8BIT ? MAIL_BODY_8BITMIME : MAIL_BODY_7BIT;
    struct queue_record record;
    queue_record_init(&record, 1, unit->arena);
    struct queue_parcel *parcel = queue_parcel_new(notice->worker->queue, content);
    queue_unit_add(unit,
                   queue_entry_new(notice->worker, mail_id_new(), &meta, &record, parcel,
                                   mail_content_size(content)),
                   &meta);
    queue_parcel_unref(parcel);
    queue_unit_count(unit, QUEUE_COUNT_GENERATED, 1);
    return true;
}

/* ---- the notification ---- */

/* What is quoted: the header, or everything with RET=FULL if that is small enough. */
static struct str quote(struct arena *arena, const struct queue_notice *notice,
                        bool *out_full) MAY_YIELD
{
    *out_full = false;
    if (notice->content == NULL || notice->content->body == NULL)
        return STR_EMPTY;
    uint64_t size = mail_content_size(notice->content);
    size_t wanted = size < QUEUE_DSN_FULL_MAX ? (size_t)size : QUEUE_DSN_FULL_MAX;
    char *space = arena_alloc(arena, wanted + 1);
    size_t have = 0;
    while (have < wanted) {
        struct error err;
        struct str part;
        if (mail_content_read(notice->content, have, wanted - have, space + have, &part, &err) ==
                FAILED ||
            part.len == 0)
            break;
        memmove(space + have, part.ptr, part.len);
        have += part.len;
    }
    struct str text = str_of(space, have);
    if (notice->meta->sender.ret == MAIL_RET_FULL && have == size) {
        *out_full = true;
        return text;
    }
    size_t header = mail_header_length(text);
    return header > 0 ? str_slice(text, 0, header) : text;
}

static void note_sent(const struct queue_notice *notice, const struct outgoing *outgoing)
{
    static const char *const kinds[] = {"failure", "delay", "success", "success"};
    event_emit(EVENT_DSN_SENT, F_C(MESSAGE, mail_id_text(notice->meta->message).chars),
               F_STR(TO, outgoing->to), F_C(OBJECT, mail_id_text(outgoing->id).chars),
               F_C(KIND, kinds[notice->recipients[0].action]), F_INT(RECIPIENTS, notice->count));
}

static bool has_failures(const struct queue_notice *notice)
{
    for (size_t i = 0; i < notice->count; i++)
        if (notice->recipients[i].action == QUEUE_DSN_FAILED)
            return true;
    return false;
}

/* Where no transport takes the sender's domain, postmaster reads of mail that failed: somebody has
 * to. */
static bool add_notification(struct queue_unit *unit, const struct queue_notice *notice,
                             struct outgoing *outgoing, const struct mail_content *content)
{
    const struct queue_handler *handler = &notice->worker->queue->handler;
    if (add_entry(unit, notice, outgoing, content))
        return true;
    bool for_postmaster = has_failures(notice);
    struct str postmaster = handler->postmaster(notice->snapshot);
    outgoing->to = postmaster;
    outgoing->flags |= QUEUE_META_POSTMASTER;
    bool passed_on =
        for_postmaster && postmaster.len > 0 && add_entry(unit, notice, outgoing, content);
    event_emit(EVENT_DSN_FAILED, F_C(MESSAGE, mail_id_text(notice->meta->message).chars),
               F_STR(TO, notice->meta->sender.address),
               F_C(REASON, mail_reason_name(MAIL_REASON_TRANSPORT_MISSING)),
               F_STR(DETAIL, STR("no transport takes the sender's domain")),
               F_STR(ACTION, passed_on        ? STR("postmaster")
                             : for_postmaster ? STR("held")
                                              : STR("none")));
    return passed_on;
}

bool queue_notice_add(struct queue_unit *unit, const struct queue_notice *notice)
{
    const struct queue_handler *handler = &notice->worker->queue->handler;
    struct mail_id_text message = mail_id_text(notice->meta->message);
    struct queue_dsn dsn = {
        .hostname = handler->hostname(notice->snapshot),
        .postmaster = handler->postmaster(notice->snapshot),
        .sender = &notice->meta->sender,
        .message_id = str_c(message.chars),
        .arrival_wall_ns = notice->meta->accepted_wall_ns,
        .now_wall_ns = clock_wall_ns(),
        .give_up_wall_ns = notice->give_up_wall_ns,
        .recipients = notice->recipients,
        .recipient_count = notice->count,
        .header_utf8 = (notice->meta->flags & QUEUE_META_HEADER_UTF8) != 0,
        .id = mail_id_new(),
    };
    dsn.original = quote(unit->arena, notice, &dsn.original_is_full);
    BUF_CLEANUP struct buf head;
    BUF_CLEANUP struct buf text;
    buf_init(&head, QUEUE_DSN_MAX);
    buf_init(&text, QUEUE_DSN_MAX);
    bool eight_bit;
    struct error err;
    queue_dsn_build(&dsn, &head, &text, &eight_bit);
    struct body *body = body_memory_new(QUEUE_DSN_MAX);
    bool made = body_append(body, buf_str(&text), &err) == OK && body_seal(body, &err) == OK;
    struct mail_content content = {.head = buf_str(&head), .body = body};
    if (made && handler->sign) {
        struct str fields = handler->sign(notice->snapshot, &content, unit->arena);
        content.head =
            arena_printf(unit->arena, "%.*s%.*s", STR_ARG(fields), STR_ARG(content.head));
    }
    struct outgoing outgoing = {
        .to = notice->meta->sender.address,
        .flags = QUEUE_META_DSN | (eight_bit ? QUEUE_META_HAS_8BIT : 0u),
        .id = dsn.id,
    };
    made = made && add_notification(unit, notice, &outgoing, &content);
    body_unref(body);
    if (made)
        note_sent(notice, &outgoing);
    return made;
}

bool queue_notice_to_postmaster(struct queue_unit *unit, const struct queue_notice *notice)
{
    const struct queue_handler *handler = &notice->worker->queue->handler;
    struct str postmaster = handler->postmaster(notice->snapshot);
    if ((notice->meta->flags & QUEUE_META_POSTMASTER) != 0 || postmaster.len == 0 ||
        notice->content == NULL || notice->content->body == NULL)
        return false;
    struct outgoing outgoing = {
        .to = postmaster,
        .flags = QUEUE_META_DSN | QUEUE_META_POSTMASTER |
                 (notice->meta->flags & (QUEUE_META_HAS_8BIT | QUEUE_META_HEADER_UTF8)),
        .id = notice->meta->message,
    };
    return add_entry(unit, notice, &outgoing, notice->content);
}

/* Recipients that were not yet split by destination: as a submission would do it. */
static void keep_unsplit(struct queue_unit *unit, const struct queue_notice *notice,
                         const struct mail_content *content)
{
    const struct queue_handler *handler = &notice->worker->queue->handler;
    struct queue_group group = {.content = *content,
                                .transport = notice->meta->transport,
                                .held = true,
                                .held_reason = MAIL_REASON_UNDELIVERABLE};
    struct mail_recipient *all = arena_alloc_array(unit->arena, notice->count, sizeof *all);
    for (size_t i = 0; i < notice->count; i++)
        all[i] = *notice->recipients[i].recipient;
    group.recipients = all;
    group.recipient_count = notice->count;
    if (group.transport.len > 0) {
        queue_plan_group(unit, notice->snapshot, notice->meta, &group, /* fresh= */ false);
        return;
    }
    group.recipient_count = 1;
    for (size_t i = 0; i < notice->count; i++) { /* refused before they had a transport */
        group.recipients = &all[i];
        group.transport = handler->route(notice->snapshot, all[i].domain);
        queue_plan_group(unit, notice->snapshot, notice->meta, &group, /* fresh= */ false);
    }
}

void queue_notice_keep(struct queue_unit *unit, const struct queue_notice *notice,
                       const struct mail_content *content)
{
    if (notice->meta->content_flow.len > 0 || notice->meta->transport.len == 0) {
        keep_unsplit(unit, notice, content);
        return;
    }
    struct queue_meta meta = *notice->meta;
    meta.recipients = arena_alloc_array(unit->arena, notice->count, sizeof *meta.recipients);
    meta.recipient_count = notice->count;
    meta.content_flow = STR_EMPTY;
    meta.kept = (struct queue_kept){0};
    struct queue_record record;
    queue_record_init(&record, notice->count, unit->arena);
    for (size_t i = 0; i < notice->count; i++) {
        meta.recipients[i] = *notice->recipients[i].recipient;
        record.said[i] = ARENA_NEW(unit->arena, struct queue_said);
        *record.said[i] = (struct queue_said){.reply = notice->recipients[i].reply,
                                              .mta = notice->recipients[i].mta};
    }
    record.held = true;
    record.reason = MAIL_REASON_UNDELIVERABLE;
    record.held_since_wall_ns = clock_steady_wall_ns();
    record.last_try_wall_ns = notice->recipients[0].last_try_wall_ns;
    struct queue_parcel *parcel = queue_parcel_new(notice->worker->queue, content);
    queue_unit_add(unit,
                   queue_entry_new(notice->worker, mail_id_new(), &meta, &record, parcel,
                                   mail_content_size(content)),
                   &meta);
    queue_parcel_unref(parcel);
}
