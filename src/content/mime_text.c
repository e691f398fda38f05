/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/mime_text.c - what a part says: transfer encoding, charset and tags taken away.
 *
 * Everything streams in pieces; a reader in the way of what was cut between two pieces keeps the
 * few bytes that it needs.
 */
#include "content/mime.h"

#include <string.h>

enum { PIECE = 16 * 1024, TAIL_MAX = 8, ENTITY_MAX = 12 };

/* ---- transfer encodings ---- */

struct decoding {
    enum mime_encoding encoding;
    uint32_t bits; /* base64: of an unfinished group */
    unsigned bit_count;
    char tail[TAIL_MAX]; /* quoted-printable: "=", "=3" or blanks that may end a line */
    size_t tail_len;
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (ascii_is_digit(c))
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Junk is passed over (RFC 2045 6.8); what stands behind = is a new beginning, as readers see it.
 */
static size_t decode_base64(struct decoding *decoding, struct str in, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        int value = base64_value(in.ptr[i]);
        if (in.ptr[i] == '=') {
            decoding->bit_count = 0;
            decoding->bits = 0;
        }
        if (value < 0)
            continue;
        decoding->bits = decoding->bits << 6 | (uint32_t)value;
        decoding->bit_count += 6;
        if (decoding->bit_count >= 8) {
            decoding->bit_count -= 8;
            out[len++] = (char)(decoding->bits >> decoding->bit_count & 0xff);
        }
    }
    return len;
}

static int hex(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte at a time; `out` has room for what is kept and one more. */
static size_t decode_quoted_byte(struct decoding *decoding, char c, char *out)
{
    char *tail = decoding->tail;
    size_t len = 0;
    if (decoding->tail_len && tail[0] == '=') {
        tail[decoding->tail_len++] = c;
        if (c == '\n') { /* soft line break */
            decoding->tail_len = 0;
            return 0;
        }
        if (decoding->tail_len < 3 || tail[1] == '\r' || tail[1] == ' ' || tail[1] == '\t') {
            if (decoding->tail_len < TAIL_MAX)
                return 0;
        } else if (hex(tail[1]) >= 0 && hex(tail[2]) >= 0) {
            out[0] = (char)(hex(tail[1]) << 4 | hex(tail[2]));
            decoding->tail_len = 0;
            return 1;
        }
        len = decoding->tail_len;
        memcpy(out, tail, len);
        decoding->tail_len = 0;
        return len;
    }
    if (c == '=') {
        tail[decoding->tail_len++] = c;
        return 0;
    }
    out[len++] = c;
    return len;
}

static size_t decode_quoted(struct decoding *decoding, struct str in, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++)
        len += decode_quoted_byte(decoding, in.ptr[i], out + len);
    return len;
}

static size_t decode(struct decoding *decoding, struct str in, char *out)
{
    switch (decoding->encoding) {
    case MIME_BASE64:
        return decode_base64(decoding, in, out);
    case MIME_QUOTED_PRINTABLE:
        return decode_quoted(decoding, in, out);
    case MIME_IDENTITY:
    case MIME_UNKNOWN:
        break;
    }
    memcpy(out, in.ptr, in.len);
    return in.len;
}

enum result mime_decode(const struct mime_message *message, const struct mime_part *part,
                        mime_sink sink, void *context, struct error *err)
{
    struct decoding decoding = {.encoding = part->encoding};
    struct arena *arena = arena_new(0);
    char *in = arena_alloc(arena, PIECE);
    char *out = arena_alloc(arena, PIECE + TAIL_MAX);
    uint64_t at = part->body_begin;
    enum result result = OK;
    while (result == OK && at < part->body_end) {
        struct str piece;
        uint64_t left = part->body_end - at;
        size_t want = left < PIECE ? (size_t)left : PIECE;
        result = mail_content_read(message->source.content, message->source.header.len + at, want,
                                   in, &piece, err);
        if (result != OK || !piece.len)
            break;
        size_t len = decode(&decoding, piece, out);
        if (len)
            result = sink(context, str_of(out, len), err);
        at += piece.len;
        if (result == OK && fiber_current()) {
            fiber_yield();
            result = fiber_check(err);
        }
    }
    if (result == OK && decoding.encoding == MIME_QUOTED_PRINTABLE && decoding.tail_len)
        result = sink(context, str_of(decoding.tail, decoding.tail_len), err);
    arena_free(arena);
    return result;
}

