/* SPDX-License-Identifier: Apache-2.0 */
/* content/encoded_word_fuzz.c - subjects. */
#include "content/encoded_word.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 256 };
    struct arena *arena = arena_new(0);
    struct str text = encoded_word_text(arena, str_of((const char *)data, size), MOST);
    check(text.len <= MOST);
    for (size_t i = 0; i < text.len; i++)
        check((unsigned char)text.ptr[i] >= 32 && text.ptr[i] != 127);
    arena_free(arena);
    return 0;
}
