/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/fiber.h - fibers, the scopes that own them, and the one way to wait.
 *
 * A fiber is a function with its own stack that may suspend: a session, a flow run, a delivery is
 * one straight function. Fibers run on the loop of the thread that spawned them and never move.
 * Every fiber belongs to a scope, and a scope ends only when all of its fibers have ended.
 * Deadlines and cancellation arrive as the error of a wait. A function marked MAY_YIELD may
 * suspend: state shared with other fibers must be read again after it returns.
 */
#pragma once

#include "base/clock.h"
#include "base/error.h"
#include "base/list.h"

/* clang checks that a MAY_YIELD function is called from one; gcc ignores the mark. It goes in front
 * of a static function's type (`static MAY_YIELD void f(void *arg)`) and behind a prototype. It
 * cannot mark a function pointer: calls through one are not checked. */
#if defined(__clang__)
struct __attribute__((capability("fiber"))) fiber_capability {
    char unused;
};
extern struct fiber_capability on_fiber;
#define MAY_YIELD __attribute__((requires_capability(on_fiber)))
/* For a function off all fibers that calls a MAY_YIELD function which cannot suspend there. */
#define NO_YIELD_CHECK __attribute__((no_thread_safety_analysis))
#else
#define MAY_YIELD
#define NO_YIELD_CHECK
#endif

struct fiber;
struct loop;

/*
 * A scope lives in the frame of the fiber (or of the loop's owner) that opened it. Scopes nest: a
 * wait inside an inner scope ends at the earliest deadline and at any cancellation of the fiber's
 * chain of open scopes.
 */
struct scope {
    struct scope *parent; /* the scope that was open when this one was opened */
    struct fiber *owner;  /* who waits in scope_close; NULL for a scope of the loop itself */
    struct loop *loop;
    struct list fibers; /* children still running */
    struct list link_in_parent;
    struct list children; /* scopes opened by fibers of this scope or nested in it */
    int64_t deadline_ns;  /* monotonic; TIME_NEVER for none */
    bool cancelled;
    bool shielded; /* does not inherit the cancellation or deadline of its parent */
};

/* ---- life cycle ---- */

/* Open a scope on the current fiber. `deadline_ns` is a point on the monotonic clock. */
void scope_open(struct scope *scope, int64_t deadline_ns) MAY_YIELD;
/* As scope_open, but cut off from outer deadlines and cancellation: for clean-up after a cancel,
 * with a deadline of its own (TIME_NEVER only where the other side is sure to answer). */
void scope_open_shielded(struct scope *scope, int64_t deadline_ns) MAY_YIELD;
/* Wait until every child ended (cancelling does not skip this wait), then leave the scope. */
void scope_close(struct scope *scope) MAY_YIELD;
/* Ask all fibers of the scope, and the current fiber's waits inside it, to end; any thread-local
 * code may call it, on or off a fiber. Idempotent. */
void scope_cancel(struct scope *scope);
/* True once this scope or one it inherits from was cancelled or ran out of time. */
bool scope_is_over(const struct scope *scope);

/* A scope that the loop's owner keeps outside any fiber (listeners, workers). Children are awaited
 * by running the loop; destroying it with children left is a bug. */
void scope_init_root(struct scope *scope, struct loop *loop);
bool scope_is_empty(const struct scope *scope);

/*
 * Run `run(arg)`, a MAY_YIELD function, in a new fiber of `scope`, which belongs to this thread's
 * loop. `name` is static text, shown in dumps. FAILED with ERROR_LIMIT when the loop's cap on
 * fibers is reached. `run` starts after the caller has suspended or, off a fiber, returned to the
 * loop. The stack has 256 KiB; a large frame is better put into an arena.
 */
enum result fiber_spawn(struct scope *scope, const char *name, void (*run)(void *arg), void *arg,
                        struct error *err);

/* ---- waiting ---- */

/* Suspend until fiber_wake(). FAILED: ERROR_CANCELLED before ERROR_TIMEOUT before a wake-up. A
 * wake-up that came before the call is not lost: the call returns at once. Spurious wake-ups
 * happen: wait in a loop on the condition. */
enum result fiber_suspend(struct error *err) MAY_YIELD;
/* Let it run again; same thread only; no harm when it is not suspended. */
void fiber_wake(struct fiber *fiber);
/* Let others run first; does not fail and does not look at deadlines. For who has much to do: those
 * who yielded share at least half of the loop's time among them, after those who did not. */
void fiber_yield(void) MAY_YIELD;
/* FAILED only by cancellation or an outer deadline. */
enum result fiber_sleep(int64_t duration_ns, struct error *err) MAY_YIELD;
/* FAILED when the current fiber was cancelled or is past a deadline; does not suspend. For long
 * computations. */
enum result fiber_check(struct error *err) MAY_YIELD;

/* ---- queries ---- */

/* The running fiber of this thread, or NULL. */
struct fiber *fiber_current(void);
struct scope *fiber_scope(void);

/* One word that rides on the fiber, for the log context of events; inherited by its own children
 * (fibers of a scope it opened, which cannot outlive it). */
void fiber_set_context(const void *context);
const void *fiber_context(void);

/* Run `call(arg)` on the loop's own, large stack and return when it has: for foreign code with
 * unknown stack needs. The call must not suspend. */
void fiber_on_loop_stack(void (*call)(void *arg), void *arg);
