/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/tail.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { READERS_MAX = 16, WAITING_MAX = 1024 * 1024 };

struct tail {
    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t news;
    struct list readers;
    size_t count;
    bool stopped;
    atomic_size_t listening; /* count, to be looked at without the mutex */
};

struct tail_reader {
    struct list in_tail;
    struct tail *tail;
    struct arena *arena;
    struct selector selector;
    struct buf waiting;
    size_t given; /* of `waiting` */
    uint64_t dropped;
};

struct tail *tail_new(void)
{
    struct tail *tail = NEW(struct tail);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&tail->mutex, NULL);
    pthread_cond_init(&tail->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    list_init(&tail->readers);
    return tail;
}

void tail_free(struct tail *tail)
{
    if (!tail)
        return;
    pthread_mutex_destroy(&tail->mutex);
    pthread_cond_destroy(&tail->news);
    free(tail);
}

void tail_stop(struct tail *tail)
{
    pthread_mutex_lock(&tail->mutex);
    tail->stopped = true;
    pthread_cond_broadcast(&tail->news);
    pthread_mutex_unlock(&tail->mutex);
}

static void offer(struct tail_reader *reader, struct str line)
{
    struct buf *waiting = &reader->waiting;
    if (waiting->len + line.len + 128 > WAITING_MAX) {
        reader->dropped++;
        return;
    }
    if (reader->dropped) {
        buf_printf(waiting, "data: {\"event\":\"stream.dropped\",\"count\":%llu}\n\n",
                   (unsigned long long)reader->dropped);
        reader->dropped = 0;
    }
    buf_append(waiting, STR("data: "));
    buf_append(waiting, line); /* ends in a newline */
    buf_append_byte(waiting, '\n');
}

void tail_offer(struct tail *tail, const struct event *event, struct str node, struct str revision)
{
    if (!tail || atomic_load_explicit(&tail->listening, memory_order_relaxed) == 0)
        return;
    struct buf line BUF_CLEANUP;
    buf_init(&line, 65536);
    pthread_mutex_lock(&tail->mutex);
    LIST_EACH (&tail->readers, link) {
        struct tail_reader *reader = CONTAINER(link, struct tail_reader, in_tail);
        if (!selector_fits(&reader->selector, event))
            continue;
        if (line.len == 0)
            event_format_json(event, node, revision, &line);
        offer(reader, buf_str(&line));
    }
    pthread_cond_broadcast(&tail->news);
    pthread_mutex_unlock(&tail->mutex);
}

struct tail_reader *tail_join(struct tail *tail, struct str query)
{
    struct tail_reader *reader = NEW(struct tail_reader);
    struct error err;
    reader->tail = tail;
    reader->arena = arena_new(0);
    buf_init(&reader->waiting, WAITING_MAX);
    bool good = selector_parse(query, reader->arena, &reader->selector, &err) == OK;
    pthread_mutex_lock(&tail->mutex);
    good = good && tail->count < READERS_MAX && !tail->stopped;
    if (good) {
        list_append(&tail->readers, &reader->in_tail);
        atomic_store(&tail->listening, ++tail->count);
    }
    pthread_mutex_unlock(&tail->mutex);
    if (good)
        return reader;
    arena_free(reader->arena);
    free(reader);
    return NULL;
}

void tail_leave(struct tail_reader *reader)
{
    struct tail *tail = reader->tail;
    pthread_mutex_lock(&tail->mutex);
    list_remove(&reader->in_tail);
    atomic_store(&tail->listening, --tail->count);
    pthread_mutex_unlock(&tail->mutex);
    buf_done(&reader->waiting);
    arena_free(reader->arena);
    free(reader);
}

ptrdiff_t tail_read(struct tail_reader *reader, char *to, size_t size, int timeout_ms)
{
    struct tail *tail = reader->tail;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&tail->mutex);
    while (reader->waiting.len == 0 && !tail->stopped &&
           pthread_cond_timedwait(&tail->news, &tail->mutex, &until) == 0)
        ;
    struct str rest = str_from(buf_str(&reader->waiting), reader->given);
    ptrdiff_t given = (ptrdiff_t)(rest.len < size ? rest.len : size);
    if (given)
        memcpy(to, rest.ptr, (size_t)given);
    reader->given += (size_t)given;
    if (reader->given == reader->waiting.len) {
        buf_clear(&reader->waiting);
        reader->given = 0;
    }
    if (given == 0 && tail->stopped)
        given = -1;
    pthread_mutex_unlock(&tail->mutex);
    return given;
}
