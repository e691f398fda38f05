/* SPDX-License-Identifier: Apache-2.0 */
#include "mail/seven_bit.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/memory.h"
#include "mail/header.h"

#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_MAX = 16 * 1024 * 1024,
    DEPTH_MAX = 20,
    QUOTED_LINE = 75, /* characters before a soft break (RFC 2045 6.7) */
    BASE64_LINE = 57, /* bytes a line */
    READ_SIZE = 64 * 1024,
};

struct walk {
    struct arena *arena;
    struct str text;
    size_t at;
    struct buf out;
    struct str boundaries[DEPTH_MAX]; /* outermost first */
    size_t depth;
    size_t signed_depth; /* with so many boundaries open we are in a multipart/signed; 0: in none */
    const char *why;     /* set: it cannot be done */
};

struct entity {
    struct str header;   /* with its empty line */
    struct str type;     /* "text/plain", lower case; empty if not given */
    struct str boundary; /* of a multipart */
    struct str encoding; /* lower case */
    bool has_version;
};

static bool has_8bit(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] > 127)
            return true;
    }
    return false;
}

/* ---- the header of an entity ---- */

/* Value of parameter `boundary` in a Content-Type, quotes removed; empty if there is none. */
static struct str find_boundary(struct walk *walk, struct str value)
{
    struct str lower = arena_lower(walk->arena, value);
    ptrdiff_t found = str_find_str(lower, STR("boundary"));
    if (found < 0)
        return STR_EMPTY;
    struct str rest = str_trim(str_from(value, (size_t)found + 8));
    if (!str_starts(rest, STR("=")))
        return STR_EMPTY;
    rest = str_trim(str_from(rest, 1));
    if (str_starts(rest, STR("\""))) {
        rest = str_from(rest, 1);
        ptrdiff_t end = str_find(rest, '"');
        return end < 0 ? STR_EMPTY : str_slice(rest, 0, (size_t)end);
    }
    size_t len = 0;
    while (len < rest.len && !strchr("; \t()", rest.ptr[len]))
        len++;
    return str_slice(rest, 0, len);
}

static void read_field(struct walk *walk, const struct mail_field *field, struct entity *entity)
{
    struct str value = mail_field_text(walk->arena, field);
    if (str_equal_nocase(field->name, STR("MIME-Version")))
        entity->has_version = true;
    if (str_equal_nocase(field->name, STR("Content-Transfer-Encoding")))
        entity->encoding = arena_lower(walk->arena, value);
    if (str_equal_nocase(field->name, STR("Content-Type"))) {
        ptrdiff_t end = str_find(value, ';');
        struct str type = end < 0 ? value : str_slice(value, 0, (size_t)end);
        entity->type = arena_lower(walk->arena, str_trim(type));
        if (str_starts(entity->type, STR("multipart/")))
            entity->boundary = find_boundary(walk, value);
    }
    if (str_equal_nocase(field->name, STR("DKIM-Signature")) ||
        str_equal_nocase(field->name, STR("ARC-Seal")))
        walk->why = "a signature would break";
}

static bool read_entity(struct walk *walk, struct entity *entity)
{
    *entity = (struct entity){.type = STR_EMPTY, .boundary = STR_EMPTY, .encoding = STR_EMPTY};
    struct str left = str_from(walk->text, walk->at);
    size_t length = mail_header_length(left);
    entity->header = str_slice(left, 0, length ? length : left.len);
    if (has_8bit(entity->header))
        walk->why = "the header section is not ASCII";
    struct str rest = entity->header;
    struct mail_field field;
    while (!walk->why && mail_header_next(&rest, &field))
        read_field(walk, &field, entity);
    walk->at += entity->header.len;
    return walk->why == NULL;
}

/* The header section with another transfer encoding; "" leaves it as it is. */
static void put_header(struct walk *walk, const struct entity *entity, const char *encoding,
                       bool label)
{
    struct str rest = entity->header;
    struct mail_field field;
    while (mail_header_next(&rest, &field)) {
        bool replaced =
            encoding[0] != '\0' && str_equal_nocase(field.name, STR("Content-Transfer-Encoding"));
        if (!replaced)
            buf_append(&walk->out, field.raw);
    }
    if (encoding[0] != '\0') {
        if (label && !entity->has_version)
            buf_append(&walk->out, STR("MIME-Version: 1.0\r\n"));
        if (label && entity->type.len == 0)
            buf_append(&walk->out, STR("Content-Type: text/plain; charset=unknown-8bit\r\n"));
        buf_printf(&walk->out, "Content-Transfer-Encoding: %s\r\n", encoding);
    }
    buf_append(&walk->out, rest); /* the empty line */
}

