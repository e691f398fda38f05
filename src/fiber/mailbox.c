/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from other threads into a loop. Senders push on a lock-free stack; the loop takes all
 * of it at once and turns it round. A sender wakes the loop only when the loop said that it goes
 * to sleep, and only the first sender to see that does.
 */
#include "base/check.h"
#include "fiber/internal.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

void mailbox_init(struct mailbox *mailbox, int event_fd)
{
    atomic_init(&mailbox->head, NULL);
    atomic_init(&mailbox->asleep, false);
    atomic_init(&mailbox->posting, 0);
    mailbox->event_fd = event_fd;
}

bool mailbox_is_empty(const struct mailbox *mailbox)
{
    return atomic_load(&mailbox->head) == NULL;
}

void mailbox_wake(struct mailbox *mailbox)
{
    if (!atomic_load(&mailbox->asleep) || !atomic_exchange(&mailbox->asleep, false))
        return;
    /* Watched edge triggered: each write is an edge, and nobody needs to read. */
    uint64_t one = 1;
    while (write(mailbox->event_fd, &one, sizeof one) < 0)
        check(errno == EINTR);
}

bool mailbox_go_to_sleep(struct mailbox *mailbox)
{
    /* First say it, then look: a sender first pushes, then looks whether it was said. */
    atomic_store(&mailbox->asleep, true);
    return mailbox_is_empty(mailbox);
}

void mailbox_awake(struct mailbox *mailbox)
{
    atomic_store(&mailbox->asleep, false);
}

static struct post *reverse(struct post *post)
{
    struct post *reversed = NULL;
    while (post) {
        struct post *next = post->next;
        post->next = reversed;
        reversed = post;
        post = next;
    }
    return reversed;
}

size_t mailbox_run(struct mailbox *mailbox)
{
    if (!atomic_load_explicit(&mailbox->head, memory_order_relaxed))
        return 0;
    struct post *post = reverse(atomic_exchange(&mailbox->head, NULL));
    size_t count = 0;
    while (post) {
        struct post *next = post->next; /* the post may be gone after run() */
        post->run(post);
        post = next;
        count++;
    }
    return count;
}

/* `newest` … `oldest` are linked in the order of the stack, latest first. */
static void push(struct loop *loop, struct post *newest, struct post *oldest)
{
    struct mailbox *mailbox = &loop->mailbox;
    atomic_fetch_add(&mailbox->posting, 1);
    struct post *head = atomic_load_explicit(&mailbox->head, memory_order_relaxed);
    do {
        oldest->next = head;
    } while (!atomic_compare_exchange_weak(&mailbox->head, &head, newest));
    mailbox_wake(mailbox);
    atomic_fetch_sub(&mailbox->posting, 1);
}

void loop_post(struct loop *loop, struct post *post)
{
    push(loop, post, post);
}

void loop_post_chain(struct loop *loop, struct post *first, struct post *last)
{
    last->next = NULL;
    push(loop, reverse(first), first);
}
