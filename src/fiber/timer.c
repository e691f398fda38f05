/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers of a loop: a heap of four children a node. Each slot holds its due time, so that sifting
 * does not visit the timers' own memory.
 */
#include "base/check.h"
#include "base/memory.h"
#include "fiber/internal.h"

enum { FIRST = 1, CHILDREN = 4 };

static void put(struct timer_heap *heap, size_t at, struct timer_slot slot)
{
    heap->slots[at] = slot;
    slot.timer->heap_index = at;
}

static size_t parent_of(size_t at)
{
    return (at - FIRST - 1) / CHILDREN + FIRST;
}

static size_t first_child_of(size_t at)
{
    return (at - FIRST) * CHILDREN + FIRST + 1;
}

static void sift_up(struct timer_heap *heap, size_t at, struct timer_slot slot)
{
    while (at > FIRST && heap->slots[parent_of(at)].due_ns > slot.due_ns) {
        put(heap, at, heap->slots[parent_of(at)]);
        at = parent_of(at);
    }
    put(heap, at, slot);
}

static void sift_down(struct timer_heap *heap, size_t at, struct timer_slot slot)
{
    for (;;) {
        size_t child = first_child_of(at);
        size_t end = child + CHILDREN;
        if (end > heap->count + FIRST)
            end = heap->count + FIRST;
        size_t least = at;
        int64_t least_ns = slot.due_ns;
        for (; child < end; child++) {
            if (heap->slots[child].due_ns < least_ns) {
                least = child;
                least_ns = heap->slots[child].due_ns;
            }
        }
        if (least == at)
            break;
        put(heap, at, heap->slots[least]);
        at = least;
    }
    put(heap, at, slot);
}

static void place(struct timer_heap *heap, size_t at, struct timer_slot slot)
{
    if (at > FIRST && heap->slots[parent_of(at)].due_ns > slot.due_ns)
        sift_up(heap, at, slot);
    else
        sift_down(heap, at, slot);
}

void loop_timer_set(struct loop_timer *timer, int64_t due_ns)
{
    struct loop *loop = loop_current();
    check(loop != NULL);
    struct timer_heap *heap = &loop->timers;
    timer->due_ns = due_ns;
    struct timer_slot slot = {due_ns, timer};
    if (timer->heap_index) {
        check(heap->slots[timer->heap_index].timer == timer);
        place(heap, timer->heap_index, slot);
        return;
    }
    if (heap->count + FIRST >= heap->cap) {
        heap->cap = heap->cap ? heap->cap * 2 : 64;
        heap->slots = memory_resize_array(heap->slots, heap->cap, sizeof *heap->slots);
    }
    heap->count++;
    sift_up(heap, heap->count, slot);
}

void loop_timer_clear(struct loop_timer *timer)
{
    size_t at = timer->heap_index;
    if (!at)
        return;
    struct loop *loop = loop_current();
    check(loop != NULL);
    struct timer_heap *heap = &loop->timers;
    check(at <= heap->count && heap->slots[at].timer == timer);
    timer->heap_index = 0;
    struct timer_slot last = heap->slots[heap->count];
    heap->count--;
    if (last.timer != timer)
        place(heap, at, last);
}

int64_t timer_next_due(const struct loop *loop)
{
    return loop->timers.count ? loop->timers.slots[FIRST].due_ns : TIME_NEVER;
}

void timer_fire_due(struct loop *loop, int64_t now_ns)
{
    /* A timer that arms itself for the past waits for the next turn. */
    for (size_t left = loop->timers.count; left > 0 && timer_next_due(loop) <= now_ns; left--) {
        struct loop_timer *timer = loop->timers.slots[FIRST].timer;
        loop_timer_clear(timer);
        timer->fire(timer);
    }
}
