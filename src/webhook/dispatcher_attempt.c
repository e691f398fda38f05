/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/dispatcher_attempt.c - an attempt of a delivery, and what comes of it. */
#include "webhook/dispatcher_internal.h"

#include "base/clock.h"
#include "base/memory.h"
#include "fiber/fiber.h"
#include "mail/id.h"
#include "webhook/backoff.h"
#include "webhook/verdict.h"

#include <stdio.h>
#include <stdlib.h>

enum { TESTS_MAX = 8 };

struct attempt {
    struct webhook_dispatcher *dispatcher;
    struct endpoint *endpoint;
    const struct webhook_settings *webhook;
    struct set *set;
    struct arena *arena;
    struct webhook_delivery delivery;
    struct webhook_verdict verdict;
    void (*done)(const struct webhook_delivery *delivery, void *arg); /* of a test */
    void *arg;
};

static struct attempt *attempt_new(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    struct attempt *attempt = NEW(struct attempt);
    attempt->dispatcher = dispatcher;
    attempt->endpoint = endpoint;
    attempt->webhook = endpoint->webhook;
    attempt->set = endpoint->set;
    attempt->set->references++;
    attempt->arena = arena_new(0);
    return attempt;
}

static void attempt_free(struct attempt *attempt)
{
    dispatcher_set_unref(attempt->set);
    arena_free(attempt->arena);
    free(attempt);
}

/* ---- one request ---- */

/* Fill in what became of it; false: we were cancelled, and nobody knows. */
static MAY_YIELD bool send_once(struct attempt *attempt)
{
    struct webhook_delivery *delivery = &attempt->delivery;
    struct webhook_sender *sender = attempt->dispatcher->sender;
    struct webhook_reply reply = {0};
    struct error err = {0};
    struct buf signature BUF_CLEANUP;
    struct scope scope;
    int64_t seconds = clock_wall_ns() / NS_PER_S, begun_ns = clock_monotonic_ns();
    buf_init(&signature, 512);
    webhook_sign(attempt->webhook->secrets, attempt->webhook->secret_count, delivery->id, seconds,
                 delivery->body, &signature);
    const struct webhook_request request = {.webhook = attempt->webhook,
                                            .id = delivery->id,
                                            .seconds = seconds,
                                            .signature = buf_str(&signature),
                                            .body = delivery->body};
    scope_open(&scope, clock_deadline(attempt->webhook->timeout_ns));
    enum result result = sender->send(sender, &request, attempt->arena, &reply, &err);
    scope_close(&scope);
    if (result != OK && fiber_check(NULL) != OK)
        return false;
    attempt->verdict = webhook_judge(result == OK ? reply.status : 0, reply.retry_after,
                                     clock_wall_ns() / NS_PER_MS);
    delivery->attempts++;
    delivery->last_ms = dispatcher_now_ms();
    delivery->took_ms = (clock_monotonic_ns() - begun_ns) / NS_PER_MS;
    delivery->status = result == OK ? reply.status : 0;
    delivery->answer = result == OK ? reply.answer : STR_EMPTY;
    delivery->error = result != OK ? arena_str(attempt->arena, str_c(err.text))
                      : reply.status >= 300 && reply.status <= 399
                          ? STR("redirects are not followed")
                          : STR_EMPTY;
    return true;
}

/* ---- what comes of it ---- */

void dispatcher_recovered(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint)
{
    bool was_failing = endpoint->is_failing;
    endpoint->failures = 0;
    endpoint->hold_until_ms = 0;
    endpoint->is_failing = false;
    if (!was_failing)
        return;
    if (!endpoint->is_paused)
        endpoint->since_ms = 0;
    event_emit(EVENT_WEBHOOK_RECOVERED, F_C(WEBHOOK, endpoint->name));
    if (dispatcher->outbox)
        (void)!webhook_outbox_release(dispatcher->outbox, str_c(endpoint->name),
                                      dispatcher_now_ms(), NULL);
}

static void note_gone(struct attempt *attempt)
{
    struct endpoint *endpoint = attempt->endpoint;
    struct error err;
    if (endpoint->is_disabled || endpoint->webhook != attempt->webhook)
        return; /* it has another URL by now, or is none */
    endpoint->is_disabled = true;
    endpoint->since_ms = dispatcher_now_ms();
    if (dispatcher_mark(attempt->dispatcher, endpoint, &err) != OK)
        dispatcher_note_outbox(attempt->dispatcher, FAILED, &err);
    event_emit(EVENT_WEBHOOK_DISABLED, F_C(WEBHOOK, endpoint->name), F_INT(CODE, 410));
}

