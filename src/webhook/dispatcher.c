/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/dispatcher.c - events into the outbox, and what is due out of it. */
#include "webhook/dispatcher_internal.h"

#include "base/clock.h"
#include "base/memory.h"
#include "crypto/sha256.h"
#include "fiber/fiber.h"
#include "mail/id.h"
#include "webhook/backoff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    OPEN_AGAIN_MS = 30000, /* an outbox that could not be opened or written */
    TELL_MS = 10000,       /* between two words about lost events */
    EXPIRE_MS = 60000,
    FINISHED_KEPT = 500, /* deliveries that are over, of each webhook */
    FINISHED_SLACK = 50,
    FARTHEST_MS = 27 * 3600 * 1000, /* no attempt is planned beyond: then a clock was wrong */
};

int64_t dispatcher_now_ms(void)
{
    return clock_steady_wall_ns() / NS_PER_MS;
}

/* ---- what was lost ---- */

static void tell_lost(uint64_t *told, uint64_t lost, struct str webhook)
{
    if (*told == lost)
        return;
    event_emit(EVENT_TRACE_LOST, F_C(SINK, "webhooks"), F_STR(WEBHOOK, webhook),
               F_INT(COUNT, lost - *told));
    *told = lost;
}

static void tell_all_lost(struct webhook_dispatcher *dispatcher, int64_t now_ms)
{
    if (now_ms < dispatcher->tell_ms)
        return;
    dispatcher->tell_ms = now_ms + TELL_MS;
    tell_lost(&dispatcher->lost_told, dispatcher->lost, STR_EMPTY);
    LIST_EACH (&dispatcher->endpoints, link) {
        struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        tell_lost(&endpoint->dropped_told, endpoint->dropped, str_c(endpoint->name));
    }
}

/* ---- life ---- */

struct webhook_dispatcher *webhook_dispatcher_new(struct str path, struct str node,
                                                  struct webhook_sender *sender)
{
    struct webhook_dispatcher *dispatcher = NEW(struct webhook_dispatcher);
    (void)!str_to_c(path, dispatcher->path, sizeof dispatcher->path);
    (void)!str_to_c(node, dispatcher->node, sizeof dispatcher->node);
    dispatcher->sender = sender;
    list_init(&dispatcher->endpoints);
    for (size_t i = 0; i < 2; i++)
        buf_init(&dispatcher->payloads[i], 16 * WEBHOOK_PAYLOAD_MAX);
    return dispatcher;
}

void dispatcher_set_unref(struct set *set)
{
    if (!set || --set->references)
        return;
    if (set->given.release)
        set->given.release(set->given.keeper);
    free(set);
}

static void endpoint_free(struct endpoint *endpoint)
{
    list_remove(&endpoint->link);
    dispatcher_set_unref(endpoint->set);
    free(endpoint);
}

void dispatcher_let_go(struct endpoint *endpoint)
{
    if (!endpoint->webhook && !endpoint->in_flight && !endpoint->tests)
        endpoint_free(endpoint);
}

void webhook_dispatcher_free(struct webhook_dispatcher *dispatcher)
{
    if (!dispatcher)
        return;
    tell_all_lost(dispatcher, INT64_MAX - TELL_MS);
    LIST_EACH (&dispatcher->endpoints, link)
        endpoint_free(CONTAINER(link, struct endpoint, link));
    dispatcher_set_unref(dispatcher->set);
    webhook_outbox_close(dispatcher->outbox);
    dispatcher->sender->free(dispatcher->sender);
    for (size_t i = 0; i < 2; i++)
        buf_done(&dispatcher->payloads[i]);
    free(dispatcher);
}

void dispatcher_wake(struct webhook_dispatcher *dispatcher)
{
    if (dispatcher->fiber)
        fiber_wake(dispatcher->fiber);
}

struct endpoint *dispatcher_find(const struct webhook_dispatcher *dispatcher, struct str name)
{
    LIST_EACH (&dispatcher->endpoints, link) {
        struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        if (endpoint->webhook && str_equal(str_c(endpoint->name), name))
            return endpoint;
    }
    return NULL;
}

/* ---- the outbox ---- */

