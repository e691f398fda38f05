/* SPDX-License-Identifier: Apache-2.0 */
/* content/dkim_key_fuzz.c - key records from DNS, for both kinds of signature. */
#include "content/dkim_key.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char hash[SHA256_SIZE];
    struct str record = str_of((const char *)data, size);
    for (int kind = SIGN_RSA; kind <= SIGN_ED25519; kind++) {
        struct arena *arena = arena_new(0);
        struct dkim_key key;
        const char *detail = NULL;
        enum dkim_result result =
            dkim_key_parse(record, (enum sign_kind)kind, arena, &key, &detail);
        check((result == DKIM_PASS) == (key.key != NULL));
        if (result == DKIM_PASS) {
            check(sign_key_kind(key.key) == (enum sign_kind)kind);
            check(key.bits == sign_key_bits(key.key) && key.bits <= SIGN_RSA_BITS_MAX);
            (void)sign_check(key.key, hash, record);
        } else {
            check(detail && *detail);
        }
        arena_free(arena);
    }
    return 0;
}
