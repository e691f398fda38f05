/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/content_fair.c - whose content run is next: flows take turns.
 *
 * A flow whose scanner is slow has many messages waiting. It fills its own share of the runs and no
 * more, so that mail of other flows finds a place at once.
 */
#include "base/memory.h"
#include "queue/worker.h"

#include <stdlib.h>

enum { OF_ONE_FLOW = QUEUE_CONTENT_RUNS * 3 / 4 };

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
        flow->name_len = name.len;
        memcpy(flow->name, name.ptr, name.len);
        list_init(&flow->ready);
        list_append(&worker->content_flows, &flow->link);
    }
    list_append(&flow->ready, &entry->in_content);
}

static bool may_run(const struct queue_content_flow *flow)
{
    return !list_is_empty(&flow->ready) && flow->running < OF_ONE_FLOW;
}

static struct queue_content_flow *next_flow(const struct queue_worker *worker)
{
    LIST_EACH (&worker->content_flows, link) {
        struct queue_content_flow *flow = CONTAINER(link, struct queue_content_flow, link);
        if (may_run(flow))
            return flow;
    }
    return NULL;
}

bool queue_content_is_ready(const struct queue_worker *worker)
{
    return next_flow(worker) != NULL;
}

struct queue_entry *queue_content_next(struct queue_worker *worker,
                                       struct queue_content_flow **out_flow)
{
    struct queue_content_flow *flow = next_flow(worker);
    if (!flow)
        return NULL;
    list_remove(&flow->link); /* the others first, next time */
    list_append(&worker->content_flows, &flow->link);
    flow->running++;
    *out_flow = flow;
    return CONTAINER(list_shift(&flow->ready), struct queue_entry, in_content);
}

void queue_content_ended(struct queue_content_flow *flow)
{
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
