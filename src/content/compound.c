/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/compound.c - Office documents of the old kind: are there macros, is it encrypted?
 *
 * [MS-CFB] 2.6: the directory is an array of 128 bytes each, in sectors of 512 or 4,096. Who
 * follows the chains of sectors can be led around; who looks at all places cannot. The same holds
 * for two records by which Excel and PowerPoint say that there are macros elsewhere.
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

static size_t number(struct str text, size_t at, unsigned bytes)
{
    size_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (size_t)(unsigned char)text.ptr[at + i] << (8 * i);
    return value;
}

/* [MS-XLS] 2.4.28 BoundSheet8 of a sheet of macros: 0x0085, length, place (4), state, kind 1,
 * length of the name, 0 or 1 for bytes or UTF-16, the name. */
static bool is_macro_sheet(struct str record)
{
    enum { KIND_AT = 9, MACROS = 1, NAME_LENGTH_AT = 10, WIDE_AT = 11, FIXED = 8 };
    if (record.len < WIDE_AT + 1 || record.ptr[KIND_AT] != MACROS)
        return false;
    size_t wide = number(record, WIDE_AT, 1);
    size_t name = number(record, NAME_LENGTH_AT, 1);
    return name > 0 && wide <= 1 && number(record, 2, 2) == FIXED + name * (1 + wide);
}

static bool has_macro_sheet(struct str data)
{
    for (struct str rest = data;;) {
        ptrdiff_t at = str_find_str(rest, STR("\x85\0"));
        if (at < 0)
            return false;
        rest = str_from(rest, (size_t)at);
        if (is_macro_sheet(rest))
            return true;
        rest = str_from(rest, 1);
    }
}

/* [MS-PPT] 2.4.10 VbaInfoAtom: its head, a reference (4), are there macros (4), version 2 (4). */
static bool has_slide_macros(struct str data)
{
    for (struct str rest = data;;) {
        ptrdiff_t at = str_find_str(rest, STR("\x02\0\0\x04\x0c\0\0\0"));
        if (at < 0)
            return false;
        rest = str_from(rest, (size_t)at);
        if (rest.len >= 20 && number(rest, 12, 4) == 1 && number(rest, 16, 4) == 2)
            return true;
        rest = str_from(rest, 1);
    }
}

unsigned compound_look(struct str data, enum filetype *out_type)
{
    unsigned flags = 0;
    *out_type = FILETYPE_OLE;
    for (size_t at = 0; at + ENTRY <= data.len; at += ENTRY)
        flags |= look_at_entry(str_slice(data, at, at + ENTRY), out_type);
    if (has_macro_sheet(data) || has_slide_macros(data))
        flags |= UNPACK_MACRO;
    return flags;
}
