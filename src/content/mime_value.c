/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/mime_value.c - parameters (RFC 2045, 2231), encoded words (RFC 2047), charsets.
 *
 * Charsets are converted by iconv, and only those on a list: strangers choose the name, and some
 * converters had holes.
 */
#include "content/mime.h"

#include "crypto/base64.h"

#include <errno.h>
#include <iconv.h>
#include <string.h>

enum { VALUE_MAX = 4096, WORD_MAX = 1024, SECTIONS_MAX = 512 };

/* ---- charsets ---- */

static const char *const charsets[] = {
    "iso-8859-1",   "iso-8859-2",   "iso-8859-3",   "iso-8859-4",   "iso-8859-5",   "iso-8859-6",
    "iso-8859-7",   "iso-8859-8",   "iso-8859-9",   "iso-8859-10",  "iso-8859-13",  "iso-8859-14",
    "iso-8859-15",  "iso-8859-16",  "windows-1250", "windows-1251", "windows-1252", "windows-1253",
    "windows-1254", "windows-1255", "windows-1256", "windows-1257", "windows-1258", "koi8-r",
    "koi8-u",       "gb2312",       "gbk",          "gb18030",      "big5",         "shift_jis",
    "euc-jp",       "euc-kr",       "iso-2022-jp",  "utf-16",       "utf-16le",     "utf-16be",
};

static void append_utf8(uint32_t code, struct buf *out)
{
    char bytes[4];
    size_t len = 0;
    if (code < 0x80) {
        bytes[len++] = (char)code;
    } else if (code < 0x800) {
        bytes[len++] = (char)(0xc0 | code >> 6);
        bytes[len++] = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        bytes[len++] = (char)(0xe0 | code >> 12);
        bytes[len++] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[len++] = (char)(0x80 | (code & 0x3f));
    } else {
        bytes[len++] = (char)(0xf0 | code >> 18);
        bytes[len++] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[len++] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[len++] = (char)(0x80 | (code & 0x3f));
    }
    buf_append(out, str_of(bytes, len));
}

static size_t utf8_length(struct str text)
{
    unsigned char lead = (unsigned char)text.ptr[0];
    size_t len = lead < 0x80                   ? 1
                 : lead >= 0xc2 && lead < 0xe0 ? 2
                 : (lead & 0xf0) == 0xe0       ? 3
                 : lead >= 0xf0 && lead < 0xf5 ? 4
                                               : 0;
    if (!len || text.len < len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if (((unsigned char)text.ptr[i] & 0xc0) != 0x80)
            return 0;
    unsigned char second = len > 1 ? (unsigned char)text.ptr[1] : 0x80;
    bool bad = (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
               (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f);
    return bad ? 0 : len;
}

/* UTF-8 and ASCII: what is neither becomes U+FFFD. */
static bool copy_utf8(struct str text, struct buf *out)
{
    bool faithful = true;
    while (text.len) {
        size_t len = utf8_length(text);
        if (len)
            buf_append(out, str_slice(text, 0, len));
        else
            append_utf8(0xfffd, out);
        faithful = faithful && len;
        text = str_from(text, len ? len : 1);
    }
    return faithful;
}

static bool convert(iconv_t converter, struct str text, struct buf *out)
{
    char *in = (char *)text.ptr; /* iconv does not write there */
    size_t left = text.len;
    bool faithful = true;
    while (left) {
        char space[1024];
        char *to = space;
        size_t room = sizeof space;
        size_t done = iconv(converter, &in, &left, &to, &room);
        buf_append(out, str_of(space, sizeof space - room));
        if (done != (size_t)-1 || errno == E2BIG)
            continue;
        append_utf8(0xfffd, out);
        faithful = false;
        in++;
        left--;
        iconv(converter, NULL, NULL, NULL, NULL);
    }
    return faithful;
}

bool mime_to_utf8(struct str charset, struct str text, struct buf *out)
{
    char name[32];
    if (!charset.len || str_equal_nocase(charset, STR("utf-8")) ||
        str_equal_nocase(charset, STR("us-ascii")) || str_equal_nocase(charset, STR("utf8")) ||
        str_equal_nocase(charset, STR("ascii")))
        return copy_utf8(text, out);
    for (size_t i = 0; i < sizeof charsets / sizeof *charsets; i++) {
        if (!str_equal_nocase(charset, str_c(charsets[i])) ||
            !str_to_c(str_c(charsets[i]), name, sizeof name))
            continue;
        iconv_t converter = iconv_open("UTF-8", name);
        if (converter == (iconv_t)-1)
            break;
        bool faithful = convert(converter, text, out);
        iconv_close(converter);
        return faithful;
    }
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < 128)
            buf_append_byte(out, text.ptr[i]);
        else
            append_utf8(0xfffd, out);
    }
    return false;
}

