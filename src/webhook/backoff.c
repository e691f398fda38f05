/* SPDX-License-Identifier: Apache-2.0 */
#include "webhook/backoff.h"

#include "base/random.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, HOLD_MOST = 15 * MINUTE };

static int64_t jittered(int64_t ms)
{
    return ms + random_below((uint32_t)(ms / 10 + 1));
}

int64_t webhook_delay_ms(unsigned attempts)
{
    static const int64_t delays[] = {5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR,
                                     10 * HOUR,  14 * HOUR,  20 * HOUR,   24 * HOUR};
    enum { COUNT = sizeof delays / sizeof *delays };
    return jittered(delays[attempts < 1 ? 0 : attempts > COUNT ? COUNT - 1 : attempts - 1]);
}

int64_t webhook_hold_ms(unsigned failures)
{
    int64_t ms = 5 * SECOND;
    for (unsigned i = 1; i < failures && ms < HOLD_MOST; i++)
        ms *= 2;
    return jittered(ms < HOLD_MOST ? ms : HOLD_MOST);
}
