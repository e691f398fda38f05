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
    bool only_to, from_start;
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

/* Out of a quarantine only if it can be read. */
static bool is_readable(const struct queue_attempt *attempt, struct queue_share *share)
{
    if (queue_can_unseal(attempt->worker->queue, &attempt->meta))
        return true;
    share->missed++;
    event_emit(EVENT_QUARANTINE_UNREADABLE, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_STR(QUARANTINE, attempt->meta.kept.quarantine),
               F_C(ERROR, "the key that it is encrypted with is missing"));
    return false;
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
    if (reason == MAIL_REASON_CONTAINED &&
        !queue_is_contained(attempt->worker->queue, &attempt->meta))
        return false; /* the account became free meanwhile: nobody would let it go */
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
static bool refuse(struct queue_attempt *attempt, struct queue_share *share) MAY_YIELD
{
    if (queue_is_contained(attempt->worker->queue, &attempt->meta))
        return false;
    struct mail_reply reply =
        mail_reply_of(554, 5, 7, 0, STR("the message was refused by an administrator"));
    struct error err;
    queue_entry_seize(attempt->entry);
    if ((attempt->meta.flags & QUEUE_META_SEALED) != 0 &&
        (queue_attempt_load(attempt, &err) == FAILED ||
         queue_unseal_for_good(attempt, NULL, &err) == FAILED)) {
        queue_entry_place(attempt->entry);
        share->failed++;
        return false;
    }
    bool done = queue_settle_refused(attempt, &reply) == OK;
    share->failed += !done;
    return done;
}

/* For some recipients only, or to the start: other entries take its place. */
static bool is_partly(const struct queue_attempt *attempt, const struct action_request *request)
{
    if (!attempt->entry->shelved || !attempt->record.held)
        return false;
    if (request->from_start && request->verb == QUEUE_RELEASE)
        return true;
    for (size_t i = 0; request->only_to && i < attempt->meta.recipient_count; i++)
        if (!queue_address_fits(attempt->arena, request->selector.to,
                                attempt->meta.recipients[i].address))
            return true;
    return false;
}

static struct str only_to(const struct action_request *request)
{
    return request->only_to ? request->selector.to : STR_EMPTY;
}

static bool act_on_part(struct queue_attempt *attempt, struct queue_share *share) MAY_YIELD
{
    const struct action_request *request = CONTAINER(share->ask, struct action_request, ask);
    bool from_start = request->verb == QUEUE_RELEASE && request->from_start;
    bool done = queue_quarantine_part(attempt, request->verb, only_to(request), from_start);
    share->failed += !done;
    return done;
}

static bool act_on(struct queue_entry *entry, struct queue_share *share) MAY_YIELD
{
    const struct action_request *request = CONTAINER(share->ask, struct action_request, ask);
    enum queue_verb verb = request->verb;
    if (entry->state == QUEUE_INFLIGHT) {
        if (request->hold_reason == MAIL_REASON_CONTAINED) /* seen to when the attempt ends */
            return false;
        if (verb != QUEUE_HOLD && verb != QUEUE_FAIL && verb != QUEUE_DROP)
            return false;
        entry->wish = ((uint32_t)verb + 1) & 15;
        return true;
    }
    entry->wish = 0; /* the newest order counts */
    bool done = true;
    struct arena *arena = arena_new(0);
    struct queue_attempt attempt;
    queue_attempt_init(&attempt, entry, arena);
    switch (verb) {
    case QUEUE_RETRY:
        done = retry(&attempt);
        break;
    case QUEUE_HOLD:
        done = hold(&attempt, request->hold_reason);
        break;
    case QUEUE_RELEASE:
        done = is_readable(&attempt, share) &&
               (is_partly(&attempt, request) ? act_on_part(&attempt, share) : release(&attempt));
        break;
    case QUEUE_FAIL:
        done = is_readable(&attempt, share) && refuse(&attempt, share);
        break;
    case QUEUE_DROP:
        if (is_partly(&attempt, request))
            done = act_on_part(&attempt, share);
        else
            queue_settle_dropped(&attempt);
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

static struct str quarantine_of(const struct queue_entry *entry, struct arena *arena)
{
    return entry != NULL && entry->state == QUEUE_HELD ? queue_entry_quarantine(entry, arena)
                                                       : STR_EMPTY;
}

static void tell_quarantine(const struct action_request *request, struct mail_id message,
                            struct mail_id entry, struct str quarantine)
{
    bool released = request->verb == QUEUE_RELEASE;
    if (!released && request->verb != QUEUE_DROP && request->verb != QUEUE_FAIL)
        return;
    event_emit(released ? EVENT_QUARANTINE_RELEASED : EVENT_QUARANTINE_DELETED,
               F_C(MESSAGE, mail_id_text(message).chars), F_C(ENTRY, mail_id_text(entry).chars),
               F_STR(QUARANTINE, quarantine), F_STR(TO, only_to(request)),
               F_STR(ACTOR, request->actor), F_STR(WHY, request->reason),
               F_C(DETAIL, request->from_start && released ? "from the start of its flow" : ""));
}

/* What was written lazily before this is on the disk after it. */
static enum result wait_until_durable(struct queue_worker *worker, struct error *err) MAY_YIELD
{
    struct spool_change nothing = {.kind = SPOOL_COUNT, .counter = QUEUE_COUNT_DROPPED};
    return spool_commit(worker->queue->spool, &nothing, 1, err);
}

/* What somebody was told is deleted does not come back. */
static void end_in_quarantine(struct queue_worker *worker) MAY_YIELD
{
    struct error err;
    if (wait_until_durable(worker, &err) == FAILED)
        event_emit(EVENT_DAEMON_WARNING, F_C(ERROR, err.text),
                   F_C(DETAIL, "what was done in a quarantine may be undone by a crash"));
}

/*
 * Others have a turn; and no more waits for the disk, or in memory to be told of, than of some
 * slices: a selection of a million would fill the memory with what is to be written, hold up the
 * commits of mail behind it, and fill the rings of events.
 */
static void take_breath(struct queue_share *share, size_t done) MAY_YIELD
{
    enum { SLICES = 4 };
    struct error ignored;
    atomic_fetch_add(&share->ask->steps, 1);
    if (done / QUEUE_ASK_SLICE % SLICES != 0)
        fiber_yield();
    else if (wait_until_durable(share->worker, &ignored) != OK)
        (void)fiber_sleep(100 * NS_PER_MS, &ignored); /* the disk fails, and is tried again */
}

static void run_act(struct queue_share *share) MAY_YIELD
{
    static const char *const verbs[] = {"retry", "hold", "release", "fail", "drop"};
    const struct action_request *request = CONTAINER(share->ask, struct action_request, ask);
    const struct mail_id *ids = share->out;
    for (size_t i = 0; i < share->count; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, ids[i]);
        struct mail_id message = entry != NULL ? entry->message : ids[i];
        struct str quarantine = quarantine_of(entry, share->arena);
        if (entry != NULL && act_on(entry, share)) {
            share->total++;
            event_emit(EVENT_QUEUE_ACTION, F_C(MESSAGE, mail_id_text(message).chars),
                       F_C(ENTRY, mail_id_text(ids[i]).chars), F_C(VERB, verbs[request->verb]),
                       F_STR(ACTOR, request->actor), F_STR(WHY, request->reason));
            if (quarantine.len > 0)
                tell_quarantine(request, message, ids[i], quarantine);
        }
        if ((i + 1) % QUEUE_ASK_SLICE == 0)
            take_breath(share, i + 1);
    }
    if (share->total > 0 && request->selector.quarantine.len > 0)
        end_in_quarantine(share->worker);
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

static int compare_ids(const void *a, const void *b)
{
    const struct mail_id *left = a;
    const struct mail_id *right = b;
    if (left->high != right->high)
        return left->high < right->high ? -1 : 1;
    return left->low < right->low ? -1 : left->low > right->low;
}

enum result queue_select(struct queue *queue, const struct queue_selector *selector,
                         struct arena *arena, struct mail_id **out_ids, size_t *out_count,
                         struct error *err)
{
    struct action_request *request = queue_ask_new(queue, sizeof *request);
    struct queue_ask *ask = &request->ask;
    queue_selector_copy(ask->arena, selector, &request->selector);
    enum result result = queue_ask_all(ask, run_select, err);
    size_t total = result == OK ? limit_shares(ask, selector->limit) : 0;
    struct mail_id *ids = arena_alloc_array(arena, total + 1, sizeof *ids);
    *out_count = 0;
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        for (size_t k = 0; k < ask->shares[i].count; k++)
            ids[(*out_count)++] = ((struct mail_id *)ask->shares[i].out)[k];
    qsort(ids, *out_count, sizeof *ids, compare_ids);
    *out_ids = ids;
    queue_ask_unref(ask);
    return result;
}

enum result queue_act(struct queue *queue, const struct queue_selector *selector,
                      const struct queue_action *action, struct queue_action_result *out,
                      struct error *err)
{
    struct action_request *request = queue_ask_new(queue, sizeof *request);
    struct queue_ask *ask = &request->ask;
    queue_selector_copy(ask->arena, selector, &request->selector);
    request->verb = action->verb;
    request->only_to = action->only_to && selector->to.len > 0;
    request->from_start = action->from_start;
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
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        out->unreadable += ask->shares[i].missed;
    for (size_t i = 0; result == OK && i < ask->share_count; i++)
        out->failed += ask->shares[i].failed;
    queue_ask_unref(ask);
    return result;
}

static void run_know(struct queue_share *share) MAY_YIELD
{
    share->total = share->worker->found == NULL;
}

bool queue_is_known(struct queue *queue)
{
    struct queue_ask *ask = queue_ask_new(queue, sizeof *ask);
    struct error err;
    bool known = !atomic_load(&queue->loading) && queue_ask_all(ask, run_know, &err) == OK;
    for (size_t i = 0; known && i < ask->share_count; i++)
        known = ask->shares[i].worker != NULL && ask->shares[i].total == 1;
    queue_ask_unref(ask);
    return known;
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
