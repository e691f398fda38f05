/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of a loop. What epoll carries for each is a pointer, with the lowest bit set for a
 * source; NULL is the mailbox.
 */
#include "base/check.h"
#include "fiber/internal.h"

#include <errno.h>

enum { IS_SOURCE = 1 };

static void *tagged(struct loop_source *source)
{
    return (char *)source + IS_SOURCE;
}

static void tell_watch(struct watch *watch, uint32_t events)
{
    if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        watch->special = true;
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        watch->readable = true;
        if (watch->reader)
            fiber_wake(watch->reader);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        watch->writable = true;
        if (watch->writer)
            fiber_wake(watch->writer);
    }
}

void loop_poll(struct loop *loop, int timeout_ms)
{
    int count = epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, timeout_ms);
    if (count < 0) {
        check(errno == EINTR);
        return;
    }
    if (count > 0)
        STAT_ADD(loop->stats.wakeups, 1);
    loop->event_count = count;
    for (loop->event_next = 0; loop->event_next < loop->event_count;) {
        struct epoll_event *event = &loop->events[loop->event_next++];
        char *object = event->data.ptr;
        if (!object)
            continue;
        if ((uintptr_t)object & IS_SOURCE) {
            struct loop_source *source = (struct loop_source *)(object - IS_SOURCE);
            source->ready(source, event->events);
        } else {
            tell_watch((struct watch *)object, event->events);
        }
    }
    loop->event_count = 0;
}

static struct loop *require_loop(void)
{
    struct loop *loop = loop_current();
    check(loop != NULL);
    return loop;
}

static enum result add(int fd, void *ptr, uint32_t events, struct error *err)
{
    struct epoll_event event = {.events = events, .data.ptr = ptr};
    if (epoll_ctl(require_loop()->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        return fail_errno(err, errno, "cannot watch descriptor %d", fd);
    return OK;
}

/* Nobody hears of the object again, not even of events already fetched. */
static void forget(int fd, void *ptr)
{
    struct loop *loop = require_loop();
    struct epoll_event event = {0};
    /* Fails only when the descriptor is closed already, which took it out as well. */
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, &event);
    for (int i = loop->event_next; i < loop->event_count; i++) {
        if (loop->events[i].data.ptr == ptr)
            loop->events[i].data.ptr = NULL;
    }
}

/* ---- watches ---- */

enum result watch_open(struct watch *watch, int fd, struct error *err)
{
    *watch = (struct watch){.fd = fd};
    return add(fd, watch, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, err);
}

void watch_close(struct watch *watch)
{
    check(!watch->reader && !watch->writer);
    forget(watch->fd, watch);
    watch->fd = -1;
}

static MAY_YIELD enum result wait_for(bool *flag, struct fiber **waiter, struct error *err)
{
    check(!*waiter);
    if (fiber_check(err) == FAILED)
        return FAILED;
    *waiter = fiber_require();
    enum result result = OK;
    while (!*flag && result == OK)
        result = fiber_suspend(err);
    *waiter = NULL;
    if (result == OK)
        *flag = false;
    return result;
}

enum result watch_wait_readable(struct watch *watch, struct error *err)
{
    return wait_for(&watch->readable, &watch->reader, err);
}

enum result watch_wait_writable(struct watch *watch, struct error *err)
{
    return wait_for(&watch->writable, &watch->writer, err);
}

/* ---- sources ---- */

static enum result add_source(struct loop_source *source, uint32_t events, struct error *err)
{
    uint32_t exclusive = source->exclusive ? (uint32_t)EPOLLEXCLUSIVE : 0;
    return events ? add(source->fd, tagged(source), events | exclusive, err) : OK;
}

enum result loop_source_add(struct loop_source *source, uint32_t epoll_events, bool exclusive,
                            struct error *err)
{
    source->exclusive = exclusive;
    source->events = epoll_events;
    return add_source(source, epoll_events, err);
}

void loop_source_modify(struct loop_source *source, uint32_t epoll_events)
{
    if (epoll_events == source->events)
        return;
    /* EPOLL_CTL_MOD refuses exclusive ones, and events 0 would still tell of errors. */
    if (source->exclusive || !epoll_events || !source->events) {
        loop_source_remove(source);
        check(add_source(source, epoll_events, NULL) == OK);
    } else {
        struct epoll_event event = {.events = epoll_events, .data.ptr = tagged(source)};
        check(epoll_ctl(require_loop()->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) == 0);
    }
    source->events = epoll_events;
}

void loop_source_remove(struct loop_source *source)
{
    if (source->events)
        forget(source->fd, tagged(source));
    source->events = 0;
}
