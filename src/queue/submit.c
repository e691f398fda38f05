/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/submit.c - a message becomes entries, durable before the client hears 250.
 */
#include "base/check.h"
#include "event/event.h"
#include "queue/settle.h"
#include "queue/submit.h"

#include <string.h>

enum {
    FRESH_MIN = 200,    /* untried messages that never make anybody wait */
    LARGE_MIN_MB = 128, /* the same for large ones, by their size */
    WAIT_MAX_MS = 1000,
};

/* ---- back-pressure ---- */

/* The destinations take less than comes in, and do take something. Those that take nothing do not
 * count: their mail would hold up that of the others. */
static bool is_behind(struct queue_worker *worker)
{
    double allowed = 0.2 * worker->rate;
    double least = (double)FRESH_MIN / (double)worker->queue->worker_count;
    if (allowed < least)
        allowed = least;
    return (double)worker->fresh.small > allowed && !worker->stopping &&
           (double)queue_site_moving_fresh(worker).small > allowed;
}

/* Large ones are behind much sooner: a hundred of them are gigabytes. They wait among themselves,
 * so that small ones neither wait for them nor find all connections busy with them. */
static bool large_are_behind(struct queue_worker *worker)
{
    uint64_t allowed = (UINT64_C(1) << 20) * LARGE_MIN_MB / worker->queue->worker_count;
    return worker->fresh.large_bytes > allowed && !worker->stopping &&
           queue_site_moving_fresh(worker).large_bytes > allowed;
}

static bool is_large(const struct queue_submission *submission)
{
    for (size_t i = 0; i < submission->group_count; i++)
        if (mail_content_size(&submission->groups[i].content) > QUEUE_SMALL_MAX)
            return true;
    return false;
}

/* Replies wait, they never refuse: after a second the message is taken anyway. */
static enum result wait_for_room(struct queue_worker *worker, bool large,
                                 struct error *err) MAY_YIELD
{
    bool (*behind)(struct queue_worker *) = large ? large_are_behind : is_behind;
    struct cond *drained = large ? &worker->drained_large : &worker->drained;
    struct scope scope;
    struct error end = {0};
    if (!behind(worker))
        return OK;
    scope_open(&scope, clock_deadline(WAIT_MAX_MS * NS_PER_MS));
    while (behind(worker) && cond_wait(drained, &end) == OK)
        ;
    scope_close(&scope);
    return fiber_check(err);
}

/* ---- entries of a group ---- */

struct splitting {
    struct queue_unit *unit;
    struct queue_parcel *parcel;
    struct queue_meta meta; /* but for recipients */
    bool held;
    enum mail_reason reason;
    uint64_t size;
    bool fresh;
};

static void add_entry(struct splitting *splitting, struct mail_recipient *recipients, size_t count)
{
    struct queue_unit *unit = splitting->unit;
    struct queue_record record;
    queue_record_init(&record, count, unit->arena);
    if (splitting->held) {
        record.held = true;
        record.reason = splitting->reason;
        record.held_since_wall_ns = clock_steady_wall_ns();
    }
    splitting->meta.recipients = recipients;
    splitting->meta.recipient_count = count;
    struct queue_entry *entry = queue_entry_new(unit->worker, mail_id_new(), &splitting->meta,
                                                &record, splitting->parcel, splitting->size);
    entry->fresh = splitting->fresh && !splitting->held;
    if (entry->fresh)
        queue_fresh_count(&unit->worker->fresh, entry, 1);
    queue_unit_add(unit, entry, &splitting->meta);
}

/* Stable, and quick for as many as a client may name. */
static void sort_by_domain(struct arena *arena, struct mail_recipient *recipients, size_t count)
{
    struct mail_recipient *from = recipients;
    struct mail_recipient *to = arena_alloc_array(arena, count, sizeof *to);
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t begin = 0; begin < count; begin += 2 * width) {
            size_t middle = begin + width < count ? begin + width : count;
            size_t end = middle + width < count ? middle + width : count;
            size_t left = begin, right = middle;
            for (size_t at = begin; at < end; at++) {
                bool take_left =
                    left < middle &&
                    (right == end || str_compare(from[left].domain, from[right].domain) <= 0);
                to[at] = from[take_left ? left++ : right++];
            }
        }
        struct mail_recipient *other = from;
        from = to;
        to = other;
    }
    if (from != recipients)
        memcpy(recipients, from, count * sizeof *from);
}

static void split(struct splitting *splitting, const struct mail_recipient *recipients,
                  size_t count, bool by_domain)
{
    struct arena *arena = splitting->unit->arena;
    struct mail_recipient *all = arena_alloc_array(arena, count, sizeof *all);
    memcpy(all, recipients, count * sizeof *all);
    if (by_domain)
        sort_by_domain(arena, all, count);
    size_t begin = 0;
    while (begin < count) {
        size_t end = begin + 1;
        while (end < count && end - begin < QUEUE_RECIPIENTS_MAX &&
               (!by_domain || str_equal(all[end].domain, all[begin].domain)))
            end++;
        add_entry(splitting, &all[begin], end - begin);
        begin = end;
    }
}

