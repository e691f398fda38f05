/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/fiber.h"

#include "base/check.h"
#include "base/memory.h"
#include "fiber/internal.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__clang__)
struct fiber_capability on_fiber;
#endif

/* ---- life cycle ---- */

static void run_fiber(void *arg)
{
    struct fiber *fiber = arg;
    struct loop *loop = fiber->loop;
    context_arrived(&loop->context);
    fiber->run(fiber->arg);
    check(fiber->innermost == fiber->home); /* else a scope was left open */
    fiber->state = FIBER_ENDED;
    context_leave(&fiber->context, &loop->context);
}

/*
 * Deadlines usually move later (a new command, a new timeout), so the timer is left where it was
 * and looks again when it fires: a wait costs no heap operation unless it ends sooner.
 */
static void fiber_timer(struct loop_timer *timer)
{
    struct fiber *fiber = CONTAINER(timer, struct fiber, timer);
    if (fiber->state != FIBER_SUSPENDED || fiber->wait_until_ns == TIME_NEVER)
        return;
    if (clock_monotonic_ns() >= fiber->wait_until_ns)
        fiber_interrupt(fiber);
    else
        loop_timer_set(timer, fiber->wait_until_ns);
}

enum result fiber_spawn(struct scope *scope, const char *name, void (*run)(void *arg), void *arg,
                        struct error *err)
{
    struct loop *loop = scope->loop;
    check(loop == loop_current());
    if (loop->stats.fibers >= loop->max_fibers)
        return fail(err, ERROR_LIMIT, "%zu fibers are running, no more are allowed",
                    loop->max_fibers);
    struct stack *stack = stack_take(&loop->stacks);
    if (!stack)
        return fail(err, ERROR_LIMIT, "no memory for the stack of another fiber");
    struct fiber *fiber = NEW(struct fiber);
    fiber->stack = stack;
    fiber->loop = loop;
    fiber->home = scope;
    fiber->innermost = scope;
    fiber->name = name;
    fiber->run = run;
    fiber->arg = arg;
    fiber->timer.fire = fiber_timer;
    fiber->wait_until_ns = TIME_NEVER;
    /* a child of this fiber cannot outlive what its context points to; others could */
    if (scope->owner && scope->owner == loop->current)
        fiber->event_context = loop->current->event_context;
    fiber->state = FIBER_READY;
    context_init(&fiber->context, stack->base, stack->size, run_fiber, fiber);
    list_append(&scope->fibers, &fiber->in_scope);
    list_append(&loop->fibers, &fiber->in_loop);
    list_append(&loop->ready, &fiber->ready);
    STAT_ADD(loop->stats.fibers, 1);
    return OK;
}

static void reap(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;
    struct scope *home = fiber->home;
    loop_timer_clear(&fiber->timer);
    context_done(&fiber->context);
    stack_give(&loop->stacks, fiber->stack);
    list_remove(&fiber->in_scope);
    list_remove(&fiber->in_loop);
    free(fiber);
    STAT_ADD(loop->stats.fibers, (size_t)-1);
    if (list_is_empty(&home->fibers) && home->owner && home->owner->innermost == home)
        fiber_interrupt(home->owner); /* it may be in scope_close() */
}

void fiber_resume(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;
    fiber->state = FIBER_RUNNING;
    fiber->rest = REST_NONE;
    loop->current = fiber;
    context_switch(&loop->context, &fiber->context);
    while (loop->stack_call) {
        void (*call)(void *arg) = take(loop->stack_call);
        loop->on_loop_stack = true;
        call(loop->stack_call_arg);
        loop->on_loop_stack = false;
        context_switch(&loop->context, &fiber->context);
    }
    loop->current = NULL;
    STAT_ADD(loop->stats.switches, 1);
    if (fiber->state == FIBER_ENDED)
        reap(fiber);
}

/* ---- waiting ---- */

struct fiber *fiber_require(void)
{
    struct loop *loop = loop_current();
    check(loop && loop->current);
    check(!loop->on_loop_stack);
    return loop->current;
}

static enum result check_scope(const struct fiber *fiber, struct error *err)
{
    const struct scope *scope = fiber->innermost;
    if (scope->cancelled)
        return fail(err, ERROR_CANCELLED, "cancelled");
    if (scope->deadline_ns != TIME_NEVER && clock_monotonic_ns() >= scope->deadline_ns)
        return fail(err, ERROR_TIMEOUT, "timed out");
    return OK;
}

