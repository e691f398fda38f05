/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/cause.h - what many remote answers have in common.
 *
 * An answer becomes a pattern: its codes, and its words with everything that differs from message
 * to message (addresses, hosts, numbers, ids, quoted parts) replaced by placeholders. The name of a
 * cause is made of its pattern, so it stays the same over restarts and on every host.
 */
#pragma once

#include "base/arena.h"
#include "mail/reply.h"

enum { QUEUE_CAUSE_ID = 8 };

struct queue_cause {
    char id[QUEUE_CAUSE_ID]; /* "C7KQ2M9" */
    struct str pattern;      /* "450 4.2.1 <address>: mailbox busy, try in <n> s" */
};
void queue_cause_of(struct arena *arena, const struct mail_reply *reply, struct queue_cause *out);
