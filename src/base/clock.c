/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static atomic_int_least64_t fake_monotonic = -1;
static atomic_int_least64_t fake_wall = -1;

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
    int64_t fake = atomic_load_explicit(&fake_monotonic, memory_order_relaxed);
    return fake >= 0 ? fake : read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    int64_t fake = atomic_load_explicit(&fake_wall, memory_order_relaxed);
    return fake >= 0 ? fake : read_clock(CLOCK_REALTIME);
}

int64_t clock_deadline(int64_t duration_ns)
{
    int64_t deadline;
    if (duration_ns == TIME_NEVER ||
        __builtin_add_overflow(clock_monotonic_ns(), duration_ns, &deadline))
        return TIME_NEVER;
    return deadline;
}

void clock_set_fake(int64_t monotonic_ns, int64_t wall_ns)
{
    atomic_store(&fake_monotonic, monotonic_ns);
    atomic_store(&fake_wall, wall_ns);
}

static struct tm utc(int64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    return parts;
}

struct str clock_format_rfc3339(int64_t wall_ns, char out[TIME_RFC3339_SIZE])
{
    struct tm t = utc(wall_ns);
    int len =
        snprintf(out, TIME_RFC3339_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
                 (unsigned)(t.tm_year + 1900) % 10000, (unsigned)(t.tm_mon + 1) % 100,
                 (unsigned)t.tm_mday % 100, (unsigned)t.tm_hour % 100, (unsigned)t.tm_min % 100,
                 (unsigned)t.tm_sec % 100, (unsigned)(wall_ns / NS_PER_MS % 1000));
    return (struct str){out, (size_t)len};
}

struct str clock_format_rfc5322(int64_t wall_ns, char out[TIME_RFC5322_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm t = utc(wall_ns);
    int len =
        snprintf(out, TIME_RFC5322_SIZE, "%s, %02u %s %04u %02u:%02u:%02u +0000", days[t.tm_wday],
                 (unsigned)t.tm_mday % 100, months[t.tm_mon], (unsigned)(t.tm_year + 1900) % 10000,
                 (unsigned)t.tm_hour % 100, (unsigned)t.tm_min % 100, (unsigned)t.tm_sec % 100);
    return (struct str){out, (size_t)len};
}
