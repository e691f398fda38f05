/* SPDX-License-Identifier: Apache-2.0 */
#include "fiber/context.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if !defined(FIBER_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define FIBER_UCONTEXT 1
#endif
#if defined(CONTEXT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CONTEXT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

/*
 * The thread sanitizer keeps a call stack of its own for each fiber. A function that is entered on
 * one of them and left on another upsets both, so those that switch are left uninstrumented.
 */
#if defined(CONTEXT_TSAN) && defined(__clang__)
#define SWITCHES __attribute__((disable_sanitizer_instrumentation))
#elif defined(CONTEXT_TSAN)
#define SWITCHES __attribute__((no_sanitize_thread))
#else
#define SWITCHES
#endif

#if defined(FIBER_UCONTEXT)
#include <ucontext.h>

struct start {
    ucontext_t registers; /* first, so that struct context's sp is both */
    void (*entry)(void *arg);
    void *arg;
};

/* makecontext passes ints, so the pointer travels in halves. */
static void begin(unsigned high, unsigned low)
{
    struct start *start = (struct start *)(((uintptr_t)high << 16 << 16) | low);
    start->entry(start->arg);
    abort();
}

static void lay_out(struct context *context, void (*entry)(void *arg), void *arg)
{
    struct start *start = NEW(struct start);
    start->entry = entry;
    start->arg = arg;
    check(getcontext(&start->registers) == 0);
    start->registers.uc_stack.ss_sp = context->base;
    start->registers.uc_stack.ss_size = context->size;
    makecontext(&start->registers, (void (*)(void))begin, 2,
                (unsigned)((uintptr_t)start >> 16 >> 16), (unsigned)(uintptr_t)start);
    context->sp = start;
}

void *context_stack_pointer(const struct context *context)
{
    (void)context;
    return NULL;
}

SWITCHES static void swap(struct context *from, struct context *to)
{
    check(swapcontext(from->sp, to->sp) == 0);
}

#else

void context_swap(void **out_sp, void *sp);
void context_begin(void);

/* The picture that context_swap() leaves of a context, made up for one that never ran. */
static void lay_out(struct context *context, void (*entry)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)context->base + context->size) & ~(uintptr_t)15;
#if defined(__x86_64__)
    /* mxcsr and x87 control word, r12, r13, r14, r15, rbx, rbp, return address; then aligned */
    uint64_t *frame = (uint64_t *)(top - 80);
    memset(frame, 0, 80);
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    frame[0] = mxcsr | (uint64_t)x87 << 32;
    frame[1] = (uint64_t)(uintptr_t)entry;
    frame[2] = (uint64_t)(uintptr_t)arg;
    frame[7] = (uint64_t)(uintptr_t)context_begin;
#else
    /* x19 … x30, d8 … d15 */
    uint64_t *frame = (uint64_t *)(top - 160);
    memset(frame, 0, 160);
    frame[0] = (uint64_t)(uintptr_t)entry;
    frame[1] = (uint64_t)(uintptr_t)arg;
    frame[11] = (uint64_t)(uintptr_t)context_begin;
#endif
    context->sp = frame;
}

void *context_stack_pointer(const struct context *context)
{
    return context->sp;
}

SWITCHES static void swap(struct context *from, struct context *to)
{
    context_swap(&from->sp, to->sp);
}

#endif

void context_init_thread(struct context *context)
{
    memset(context, 0, sizeof *context);
#if defined(FIBER_UCONTEXT)
    context->sp = NEW(struct start);
#endif
#if defined(CONTEXT_TSAN)
    context->thread = __tsan_get_current_fiber();
#endif
}

void context_init(struct context *context, void *base, size_t size, void (*entry)(void *arg),
                  void *arg)
{
    memset(context, 0, sizeof *context);
    context->base = base;
    context->size = size;
    lay_out(context, entry, arg);
#if defined(CONTEXT_TSAN)
    context->thread = __tsan_create_fiber(0);
#endif
}

void context_done(struct context *context)
{
#if defined(FIBER_UCONTEXT)
    free(context->sp);
#endif
#if defined(CONTEXT_TSAN)
    if (context->base)
        __tsan_destroy_fiber(context->thread);
#endif
    context->sp = NULL;
}

SWITCHES static void before(struct context *to, void **fake_stack)
{
#if defined(CONTEXT_ASAN)
    __sanitizer_start_switch_fiber(fake_stack, to->base, to->size);
#else
    (void)fake_stack;
#endif
#if defined(CONTEXT_TSAN)
    __tsan_switch_to_fiber(to->thread, 0);
#else
    (void)to;
#endif
}

SWITCHES void context_switch(struct context *from, struct context *to)
{
    before(to, &from->sanitize);
    swap(from, to);
#if defined(CONTEXT_ASAN)
    __sanitizer_finish_switch_fiber(from->sanitize, NULL, NULL);
#endif
}

SWITCHES _Noreturn void context_leave(struct context *from, struct context *to)
{
    before(to, NULL);
    swap(from, to);
    abort();
}

void context_arrived(struct context *from)
{
#if defined(CONTEXT_ASAN)
    const void *base;
    size_t size;
    __sanitizer_finish_switch_fiber(NULL, &base, &size);
    /* The bounds of a thread's own stack are learned here, from the first fiber it switches to. */
    if (!from->base) {
        from->base = (void *)(uintptr_t)base;
        from->size = size;
    }
#else
    (void)from;
#endif
}