/* What a content run changed for this group. */
static void make_own(struct queue_meta *meta, const struct queue_group *group)
{
    if (group->sender != NULL)
        meta->sender = *group->sender;
    bool is_other = group->message.high != 0 || group->message.low != 0;
    if (is_other) {
        meta->message = group->message;
        meta->flags &= ~(unsigned)QUEUE_META_HEADER_UTF8;
    }
    if (is_other || group->seven_bit)
        meta->flags &= ~(unsigned)QUEUE_META_HAS_8BIT;
    meta->flags |= (group->has_8bit ? QUEUE_META_HAS_8BIT : 0u) |
                   (group->header_utf8 ? QUEUE_META_HEADER_UTF8 : 0u);
    if (group->sealed)
        meta->flags |= QUEUE_META_SEALED;
    if (group->generated) {
        meta->flags |= QUEUE_META_DSN | QUEUE_META_OWN_USER;
        meta->flags &= ~(unsigned)QUEUE_META_SENDER_VERIFIED;
    }
}

void queue_plan_group(struct queue_unit *unit, const struct queue_snapshot *snapshot,
                      const struct queue_meta *meta, const struct queue_group *group, bool fresh)
{
    const struct queue_handler *handler = &unit->worker->queue->handler;
    const struct transport *transport = handler->transport(snapshot, group->transport);
    struct splitting splitting = {
        .unit = unit,
        .meta = *meta,
        .held = group->held,
        .reason = group->held_reason,
        .size = mail_content_size(&group->content),
        .fresh = fresh,
    };
    splitting.meta.transport = group->transport;
    splitting.meta.content_flow = group->content_flow;
    splitting.meta.kept = group->kept;
    make_own(&splitting.meta, group);
    if (group->recipient_count == 0)
        return;
    if (group->generated)
        queue_unit_count(unit, QUEUE_COUNT_GENERATED, group->recipient_count);
    if (transport != NULL && transport->method == TRANSPORT_DISCARD && !group->held &&
        group->content_flow.len == 0) {
        queue_unit_count(unit, QUEUE_COUNT_DISCARDED, group->recipient_count);
        return;
    }
    splitting.parcel = queue_parcel_new(unit->worker->queue, &group->content);
    if (transport == NULL && !group->held) {
        splitting.held = true;
        splitting.reason = MAIL_REASON_TRANSPORT_MISSING;
    }
    if (group->content_flow.len > 0) {
        struct mail_recipient *all =
            arena_alloc_array(unit->arena, group->recipient_count, sizeof *all);
        memcpy(all, group->recipients, group->recipient_count * sizeof *all);
        add_entry(&splitting, all, group->recipient_count);
    } else {
        split(&splitting, group->recipients, group->recipient_count,
              transport != NULL && transport->method == TRANSPORT_LOOKUP_MX);
    }
    queue_parcel_unref(splitting.parcel);
}

/* ---- recipients that a content flow refused ---- */

static void plan_refused(struct queue_unit *unit, const struct queue_snapshot *snapshot,
                         const struct queue_submission *submission,
                         const struct queue_meta *meta) MAY_YIELD
{
    size_t count = submission->refused_count;
    struct mail_content content = {0};
    struct queue_notice notice = {.worker = unit->worker, .snapshot = snapshot, .meta = meta};
    struct queue_dsn_recipient *told = arena_alloc_array(unit->arena, count, sizeof *told);
    struct queue_dsn_recipient *kept = arena_alloc_array(unit->arena, count, sizeof *kept);
    size_t told_count = 0, kept_count = 0;
    if (submission->refused_content != NULL)
        content = *submission->refused_content;
    else if (submission->group_count > 0)
        content = submission->groups[0].content;
    notice.content = &content;
    for (size_t i = 0; i < count; i++) {
        struct queue_dsn_recipient described = {.recipient = &submission->refused[i],
                                                .action = QUEUE_DSN_FAILED,
                                                .reply = submission->refused_replies[i],
                                                .last_try_wall_ns = meta->accepted_wall_ns};
        enum queue_fate fate = queue_notice_fate(&notice, described.recipient);
        if (fate == QUEUE_FATE_KEEP && content.body != NULL)
            kept[kept_count++] = described;
        else if (fate == QUEUE_FATE_DSN)
            told[told_count++] = described;
        else
            queue_unit_count(unit, QUEUE_COUNT_FAILED_SILENT, 1);
    }
    if (told_count > 0) {
        notice.recipients = told;
        notice.count = told_count;
        if (queue_notice_add(unit, &notice))
            queue_unit_count(unit, QUEUE_COUNT_FAILED_DSN, told_count);
        else if (content.body == NULL)
            queue_unit_count(unit, QUEUE_COUNT_FAILED_SILENT, told_count);
        else /* nobody can be told */
            while (told_count > 0)
                kept[kept_count++] = told[--told_count];
    }
    if (kept_count > 0) {
        notice.recipients = kept;
        notice.count = kept_count;
        queue_notice_keep(unit, &notice, &content);
    }
}

