/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/scanner.h - one question about a message to a program beside us, over a connection.
 *
 * What clamd, rspamd and spamd have in common: equal endpoints of which one is chosen at random and
 * the next is tried when it fails, a time, a breaker. The message is streamed as it lies in memory
 * or on disk: never a second copy.
 */
#pragma once

#include "content/resolver.h"
#include "mail/body.h"
#include "net/server.h"
#include "net/stream.h"

struct state;

struct scanner {
    const struct server *server;
    struct state *state;
    const struct resolver *resolver; /* for the names of endpoints; copied. NULL: addresses only */
    /* A hash of what is asked about, the same when it comes again (state/breaker.h); 0: nothing. */
    uint64_t about;
    /* The server's time is for connecting alone: the conversation looks after its own. */
    bool talk_has_own_time;
};

/* The conversation; called again, on a new connection, when it failed and another endpoint is
 * left. A MAY_YIELD function. FAILED with ERROR_PERMANENT: it is of no use to ask another. */
typedef enum result scanner_talk(struct stream *stream, const struct server_endpoint *endpoint,
                                 void *arg, struct error *err);

/* FAILED: no endpoint answered within the server's time (or the breaker is open); `err` says what
 * each did. */
enum result scanner_ask(const struct scanner *scanner, scanner_talk *talk, void *arg,
                        struct error *err) MAY_YIELD;

/* Write the message piece by piece; `frame` (NULL: none) is called before each with its size. */
typedef enum result scanner_frame(struct stream *stream, size_t size, struct error *err);
enum result scanner_write_content(struct stream *stream, const struct mail_content *content,
                                  scanner_frame *frame, struct error *err) MAY_YIELD;
/* The first `size` bytes of it. */
enum result scanner_write_part(struct stream *stream, const struct mail_content *content,
                               uint64_t size, scanner_frame *frame, struct error *err) MAY_YIELD;
/* Read until the peer ends, or up to the byte `until` (without it; -1: none), at most `max` bytes
 * (ERROR_PROTOCOL beyond). In `arena`. */
enum result scanner_read_all(struct stream *stream, int until, size_t max, struct arena *arena,
                             struct str *out, struct error *err) MAY_YIELD;
