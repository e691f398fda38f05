/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: PROXY headers of both versions. */
#include "net/proxy.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_address client = {0}, local = {0};
    struct str input = {(const char *)data, size};
    size_t used = 0;
    enum proxy_result result = proxy_parse(input, &used, &client, &local);
    if (result == PROXY_MORE)
        check(size < 2048);
    if (result == PROXY_CLIENT)
        check(client.ip.family && local.ip.family);
    if (result == PROXY_CLIENT || result == PROXY_UNKNOWN) {
        check(used > 0 && used <= size);
        /* what follows the header must not matter, and less than it is not enough */
        size_t again = 0;
        check(proxy_parse(str_slice(input, 0, used), &again, &client, &local) == result);
        check(again == used);
        check(proxy_parse(str_slice(input, 0, used - 1), &again, &client, &local) == PROXY_MORE);
    }
    return 0;
}