static void set_outbox_aside(struct webhook_dispatcher *dispatcher)
{
    webhook_outbox_set_aside(take(dispatcher->outbox));
    event_emit(EVENT_WEBHOOK_OUTBOX_DAMAGED, F_C(FILE, dispatcher->path));
    dispatcher->open_ms = 0;
    LIST_EACH (&dispatcher->endpoints, link) {
        struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        endpoint->count = endpoint->bytes = 0;
    }
}

void dispatcher_note_outbox(struct webhook_dispatcher *dispatcher, enum result result,
                            const struct error *err)
{
    if (result != OK && !dispatcher->is_failed)
        event_emit(EVENT_WEBHOOK_OUTBOX_FAILED, F_C(ERROR, err->text), F_C(FILE, dispatcher->path));
    else if (result == OK && dispatcher->is_failed)
        event_emit(EVENT_WEBHOOK_OUTBOX_BACK, F_C(FILE, dispatcher->path));
    dispatcher->is_failed = result != OK;
    if (result != OK)
        dispatcher->open_ms = dispatcher_now_ms() + OPEN_AGAIN_MS;
    if (result != OK && dispatcher->outbox && webhook_outbox_is_damaged(dispatcher->outbox))
        set_outbox_aside(dispatcher);
}

void dispatcher_count_waiting(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    struct webhook_backlog backlog = {0};
    endpoint->finished = FINISHED_SLACK; /* nobody knows how many lie there: cut them soon */
    if (dispatcher->outbox &&
        webhook_outbox_backlog(dispatcher->outbox, str_c(endpoint->name), &backlog, NULL) == OK) {
        endpoint->count = backlog.count;
        endpoint->bytes = backlog.bytes;
    }
}

static struct str hash_of(struct str url, char out[static 2 * SHA256_SIZE + 1])
{
    unsigned char sum[SHA256_SIZE];
    struct sha256 sha;
    sha256_open(&sha);
    sha256_add(&sha, url);
    sha256_finish(&sha, sum);
    sha256_close(&sha);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(out + 2 * i, 3, "%02x", sum[i]);
    return str_of(out, 2 * SHA256_SIZE);
}

enum result dispatcher_mark(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                            struct error *err)
{
    char hash[2 * SHA256_SIZE + 1];
    const struct webhook_mark mark = {
        .webhook = str_c(endpoint->name),
        .is_paused = endpoint->is_paused,
        .is_disabled = endpoint->is_disabled,
        .since_ms = endpoint->since_ms,
        .by = str_c(endpoint->by),
        .where = hash_of(endpoint->webhook->url, hash),
    };
    if (!dispatcher_has_outbox(dispatcher))
        return fail(err, ERROR_TEMPORARY, "the outbox cannot be written (see the log)");
    return webhook_outbox_mark(dispatcher->outbox, &mark, err);
}

/* One that answered 410 is tried again at another URL. */
static void take_mark(struct endpoint *endpoint, const struct webhook_mark *mark)
{
    char hash[2 * SHA256_SIZE + 1];
    bool same = str_equal(mark->where, hash_of(endpoint->webhook->url, hash));
    endpoint->is_paused = mark->is_paused;
    endpoint->is_disabled = mark->is_disabled && same;
    endpoint->since_ms = mark->since_ms;
    (void)!str_to_c(str_slice(mark->by, 0, sizeof endpoint->by - 1), endpoint->by,
                    sizeof endpoint->by);
}

/* What the file says of the webhooks: those that are configured take it, others go. */
static void read_marks(struct webhook_dispatcher *dispatcher)
{
    struct webhook_mark *marks = memory_alloc_array(WEBHOOK_MARKS_MAX, sizeof *marks);
    size_t count = 0;
    struct arena *arena = arena_new(0);
    if (webhook_outbox_marks(dispatcher->outbox, arena, marks, &count, NULL) != OK)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        struct endpoint *endpoint = dispatcher_find(dispatcher, marks[i].webhook);
        if (endpoint)
            take_mark(endpoint, &marks[i]);
        else if (marks[i].webhook.len)
            (void)!webhook_outbox_remove(dispatcher->outbox, marks[i].webhook, NULL);
    }
    arena_free(arena);
    free(marks);
}

