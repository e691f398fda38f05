/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/listen.h"

#include "base/memory.h"
#include "event/event.h"
#include "gateway/settings.h"
#include "net/stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* Enough that the kernel's queue does not overflow while a turn is long with handshakes: who
     * finds it full tries again only after a second. */
    ACCEPTS_A_TURN = 512,
    MORE_THAN_MEAN = 8, /* sessions above the mean before connections are passed on */
    PAUSE_MS = 100,     /* out of descriptors: try again after this */
    RESERVE_MIN = 32,   /* descriptors for deliveries, the spool, the control socket, … */
    RESERVE_MAX = 1024,
};

struct worker_socket {
    struct loop_source source;
    struct loop_timer pause;
    struct worker *worker;
    size_t listener_index;
    int reserve_from;         /* descriptors from here on are kept for others */
    struct net_address local; /* of each connection; no family: they differ */
};

/* A connection on its way to another worker. */
struct passed {
    struct post post;
    struct worker *to;
    struct session_socket socket;
    size_t listener_index;
    const struct settings *settings; /* a reference: the index is of these */
};

static void take_passed(struct post *post)
{
    struct passed *passed = CONTAINER(post, struct passed, post);
    session_start(passed->to, passed->settings, &passed->socket, passed->listener_index);
    settings_unref(passed->settings);
    free(passed);
}

/* The worker that should serve the next connection: this one, unless it is well above the mean. */
static struct worker *choose(struct worker *self)
{
    struct gateway *gateway = self->gateway;
    size_t total = 0;
    struct worker *least = self;
    for (size_t i = 0; i < gateway->worker_count; i++) {
        struct worker *worker = &gateway->workers[i];
        size_t count = atomic_load_explicit(&worker->session_count, memory_order_relaxed);
        total += count;
        if (count < atomic_load_explicit(&least->session_count, memory_order_relaxed))
            least = worker;
    }
    size_t mean = total / gateway->worker_count;
    size_t own = atomic_load_explicit(&self->session_count, memory_order_relaxed);
    return own > mean + mean / 4 + MORE_THAN_MEAN ? least : self;
}

/* 0 to 99, the same for a network in each process (FNV-1a). */
static unsigned percentile(const struct net_ip *ip)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof ip->bytes; i++)
        hash = (hash ^ ip->bytes[i]) * UINT64_C(0x100000001b3);
    return (unsigned)((hash >> 32) % 100);
}

/* The settings for the next session: those on trial for a share of the client networks, always the
 * same ones. A listener that the trial does not know by name stays with the settings in force. */
static const struct settings *choose_settings(struct worker *self, const struct net_ip *client,
                                              size_t *listener_index)
{
    if (!self->trial)
        return self->settings;
    struct net_network network = net_client_network(client);
    if (percentile(&network.ip) >= self->share)
        return self->settings;
    struct str name = self->settings->listeners[*listener_index].name;
    const struct settings_listener *listener = settings_find_listener(self->trial, name);
    if (!listener)
        return self->settings;
    *listener_index = (size_t)(listener - self->trial->listeners);
    return self->trial;
}

static void dispatch(struct worker *self, const struct session_socket *socket,
                     size_t listener_index)
{
    struct worker *worker = choose(self);
    const struct settings *settings = choose_settings(self, &socket->peer.ip, &listener_index);
    if (worker == self) {
        session_start(self, settings, socket, listener_index);
        return;
    }
    struct passed *passed = NEW(struct passed);
    *passed = (struct passed){.post = {.run = take_passed},
                              .to = worker,
                              .socket = *socket,
                              .listener_index = listener_index,
                              .settings = settings_ref(settings)};
    loop_post(worker->loop, &passed->post);
}

static void resume(struct loop_timer *timer)
{
    struct worker_socket *entry = CONTAINER(timer, struct worker_socket, pause);
    struct error err;
    if (loop_source_add(&entry->source, EPOLLIN, true, &err) != OK)
        loop_timer_set(timer, clock_deadline(PAUSE_MS * NS_PER_MS));
}