/* ---- text ---- */

bool mime_is_text(const struct mime_part *part)
{
    return !part->is_attachment && !part->is_multipart && !part->is_message &&
           (str_equal(part->type, STR("text/plain")) || str_equal(part->type, STR("text/html")));
}

struct texting {
    const struct mime_part *part;
    mime_sink sink;
    void *context;
    struct buf bytes; /* of a character that was cut */
    struct buf text;
    bool faithful;
    /* html */
    bool strip;
    enum { OUTSIDE, IN_TAG, IN_COMMENT, IN_ENTITY } where;
    char quote;      /* in a tag, inside an attribute's value */
    struct buf word; /* of a tag or an entity */
    bool hidden;     /* in script or style */
};

static bool breaks_line(struct str tag)
{
    static const char *const tags[] = {"br",  "p",  "/p", "div", "/div", "td",    "tr",        "li",
                                       "/li", "h1", "h2", "h3",  "hr",   "table", "blockquote"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (str_equal_nocase(tag, str_c(tags[i])))
            return true;
    return false;
}

static void end_tag(struct texting *texting, struct buf *out)
{
    struct str tag = buf_str(&texting->word);
    size_t end = 0;
    while (end < tag.len && !strchr(" \t\r\n", tag.ptr[end] ? tag.ptr[end] : ' ') &&
           (tag.ptr[end] != '/' || end == 0))
        end++;
    tag = str_slice(tag, 0, end);
    if (str_equal_nocase(tag, STR("script")) || str_equal_nocase(tag, STR("style")))
        texting->hidden = true;
    else if (str_equal_nocase(tag, STR("/script")) || str_equal_nocase(tag, STR("/style")))
        texting->hidden = false;
    else if (breaks_line(tag))
        buf_append_byte(out, '\n');
    texting->where = OUTSIDE;
}

static void append_code(uint64_t code, struct buf *out)
{
    char bytes[4];
    if (code < 32 || code > 0x10ffff)
        return;
    if (code < 0x80) {
        buf_append_byte(out, (char)code);
        return;
    }
    unsigned extra = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
    bytes[0] = (char)(leads[extra] | code >> (6 * extra));
    for (unsigned i = 1; i <= extra; i++)
        bytes[i] = (char)(0x80 | (code >> (6 * (extra - i)) & 0x3f));
    buf_append(out, str_of(bytes, extra + 1));
}

static void end_entity(struct texting *texting, struct buf *out)
{
    static const struct {
        const char *name, *text;
    } known[] = {{"amp", "&"},   {"lt", "<"},   {"gt", ">"},
                 {"quot", "\""}, {"apos", "'"}, {"nbsp", " "}};
    struct str word = buf_str(&texting->word);
    uint64_t code = 0;
    texting->where = OUTSIDE;
    if (str_starts(word, STR("#x")) || str_starts(word, STR("#X"))) {
        for (size_t i = 2; i < word.len && code <= 0x10ffff; i++)
            code = hex(word.ptr[i]) < 0 ? UINT32_MAX : code << 4 | (unsigned)hex(word.ptr[i]);
        append_code(code, out);
        return;
    }
    if (str_starts(word, STR("#")) && str_to_uint(str_from(word, 1), 0x10ffff, &code)) {
        append_code(code, out);
        return;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (str_equal_nocase(word, str_c(known[i].name)))
            buf_append(out, str_c(known[i].text));
}

static void strip_byte(struct texting *texting, char c, struct buf *out)
{
    switch (texting->where) {
    case OUTSIDE:
        if (c == '<' || (c == '&' && !texting->hidden)) {
            texting->where = c == '<' ? IN_TAG : IN_ENTITY;
            texting->quote = '\0';
            buf_clear(&texting->word);
        } else if (!texting->hidden) {
            buf_append_byte(out, c);
        }
        return;
    case IN_COMMENT: /* the word holds the last two bytes */
        if (c == '>' && str_equal(buf_str(&texting->word), STR("--"))) {
            texting->where = OUTSIDE;
        } else if (c != '-' || texting->word.len > 1) {
            if (c != '-')
                buf_clear(&texting->word);
        } else {
            buf_append_byte(&texting->word, c);
        }
        return;
    case IN_TAG:
        if (c == '>' && !texting->quote) {
            end_tag(texting, out);
            return;
        }
        if (texting->quote ? c == texting->quote : c == '"' || c == '\'')
            texting->quote = texting->quote ? '\0' : c;
        if (texting->word.len < ENTITY_MAX)
            buf_append_byte(&texting->word, c);
        if (str_equal(buf_str(&texting->word), STR("!--"))) {
            texting->where = IN_COMMENT;
            buf_clear(&texting->word);
        }
        return;
    case IN_ENTITY:
        if (c == ';') {
            end_entity(texting, out);
        } else if (texting->word.len >= ENTITY_MAX - 1 || c == ' ' || c == '<' || c == '&') {
            buf_append_byte(out, '&'); /* it is none */
            buf_append(out, buf_str(&texting->word));
            texting->where = OUTSIDE;
            strip_byte(texting, c, out);
        } else {
            buf_append_byte(&texting->word, c);
        }
    }
}

/* How many bytes at the end of `text` may be the begin of a UTF-8 character. */
static size_t cut_character(struct str text)
{
    for (size_t back = 1; back <= 3 && back <= text.len; back++) {
        unsigned char c = (unsigned char)text.ptr[text.len - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t len = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return len > back ? back : 0;
    }
    return 0;
}

static enum result flush(struct texting *texting, size_t keep, struct error *err)
{
    struct str bytes = buf_str(&texting->bytes);
    struct buf stripped BUF_CLEANUP, kept BUF_CLEANUP;
    buf_init(&stripped, bytes.len * 4 + 64);
    buf_init(&kept, bytes.len + 1);
    buf_append(&kept, str_from(bytes, bytes.len - keep));
    buf_clear(&texting->text);
    texting->faithful &=
        mime_to_utf8(texting->part->charset, str_slice(bytes, 0, bytes.len - keep), &texting->text);
    struct str text = buf_str(&texting->text);
    for (size_t i = 0; texting->strip && i < text.len; i++)
        strip_byte(texting, text.ptr[i], &stripped);
    enum result result = OK;
    if (texting->strip)
        text = buf_str(&stripped);
    if (text.len)
        result = texting->sink(texting->context, text, err);
    buf_clear(&texting->bytes);
    buf_append(&texting->bytes, buf_str(&kept));
    return result;
}

static bool is_one_byte(struct str charset)
{
    return str_starts(charset, STR("iso-8859-")) || str_starts(charset, STR("windows-125")) ||
           str_starts(charset, STR("koi8-"));
}

/* Charsets with states or wide characters are converted line by line: a line end is whole in all of
 * them but UTF-16. */
static enum result take_text(void *context, struct str data, struct error *err)
{
    struct texting *texting = context;
    buf_append(&texting->bytes, data);
    struct str bytes = buf_str(&texting->bytes);
    struct str charset = texting->part->charset;
    size_t keep = 0;
    if (str_starts(charset, STR("utf-16"))) {
        keep = bytes.len & 1;
    } else if (!charset.len || str_starts(charset, STR("u"))) {
        keep = cut_character(bytes);
    } else if (!is_one_byte(charset)) {
        ptrdiff_t line = str_find_last(bytes, '\n');
        keep = line < 0 ? bytes.len : bytes.len - (size_t)line - 1;
        keep = keep < 2 * (size_t)PIECE ? keep : 0; /* lines that long are no text */
    }
    return keep < bytes.len ? flush(texting, keep, err) : OK;
}

enum result mime_decode_text(const struct mime_message *message, const struct mime_part *part,
                             bool strip_html, mime_sink sink, void *context, bool *out_faithful,
                             struct error *err)
{
    struct texting texting = {.part = part,
                              .sink = sink,
                              .context = context,
                              .faithful = true,
                              .strip = strip_html && str_equal(part->type, STR("text/html"))};
    buf_init(&texting.bytes, 8 * (size_t)PIECE);
    buf_init(&texting.text, 32 * (size_t)PIECE);
    buf_init(&texting.word, 64);
    enum result result = mime_decode(message, part, take_text, &texting, err);
    if (result == OK && texting.bytes.len)
        result = flush(&texting, 0, err);
    if (out_faithful)
        *out_faithful = texting.faithful;
    buf_done(&texting.bytes);
    buf_done(&texting.text);
    buf_done(&texting.word);
    return result;
}
