/* SPDX-License-Identifier: Apache-2.0 */
/* content/unpacker_fuzz.c - any bytes between the gateway and the process that unpacks: as what it
 * hears, and as what it says. */
#include "content/unpacker.h"

#include "base/check.h"
#include "content/unpack_wire.h"

#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The gateway's side: a frame lies in the input, and what is read out of it does, too. */
static void hear(struct str rest)
{
    struct unpack_frame frame;
    struct error err;
    for (bool whole = true; whole;) {
        struct unpack_member member;
        struct unpack_spent spent;
        struct unpack_limits limits;
        unsigned number;
        size_t before = rest.len;
        if (unpack_frame_take(&rest, &frame, &whole, &err) != OK || !whole)
            return;
        check(rest.len + UNPACK_FRAME_HEAD + frame.payload.len == before);
        if (unpack_member_read(frame.payload, &member, &err) == OK)
            check(member.name.len + member.why.len + UNPACK_MEMBER_MIN == frame.payload.len &&
                  member.type < FILETYPE_COUNT);
        if (unpack_begin_read(frame.payload, &limits, &err) == OK)
            check(limits.depth >= 1 && limits.depth <= UNPACK_DEPTH_MAX);
        (void)!(unpack_done_read(frame.payload, &spent, &err) == OK);
        (void)!(unpack_died_read(frame.payload, &number, &err) == OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int ends[2];
    if (size > 32768) /* it must fit into a socket */
        return 0;
    hear(str_of((const char *)data, size));
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    check(size == 0 || write(ends[0], data, size) == (ssize_t)size);
    shutdown(ends[0], SHUT_WR);
    unpacker_serve(ends[1]);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
