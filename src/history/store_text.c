/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store_text.h"

#include <string.h>

enum { TEXT_MAX = 255 }; /* a skip is a byte */

static char upper(char lower)
{
    return lower >= 'a' && lower <= 'z' ? (char)(lower - 'a' + 'A') : lower;
}

void store_text_init(struct store_text *out, struct str text)
{
    if (text.len > TEXT_MAX)
        text = str_from(text, text.len - TEXT_MAX);
    char last = ascii_lower(text.ptr[text.len - 1]);
    out->text = text;
    out->last[0] = last;
    out->last[1] = upper(last);
    memset(out->skips, (int)text.len, sizeof out->skips);
    for (size_t i = 0; i + 1 < text.len; i++) {
        unsigned char skip = (unsigned char)(text.len - 1 - i);
        char lower = ascii_lower(text.ptr[i]);
        out->skips[(unsigned char)lower] = skip;
        out->skips[(unsigned char)upper(lower)] = skip;
    }
}

/* Horspool's way: most bytes are never looked at. */
bool store_text_is_in(const struct store_text *text, struct str bytes)
{
    size_t len = text->text.len;
    for (size_t at = len - 1; at < bytes.len;) {
        char byte = bytes.ptr[at];
        if ((byte == text->last[0] || byte == text->last[1]) &&
            str_equal_nocase(text->text, str_slice(bytes, at + 1 - len, at + 1)))
            return true;
        at += text->skips[(unsigned char)byte];
    }
    return false;
}
