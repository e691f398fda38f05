/* SPDX-License-Identifier: Apache-2.0 */
#include "content/filename.h"

#include "base/buf.h"
#include "content/filetype.h"
#include "content/mime.h"
#include "mail/header.h"

#include <string.h>

enum { BLANKS_MANY = 8, PRINTED_MAX = 120 };

static const char dangerous[] = FILENAME_DANGEROUS;

/* ---- the names of a part ---- */

static void add(struct filename_list *list, struct str name)
{
    for (size_t i = 0; i < list->count; i++)
        if (str_equal(list->items[i], name))
            return;
    if (!name.len)
        return;
    if (list->count < FILENAME_MAX_NAMES)
        list->items[list->count++] = name;
    else
        list->cut = true;
}

static void add_of_field(struct filename_list *list, struct str value, struct arena *arena)
{
    static const char *const names[] = {"filename", "name"};
    for (size_t i = 0; i < 2; i++) {
        struct str found[FILENAME_MAX_NAMES + 1];
        bool cut = false;
        size_t count = mime_parameters(value, names[i], arena, found, FILENAME_MAX_NAMES + 1, &cut);
        list->cut |= cut;
        for (size_t k = 0; k < count; k++)
            add(list, mime_decode_words(found[k], arena));
    }
}

void filename_collect(struct str header, struct arena *arena, struct filename_list *out)
{
    struct mail_field field;
    *out = (struct filename_list){0};
    while (mail_header_next(&header, &field)) {
        struct str name, value;
        if (!mail_field_loosely(&field, &name, &value) ||
            (!str_equal_nocase(name, STR("Content-Type")) &&
             !str_equal_nocase(name, STR("Content-Disposition"))))
            continue;
        add_of_field(out, mail_field_text(arena, &field), arena);
    }
}

/* ---- one name ---- */

/* Bytes of the character at the front, if it moves or hides others; *out_trick: it turns the
 * direction of what stands behind it. */
static size_t invisible(struct str text, bool *out_trick)
{
    const unsigned char *c = (const unsigned char *)text.ptr;
    *out_trick = false;
    if (c[0] < ' ' || c[0] == 0x7f) {
        *out_trick = c[0] != '\t';
        return c[0] == '\t' ? 0 : 1;
    }
    if (text.len < 3)
        return 0;
    if (c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf) /* U+FEFF */
        return 3;
    if (c[0] != 0xe2 || (c[1] != 0x80 && c[1] != 0x81))
        return 0;
    bool overrides = (c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae) || /* U+202A to 202E */
                     (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9);   /* U+2066 to 2069 */
    bool empty = (c[1] == 0x80 && c[2] >= 0x8b && c[2] <= 0x8f) ||     /* U+200B to 200F */
                 (c[1] == 0x81 && c[2] == 0xa0);                       /* U+2060 */
    *out_trick = overrides;
    return overrides || empty ? 3 : 0;
}

static struct str clean(struct str name, struct arena *arena, struct filename *out)
{
    char *text = arena_alloc(arena, name.len + 1);
    size_t len = 0, blanks = 0;
    while (name.len) {
        bool trick;
        size_t skip = invisible(name, &trick);
        if (trick)
            out->trick = "characters that turn or end what is shown of its name";
        if (!skip) {
            bool blank = name.ptr[0] == ' ' || name.ptr[0] == '\t';
            blanks = blank ? blanks + 1 : 0;
            if (blanks >= BLANKS_MANY && !out->trick)
                out->trick = "many blanks in its name";
            text[len++] = ascii_lower(name.ptr[0]);
        }
        name = str_from(name, skip ? skip : 1);
    }
    return str_of(text, len);
}

static struct str drop_ends(struct str text)
{
    while (text.len && strchr(" \t.", text.ptr[text.len - 1]))
        text.len--;
    return text;
}

static struct str extension_of(struct str text)
{
    ptrdiff_t dot = str_find_last(text, '.');
    return dot < 0 ? STR_EMPTY : str_from(text, (size_t)dot + 1);
}

void filename_read(struct str name, struct arena *arena, struct filename *out)
{
    *out = (struct filename){0};
    if (name.len > FILENAME_MAX_LEN) {
        out->trick = "a name of more than 512 bytes";
        name = str_from(name, name.len - FILENAME_MAX_LEN);
    }
    struct str text = drop_ends(clean(name, arena, out));
    for (size_t i = text.len; i > 0; i--)
        if (text.ptr[i - 1] == '/' || text.ptr[i - 1] == '\\') {
            text = str_from(text, i);
            break;
        }
    ptrdiff_t stream = str_find(text, ':');
    if (stream > 0)
        text = drop_ends(str_slice(text, 0, (size_t)stream));
    out->text = text;
    out->extension = str_trim(extension_of(text));
    if (out->trick || !filename_is_dangerous(out->extension))
        return;
    struct str before = drop_ends(str_slice(text, 0, (size_t)str_find_last(text, '.')));
    enum filetype_group promised = filetype_group_of_extension(str_trim(extension_of(before)));
    if (promised != FILETYPE_NONE && promised != FILETYPE_EXECUTABLE && promised != FILETYPE_SCRIPT)
        out->trick = "an extension that hides another one";
}

/* ---- lists and patterns ---- */

bool filename_is_dangerous(struct str extension)
{
    char word[24];
    if (str_starts(extension, STR("{"))) /* a class of the Windows shell */
        return true;
    if (!extension.len || extension.len > sizeof word - 2 || str_find(extension, ' ') >= 0)
        return false;
    word[0] = ' ';
    memcpy(word + 1, extension.ptr, extension.len);
    word[extension.len + 1] = ' ';
    return str_find_str(str_of(dangerous, sizeof dangerous - 1), str_of(word, extension.len + 2)) >=
           0;
}

bool filename_matches(struct str name, struct str pattern)
{
    size_t at = 0, p = 0;
    size_t star = SIZE_MAX, star_at = 0; /* where to go on when what stands behind * did not fit */
    while (at < name.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            star_at = at;
        } else if (p < pattern.len && (pattern.ptr[p] == '?' || pattern.ptr[p] == name.ptr[at])) {
            p++;
            at++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            at = ++star_at;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

struct str filename_printable(struct str name, struct arena *arena)
{
    struct buf valid BUF_CLEANUP;
    buf_init(&valid, (size_t)PRINTED_MAX * 4);
    struct str head = str_slice(name, 0, name.len > PRINTED_MAX ? PRINTED_MAX / 2 : name.len);
    struct str tail =
        name.len > PRINTED_MAX ? str_from(name, name.len - PRINTED_MAX / 2) : STR_EMPTY;
    mime_to_utf8(STR_EMPTY, head, &valid);
    if (tail.len) {
        buf_append(&valid, STR("..."));
        mime_to_utf8(STR_EMPTY, tail, &valid);
    }
    char *text = arena_alloc(arena, valid.len + 1);
    size_t len = 0;
    for (struct str rest = buf_str(&valid); rest.len;) {
        bool trick;
        size_t skip = invisible(rest, &trick);
        text[len++] = skip || rest.ptr[0] == '\t' ? '?' : rest.ptr[0];
        rest = str_from(rest, skip ? skip : 1);
    }
    return str_of(text, len);
}
