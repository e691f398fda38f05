/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook/backoff.h - when a webhook is tried again.
 *
 * Two clocks: a delivery that failed has its own, over days; a receiver that fails whatever comes
 * has one for all of its deliveries, so that a thousand of them do not knock at a closed door. Both
 * are jittered.
 */
#pragma once

#include <stdint.h>

enum { WEBHOOK_DOWN_AFTER = 3 /* failures in a row, and the receiver counts as down */ };

/* After attempt `attempts` (1: the first) of a delivery failed: 5s 5m 30m 2h 5h 10h 14h 20h 24h,
 * from there on 24h; up to a tenth more. */
int64_t webhook_delay_ms(unsigned attempts);
/* Until a receiver is tried again after so many failures in a row: 5s, twice that with each, 15m at
 * most; up to a tenth more. */
int64_t webhook_hold_ms(unsigned failures);
