/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/schedule.h - what is due when: a heap of items embedded in those of a slab, one a
 * worker.
 */
#pragma once

#include "queue/slab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* There are many: no space is left between `index` and what follows it. */
struct queue_due {
    int64_t due_ns;
    uint32_t index; /* from 1; 0: not in a schedule */
} __attribute__((packed, aligned(4)));
struct queue_schedule {
    const struct queue_slab *slab;
    uint32_t *heap; /* numbers of the slab; [0] is not used */
    size_t count;
    size_t cap;
};

void queue_schedule_init(struct queue_schedule *schedule, const struct queue_slab *slab);
void queue_schedule_done(struct queue_schedule *schedule);
/* Add, or move what is there. */
void queue_schedule_set(struct queue_schedule *schedule, struct queue_due *due, int64_t due_ns);
/* No harm when it is not there. */
void queue_schedule_remove(struct queue_schedule *schedule, struct queue_due *due);
/* The earliest, which stays; NULL when empty. */
struct queue_due *queue_schedule_first(const struct queue_schedule *schedule);
