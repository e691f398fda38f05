/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/label.h"

#include "content/mime.h"
#include "mail/header.h"

enum { TEXT_MAX = 256 };

static struct str text_of(struct arena *arena, struct str header, struct str name)
{
    struct mail_field field;
    if (!mail_header_find(header, name, &field))
        return STR_EMPTY;
    struct str written = mail_field_text(arena, &field);
    struct str text = mime_decode_words(
        str_slice(written, 0, written.len < 8 * TEXT_MAX ? written.len : 8 * TEXT_MAX), arena);
    size_t most = text.len < TEXT_MAX ? text.len : TEXT_MAX;
    while (most < text.len && most && ((unsigned char)text.ptr[most] & 0xc0) == 0x80)
        most--; /* not inside a character */
    char *copy = arena_alloc(arena, most + 1);
    for (size_t i = 0; i < most; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        copy[i] = c < 32 || c == 127 ? ' ' : text.ptr[i];
    }
    return str_trim(str_of(copy, most));
}

struct str label_subject(struct arena *arena, struct str header)
{
    return text_of(arena, header, STR("Subject"));
}

struct str label_author(struct arena *arena, struct str header)
{
    return text_of(arena, header, STR("From"));
}

struct str label_text(struct arena *arena, struct str header)
{
    struct str subject = label_subject(arena, header), author = label_author(arena, header);
    return arena_printf(arena, "%.*s\n%.*s", STR_ARG(subject), STR_ARG(author));
}
