/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/mailboxes.h - counts protected mailboxes: distinct recipients that a lookup confirmed or
 * an inbound transport delivered to, lower case and without +detail, over a sliding 30 days.
 *
 * A meter, never a brake: over the entitled number there is an event, and mail goes on. Kept in
 * memory, and as facts of the state, which outlive a restart. From any thread.
 */
#pragma once

#include "base/str.h"

struct mailboxes;
struct state;

struct mailboxes *mailboxes_new(void);
void mailboxes_free(struct mailboxes *mailboxes); /* NULL is allowed */
/* 0: no number was given. */
void mailboxes_entitle(struct mailboxes *mailboxes, int64_t count);
/* `state` keeps it; NULL: nobody does. */
void mailboxes_note(struct mailboxes *mailboxes, struct state *state, struct str address);
/* A fact from before the start, whosever it is (state_take_fact). */
void mailboxes_take(struct str key, int64_t until_ms, void *mailboxes);
uint64_t mailboxes_count(struct mailboxes *mailboxes);
