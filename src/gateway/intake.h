/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/intake.h - the body of a message while it arrives: in memory while it is small and memory
 * is not short, in the spool's bulk segments beyond that.
 */
#pragma once

#include "mail/body.h"

struct spool;

/* Bytes of bodies held in memory by the whole process, against `memory.messages`. */
struct intake_budget {
    atomic_uint_least64_t used;
    uint64_t max;
};

/* A body to append to; `budget` and `spool` outlive it. It is never sealed by its owner: see
 * intake_finish(). */
struct body *intake_new(struct spool *spool, struct intake_budget *budget);
/* Seal what was written and return a new reference to the plain body behind it. */
enum result intake_finish(struct body *intake, struct body **out_body, struct error *err) MAY_YIELD;
