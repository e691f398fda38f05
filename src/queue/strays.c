/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/strays.c - the other half of the audit: mail in the spool that no worker has.
 *
 * One worker walks the ids of the spool and asks each worker which of them it has. What nobody has
 * may just be coming (durable, and not yet in a table) or going, so it is asked about once more.
 */
#include "base/memory.h"
#include "event/event.h"
#include "fiber/call.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { AGAIN_MS = 500 };

struct question {
    struct call call;
    struct queue_worker *worker; /* that is asked */
    size_t count;
    struct mail_id ids[QUEUE_STRAYS_MAX];
};

static void release(struct call *call)
{
    free(CONTAINER(call, struct question, call));
}

/* What was found at the start comes into the tables oldest first, in slices. */
static bool is_starting(const struct queue_worker *worker)
{
    return atomic_load(&worker->queue->loading) || spool_is_loading(worker->queue->spool) ||
           (worker->found_count > 0 && worker->found[worker->found_count - 1] != NULL);
}

/* On the worker that is asked: strike out what it has. */
static void handle(struct call *call)
{
    struct question *question = CONTAINER(call, struct question, call);
    size_t kept = 0;
    for (size_t i = 0; i < question->count && !is_starting(question->worker); i++)
        if (queue_worker_find(question->worker, question->ids[i]) == NULL)
            question->ids[kept++] = question->ids[i];
    question->count = kept;
    call_reply(call);
}

/* Those that no worker has stay in `ids`. */
static size_t ask_all(struct queue *queue, struct mail_id *ids, size_t count) MAY_YIELD
{
    struct question *question = NEW(struct question);
    struct error err;
    memcpy(question->ids, ids, count * sizeof *ids);
    question->count = count;
    question->call.handle = handle;
    question->call.release = release;
    for (size_t i = 0; i < queue->worker_count && question->count > 0; i++) {
        question->worker = &queue->workers[i];
        if (call_ask(queue->loops[i], &question->call, &err) == FAILED)
            return 0;
    }
    count = question->count;
    memcpy(ids, question->ids, count * sizeof *ids);
    free(question);
    return count;
}

static bool was_told(const struct queue *queue, struct mail_id id)
{
    for (size_t i = 0; i < queue->stray_count; i++)
        if (mail_id_equal(queue->strays[i], id))
            return true;
    return false;
}

static size_t tell(struct queue *queue, const struct mail_id *ids, size_t count)
{
    struct mail_id strays[QUEUE_STRAYS_MAX];
    size_t stray_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct mail_id message;
        if (!spool_has(queue->spool, ids[i]))
            continue; /* it was going */
        strays[stray_count++] = ids[i];
        if (!was_told(queue, ids[i]) && spool_find(queue->spool, ids[i], &message))
            event_emit(EVENT_BALANCE_DIFFERENCE, F_C(MESSAGE, mail_id_text(message).chars),
                       F_C(ENTRY, mail_id_text(ids[i]).chars),
                       F_STR(DETAIL, STR("the spool has it, the queue does not")));
    }
    memcpy(queue->strays, strays, stray_count * sizeof *strays);
    queue->stray_count = stray_count;
    return stray_count;
}

size_t queue_audit_strays(struct queue_worker *worker)
{
    struct queue *queue = worker->queue;
    struct mail_id *ids = memory_alloc_array(QUEUE_STRAYS_MAX, sizeof *ids);
    struct mail_id *strays = memory_alloc_array(QUEUE_STRAYS_MAX, sizeof *strays);
    size_t cursor = 0, count, stray_count = 0;
    struct error err;
    while ((count = spool_ids(queue->spool, &cursor, ids, QUEUE_STRAYS_MAX)) > 0) {
        count = ask_all(queue, ids, count);
        for (size_t i = 0; i < count && stray_count < QUEUE_STRAYS_MAX; i++)
            strays[stray_count++] = ids[i];
        fiber_yield();
    }
    if (stray_count > 0)
        stray_count =
            fiber_sleep(AGAIN_MS * NS_PER_MS, &err) == OK ? ask_all(queue, strays, stray_count) : 0;
    stray_count = tell(queue, strays, stray_count);
    free(ids);
    free(strays);
    return stray_count;
}