/* ---- the submission ---- */

static struct queue_meta meta_of(const struct queue_submission *submission)
{
    return (struct queue_meta){
        .message = submission->message,
        .session = submission->session,
        .accepted_wall_ns = clock_steady_wall_ns(),
        .flags = (submission->own_user ? QUEUE_META_OWN_USER : 0u) |
                 (submission->sender_verified ? QUEUE_META_SENDER_VERIFIED : 0u) |
                 (submission->has_8bit ? QUEUE_META_HAS_8BIT : 0u) |
                 (submission->needs_smtputf8 ? QUEUE_META_HEADER_UTF8 : 0u),
        .sender = *submission->sender,
        .fairness_key = submission->fairness_key,
        .origin = submission->origin,
    };
}

static size_t count_all(const struct queue_submission *submission)
{
    size_t count = submission->refused_count + (size_t)submission->discarded;
    for (size_t i = 0; i < submission->group_count; i++)
        if (!submission->groups[i].generated)
            count += submission->groups[i].recipient_count;
    return count - (size_t)submission->added;
}

/* Of what all entries have in common; sealing makes it a little longer. */
static size_t fixed_size(const struct queue_meta *meta)
{
    return meta->origin.len + meta->fairness_key.len + meta->sender.address.len +
           meta->sender.envid.len + 1024;
}

bool queue_groups_fit(const struct queue_meta *meta, const struct queue_group *groups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct queue_group *group = &groups[i];
        size_t size = fixed_size(meta) + group->transport.len + group->content_flow.len +
                      group->kept.step.len + group->kept.quarantine.len + group->kept.why.len +
                      group->kept.findings.len + group->kept.label.len;
        if (group->sender != NULL)
            size += group->sender->address.len + group->sender->envid.len;
        for (size_t j = 0; j < group->recipient_count; j++)
            size += 16 + group->recipients[j].address.len + group->recipients[j].domain.len +
                    group->recipients[j].orcpt.len;
        if (size > QUEUE_META_MAX)
            return false;
    }
    return true;
}

/* The submission with what goes into a quarantine sealed. */
static enum result seal(struct queue *queue, const struct queue_submission *submission,
                        struct arena *arena, struct queue_submission *out,
                        struct error *err) MAY_YIELD
{
    size_t count = submission->group_count;
    struct queue_group *groups = arena_alloc_array(arena, count + 1, sizeof *groups);
    if (count > 0)
        memcpy(groups, submission->groups, count * sizeof *groups);
    *out = *submission;
    out->groups = groups;
    return queue_seal_groups(queue, submission->message, groups, count, arena, err);
}

/* Entries of refused ones have one recipient each. */
static bool fits(const struct queue_submission *submission)
{
    struct queue_meta meta = meta_of(submission);
    return fixed_size(&meta) < QUEUE_META_MAX / 2 &&
           queue_groups_fit(&meta, submission->groups, submission->group_count);
}

static enum result submit(struct queue_worker *worker, const struct queue_submission *submission,
                          const struct queue_snapshot *snapshot, struct arena *arena,
                          struct error *err) MAY_YIELD
{
    struct queue_unit unit;
    struct queue_meta meta = meta_of(submission);
    queue_unit_init(&unit, worker, arena);
    queue_unit_count(&unit, QUEUE_COUNT_ACCEPTED, count_all(submission));
    queue_unit_count(&unit, QUEUE_COUNT_DISCARDED, submission->discarded);
    queue_unit_count(&unit, QUEUE_COUNT_GENERATED, submission->added);
    for (size_t i = 0; i < submission->group_count; i++)
        queue_plan_group(&unit, snapshot, &meta, &submission->groups[i], /* fresh= */ true);
    if (submission->refused_count > 0)
        plan_refused(&unit, snapshot, submission, &meta);
    return queue_unit_commit(&unit, err);
}

enum result queue_submit(struct queue *queue, const struct queue_submission *submission,
                         struct error *err)
{
    struct queue_worker *worker = queue_worker_current(queue);
    const struct queue_handler *handler = &queue->handler;
    if (worker->stopping || !worker->joined)
        return fail(err, ERROR_TEMPORARY, "the queue is stopping");
    if (!fits(submission))
        return fail(err, ERROR_LIMIT, "the envelope is too large");
    if (wait_for_room(worker, is_large(submission), err) == FAILED)
        return FAILED;
    struct arena *arena = arena_new(0);
    const struct queue_snapshot *snapshot = handler->take_snapshot(handler->context);
    struct queue_submission sealed;
    enum result result = seal(queue, submission, arena, &sealed, err);
    if (result == OK)
        result = submit(worker, &sealed, snapshot, arena, err);
    handler->release_snapshot(handler->context, snapshot);
    arena_free(arena);
    return result;
}
