/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/act.c - what operators do to a selection.
 *
 * In two steps: first the selection is made and counted, then exactly these entries are acted on;
 * what left the queue in between is not.
 */
#include "base/memory.h"
#include "event/event.h"
#include "queue/select.h"

#include <stdlib.h>

enum { REASON_MAX = 200 };

struct action_request {
    struct queue_ask ask;
    struct queue_selector selector;
    enum queue_verb verb;
    enum mail_reason hold_reason;
    struct str actor, reason;
};

/* ---- one entry ---- */

static void write_record(struct queue_attempt *attempt)
{
    struct queue_unit unit;
    queue_entry_store(attempt->entry, &attempt->record);
    queue_unit_init(&unit, attempt->worker, attempt->arena);
    queue_unit_state(&unit, attempt->entry);
    queue_unit_write(&unit);
    queue_entry_place(attempt->entry);
}

static void drop(struct queue_attempt *attempt)
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

static bool release(struct queue_attempt *attempt)
{
    struct queue_record *record = &attempt->record;
    if (!record->held || (record->reason == MAIL_REASON_CONTAINED &&
                          queue_is_contained(attempt->worker->queue, &attempt->meta)))
        return false; /* the account first: `postern incident close` */
    int64_t now_ns = clock_steady_wall_ns();
    int64_t stood_ns = now_ns - record->held_since_wall_ns;
    if (attempt->transport != NULL) /* which is counted by itself */
        stood_ns -=
            queue_steering_paused_ns(attempt->worker->queue->steering, attempt->transport->name,
                                     queue_destination_name(attempt->transport, &attempt->meta),
                                     record->held_since_wall_ns, now_ns);
    record->held_total_ns += stood_ns > 0 ? stood_ns : 0;
    record->held = false;
    record->reason = MAIL_REASON_NONE;
    record->due_wall_ns = 0;
    write_record(attempt);
    return true;
}

static bool hold(struct queue_attempt *attempt, enum mail_reason reason)
{
    if (attempt->record.held)
        return false;
    queue_entry_hold(attempt->entry, reason, attempt->arena);
    return true;
}

/* Now, but neither count nor age is set back. */
static bool retry(struct queue_attempt *attempt)
{
    enum queue_state state = (enum queue_state)attempt->entry->state;
    if (attempt->record.held || (state != QUEUE_WAITING && state != QUEUE_CONTENT))
        return false;
    attempt->record.due_wall_ns = 0;
    if (state == QUEUE_WAITING && attempt->transport != NULL)
        queue_site_forgive(attempt->worker, attempt->transport, &attempt->meta);
    write_record(attempt);
    return true;
}

/* Out of where it waits, so that nobody else takes it. Nobody is told of mail of an account that is
 * contained: that can be dropped. */
static bool refuse(struct queue_attempt *attempt) MAY_YIELD
{
    if (queue_is_contained(attempt->worker->queue, &attempt->meta))
        return false;
    struct mail_reply reply =
        mail_reply_of(554, 5, 7, 0, STR("the message was refused by an administrator"));
    queue_entry_seize(attempt->entry);
    queue_settle_refused(attempt, &reply);
    return true;
}

static bool act_on(struct queue_entry *entry, enum queue_verb verb,
                   enum mail_reason reason) MAY_YIELD
{
    if (entry->state == QUEUE_INFLIGHT) {
        if (reason == MAIL_REASON_CONTAINED) /* seen to when the attempt ends */
            return false;
        if (verb != QUEUE_HOLD && verb != QUEUE_FAIL && verb != QUEUE_DROP)
            return false;
        entry->wish = ((uint32_t)verb + 1) & 15;
        return true;
    }
    bool done = true;
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    queue_attempt_init(&attempt, entry, arena);
    switch (verb) {
    case QUEUE_RETRY:
        done = retry(&attempt);
        break;
    case QUEUE_HOLD:
        done = hold(&attempt, reason);
        break;
    case QUEUE_RELEASE:
        done = release(&attempt);
        break;
    case QUEUE_FAIL:
        done = refuse(&attempt);
        break;
    case QUEUE_DROP:
        drop(&attempt);
        break;
    }
    queue_attempt_done(&attempt);
    arena_free(arena);
    return done;
}

/* ---- a worker's share ---- */

