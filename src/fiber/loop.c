/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/loop.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/internal.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { DEFAULT_FIBERS = 28000, DEFAULT_POOLED_STACKS = 256 };
/* An idle loop still turns, so that the watchdog sees its heart beat. */
enum { LONGEST_SLEEP_MS = 1000 };
/* What those who yielded have of a turn at least, if they need it. */
#define PATIENT_NS (NS_PER_MS / 4)

static _Thread_local struct loop *current_loop;

struct loop *loop_current(void)
{
    return current_loop;
}

/* ---- life cycle ---- */

static enum result open_descriptors(struct loop *loop, int *out_event_fd, struct error *err)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return fail_errno(err, errno, "cannot make an event loop");
    int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    if (event_fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, event_fd, &event) != 0) {
        enum result result = fail_errno(err, errno, "cannot make an event loop's mailbox");
        close(loop->epoll_fd);
        if (event_fd >= 0)
            close(event_fd);
        return result;
    }
    *out_event_fd = event_fd;
    return OK;
}

enum result loop_new(const struct loop_limits *limits, struct loop **out_loop, struct error *err)
{
    check(!current_loop);
    struct loop *loop = aligned_alloc(_Alignof(struct loop), sizeof(struct loop));
    check(loop != NULL);
    *loop = (struct loop){0};
    int event_fd = -1;
    if (open_descriptors(loop, &event_fd, err) == FAILED) {
        free(loop);
        return FAILED;
    }
    mailbox_init(&loop->mailbox, event_fd);
    context_init_thread(&loop->context);
    list_init(&loop->ready);
    list_init(&loop->patient);
    list_init(&loop->fibers);
    list_init(&loop->hooks);
    size_t pooled = limits ? limits->pooled_stacks : 0;
    loop->max_fibers = limits && limits->fibers ? limits->fibers : DEFAULT_FIBERS;
    stack_pool_init(&loop->stacks, pooled ? pooled : DEFAULT_POOLED_STACKS);
    current_loop = loop;
    *out_loop = loop;
    return OK;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    check(loop == current_loop && !loop->current);
    check(loop->stats.fibers == 0);
    /* A sender that has just handed over its post may not have left the mailbox yet. */
    while (atomic_load(&loop->mailbox.posting) > 0)
        sched_yield();
    while (mailbox_run(&loop->mailbox) > 0)
        continue;
    close(loop->mailbox.event_fd);
    close(loop->epoll_fd);
    stack_pool_done(&loop->stacks);
    blocks_done(loop);
    context_done(&loop->context);
    free(loop->timers.slots);
    current_loop = NULL;
    free(loop);
}

/* ---- running ---- */

/* In milliseconds, rounded up: a turn that comes too early would only spin. */
static int time_to_sleep(const struct loop *loop)
{
    int64_t due_ns = timer_next_due(loop);
    if (due_ns == TIME_NEVER)
        return LONGEST_SLEEP_MS;
    int64_t left_ns = due_ns - clock_monotonic_ns();
    if (left_ns <= 0)
        return 0;
    if (left_ns > LONGEST_SLEEP_MS * NS_PER_MS)
        return LONGEST_SLEEP_MS;
    return (int)((left_ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void poll_descriptors(struct loop *loop)
{
    bool idle = list_is_empty(&loop->ready) && list_is_empty(&loop->patient);
    int timeout_ms = idle ? time_to_sleep(loop) : 0;
    /* loop_stop() too sets first and looks whether we sleep then. */
    if (timeout_ms > 0 && (!mailbox_go_to_sleep(&loop->mailbox) || atomic_load(&loop->stop)))
        timeout_ms = 0;
    loop_poll(loop, timeout_ms);
    mailbox_awake(&loop->mailbox);
}

/* Those that become ready meanwhile wait for the next turn, so that descriptors get their say. */
static void run_ready(struct loop *loop)
{
    if (list_is_empty(&loop->ready))
        return;
    struct list batch = loop->ready;
    batch.next->prev = &batch;
    batch.prev->next = &batch;
    list_init(&loop->ready);
    for (struct list *link; (link = list_shift(&batch));)
        fiber_resume(CONTAINER(link, struct fiber, ready));
}

/*
 * Those who yielded have much to do (bodies of megabytes, walks over the queue), the others little:
 * each turn goes to the latter first, and then for as long as that took, or a quarter of a
 * millisecond, to the former. So a small message does not wait until all large ones had their
 * turn, and a large one has half of the time when there are many small ones.
 */
static void run_patient(struct loop *loop, const struct list *last, int64_t begin_ns)
{
    int64_t now_ns = clock_monotonic_ns();
    int64_t share_ns = now_ns - begin_ns < PATIENT_NS ? PATIENT_NS : now_ns - begin_ns;
    struct list *link;
    do {
        link = list_shift(&loop->patient);
        fiber_resume(CONTAINER(link, struct fiber, ready));
    } while (link != last && clock_monotonic_ns() - now_ns < share_ns);
}

static void turn(struct loop *loop)
{
    poll_descriptors(loop);
    int64_t begin_ns = clock_monotonic_ns();
    STAT_ADD(loop->stats.posts, mailbox_run(&loop->mailbox));
    timer_fire_due(loop, begin_ns);
    /* who yields in this turn lets even those go first whom he just woke */
    const struct list *patient = list_is_empty(&loop->patient) ? NULL : loop->patient.prev;
    run_ready(loop);
    if (patient)
        run_patient(loop, patient, begin_ns);
    LIST_EACH (&loop->hooks, link) {
        struct loop_hook *hook = CONTAINER(link, struct loop_hook, link);
        hook->run(hook);
    }
    STAT_ADD(loop->stats.turns, 1);
    int64_t took_ns = clock_monotonic_ns() - begin_ns;
    if (took_ns > loop->stats.longest_turn_ns)
        atomic_store_explicit(&loop->stats.longest_turn_ns, took_ns, memory_order_relaxed);
}

void loop_run(struct loop *loop)
{
    check(loop == current_loop && !loop->current);
    do
        turn(loop);
    while (!atomic_exchange(&loop->stop, false));
}

void loop_stop(struct loop *loop)
{
    atomic_fetch_add(&loop->mailbox.posting, 1);
    atomic_store(&loop->stop, true);
    mailbox_wake(&loop->mailbox);
    atomic_fetch_sub(&loop->mailbox.posting, 1);
}

/* ---- hooks ---- */

void loop_hook_add(struct loop *loop, struct loop_hook *hook)
{
    check(loop == current_loop);
    check(loop->hook_count < LOOP_HOOKS);
    loop->hook_count++;
    list_append(&loop->hooks, &hook->link);
}

void loop_hook_remove(struct loop_hook *hook)
{
    check(current_loop != NULL);
    if (list_is_empty(&hook->link))
        return;
    current_loop->hook_count--;
    list_remove(&hook->link);
}

/* ---- queries ---- */

struct loop_stats loop_stats(const struct loop *loop)
{
    return (struct loop_stats){
        .turns = loop->stats.turns,
        .wakeups = loop->stats.wakeups,
        .posts = loop->stats.posts,
        .switches = loop->stats.switches,
        .fibers = loop->stats.fibers,
        .longest_turn_ns = loop->stats.longest_turn_ns,
    };
}

size_t loop_fibers_left(const struct loop *loop)
{
    size_t running = loop->stats.fibers;
    size_t allowed = running < loop->max_fibers ? loop->max_fibers - running : 0;
    size_t stacks = stack_pool_left(&loop->stacks);
    return allowed < stacks ? allowed : stacks;
}
