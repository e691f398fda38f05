/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/operate.c - what operators ask, from threads that are no workers.
 *
 * A request is posted to every worker, answered in a fiber there, and waited for here. It is
 * counted, so that an asker who gives up leaves it to the workers.
 */
#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "queue/retry.h"
#include "queue/settle.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WAIT_S = 30, LIMIT_DEFAULT = 1000, LIMIT_MAX = 100000, SLICE = 128, REASON_MAX = 200 };

enum request_kind { REQUEST_LIST, REQUEST_ACT, REQUEST_RAW, REQUEST_AUDIT };

struct share { /* of one worker */
    struct post post;
    struct request *request;
    struct queue_worker *worker;
    struct arena *arena;
    struct queue_item *items;
    size_t count, cap, total;
};

struct request {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    size_t running; /* shares not yet answered */
    unsigned references;
    enum request_kind kind;
    struct queue *queue;
    struct queue_selector selector; /* texts in `arena` */
    struct arena *arena;
    size_t limit;
    atomic_size_t acted; /* of all shares, against the limit */
    enum queue_verb verb;
    struct str actor, reason;
    struct mail_id id;
    struct buf raw;
    bool found;
    struct error error;
    bool failed;
    size_t share_count;
    struct share shares[];
};

/* ---- requests ---- */

static struct request *request_new(struct queue *queue, enum request_kind kind)
{
    struct request *request =
        memory_alloc(sizeof *request + queue->worker_count * sizeof(struct share));
    pthread_mutex_init(&request->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&request->done, &attributes);
    pthread_condattr_destroy(&attributes);
    request->references = 1;
    request->kind = kind;
    request->queue = queue;
    request->arena = arena_new(0);
    request->share_count = queue->worker_count;
    return request;
}

static void request_unref(struct request *request)
{
    pthread_mutex_lock(&request->mutex);
    unsigned left = --request->references;
    pthread_mutex_unlock(&request->mutex);
    if (left > 0)
        return;
    for (size_t i = 0; i < request->share_count; i++) {
        arena_free(request->shares[i].arena);
        free(request->shares[i].items);
    }
    buf_done(&request->raw);
    arena_free(request->arena);
    pthread_cond_destroy(&request->done);
    pthread_mutex_destroy(&request->mutex);
    free(request);
}

static void select_copy(struct request *request, const struct queue_selector *selector)
{
    struct arena *arena = request->arena;
    request->selector = *selector;
    request->selector.id = arena_str(arena, selector->id);
    request->selector.to = arena_lower(arena, selector->to);
    request->selector.from = arena_lower(arena, selector->from);
    request->selector.transport = arena_str(arena, selector->transport);
    request->selector.destination = arena_lower(arena, selector->destination);
    request->limit = selector->limit;
    if (request->kind != REQUEST_LIST) {
        if (request->limit == 0)
            request->limit = SIZE_MAX; /* a verb means all that is selected */
    } else if (request->limit == 0) {
        request->limit = LIMIT_DEFAULT;
    } else if (request->limit > LIMIT_MAX) {
        request->limit = LIMIT_MAX;
    }
}

/* ---- selecting ---- */

static bool matches_address(struct arena *arena, struct str pattern, struct str address)
{
    struct str lower = arena_lower(arena, address);
    if (pattern.len == 0)
        return true;
    return pattern.ptr[0] == '@' ? str_ends(lower, pattern) : str_equal(lower, pattern);
}

static bool matches_id(const struct queue_entry *entry, struct str id)
{
    if (id.len == 0)
        return true;
    struct mail_id_text own = mail_id_text(entry->id);
    struct mail_id_text message = mail_id_text(entry->message);
    return id.len >= 8 &&
           (str_starts_nocase(str_c(own.chars), id) || str_starts_nocase(str_c(message.chars), id));
}

static bool matches_recipient(const struct queue_attempt *view, struct str pattern)
{
    if (pattern.len == 0)
        return true;
    for (size_t i = 0; i < view->meta.recipient_count; i++)
        if (view->record.status[i] == QUEUE_STATUS_PENDING &&
            matches_address(view->arena, pattern, view->meta.recipients[i].address))
            return true;
    return false;
}

