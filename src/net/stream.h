/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/stream.h - a connection as two buffers, in clear or under TLS, or in memory for tests.
 *
 * A stream belongs to one fiber at a time; every call that may wait honours its deadline. After a
 * TLS error or close_notify the stream is dead: nothing more is read, and there is no way back to
 * clear text.
 */
#pragma once

#include "base/error.h"
#include "fiber/fiber.h"
#include "net/address.h"

struct stream;
struct tls_context;

struct stream_tls_info {
    bool active;
    struct str version; /* "TLSv1.3", static */
    struct str cipher;  /* static */
    bool peer_verified;
    char server_name[256]; /* SNI the client sent (server side), or empty */
};

/* ---- life cycle ---- */

/* Take over a connected, non-blocking socket. */
enum result stream_open_fd(int fd, struct stream **out_stream, struct error *err);
/* The same for one that was just accepted: its peer is known from accept(2), its own address from
 * the listening socket (NULL if that has none), which also gave it TCP_NODELAY. */
enum result stream_open_accepted(int fd, const struct net_address *peer,
                                 const struct net_address *local, struct stream **out_stream,
                                 struct error *err);
/* Before accepting from it. */
void stream_prepare_listening(int fd);
/* Connect; `source` may be NULL. The deadline is the fiber's. */
enum result stream_connect(const struct net_address *to, const struct net_ip *source,
                           struct stream **out_stream, struct error *err) MAY_YIELD;
/* Two ends of a pipe in memory, in one thread (tests). */
void stream_pair(struct stream **out_a, struct stream **out_b);
/* Closes at once, unsent bytes are dropped; over TLS tries a close_notify without waiting. NULL is
 * allowed. */
void stream_close(struct stream *stream);

/* ---- TLS (RFC 3207, 8314): the input buffer must be empty, see stream_buffered() ---- */

enum result stream_tls_accept(struct stream *stream, struct tls_context *context,
                              struct error *err) MAY_YIELD;
/* `server_name` for SNI and, when the context verifies, for the name check. */
enum result stream_tls_connect(struct stream *stream, struct tls_context *context,
                               struct str server_name, struct error *err) MAY_YIELD;
const struct stream_tls_info *stream_tls_info(const struct stream *stream);

/* ---- reading ---- */

/* What has been read and not consumed; valid until the next call that reads. */
struct str stream_buffered(const struct stream *stream);
/* Read more; at least one byte is added on OK unless *out_end (the peer closed its side). The
 * buffer holds at most `max` bytes (up to 64K + a line): FAILED with ERROR_LIMIT when full. */
enum result stream_fill(struct stream *stream, size_t max, bool *out_end,
                        struct error *err) MAY_YIELD;
void stream_consume(struct stream *stream, size_t size);
/* Bytes waiting in the kernel or TLS layer right now, without suspending: adds them to the buffer.
 * For the STARTTLS and pipelining checks. */
enum result stream_fill_available(struct stream *stream, size_t max, struct error *err);

/* ---- writing ---- */

/* Add to the output buffer; sends when over 64K is waiting. */
enum result stream_write(struct stream *stream, struct str data, struct error *err) MAY_YIELD;
/* Send all. */
enum result stream_flush(struct stream *stream, struct error *err) MAY_YIELD;
/* Send all, and a close_notify with it if there is TLS: nothing may be written afterwards, but what
 * the peer still sends can be read. */
enum result stream_finish(struct stream *stream, struct error *err) MAY_YIELD;
/* The same when stream_close() follows at once: in clear the last bytes and the end leave in one
 * packet. For a peer who has nothing more to say: bytes of his that were not read would make the
 * end a reset, and our last words go with it. */
enum result stream_finish_before_close(struct stream *stream, struct error *err) MAY_YIELD;
/* Nothing more will be written: the peer sees the end at once (under TLS with a close_notify), and
 * what it still sends can be read. What was not flushed is lost. */
void stream_end_output(struct stream *stream);

/* ---- queries ---- */

const struct net_address *stream_peer(const struct stream *stream);
const struct net_address *stream_local(const struct stream *stream);
/* Is the connection still usable while nobody reads: false once the peer closed or sent bytes. */
bool stream_is_idle_alive(struct stream *stream);
/* The same as far as the loop has heard, at no cost: for who copes with a peer that has just gone.
 */
bool stream_seems_idle_alive(struct stream *stream);
