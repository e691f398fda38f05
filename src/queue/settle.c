/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/settle.c - the books after an attempt.
 *
 * Deliveries are written lazily: a power cut repeats at most what a peer took in 50 ms. Failures
 * and what is made of them (a notification, an entry kept aside) are one durable unit.
 */
#include "queue/settle.h"

#include "base/check.h"
#include "base/memory.h"
#include "base/random.h"
#include "event/event.h"
#include "queue/cause.h"
#include "queue/retry.h"

#include <string.h>

enum { SETTLE_S = 60, AGAIN_S = 60 };

/* ---- attempts ---- */

/* Nothing was tried for it while it waits for a probe: the last that is known is what the
 * destination did to others. */
static void note_refusal(struct queue_attempt *attempt)
{
    struct str text;
    int64_t probe_wall_ns;
    if (!queue_site_waits(attempt->entry, &text, &probe_wall_ns))
        return;
    struct queue_said *said = ARENA_NEW(attempt->arena, struct queue_said);
    *said = (struct queue_said){
        .reply = {.enhanced = {4, 4, 1}, .text = arena_str(attempt->arena, text)},
        .mta = STR_EMPTY};
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (attempt->record.status[i] == QUEUE_STATUS_PENDING)
            attempt->record.said[i] = said;
}

void queue_attempt_init(struct queue_attempt *attempt, struct queue_entry *entry,
                        struct arena *arena)
{
    const struct queue_handler *handler = &queue_worker_of(entry)->queue->handler;
    *attempt =
        (struct queue_attempt){.worker = queue_worker_of(entry), .entry = entry, .arena = arena};
    queue_site_count(entry);
    bool sound = queue_entry_decode(entry, arena, &attempt->meta, &attempt->record);
    check(sound);
    note_refusal(attempt);
    attempt->start_ns = clock_monotonic_ns();
    attempt->start_wall_ns = clock_steady_wall_ns();
    attempt->snapshot = handler->take_snapshot(handler->context);
    attempt->transport = handler->transport(attempt->snapshot, attempt->meta.transport);
    attempt->results =
        arena_alloc_array(arena, attempt->meta.recipient_count + 1, sizeof *attempt->results);
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        attempt->results[i].said =
            (struct queue_said){.reply = {.text = STR_EMPTY}, .mta = STR_EMPTY};
}

void queue_attempt_done(struct queue_attempt *attempt)
{
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    body_unref(take(attempt->content.body));
    body_unref(take(attempt->seven_bit.body));
    handler->release_snapshot(handler->context, attempt->snapshot);
}

bool queue_attempt_bar(struct queue_attempt *attempt)
{
    enum mail_reason reason = queue_is_contained(attempt->worker->queue, &attempt->meta)
                                  ? MAIL_REASON_CONTAINED
                              : attempt->transport == NULL ? MAIL_REASON_TRANSPORT_MISSING
                                                           : MAIL_REASON_NONE;
    if (reason != MAIL_REASON_NONE)
        queue_entry_hold(attempt->entry, reason, attempt->arena);
    return reason != MAIL_REASON_NONE;
}

enum result queue_attempt_load(struct queue_attempt *attempt, struct error *err)
{
    return queue_attempt_load_stored(attempt, err) == OK ? queue_unseal(attempt, err) : FAILED;
}

enum result queue_attempt_load_stored(struct queue_attempt *attempt, struct error *err)
{
    struct queue_entry *entry = attempt->entry;
    if (attempt->content.body != NULL)
        return OK;
    if (entry->parcel != NULL) {
        attempt->content = entry->parcel->content;
        attempt->content.head = arena_str(attempt->arena, entry->parcel->content.head);
        body_ref(attempt->content.body);
        return OK;
    }
    struct str meta;
    return spool_read(attempt->worker->queue->spool, entry->id, attempt->arena, &meta,
                      &attempt->content, err);
}

/* ---- time ---- */

static int64_t life_start_wall_ns(const struct queue_attempt *attempt)
{
    return queue_life_start_wall_ns(attempt->worker->queue, attempt->transport, &attempt->meta,
                                    &attempt->record);
}

static int64_t give_up_wall_ns(const struct queue_attempt *attempt)
{
    return life_start_wall_ns(attempt) + attempt->transport->expire_ns;
}

