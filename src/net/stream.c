/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include "base/check.h"
#include "base/memory.h"
#include "net/stream_internal.h"
#include "net/tls_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_MIN = 4096, /* a read of commands */
    CHUNK_MAX = 65536,
    OUT_MAX = 65536,
    WIRE_MAX = 2 * OUT_MAX,      /* then TLS has to wait */
    COMPACT_BELOW = 1024,        /* less room than this behind the data: move or grow */
    READS_IN_A_ROW = 16,         /* then others get their turn ... */
    BYTES_IN_A_ROW = 128 * 1024, /* ... or after so many bytes, both directions */
    BULK = 48 * 1024,            /* who moves so much between two waits goes behind the others */
    WIPED_MAX = 16384,           /* a line with a password is never in a larger buffer */
};

/* Who says nothing for so long rests: what TLS needs for records goes back. */
static const int64_t REST_AFTER_NS = 200 * NS_PER_MS;

/* What one step of input or output came to. */
enum step { STEP_DONE, STEP_WAIT_READABLE, STEP_WAIT_WRITABLE, STEP_END, STEP_FAILED };

struct stream *stream_new(const struct stream_transport *transport)
{
    struct stream *stream = NEW(struct stream);
    stream->transport = transport;
    stream->in_chunk = CHUNK_MIN;
    return stream;
}

/* Small buffers may have held a password, in the first `used` bytes; those of message bodies are
 * larger. */
static void free_buffer(char *buffer, size_t cap, size_t used)
{
    if (buffer && cap <= WIPED_MAX)
        memory_wipe(buffer, used);
    loop_block_give(buffer, cap);
}

/* A larger one in its place, of at least LOOP_BLOCK. */
static char *grow_buffer(char *buffer, size_t *cap, size_t used, size_t needed)
{
    size_t size = needed <= LOOP_BLOCK ? LOOP_BLOCK : needed;
    char *larger = loop_block_take(size);
    if (used)
        memcpy(larger, buffer, used);
    free_buffer(buffer, *cap, used);
    *cap = size;
    return larger;
}

static void free_input(struct stream *stream)
{
    free_buffer(take(stream->in), stream->in_cap, stream->in_used);
    stream->in_begin = stream->in_len = stream->in_cap = stream->in_used = 0;
    stream->in_chunk = CHUNK_MIN;
}

static void free_output(struct stream *stream)
{
    free_buffer(take(stream->out), stream->out_cap, stream->out_len);
    stream->out_len = stream->out_cap = 0;
}

static void free_wire(struct stream *stream)
{
    free(take(stream->wire)); /* encrypted, or the open part of a handshake */
    stream->wire_at = stream->wire_len = stream->wire_cap = 0;
}

/* The last that TLS has to say (an alert, a close_notify), if it goes out without waiting. */
static void send_last_words(struct stream *stream)
{
    if (stream->wire_len)
        (void)!stream->transport->write(stream, stream->wire + stream->wire_at,
                                        stream->wire_len - stream->wire_at);
    free_wire(stream);
}

static void try_goodbye(struct stream *stream)
{
    if (!stream->tls)
        return;
    tls_session_say_goodbye(stream->tls);
    send_last_words(stream);
}

void stream_end_output(struct stream *stream)
{
    try_goodbye(stream);
    if (stream->transport->end_output)
        stream->transport->end_output(stream);
}

void stream_close(struct stream *stream)
{
    if (!stream)
        return;
    try_goodbye(stream);
    tls_session_free(stream->tls);
    stream->transport->close(stream);
    free_input(stream);
    free_output(stream);
    free_wire(stream);
    free(stream);
}

/* A peer that has heard enough may have said why before it closed. */
static void end_writing(struct stream *stream)
{
    if (stream->tls)
        stream->broken = true;
    else
        stream->mute = true;
}

