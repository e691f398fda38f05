/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/origin_fuzz.c - any bytes as the facts of a session that were kept; what can be read can
 * be written and read again. */
#include "gateway/origin.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct flow_facts facts = {0}, again = {0};
    if (origin_decode(arena, str_of((const char *)data, size), &facts)) {
        struct str bytes = origin_encode(arena, &facts);
        check(origin_decode(arena, bytes, &again));
        /* what is written has ceilings of its own */
        check(str_equal(str_slice(facts.sender, 0, 4096), again.sender) &&
              facts.trusted == again.trusted && facts.own_address_count == again.own_address_count);
    }
    arena_free(arena);
    return 0;
}
