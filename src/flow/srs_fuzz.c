/* SPDX-License-Identifier: Apache-2.0 */
/* flow/srs_fuzz.c - any bytes as an address: there and back, and back alone. */
#include "flow/srs.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { DAY = 20000, VALID = 21, LOCAL_MAX = 64 };
    static const struct str secret = {"a secret of ours", 16};
    const struct srs_secrets secrets = {&secret, 1};
    struct str text = str_of((const char *)data, size);
    struct str made = STR_EMPTY, back = STR_EMPTY;
    struct arena *arena = arena_new(0);
    if (srs_forward(&secrets, text, STR("f.example"), DAY, arena, &made) == SRS_DONE) {
        ptrdiff_t at = str_find_last(made, '@');
        check(at > 0 && at <= LOCAL_MAX);
        enum srs_outcome outcome = srs_reverse(&secrets, made, DAY, VALID, arena, &back);
        /* what the sender's address itself had of the scheme may be none of ours */
        check(outcome == SRS_DONE || outcome == SRS_BAD || outcome == SRS_NONE);
    }
    enum srs_outcome alone = srs_reverse(&secrets, text, DAY, VALID, arena, &back);
    check(alone != SRS_DONE || back.len <= size);
    arena_free(arena);
    return 0;
}