static void note_id(struct queue_share *share, const struct queue_attempt *view)
{
    if (share->count == share->cap) {
        share->cap = share->cap == 0 ? 64 : share->cap * 2;
        share->out = memory_resize_array(share->out, share->cap, sizeof(struct mail_id));
    }
    ((struct mail_id *)share->out)[share->count++] = view->entry->id;
}

static void run_select(struct queue_share *share) MAY_YIELD
{
    struct action_request *request = CONTAINER(share->ask, struct action_request, ask);
    queue_select_each(share, &request->selector, note_id);
}

static void run_act(struct queue_share *share) MAY_YIELD
{
    static const char *const verbs[] = {"retry", "hold", "release", "fail", "drop"};
    const struct action_request *request = CONTAINER(share->ask, struct action_request, ask);
    const struct mail_id *ids = share->out;
    for (size_t i = 0; i < share->count; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, ids[i]);
        struct mail_id message = entry != NULL ? entry->message : ids[i];
        if (entry != NULL && act_on(entry, request->verb, request->hold_reason)) {
            share->total++;
            event_emit(EVENT_QUEUE_ACTION, F_C(MESSAGE, mail_id_text(message).chars),
                       F_C(ENTRY, mail_id_text(ids[i]).chars), F_C(VERB, verbs[request->verb]),
                       F_STR(ACTOR, request->actor), F_STR(WHY, request->reason));
        }
        if (i % QUEUE_ASK_SLICE == QUEUE_ASK_SLICE - 1)
            fiber_yield();
    }
}

/* ---- the public side ---- */

/* Keep the `limit` oldest of all (ids ascend with time). Returns how many there are. */
static size_t limit_shares(struct queue_ask *ask, size_t limit)
{
    size_t kept[QUEUE_WORKERS_MAX] = {0}, total = 0, all = 0;
    for (size_t i = 0; i < ask->share_count; i++)
        all += ask->shares[i].count;
    if (limit == 0 || all <= limit)
        return all;
    for (; total < limit; total++) {
        size_t best = ask->share_count;
        for (size_t i = 0; i < ask->share_count; i++) {
            const struct mail_id *ids = ask->shares[i].out;
            if (kept[i] < ask->shares[i].count &&
                (best == ask->share_count ||
                 ids[kept[i]].high < ((struct mail_id *)ask->shares[best].out)[kept[best]].high))
                best = i;
        }
        kept[best]++;
    }
    for (size_t i = 0; i < ask->share_count; i++)
        ask->shares[i].count = kept[i];
    return total;
}

enum result queue_act(struct queue *queue, const struct queue_selector *selector,
                      const struct queue_action *action, struct queue_action_result *out,
                      struct error *err)
{
    struct action_request *request = queue_ask_new(queue, sizeof *request);
    struct queue_ask *ask = &request->ask;
    queue_selector_copy(ask->arena, selector, &request->selector);
    request->verb = action->verb;
    request->hold_reason = action->hold_reason ? action->hold_reason : MAIL_REASON_ADMIN;
    request->actor = arena_str(ask->arena, str_slice(action->actor, 0, REASON_MAX));
    request->reason = arena_str(ask->arena, str_slice(action->reason, 0, REASON_MAX));
    *out = (struct queue_action_result){0};
    enum result result = queue_ask_all(ask, run_select, err);
    if (result == OK) {
        out->matched = limit_shares(ask, selector->limit);
        out->refused = action->expects && action->expected != out->matched;
    }
    if (result == OK && !out->refused && !action->dry_run && out->matched > 0)
        result = queue_ask_all(ask, run_act, err);
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        out->done += ask->shares[i].total;
    queue_ask_unref(ask);
    return result;
}

/* A change of nothing in each worker's row: what stood there before it is written with it. */
static void run_flush(struct queue_share *share) MAY_YIELD
{
    struct spool_change nothing = {.kind = SPOOL_COUNT, .counter = QUEUE_COUNT_ACCEPTED};
    struct error err;
    share->total = spool_commit(share->worker->queue->spool, &nothing, 1, &err) == OK;
}

enum result queue_flush(struct queue *queue, struct error *err)
{
    struct queue_ask *ask = queue_ask_new(queue, sizeof *ask);
    enum result result = queue_ask_all(ask, run_flush, err);
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        if (ask->shares[i].worker == NULL || ask->shares[i].total == 0)
            result = fail(err, ERROR_TEMPORARY, "the spool could not be written");
    queue_ask_unref(ask);
    return result;
}