/* ---- parameters ---- */

struct parameter {
    struct str name;  /* as it stands: "filename", "filename*0*" */
    struct str value; /* without quotes */
};

static struct str skip_blanks(struct str rest)
{
    unsigned depth = 0;
    size_t i = 0;
    for (; i < rest.len; i++) {
        char c = rest.ptr[i];
        if (c == '(')
            depth++;
        else if (c == ')' && depth)
            depth--;
        else if (!depth && c != ' ' && c != '\t')
            break;
    }
    return str_from(rest, i);
}

static struct str take_token(struct str *rest)
{
    size_t end = 0;
    while (end < rest->len && !strchr("; \t(/", rest->ptr[end] ? rest->ptr[end] : ';'))
        end++;
    struct str token = str_slice(*rest, 0, end);
    *rest = skip_blanks(str_from(*rest, end));
    return token;
}

struct str mime_first_word(struct str value, struct arena *arena)
{
    struct str rest = skip_blanks(value);
    struct str word = take_token(&rest);
    if (rest.len && rest.ptr[0] == '/') {
        rest = skip_blanks(str_from(rest, 1));
        struct str subtype = take_token(&rest);
        word = arena_printf(arena, "%.*s/%.*s", STR_ARG(word), STR_ARG(subtype));
    }
    return arena_lower(arena, word);
}

static struct str take_value(struct str *rest, struct arena *arena)
{
    size_t i = 0;
    if (!rest->len || rest->ptr[0] != '"') {
        while (i < rest->len && rest->ptr[i] != ';' && rest->ptr[i] != ' ' && rest->ptr[i] != '\t')
            i++;
        struct str value = str_slice(*rest, 0, i);
        *rest = str_from(*rest, i);
        return value;
    }
    size_t end = 1;
    while (end < rest->len && rest->ptr[end] != '"')
        end += rest->ptr[end] == '\\' ? 2 : 1;
    char *out = arena_alloc(arena, end + 1);
    size_t len = 0;
    for (i = 1; i < rest->len && rest->ptr[i] != '"'; i++) {
        if (rest->ptr[i] == '\\' && i + 1 < rest->len)
            i++;
        out[len++] = rest->ptr[i];
    }
    *rest = str_from(*rest, i + 1);
    return str_of(out, len);
}

static bool next_parameter(struct str *rest, struct arena *arena, struct parameter *out)
{
    for (;;) {
        ptrdiff_t semicolon = str_find(*rest, ';');
        if (semicolon < 0)
            return false;
        *rest = skip_blanks(str_from(*rest, (size_t)semicolon + 1));
        size_t i = 0;
        while (i < rest->len && rest->ptr[i] != '=' && rest->ptr[i] != ';')
            i++;
        if (i >= rest->len || rest->ptr[i] == ';')
            continue;
        out->name = str_trim(str_slice(*rest, 0, i));
        *rest = skip_blanks(str_from(*rest, i + 1));
        out->value = take_value(rest, arena);
        return true;
    }
}

