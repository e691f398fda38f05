/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/cond.h"

struct waiter {
    struct list link; /* its own list once it was signalled */
    struct fiber *fiber;
    bool signalled;
};

void cond_init(struct cond *cond)
{
    list_init(&cond->waiters);
}

enum result cond_wait(struct cond *cond, struct error *err)
{
    struct waiter waiter = {.fiber = fiber_current()};
    list_append(&cond->waiters, &waiter.link);
    enum result result = fiber_suspend(err);
    list_remove(&waiter.link);
    /* One that gives up must not swallow the signal that others wait for. */
    if (result == FAILED && waiter.signalled)
        cond_signal(cond);
    return result;
}

void cond_signal(struct cond *cond)
{
    struct list *first = list_shift(&cond->waiters);
    if (!first)
        return;
    struct waiter *waiter = CONTAINER(first, struct waiter, link);
    waiter->signalled = true;
    fiber_wake(waiter->fiber);
}

void cond_broadcast(struct cond *cond)
{
    while (cond_has_waiters(cond))
        cond_signal(cond);
}

bool cond_has_waiters(const struct cond *cond)
{
    return !list_is_empty(&cond->waiters);
}