static struct str destination_of(const struct queue_attempt *view)
{
    return view->transport != NULL ? queue_destination_name(view->transport, &view->meta)
                                   : STR_EMPTY;
}

/* What needs no decoding. */
static bool may_match(const struct queue_entry *entry, const struct queue_selector *selector)
{
    if (selector->state >= 0 && selector->state != entry->state)
        return false;
    if (selector->older_ns > 0 &&
        clock_steady_wall_ns() - entry->accepted_wall_ns < selector->older_ns)
        return false;
    return matches_id(entry, selector->id);
}

static bool matches(const struct queue_attempt *view, const struct queue_selector *selector)
{
    return matches_recipient(view, selector->to) &&
           matches_address(view->arena, selector->from, view->meta.sender.address) &&
           (selector->transport.len == 0 || str_equal(selector->transport, view->meta.transport)) &&
           (selector->destination.len == 0 ||
            str_equal(selector->destination, destination_of(view)));
}

static bool entry_matches(struct queue_entry *entry, const struct queue_selector *selector)
{
    struct arena *arena = arena_new(0);
    struct queue_attempt view;
    queue_attempt_init(&view, entry, arena);
    bool match = matches(&view, selector);
    queue_attempt_done(&view);
    arena_free(arena);
    return match;
}

/* Ids of all that match, oldest first; entries may come and go while a fiber yields, so what is
 * cheap to see is collected at once and the rest is looked at in slices. */
static struct mail_id *select_ids(struct share *share, size_t *out_count) MAY_YIELD
{
    struct queue_worker *worker = share->worker;
    const struct queue_selector *selector = &share->request->selector;
    struct mail_id *ids = NULL;
    size_t count = 0, cap = 0, kept = 0;
    LIST_EACH (&worker->by_age, link) {
        struct queue_entry *entry = CONTAINER(link, struct queue_entry, by_age);
        if (!may_match(entry, selector))
            continue;
        if (count == cap) {
            cap = cap == 0 ? 64 : cap * 2;
            ids = memory_resize_array(ids, cap, sizeof *ids);
        }
        ids[count++] = entry->id;
    }
    for (size_t i = 0; i < count; i++) {
        struct queue_entry *entry = queue_worker_find(worker, ids[i]);
        if (entry != NULL && entry_matches(entry, selector))
            ids[kept++] = ids[i];
        if (i % SLICE == SLICE - 1)
            fiber_yield();
    }
    *out_count = kept;
    return ids;
}

/* ---- listing ---- */

static void list_recipients(struct share *share, const struct queue_attempt *view,
                            struct queue_item *item)
{
    struct arena *arena = share->arena;
    item->recipient_count = view->meta.recipient_count;
    item->recipients =
        arena_alloc_array(arena, item->recipient_count + 1, sizeof *item->recipients);
    for (size_t i = 0; i < item->recipient_count; i++) {
        const struct queue_said *said = view->record.said[i];
        struct queue_item_recipient *recipient = &item->recipients[i];
        recipient->address = arena_str(arena, view->meta.recipients[i].address);
        recipient->done = view->record.status[i] == QUEUE_STATUS_DONE;
        if (said == NULL)
            continue;
        recipient->last_reply = said->reply.code != 0 ? mail_reply_text(arena, &said->reply)
                                                      : arena_str(arena, said->reply.text);
        item->last_error = recipient->last_reply;
    }
}