bool dispatcher_has_outbox(struct webhook_dispatcher *dispatcher)
{
    struct error err;
    bool aside;
    if (dispatcher->outbox)
        return true;
    if (dispatcher_now_ms() < dispatcher->open_ms)
        return false;
    enum result result = webhook_outbox_open(dispatcher->path, &dispatcher->outbox, &aside, &err);
    if (result == OK && aside)
        event_emit(EVENT_WEBHOOK_OUTBOX_DAMAGED, F_C(FILE, dispatcher->path));
    dispatcher_note_outbox(dispatcher, result, &err);
    if (result != OK)
        return false;
    read_marks(dispatcher);
    LIST_EACH (&dispatcher->endpoints, link)
        dispatcher_count_waiting(dispatcher, CONTAINER(link, struct endpoint, link));
    return true;
}

/* ---- another configuration ---- */

static const struct webhook_settings *webhook_of(const struct set *set, struct str name)
{
    for (size_t i = 0; i < set->given.count; i++)
        if (str_equal(set->given.items[i].name, name))
            return &set->given.items[i];
    return NULL;
}

static void use_one(struct webhook_dispatcher *dispatcher, struct set *set,
                    const struct webhook_settings *webhook)
{
    struct endpoint *endpoint = dispatcher_find(dispatcher, webhook->name);
    if (!endpoint) {
        endpoint = NEW(struct endpoint);
        (void)!str_to_c(webhook->name, endpoint->name, sizeof endpoint->name);
        list_append(&dispatcher->endpoints, &endpoint->link);
    } else if (!str_equal(endpoint->webhook->url, webhook->url)) {
        endpoint->is_disabled = endpoint->is_failing = false;
        endpoint->failures = 0;
        endpoint->hold_until_ms = 0;
        endpoint->since_ms = endpoint->is_paused ? endpoint->since_ms : 0;
    }
    set->references++;
    dispatcher_set_unref(endpoint->set);
    endpoint->set = set;
    endpoint->webhook = webhook;
}

static void retire(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    if (dispatcher->outbox)
        (void)!webhook_outbox_remove(dispatcher->outbox, str_c(endpoint->name), NULL);
    endpoint->webhook = NULL;
    endpoint->count = endpoint->bytes = 0;
    dispatcher_let_go(endpoint);
}

void webhook_dispatcher_use(struct webhook_dispatcher *dispatcher, const struct webhook_set *given)
{
    struct set *set = NEW(struct set);
    set->given = *given;
    set->references = 1;
    LIST_EACH (&dispatcher->endpoints, link) {
        struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        if (endpoint->webhook && !webhook_of(set, str_c(endpoint->name)))
            retire(dispatcher, endpoint);
    }
    for (size_t i = 0; i < given->count; i++)
        use_one(dispatcher, set, &given->items[i]);
    dispatcher_set_unref(dispatcher->set);
    dispatcher->set = set;
    if (given->count || access(dispatcher->path, F_OK) == 0)
        (void)!dispatcher_has_outbox(dispatcher);
    dispatcher_wake(dispatcher);
}

/* ---- events ---- */

void webhook_dispatcher_begin(struct webhook_dispatcher *dispatcher)
{
    struct error err;
    dispatcher->batch_good = dispatcher_has_outbox(dispatcher);
    if (!dispatcher->batch_good)
        return;
    enum result result = webhook_outbox_begin(dispatcher->outbox, &err);
    dispatcher->batch_good = result == OK;
    if (result != OK)
        dispatcher_note_outbox(dispatcher, result, &err);
}

static void put(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                enum event_type type, struct str body)
{
    struct error err;
    char id[sizeof "msg_" + MAIL_ID_LEN];
    int64_t now_ms = dispatcher_now_ms();
    int length = snprintf(id, sizeof id, "msg_%s", mail_id_text(mail_id_new()).chars);
    const struct webhook_delivery delivery = {.id = str_of(id, (size_t)length),
                                              .webhook = str_c(endpoint->name),
                                              .type = str_c(event_name(type)),
                                              .body = body,
                                              .created_ms = now_ms,
                                              .next_ms = now_ms};
    endpoint->batch_count++;
    endpoint->batch_bytes += body.len;
    if (!dispatcher->batch_good)
        return;
    if (webhook_outbox_put(dispatcher->outbox, &delivery, &err) == OK)
        return;
    dispatcher->batch_good = false; /* all of it is undone at the end */
    (void)webhook_outbox_end(dispatcher->outbox, /* good= */ false, NULL);
    dispatcher_note_outbox(dispatcher, FAILED, &err);
}

