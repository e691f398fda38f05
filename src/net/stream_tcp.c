/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over sockets. Reads and writes are tried first; the loop is asked only after EAGAIN. A
 * read that got less than it asked for, or nothing, has emptied the socket (epoll(7)), so until the
 * loop tells of more the next one is not tried: half of all reads would be for that EAGAIN.
 */
#include "base/check.h"
#include "net/stream_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

static ssize_t tcp_read(struct stream *stream, void *out, size_t size)
{
    struct watch *watch = &stream->watch;
    if ((stream->drained || stream->found_empty) && !watch->readable) {
        errno = EAGAIN;
        return -1;
    }
    watch->readable = false; /* what is told from here on is behind what this read gets */
    ssize_t got = recv(watch->fd, out, size, 0);
    stream->drained = got > 0 && (size_t)got < size && !watch->special;
    stream->found_empty = got < 0 && errno == EAGAIN;
    return got;
}

static bool tcp_is_quiet(const struct stream *stream)
{
    const struct watch *watch = &stream->watch;
    return (stream->drained || stream->found_empty) && !watch->readable && !watch->special;
}

static ssize_t tcp_write(struct stream *stream, const void *data, size_t size)
{
    int more =
        stream->is_last ? MSG_MORE : 0; /* close() sends it, with the end in the same packet */
    return send(stream->watch.fd, data, size, MSG_NOSIGNAL | more);
}

static MAY_YIELD enum result tcp_wait_readable(struct stream *stream, struct error *err)
{
    stream->drained = stream->found_empty = false;
    return watch_wait_readable(&stream->watch, err);
}

static MAY_YIELD enum result tcp_wait_writable(struct stream *stream, struct error *err)
{
    return watch_wait_writable(&stream->watch, err);
}

static void tcp_end_output(struct stream *stream)
{
    (void)shutdown(stream->watch.fd, SHUT_WR);
}

static void tcp_close(struct stream *stream)
{
    int fd = stream->watch.fd;
    watch_close(&stream->watch);
    close(fd);
}

static const struct stream_transport tcp_transport = {
    .read = tcp_read,
    .write = tcp_write,
    .is_quiet = tcp_is_quiet,
    .wait_readable = tcp_wait_readable,
    .wait_writable = tcp_wait_writable,
    .end_output = tcp_end_output,
    .close = tcp_close,
};

static void learn_own_address(struct stream *stream, int fd)
{
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &len) == 0)
        net_address_from_sockaddr(&storage, &stream->local);
}

static void learn_addresses(struct stream *stream, int fd)
{
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof storage;
    if (getpeername(fd, (struct sockaddr *)&storage, &len) == 0)
        net_address_from_sockaddr(&storage, &stream->peer);
    learn_own_address(stream, fd);
}

static void set_no_delay(int fd)
{
    /* replies are written whole; fails on Unix sockets, where there is no delay */
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static enum result open_watched(int fd, struct stream **out_stream, struct error *err)
{
    struct stream *stream = stream_new(&tcp_transport);
    if (watch_open(&stream->watch, fd, err) == FAILED) {
        free(stream);
        return FAILED;
    }
    *out_stream = stream;
    return OK;
}

enum result stream_open_fd(int fd, struct stream **out_stream, struct error *err)
{
    if (open_watched(fd, out_stream, err) == FAILED)
        return FAILED;
    set_no_delay(fd);
    learn_addresses(*out_stream, fd);
    return OK;
}

void stream_prepare_listening(int fd)
{
    set_no_delay(fd); /* Linux gives it to all that are accepted */
}

enum result stream_open_accepted(int fd, const struct net_address *peer,
                                 const struct net_address *local, struct stream **out_stream,
                                 struct error *err)
{
    if (open_watched(fd, out_stream, err) == FAILED)
        return FAILED;
    (*out_stream)->peer = *peer;
    if (local)
        (*out_stream)->local = *local;
    else
        learn_own_address(*out_stream, fd);
    return OK;
}

/* ---- connecting ---- */

static const int64_t PAUSE_MIN_NS = 2 * NS_PER_MS, PAUSE_MAX_NS = 50 * NS_PER_MS;

static enum result bind_source(int fd, const struct net_ip *source, struct error *err)
{
    struct net_address address = {.ip = *source};
    struct sockaddr_storage storage;
    socklen_t len;
    net_address_to_sockaddr(&address, &storage, &len);
    /* the port is chosen at connect(), where it may be shared between destinations */
    int on = 1;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&storage, len) != 0) {
        char text[NET_IP_TEXT];
        return fail_errno(err, errno, "cannot use the source address %s",
                          net_ip_format(source, text).ptr);
    }
    return OK;
}

