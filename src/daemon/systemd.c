/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/systemd.h"

#include "base/clock.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3 };

static struct sockaddr_un notify_name; /* of this process, set once by systemd_begin() */
static socklen_t notify_length;
static int handed_over;

void systemd_begin(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t length = path ? strlen(path) : 0;
    if (length > 1 && length < sizeof notify_name.sun_path && (path[0] == '/' || path[0] == '@')) {
        notify_name.sun_family = AF_UNIX;
        memcpy(notify_name.sun_path, path, length);
        if (path[0] == '@') /* an abstract name */
            notify_name.sun_path[0] = '\0';
        notify_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    }
    const char *pid = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    if (pid && count && strtol(pid, NULL, 10) == getpid()) {
        long number = strtol(count, NULL, 10);
        handed_over = number > 0 && number <= SOCKETS_MAX ? (int)number : 0;
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

static void notify(const char *state)
{
    if (!notify_length)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    /* if nobody listens, nobody waits: there is nothing to do about it */
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&notify_name,
                  notify_length);
    close(fd);
}

void systemd_ready(void)
{
    notify("READY=1\nSTATUS=Mail is accepted.");
}

void systemd_reloading(void)
{
    char state[96];
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             clock_monotonic_ns() / NS_PER_US);
    notify(state);
}

void systemd_stopping(void)
{
    notify("STOPPING=1\nSTATUS=Sessions and attempts end.");
}

static bool listens(int fd)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value;
}

void systemd_take_sockets(struct sockets *sockets)
{
    for (int fd = FIRST_FD; fd < FIRST_FD + handed_over; fd++) {
        struct sockaddr_storage name = {0};
        socklen_t length = sizeof name;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, O_NONBLOCK | fcntl(fd, F_GETFL));
        if (!listens(fd) || getsockname(fd, (struct sockaddr *)&name, &length) != 0 ||
            (name.ss_family != AF_INET && name.ss_family != AF_INET6)) {
            close(fd);
            continue;
        }
        struct net_address address;
        net_address_from_sockaddr(&name, &address);
        if (!sockets_adopt(sockets, &address, fd))
            close(fd);
    }
    handed_over = 0;
}
