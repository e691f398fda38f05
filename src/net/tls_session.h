/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/tls_session.h - one TLS connection over a carrier that reads and writes without waiting.
 *
 * Only the stream uses it. No call suspends, so OpenSSL's error queue, which belongs to the thread,
 * never lives across a switch of fibers.
 */
#pragma once

#include "base/error.h"
#include "net/stream.h"
#include "net/tls.h"

#include <sys/types.h>

struct tls_session;

/* As recv() and send(): -1 with errno (EAGAIN: later), 0 at the end. */
struct tls_carrier {
    void *object;
    ssize_t (*read)(void *object, void *out, size_t size);
    ssize_t (*write)(void *object, const void *data, size_t size);
};

enum tls_io {
    TLS_IO_DONE,
    TLS_IO_WANT_READ,  /* wait until the carrier is readable, then call again */
    TLS_IO_WANT_WRITE, /* the same for writing */
    TLS_IO_END,        /* the peer said close_notify or closed the carrier */
    TLS_IO_BROKEN,     /* `err` says why; it stays so */
};

/* `server_name` is for clients; empty: no SNI and no name to check. */
enum result tls_session_new(struct tls_context *context, const struct tls_carrier *carrier,
                            bool as_server, struct str server_name,
                            struct tls_session **out_session, struct error *err);
/* NULL is allowed. */
void tls_session_free(struct tls_session *session);

enum tls_io tls_session_handshake(struct tls_session *session, struct error *err);
/* DONE with at least one byte. */
enum tls_io tls_session_read(struct tls_session *session, void *out, size_t size, size_t *out_got,
                             struct error *err);
enum tls_io tls_session_write(struct tls_session *session, const void *data, size_t size,
                              size_t *out_taken, struct error *err);
/* Bytes came from the carrier that were not handed out yet. */
bool tls_session_has_pending(const struct tls_session *session);
/* Give back the memory that only records in work need, as far as nothing is half read. */
void tls_session_rest(struct tls_session *session);
/* Send close_notify to the carrier, once. */
void tls_session_say_goodbye(struct tls_session *session);

const struct stream_tls_info *tls_session_info(const struct tls_session *session);
