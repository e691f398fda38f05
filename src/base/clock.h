/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/clock.h - the two clocks.
 *
 * Deadlines and durations use the monotonic clock; times that are shown or stored use the wall
 * clock. Both are nanoseconds in int64_t. Tests may replace them.
 */
#pragma once

#include "base/str.h"

#define NS_PER_US  INT64_C(1000)
#define NS_PER_MS  INT64_C(1000000)
#define NS_PER_S   INT64_C(1000000000)
#define TIME_NEVER INT64_MAX

/* Nanoseconds since an arbitrary start; never goes back. */
int64_t clock_monotonic_ns(void);
/* Nanoseconds since 1970-01-01 UTC; may jump. */
int64_t clock_wall_ns(void);
/* The wall clock as it was when the process first asked, plus the monotonic time since then: for
 * ages and due times that are stored. A wall clock that is set meanwhile changes nothing. */
int64_t clock_steady_wall_ns(void);

/* now + duration, or TIME_NEVER if that overflows or `duration_ns` is TIME_NEVER. */
int64_t clock_deadline(int64_t duration_ns);

enum { TIME_RFC3339_SIZE = 32, TIME_RFC5322_SIZE = 40 };
/* "2026-11-24T10:21:00.412Z" */
struct str clock_format_rfc3339(int64_t wall_ns, char out[TIME_RFC3339_SIZE]);
/* "Tue, 24 Nov 2026 10:21:00 +0000", for Date and Received (RFC 5322 3.3). */
struct str clock_format_rfc5322(int64_t wall_ns, char out[TIME_RFC5322_SIZE]);

/* For tests, whole process: both clocks stand still at these values until set again; negative
 * values give the real clocks back. */
void clock_set_fake(int64_t monotonic_ns, int64_t wall_ns);