/* Out of descriptors: sleep instead of spinning; waiting clients stay in the backlog. */
static void pause_accepting(struct worker_socket *entry, int number)
{
    event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, "cannot accept connections for now"),
               F_C(ERROR, strerrordesc_np(number)));
    loop_source_remove(&entry->source);
    loop_timer_set(&entry->pause, clock_deadline(PAUSE_MS * NS_PER_MS));
}

/* Descriptors are numbered from below, so a high number means that few are left. What delivers and
 * what an operator needs keeps a reserve. */
static int where_the_reserve_begins(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    rlim_t reserve = limit.rlim_cur / 8;
    reserve = reserve < RESERVE_MIN ? RESERVE_MIN : reserve > RESERVE_MAX ? RESERVE_MAX : reserve;
    return limit.rlim_cur <= reserve ? 0 : (int)(limit.rlim_cur - reserve);
}

static void accept_ready(struct loop_source *source, uint32_t events)
{
    (void)events;
    struct worker_socket *entry = CONTAINER(source, struct worker_socket, source);
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(source->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct session_socket socket = {.fd = fd, .local = entry->local};
        if (fd >= 0)
            net_address_from_sockaddr(&peer, &socket.peer);
        if (fd >= 0 && fd >= entry->reserve_from) {
            const struct settings *settings = entry->worker->settings;
            session_refuse_socket(&socket, settings->listeners[entry->listener_index].name,
                                  "descriptors", strerrordesc_np(EMFILE));
            close(fd);
            pause_accepting(entry, EMFILE);
            return;
        }
        if (fd >= 0) {
            dispatch(entry->worker, &socket, entry->listener_index);
            continue;
        }
        if (errno == ECONNABORTED || errno == EINTR)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            pause_accepting(entry, errno);
        return;
    }
}

/* The address that all connections to the socket have on our side, if it is bound to one. */
static struct net_address own_address(int fd)
{
    static const struct net_ip any = {.family = 0};
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage;
    struct net_address address = {0};
    if (getsockname(fd, (struct sockaddr *)&storage, &size) == 0)
        net_address_from_sockaddr(&storage, &address);
    if (memcmp(address.ip.bytes, any.bytes, sizeof any.bytes) == 0)
        address = (struct net_address){0};
    return address;
}

static void add_socket(struct worker *worker, size_t at, int fd, size_t listener_index)
{
    struct worker_socket *entry = &worker->sockets[at];
    *entry = (struct worker_socket){
        .source = {.fd = dup(fd), .ready = accept_ready},
        .pause = {.fire = resume},
        .worker = worker,
        .listener_index = listener_index,
        .reserve_from = where_the_reserve_begins(),
        .local = own_address(fd),
    };
    stream_prepare_listening(fd);
    struct error err = {0};
    if (entry->source.fd < 0 || loop_source_add(&entry->source, EPOLLIN, true, &err) != OK)
        event_emit(EVENT_DAEMON_ERROR,
                   F_C(DETAIL, "cannot accept from a listening socket: out of descriptors"));
}

void listen_open(struct worker *worker, const int *fds, size_t count)
{
    listen_close(worker);
    worker->sockets = memory_alloc_array(count, sizeof(struct worker_socket));
    const struct settings *settings = worker->settings;
    size_t at = 0;
    for (size_t i = 0; i < settings->listener_count; i++) {
        for (size_t k = 0; k < settings->listeners[i].address_count && at < count; k++, at++)
            add_socket(worker, at, fds[at], i);
    }
    worker->socket_count = at;
}

void listen_close(struct worker *worker)
{
    for (size_t i = 0; i < worker->socket_count; i++) {
        struct worker_socket *entry = &worker->sockets[i];
        if (entry->source.fd < 0)
            continue;
        if (entry->pause.heap_index)
            loop_timer_clear(&entry->pause);
        else
            loop_source_remove(&entry->source);
        close(entry->source.fd);
    }
    free(worker->sockets);
    worker->sockets = NULL;
    worker->socket_count = 0;
}
