/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 4096 }; /* the kernel caps it at net.core.somaxconn */

static bool same_address(const struct net_address *a, const struct net_address *b)
{
    return a->port == b->port && net_ip_equal(&a->ip, &b->ip) &&
           strcmp(a->unix_path, b->unix_path) == 0;
}

static enum result set_option(int fd, int level, int option, const char *name, struct error *err)
{
    int one = 1;
    if (setsockopt(fd, level, option, &one, sizeof one) != 0)
        return fail_errno(err, errno, "cannot set %s", name);
    return OK;
}

static enum result prepare(int fd, const struct net_address *address, struct error *err)
{
    if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", err) != OK)
        return FAILED;
    /* "[::]" and "0.0.0.0" on one port are two sockets, each for its family */
    if (address->ip.family == 6 &&
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", err) != OK)
        return FAILED;
    struct sockaddr_storage name;
    socklen_t length;
    net_address_to_sockaddr(address, &name, &length);
    if (bind(fd, (struct sockaddr *)&name, length) == 0 && listen(fd, BACKLOG) == 0)
        return OK;
    const char *why = errno == EADDRINUSE      ? " (another process listens there)"
                      : errno == EADDRNOTAVAIL ? " (no interface of this host has that address)"
                      : errno == EACCES        ? " (a port below 1024 needs root)"
                                               : "";
    return fail_errno(err, errno, "cannot listen%s", why);
}

static enum result open_listener(const struct net_address *address, int *out_fd, struct error *err)
{
    int family = address->ip.family == 6 ? AF_INET6 : AF_INET;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail_errno(err, errno, "cannot make a socket");
    if (prepare(fd, address, err) != OK) {
        close(fd);
        return FAILED;
    }
    *out_fd = fd;
    return OK;
}

enum result sockets_get(struct sockets *sockets, const struct net_address *address, int *out_fd,
                        struct error *err)
{
    for (unsigned i = 0; i < sockets->count; i++) {
        if (same_address(&sockets->items[i].address, address)) {
            sockets->items[i].wanted = true;
            *out_fd = sockets->items[i].fd;
            return OK;
        }
    }
    char text[NET_ADDRESS_TEXT];
    net_address_format(address, text);
    if (sockets->count == SOCKETS_MAX)
        return fail(err, ERROR_LIMIT, "%s: more than %d listening addresses", text, SOCKETS_MAX);
    int fd = -1;
    if (open_listener(address, &fd, err) != OK)
        return fail_context(err, "%s", text);
    sockets->items[sockets->count].address = *address;
    sockets->items[sockets->count].fd = fd;
    sockets->items[sockets->count].wanted = true;
    sockets->count++;
    *out_fd = fd;
    return OK;
}

bool sockets_adopt(struct sockets *sockets, const struct net_address *address, int fd)
{
    for (unsigned i = 0; i < sockets->count; i++)
        if (same_address(&sockets->items[i].address, address))
            return false;
    if (sockets->count == SOCKETS_MAX)
        return false;
    sockets->items[sockets->count].address = *address;
    sockets->items[sockets->count].fd = fd;
    sockets->items[sockets->count].adopted = true;
    sockets->items[sockets->count].wanted = false;
    sockets->count++;
    return true;
}

void sockets_forget_wishes(struct sockets *sockets)
{
    for (unsigned i = 0; i < sockets->count; i++)
        sockets->items[i].wanted = false;
}

void sockets_close_unwanted(struct sockets *sockets)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < sockets->count; i++) {
        if (sockets->items[i].wanted || sockets->items[i].adopted)
            sockets->items[kept++] = sockets->items[i];
        else
            close(sockets->items[i].fd);
    }
    sockets->count = kept;
}

void sockets_close_all(struct sockets *sockets)
{
    for (unsigned i = 0; i < sockets->count; i++)
        close(sockets->items[i].fd);
    sockets->count = 0;
}