static int64_t delay_point_wall_ns(const struct queue_attempt *attempt)
{
    return life_start_wall_ns(attempt) + attempt->transport->delay_after_ns;
}

/* An entry that was never tried, or not since the start, gets its attempt, however long we were
 * away and whatever the wall clock says now. */
bool queue_is_expired(const struct queue_attempt *attempt)
{
    return attempt->record.attempts > 0 && !attempt->entry->found &&
           clock_steady_wall_ns() >= give_up_wall_ns(attempt);
}

/* ---- telling ---- */

const char *queue_direction(const struct queue_attempt *attempt)
{
    return attempt->transport != NULL ? transport_direction_name(attempt->transport) : "";
}

/* Recipients of whom the same is told: fifty that one reply took differ in their addresses. */
struct telling {
    const struct queue_attempt *attempt;
    enum event_type type;
    int64_t next_wall_ns;           /* of the next try; 0: not told */
    const struct mail_reply *reply; /* to all of them */
    struct str *addresses;
    size_t count;
};

static struct telling telling_of(struct queue_attempt *attempt)
{
    return (struct telling){.attempt = attempt,
                            .addresses =
                                arena_alloc_array(attempt->arena, attempt->meta.recipient_count + 1,
                                                  sizeof(struct str))};
}

static void tell_all(struct telling *telling)
{
    if (telling->count == 0)
        return;
    const struct queue_attempt *attempt = telling->attempt;
    const struct mail_reply *reply = telling->reply;
    int64_t next_wall_ns = telling->next_wall_ns;
    const struct queue_times *times = &attempt->times;
    char next[TIME_RFC3339_SIZE] = "", end[TIME_RFC3339_SIZE] = "", ip[NET_ADDRESS_TEXT];
    struct str next_text = STR_EMPTY, end_text = STR_EMPTY;
    if (next_wall_ns > 0) {
        next_text = clock_format_rfc3339(next_wall_ns, next);
        int64_t give_up_ns = queue_retry_give_up(attempt->transport, attempt->record.attempts,
                                                 next_wall_ns, give_up_wall_ns(attempt));
        end_text = clock_format_rfc3339(give_up_ns, end);
    }
    char enhanced[MAIL_ENHANCED_TEXT];
    struct queue_cause cause = {.id = ""};
    if (telling->type != EVENT_DELIVERY_SENT && (reply->code != 0 || reply->text.len > 0))
        queue_cause_of(attempt->arena, reply, &cause);
    struct str address = attempt->host[0] != 0 ? net_address_format(&attempt->peer, ip) : STR_EMPTY;
    const struct event_field fields[] = {
        F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
        F_C(SESSION, mail_id_text(attempt->meta.session).chars),
        F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
        F_STR(FROM, attempt->meta.sender.address),
        F_STR(TO, STR_EMPTY) /* each address */,
        F_STR(TRANSPORT, attempt->meta.transport),
        F_STR(DESTINATION, attempt->transport != NULL
                               ? queue_destination_name(attempt->transport, &attempt->meta)
                               : STR_EMPTY),
        F_C(MX, attempt->host),
        F_STR(IP, address),
        F_C(SOURCE_IP, attempt->source),
        F_STR(TLS, attempt->tls),
        F_STR(POLICY, attempt->policy),
        F_INT(ATTEMPT, attempt->record.attempts),
        F_INT(CODE, reply->code),
        F_STR(ENHANCED, mail_enhanced_text(reply->enhanced, enhanced)),
        F_STR(REPLY, reply->text),
        F_INT(QUEUE_US, times->queue_us),
        F_INT(LIMIT_US, times->limit_us),
        F_INT(DNS_US, times->dns_us),
        F_INT(CONNECT_US, times->connect_us),
        F_INT(TLS_US, times->tls_us),
        F_INT(GREETING_US, times->greeting_us),
        F_INT(TRANSFER_US, times->transfer_us),
        F_INT(SIZE, attempt->entry->ready.size),
        F_C(DIRECTION, queue_direction(attempt)),
        F_STR(PROVIDER, attempt->provider),
        F_C(CAUSE, cause.id),
        F_STR(NEXT_TRY, next_text),
        F_STR(GIVE_UP, end_text)};
    enum { ALL = sizeof fields / sizeof fields[0], OF_NEXT_TRY = 2, OF_CAUSE = 1 };
    size_t count = next_wall_ns > 0 ? ALL : ALL - OF_NEXT_TRY;
    if (telling->type == EVENT_DELIVERY_SENT)
        count = ALL - OF_NEXT_TRY - OF_CAUSE;
    event_emit_each(telling->type, fields, count, KEY_TO, telling->addresses, telling->count);
    telling->count = 0;
}

