/* SPDX-License-Identifier: Apache-2.0 */
/* mail/seven_bit_fuzz.c - any bytes as a message; what is converted has no byte over 127. */
#include "base/arena.h"
#include "base/check.h"
#include "mail/seven_bit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct body *body = body_memory_new(size);
    struct mail_content in = {.head = STR_EMPTY, .body = body};
    struct mail_content out = {0};
    const char *why = NULL;
    check(body_append(body, str_of((const char *)data, size), NULL) == OK);
    check(body_seal(body, NULL) == OK);
    check(mail_to_seven_bit(arena, &in, &out, &why, NULL) == OK);
    if (!why) {
        uint64_t at = 0;
        struct str piece;
        do {
            check(mail_content_read(&out, at, 4096, NULL, &piece, NULL) == OK);
            for (size_t i = 0; i < piece.len; i++)
                check((unsigned char)piece.ptr[i] < 128);
            at += piece.len;
        } while (piece.len);
        body_unref(out.body);
    }
    body_unref(body);
    arena_free(arena);
    return 0;
}
