/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/stream_internal.h - what the stream and its ways of transport (TCP, memory) share.
 */
#pragma once

#include "fiber/loop.h"
#include "net/stream.h"

#include <sys/types.h>

struct memory_end;
struct tls_session;

struct stream_transport {
    /* As recv() and send() on a socket that does not block: -1 with errno set, 0 at the end. */
    ssize_t (*read)(struct stream *stream, void *out, size_t size);
    ssize_t (*write)(struct stream *stream, const void *data, size_t size);
    /* All has been read, and the loop told of nothing since. NULL: not known without asking. */
    bool (*is_quiet)(const struct stream *stream);
    /* After EAGAIN: until it may go on. FAILED as fiber_suspend(). Suspends. */
    enum result (*wait_readable)(struct stream *stream, struct error *err);
    enum result (*wait_writable)(struct stream *stream, struct error *err);
    void (*end_output)(struct stream *stream); /* NULL: only close() ends it */
    void (*close)(struct stream *stream);
};

struct stream {
    const struct stream_transport *transport;
    union {
        struct watch watch;        /* TCP and Unix sockets */
        struct memory_end *memory; /* in memory */
    };
    struct tls_session *tls;

    char *in; /* NULL while nothing is in it and nobody reads */
    size_t in_begin, in_len, in_cap;
    size_t in_used;  /* bytes of it that anything was ever read into */
    size_t in_chunk; /* how much the next read asks for */
    char *out;
    size_t out_len, out_cap;
    char *wire; /* what TLS made and the transport did not take yet; NULL: nothing */
    size_t wire_at, wire_len, wire_cap;

    unsigned reads_without_wait;
    size_t moved_in_a_row; /* bytes, both directions, without a wait */
    size_t moved_lately;   /* the same of the waits before, the older ones for less and less */
    bool drained;          /* the last read emptied the socket */
    bool found_empty;      /* the last read found nothing */
    bool is_last;          /* what is written now is the last before close() */
    bool ended;            /* the peer closed its side */
    bool broken;           /* an error ended it, in both directions */
    bool mute; /* in clear: nothing more can be written, but what the peer said can be read */
    struct net_address peer, local;
};

struct stream *stream_new(const struct stream_transport *transport);
