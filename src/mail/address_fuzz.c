/* SPDX-License-Identifier: Apache-2.0 */
/* mail/address_fuzz.c - any bytes as an address; what parses must parse again to the same. */
#include "base/check.h"
#include "mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct str text = str_of((const char *)data, size);
    struct mail_address address;
    struct mail_address again;
    if (mail_address_parse(arena, text, true, true, &address) == MAIL_ADDRESS_OK) {
        struct str written = mail_address_text(arena, &address);
        if (written.len <= 256) { /* A-labels may be longer than what came */
            check(mail_address_parse(arena, written, true, true, &again) == MAIL_ADDRESS_OK);
            check(str_equal(again.local, address.local));
            check(str_equal(again.domain, address.domain));
        }
    }
    arena_free(arena);
    return 0;
}