static void note_failure(struct attempt *attempt)
{
    struct endpoint *endpoint = attempt->endpoint;
    const struct webhook_delivery *delivery = &attempt->delivery;
    int64_t now_ms = dispatcher_now_ms();
    endpoint->attempts_failed++;
    endpoint->failures++;
    if (delivery->error.len)
        (void)!str_to_c(str_slice(delivery->error, 0, sizeof endpoint->error - 1), endpoint->error,
                        sizeof endpoint->error);
    else
        snprintf(endpoint->error, sizeof endpoint->error, "status %u", delivery->status);
    bool is_down = endpoint->failures >= WEBHOOK_DOWN_AFTER;
    int64_t hold_ms = is_down ? webhook_hold_ms(endpoint->failures - WEBHOOK_DOWN_AFTER + 1)
                      : attempt->verdict.is_busy ? webhook_hold_ms(endpoint->failures)
                                                 : 0;
    if (attempt->verdict.retry_after_ms > hold_ms)
        hold_ms = attempt->verdict.retry_after_ms;
    if (now_ms + hold_ms > endpoint->hold_until_ms)
        endpoint->hold_until_ms = now_ms + hold_ms;
    if (!is_down || endpoint->is_failing)
        return;
    endpoint->is_failing = true;
    if (!endpoint->is_paused)
        endpoint->since_ms = now_ms;
    event_emit(EVENT_WEBHOOK_FAILED, F_C(WEBHOOK, endpoint->name), F_C(ERROR, endpoint->error),
               F_INT(CODE, delivery->status), F_INT(COUNT, endpoint->failures));
}

/* When it is tried again, or that it is not. */
static void plan_next(struct attempt *attempt)
{
    struct webhook_delivery *delivery = &attempt->delivery;
    int64_t now_ms = dispatcher_now_ms();
    int64_t end_ms = delivery->created_ms + attempt->webhook->give_up_ns / NS_PER_MS;
    delivery->state = now_ms >= end_ms ? WEBHOOK_STATE_FAILED : WEBHOOK_STATE_WAITING;
    delivery->next_ms = now_ms + webhook_delay_ms(delivery->attempts);
    if (delivery->next_ms > end_ms)
        delivery->next_ms = end_ms; /* once more at the very end */
    delivery->is_held_up =
        attempt->verdict.is_busy || attempt->endpoint->failures >= WEBHOOK_DOWN_AFTER;
    if (delivery->state != WEBHOOK_STATE_FAILED)
        return;
    event_emit(EVENT_WEBHOOK_FAILED, F_C(WEBHOOK, attempt->endpoint->name), F_C(WHY, "given up"),
               F_INT(COUNT, 1), F_C(ERROR, attempt->endpoint->error));
}

static void write_down(struct attempt *attempt)
{
    struct webhook_dispatcher *dispatcher = attempt->dispatcher;
    struct endpoint *endpoint = attempt->endpoint;
    const struct webhook_delivery *delivery = &attempt->delivery;
    struct error err;
    bool found = false;
    if (!dispatcher->outbox)
        return;
    enum result result = webhook_outbox_note(dispatcher->outbox, delivery, &found, &err);
    dispatcher_note_outbox(dispatcher, result, &err);
    if (result != OK) { /* it is tried once more, as nothing says what became of it */
        endpoint->hold_until_ms = dispatcher_now_ms() + webhook_hold_ms(1);
        return;
    }
    if (!found || delivery->state == WEBHOOK_STATE_WAITING)
        return;
    endpoint->count -= endpoint->count > 0;
    endpoint->bytes -= delivery->body.len < endpoint->bytes ? delivery->body.len : endpoint->bytes;
    endpoint->finished++;
    endpoint->delivered += delivery->state == WEBHOOK_STATE_DELIVERED;
    endpoint->failed += delivery->state == WEBHOOK_STATE_FAILED;
}

static void settle(struct attempt *attempt)
{
    struct webhook_delivery *delivery = &attempt->delivery;
    struct endpoint *endpoint = attempt->endpoint;
    delivery->is_held_up = false;
    switch (attempt->verdict.outcome) {
    case WEBHOOK_DELIVERED:
        delivery->state = WEBHOOK_STATE_DELIVERED;
        endpoint->delivered_ms = delivery->last_ms;
        dispatcher_recovered(attempt->dispatcher, endpoint);
        break;
    case WEBHOOK_GONE:
        delivery->state = WEBHOOK_STATE_FAILED;
        note_gone(attempt);
        break;
    case WEBHOOK_FAILED:
        note_failure(attempt);
        plan_next(attempt);
        break;
    }
    write_down(attempt);
}

/* ---- a delivery ---- */

static void free_place(struct endpoint *endpoint, int64_t row)
{
    for (size_t i = 0; i < WEBHOOK_CONCURRENCY_MAX; i++) {
        if (endpoint->rows[i] != row)
            continue;
        endpoint->rows[i] = 0;
        endpoint->in_flight--;
        return;
    }
}

