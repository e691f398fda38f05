/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/cond.h - fibers of one thread wait for a condition to become true.
 */
#pragma once

#include "base/error.h"
#include "base/list.h"
#include "fiber/fiber.h"

struct cond {
    struct list waiters;
};

void cond_init(struct cond *cond);
/* Wait until signalled; wake-ups may be spurious, so loop on what you wait for. FAILED as
 * fiber_suspend(). */
enum result cond_wait(struct cond *cond, struct error *err) MAY_YIELD;
/* Wake the longest waiter; nothing if there is none. */
void cond_signal(struct cond *cond);
void cond_broadcast(struct cond *cond);
bool cond_has_waiters(const struct cond *cond);
