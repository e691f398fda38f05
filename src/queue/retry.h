/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/retry.h - when the next attempt is due. Pure; all times of one clock.
 */
#pragma once

#include "queue/transport.h"

/*
 * `attempts` have been made; the last ran from `start_ns` to `end_ns`. The next is due after the
 * delay counted from the start, or when the attempt ended if that is later; never earlier. Delays
 * of a minute or more get up to 5 % on top, by `random` (evenly over 32 bits). -1: that was the
 * last one.
 */
int64_t queue_retry_due(const struct transport *transport, unsigned attempts, int64_t start_ns,
                        int64_t end_ns, uint32_t random);
/* Nothing could be tried from `*due_ns` on, when the next was due, till `until_ns`: those that fell
 * due are counted, all but the last, which is what is due now. */
void queue_retry_pass(const struct transport *transport, uint32_t *attempts, int64_t *due_ns,
                      int64_t until_ns);
/* When the last attempt is due, if all fail: `attempts` were made and the next is due at
 * `next_due_ns`; nothing is tried after `expiry_ns`. */
int64_t queue_retry_give_up(const struct transport *transport, unsigned attempts,
                            int64_t next_due_ns, int64_t expiry_ns);
/* Of a content run that deferred: 1m, 5m, then every 15m. */
enum { QUEUE_CONTENT_DELAY_MAX_S = 15 * 60 };
int64_t queue_retry_content_due(unsigned attempts, int64_t start_ns, int64_t end_ns);

enum { QUEUE_CONTENT_HOLD_AFTER_S = 24 * 3600 };