static bool is_same_reply(const struct mail_reply *a, const struct mail_reply *b)
{
    return a->code == b->code && a->enhanced.class == b->enhanced.class &&
           a->enhanced.subject == b->enhanced.subject && a->enhanced.detail == b->enhanced.detail &&
           str_equal(a->text, b->text);
}

/* Said at the latest by tell_all(). */
static void tell(struct telling *telling, enum event_type type, size_t index, int64_t next_wall_ns)
{
    const struct mail_reply *reply = &telling->attempt->results[index].said.reply;
    if (telling->count > 0 && (telling->type != type || telling->next_wall_ns != next_wall_ns ||
                               !is_same_reply(telling->reply, reply)))
        tell_all(telling);
    telling->type = type;
    telling->reply = reply;
    telling->next_wall_ns = next_wall_ns;
    telling->addresses[telling->count++] = telling->attempt->meta.recipients[index].address;
}

/* ---- sorting what came out ---- */

struct settling {
    struct queue_attempt *attempt;
    struct telling telling;
    struct queue_unit unit;
    struct queue_notice notice;       /* template: all but recipients */
    struct queue_dsn_recipient *told; /* of the notification */
    size_t told_count;
    struct queue_dsn_recipient *kept; /* aside */
    size_t kept_count;
    size_t failed; /* recipients whose failure this unit holds */
    size_t failed_told;
    size_t *failing; /* their indexes */
    bool delayed;    /* the notice about the delay is among `told` */
    bool expired;
};

static void settling_init(struct settling *settling, struct queue_attempt *attempt)
{
    size_t count = attempt->meta.recipient_count + 1;
    *settling = (struct settling){.attempt = attempt, .telling = telling_of(attempt)};
    queue_unit_init(&settling->unit, attempt->worker, attempt->arena);
    settling->told = arena_alloc_array(attempt->arena, count, sizeof *settling->told);
    settling->kept = arena_alloc_array(attempt->arena, count, sizeof *settling->kept);
    settling->failing = arena_alloc_array(attempt->arena, count, sizeof *settling->failing);
    settling->notice = (struct queue_notice){
        .worker = attempt->worker,
        .snapshot = attempt->snapshot,
        .transport = attempt->transport,
        .meta = &attempt->meta,
        .content = &attempt->content,
        .give_up_wall_ns = attempt->transport != NULL ? give_up_wall_ns(attempt) : 0,
    };
}

static struct queue_dsn_recipient describe(const struct queue_attempt *attempt, size_t index,
                                           enum queue_dsn_action action, bool expired)
{
    const struct queue_said *said = &attempt->results[index].said;
    return (struct queue_dsn_recipient){
        .recipient = &attempt->meta.recipients[index],
        .action = action,
        .expired = expired,
        .reply = said->reply,
        .mta = said->mta,
        .last_try_wall_ns = attempt->record.last_try_wall_ns,
    };
}

static void note_failed(struct settling *settling, size_t index, bool expired)
{
    struct queue_attempt *attempt = settling->attempt;
    struct queue_dsn_recipient described = describe(attempt, index, QUEUE_DSN_FAILED, expired);
    attempt->record.status[index] = QUEUE_STATUS_DONE;
    settling->failing[settling->failed++] = index;
    settling->expired = expired;
    if (attempt->meta.flags & QUEUE_META_DSN)
        return; /* a notification of ours: postmaster gets it, whole */
    switch (queue_notice_fate(&settling->notice, described.recipient)) {
    case QUEUE_FATE_SILENT:
        queue_unit_count(&settling->unit, QUEUE_COUNT_FAILED_SILENT, 1);
        break;
    case QUEUE_FATE_DSN:
        settling->told[settling->told_count++] = described;
        settling->failed_told++;
        break;
    case QUEUE_FATE_KEEP:
        settling->kept[settling->kept_count++] = described;
        break;
    }
}

