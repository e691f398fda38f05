/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/select.h - which entries an operator means.
 */
#pragma once

#include "queue/ask.h"
#include "queue/settle.h"

void queue_selector_copy(struct arena *arena, const struct queue_selector *from,
                         struct queue_selector *out);
/* As operators see it: what waits while its destination is paused is PAUSED. */
enum queue_state queue_state_of(const struct queue_attempt *view);
struct str queue_view_destination(const struct queue_attempt *view);
/* Is it this address, or in "@domain"? Empty fits all. */
bool queue_address_fits(struct arena *arena, struct str pattern, struct str address);
/* 0: as soon as can be. */
int64_t queue_view_next_try_wall_ns(const struct queue_attempt *view);
/* Call `look` for every entry of the share's worker that matches, in the order of the ids (the
 * oldest first), until the share has enough; it must not change the queue. Other fibers have their
 * turns meanwhile. */
void queue_select_each(struct queue_share *share, const struct queue_selector *selector,
                       void (*look)(struct queue_share *share,
                                    const struct queue_attempt *view)) MAY_YIELD;
