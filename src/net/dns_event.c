/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns_event.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/loop.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>

typedef void event_callback(int fd, short bits, void *arg);

/* One event of libunbound: a descriptor, a timer, or both. */
struct dns_event {
    struct ub_event ub; /* first */
    struct list link;
    struct loop_source source;
    struct loop_timer timer;
    event_callback *callback;
    void *arg;
    short bits;
    bool watching; /* the source is in the loop */
};

static struct dns_event *event_of(struct ub_event *event)
{
    return (struct dns_event *)event;
}

static uint32_t epoll_bits(short bits)
{
    return (bits & UB_EV_READ ? (uint32_t)EPOLLIN : 0) |
           (bits & UB_EV_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static void stop_watching(struct dns_event *event)
{
    if (event->watching)
        loop_source_remove(&event->source);
    event->watching = false;
}

static int deactivate(struct ub_event *ub)
{
    struct dns_event *event = event_of(ub);
    stop_watching(event);
    loop_timer_clear(&event->timer);
    return 0;
}

/* The event may be gone when this returns. */
static void fire(struct dns_event *event, short bits)
{
    if (!(event->bits & UB_EV_PERSIST))
        (void)deactivate(&event->ub);
    event->callback(event->source.fd, bits, event->arg);
}

static void on_ready(struct loop_source *source, uint32_t epoll_events)
{
    struct dns_event *event = CONTAINER(source, struct dns_event, source);
    short bits = 0;
    if (epoll_events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        bits |= UB_EV_READ;
    if (epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        bits |= UB_EV_WRITE;
    bits &= event->bits;
    if (bits)
        fire(event, bits);
}

static void on_timer(struct loop_timer *timer)
{
    fire(CONTAINER(timer, struct dns_event, timer), UB_EV_TIMEOUT);
}

/* ---- what libunbound calls ---- */

static void add_bits(struct ub_event *ub, short bits)
{
    event_of(ub)->bits |= bits;
}

static void remove_bits(struct ub_event *ub, short bits)
{
    event_of(ub)->bits = (short)(event_of(ub)->bits & ~bits);
}

static void set_descriptor(struct ub_event *ub, int fd)
{
    event_of(ub)->source.fd = fd;
}

static void free_event(struct ub_event *ub)
{
    (void)deactivate(ub);
    list_remove(&event_of(ub)->link);
    free(ub);
}

static void set_timer(struct dns_event *event, const struct timeval *duration)
{
    loop_timer_set(&event->timer,
                   clock_deadline(duration->tv_sec * NS_PER_S + duration->tv_usec * NS_PER_US));
}

static int activate(struct ub_event *ub, struct timeval *timeout)
{
    struct dns_event *event = event_of(ub);
    uint32_t wanted = epoll_bits(event->bits);
    if (wanted && event->source.fd >= 0) {
        if (event->watching)
            loop_source_modify(&event->source, wanted);
        else if (loop_source_add(&event->source, wanted, /* exclusive= */ false, NULL) == FAILED)
            return -1;
        event->watching = true;
    }
    if (timeout)
        set_timer(event, timeout);
    return 0;
}

static int activate_timer(struct ub_event *ub, struct ub_event_base *base, event_callback *callback,
                          void *arg, struct timeval *timeout)
{
    (void)base;
    struct dns_event *event = event_of(ub);
    event->callback = callback;
    event->arg = arg;
    set_timer(event, timeout);
    return 0;
}

static int deactivate_timer(struct ub_event *ub)
{
    loop_timer_clear(&event_of(ub)->timer);
    return 0;
}

static int refuse_signal(struct ub_event *ub, struct timeval *timeout)
{
    (void)ub, (void)timeout;
    return -1;
}

static int ignore_signal(struct ub_event *ub)
{
    (void)ub;
    return 0;
}

static void ignore_unregister(struct ub_event *ub)
{
    (void)ub;
}

static void ignore_would_block(struct ub_event *ub, int bit)
{
    (void)ub, (void)bit;
}

static struct ub_event_vmt event_methods = {
    .add_bits = add_bits,
    .del_bits = remove_bits,
    .set_fd = set_descriptor,
    .free = free_event,
    .add = activate,
    .del = deactivate,
    .add_timer = activate_timer,
    .del_timer = deactivate_timer,
    .add_signal = refuse_signal,
    .del_signal = ignore_signal,
    .winsock_unregister_wsaevent = ignore_unregister,
    .winsock_tcp_wouldblock = ignore_would_block,
};

static struct ub_event *new_event(struct ub_event_base *ub, int fd, short bits,
                                  event_callback *callback, void *arg)
{
    struct dns_event_base *base = (struct dns_event_base *)ub;
    struct dns_event *event = NEW(struct dns_event);
    event->ub = (struct ub_event){UB_EVENT_MAGIC, &event_methods};
    event->source = (struct loop_source){.fd = fd, .ready = on_ready};
    event->timer.fire = on_timer;
    event->bits = bits;
    event->callback = callback;
    event->arg = arg;
    list_append(&base->events, &event->link);
    return &event->ub;
}

static struct ub_event *no_signal(struct ub_event_base *base, int fd, event_callback *callback,
                                  void *arg)
{
    (void)base, (void)fd, (void)callback, (void)arg;
    return NULL;
}

static struct ub_event *no_windows(struct ub_event_base *base, void *event,
                                   event_callback *callback, void *arg)
{
    (void)base, (void)event, (void)callback, (void)arg;
    return NULL;
}

static void not_called(struct ub_event_base *base)
{
    (void)base;
}

static int no_dispatch(struct ub_event_base *base)
{
    (void)base;
    return -1;
}

static int no_exit(struct ub_event_base *base, struct timeval *when)
{
    (void)base, (void)when;
    return -1;
}

static struct ub_event_base_vmt base_methods = {
    .free = not_called,
    .dispatch = no_dispatch,
    .loopexit = no_exit,
    .new_event = new_event,
    .new_signal = no_signal,
    .winsock_register_wsaevent = no_windows,
};

void dns_event_base_init(struct dns_event_base *base)
{
    base->ub = (struct ub_event_base){UB_EVENT_MAGIC, &base_methods};
    list_init(&base->events);
}

void dns_event_base_done(struct dns_event_base *base)
{
    LIST_EACH (&base->events, link)
        free_event(&CONTAINER(link, struct dns_event, link)->ub);
}