static void note_delivered(struct settling *settling, size_t index)
{
    struct queue_attempt *attempt = settling->attempt;
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    const struct mail_recipient *recipient = &attempt->meta.recipients[index];
    enum queue_dsn_action action =
        attempt->transport->method == TRANSPORT_LMTP ? QUEUE_DSN_DELIVERED : QUEUE_DSN_RELAYED;
    attempt->record.status[index] = QUEUE_STATUS_DONE;
    queue_unit_count(&settling->unit, QUEUE_COUNT_DELIVERED, 1);
    tell(&settling->telling, EVENT_DELIVERY_SENT, index, 0);
    if (attempt->transport->direction == TRANSPORT_INBOUND && handler->delivered_inbound != NULL)
        handler->delivered_inbound(handler->context, recipient->address);
    if ((attempt->meta.flags & QUEUE_META_OWN_USER) != 0 && !attempt->results[index].told_onward &&
        queue_notice_wants(&settling->notice, recipient, action))
        settling->told[settling->told_count++] = describe(attempt, index, action, false);
}

static void note_deferred(struct settling *settling, size_t index)
{
    struct queue_attempt *attempt = settling->attempt;
    if (attempt->results[index].said.reply.code == 0 &&
        attempt->results[index].said.reply.text.len == 0)
        return;
    attempt->record.said[index] = &attempt->results[index].said;
}

static bool is_pending(const struct queue_attempt *attempt, size_t index)
{
    return attempt->record.status[index] == QUEUE_STATUS_PENDING;
}

/* ---- writing ---- */

/* Notices quote the message, and what is kept aside is the message. FAILED: it cannot be read now,
 * which must not cost it; a damaged one is told of without a quotation. */
static enum result load_for_notices(struct settling *settling, struct error *err) MAY_YIELD
{
    struct queue_attempt *attempt = settling->attempt;
    bool needed = settling->told_count + settling->kept_count > 0 ||
                  (settling->failed > 0 && (attempt->meta.flags & QUEUE_META_DSN) != 0);
    if (!needed || queue_attempt_load(attempt, err) == OK || err->kind == ERROR_PERMANENT)
        return OK;
    return FAILED;
}

/* Nobody can be told of them. */
static void keep_untold(struct settling *settling)
{
    for (size_t i = 0; i < settling->told_count; i++)
        if (settling->told[i].action == QUEUE_DSN_FAILED)
            settling->kept[settling->kept_count++] = settling->told[i];
}

/* The failures need more than their removal: put it into the unit. */
static void make_notices(struct settling *settling) MAY_YIELD
{
    struct queue_attempt *attempt = settling->attempt;
    struct queue_unit *unit = &settling->unit;
    if (settling->failed > 0 && (attempt->meta.flags & QUEUE_META_DSN) != 0) {
        bool passed_on = queue_notice_to_postmaster(unit, &settling->notice);
        queue_unit_count(unit, QUEUE_COUNT_FAILED_SILENT, settling->failed);
        event_emit(EVENT_DSN_FAILED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
                   F_STR(TO, attempt->meta.recipients[0].address),
                   F_STR(REPLY, attempt->results[settling->failing[0]].said.reply.text),
                   F_STR(ACTION, passed_on ? STR("postmaster") : STR("none")));
    }
    if (settling->told_count > 0) {
        settling->notice.recipients = settling->told;
        settling->notice.count = settling->told_count;
        if (queue_notice_add(unit, &settling->notice))
            queue_unit_count(unit, QUEUE_COUNT_FAILED_DSN, settling->failed_told);
        else
            keep_untold(settling);
    }
    if (settling->kept_count > 0 && attempt->content.body != NULL) {
        settling->notice.recipients = settling->kept;
        settling->notice.count = settling->kept_count;
        queue_notice_keep(unit, &settling->notice, &attempt->content);
        event_emit(EVENT_DELIVERY_HELD, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
                   F_STR(FROM, attempt->meta.sender.address), F_STR(REASON, STR("undeliverable")),
                   F_INT(RECIPIENTS, settling->kept_count));
    } else {
        queue_unit_count(unit, QUEUE_COUNT_DAMAGED, settling->kept_count);
    }
}