static int hex(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void append_percent(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        int high = i + 2 < text.len && text.ptr[i] == '%' ? hex(text.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex(text.ptr[i + 2]) : -1;
        if (low >= 0) {
            buf_append_byte(out, (char)(high << 4 | low));
            i += 2;
        } else {
            buf_append_byte(out, text.ptr[i]);
        }
    }
}

struct section {
    struct str value;
    bool found, encoded;
};

/* Which section of `name` the parameter is, by RFC 2231; -1: none. */
static int section_of(const struct parameter *one, struct str name, bool *out_encoded)
{
    uint64_t which = 0;
    if (!str_starts_nocase(one->name, name) || one->name.len == name.len ||
        one->name.ptr[name.len] != '*')
        return -1;
    struct str behind = str_from(one->name, name.len + 1);
    *out_encoded = behind.len == 0 || str_ends(behind, STR("*"));
    struct str digits = behind.len ? str_slice(behind, 0, behind.len - *out_encoded) : behind;
    if (digits.len && !str_to_uint(digits, SECTIONS_MAX - 1, &which))
        return -1;
    return (int)which;
}

/* Takes charset'language' off the front of the first section. */
static struct str take_charset(struct str *value)
{
    ptrdiff_t first = str_find(*value, '\'');
    if (first < 0)
        return STR_EMPTY;
    struct str charset = str_slice(*value, 0, (size_t)first);
    *value = str_from(*value, (size_t)first + 1);
    ptrdiff_t second = str_find(*value, '\'');
    *value = str_from(*value, second < 0 ? 0 : (size_t)second + 1);
    return charset;
}

/* name*=charset'language'text, name*0=…; name*1*=…: pieces in the order of their numbers. */
static struct str extended(struct str value, const char *name, struct arena *arena)
{
    struct buf bytes BUF_CLEANUP, text BUF_CLEANUP;
    struct section sections[SECTIONS_MAX] = {0};
    struct parameter one;
    struct str charset = STR_EMPTY;
    buf_init(&bytes, VALUE_MAX);
    buf_init(&text, VALUE_MAX * 4);
    while (next_parameter(&value, arena, &one)) {
        bool encoded = false;
        int which = section_of(&one, str_c(name), &encoded);
        if (which >= 0 && !sections[which].found)
            sections[which] =
                (struct section){.value = one.value, .found = true, .encoded = encoded};
    }
    if (sections[0].encoded)
        charset = take_charset(&sections[0].value);
    for (size_t i = 0; i < SECTIONS_MAX && sections[i].found; i++) {
        if (sections[i].encoded)
            append_percent(sections[i].value, &bytes);
        else
            buf_append(&bytes, sections[i].value);
    }
    mime_to_utf8(charset, buf_str(&bytes), &text);
    return arena_str(arena, buf_str(&text));
}

struct str mime_parameter(struct str value, const char *name, struct arena *arena)
{
    struct parameter one;
    value = str_slice(value, 0, VALUE_MAX);
    struct str rest = value;
    bool is_extended = false;
    while (next_parameter(&rest, arena, &one)) {
        if (str_equal_nocase(one.name, str_c(name)))
            return arena_str(arena, one.value);
        is_extended |= str_starts_nocase(one.name, str_c(name));
    }
    return is_extended ? extended(value, name, arena) : STR_EMPTY;
}

size_t mime_parameters(struct str value, const char *name, struct arena *arena, struct str *out,
                       size_t max, bool *out_cut)
{
    struct parameter one;
    size_t count = 0;
    bool is_extended = false;
    *out_cut = value.len > VALUE_MAX;
    value = str_slice(value, 0, VALUE_MAX);
    struct str rest = value;
    while (count < max && next_parameter(&rest, arena, &one)) {
        if (str_equal_nocase(one.name, str_c(name)))
            out[count++] = arena_str(arena, one.value);
        else
            is_extended |= str_starts_nocase(one.name, str_c(name));
    }
    if (is_extended && count < max)
        out[count++] = extended(value, name, arena);
    return count;
}

/* ---- encoded words ---- */

static bool decode_q(struct str text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '_') {
            buf_append_byte(out, ' ');
        } else if (c == '=' && i + 2 < text.len && hex(text.ptr[i + 1]) >= 0 &&
                   hex(text.ptr[i + 2]) >= 0) {
            buf_append_byte(out, (char)(hex(text.ptr[i + 1]) << 4 | hex(text.ptr[i + 2])));
            i += 2;
        } else {
            buf_append_byte(out, c);
        }
    }
    return true;
}

/* The encoded word at the front of *rest; false if there is none. */
static bool take_word(struct str *rest, struct buf *out)
{
    struct str part, charset, encoding;
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, WORD_MAX);
    if (!str_starts(*rest, STR("=?")))
        return false;
    struct str text = str_from(*rest, 2);
    if (!str_split(&text, '?', &charset) || !str_split(&text, '?', &encoding) || !text.ptr)
        return false;
    ptrdiff_t end = str_find_str(str_slice(text, 0, WORD_MAX + 2), STR("?="));
    if (end < 0 || end > WORD_MAX || encoding.len != 1 || !charset.len)
        return false;
    part = str_slice(text, 0, (size_t)end);
    ptrdiff_t star = str_find(charset, '*'); /* a language (RFC 2231 5) */
    if (star >= 0)
        charset = str_slice(charset, 0, (size_t)star);
    char kind = ascii_lower(encoding.ptr[0]);
    bool good = kind == 'b' ? base64_decode(part, &bytes) : kind == 'q' && decode_q(part, &bytes);
    if (!good)
        return false;
    mime_to_utf8(charset, buf_str(&bytes), out);
    *rest = str_from(text, (size_t)end + 2);
    return true;
}

struct str mime_decode_words(struct str text, struct arena *arena)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, text.len * 4 + 16);
    if (str_find_str(text, STR("=?")) < 0)
        return text;
    bool behind_word = false;
    while (text.len) {
        struct str blanks = text;
        while (blanks.len && (blanks.ptr[0] == ' ' || blanks.ptr[0] == '\t'))
            blanks = str_from(blanks, 1);
        /* blanks between two encoded words are none (RFC 2047 6.2) */
        if (behind_word && blanks.len < text.len && take_word(&blanks, &out)) {
            text = blanks;
            continue;
        }
        behind_word = take_word(&text, &out);
        if (!behind_word) {
            buf_append_byte(&out, text.ptr[0]);
            text = str_from(text, 1);
        }
    }
    return arena_str(arena, buf_str(&out));
}
