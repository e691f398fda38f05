/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams in memory: two ends of one thread that behave like sockets with small kernel buffers.
 */
#include "base/memory.h"
#include "net/stream_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIPE_SIZE = 16384 };

/* One direction. */
struct pipe {
    size_t begin, len;
    struct fiber *reader, *writer; /* who waits */
    char data[PIPE_SIZE];
};

struct memory_pair {
    struct pipe pipes[2];
    bool closed[2]; /* by which end */
};

struct memory_end {
    struct memory_pair *pair;
    int side;
};

static struct pipe *incoming(const struct memory_end *end)
{
    return &end->pair->pipes[!end->side];
}

static struct pipe *outgoing(const struct memory_end *end)
{
    return &end->pair->pipes[end->side];
}

static bool peer_is_gone(const struct memory_end *end)
{
    return end->pair->closed[!end->side];
}

static void wake(struct fiber *fiber)
{
    if (fiber)
        fiber_wake(fiber);
}

static ssize_t memory_read(struct stream *stream, void *out, size_t size)
{
    struct pipe *pipe = incoming(stream->memory);
    if (pipe->len == 0 && peer_is_gone(stream->memory))
        return 0;
    if (pipe->len == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (size > pipe->len)
        size = pipe->len;
    memcpy(out, pipe->data + pipe->begin, size);
    pipe->begin += size;
    pipe->len -= size;
    if (pipe->len == 0)
        pipe->begin = 0;
    wake(pipe->writer);
    return (ssize_t)size;
}

static ssize_t memory_write(struct stream *stream, const void *data, size_t size)
{
    struct pipe *pipe = outgoing(stream->memory);
    if (peer_is_gone(stream->memory)) {
        errno = EPIPE;
        return -1;
    }
    if (pipe->begin) {
        memmove(pipe->data, pipe->data + pipe->begin, pipe->len);
        pipe->begin = 0;
    }
    size_t room = PIPE_SIZE - pipe->len;
    if (room == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (size > room)
        size = room;
    memcpy(pipe->data + pipe->len, data, size);
    pipe->len += size;
    wake(pipe->reader);
    return (ssize_t)size;
}

static MAY_YIELD enum result memory_wait_readable(struct stream *stream, struct error *err)
{
    struct pipe *pipe = incoming(stream->memory);
    enum result result = OK;
    pipe->reader = fiber_current();
    while (result == OK && pipe->len == 0 && !peer_is_gone(stream->memory))
        result = fiber_suspend(err);
    pipe->reader = NULL;
    return result;
}

static MAY_YIELD enum result memory_wait_writable(struct stream *stream, struct error *err)
{
    struct pipe *pipe = outgoing(stream->memory);
    enum result result = OK;
    pipe->writer = fiber_current();
    while (result == OK && pipe->len == PIPE_SIZE && !peer_is_gone(stream->memory))
        result = fiber_suspend(err);
    pipe->writer = NULL;
    return result;
}

static void memory_close(struct stream *stream)
{
    struct memory_end *end = stream->memory;
    struct memory_pair *pair = end->pair;
    pair->closed[end->side] = true;
    wake(outgoing(end)->reader);
    wake(incoming(end)->writer);
    if (pair->closed[0] && pair->closed[1])
        free(pair);
    free(end);
}

static const struct stream_transport memory_transport = {
    .read = memory_read,
    .write = memory_write,
    .wait_readable = memory_wait_readable,
    .wait_writable = memory_wait_writable,
    .close = memory_close,
};

static struct stream *new_end(struct memory_pair *pair, int side)
{
    static const struct net_address ends[2] = {
        {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 1},
        {.ip = {.family = 4, .bytes = {127, 0, 0, 1}}, .port = 2},
    };
    struct stream *stream = stream_new(&memory_transport);
    stream->memory = NEW(struct memory_end);
    *stream->memory = (struct memory_end){pair, side};
    stream->local = ends[side];
    stream->peer = ends[!side];
    return stream;
}

void stream_pair(struct stream **out_a, struct stream **out_b)
{
    struct memory_pair *pair = NEW(struct memory_pair);
    *out_a = new_end(pair, 0);
    *out_b = new_end(pair, 1);
}
