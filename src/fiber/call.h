/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber/call.h - ask another thread's loop a question and wait for the answer.
 *
 * For what must be one for all workers (module state, the owner of a destination). The request is
 * heap memory with its own answer in it; a cancelled waiter abandons it, and the reply frees it.
 */
#pragma once

#include "fiber/loop.h"

struct call {
    struct post post;                   /* private */
    struct loop *from;                  /* private */
    struct fiber *waiter;               /* private; NULL once abandoned */
    bool done;                          /* private */
    void (*handle)(struct call *call);  /* on the target's loop stack; ends in call_reply(),
                                           now or later */
    void (*release)(struct call *call); /* frees an abandoned call; on the asker's thread */
};

/* Ask `target` (the own loop is allowed and costs no wake-up). OK: answered, the call is the
 * caller's again. FAILED as fiber_suspend(): the call is abandoned and frees itself. */
enum result call_ask(struct loop *target, struct call *call, struct error *err) MAY_YIELD;
/* On the target's thread: hand it back. Cannot fail. */
void call_reply(struct call *call);