/* ---- the body of a leaf ---- */

static void put_quoted(struct buf *out, struct str text)
{
    size_t column = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n') {
            buf_append(out, STR("\r\n"));
            column = 0;
            i++;
            continue;
        }
        bool last = i + 1 == text.len || text.ptr[i + 1] == '\r';
        bool plain = (c > 32 && c < 127 && c != '=') || ((c == ' ' || c == '\t') && !last);
        if (column + (plain ? 1 : 3) > QUOTED_LINE) {
            buf_append(out, STR("=\r\n"));
            column = 0;
        }
        if (plain)
            buf_append_byte(out, (char)c);
        else
            buf_printf(out, "=%02X", c);
        column += plain ? 1 : 3;
    }
}

static void put_base64(struct buf *out, struct str data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < data.len; i += 3) {
        unsigned char in[3] = {0};
        size_t count = data.len - i < 3 ? data.len - i : 3;
        memcpy(in, data.ptr + i, count);
        char four[4] = {digits[in[0] >> 2], digits[(in[0] & 3) << 4 | in[1] >> 4],
                        count > 1 ? digits[(in[1] & 15) << 2 | in[2] >> 6] : '=',
                        count > 2 ? digits[in[2] & 63] : '='};
        buf_append(out, str_of(four, 4));
        if (i % BASE64_LINE == BASE64_LINE - 3)
            buf_append(out, STR("\r\n"));
    }
}

/* ---- boundaries ---- */

static size_t line_end(struct str text, size_t at)
{
    ptrdiff_t found = str_find(str_from(text, at), '\n');
    return found < 0 ? text.len : at + (size_t)found + 1;
}

/* Is this line a boundary of the stack? Its level (from 1) and whether it closes, or 0. */
static size_t boundary_level(const struct walk *walk, struct str line, bool *out_closes)
{
    if (!str_starts(line, STR("--")))
        return 0;
    line = str_from(line, 2);
    for (size_t level = walk->depth; level > 0; level--) {
        struct str boundary = walk->boundaries[level - 1];
        if (!str_starts(line, boundary))
            continue;
        struct str rest = str_trim(str_from(line, boundary.len));
        *out_closes = str_equal(rest, STR("--"));
        if (*out_closes || rest.len == 0)
            return level;
    }
    return 0;
}

/* Where the next boundary line begins, from walk->at; the end of the text if there is none. */
static size_t next_boundary(const struct walk *walk)
{
    bool closes;
    size_t at = walk->at;
    while (at < walk->text.len) {
        size_t end = line_end(walk->text, at);
        if (boundary_level(walk, str_slice(walk->text, at, end), &closes))
            return at;
        at = end;
    }
    return at;
}

/* Preamble, epilogue: nobody shows them, so what is not ASCII is left out. */
static void put_between(struct walk *walk, size_t end)
{
    for (; walk->at < end; walk->at++) {
        char c = walk->text.ptr[walk->at];
        buf_append_byte(&walk->out, (unsigned char)c > 127 ? '?' : c);
    }
}

/* ---- the walk ---- */

static void put_leaf(struct walk *walk, const struct entity *entity, bool is_message)
{
    size_t end = next_boundary(walk);
    struct str body = str_slice(walk->text, walk->at, end);
    walk->at = end;
    bool declared =
        str_equal(entity->encoding, STR("8bit")) || str_equal(entity->encoding, STR("binary"));
    if (!has_8bit(body)) {
        bool relabel = declared && !walk->signed_depth;
        put_header(walk, entity, relabel ? "7bit" : "", /* label= */ false);
        buf_append(&walk->out, body);
        return;
    }
    if (walk->signed_depth) {
        walk->why = "the signature of a part would break";
        return;
    }
    if (entity->encoding.len && !declared && !str_equal(entity->encoding, STR("7bit"))) {
        walk->why = "a part is encoded and has 8-bit text";
        return;
    }
    bool text = entity->type.len == 0 || str_starts(entity->type, STR("text/"));
    /* the line end before a boundary belongs to the boundary */
    bool cut = end < walk->text.len && str_ends(body, STR("\r\n"));
    if (cut)
        body.len -= 2;
    put_header(walk, entity, text ? "quoted-printable" : "base64", /* label= */ is_message);
    if (text)
        put_quoted(&walk->out, body);
    else
        put_base64(&walk->out, body);
    if (cut || !text)
        buf_append(&walk->out, STR("\r\n"));
}

