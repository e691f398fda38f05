/* SPDX-License-Identifier: Apache-2.0 */
/* content/author_fuzz.c - any text as the value of From. */
#include "content/author.h"

#include "base/check.h"
#include "mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct author author = {.kind = AUTHOR_CLEAR, .address = STR_EMPTY};
    author_read_value(str_of((const char *)data, size), arena, &author);
    check(author.domain_count <= AUTHOR_DOMAINS_MAX);
    check((author.problem != NULL) == (author.kind == AUTHOR_AMBIGUOUS));
    if (author.kind == AUTHOR_CLEAR && author.domain_count)
        check(author.domain_count == 1 && str_ends(author.address, author.domains[0]));
    for (size_t i = 0; i < author.domain_count; i++) {
        struct str again;
        check(mail_domain_normalize(arena, author.domains[i], &again));
        check(str_equal(again, author.domains[i]));
        for (size_t k = 0; k < i; k++)
            check(!str_equal(author.domains[i], author.domains[k]));
    }
    arena_free(arena);
    return 0;
}
