/* SPDX-License-Identifier: Apache-2.0 */
/* mail/header_fuzz.c - any bytes as a header section; fields must cover it without gaps. */
#include "base/check.h"
#include "mail/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct str text = str_of((const char *)data, size);
    size_t length = mail_header_length(text);
    check(length <= size);
    struct str rest = length ? str_slice(text, 0, length) : text;
    struct mail_field field;
    const char *expected = rest.ptr;
    while (mail_header_next(&rest, &field)) {
        check(field.raw.ptr == expected && field.raw.len > 0);
        expected = field.raw.ptr + field.raw.len;
        check(mail_field_text(arena, &field).len <= field.raw.len);
    }
    arena_free(arena);
    return 0;
}
