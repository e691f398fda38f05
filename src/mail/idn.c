/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/idn.h"

#include <idn2.h>

bool mail_idn_to_ascii(struct arena *arena, struct str domain, struct str *out)
{
    char text[1024];
    if (!str_to_c(domain, text, sizeof text))
        return false;
    char *ascii = NULL;
    int status = idn2_to_ascii_8z(text, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
    if (status == IDN2_OK)
        *out = arena_lower(arena, str_c(ascii));
    idn2_free(ascii);
    return status == IDN2_OK;
}

bool mail_idn_is_stable(struct str word)
{
    char text[256];
    char *ascii = NULL, *again = NULL;
    if (!str_to_c(word, text, sizeof text))
        return false;
    bool stable = idn2_to_ascii_8z(text, &ascii, IDN2_NONTRANSITIONAL) == IDN2_OK &&
                  idn2_to_unicode_8z8z(ascii, &again, 0) == IDN2_OK &&
                  str_equal_nocase(str_c(again), word);
    idn2_free(ascii);
    idn2_free(again);
    return stable;
}