static void emit_done(const struct queue_attempt *attempt)
{
    int64_t age_ns = clock_steady_wall_ns() - attempt->meta.accepted_wall_ns;
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_INT(RECIPIENTS, attempt->meta.recipient_count),
               F_INT(DURATION_US, age_ns > 0 ? age_ns / NS_PER_US : 0));
}

/* The unit could not be made durable: what failed stays pending and is looked at in a minute, or
 * when the others are due; the sender is told of the delay then. */
static void take_back(struct settling *settling, const struct error *err)
{
    struct queue_attempt *attempt = settling->attempt;
    for (size_t i = 0; i < settling->failed; i++) {
        size_t index = settling->failing[i];
        attempt->record.status[index] = QUEUE_STATUS_PENDING;
        if (attempt->meta.recipient_count <= QUEUE_RECIPIENTS_MAX)
            attempt->record.said[index] = &attempt->results[index].said;
    }
    int64_t again_ns = clock_steady_wall_ns() + AGAIN_S * NS_PER_S;
    if (attempt->record.due_wall_ns < again_ns)
        attempt->record.due_wall_ns = again_ns;
    attempt->entry->postponed = true;
    if (settling->delayed)
        attempt->record.delay_told = false;
    event_emit(EVENT_DELIVERY_DEFERRED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars), F_C(ERROR, err->text),
               F_STR(DETAIL, STR("the failure could not be written; it is tried again")));
}

/* (An entry before its content run may have more recipients than a record can tell apart, but then
 * all of them fare alike.) */
static void put_entry(struct settling *settling, bool done)
{
    struct queue_entry *entry = settling->attempt->entry;
    if (done) {
        queue_unit_remove(&settling->unit, entry);
        return;
    }
    queue_entry_store(entry, &settling->attempt->record);
    queue_unit_state(&settling->unit, entry);
}

/* Everything in one unit; what needs to be durable is waited for. */
static enum result write_all(struct settling *settling, struct error *err) MAY_YIELD
{
    if (load_for_notices(settling, err) == FAILED)
        return FAILED;
    make_notices(settling);
    put_entry(settling, queue_record_pending(&settling->attempt->record) == 0);
    if (settling->unit.added_count > 0)
        return queue_unit_commit(&settling->unit, err);
    queue_unit_write(&settling->unit);
    return OK;
}

/* Write the record or the removal with everything else; then the entry goes where it belongs.
 * FAILED: the failures are still to come. */
static enum result finish(struct settling *settling) MAY_YIELD
{
    static const enum queue_counter sure[] = {QUEUE_COUNT_DELIVERED, QUEUE_COUNT_DISCARDED,
                                              QUEUE_COUNT_DROPPED};
    enum { SURE = sizeof sure / sizeof *sure };
    struct queue_attempt *attempt = settling->attempt;
    struct queue_entry *entry = attempt->entry;
    struct queue_unit *unit = &settling->unit;
    struct error err;
    int64_t counts[SURE]; /* of what happened, whether the failures can be written or not */
    for (size_t i = 0; i < SURE; i++)
        counts[i] = unit->counts[sure[i]];
    enum result result = write_all(settling, &err);
    if (result == FAILED) {
        take_back(settling, &err);
        queue_unit_init(unit, attempt->worker, attempt->arena);
        for (size_t i = 0; i < SURE; i++)
            queue_unit_count(unit, sure[i], (uint64_t)counts[i]);
        put_entry(settling, queue_record_pending(&attempt->record) == 0);
        queue_unit_write(unit);
    }
    if (queue_record_pending(&attempt->record) == 0) {
        emit_done(attempt);
        queue_entry_free(entry);
    } else {
        queue_parcel_unref(take(entry->parcel)); /* later attempts read the spool */
        queue_entry_place(entry);
    }
    return result;
}

static enum result finish_shielded(struct settling *settling) MAY_YIELD
{
    struct scope scope;
    scope_open_shielded(&scope, clock_deadline(SETTLE_S * NS_PER_S));
    enum result result = finish(settling);
    scope_close(&scope);
    return result;
}