static MAY_YIELD void run_attempt(void *arg)
{
    struct attempt *attempt = arg;
    struct webhook_dispatcher *dispatcher = attempt->dispatcher;
    int64_t row = attempt->delivery.row;
    bool found = false;
    if (dispatcher->outbox && webhook_outbox_get(dispatcher->outbox, row, STR_EMPTY, attempt->arena,
                                                 &attempt->delivery, &found, NULL) != OK)
        found = false;
    if (found && send_once(attempt) && attempt->endpoint->webhook)
        settle(attempt);
    struct endpoint *endpoint = attempt->endpoint;
    free_place(endpoint, row);
    dispatcher_let_go(endpoint);
    attempt_free(attempt);
    dispatcher_wake(dispatcher);
}

void dispatcher_try(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint, int64_t row)
{
    struct attempt *attempt = attempt_new(dispatcher, endpoint);
    struct error err;
    attempt->delivery.row = row;
    size_t place = 0;
    while (endpoint->rows[place])
        place++;
    endpoint->rows[place] = row;
    endpoint->in_flight++;
    if (fiber_spawn(&dispatcher->attempts, "webhook", run_attempt, attempt, &err) == OK)
        return;
    free_place(endpoint, row);
    endpoint->hold_until_ms = dispatcher_now_ms() + webhook_hold_ms(1);
    attempt_free(attempt);
}

void dispatcher_try_now(struct webhook_dispatcher *dispatcher, struct endpoint *endpoint,
                        int64_t row)
{
    bool under_way = !dispatcher->is_running || endpoint->in_flight >= WEBHOOK_CONCURRENCY_MAX;
    for (size_t i = 0; i < WEBHOOK_CONCURRENCY_MAX; i++)
        under_way = under_way || endpoint->rows[i] == row;
    if (!under_way)
        dispatcher_try(dispatcher, endpoint, row);
}

/* ---- a test ---- */

static void keep_test(struct attempt *attempt)
{
    struct webhook_dispatcher *dispatcher = attempt->dispatcher;
    struct error err;
    attempt->delivery.state = attempt->verdict.outcome == WEBHOOK_DELIVERED
                                  ? WEBHOOK_STATE_DELIVERED
                                  : WEBHOOK_STATE_FAILED;
    if (dispatcher->outbox && attempt->endpoint->webhook)
        dispatcher_note_outbox(
            dispatcher, webhook_outbox_put(dispatcher->outbox, &attempt->delivery, &err), &err);
    attempt->endpoint->finished++;
    if (attempt->verdict.outcome == WEBHOOK_DELIVERED && attempt->endpoint->webhook)
        dispatcher_recovered(dispatcher, attempt->endpoint);
}

static MAY_YIELD void run_test(void *arg)
{
    struct attempt *attempt = arg;
    struct webhook_dispatcher *dispatcher = attempt->dispatcher;
    struct webhook_delivery *delivery = &attempt->delivery;
    struct buf body BUF_CLEANUP;
    int64_t now_ms = dispatcher_now_ms();
    buf_init(&body, WEBHOOK_PAYLOAD_MAX);
    webhook_payload_test(attempt->webhook->name, str_c(dispatcher->node), clock_wall_ns(), &body);
    *delivery = (struct webhook_delivery){
        .id = arena_printf(attempt->arena, "msg_%s", mail_id_text(mail_id_new()).chars),
        .webhook = attempt->webhook->name,
        .type = STR("webhook.test"),
        .body = buf_str(&body),
        .created_ms = now_ms,
        .next_ms = now_ms,
    };
    bool known = send_once(attempt);
    struct endpoint *endpoint = attempt->endpoint;
    if (known)
        keep_test(attempt);
    dispatcher->tests--;
    endpoint->tests--;
    attempt->done(known ? delivery : NULL, attempt->arg);
    dispatcher_let_go(endpoint);
    attempt_free(attempt);
    dispatcher_wake(dispatcher);
}

void webhook_dispatcher_test(struct webhook_dispatcher *dispatcher, struct str name,
                             void (*done)(const struct webhook_delivery *delivery, void *arg),
                             void *arg)
{
    struct endpoint *endpoint = dispatcher_find(dispatcher, name);
    struct error err;
    if (!endpoint || !dispatcher->is_running || dispatcher->tests >= TESTS_MAX) {
        done(NULL, arg);
        return;
    }
    struct attempt *attempt = attempt_new(dispatcher, endpoint);
    attempt->done = done;
    attempt->arg = arg;
    dispatcher->tests++;
    endpoint->tests++;
    if (fiber_spawn(&dispatcher->attempts, "webhook", run_test, attempt, &err) == OK)
        return;
    dispatcher->tests--;
    endpoint->tests--;
    attempt_free(attempt);
    done(NULL, arg);
}
