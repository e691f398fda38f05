/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node that carries the question carries the answer back, so that replying cannot fail. Only
 * the asker's thread touches `waiter` and `done`.
 */
#include "fiber/call.h"

#include "base/check.h"
#include "base/list.h"

static void handle(struct post *post)
{
    struct call *call = CONTAINER(post, struct call, post);
    call->handle(call);
}

static void answered(struct post *post)
{
    struct call *call = CONTAINER(post, struct call, post);
    call->done = true;
    if (call->waiter)
        fiber_wake(call->waiter);
    else
        call->release(call);
}

enum result call_ask(struct loop *target, struct call *call, struct error *err)
{
    if (fiber_check(err) == FAILED) {
        call->release(call);
        return FAILED;
    }
    call->from = loop_current();
    call->waiter = fiber_current();
    call->done = false;
    call->post.run = handle;
    loop_post(target, &call->post);
    while (!call->done) {
        if (fiber_suspend(err) == FAILED && !call->done) {
            call->waiter = NULL;
            return FAILED;
        }
    }
    return OK;
}

void call_reply(struct call *call)
{
    call->post.run = answered;
    loop_post(call->from, &call->post);
}
