/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum result link_open(int out_ends[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, out_ends) != 0)
        return fail_errno(err, errno, "cannot make a socket pair");
    return OK;
}

enum result link_send(int end, const struct link_packet *packet, int fd, struct error *err)
{
    struct iovec piece = {.iov_base = (void *)packet, .iov_len = sizeof *packet};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    ssize_t sent;
    do {
        sent = sendmsg(end, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof *packet ? OK
                                           : fail_errno(err, errno, "the other process is gone");
}

enum result link_receive(int end, struct link_packet *out_packet, int *out_fd, struct error *err)
{
    struct iovec piece = {.iov_base = out_packet, .iov_len = sizeof *out_packet};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    ssize_t got;
    do {
        got = recvmsg(end, &message, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return fail(err, ERROR_CANCELLED, "the other process is gone");
    if (got != (ssize_t)sizeof *out_packet)
        return fail_errno(err, got < 0 ? errno : EPROTO, "cannot hear the other process");
    *out_fd = -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(out_fd, CMSG_DATA(header), sizeof *out_fd);
    return OK;
}