/* The answer of a peer in conversation comes soon, and then the buffers are needed again. */
static MAY_YIELD enum result wait_for_input(struct stream *stream, struct error *err)
{
    if (!stream->tls)
        return stream->transport->wait_readable(stream, err);
    struct scope scope;
    scope_open(&scope, clock_deadline(REST_AFTER_NS));
    enum result result = stream->transport->wait_readable(stream, err);
    scope_close(&scope);
    if (result == OK)
        return OK;
    tls_session_rest(stream->tls);
    return fiber_check(err) == OK ? stream->transport->wait_readable(stream, err) : FAILED;
}

/* The pointers of the transport are called through these two alone. */
static MAY_YIELD enum result wait_for(struct stream *stream, enum step step, struct error *err)
{
    stream->reads_without_wait = 0;
    stream->moved_lately = stream->moved_lately / 2 + stream->moved_in_a_row;
    stream->moved_in_a_row = 0;
    /* an idle connection keeps no buffers */
    if (stream->in_len == 0)
        free_input(stream);
    enum result result = step == STEP_WAIT_WRITABLE ? stream->transport->wait_writable(stream, err)
                                                    : wait_for_input(stream, err);
    if (result == OK && stream->moved_lately > BULK)
        fiber_yield();
    return result;
}

/* Send what TLS made. */
static MAY_YIELD enum result push_wire(struct stream *stream, struct error *err)
{
    while (stream->wire_at < stream->wire_len) {
        ssize_t taken = stream->transport->write(stream, stream->wire + stream->wire_at,
                                                 stream->wire_len - stream->wire_at);
        if (taken >= 0) {
            stream->wire_at += (size_t)taken;
            continue;
        }
        if (errno == EINTR)
            continue;
        bool is_full = errno == EAGAIN || errno == EWOULDBLOCK;
        if (!is_full)
            (void)fail_errno(err, errno, "cannot write to the peer");
        if (!is_full || wait_for(stream, STEP_WAIT_WRITABLE, err) == FAILED) {
            end_writing(stream);
            return FAILED;
        }
    }
    free_wire(stream);
    return OK;
}

/* Until the step can be tried again. What TLS made leaves before: the peer may wait for it. */
static MAY_YIELD enum result await(struct stream *stream, enum step step, struct error *err)
{
    if (stream->wire_len == 0)
        return wait_for(stream, step, err);
    enum result result = push_wire(stream, err);
    return result == OK && step == STEP_WAIT_READABLE ? wait_for(stream, step, err) : result;
}

/* A peer that sends or takes without a pause must not outrun deadlines, nor keep out others. */
static MAY_YIELD enum result take_turns(struct stream *stream, struct error *err)
{
    if (stream->reads_without_wait < READS_IN_A_ROW && stream->moved_in_a_row < BYTES_IN_A_ROW)
        return OK;
    stream->reads_without_wait = 0;
    stream->moved_in_a_row = 0;
    stream->moved_lately = BYTES_IN_A_ROW;
    fiber_yield();
    return fiber_check(err);
}

static enum step break_with_errno(struct stream *stream, int number, const char *doing,
                                  struct error *err)
{
    stream->broken = true;
    (void)fail_errno(err, number, "cannot %s the peer", doing);
    return STEP_FAILED;
}

static enum step step_of_tls(struct stream *stream, enum tls_io io)
{
    switch (io) {
    case TLS_IO_DONE:
        return STEP_DONE;
    case TLS_IO_WANT_READ:
        return STEP_WAIT_READABLE;
    case TLS_IO_WANT_WRITE:
        return STEP_WAIT_WRITABLE;
    case TLS_IO_END:
        return STEP_END;
    case TLS_IO_BROKEN:
        break;
    }
    send_last_words(stream); /* the alert tells the peer why */
    stream->broken = true;
    return STEP_FAILED;
}

static enum result fail_broken(struct error *err)
{
    return fail(err, ERROR_TEMPORARY, "the connection ended with an earlier error");
}

/* ---- reading ---- */

