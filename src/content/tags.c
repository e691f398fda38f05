/* SPDX-License-Identifier: Apache-2.0 */
#include "content/tags.h"

#include "crypto/base64.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* tag-name = ALPHA *ALNUMPUNC */
static bool name_is_good(struct str name)
{
    bool good = name.len > 0 && ascii_is_alpha(name.ptr[0]);
    for (size_t i = 0; i < name.len; i++)
        good = good &&
               (ascii_is_alpha(name.ptr[i]) || ascii_is_digit(name.ptr[i]) || name.ptr[i] == '_');
    return good;
}

/* VALCHAR and folding; octets over 127 may stand in the names of RFC 8616, whose reader judges
 * them. */
static bool value_is_good(struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < ' ' && !is_blank(value.ptr[i])) || c == 127)
            return false;
    }
    return true;
}

static bool take_tag(struct str part, struct tags *tags, const char **out_fault)
{
    ptrdiff_t equals = str_find(part, '=');
    struct tag tag = {.name = str_trim(str_slice(part, 0, equals < 0 ? 0 : (size_t)equals))};
    if (equals < 0 || !name_is_good(tag.name)) {
        *out_fault = "a tag without a name";
        return false;
    }
    tag.whole = str_from(part, (size_t)equals + 1);
    tag.value = str_trim(tag.whole);
    if (!value_is_good(tag.whole)) {
        *out_fault = "an octet that no tag may hold";
        return false;
    }
    if (tags_find(tags, tag.name)) {
        *out_fault = "a tag stands there twice";
        return false;
    }
    if (tags->count == TAGS_MAX) {
        *out_fault = "too many tags";
        return false;
    }
    tags->items[tags->count++] = tag;
    return true;
}

bool tags_parse(struct str text, struct tags *out, const char **out_fault)
{
    struct str part;
    out->count = 0;
    while (str_split(&text, ';', &part)) {
        bool is_last = text.ptr == NULL;
        if (is_last && str_trim(part).len == 0 && out->count)
            return true; /* one ";" may stand at the end */
        if (!take_tag(part, out, out_fault))
            return false;
    }
    return true;
}

const struct tag *tags_find(const struct tags *tags, struct str name)
{
    for (size_t i = 0; i < tags->count; i++)
        if (str_equal(tags->items[i].name, name))
            return &tags->items[i];
    return NULL;
}

struct str tags_value(const struct tags *tags, struct str name)
{
    const struct tag *tag = tags_find(tags, name);
    return tag ? tag->value : STR_EMPTY;
}

struct str tags_pack(struct arena *arena, struct str value)
{
    char *text = arena_alloc(arena, value.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++)
        if (!is_blank(value.ptr[i]))
            text[len++] = value.ptr[i];
    return str_of(text, len);
}

bool tags_base64(struct str value, struct buf *out)
{
    struct buf packed BUF_CLEANUP;
    buf_init(&packed, value.len);
    char *at = value.len ? buf_reserve(&packed, value.len) : NULL;
    for (size_t i = 0; at && i < value.len; i++)
        if (!is_blank(value.ptr[i]))
            at[packed.len++] = value.ptr[i];
    return packed.len > 0 && base64_decode(buf_str(&packed), out);
}

bool tags_next_part(struct str *rest, struct str *out_part)
{
    if (!str_split(rest, ':', out_part))
        return false;
    *out_part = str_trim(*out_part);
    return true;
}

bool tags_list_has(struct str list, struct str word)
{
    struct str part;
    while (tags_next_part(&list, &part))
        if (str_equal_nocase(part, word))
            return true;
    return false;
}
