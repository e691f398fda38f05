/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/replies.h"

#include "base/map.h"
#include "base/memory.h"
#include "gateway/worker.h"

#include <pthread.h>
#include <stdlib.h>

struct replies {
    pthread_mutex_t mutex;
    struct map by_listener; /* name -> struct gateway_replies, without the name */
};

struct replies *replies_new(void)
{
    struct replies *replies = NEW(struct replies);
    pthread_mutex_init(&replies->mutex, NULL);
    map_init(&replies->by_listener);
    return replies;
}

void replies_free(struct replies *replies)
{
    if (!replies)
        return;
    size_t cursor = 0;
    struct str name;
    void *counts;
    while (map_next(&replies->by_listener, &cursor, &name, &counts))
        free(counts);
    map_done(&replies->by_listener);
    pthread_mutex_destroy(&replies->mutex);
    free(replies);
}

void replies_add(struct replies *replies, struct str listener, const struct smtp_replies *counts)
{
    pthread_mutex_lock(&replies->mutex);
    struct gateway_replies *sum = map_get(&replies->by_listener, listener);
    if (!sum) {
        sum = NEW(struct gateway_replies);
        map_put(&replies->by_listener, listener, sum);
    }
    for (size_t i = 0; i < SMTP_ANSWERED_COUNT; i++)
        for (size_t k = 0; k < SMTP_REPLY_CLASSES; k++)
            sum->counts[i][k] += counts->counts[i][k];
    pthread_mutex_unlock(&replies->mutex);
}

struct gateway_replies *replies_list(struct replies *replies, struct arena *arena,
                                     size_t *out_count)
{
    size_t cursor = 0;
    struct str name;
    void *counts;
    pthread_mutex_lock(&replies->mutex);
    struct gateway_replies *list =
        arena_alloc_array(arena, replies->by_listener.count + 1, sizeof *list);
    for (*out_count = 0; map_next(&replies->by_listener, &cursor, &name, &counts); ++*out_count) {
        list[*out_count] = *(const struct gateway_replies *)counts;
        list[*out_count].listener = arena_str(arena, name);
    }
    pthread_mutex_unlock(&replies->mutex);
    return list;
}

struct gateway_replies *gateway_replies(struct gateway *gateway, struct arena *arena,
                                        size_t *out_count)
{
    return replies_list(gateway->replies, arena, out_count);
}
