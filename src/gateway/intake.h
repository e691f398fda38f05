/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/intake.h - the body of a message while it arrives: in memory while it is small, in the
 * spool's bulk segments beyond that. A body that is more than small needs a share of the memory for
 * messages; while there is none its sender waits, for its socket is not read.
 */
#pragma once

#include "fiber/cond.h"
#include "mail/body.h"

struct spool;

/* A worker's part of `memory.messages`. Used on its thread only. */
struct intake_budget {
    size_t shares; /* free */
    struct cond freed;
};

void intake_budget_init(struct intake_budget *budget, uint64_t bytes);

/* A body to append to, which may wait; `budget` and `spool` outlive it. It is never sealed by its
 * owner: see intake_finish(). */
struct body *intake_new(struct spool *spool, struct intake_budget *budget);
/* Seal what was written and return a new reference to the plain body behind it. */
enum result intake_finish(struct body *intake, struct body **out_body, struct error *err) MAY_YIELD;
