/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/verdict.h"

#include <time.h>

enum { DAY_MS = 24 * 3600 * 1000 };

static int64_t within_a_day(int64_t ms)
{
    return ms < 0 ? 0 : ms < DAY_MS ? ms : DAY_MS;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT": the form that is sent (RFC 9110 5.6.7). Names are not those of
 * a locale. */
static bool parse_date(struct str text, int64_t *out_ms)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct str parts[6];
    uint64_t day, year, hour, minute, second;
    if (text.len != 29 || !str_ends(text, STR(" GMT")) || text.ptr[3] != ',' ||
        text.ptr[4] != ' ' || text.ptr[7] != ' ' || text.ptr[11] != ' ' || text.ptr[16] != ' ' ||
        text.ptr[19] != ':' || text.ptr[22] != ':')
        return false;
    static const size_t places[6][2] = {{5, 7}, {8, 11}, {12, 16}, {17, 19}, {20, 22}, {23, 25}};
    for (size_t i = 0; i < 6; i++)
        parts[i] = str_slice(text, places[i][0], places[i][1]);
    ptrdiff_t month = str_find_str(str_c(months), parts[1]);
    if (month < 0 || month % 3 || !str_to_uint(parts[0], 31, &day) || day < 1 ||
        !str_to_uint(parts[2], 9999, &year) || year < 1970 || !str_to_uint(parts[3], 23, &hour) ||
        !str_to_uint(parts[4], 59, &minute) || !str_to_uint(parts[5], 60, &second))
        return false;
    struct tm moment = {.tm_year = (int)year - 1900,
                        .tm_mon = (int)(month / 3),
                        .tm_mday = (int)day,
                        .tm_hour = (int)hour,
                        .tm_min = (int)minute,
                        .tm_sec = (int)second};
    *out_ms = (int64_t)timegm(&moment) * 1000;
    return true;
}

static int64_t read_retry_after(struct str text, int64_t now_wall_ms)
{
    uint64_t seconds;
    int64_t at_ms;
    if (str_to_uint(text, UINT32_MAX, &seconds))
        return within_a_day((int64_t)seconds * 1000);
    if (parse_date(text, &at_ms))
        return within_a_day(at_ms - now_wall_ms);
    return 0;
}

struct webhook_verdict webhook_judge(unsigned status, struct str retry_after, int64_t now_wall_ms)
{
    if (status >= 200 && status < 300)
        return (struct webhook_verdict){.outcome = WEBHOOK_DELIVERED};
    if (status == 410)
        return (struct webhook_verdict){.outcome = WEBHOOK_GONE};
    struct webhook_verdict verdict = {.outcome = WEBHOOK_FAILED};
    verdict.retry_after_ms = read_retry_after(str_trim(retry_after), now_wall_ms);
    verdict.is_busy = status == 0 || status == 429 || status == 502 || status == 503 ||
                      status == 504 || verdict.retry_after_ms > 0;
    return verdict;
}