static void list_entry(struct share *share, struct queue_entry *entry)
{
    struct arena *arena = share->arena;
    struct queue_attempt view;
    struct arena *scratch = arena_new(0);
    queue_attempt_init(&view, entry, scratch);
    struct queue_item *item = &share->items[share->count++];
    *item = (struct queue_item){
        .entry = entry->id,
        .message = entry->message,
        .state = (enum queue_state)entry->state,
        .sender = arena_str(arena, view.meta.sender.address),
        .transport = arena_str(arena, view.meta.transport),
        .destination = arena_str(arena, destination_of(&view)),
        .size = entry->size,
        .accepted_wall_ns = view.meta.accepted_wall_ns,
        .last_try_wall_ns = view.record.last_try_wall_ns,
        .attempts = view.record.attempts,
    };
    if (view.record.held)
        item->hold_reason = arena_str(arena, str_c(mail_reason_name(view.record.reason)));
    else
        item->next_try_wall_ns = view.record.due_wall_ns;
    if (view.transport != NULL && !view.record.held)
        item->give_up_wall_ns = queue_retry_give_up(
            view.transport, view.record.attempts, view.record.due_wall_ns,
            view.meta.accepted_wall_ns + view.record.held_total_ns + view.transport->expire_ns);
    list_recipients(share, &view, item);
    queue_attempt_done(&view);
    arena_free(scratch);
}

static void run_list(struct share *share) MAY_YIELD
{
    size_t count;
    struct mail_id *ids = select_ids(share, &count);
    share->total = count;
    if (count > share->request->limit)
        count = share->request->limit;
    share->items = memory_alloc_array(count, sizeof *share->items);
    for (size_t i = 0; i < count; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, ids[i]);
        if (entry != NULL)
            list_entry(share, entry);
        if (i % SLICE == SLICE - 1)
            fiber_yield();
    }
    free(ids);
}

/* ---- acting ---- */

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
    if (!record->held)
        return false;
    int64_t stood_ns = clock_steady_wall_ns() - record->held_since_wall_ns;
    record->held_total_ns += stood_ns > 0 ? stood_ns : 0;
    record->held = false;
    record->reason = MAIL_REASON_NONE;
    record->due_wall_ns = 0;
    write_record(attempt);
    return true;
}

