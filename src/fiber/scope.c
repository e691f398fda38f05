/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scope inherits is settled when it is opened (the earlier deadline, a cancellation that
 * already happened) or pushed down to it (a later cancellation). So a wait asks one scope only.
 */
#include "fiber/fiber.h"

#include "base/check.h"
#include "fiber/internal.h"

#include <string.h>

static void init(struct scope *scope, struct loop *loop)
{
    memset(scope, 0, sizeof *scope);
    scope->loop = loop;
    scope->deadline_ns = TIME_NEVER;
    list_init(&scope->fibers);
    list_init(&scope->children);
    list_init(&scope->link_in_parent);
}

void scope_init_root(struct scope *scope, struct loop *loop)
{
    init(scope, loop);
}

static void open_scope(struct scope *scope, int64_t deadline_ns, bool shielded)
{
    struct fiber *fiber = fiber_require();
    struct scope *parent = fiber->innermost;
    init(scope, fiber->loop);
    scope->parent = parent;
    scope->owner = fiber;
    scope->shielded = shielded;
    scope->deadline_ns = deadline_ns;
    if (!shielded) {
        scope->cancelled = parent->cancelled;
        if (parent->deadline_ns < deadline_ns)
            scope->deadline_ns = parent->deadline_ns;
    }
    list_append(&parent->children, &scope->link_in_parent);
    fiber->innermost = scope;
}

void scope_open(struct scope *scope, int64_t deadline_ns)
{
    open_scope(scope, deadline_ns, false);
}

void scope_open_shielded(struct scope *scope, int64_t deadline_ns)
{
    open_scope(scope, deadline_ns, true);
}

void scope_close(struct scope *scope)
{
    struct fiber *fiber = fiber_require();
    check(scope->owner == fiber && fiber->innermost == scope);
    while (!list_is_empty(&scope->fibers))
        fiber_suspend_firmly();
    check(list_is_empty(&scope->children));
    list_remove(&scope->link_in_parent);
    fiber->innermost = scope->parent;
}

void scope_cancel(struct scope *scope)
{
    check(scope->loop == loop_current());
    if (scope->cancelled)
        return;
    scope->cancelled = true;
    if (scope->owner && scope->owner->innermost == scope)
        fiber_interrupt(scope->owner);
    LIST_EACH (&scope->fibers, link) {
        struct fiber *fiber = CONTAINER(link, struct fiber, in_scope);
        if (fiber->innermost == scope)
            fiber_interrupt(fiber);
    }
    LIST_EACH (&scope->children, link) {
        struct scope *child = CONTAINER(link, struct scope, link_in_parent);
        if (!child->shielded)
            scope_cancel(child);
    }
}

bool scope_is_over(const struct scope *scope)
{
    return scope->cancelled ||
           (scope->deadline_ns != TIME_NEVER && clock_monotonic_ns() >= scope->deadline_ns);
}

bool scope_is_empty(const struct scope *scope)
{
    return list_is_empty(&scope->fibers);
}