/* ---- after an attempt ---- */

static void note_delay(struct settling *settling)
{
    struct queue_attempt *attempt = settling->attempt;
    if (attempt->record.delay_told || clock_steady_wall_ns() < delay_point_wall_ns(attempt) ||
        (attempt->meta.flags & QUEUE_META_DSN) != 0)
        return;
    attempt->record.delay_told = true;
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (is_pending(attempt, i) &&
            queue_notice_fate(&settling->notice, &attempt->meta.recipients[i]) != QUEUE_FATE_KEEP &&
            queue_notice_wants(&settling->notice, &attempt->meta.recipients[i],
                               QUEUE_DSN_DELAYED)) {
            settling->told[settling->told_count++] = describe(attempt, i, QUEUE_DSN_DELAYED, false);
            settling->delayed = true;
        }
}

static void sort_results(struct settling *settling, bool last)
{
    struct queue_attempt *attempt = settling->attempt;
    for (size_t i = 0; i < attempt->meta.recipient_count; i++) {
        if (!is_pending(attempt, i))
            continue;
        switch (attempt->results[i].verdict) {
        case QUEUE_VERDICT_DELIVERED:
            note_delivered(settling, i);
            break;
        case QUEUE_VERDICT_DISCARDED:
            attempt->record.status[i] = QUEUE_STATUS_DONE;
            queue_unit_count(&settling->unit, QUEUE_COUNT_DISCARDED, 1);
            break;
        case QUEUE_VERDICT_FAILED:
            tell(&settling->telling, EVENT_DELIVERY_FAILED, i, 0);
            note_failed(settling, i, false);
            break;
        case QUEUE_VERDICT_OPEN:
        case QUEUE_VERDICT_DEFERRED:
            note_deferred(settling, i);
            if (last) {
                tell(&settling->telling, EVENT_DELIVERY_EXPIRED, i, 0);
                note_failed(settling, i, true);
            }
            break;
        }
    }
    tell_all(&settling->telling);
}

/* What an operator asked for while the attempt ran. The wish that it fails stays: if that cannot be
 * written now, it is granted later (queue_grant_wish); else the entry is gone. */
static void apply_wish(struct settling *settling)
{
    struct queue_attempt *attempt = settling->attempt;
    int wish = (int)attempt->entry->wish - 1;
    if (wish != QUEUE_FAIL)
        attempt->entry->wish = 0;
    if (wish == QUEUE_HOLD || (attempt->hold && wish != QUEUE_FAIL)) {
        attempt->record.held = true;
        attempt->record.reason = attempt->hold ? MAIL_REASON_POLICY : MAIL_REASON_ADMIN;
        attempt->record.held_since_wall_ns = clock_steady_wall_ns();
    }
    if (wish != QUEUE_FAIL && wish != QUEUE_DROP)
        return;
    for (size_t i = 0; i < attempt->meta.recipient_count; i++) {
        if (!is_pending(attempt, i))
            continue;
        tell(&settling->telling,
             wish == QUEUE_DROP ? EVENT_DELIVERY_DROPPED : EVENT_DELIVERY_FAILED, i, 0);
        if (wish == QUEUE_FAIL) {
            note_failed(settling, i, false);
            continue;
        }
        attempt->record.status[i] = QUEUE_STATUS_DONE;
        queue_unit_count(&settling->unit, QUEUE_COUNT_DROPPED, 1);
    }
    tell_all(&settling->telling);
}