static bool hold(struct queue_attempt *attempt)
{
    if (attempt->record.held)
        return false;
    queue_entry_hold(attempt->entry, MAIL_REASON_ADMIN, attempt->arena);
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

/* Out of where it waits, so that nobody else takes it. */
static void refuse(struct queue_attempt *attempt) MAY_YIELD
{
    struct mail_reply reply =
        mail_reply_of(554, 5, 7, 0, STR("the message was refused by an administrator"));
    queue_entry_seize(attempt->entry);
    queue_settle_refused(attempt, &reply);
}

static bool act_on(struct share *share, struct queue_entry *entry) MAY_YIELD
{
    enum queue_verb verb = share->request->verb;
    if (entry->state == QUEUE_INFLIGHT) {
        if (verb != QUEUE_HOLD && verb != QUEUE_FAIL && verb != QUEUE_DROP)
            return false;
        entry->wish = (int8_t)verb;
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
        done = hold(&attempt);
        break;
    case QUEUE_RELEASE:
        done = release(&attempt);
        break;
    case QUEUE_FAIL:
        refuse(&attempt);
        break;
    case QUEUE_DROP:
        drop(&attempt);
        break;
    }
    queue_attempt_done(&attempt);
    arena_free(arena);
    return done;
}

/* act_on() within the limit, which is one for all workers. */
static bool act_within_limit(struct share *share, struct queue_entry *entry) MAY_YIELD
{
    struct request *request = share->request;
    bool acted = atomic_fetch_add(&request->acted, 1) < request->limit && act_on(share, entry);
    if (!acted)
        atomic_fetch_sub(&request->acted, 1);
    return acted;
}

static void run_act(struct share *share) MAY_YIELD
{
    static const char *const verbs[] = {"retry", "hold", "release", "fail", "drop"};
    const struct request *request = share->request;
    size_t count;
    struct mail_id *ids = select_ids(share, &count);
    for (size_t i = 0; i < count && atomic_load(&request->acted) < request->limit; i++) {
        struct queue_entry *entry = queue_worker_find(share->worker, ids[i]);
        struct mail_id message = entry != NULL ? entry->message : ids[i];
        if (entry == NULL || !act_within_limit(share, entry))
            continue;
        share->total++;
        event_emit(EVENT_QUEUE_ACTION, F_C(MESSAGE, mail_id_text(message).chars),
                   F_C(ENTRY, mail_id_text(ids[i]).chars), F_C(VERB, verbs[request->verb]),
                   F_STR(ACTOR, request->actor), F_STR(WHY, request->reason));
        if (i % SLICE == SLICE - 1)
            fiber_yield();
    }
    free(ids);
}

/* ---- reading ---- */

static struct queue_entry *find_any(struct queue_worker *worker, struct mail_id id)
{
    struct queue_entry *entry = queue_worker_find(worker, id);
    if (entry != NULL)
        return entry;
    LIST_EACH (&worker->by_age, link) {
        entry = CONTAINER(link, struct queue_entry, by_age);
        if (mail_id_equal(entry->message, id))
            return entry;
    }
    return NULL;
}

static enum result read_all(struct request *request, const struct mail_content *content,
                            struct error *err) MAY_YIELD
{
    enum { PIECE = 16 * 1024 };
    char *space = memory_alloc(PIECE);
    uint64_t at = 0;
    struct str part;
    enum result result;
    while ((result = mail_content_read(content, at, PIECE, space, &part, err)) == OK &&
           part.len > 0) {
        buf_append(&request->raw, part);
        at += part.len;
    }
    free(space);
    if (result == OK && request->raw.overflow)
        return fail(err, ERROR_LIMIT, "the message is too large to show");
    return result;
}

static void run_raw(struct share *share) MAY_YIELD
{
    struct request *request = share->request;
    struct queue_entry *entry = find_any(share->worker, request->id);
    struct error err = {0};
    if (entry == NULL)
        return;
    struct arena *arena = arena_new(0);
    struct queue_attempt view;
    queue_attempt_init(&view, entry, arena);
    enum result result = queue_attempt_load(&view, &err);
    pthread_mutex_lock(&request->mutex);
    bool first = !request->found;
    request->found = true;
    pthread_mutex_unlock(&request->mutex);
    if (result == OK && first)
        result = read_all(request, &view.content, &err);
    if (result == FAILED) {
        request->failed = true;
        request->error = err;
    }
    queue_attempt_done(&view);
    arena_free(arena);
}

/* ---- between threads ---- */

static void answer(struct share *share)
{
    struct request *request = share->request;
    pthread_mutex_lock(&request->mutex);
    if (--request->running == 0)
        pthread_cond_signal(&request->done);
    pthread_mutex_unlock(&request->mutex);
    request_unref(request);
}

static MAY_YIELD void run_share(void *arg)
{
    struct share *share = arg;
    switch (share->request->kind) {
    case REQUEST_LIST:
        run_list(share);
        break;
    case REQUEST_ACT:
        run_act(share);
        break;
    case REQUEST_RAW:
        run_raw(share);
        break;
    case REQUEST_AUDIT:
        share->total = queue_audit_worker(share->worker);
        if (share->worker->index == 0)
            queue_audit_totals(share->worker->queue);
        break;
    }
    answer(share);
}

static void post_share(struct post *post)
{
    struct share *share = CONTAINER(post, struct share, post);
    struct queue_worker *worker = share->worker;
    struct error err;
    if (!worker->joined || worker->stopping ||
        fiber_spawn(&worker->scope, "queue operator", run_share, share, &err) == FAILED)
        answer(share);
}

/* Ask all workers and wait. FAILED: no answer in time. */
static enum result ask_all(struct request *request, struct error *err)
{
    struct queue *queue = request->queue;
    struct timespec until;
    int waited = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&request->mutex);
    pthread_mutex_lock(&queue->posting);
    for (size_t i = 0; i < queue->worker_count; i++) {
        struct share *share = &request->shares[i];
        if (!atomic_load(&queue->workers[i].reachable))
            continue;
        share->request = request;
        share->worker = &queue->workers[i];
        share->arena = arena_new(0);
        share->post.run = post_share;
        request->running++;
        request->references++;
        loop_post(queue->loops[i], &share->post);
    }
    pthread_mutex_unlock(&queue->posting);
    while (request->running > 0 && waited == 0)
        waited = pthread_cond_timedwait(&request->done, &request->mutex, &until);
    bool complete = request->running == 0;
    pthread_mutex_unlock(&request->mutex);
    return complete ? OK : fail(err, ERROR_TIMEOUT, "a worker does not answer");
}

/* ---- the public side ---- */

