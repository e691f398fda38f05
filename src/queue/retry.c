/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/retry.c - the schedule of retries.
 */
#include "queue/retry.h"

#include "base/clock.h"

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t queue_retry_due(const struct transport *transport, unsigned attempts, int64_t start_ns,
                        int64_t end_ns, uint32_t random)
{
    int64_t delay_ns = transport_retry_delay(transport, attempts);
    if (delay_ns < 0)
        return -1;
    if (delay_ns >= 60 * NS_PER_S)
        delay_ns += (int64_t)((double)(delay_ns / 20) * ((double)random / (double)UINT32_MAX));
    return later(start_ns + delay_ns, end_ns);
}

int64_t queue_retry_content_due(unsigned attempts, int64_t start_ns, int64_t end_ns)
{
    static const int64_t minutes[] = {1, 5, 15};
    size_t k = attempts == 0 ? 0 : attempts - 1u;
    if (k > 2)
        k = 2;
    return later(start_ns + minutes[k] * 60 * NS_PER_S, end_ns);
}

void queue_retry_pass(const struct transport *transport, uint32_t *attempts, int64_t *due_ns,
                      int64_t until_ns)
{
    int64_t delay_ns;
    while ((delay_ns = transport_retry_delay(transport, *attempts + 1)) >= 0 &&
           *due_ns + delay_ns <= until_ns) {
        *due_ns += delay_ns;
        ++*attempts;
    }
}

int64_t queue_retry_give_up(const struct transport *transport, unsigned attempts,
                            int64_t next_due_ns, int64_t expiry_ns)
{
    int64_t at_ns = next_due_ns;
    for (unsigned k = attempts + 1; at_ns < expiry_ns; k++) {
        int64_t delay_ns = transport_retry_delay(transport, k);
        if (delay_ns < 0)
            break;
        at_ns += delay_ns;
    }
    return at_ns < expiry_ns ? at_ns : expiry_ns;
}
