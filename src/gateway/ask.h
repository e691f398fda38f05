/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/ask.h - a question from a thread that is no worker, answered by a fiber of a worker.
 * Inside gateway/ only.
 */
#pragma once

#include "gateway/worker.h"

/* Run `run(arg)` in a fiber on the worker and wait, blocking, until it has returned: `arg` may be
 * on the caller's stack. FAILED, without having run it, when the worker ends or is full. */
enum result ask_worker(struct worker *worker, void (*run)(void *arg), void *arg, struct error *err);