/* Room for one read behind the data; the size of it, which `max` may make smaller. */
static size_t make_room(struct stream *stream, size_t max)
{
    size_t wanted = max - stream->in_len;
    if (wanted > stream->in_chunk)
        wanted = stream->in_chunk;
    size_t room = stream->in_cap - stream->in_begin - stream->in_len;
    size_t enough = stream->in_chunk > CHUNK_MIN ? wanted : COMPACT_BELOW;
    if (stream->in_begin && (room < enough || stream->in_len == 0)) {
        memmove(stream->in, stream->in + stream->in_begin, stream->in_len);
        stream->in_begin = 0;
        room = stream->in_cap - stream->in_len;
    }
    if (room < wanted && room < enough) {
        size_t used = stream->in_begin + stream->in_len;
        stream->in = grow_buffer(stream->in, &stream->in_cap, stream->in_used, used + wanted);
        room = stream->in_cap - used;
    }
    return room < max - stream->in_len ? room : max - stream->in_len;
}

static enum step read_clear(struct stream *stream, char *at, size_t size, size_t *out_got,
                            struct error *err)
{
    ssize_t got;
    do
        got = stream->transport->read(stream, at, size);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *out_got = (size_t)got;
        return STEP_DONE;
    }
    if (got == 0)
        return STEP_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STEP_WAIT_READABLE;
    return break_with_errno(stream, errno, "read from", err);
}

/* A record holds 16K at most: go on while more of them have arrived with the last read. */
static enum step read_tls(struct stream *stream, char *at, size_t size, size_t *out_got,
                          struct error *err)
{
    size_t total = 0;
    do {
        size_t got = 0;
        enum tls_io io = tls_session_read(stream->tls, at + total, size - total, &got, err);
        if (io != TLS_IO_DONE && total == 0)
            return step_of_tls(stream, io);
        if (io != TLS_IO_DONE)
            break; /* the next call says it again */
        total += got;
    } while (total < size && tls_session_has_pending(stream->tls));
    *out_got = total;
    return STEP_DONE;
}

static enum step read_once(struct stream *stream, size_t max, struct error *err)
{
    if (stream->ended)
        return STEP_END;
    size_t got = 0, size = make_room(stream, max);
    char *at = stream->in + stream->in_begin + stream->in_len;
    enum step step = stream->tls ? read_tls(stream, at, size, &got, err)
                                 : read_clear(stream, at, size, &got, err);
    if (step == STEP_END)
        stream->ended = true;
    if (step != STEP_DONE)
        return step;
    stream->in_len += got;
    if (stream->in_used < stream->in_begin + stream->in_len)
        stream->in_used = stream->in_begin + stream->in_len;
    stream->moved_in_a_row += got;
    if (got == size && stream->in_chunk < CHUNK_MAX)
        stream->in_chunk *= 4; /* it comes in bulk */
    return STEP_DONE;
}

struct str stream_buffered(const struct stream *stream)
{
    if (stream->in_len == 0)
        return STR_EMPTY;
    return (struct str){stream->in + stream->in_begin, stream->in_len};
}

enum result stream_fill(struct stream *stream, size_t max, bool *out_end, struct error *err)
{
    if (stream->broken)
        return fail_broken(err);
    if (stream->in_len >= max)
        return fail(err, ERROR_LIMIT, "the peer sent more than %zu bytes in one piece", max);
    stream->reads_without_wait++;
    if (take_turns(stream, err) == FAILED || fiber_check(err) == FAILED)
        return FAILED;
    for (;;) {
        enum step step = read_once(stream, max, err);
        if (step == STEP_FAILED)
            return FAILED;
        if (step == STEP_DONE || step == STEP_END) {
            *out_end = step == STEP_END;
            return OK;
        }
        if (await(stream, step, err) == FAILED)
            return FAILED;
    }
}

void stream_consume(struct stream *stream, size_t size)
{
    check(size <= stream->in_len);
    stream->in_begin += size;
    stream->in_len -= size;
    if (stream->in_len == 0)
        stream->in_begin = 0;
}