/* As connect(2), its error in *out_errno. A Unix socket whose queue is full says so at once
 * (EAGAIN), and nothing tells when there is room again: it is tried until the deadline. */
static MAY_YIELD enum result connect_patiently(int fd, const struct sockaddr_storage *to,
                                               socklen_t len, int *out_errno, struct error *err)
{
    int64_t pause_ns = PAUSE_MIN_NS;
    for (;;) {
        *out_errno = connect(fd, (const struct sockaddr *)to, len) == 0 ? 0 : errno;
        if (*out_errno != EAGAIN || to->ss_family != AF_UNIX)
            return OK;
        if (fiber_sleep(pause_ns, err) != OK)
            return FAILED;
        pause_ns = pause_ns * 2 < PAUSE_MAX_NS ? pause_ns * 2 : PAUSE_MAX_NS;
    }
}

/* Descriptor of a connection that is made or on its way. */
static MAY_YIELD enum result begin_connect(const struct net_address *to,
                                           const struct net_ip *source, int *out_fd,
                                           struct error *err)
{
    struct sockaddr_storage storage;
    socklen_t len;
    net_address_to_sockaddr(to, &storage, &len);
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno(err, errno, "cannot make a socket");
    if (source && source->family && !to->unix_path[0] && bind_source(fd, source, err) == FAILED) {
        close(fd);
        return FAILED;
    }
    int error;
    enum result result = connect_patiently(fd, &storage, len, &error, err);
    if (result == OK && error != 0 && error != EINPROGRESS && error != EINTR)
        result = fail_errno(err, error, "cannot connect");
    if (result != OK) {
        close(fd);
        return FAILED;
    }
    *out_fd = fd;
    return OK;
}

static bool is_decided(int fd)
{
    struct pollfd query = {.fd = fd, .events = POLLOUT};
    return poll(&query, 1, 0) != 0;
}

static MAY_YIELD enum result await_connection(struct stream *stream, struct error *err)
{
    int fd = stream->watch.fd;
    while (!is_decided(fd))
        if (watch_wait_writable(&stream->watch, err) == FAILED)
            return FAILED;
    int number = 0;
    socklen_t len = sizeof number;
    check(getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &len) == 0);
    if (number)
        return fail_errno(err, number, "cannot connect");
    return OK;
}

static MAY_YIELD enum result connect_stream(const struct net_address *to,
                                            const struct net_ip *source, struct stream **out_stream,
                                            struct error *err)
{
    int fd = -1;
    if (fiber_check(err) == FAILED || begin_connect(to, source, &fd, err) == FAILED)
        return FAILED;
    struct stream *stream;
    if (open_watched(fd, &stream, err) == FAILED) {
        close(fd);
        return FAILED;
    }
    if (await_connection(stream, err) == FAILED) {
        stream_close(stream);
        return FAILED;
    }
    set_no_delay(fd);
    learn_addresses(stream, fd);
    stream->peer = *to;
    *out_stream = stream;
    return OK;
}

enum result stream_connect(const struct net_address *to, const struct net_ip *source,
                           struct stream **out_stream, struct error *err)
{
    char text[NET_ADDRESS_TEXT];
    if (connect_stream(to, source, out_stream, err) == FAILED)
        return fail_context(err, "%s", net_address_format(to, text).ptr);
    return OK;
}
