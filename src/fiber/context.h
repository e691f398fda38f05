/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/context.h - what the processor needs to leave one stack and go on with another.
 *
 * Private to fiber/. Switching is our own assembly on x86-64 and aarch64 (swapcontext elsewhere:
 * it asks the kernel for the signal mask each time). Sanitizers are told of every switch.
 */
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define CONTEXT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CONTEXT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CONTEXT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CONTEXT_TSAN 1
#endif
#endif

struct context {
    void *sp;       /* where it was left; with swapcontext a ucontext_t on the heap */
    void *base;     /* lowest byte of its stack; of the thread's own stack known lazily */
    size_t size;    /* of its stack */
    void *sanitize; /* AddressSanitizer's fake stack while it is left */
    void *thread;   /* ThreadSanitizer's idea of it */
};

/* The context of the running thread itself. */
void context_init_thread(struct context *context);
/* A context that will call `entry(arg)` on the stack given; entry must never return. */
void context_init(struct context *context, void *base, size_t size, void (*entry)(void *arg),
                  void *arg);
/* After the last switch away from it (or for a thread's context, any time). */
void context_done(struct context *context);

/* How far down its stack is in use, of a context that was left; NULL where that is not known. */
void *context_stack_pointer(const struct context *context);

/* Leave `from`, which is running, for `to`; returns when somebody switches back to `from`. */
void context_switch(struct context *from, struct context *to);
/* As context_switch, for good. */
_Noreturn void context_leave(struct context *from, struct context *to);
/* The first thing that `entry` does; `from` is who switched to it. */
void context_arrived(struct context *from);