static void leave_until(struct fiber *fiber, int64_t until_ns)
{
    fiber->wait_until_ns = until_ns;
    if (until_ns != TIME_NEVER && (!fiber->timer.heap_index || fiber->timer.due_ns > until_ns))
        loop_timer_set(&fiber->timer, until_ns);
    fiber->state = FIBER_SUSPENDED;
    context_switch(&fiber->context, &fiber->loop->context);
    fiber->wait_until_ns = TIME_NEVER;
}

/* Leaves `woken` alone: a wake-up that comes meanwhile is for the next fiber_suspend(). */
static void leave_until_over(struct fiber *fiber, int64_t until_ns)
{
    int64_t deadline_ns = fiber->innermost->deadline_ns;
    leave_until(fiber, until_ns < deadline_ns ? until_ns : deadline_ns);
}

enum result fiber_suspend(struct error *err)
{
    struct fiber *fiber = fiber_require();
    if (check_scope(fiber, err) == FAILED)
        return FAILED;
    if (!fiber->woken) {
        leave_until_over(fiber, TIME_NEVER);
        if (check_scope(fiber, err) == FAILED)
            return FAILED;
    }
    fiber->woken = false;
    return OK;
}

void fiber_suspend_firmly(void)
{
    leave_until(fiber_require(), TIME_NEVER);
}

void fiber_interrupt(struct fiber *fiber)
{
    if (fiber->state != FIBER_SUSPENDED)
        return;
    fiber->state = FIBER_READY;
    list_append(&fiber->loop->ready, &fiber->ready);
}

void fiber_wake(struct fiber *fiber)
{
    check(fiber->loop == loop_current());
    fiber->woken = true;
    fiber_interrupt(fiber);
}

/* The pages of a suspended fiber's stack that none of its frames is on. */
static void trim(const struct fiber *fiber)
{
    enum { PAGE = 4096, RED_ZONE = 256 }; /* below the stack pointer, as the ABI allows */
    uintptr_t base = (uintptr_t)fiber->stack->base;
    uintptr_t end = ((uintptr_t)context_stack_pointer(&fiber->context) - RED_ZONE) / PAGE * PAGE;
    if (end > base && end < base + fiber->stack->size)
        madvise(fiber->stack->base, end - base, MADV_DONTNEED);
}

size_t loop_trim_stacks(struct loop *loop)
{
    size_t count = 0;
    check(loop == loop_current() && !loop->current);
    LIST_EACH (&loop->fibers, link) {
        struct fiber *fiber = CONTAINER(link, struct fiber, in_loop);
        if (fiber->state != FIBER_SUSPENDED || fiber->rest == REST_TRIMMED)
            continue;
        if (fiber->rest == REST_ONCE) {
            trim(fiber);
            count++;
        }
        fiber->rest = fiber->rest == REST_NONE ? REST_ONCE : REST_TRIMMED;
    }
    return count;
}

void fiber_yield(void)
{
    struct fiber *fiber = fiber_require();
    fiber->state = FIBER_READY;
    list_append(&fiber->loop->patient, &fiber->ready);
    context_switch(&fiber->context, &fiber->loop->context);
}

enum result fiber_sleep(int64_t duration_ns, struct error *err)
{
    struct fiber *fiber = fiber_require();
    int64_t until_ns = clock_deadline(duration_ns);
    enum result result = check_scope(fiber, err);
    while (result == OK && clock_monotonic_ns() < until_ns) {
        leave_until_over(fiber, until_ns);
        result = check_scope(fiber, err);
    }
    return result;
}

enum result fiber_check(struct error *err)
{
    return check_scope(fiber_require(), err);
}

/* ---- queries ---- */

struct fiber *fiber_current(void)
{
    struct loop *loop = loop_current();
    return loop ? loop->current : NULL;
}

struct scope *fiber_scope(void)
{
    struct fiber *fiber = fiber_current();
    return fiber ? fiber->innermost : NULL;
}

void fiber_set_context(const void *context)
{
    struct fiber *fiber = fiber_current();
    check(fiber != NULL);
    fiber->event_context = context;
}

const void *fiber_context(void)
{
    struct fiber *fiber = fiber_current();
    return fiber ? fiber->event_context : NULL;
}

void fiber_on_loop_stack(void (*call)(void *arg), void *arg)
{
    struct loop *loop = loop_current();
    if (!loop || !loop->current || loop->on_loop_stack) {
        call(arg);
        return;
    }
    loop->stack_call = call;
    loop->stack_call_arg = arg;
    context_switch(&loop->current->context, &loop->context);
}
