/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/content_run.c - `processing: queued`: the content flow runs from the queue.
 *
 * Whatever it says, the entry is replaced, refused or held in one durable unit. A flow that cannot
 * decide runs again after 1m, 5m, then every 15m; after a day the entry is held, never dropped.
 */
#include "base/check.h"
#include "event/event.h"
#include "queue/retry.h"
#include "queue/settle.h"
#include "queue/submit.h"

enum { SETTLE_S = 60 };

/* For the call into the gateway, which may suspend. */
NO_YIELD_CHECK static enum queue_content_verdict
run_flow(struct queue_attempt *attempt, struct queue_content_run *run, struct mail_reply *out_reply)
{
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    return handler->run_content(handler->context, attempt->snapshot, run, out_reply);
}

void queue_content_add(struct queue_unit *unit, const struct queue_attempt *attempt,
                       const struct queue_content_run *run, bool generated_only)
{
    struct queue_meta meta = attempt->meta;
    meta.kept = (struct queue_kept){0};
    for (size_t i = 0; i < run->group_count; i++) {
        const struct queue_group *group = &run->groups[i];
        struct queue_meta own = meta;
        if (group->content_flow.len == 0)
            own.origin = STR_EMPTY; /* no flow will ask for it any more */
        if (group->generated || !generated_only)
            queue_plan_group(unit, attempt->snapshot, &own, group, /* fresh= */ false);
    }
}

/* The handler named no groups: the entry as it is. */
static void keep_as_it_is(const struct queue_attempt *attempt, struct queue_content_run *run,
                          bool held)
{
    struct queue_group *group = ARENA_NEW(attempt->arena, struct queue_group);
    *group = (struct queue_group){
        .content = attempt->content,
        .transport = attempt->meta.transport,
        .recipients = attempt->meta.recipients,
        .recipient_count = attempt->meta.recipient_count,
        .held = held,
        .held_reason = run->held_reason != MAIL_REASON_NONE ? run->held_reason : MAIL_REASON_POLICY,
    };
    run->groups = group;
    run->group_count = 1;
}

static void tell_held(const struct queue_attempt *attempt, const struct queue_content_run *run)
{
    for (size_t i = 0; i < run->group_count; i++) {
        const struct queue_group *group = &run->groups[i];
        if (group->held)
            event_emit(group->kept.quarantine.len ? EVENT_MESSAGE_QUARANTINED : EVENT_MESSAGE_HELD,
                       F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
                       F_STR(FLOW, attempt->meta.content_flow), F_STR(STEP, group->kept.step),
                       F_STR(TRANSPORT, group->transport), F_C(DIRECTION, queue_direction(attempt)),
                       F_C(REASON, mail_reason_name(group->held_reason)),
                       F_STR(QUARANTINE, group->kept.quarantine), F_STR(DETAIL, group->kept.why),
                       F_INT(RECIPIENTS, group->recipient_count));
    }
}

/* Everything as before, and once more in a minute. */
static void put_back(struct queue_attempt *attempt)
{
    attempt->record.due_wall_ns = clock_steady_wall_ns() + 60 * NS_PER_S;
    queue_entry_store(attempt->entry, &attempt->record);
    queue_entry_place(attempt->entry);
}

static void put_back_unwritten(struct queue_attempt *attempt, const struct error *err)
{
    event_emit(EVENT_DELIVERY_DEFERRED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars), F_C(ERROR, err->text),
               F_STR(DETAIL, STR("what its flow decided could not be written; it runs again")));
    put_back(attempt);
}

/* The entry gives way to those that the flow wants. */
static void replace(struct queue_attempt *attempt, const struct queue_content_run *run) MAY_YIELD
{
    struct queue_unit unit;
    struct error err;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    unit.replaces = attempt->entry;
    queue_content_add(&unit, attempt, run, /* generated_only= */ false);
    queue_unit_count(&unit, QUEUE_COUNT_DISCARDED, run->discarded);
    queue_unit_count(&unit, QUEUE_COUNT_GENERATED, run->added);
    queue_unit_remove(&unit, attempt->entry);
    if (queue_unit_commit(&unit, &err) == OK) {
        tell_held(attempt, run);
        queue_entry_free(attempt->entry);
        return;
    }
    put_back_unwritten(attempt, &err);
}

/* What the flow said stands with the recipients, so that an operator sees why they wait; a record
 * has room for that only while they are not too many. */
static void note_reply(struct queue_attempt *attempt, const struct mail_reply *reply)
{
    if (attempt->meta.recipient_count > QUEUE_RECIPIENTS_MAX)
        return;
    struct queue_said *said = ARENA_NEW(attempt->arena, struct queue_said);
    *said = (struct queue_said){.reply = *reply, .mta = STR_EMPTY};
    for (size_t i = 0; reply->code != 0 && i < attempt->meta.recipient_count; i++)
        if (attempt->record.status[i] == QUEUE_STATUS_PENDING)
            attempt->record.said[i] = said;
}

