/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/hook.h"

#include "base/check.h"
#include "event/event.h"

static bool is_hooked(const struct queue_attempt *attempt, struct str function)
{
    return attempt->worker->queue->handler.hook != NULL &&
           attempt->transport->script.file.len > 0 && function.len > 0;
}

static bool is_pending(const struct queue_attempt *attempt, size_t index)
{
    return attempt->record.status[index] == QUEUE_STATUS_PENDING;
}

static struct queue_hook_recipient describe(const struct queue_attempt *attempt, size_t index,
                                            bool after)
{
    const struct queue_result *result = &attempt->results[index];
    const struct queue_said *said = after ? &result->said : attempt->record.said[index];
    struct queue_hook_recipient recipient = {
        .address = attempt->meta.recipients[index].address,
        .reply = {.text = STR_EMPTY},
        .mta = STR_EMPTY,
        .outcome = QUEUE_HOOK_OPEN,
    };
    if (said != NULL) {
        recipient.reply = said->reply;
        recipient.mta = said->mta;
    }
    if (after)
        recipient.outcome =
            result->verdict == QUEUE_VERDICT_DELIVERED || result->verdict == QUEUE_VERDICT_DISCARDED
                ? QUEUE_HOOK_DELIVERED
            : result->verdict == QUEUE_VERDICT_FAILED ? QUEUE_HOOK_FAILED
                                                      : QUEUE_HOOK_DEFERRED;
    return recipient;
}

static void ask(struct queue_attempt *attempt, bool after, struct queue_hook *hook) MAY_YIELD
{
    const struct queue_handler *handler = &attempt->worker->queue->handler;
    struct queue_hook_recipient *recipients =
        arena_alloc_array(attempt->arena, attempt->meta.recipient_count + 1, sizeof *recipients);
    *hook = (struct queue_hook){
        .after = after,
        .transport = attempt->transport,
        .message = attempt->meta.message,
        .session = attempt->meta.session,
        .destination = queue_destination_name(attempt->transport, &attempt->meta),
        .sender = &attempt->meta.sender,
        .recipients = recipients,
        .attempt = attempt->record.attempts + 1,
        .age_ns = attempt->start_wall_ns - attempt->meta.accepted_wall_ns,
        .size = attempt->entry->ready.size,
        .host = after ? str_c(attempt->host) : STR_EMPTY,
        .arena = attempt->arena,
    };
    for (size_t i = 0; i < attempt->meta.recipient_count; i++)
        if (is_pending(attempt, i))
            recipients[hook->recipient_count++] = describe(attempt, i, after);
    handler->hook(handler->context, attempt->snapshot, hook);
    attempt->delay_ns = hook->delay_ns;
}

static void hold(struct queue_attempt *attempt)
{
    attempt->hold = true;
    event_emit(EVENT_DELIVERY_HELD, F_C(MESSAGE, mail_id_text(attempt->meta.message).chars),
               F_C(ENTRY, mail_id_text(attempt->entry->id).chars),
               F_STR(TRANSPORT, attempt->meta.transport), F_C(REASON, "policy"),
               F_INT(COUNT, queue_record_pending(&attempt->record)));
}

/* Of all recipients that are not done and not delivered. */
static void decide(struct queue_attempt *attempt, enum queue_verdict verdict,
                   const struct mail_reply *said)
{
    for (size_t i = 0; i < attempt->meta.recipient_count; i++) {
        struct queue_result *result = &attempt->results[i];
        if (!is_pending(attempt, i) || result->verdict == QUEUE_VERDICT_DELIVERED ||
            result->verdict == QUEUE_VERDICT_DISCARDED)
            continue;
        result->verdict = verdict;
        if (said->code != 0)
            result->said = (struct queue_said){.reply = *said, .mta = STR_EMPTY};
    }
}

static struct mail_reply words_of(const struct queue_hook *hook)
{
    if (hook->said.code != 0)
        return hook->said;
    return hook->verdict == QUEUE_HOOK_REJECT
               ? mail_reply_of(550, 5, 7, 1, STR("Not sent, by a rule of the gateway"))
               : mail_reply_of(451, 4, 7, 1, STR("Put off by a rule of the gateway"));
}

/* The same transport, but to one server. */
static void send_elsewhere(struct queue_attempt *attempt, const struct server *server)
{
    struct transport *other = ARENA_NEW(attempt->arena, struct transport);
    *other = *attempt->transport;
    other->method = server->kind == SERVER_LMTP ? TRANSPORT_LMTP : TRANSPORT_SERVER;
    other->server = server;
    other->server_name = server->name;
    other->allow_private = true;
    attempt->transport = other;
    attempt->elsewhere = true;
}

/* False: no attempt is made now. */
static bool ask_before(struct queue_attempt *attempt) MAY_YIELD
{
    struct queue_hook hook;
    if (!is_hooked(attempt, attempt->transport->script.before))
        return true;
    ask(attempt, /* after= */ false, &hook);
    struct mail_reply said = words_of(&hook);
    switch (hook.verdict) {
    case QUEUE_HOOK_NEXT:
        return true;
    case QUEUE_HOOK_ROUTE:
        send_elsewhere(attempt, hook.server);
        return true;
    case QUEUE_HOOK_DEFER:
        decide(attempt, QUEUE_VERDICT_DEFERRED, &said);
        break;
    case QUEUE_HOOK_REJECT:
        decide(attempt, QUEUE_VERDICT_FAILED, &said);
        break;
    case QUEUE_HOOK_HOLD:
        attempt->stopped = true; /* no attempt was made, and none is counted */
        hold(attempt);
        break;
    }
    return false;
}

static void ask_after(struct queue_attempt *attempt) MAY_YIELD
{
    struct queue_hook hook;
    if (attempt->stopped || !is_hooked(attempt, attempt->transport->script.after))
        return;
    ask(attempt, /* after= */ true, &hook);
    if (hook.verdict == QUEUE_HOOK_DEFER)
        decide(attempt, QUEUE_VERDICT_DEFERRED, &hook.said);
    else if (hook.verdict == QUEUE_HOOK_REJECT)
        decide(attempt, QUEUE_VERDICT_FAILED, &hook.said);
    else if (hook.verdict == QUEUE_HOOK_HOLD)
        hold(attempt);
    if (hook.verdict == QUEUE_HOOK_HOLD) /* failures are kept, too: nobody is told */
        decide(attempt, QUEUE_VERDICT_DEFERRED, &hook.said);
}

bool queue_hook_deliver(struct queue_attempt *attempt, struct queue_connection *connection)
{
    const struct queue *queue = attempt->worker->queue;
    if (!ask_before(attempt)) {
        attempt->reached = true;
        return false;
    }
    if (attempt->elsewhere) /* that host's connection is not the destination's */
        queue_connection_close(connection, queue, true);
    queue_delivery_run(attempt, connection);
    if (attempt->elsewhere) {
        queue_connection_close(connection, queue, true);
        attempt->reached = true;
    }
    ask_after(attempt);
    return !attempt->elsewhere;
}