static void copy_item(struct arena *arena, const struct queue_item *from, struct queue_item *to)
{
    *to = *from;
    to->sender = arena_str(arena, from->sender);
    to->transport = arena_str(arena, from->transport);
    to->destination = arena_str(arena, from->destination);
    to->hold_reason = arena_str(arena, from->hold_reason);
    to->last_error = arena_str(arena, from->last_error);
    to->recipients = arena_alloc_array(arena, from->recipient_count + 1, sizeof *to->recipients);
    for (size_t i = 0; i < from->recipient_count; i++) {
        to->recipients[i] = from->recipients[i];
        to->recipients[i].address = arena_str(arena, from->recipients[i].address);
        to->recipients[i].last_reply = arena_str(arena, from->recipients[i].last_reply);
    }
}

static int compare_items(const void *a, const void *b)
{
    const struct queue_item *left = *(const struct queue_item *const *)a;
    const struct queue_item *right = *(const struct queue_item *const *)b;
    return left->accepted_wall_ns < right->accepted_wall_ns   ? -1
           : left->accepted_wall_ns > right->accepted_wall_ns ? 1
                                                              : 0;
}

static void collect(const struct request *request, struct arena *arena, struct queue_list *out)
{
    size_t count = 0;
    for (size_t i = 0; i < request->share_count; i++) {
        count += request->shares[i].count;
        out->total += request->shares[i].total;
    }
    const struct queue_item **all = memory_alloc_array(count + 1, sizeof(struct queue_item *));
    count = 0;
    for (size_t i = 0; i < request->share_count; i++)
        for (size_t j = 0; j < request->shares[i].count; j++)
            all[count++] = &request->shares[i].items[j];
    qsort(all, count, sizeof *all, compare_items);
    if (count > request->limit)
        count = request->limit;
    out->items = arena_alloc_array(arena, count + 1, sizeof *out->items);
    out->count = count;
    for (size_t i = 0; i < count; i++)
        copy_item(arena, all[i], &out->items[i]);
    free(all);
}

enum result queue_list(struct queue *queue, const struct queue_selector *selector,
                       struct arena *arena, struct queue_list *out, struct error *err)
{
    struct request *request = request_new(queue, REQUEST_LIST);
    select_copy(request, selector);
    enum result result = ask_all(request, err);
    *out = (struct queue_list){0};
    if (result == OK)
        collect(request, arena, out);
    request_unref(request);
    return result;
}

enum result queue_act(struct queue *queue, const struct queue_selector *selector,
                      enum queue_verb verb, struct str actor, struct str reason, size_t *out_count,
                      struct error *err)
{
    struct request *request = request_new(queue, REQUEST_ACT);
    select_copy(request, selector);
    request->verb = verb;
    request->actor = arena_str(request->arena, str_slice(actor, 0, REASON_MAX));
    request->reason = arena_str(request->arena, str_slice(reason, 0, REASON_MAX));
    enum result result = ask_all(request, err);
    *out_count = 0;
    for (size_t i = 0; result == OK && i < request->share_count; i++)
        *out_count += request->shares[i].total;
    request_unref(request);
    return result;
}

enum result queue_raw(struct queue *queue, struct mail_id id, struct buf *out, bool *out_found,
                      struct error *err)
{
    struct request *request = request_new(queue, REQUEST_RAW);
    request->id = id;
    buf_init(&request->raw, out->max);
    enum result result = ask_all(request, err);
    *out_found = false;
    if (result == OK && request->failed) {
        result = FAILED;
        (void)fail(err, request->error.kind, "%s", request->error.text);
    } else if (result == OK) {
        *out_found = request->found;
        buf_append(out, buf_str(&request->raw));
    }
    request_unref(request);
    return result;
}

enum result queue_audit(struct queue *queue, size_t *out_differences, struct error *err)
{
    struct request *request = request_new(queue, REQUEST_AUDIT);
    enum result result = ask_all(request, err);
    *out_differences = 0;
    for (size_t i = 0; result == OK && i < request->share_count; i++)
        *out_differences += request->shares[i].total;
    request_unref(request);
    return result;
}