void webhook_dispatcher_take(struct webhook_dispatcher *dispatcher, const struct event *event,
                             struct str revision)
{
    bool written[2] = {false, false};
    LIST_EACH (&dispatcher->endpoints, link) {
        struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        if (!endpoint->webhook || endpoint->is_disabled ||
            !webhook_choice_fits(&endpoint->webhook->choice, event))
            continue;
        enum webhook_payload form = (enum webhook_payload)endpoint->webhook->payload;
        struct buf *payload = &dispatcher->payloads[form];
        if (!written[form])
            webhook_payload_write(form, event, str_c(dispatcher->node), revision, payload);
        written[form] = true;
        put(dispatcher, endpoint, event->type, buf_str(payload));
    }
}

/* More than may wait: the oldest go. */
static void keep_bound(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    uint64_t most = (uint64_t)endpoint->webhook->waiting, size = endpoint->webhook->size;
    while (endpoint->count > most || endpoint->bytes > size) {
        uint64_t over = endpoint->count > most ? endpoint->count - most : 0;
        uint64_t heavy = endpoint->bytes > size
                             ? (endpoint->bytes - size) * endpoint->count / endpoint->bytes + 1
                             : 0;
        uint64_t drop = over > heavy ? over : heavy, bytes = 0;
        if (webhook_outbox_drop(dispatcher->outbox, str_c(endpoint->name), drop, &bytes, NULL) !=
            OK)
            return;
        endpoint->dropped += drop;
        endpoint->count -= drop < endpoint->count ? drop : endpoint->count;
        endpoint->bytes -= bytes < endpoint->bytes ? bytes : endpoint->bytes;
    }
}

static void settle_batch(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    uint64_t count = endpoint->batch_count, bytes = endpoint->batch_bytes;
    endpoint->batch_count = endpoint->batch_bytes = 0;
    if (!count)
        return;
    if (!dispatcher->batch_good) {
        endpoint->dropped += count;
        return;
    }
    endpoint->count += count;
    endpoint->bytes += bytes;
    if (endpoint->webhook)
        keep_bound(dispatcher, endpoint);
}

void webhook_dispatcher_end(struct webhook_dispatcher *dispatcher)
{
    struct error err;
    if (dispatcher->batch_good) {
        enum result result = webhook_outbox_end(dispatcher->outbox, /* good= */ true, &err);
        dispatcher->batch_good = result == OK;
        dispatcher_note_outbox(dispatcher, result, &err);
    }
    LIST_EACH (&dispatcher->endpoints, link)
        settle_batch(dispatcher, CONTAINER(link, struct endpoint, link));
    dispatcher_wake(dispatcher);
}

void webhook_dispatcher_lost(struct webhook_dispatcher *dispatcher, uint64_t count)
{
    dispatcher->lost += count;
}

/* ---- what is due ---- */

static bool is_in_flight(const struct endpoint *endpoint, int64_t row)
{
    for (size_t i = 0; i < WEBHOOK_CONCURRENCY_MAX; i++)
        if (endpoint->rows[i] == row)
            return true;
    return false;
}

static void expire(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint, int64_t now_ms)
{
    uint64_t count = 0;
    if (now_ms < endpoint->expire_ms)
        return;
    endpoint->expire_ms = now_ms + EXPIRE_MS;
    if (webhook_outbox_expire(dispatcher->outbox, str_c(endpoint->name), now_ms,
                              endpoint->webhook->give_up_ns / NS_PER_MS, &count, NULL) != OK ||
        !count)
        return;
    endpoint->failed += count;
    endpoint->finished += count;
    dispatcher_count_waiting(dispatcher, endpoint);
    event_emit(EVENT_WEBHOOK_FAILED, F_C(WEBHOOK, endpoint->name), F_C(WHY, "given up"),
               F_INT(COUNT, count), F_C(ERROR, endpoint->error));
}

