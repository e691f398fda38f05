/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/zip_directory.c - the names that the directory of a zip gives (APPNOTE 4.3.12).
 *
 * Where the directory begins is said at the end of the file, in ways that can be made to differ. As
 * in compound.c, what looks like an entry is one, wherever it stands.
 */
#include "content/unpack.h"

enum { ENTRY = 46, FLAGS_AT = 8, NAME_LENGTH_AT = 28, ENCRYPTED = 1 };

bool zip_directory_next(struct str *rest, struct str *out_name, bool *out_encrypted)
{
    for (;;) {
        ptrdiff_t at = str_find_str(*rest, STR("PK\x01\x02"));
        if (at < 0 || rest->len - (size_t)at < ENTRY)
            return false;
        const unsigned char *entry = (const unsigned char *)rest->ptr + at;
        size_t len = entry[NAME_LENGTH_AT] + ((size_t)entry[NAME_LENGTH_AT + 1] << 8);
        struct str behind = str_from(*rest, (size_t)at + ENTRY);
        *out_encrypted = entry[FLAGS_AT] & ENCRYPTED;
        *out_name = str_slice(behind, 0, len);
        *rest = str_from(*rest, (size_t)at + 4);
        if (len && len <= behind.len)
            return true;
    }
}
