/* SPDX-License-Identifier: Apache-2.0 */
/* content/suite_text_test.h - how files that tests/suites/ converts write bytes: "\xHH". */
#pragma once

#include "base/arena.h"

static inline int suite_hex_value(char c)
{
    return ascii_is_digit(c) ? c - '0' : ascii_lower(c) - 'a' + 10;
}

static inline struct str suite_unescape(struct arena *arena, struct str text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '\\' && i + 3 < text.len) {
            out[len++] =
                (char)(suite_hex_value(text.ptr[i + 2]) << 4 | suite_hex_value(text.ptr[i + 3]));
            i += 3;
        } else {
            out[len++] = text.ptr[i];
        }
    }
    return str_of(out, len);
}
