/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/mailboxes.h - counts protected mailboxes: distinct recipients that a lookup confirmed or
 * an inbound transport delivered to, lower case and without +detail, over a sliding 30 days.
 *
 * A meter, never a brake: over the entitled number there is an event, and mail goes on. Kept in
 * memory, from any thread.
 */
#pragma once

#include "base/str.h"

struct mailboxes;

struct mailboxes *mailboxes_new(void);
void mailboxes_free(struct mailboxes *mailboxes); /* NULL is allowed */
/* 0: no number was given. */
void mailboxes_entitle(struct mailboxes *mailboxes, int64_t count);
void mailboxes_note(struct mailboxes *mailboxes, struct str address);
uint64_t mailboxes_count(struct mailboxes *mailboxes);
