/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/log_socket.h"

#include "admin/log_postfix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_US = 200000 };

void log_socket_init(struct log_socket *to, struct str path, bool takes_files)
{
    to->fd = -1;
    to->takes_files = takes_files;
    if (!str_to_c(path, to->path, sizeof to->path))
        to->path[0] = '\0'; /* nothing listens there */
}

void log_socket_close(struct log_socket *to)
{
    if (to->fd >= 0)
        close(to->fd);
    to->fd = -1;
}

enum result log_socket_connect(struct log_socket *to, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_usec = PATIENCE_US};
    memcpy(address.sun_path, to->path, sizeof to->path);
    log_socket_close(to);
    to->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (to->fd < 0)
        return fail_errno(err, errno, "cannot make a socket");
    (void)setsockopt(to->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(to->fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return OK;
    int number = errno;
    log_socket_close(to);
    return fail_errno(err, number, "cannot connect to %s", to->path);
}

/* As the journal's protocol wants it for what is too long for a datagram: a sealed file. */
static bool send_file(struct log_socket *to, struct str data)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    int fd = memfd_create("postern-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool sent =
        fd >= 0 && write(fd, data.ptr, data.len) == (ssize_t)data.len &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0;
    if (sent) {
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
        sent = sendmsg(to->fd, &message, MSG_NOSIGNAL) >= 0;
    }
    if (fd >= 0)
        close(fd);
    return sent;
}

bool log_socket_send(struct log_socket *to, struct str datagram)
{
    struct error err;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (to->fd < 0 && log_socket_connect(to, &err) != OK)
            return false;
        if (send(to->fd, datagram.ptr, datagram.len, MSG_NOSIGNAL) >= 0)
            return true;
        if (errno == EMSGSIZE)
            return to->takes_files && send_file(to, datagram);
        if (errno == EAGAIN)
            return false; /* it has no time; the next line may find it otherwise */
        if (errno != EINTR)
            log_socket_close(to); /* it went, and may have come again */
    }
    return false;
}

struct str log_socket_head(int level, int64_t wall_ns, const char *name, unsigned process,
                           char out[static LOG_SOCKET_HEAD_SIZE])
{
    char time[LOG_POSTFIX_TIME_SIZE];
    struct str now = log_postfix_time(wall_ns, time);
    int length = snprintf(out, LOG_SOCKET_HEAD_SIZE, "<%d>%.*s %.64s[%u]: ", LOG_MAIL | level,
                          STR_ARG(now), name, process);
    return str_of(out, (size_t)length);
}
