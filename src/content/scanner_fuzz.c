/* SPDX-License-Identifier: Apache-2.0 */
/* What scanners answer: the first byte says which of them it is. */
#include "content/clamd.h"
#include "content/spam.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    struct clamd_answer virus;
    struct spam_answer spam;
    if (size == 0)
        return 0;
    struct arena *arena = arena_new(0);
    struct str text = str_of((const char *)data + 1, size - 1);
    if (data[0] == 'c')
        (void)!clamd_read_answer(text, &virus, &err);
    else if (data[0] == 'r')
        (void)!rspamd_read_answer(text, arena, &spam, &err);
    else
        (void)!spamd_read_answer(text, arena, &spam, &err);
    arena_free(arena);
    return 0;
}
