/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpacking.c - who has files unpacked (content/unpacker.h): a conversation on a fiber. */
#include "base/memory.h"
#include "content/unpack_wire.h"
#include "content/unpacker.h"
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct unpacking {
    struct stream *stream;
    struct buf out;
};

static enum result send_end(int door, int fd, struct error *err)
{
    char byte = 0;
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(door, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        return OK;
    return errno == EAGAIN ? fail(err, ERROR_TEMPORARY,
                                  "too many messages wait to have their archives looked into")
                           : fail_errno(err, errno, "cannot ask for a process that unpacks");
}

/* What goes wrong with a connection is never the message's fault: it is no limit of the message. */
static enum result trouble(struct error *err)
{
    if (err->kind == ERROR_LIMIT)
        err->kind = ERROR_TEMPORARY;
    return FAILED;
}

enum result unpacking_open(const struct unpacker *unpacker, struct unpacking **out,
                           struct error *err)
{
    int ends[2];
    struct stream *stream;
    if (!unpacker)
        return fail(err, ERROR_TEMPORARY, "there is no process that unpacks");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        (void)!fail_errno(err, errno, "cannot make a socket pair");
        return trouble(err);
    }
    enum result result = send_end(unpacker->door, ends[1], err);
    close(ends[1]);
    if (result == OK && fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0)
        result = fail_errno(err, errno, "cannot use a socket pair");
    if (result == OK)
        result = stream_open_fd(ends[0], &stream, err);
    if (result != OK) {
        close(ends[0]);
        return trouble(err);
    }
    struct unpacking *unpacking = NEW(struct unpacking);
    unpacking->stream = stream;
    buf_init(&unpacking->out, (size_t)UNPACK_FRAME_MAX + 64);
    *out = unpacking;
    return OK;
}

void unpacking_close(struct unpacking *unpacking)
{
    if (!unpacking)
        return;
    stream_close(unpacking->stream);
    buf_done(&unpacking->out);
    free(unpacking);
}

static MAY_YIELD enum result write_out(struct unpacking *unpacking, struct error *err)
{
    enum result result = stream_write(unpacking->stream, buf_str(&unpacking->out), err);
    buf_clear(&unpacking->out);
    return result == OK ? OK : trouble(err);
}

enum result unpacking_begin(struct unpacking *unpacking, const struct unpack_limits *limits,
                            struct error *err)
{
    struct unpack_limits cut = *limits;
    cut.depth = cut.depth < 1 ? 1 : cut.depth;
    cut.depth = cut.depth > UNPACK_DEPTH_MAX ? UNPACK_DEPTH_MAX : cut.depth;
    unpack_begin_append(&unpacking->out, &cut);
    return write_out(unpacking, err);
}

enum result unpacking_write(struct unpacking *unpacking, struct str data, struct error *err)
{
    while (data.len) {
        struct str piece = str_slice(data, 0, UNPACK_FRAME_MAX);
        unpack_frame_append(&unpacking->out, UNPACK_FRAME_DATA, piece);
        if (write_out(unpacking, err) != OK)
            return FAILED;
        data = str_from(data, piece.len);
    }
    return OK;
}

static enum result died(struct str payload, struct error *err)
{
    unsigned signal_number;
    if (unpack_died_read(payload, &signal_number, err) != OK)
        return FAILED;
    if (signal_number == SIGXCPU)
        return fail(err, ERROR_LIMIT, "it takes more than %d s to look into", UNPACKER_CPU_SECONDS);
    return fail(err, ERROR_TEMPORARY, "the process that unpacks was ended by signal %u",
                signal_number);
}

struct hearing {
    unpack_sink sink;
    void *context;
    struct unpack_spent *spent;
    bool told; /* the file itself, which comes last: who asked counts only what is in it */
};

static enum result hear(struct hearing *hearing, const struct unpack_frame *frame,
                        struct error *err)
{
    struct unpack_member member;
    if (frame->kind == UNPACK_FRAME_MEMBER && !hearing->told) {
        if (unpack_member_read(frame->payload, &member, err) != OK)
            return FAILED;
        hearing->told = member.depth == 0;
        return hearing->sink(hearing->context, &member, err);
    }
    switch (frame->kind) {
    case UNPACK_FRAME_DONE:
        return unpack_done_read(frame->payload, hearing->spent, err);
    case UNPACK_FRAME_DIED:
        return died(frame->payload, err);
    case UNPACK_FRAME_BEGIN:
    case UNPACK_FRAME_DATA:
    case UNPACK_FRAME_END:
    case UNPACK_FRAME_MEMBER:
        break;
    }
    return fail(err, ERROR_PROTOCOL, "the process that unpacks speaks nonsense");
}

enum result unpacking_finish(struct unpacking *unpacking, unpack_sink sink, void *context,
                             struct unpack_spent *out_spent, struct error *err)
{
    struct stream *stream = unpacking->stream;
    struct unpack_frame frame = {0};
    struct hearing hearing = {.sink = sink, .context = context, .spent = out_spent};
    unpack_frame_append(&unpacking->out, UNPACK_FRAME_END, STR_EMPTY);
    if (write_out(unpacking, err) != OK || stream_flush(stream, err) != OK)
        return trouble(err);
    for (;;) {
        bool whole, end = false;
        struct str rest = stream_buffered(stream);
        size_t before = rest.len;
        if (unpack_frame_take(&rest, &frame, &whole, err) != OK)
            return FAILED;
        if (whole) {
            if (hear(&hearing, &frame, err) != OK)
                return FAILED;
            stream_consume(stream, before - rest.len);
            if (frame.kind == UNPACK_FRAME_DONE)
                return OK;
            continue;
        }
        if (stream_fill(stream, (size_t)UNPACK_FRAME_MAX + UNPACK_FRAME_HEAD, &end, err) != OK)
            return trouble(err);
        if (end)
            return fail(err, ERROR_TEMPORARY, "the process that unpacks ended without an answer");
    }
}