enum result stream_fill_available(struct stream *stream, size_t max, struct error *err)
{
    if (stream->broken)
        return fail_broken(err);
    stream->found_empty = false; /* something may have come since, and who asks wants to know */
    while (stream->in_len < max) {
        enum step step = read_once(stream, max, err);
        if (step == STEP_FAILED)
            return FAILED;
        if (step != STEP_DONE)
            break;
    }
    return OK;
}

/* ---- writing ---- */

static enum step write_once(struct stream *stream, struct str data, size_t *out_taken,
                            struct error *err)
{
    if (stream->tls)
        return step_of_tls(stream,
                           tls_session_write(stream->tls, data.ptr, data.len, out_taken, err));
    ssize_t taken;
    do
        taken = stream->transport->write(stream, data.ptr, data.len);
    while (taken < 0 && errno == EINTR);
    if (taken >= 0) {
        *out_taken = (size_t)taken;
        return STEP_DONE;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return STEP_WAIT_WRITABLE;
    end_writing(stream);
    (void)fail_errno(err, errno, "cannot write to the peer");
    return STEP_FAILED;
}

/* Under TLS the last of it is left to push_wire(). On failure it is not known how much the peer
 * received, so nothing more is sent. */
static MAY_YIELD enum result send_all(struct stream *stream, struct str data, struct error *err)
{
    while (data.len) {
        size_t taken = 0;
        enum step step = STEP_FAILED;
        if (take_turns(stream, err) == OK)
            step = write_once(stream, data, &taken, err);
        if (step == STEP_DONE) {
            data = str_from(data, taken);
            stream->moved_in_a_row += taken;
            if (stream->wire_len >= OUT_MAX && push_wire(stream, err) == FAILED)
                return FAILED;
            continue;
        }
        if (step == STEP_END)
            (void)fail(err, ERROR_TEMPORARY, "the peer closed the connection");
        if (step == STEP_END || step == STEP_FAILED || await(stream, step, err) == FAILED) {
            end_writing(stream);
            return FAILED;
        }
    }
    return OK;
}

static void append_output(struct stream *stream, struct str data)
{
    size_t needed = stream->out_len + data.len;
    if (needed > stream->out_cap) {
        size_t cap = stream->out_cap ? stream->out_cap : LOOP_BLOCK;
        while (cap < needed)
            cap *= 2;
        stream->out = grow_buffer(stream->out, &stream->out_cap, stream->out_len, cap);
    }
    if (data.len)
        memcpy(stream->out + stream->out_len, data.ptr, data.len);
    stream->out_len = needed;
}

static MAY_YIELD enum result send_output(struct stream *stream, struct error *err)
{
    if (stream->broken || stream->mute)
        return fail_broken(err);
    enum result result = send_all(stream, (struct str){stream->out, stream->out_len}, err);
    free_output(stream);
    return result;
}

/* What TLS has to say for itself can wait for the next words: it leaves before the stream waits. */
enum result stream_flush(struct stream *stream, struct error *err)
{
    bool has_words = stream->out_len > 0;
    if (send_output(stream, err) == FAILED)
        return FAILED;
    return has_words ? push_wire(stream, err) : OK;
}

enum result stream_finish(struct stream *stream, struct error *err)
{
    if (send_output(stream, err) == FAILED)
        return FAILED;
    if (stream->tls)
        tls_session_say_goodbye(stream->tls);
    return push_wire(stream, err);
}

enum result stream_finish_before_close(struct stream *stream, struct error *err)
{
    stream->is_last = !stream->tls;
    return stream_finish(stream, err);
}

enum result stream_write(struct stream *stream, struct str data, struct error *err)
{
    if (stream->broken || stream->mute)
        return fail_broken(err);
    if (stream->out_len + data.len <= OUT_MAX) {
        append_output(stream, data);
        return OK;
    }
    if (stream->out_len) {
        size_t head = OUT_MAX - stream->out_len;
        append_output(stream, str_slice(data, 0, head));
        data = str_from(data, head);
        if (stream_flush(stream, err) == FAILED)
            return FAILED;
    }
    /* whole pieces go out from where they are, the rest waits for what follows */
    size_t direct = data.len - data.len % OUT_MAX;
    if (send_all(stream, str_slice(data, 0, direct), err) == FAILED ||
        push_wire(stream, err) == FAILED)
        return FAILED;
    append_output(stream, str_from(data, direct));
    return OK;
}

/* ---- TLS ---- */

static ssize_t carry_read(void *object, void *out, size_t size)
{
    struct stream *stream = object;
    return stream->transport->read(stream, out, size);
}

/* Not sent here: records of one turn leave together, before the stream waits or when all was
 * written. */
static ssize_t carry_write(void *object, const void *data, size_t size)
{
    struct stream *stream = object;
    if (stream->wire_len >= WIRE_MAX) {
        errno = EAGAIN;
        return -1;
    }
    if (size > stream->wire_cap - stream->wire_len) {
        stream->wire_cap = stream->wire_len + size;
        stream->wire = memory_resize_array(stream->wire, stream->wire_cap, 1);
    }
    memcpy(stream->wire + stream->wire_len, data, size);
    stream->wire_len += size;
    return (ssize_t)size;
}

static MAY_YIELD enum result shake_hands(struct stream *stream, struct error *err)
{
    if (fiber_check(err) == FAILED)
        return FAILED;
    for (;;) {
        enum step step = step_of_tls(stream, tls_session_handshake(stream->tls, err));
        if (step == STEP_DONE)
            return OK;
        if (step == STEP_END)
            return fail(err, ERROR_TEMPORARY,
                        "the peer closed the connection in the TLS handshake");
        if (step == STEP_FAILED || await(stream, step, err) == FAILED)
            return FAILED;
    }
}

static MAY_YIELD enum result start_tls(struct stream *stream, struct tls_context *context,
                                       bool as_server, struct str server_name, struct error *err)
{
    if (stream->broken)
        return fail_broken(err);
    check(!stream->tls);
    /* what came in clear must never be taken for something said under TLS */
    if (stream->in_len) {
        stream->broken = true;
        return fail(err, ERROR_PROTOCOL, "the peer sent data before the TLS handshake");
    }
    if (stream_flush(stream, err) == FAILED)
        return FAILED;
    struct tls_carrier carrier = {stream, carry_read, carry_write};
    enum result result =
        tls_session_new(context, &carrier, as_server, server_name, &stream->tls, err);
    if (result == OK)
        result = shake_hands(stream, err);
    if (result == FAILED)
        stream->broken = true; /* there is no way back to clear text */
    return result;
}

enum result stream_tls_accept(struct stream *stream, struct tls_context *context, struct error *err)
{
    return start_tls(stream, context, /* as_server= */ true, STR_EMPTY, err);
}

enum result stream_tls_connect(struct stream *stream, struct tls_context *context,
                               struct str server_name, struct error *err)
{
    return start_tls(stream, context, /* as_server= */ false, server_name, err);
}

const struct stream_tls_info *stream_tls_info(const struct stream *stream)
{
    static const struct stream_tls_info in_clear = {.version = {"", 0}, .cipher = {"", 0}};
    return stream->tls ? tls_session_info(stream->tls) : &in_clear;
}

/* ---- queries ---- */

const struct net_address *stream_peer(const struct stream *stream)
{
    return &stream->peer;
}

const struct net_address *stream_local(const struct stream *stream)
{
    return &stream->local;
}

bool stream_is_idle_alive(struct stream *stream)
{
    if (stream->broken || stream->ended || stream->in_len)
        return false;
    stream->drained = stream->found_empty = false; /* the loop may not have told of the end yet */
    enum step step = read_once(stream, CHUNK_MIN, NULL);
    if (stream->in_len == 0)
        free_input(stream);
    return step == STEP_WAIT_READABLE;
}

bool stream_seems_idle_alive(struct stream *stream)
{
    bool (*is_quiet)(const struct stream *) = stream->transport->is_quiet;
    if (stream->tls || !is_quiet || !is_quiet(stream))
        return stream_is_idle_alive(stream);
    return !stream->broken && !stream->ended && !stream->in_len;
}