/* A multipart is entered: its parts follow behind its boundaries. */
static void enter_multipart(struct walk *walk, const struct entity *entity)
{
    if (entity->boundary.len == 0 || entity->boundary.len > 200)
        walk->why = "a multipart has no boundary";
    else if (walk->depth == DEPTH_MAX)
        walk->why = "parts are nested too deep";
    else
        walk->boundaries[walk->depth++] = arena_str(walk->arena, entity->boundary);
    if (!walk->signed_depth && str_equal(entity->type, STR("multipart/signed")))
        walk->signed_depth = walk->depth;
}

/* One entity: its header, and its body if it is a leaf; a message in it is an entity again. */
static void put_entity(struct walk *walk, bool is_message)
{
    struct entity entity;
    for (int nesting = 0; read_entity(walk, &entity); nesting++, is_message = true) {
        bool is_wrapper = str_equal(entity.type, STR("message/rfc822"));
        bool is_multipart = str_starts(entity.type, STR("multipart/"));
        if (!is_wrapper && !is_multipart) {
            put_leaf(walk, &entity, is_message);
            return;
        }
        bool eight =
            str_equal(entity.encoding, STR("8bit")) || str_equal(entity.encoding, STR("binary"));
        bool relabel = eight && !walk->signed_depth;
        put_header(walk, &entity, relabel ? "7bit" : "", /* label= */ false);
        if (is_multipart) {
            enter_multipart(walk, &entity);
            return;
        }
        if (nesting == DEPTH_MAX) {
            walk->why = "messages are nested too deep";
            return;
        }
    }
}

static void walk_all(struct walk *walk)
{
    put_entity(walk, true);
    while (!walk->why && walk->at < walk->text.len) {
        put_between(walk, next_boundary(walk));
        if (walk->at >= walk->text.len)
            break;
        size_t end = line_end(walk->text, walk->at);
        struct str line = str_slice(walk->text, walk->at, end);
        bool closes = false;
        size_t level = boundary_level(walk, line, &closes);
        buf_append(&walk->out, line);
        walk->at = end;
        walk->depth = closes ? level - 1 : level;
        if (walk->depth < walk->signed_depth)
            walk->signed_depth = 0;
        if (!closes)
            put_entity(walk, false);
    }
    if (!walk->why && walk->out.overflow)
        walk->why = "the message grows too large";
}

static enum result read_all(struct walk *walk, const struct mail_content *in,
                            struct error *err) MAY_YIELD
{
    size_t size = (size_t)mail_content_size(in);
    char *space = arena_alloc(walk->arena, size + 1);
    char *piece = arena_alloc(walk->arena, READ_SIZE);
    size_t len = 0;
    while (len < size) {
        struct str data;
        if (mail_content_read(in, len, READ_SIZE, piece, &data, err) != OK)
            return FAILED;
        if (data.len == 0)
            break;
        memcpy(space + len, data.ptr, data.len);
        len += data.len;
    }
    walk->text = str_of(space, len);
    return OK;
}

enum result mail_to_seven_bit(struct arena *arena, const struct mail_content *in,
                              struct mail_content *out, const char **out_why, struct error *err)
{
    struct walk walk = {.arena = arena};
    if (mail_content_size(in) > MESSAGE_MAX) {
        *out_why = "the message is larger than 16 MiB";
        return OK;
    }
    if (read_all(&walk, in, err) != OK)
        return FAILED;
    buf_init(&walk.out, MESSAGE_MAX * (size_t)4);
    walk_all(&walk);
    enum result result = OK;
    if (!walk.why) {
        struct str text = buf_str(&walk.out);
        size_t header_len = mail_header_length(text);
        struct body *body = body_memory_new(text.len);
        result = body_append(body, str_from(text, header_len), err);
        if (result == OK)
            result = body_seal(body, err);
        if (result == OK)
            *out = (struct mail_content){.head = arena_str(arena, str_slice(text, 0, header_len)),
                                         .body = body};
        else
            body_unref(body);
    }
    *out_why = walk.why;
    buf_done(&walk.out);
    return result;
}

enum result mail_has_eight_bit(const struct mail_content *content, bool *out_has, struct error *err)
{
    char *space = memory_alloc(READ_SIZE);
    enum result result = OK;
    bool has = false;
    for (uint64_t at = 0; result == OK && !has;) {
        struct str data;
        result = mail_content_read(content, at, READ_SIZE, space, &data, err);
        if (result != OK || data.len == 0)
            break;
        has = has_8bit(data);
        at += data.len;
    }
    free(space);
    if (result == OK)
        *out_has = has;
    return result;
}
