/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/compound.c - Office documents of the old kind: are there macros, is it encrypted?
 *
 * [MS-CFB] 2.6: the directory is an array of 128 bytes each, in sectors of 512 or 4,096. Who
 * follows the chains of sectors can be led around; who looks at all places cannot.
 */
#include "content/unpack.h"

enum {
    ENTRY = 128,
    NAME_BYTES = 64,
    LENGTH_AT = 64, /* of the name in bytes, with its NUL */
    TYPE_AT = 66,
    CLASS_AT = 80,
};
enum { STORAGE = 1, STREAM = 2, ROOT = 5 };

static bool has_name(struct str entry, const char *name)
{
    struct str wanted = str_c(name);
    size_t bytes = (unsigned char)entry.ptr[LENGTH_AT] +
                   ((size_t)(unsigned char)entry.ptr[LENGTH_AT + 1] << 8);
    if (bytes != (wanted.len + 1) * 2 || bytes > NAME_BYTES)
        return false;
    for (size_t i = 0; i < wanted.len; i++)
        if (ascii_lower(entry.ptr[2 * i]) != ascii_lower(wanted.ptr[i]) || entry.ptr[2 * i + 1])
            return false;
    return true;
}

static unsigned look_at_entry(struct str entry, enum filetype *type)
{
    static const char installer[] = "\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46";
    switch (entry.ptr[TYPE_AT]) {
    case ROOT:
        if (has_name(entry, "Root Entry") &&
            str_starts(str_from(entry, CLASS_AT), str_of(installer, 16)))
            *type = FILETYPE_MSI;
        return 0;
    case STORAGE:
        return has_name(entry, "VBA") || has_name(entry, "Macros") ||
                       has_name(entry, "_VBA_PROJECT_CUR")
                   ? UNPACK_MACRO
                   : 0;
    case STREAM:
        return has_name(entry, "_VBA_PROJECT")       ? UNPACK_MACRO
               : has_name(entry, "EncryptedPackage") ? UNPACK_ENCRYPTED
                                                     : 0;
    default:
        return 0;
    }
}

unsigned compound_look(struct str data, enum filetype *out_type)
{
    unsigned flags = 0;
    *out_type = FILETYPE_OLE;
    for (size_t at = 0; at + ENTRY <= data.len; at += ENTRY)
        flags |= look_at_entry(str_slice(data, at, at + ENTRY), out_type);
    return flags;
}
