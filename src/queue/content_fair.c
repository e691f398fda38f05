/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/content_fair.c - whose content run is next: flows take turns.
 *
 * A flow whose scanner is slow has many messages waiting. It fills its own share of the runs and no
 * more, so that mail of other flows finds a place at once. Large messages count for what they are:
 * a step may hold as much in memory.
 */
#include "base/memory.h"
#include "queue/worker.h"

#include <stdlib.h>

enum { OF_ONE_FLOW = QUEUE_CONTENT_RUNS * 3 / 4 };
static const uint64_t BYTES_OF_ALL = UINT64_C(256) << 20;
static const uint64_t BYTES_OF_ONE_FLOW = UINT64_C(192) << 20;
static const uint64_t BYTES_OF_ONE = UINT64_C(64) << 20; /* more is not held: content.limits */

static struct queue_content_flow *find(struct queue_worker *worker, struct str name)
{
    LIST_EACH (&worker->content_flows, link) {
        struct queue_content_flow *flow = CONTAINER(link, struct queue_content_flow, link);
        if (str_equal(str_of(flow->name, flow->name_len), name))
            return flow;
    }
    return NULL;
}

void queue_content_wait(struct queue_worker *worker, struct queue_entry *entry, struct str name)
{
    struct queue_content_flow *flow = find(worker, name);
    if (!flow) {
        flow = memory_alloc(sizeof *flow + name.len);
        flow->running = 0;
        flow->bytes = 0;
        flow->name_len = name.len;
        memcpy(flow->name, name.ptr, name.len);
        list_init(&flow->ready);
        list_append(&worker->content_flows, &flow->link);
    }
    list_append(&flow->ready, &entry->in_content);
}

static struct queue_entry *first_of(const struct queue_content_flow *flow)
{
    return CONTAINER(flow->ready.next, struct queue_entry, in_content);
}

static uint64_t size_of(const struct queue_entry *entry)
{
    return entry->ready.size < BYTES_OF_ONE ? entry->ready.size : BYTES_OF_ONE;
}

static bool may_run(const struct queue_worker *worker, const struct queue_content_flow *flow)
{
    if (list_is_empty(&flow->ready) || flow->running >= OF_ONE_FLOW)
        return false;
    uint64_t size = size_of(first_of(flow));
    return flow->bytes + size <= BYTES_OF_ONE_FLOW && worker->content_bytes + size <= BYTES_OF_ALL;
}

static struct queue_content_flow *next_flow(const struct queue_worker *worker)
{
    LIST_EACH (&worker->content_flows, link) {
        struct queue_content_flow *flow = CONTAINER(link, struct queue_content_flow, link);
        if (may_run(worker, flow))
            return flow;
    }
    return NULL;
}

bool queue_content_is_ready(const struct queue_worker *worker)
{
    return next_flow(worker) != NULL;
}

bool queue_content_next(struct queue_worker *worker, struct queue_content_turn *out)
{
    struct queue_content_flow *flow = next_flow(worker);
    if (!flow)
        return false;
    list_remove(&flow->link); /* the others first, next time */
    list_append(&worker->content_flows, &flow->link);
    out->flow = flow;
    out->entry = first_of(flow);
    out->size = size_of(out->entry);
    list_remove(&out->entry->in_content);
    flow->running++;
    flow->bytes += out->size;
    worker->content_bytes += out->size;
    return true;
}

void queue_content_ended(struct queue_worker *worker, const struct queue_content_turn *turn)
{
    struct queue_content_flow *flow = turn->flow;
    worker->content_bytes -= turn->size;
    flow->bytes -= turn->size;
    flow->running--;
    if (flow->running || !list_is_empty(&flow->ready))
        return;
    list_remove(&flow->link);
    free(flow);
}

void queue_content_flows_free(struct queue_worker *worker)
{
    struct list *link;
    while ((link = list_shift(&worker->content_flows)) != NULL)
        free(CONTAINER(link, struct queue_content_flow, link));
}
