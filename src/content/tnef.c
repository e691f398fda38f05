/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/tnef.c - winmail.dat, in which Outlook wraps attachments ([MS-OXTNEF]).
 *
 * A stream of attributes, each a level, an id, a length and its bytes. Of an attachment three are
 * looked at: the short name, the data, and properties in which a long name may stand, found by its
 * tag wherever that is.
 */
#include "content/unpack.h"

enum {
    SIGNATURE = 6, /* with the key */
    HEAD = 9,
    CHECKSUM = 2,
    IN_ATTACHMENT = 2,
    TITLE = 0x8010,
    DATA = 0x800f,
    PROPERTIES = 0x9005,
    BEGIN = 0x9002, /* of the next attachment */
};

static size_t number(struct str text, size_t at, unsigned bytes)
{
    size_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (size_t)(unsigned char)text.ptr[at + i] << (8 * i);
    return value;
}

/* PR_ATTACH_LONG_FILENAME among the properties: tag, how many (1), length, bytes. UTF-16 is read
 * as far as it is ASCII: the rest does not make an extension. */
static struct str long_name(struct str properties, char space[UNPACK_NAME_MAX])
{
    static const char tags[2][4] = {{'\x1e', 0, '\x07', '\x37'}, {'\x1f', 0, '\x07', '\x37'}};
    for (unsigned wide = 0; wide < 2; wide++) {
        ptrdiff_t at = str_find_str(properties, str_of(tags[wide], 4));
        if (at < 0 || properties.len - (size_t)at < 12)
            continue;
        size_t len = number(properties, (size_t)at + 8, 4);
        struct str text = str_slice(str_from(properties, (size_t)at + 12), 0, len);
        size_t used = 0;
        for (size_t i = 0; i < text.len && used < UNPACK_NAME_MAX; i += 1 + wide) {
            bool foreign = wide && i + 1 < text.len && text.ptr[i + 1];
            if (!foreign && !text.ptr[i])
                break;
            space[used++] = foreign ? '?' : text.ptr[i];
        }
        return str_of(space, used);
    }
    return STR_EMPTY;
}

static struct str without_nul(struct str text)
{
    ptrdiff_t nul = str_find(text, '\0');
    return nul < 0 ? text : str_slice(text, 0, (size_t)nul);
}

bool tnef_begin(struct str data, struct str *out_rest)
{
    if (!str_starts(data, STR("\x78\x9f\x3e\x22")) || data.len < SIGNATURE)
        return false;
    *out_rest = str_from(data, SIGNATURE);
    return true;
}

bool tnef_next(struct str *rest, struct tnef_file *out, bool *out_damaged)
{
    *out = (struct tnef_file){.title = STR_EMPTY, .name = STR_EMPTY, .data = STR_EMPTY};
    *out_damaged = false;
    bool any = false;
    while (rest->len) {
        size_t id = rest->len < HEAD ? 0 : number(*rest, 1, 2);
        size_t len = rest->len < HEAD ? 0 : number(*rest, 5, 4);
        if (rest->len < HEAD || len > rest->len - HEAD) {
            *out_damaged = true;
            *rest = STR_EMPTY;
            return any;
        }
        bool inside = rest->ptr[0] == IN_ATTACHMENT;
        if (inside && id == BEGIN && any)
            return true; /* it is read again, as the begin of the next */
        struct str value = str_slice(*rest, HEAD, HEAD + len);
        any |= inside && (id == TITLE || id == DATA || id == PROPERTIES);
        if (inside && id == TITLE)
            out->title = without_nul(value);
        else if (inside && id == DATA)
            out->data = value;
        else if (inside && id == PROPERTIES)
            out->name = long_name(value, out->space);
        *rest = str_from(*rest, HEAD + len + CHECKSUM);
    }
    return any;
}
