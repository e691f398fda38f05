/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stdatomic.h>
#include <string.h>
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

int64_t clock_steady_wall_ns(void)
{
    static atomic_int_least64_t between; /* wall - monotonic; of the process, as the clocks are */
    if (atomic_load_explicit(&fake_wall, memory_order_relaxed) >= 0)
        return clock_wall_ns();
    int64_t known = atomic_load_explicit(&between, memory_order_relaxed);
    if (!known) {
        int64_t now = read_clock(CLOCK_REALTIME) - read_clock(CLOCK_MONOTONIC);
        if (atomic_compare_exchange_strong(&between, &known, now))
            known = now;
    }
    return read_clock(CLOCK_MONOTONIC) + known;
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

/* `width` decimal digits; the number is cut to them. Every event is stamped: no printf here. */
static char *put_digits(char *at, uint64_t number, size_t width)
{
    for (size_t i = width; i-- > 0; number /= 10)
        at[i] = (char)('0' + number % 10);
    return at + width;
}

struct str clock_format_rfc3339(int64_t wall_ns, char out[TIME_RFC3339_SIZE])
{
    /* events come by thousands a second: all but their milliseconds is that of the last one */
    static _Thread_local struct {
        int64_t second;
        char text[TIME_RFC3339_SIZE];
    } last = {.second = INT64_MIN};
    enum { MS_AT = 20, LENGTH = 24 };
    if (last.second != wall_ns / NS_PER_S) {
        struct tm t = utc(wall_ns);
        const struct {
            int number;
            size_t width;
            char behind;
        } parts[] = {{t.tm_year + 1900, 4, '-'},
                     {t.tm_mon + 1, 2, '-'},
                     {t.tm_mday, 2, 'T'},
                     {t.tm_hour, 2, ':'},
                     {t.tm_min, 2, ':'},
                     {t.tm_sec, 2, '.'},
                     {0, 3, 'Z'}};
        char *at = last.text;
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            at = put_digits(at, (unsigned)parts[i].number, parts[i].width);
            *at++ = parts[i].behind;
        }
        last.second = wall_ns / NS_PER_S;
    }
    memcpy(out, last.text, LENGTH + 1);
    put_digits(out + MS_AT, (unsigned)(wall_ns / NS_PER_MS % 1000), 3);
    return (struct str){out, LENGTH};
}

struct str clock_format_rfc5322(int64_t wall_ns, char out[TIME_RFC5322_SIZE])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm t = utc(wall_ns);
    const struct {
        const char *name; /* NULL: the number */
        int number;
        size_t width;
        const char *behind;
    } parts[] = {{days[t.tm_wday], 0, 3, ", "}, {NULL, t.tm_mday, 2, " "},
                 {months[t.tm_mon], 0, 3, " "}, {NULL, t.tm_year + 1900, 4, " "},
                 {NULL, t.tm_hour, 2, ":"},     {NULL, t.tm_min, 2, ":"},
                 {NULL, t.tm_sec, 2, " "}};
    char *at = out;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].name)
            at = mempcpy(at, parts[i].name, parts[i].width);
        else
            at = put_digits(at, (unsigned)parts[i].number, parts[i].width);
        at = stpcpy(at, parts[i].behind);
    }
    at = stpcpy(at, "+0000");
    return (struct str){out, (size_t)(at - out)};
}
