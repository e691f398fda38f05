/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/login.h"

#include "mail/idn.h"

static bool is_ascii(char c)
{
    return (unsigned char)c < 0x80;
}

static bool is_of_word(char c)
{
    return !is_ascii(c) || ascii_is_alpha(c) || ascii_is_digit(c);
}

static bool has_plain_blanks(struct str login)
{
    bool after_blank = true;
    for (size_t i = 0; i < login.len; i++) {
        unsigned char c = (unsigned char)login.ptr[i];
        if (c < 0x20 || c == 0x7F || (c == ' ' && after_blank))
            return false;
        after_blank = c == ' ';
    }
    return !after_blank;
}

bool mail_login_is_plain(struct str login)
{
    if (!has_plain_blanks(login))
        return false;
    for (size_t i = 0; i < login.len;) {
        size_t begin = i;
        bool ascii = true;
        while (i < login.len && is_of_word(login.ptr[i]))
            ascii = is_ascii(login.ptr[i++]) && ascii;
        if (!ascii && !mail_idn_is_stable(str_slice(login, begin, i)))
            return false;
        i += i == begin;
    }
    return true;
}
