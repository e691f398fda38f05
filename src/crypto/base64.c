/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/base64.h"

#include <openssl/evp.h>

static bool is_base64_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '+' || c == '/';
}

/* EVP_DecodeBlock forgives blanks and line ends at the edges and stray padding: be strict first. */
static bool is_strict(struct str text, size_t *out_padding)
{
    size_t padding = 0;
    if (text.len % 4 != 0)
        return false;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < text.len - padding; i++) {
        if (!is_base64_char(text.ptr[i]))
            return false;
    }
    *out_padding = padding;
    return true;
}

bool base64_decode(struct str text, struct buf *out)
{
    size_t padding;
    if (!is_strict(text, &padding) || text.len > 1 << 20)
        return false;
    char *at = buf_reserve(out, text.len / 4 * 3);
    if (!at)
        return false;
    if (text.len == 0)
        return true;
    int len = EVP_DecodeBlock((unsigned char *)at, (const unsigned char *)text.ptr, (int)text.len);
    if (len < 0)
        return false;
    out->len += (size_t)len - padding;
    return true;
}

void base64_encode(struct str data, struct buf *out)
{
    /* EVP_EncodeBlock adds a NUL */
    char *at = buf_reserve(out, (data.len + 2) / 3 * 4 + 1);
    if (at && data.len)
        out->len += (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)data.ptr,
                                            (int)data.len);
}
