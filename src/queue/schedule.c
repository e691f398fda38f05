/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/schedule.c - a binary heap.
 */
#include "queue/schedule.h"

#include "base/check.h"
#include "base/memory.h"

#include <stdlib.h>

void queue_schedule_init(struct queue_schedule *schedule, const struct queue_slab *slab)
{
    *schedule = (struct queue_schedule){.slab = slab};
}

void queue_schedule_done(struct queue_schedule *schedule)
{
    free(schedule->heap);
    *schedule = (struct queue_schedule){0};
}

static struct queue_due *due_at(const struct queue_schedule *schedule, size_t index)
{
    return queue_slab_at(schedule->slab, schedule->heap[index]);
}

static void place(struct queue_schedule *schedule, size_t index, struct queue_due *due)
{
    schedule->heap[index] = queue_slab_number(due);
    due->index = (uint32_t)index;
}

static void sift_up(struct queue_schedule *schedule, struct queue_due *due)
{
    size_t at = due->index;
    while (at > 1) {
        struct queue_due *above = due_at(schedule, at / 2);
        if (above->due_ns <= due->due_ns)
            break;
        place(schedule, at, above);
        at /= 2;
    }
    place(schedule, at, due);
}

static void sift_down(struct queue_schedule *schedule, struct queue_due *due)
{
    size_t at = due->index;
    for (size_t child = 2 * at; child <= schedule->count; child = 2 * at) {
        struct queue_due *first = due_at(schedule, child);
        if (child < schedule->count) {
            struct queue_due *second = due_at(schedule, child + 1);
            if (second->due_ns < first->due_ns) {
                first = second;
                child++;
            }
        }
        if (first->due_ns >= due->due_ns)
            break;
        place(schedule, at, first);
        at = child;
    }
    place(schedule, at, due);
}

void queue_schedule_set(struct queue_schedule *schedule, struct queue_due *due, int64_t due_ns)
{
    due->due_ns = due_ns;
    if (due->index == 0) {
        check(schedule->count < UINT32_MAX - 1);
        if (schedule->count + 2 > schedule->cap) {
            schedule->cap = schedule->cap == 0 ? 64 : schedule->cap * 2;
            schedule->heap =
                memory_resize_array(schedule->heap, schedule->cap, sizeof *schedule->heap);
        }
        place(schedule, ++schedule->count, due);
    }
    sift_up(schedule, due);
    sift_down(schedule, due);
}

void queue_schedule_remove(struct queue_schedule *schedule, struct queue_due *due)
{
    if (due->index == 0)
        return;
    size_t at = due->index;
    struct queue_due *last = due_at(schedule, schedule->count--);
    due->index = 0;
    if (last == due)
        return;
    place(schedule, at, last);
    sift_up(schedule, last);
    sift_down(schedule, last);
}

struct queue_due *queue_schedule_first(const struct queue_schedule *schedule)
{
    return schedule->count == 0 ? NULL : due_at(schedule, 1);
}