/* Only what is new of the deliveries that are over is kept. */
static void cut_log(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    if (endpoint->finished < FINISHED_SLACK)
        return;
    endpoint->finished = 0;
    (void)!webhook_outbox_forget(dispatcher->outbox, str_c(endpoint->name), FINISHED_KEPT, NULL);
}

/* Begin as many attempts as may run; when to look again. */
static int64_t serve(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                     int64_t now_ms)
{
    enum { LOOK_AT = 2 * WEBHOOK_CONCURRENCY_MAX };
    struct webhook_delivery due[LOOK_AT];
    struct error err;
    size_t count = 0;
    if (!endpoint->webhook || endpoint->is_paused || endpoint->is_disabled)
        return INT64_MAX;
    expire(dispatcher, endpoint, now_ms);
    cut_log(dispatcher, endpoint);
    if (now_ms < endpoint->hold_until_ms)
        return endpoint->hold_until_ms;
    unsigned most = endpoint->failures || endpoint->is_failing || dispatcher->is_failed
                        ? 1
                        : (unsigned)endpoint->webhook->concurrency;
    if (!endpoint->count || endpoint->in_flight >= most)
        return INT64_MAX; /* an event or the end of an attempt wakes us */
    if (webhook_outbox_first(dispatcher->outbox, str_c(endpoint->name), LOOK_AT, due, &count,
                             &err) != OK) {
        dispatcher_note_outbox(dispatcher, FAILED, &err);
        return now_ms + OPEN_AGAIN_MS;
    }
    for (size_t i = 0; i < count && endpoint->in_flight < most; i++) {
        if (is_in_flight(endpoint, due[i].row))
            continue;
        if (due[i].next_ms > now_ms && due[i].next_ms < now_ms + FARTHEST_MS)
            return due[i].next_ms;
        dispatcher_try(dispatcher, endpoint, due[i].row);
    }
    return now_ms + EXPIRE_MS;
}

static bool has_untold(const struct webhook_dispatcher *dispatcher)
{
    bool any = dispatcher->lost != dispatcher->lost_told;
    LIST_EACH (&dispatcher->endpoints, link) {
        const struct endpoint *endpoint = CONTAINER(link, struct endpoint, link);
        any = any || endpoint->dropped != endpoint->dropped_told;
    }
    return any;
}

static int64_t serve_all(struct webhook_dispatcher *dispatcher)
{
    int64_t now_ms = dispatcher_now_ms(), next_ms = INT64_MAX;
    tell_all_lost(dispatcher, now_ms);
    if (has_untold(dispatcher))
        next_ms = dispatcher->tell_ms;
    if (list_is_empty(&dispatcher->endpoints))
        return next_ms;
    if (!dispatcher_has_outbox(dispatcher))
        return dispatcher->open_ms < next_ms ? dispatcher->open_ms : next_ms;
    LIST_EACH (&dispatcher->endpoints, link) {
        int64_t due_ms = INT64_MAX;
        if (dispatcher->outbox) /* it may have been set aside in between */
            due_ms = serve(dispatcher, CONTAINER(link, struct endpoint, link), now_ms);
        if (due_ms < next_ms)
            next_ms = due_ms;
    }
    return next_ms;
}

void webhook_dispatcher_run(void *arg)
{
    struct webhook_dispatcher *dispatcher = arg;
    struct error err = {0};
    dispatcher->fiber = fiber_current();
    scope_open(&dispatcher->attempts, TIME_NEVER);
    dispatcher->is_running = true;
    while (fiber_check(&err) == OK) {
        int64_t next_ms = serve_all(dispatcher);
        int64_t wait_ms = next_ms - dispatcher_now_ms();
        struct scope wait;
        scope_open(&wait, next_ms == INT64_MAX
                              ? TIME_NEVER
                              : clock_deadline((wait_ms > 1 ? wait_ms : 1) * NS_PER_MS));
        (void)!fiber_suspend(&err);
        scope_close(&wait);
    }
    dispatcher->is_running = false;
    dispatcher->fiber = NULL;
    scope_close(&dispatcher->attempts);
}