void queue_settle(struct queue_attempt *attempt)
{
    struct settling settling;
    int64_t now_wall_ns = clock_steady_wall_ns();
    int64_t due_wall_ns = attempt->record.due_wall_ns;
    queue_entry_not_fresh(attempt->entry);
    settling_init(&settling, attempt);
    if (!attempt->stopped) {
        attempt->entry->found = false;
        attempt->record.attempts++;
        attempt->record.last_try_wall_ns = attempt->start_wall_ns;
        /* on the monotonic clock, so that a step of the wall clock in between does no harm */
        int64_t now_ns = clock_monotonic_ns();
        int64_t due_ns = queue_retry_due(attempt->transport, attempt->record.attempts,
                                         attempt->start_ns, now_ns, (uint32_t)random_below(~0u));
        due_wall_ns = due_ns < 0 ? -1 : now_wall_ns + (due_ns - now_ns);
        if (attempt->delay_ns > 0)
            due_wall_ns = now_wall_ns + attempt->delay_ns;
    }
    bool last = !attempt->stopped && !attempt->hold &&
                (due_wall_ns < 0 || now_wall_ns >= give_up_wall_ns(attempt));
    sort_results(&settling, last);
    attempt->record.due_wall_ns = due_wall_ns < 0 ? 0 : due_wall_ns;
    if (!attempt->stopped && !attempt->hold && !last) {
        for (size_t i = 0; i < attempt->meta.recipient_count; i++)
            if (is_pending(attempt, i))
                tell(&settling.telling, EVENT_DELIVERY_DEFERRED, i, due_wall_ns);
        tell_all(&settling.telling);
        note_delay(&settling);
    }
    apply_wish(&settling);
    (void)finish_shielded(&settling);
}

/* ---- without an attempt ---- */

void queue_settle_unread(struct queue_attempt *attempt, const struct error *err)
{
    struct settling settling;
    queue_entry_not_fresh(attempt->entry);
    settling_init(&settling, attempt);
    attempt->record.due_wall_ns = clock_steady_wall_ns() + AGAIN_S * NS_PER_S;
    event_emit(EVENT_DELIVERY_DEFERRED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars), F_C(ERROR, err->text),
               F_STR(DETAIL, STR("the spool could not be read; this counts as no attempt")));
    apply_wish(&settling);
    (void)finish_shielded(&settling);
}

/* What was said last stands in the results, so that the sender is told. */
static void recall(struct queue_attempt *attempt)
{
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (is_pending(attempt, i) && attempt->record.said[i] != NULL)
            attempt->results[i].said = *attempt->record.said[i];
}

void queue_settle_time(struct queue_attempt *attempt)
{
    struct settling settling;
    settling_init(&settling, attempt);
    recall(attempt);
    if (queue_is_expired(attempt))
        sort_results(&settling, true);
    else
        note_delay(&settling);
    apply_wish(&settling);
    (void)finish_shielded(&settling);
}

enum result queue_settle_refused(struct queue_attempt *attempt, const struct mail_reply *reply)
{
    return queue_settle_refused_with(attempt, reply, NULL);
}

enum result queue_settle_refused_with(struct queue_attempt *attempt, const struct mail_reply *reply,
                                      const struct queue_content_run *run)
{
    struct settling settling;
    settling_init(&settling, attempt);
    if (run != NULL)
        queue_content_add(&settling.unit, attempt, run, /* generated_only= */ true);
    recall(attempt);
    for (size_t i = 0; i < attempt->meta.recipient_count; i++) {
        if (!is_pending(attempt, i))
            continue;
        if (reply != NULL)
            attempt->results[i].said = (struct queue_said){.reply = *reply, .mta = STR_EMPTY};
        tell(&settling.telling, EVENT_DELIVERY_FAILED, i, 0);
        note_failed(&settling, i, false);
    }
    tell_all(&settling.telling);
    return finish_shielded(&settling);
}

void queue_settle_damaged(struct queue_attempt *attempt)
{
    struct queue_entry *entry = attempt->entry;
    struct queue_unit unit;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    queue_unit_count(&unit, QUEUE_COUNT_DAMAGED, entry->pending);
    queue_unit_remove(&unit, entry);
    queue_unit_write(&unit);
    event_emit(EVENT_SPOOL_DAMAGED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(entry->id).chars), F_INT(RECIPIENTS, entry->pending));
    queue_entry_free(entry);
}

void queue_settle_dropped(struct queue_attempt *attempt)
{
    struct queue_unit unit;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    queue_unit_count(&unit, QUEUE_COUNT_DROPPED, attempt->entry->pending);
    queue_unit_remove(&unit, attempt->entry);
    queue_unit_write(&unit);
    event_emit(EVENT_DELIVERY_DROPPED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_INT(RECIPIENTS, attempt->entry->pending));
    queue_entry_free(attempt->entry);
}
