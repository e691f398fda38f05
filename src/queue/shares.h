/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/shares.h - what each sender had of a destination, over all workers.
 *
 * Each worker takes turns among the senders of which it has mail (fair.h). One whose mail is on
 * many workers would have a turn on each; so what senders had is added up here, and who had more
 * than the one that had least lets others go first. A sender is known while any worker has mail of
 * his that is ready.
 */
#pragma once

#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct queue_share;
struct queue_shares;

struct queue_shares *queue_shares_new(void);
/* All must have left. */
void queue_shares_free(struct queue_shares *shares);
/* A worker has mail of this sender now. He begins with what the least served of all had. */
struct queue_share *queue_shares_join(struct queue_shares *shares, struct str key);
/* It has none any more. */
void queue_shares_leave(struct queue_shares *shares, struct queue_share *share);
/* He sends a message of so many bytes. */
void queue_shares_charge(struct queue_shares *shares, struct queue_share *share, uint64_t size);
/* Did he have more than the least served of all, by more than a turn? */
bool queue_share_is_ahead(const struct queue_shares *shares, const struct queue_share *share);