static void defer(struct queue_attempt *attempt, const struct mail_reply *reply)
{
    struct queue_entry *entry = attempt->entry;
    struct queue_record *record = &attempt->record;
    int64_t now_ns = clock_steady_wall_ns();
    int64_t lived_ns = now_ns - attempt->meta.accepted_wall_ns - record->held_total_ns;
    if (attempt->stopped) {
        queue_entry_place(entry);
        return;
    }
    record->attempts++;
    record->last_try_wall_ns = attempt->start_wall_ns;
    record->due_wall_ns = queue_retry_content_due(record->attempts, attempt->start_wall_ns, now_ns);
    note_reply(attempt, reply);
    queue_entry_store(entry, record);
    if (lived_ns >= (int64_t)QUEUE_CONTENT_HOLD_AFTER_S * NS_PER_S) {
        queue_entry_hold(entry, MAIL_REASON_BACKEND_DOWN, attempt->arena);
        return;
    }
    struct queue_unit unit;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    queue_unit_state(&unit, entry);
    queue_unit_write(&unit);
    event_emit(EVENT_MESSAGE_DEFERRED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(entry->id).chars), F_STR(FLOW, attempt->meta.content_flow),
               F_C(DIRECTION, queue_direction(attempt)), F_INT(ATTEMPT, record->attempts),
               F_STR(REPLY, reply->text));
    queue_entry_place(entry);
}

static void tell_put_back(const struct queue_attempt *attempt, const struct error *err)
{
    event_emit(EVENT_QUARANTINE_PROBLEM, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars), F_C(ERROR, err->text),
               F_C(DETAIL, "its content flow runs again in a minute"));
}

/* What was in quarantine leaves it, and what goes into one is sealed. */
static enum result make_storable(struct queue_attempt *attempt, struct queue_content_run *run,
                                 struct error *err) MAY_YIELD
{
    return queue_unseal_for_good(attempt, run, err) == OK
               ? queue_seal_groups(attempt->worker->queue, attempt->meta.message, run->groups,
                                   run->group_count, attempt->arena, err)
               : FAILED;
}

static void discard(struct queue_attempt *attempt, const struct queue_content_run *run) MAY_YIELD
{
    struct queue_unit unit;
    struct error err;
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    queue_content_add(&unit, attempt, run, /* generated_only= */ true);
    queue_unit_count(&unit, QUEUE_COUNT_DISCARDED, attempt->entry->pending);
    queue_unit_remove(&unit, attempt->entry);
    if (queue_unit_commit(&unit, &err) != OK) {
        put_back_unwritten(attempt, &err);
        return;
    }
    event_emit(EVENT_MESSAGE_DISCARDED, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_STR(FLOW, attempt->meta.content_flow), F_C(DIRECTION, queue_direction(attempt)),
               F_INT(RECIPIENTS, attempt->entry->pending));
    queue_entry_free(attempt->entry);
}

bool queue_grant_wish(struct queue_attempt *attempt)
{
    struct mail_reply reply =
        mail_reply_of(554, 5, 7, 0, STR("the message was refused by an administrator"));
    int wish = (int)attempt->entry->wish - 1;
    if (wish != QUEUE_FAIL) /* as settle.c does */
        attempt->entry->wish = 0;
    switch (wish) {
    case QUEUE_HOLD:
        queue_entry_hold(attempt->entry, MAIL_REASON_ADMIN, attempt->arena);
        return true;
    case QUEUE_FAIL:
        (void)queue_settle_refused(attempt, &reply);
        return true;
    case QUEUE_DROP:
        queue_settle_dropped(attempt);
        return true;
    default:
        return false;
    }
}

/* Its flow added so many recipients or findings that no record of the spool takes them: as it is,
 * for a person to decide. */
static void keep_too_large(struct queue_attempt *attempt)
{
    event_emit(EVENT_DAEMON_WARNING, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_STR(FLOW, attempt->meta.content_flow),
               F_C(DETAIL, "what its content flow made of the envelope is too large: it is held"));
    queue_entry_hold(attempt->entry, MAIL_REASON_SIZE, attempt->arena);
}

