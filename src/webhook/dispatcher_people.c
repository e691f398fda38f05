/* SPDX-License-Identifier: Apache-2.0 */
/* webhook/dispatcher_people.c - what people ask of webhooks, and what they order. */
#include "webhook/dispatcher_internal.h"

#include "base/clock.h"

bool webhook_dispatcher_knows(const struct webhook_dispatcher *dispatcher, struct str name)
{
    return dispatcher_find(dispatcher, name) != NULL;
}

static void describe(struct webhook_dispatcher *dispatcher, const struct endpoint *endpoint,
                     struct arena *arena, struct webhook_status *out)
{
    int64_t now_ms = dispatcher_now_ms();
    *out = (struct webhook_status){
        .name = arena_str(arena, str_c(endpoint->name)),
        .origin = arena_str(arena, endpoint->webhook->origin),
        .is_failing = endpoint->is_failing,
        .is_paused = endpoint->is_paused,
        .is_disabled = endpoint->is_disabled,
        .since_ms = endpoint->since_ms,
        .by = arena_str(arena, str_c(endpoint->by)),
        .error = arena_str(arena, str_c(endpoint->error)),
        .next_ms = endpoint->hold_until_ms > now_ms ? endpoint->hold_until_ms : 0,
        .delivered_ms = endpoint->delivered_ms,
        .pending = endpoint->count,
        .pending_bytes = endpoint->bytes,
        .in_flight = endpoint->in_flight,
        .secrets = (unsigned)endpoint->webhook->secret_count,
        .delivered = endpoint->delivered,
        .failed = endpoint->failed,
        .dropped = endpoint->dropped,
        .attempts_failed = endpoint->attempts_failed,
    };
    if (dispatcher->outbox)
        out->oldest_ms = webhook_outbox_oldest_ms(dispatcher->outbox, out->name);
}

struct webhook_status *webhook_dispatcher_list(struct webhook_dispatcher *dispatcher,
                                               struct arena *arena, size_t *out_count)
{
    const struct webhook_set *set = dispatcher->set ? &dispatcher->set->given : NULL;
    struct webhook_status *items =
        arena_alloc_array(arena, (set ? set->count : 0) + 1, sizeof *items);
    *out_count = 0;
    for (size_t i = 0; set && i < set->count; i++) {
        const struct endpoint *endpoint = dispatcher_find(dispatcher, set->items[i].name);
        if (endpoint)
            describe(dispatcher, endpoint, arena, &items[(*out_count)++]);
    }
    return items;
}

static enum result need_outbox(struct webhook_dispatcher *dispatcher, struct error *err)
{
    return dispatcher_has_outbox(dispatcher)
               ? OK
               : fail(err, ERROR_TEMPORARY, "the outbox cannot be opened (see the log)");
}

enum result webhook_dispatcher_deliveries(struct webhook_dispatcher *dispatcher, struct str name,
                                          int state, int64_t before, size_t most,
                                          struct arena *arena, struct webhook_deliveries *out,
                                          struct error *err)
{
    if (need_outbox(dispatcher, err) != OK)
        return FAILED;
    out->items = arena_alloc_array(arena, most + 1, sizeof *out->items);
    if (webhook_outbox_list(dispatcher->outbox, name, state, before, most + 1, arena, out->items,
                            &out->count, err) != OK)
        return FAILED;
    out->has_more = out->count > most;
    out->count -= out->has_more;
    return OK;
}

enum result webhook_dispatcher_delivery(struct webhook_dispatcher *dispatcher, struct str id,
                                        struct arena *arena, struct webhook_delivery *out,
                                        bool *out_found, struct error *err)
{
    if (need_outbox(dispatcher, err) != OK)
        return FAILED;
    return webhook_outbox_get(dispatcher->outbox, 0, id, arena, out, out_found, err);
}

enum result webhook_dispatcher_retry(struct webhook_dispatcher *dispatcher, struct str id,
                                     bool *out_found, struct error *err)
{
    struct webhook_delivery delivery;
    struct arena *arena = arena_new(0);
    enum result result =
        webhook_dispatcher_delivery(dispatcher, id, arena, &delivery, out_found, err);
    struct endpoint *endpoint =
        result == OK && *out_found ? dispatcher_find(dispatcher, delivery.webhook) : NULL;
    if (endpoint) {
        delivery.state = WEBHOOK_STATE_WAITING;
        delivery.next_ms = dispatcher_now_ms();
        result = webhook_outbox_note(dispatcher->outbox, &delivery, out_found, err);
        dispatcher_count_waiting(dispatcher, endpoint);
        if (result == OK && *out_found)
            dispatcher_try_now(dispatcher, endpoint, delivery.row);
    }
    arena_free(arena);
    return result;
}

enum result webhook_dispatcher_pause(struct webhook_dispatcher *dispatcher, struct str name,
                                     bool pause, struct str by, struct error *err)
{
    struct endpoint *endpoint = dispatcher_find(dispatcher, name);
    if (!endpoint)
        return fail(err, ERROR_PERMANENT, "there is no such webhook");
    struct endpoint before = *endpoint;
    endpoint->is_paused = pause;
    endpoint->is_disabled = pause && endpoint->is_disabled;
    endpoint->since_ms = pause ? dispatcher_now_ms() : 0;
    (void)!str_to_c(str_slice(by, 0, pause ? sizeof endpoint->by - 1 : 0), endpoint->by,
                    sizeof endpoint->by);
    if (dispatcher_mark(dispatcher, endpoint, err) != OK) {
        endpoint->is_paused = before.is_paused;
        endpoint->is_disabled = before.is_disabled;
        endpoint->since_ms = before.since_ms;
        return FAILED;
    }
    if (!pause) {
        endpoint->failures = 0;
        endpoint->hold_until_ms = 0;
        (void)!webhook_outbox_release(dispatcher->outbox, name, dispatcher_now_ms(), NULL);
    }
    dispatcher_wake(dispatcher);
    return OK;
}