static void act(struct queue_attempt *attempt, enum queue_content_verdict verdict,
                const struct mail_reply *reply, struct queue_content_run *run) MAY_YIELD
{
    struct scope scope;
    scope_open_shielded(&scope, clock_deadline(SETTLE_S * NS_PER_S));
    struct error err;
    bool passes = verdict == QUEUE_CONTENT_DELIVER || verdict == QUEUE_CONTENT_HOLD;
    if (passes && run->group_count == 0)
        keep_as_it_is(attempt, run, verdict == QUEUE_CONTENT_HOLD);
    if (attempt->entry->wish == 0 && passes &&
        !queue_groups_fit(&attempt->meta, run->groups, run->group_count)) {
        keep_too_large(attempt);
        scope_close(&scope);
        return;
    }
    if ((verdict != QUEUE_CONTENT_DEFER || attempt->entry->wish != 0) &&
        make_storable(attempt, run, &err) == FAILED) {
        tell_put_back(attempt, &err);
        put_back(attempt);
        scope_close(&scope);
        return;
    }
    if (queue_grant_wish(attempt)) { /* comes before what the flow says */
        scope_close(&scope);
        return;
    }
    switch (verdict) {
    case QUEUE_CONTENT_DELIVER:
    case QUEUE_CONTENT_HOLD:
        replace(attempt, run);
        break;
    case QUEUE_CONTENT_DEFER:
        defer(attempt, reply);
        break;
    case QUEUE_CONTENT_REJECT:
        (void)queue_settle_refused_with(attempt, reply, run);
        break;
    case QUEUE_CONTENT_DISCARD:
        discard(attempt, run);
        break;
    }
    scope_close(&scope);
}

/* It was released, and its key is gone: back to where it lay, for the key may come again. */
static void keep_unreadable(struct queue_attempt *attempt, const struct error *err)
{
    event_emit(EVENT_QUARANTINE_UNREADABLE, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_STR(QUARANTINE, attempt->meta.kept.quarantine), F_C(ERROR, err->text));
    queue_entry_hold(attempt->entry, MAIL_REASON_ADMIN, attempt->arena);
}

static void run_entry(struct queue_attempt *attempt) MAY_YIELD
{
    struct error err;
    struct mail_reply reply = {0};
    if (queue_is_contained(attempt->worker->queue, &attempt->meta)) {
        queue_entry_hold(attempt->entry, MAIL_REASON_CONTAINED, attempt->arena);
        return;
    }
    if (queue_attempt_load_stored(attempt, &err) == FAILED) {
        if (err.kind == ERROR_PERMANENT) {
            queue_settle_damaged(attempt);
            return;
        }
        attempt->stopped = err.kind == ERROR_CANCELLED;
        defer(attempt, &reply);
        return;
    }
    if (queue_unseal(attempt, &err) == FAILED) {
        keep_unreadable(attempt, &err);
        return;
    }
    /* the attempt keeps its reference; steps may put another body in its place */
    struct mail_content content = attempt->content;
    struct queue_content_run run = {
        .flow = attempt->meta.content_flow,
        .message = attempt->meta.message,
        .flags = attempt->meta.flags,
        .transport = attempt->meta.transport,
        .after_step = attempt->meta.kept.step,
        .released = attempt->record.held_total_ns > 0,
        .sender = &attempt->meta.sender,
        .recipients = attempt->meta.recipients,
        .recipient_count = attempt->meta.recipient_count,
        .origin = attempt->meta.origin,
        .content = &content,
        .arena = attempt->arena,
    };
    enum queue_content_verdict verdict = run_flow(attempt, &run, &reply);
    attempt->stopped = fiber_check(&err) == FAILED && err.kind == ERROR_CANCELLED;
    act(attempt, attempt->stopped ? QUEUE_CONTENT_DEFER : verdict, &reply, &run);
}

static MAY_YIELD void run_runs(void *arg)
{
    struct queue_worker *worker = arg;
    struct queue_content_turn turn;
    struct error err;
    while (!worker->stopping && fiber_check(&err) == OK && queue_content_next(worker, &turn)) {
        struct queue_entry *entry = turn.entry;
        queue_content_kick(worker); /* a large message that ended leaves room for several */
        struct arena *arena = arena_new(0);
        struct queue_attempt attempt;
        _Atomic uint64_t *slot = queue_poison_note(worker, entry->id);
        queue_entry_set_state(entry, QUEUE_INFLIGHT);
        queue_entry_not_fresh(entry);
        queue_attempt_init(&attempt, entry, arena);
        struct mail_id_text message = mail_id_text(entry->message);
        struct event_context events = {.fields = {F_C(MESSAGE, message.chars)}, .count = 1};
        fiber_set_context(&events);
        run_entry(&attempt);
        fiber_set_context(NULL);
        queue_attempt_done(&attempt);
        queue_poison_clear(slot);
        arena_free(arena);
        queue_content_ended(worker, &turn);
    }
    worker->content_running--;
}

void queue_content_kick(struct queue_worker *worker)
{
    struct error err;
    if (worker->stopping || worker->content_running >= QUEUE_CONTENT_RUNS ||
        !queue_content_is_ready(worker))
        return;
    worker->content_running++;
    if (fiber_spawn(&worker->scope, "content run", run_runs, worker, &err) == OK ||
        --worker->content_running > 0)
        return;
    /* no fiber is left: somebody has to ask again */
    struct queue_content_turn turn;
    check(queue_content_next(worker, &turn));
    queue_content_ended(worker, &turn);
    queue_schedule_set(&worker->schedule, &turn.entry->due, clock_monotonic_ns() + NS_PER_S);
    queue_worker_arm(worker);
}
