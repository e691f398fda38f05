/* SPDX-License-Identifier: Apache-2.0 */
#include "content/mime.h"

#include "mail/header.h"

#include <string.h>

enum {
    PIECE = 32 * 1024,
    LINE_KEPT = 1024,       /* of a body line: enough for a boundary */
    HEADER_MAX = 64 * 1024, /* of a part */
    BOUNDARY_MAX = 998,     /* RFC 2046 allows 70, programs more */
};

struct level { /* a multipart whose parts are being read */
    long part;
    struct str boundary;
};

struct reading {
    const struct mime_limits *limits;
    struct mime_message *out;
    struct arena *arena;
    size_t cap;
    struct level *levels; /* limits->depth of them */
    unsigned level_count;
    long current;      /* part whose header or body is being read; -1: between parts */
    bool in_header;    /* of the current part */
    struct buf header; /* of it, as far as it was read */
    bool header_is_cut;
    size_t headers; /* bytes of all headers kept */
    /* the line at work */
    char line[LINE_KEPT];
    size_t line_len;     /* kept */
    uint64_t line_begin; /* offset in the body */
    uint64_t last_end;   /* of the line before, without its line end */
    bool last_was_cr;
};

/* ---- parts ---- */

static enum result part_new(struct reading *reading, long parent, uint64_t begin, long *out,
                            struct error *err)
{
    struct mime_message *message = reading->out;
    unsigned depth = parent < 0 ? 0 : message->parts[parent].depth + 1;
    if (message->count >= reading->limits->parts)
        return fail(err, ERROR_LIMIT, "the message has more than %zu parts",
                    reading->limits->parts);
    if (depth > reading->limits->depth)
        return fail(err, ERROR_LIMIT, "its parts are nested more than %u deep",
                    reading->limits->depth);
    if (message->count == reading->cap) {
        size_t cap = reading->cap ? reading->cap * 2 : 8;
        struct mime_part *parts = arena_alloc_array(reading->arena, cap, sizeof *parts);
        if (message->count)
            memcpy(parts, message->parts, message->count * sizeof *parts);
        message->parts = parts;
        reading->cap = cap;
    }
    message->parts[message->count] = (struct mime_part){.parent = parent,
                                                        .depth = depth,
                                                        .type = STR("text/plain"),
                                                        .charset = STR_EMPTY,
                                                        .name = STR_EMPTY,
                                                        .header = STR_EMPTY,
                                                        .header_begin = begin,
                                                        .body_begin = begin,
                                                        .body_end = begin};
    *out = (long)message->count++;
    return OK;
}

static struct str field_value(struct str header, const char *name, struct arena *arena)
{
    struct mail_field field;
    if (!mail_header_find(header, str_c(name), &field))
        return STR_EMPTY;
    return mail_field_text(arena, &field);
}

static enum mime_encoding encoding_of(struct str word)
{
    if (!word.len || str_equal(word, STR("7bit")) || str_equal(word, STR("8bit")) ||
        str_equal(word, STR("binary")))
        return MIME_IDENTITY;
    if (str_equal(word, STR("quoted-printable")))
        return MIME_QUOTED_PRINTABLE;
    return str_equal(word, STR("base64")) ? MIME_BASE64 : MIME_UNKNOWN;
}

static bool is_type(struct str type)
{
    ptrdiff_t slash = str_find(type, '/');
    return slash > 0 && (size_t)slash + 1 < type.len;
}

/* What the header says. Parts of a digest are messages where they say nothing. */
static void describe(struct reading *reading, struct mime_part *part)
{
    struct arena *arena = reading->arena;
    struct str type = field_value(part->header, "Content-Type", arena);
    struct str word = mime_first_word(type, arena);
    struct str disposition = field_value(part->header, "Content-Disposition", arena);
    bool in_digest = part->parent >= 0 &&
                     str_equal(reading->out->parts[part->parent].type, STR("multipart/digest"));
    if (is_type(word))
        part->type = word;
    else if (!type.len && in_digest)
        part->type = STR("message/rfc822");
    part->charset = arena_lower(arena, mime_parameter(type, "charset", arena));
    part->name = mime_parameter(disposition, "filename", arena);
    if (!part->name.len)
        part->name = mime_parameter(type, "name", arena);
    part->name = mime_decode_words(part->name, arena);
    part->is_attachment = str_equal(mime_first_word(disposition, arena), STR("attachment"));
    part->encoding = encoding_of(
        mime_first_word(field_value(part->header, "Content-Transfer-Encoding", arena), arena));
}

static void begin_header(struct reading *reading)
{
    reading->in_header = true;
    reading->header_is_cut = false;
    buf_clear(&reading->header);
}

/* What was read of the header of the current part. */
static enum result take_header(struct reading *reading, struct str *out, struct error *err)
{
    if (reading->header_is_cut)
        return fail(err, ERROR_LIMIT, "the header of a part has more than %d bytes", HEADER_MAX);
    *out = arena_str(reading->arena, buf_str(&reading->header));
    return OK;
}

static enum result begin_message(struct reading *reading, uint64_t begin, struct error *err)
{
    long child;
    long parent = reading->current;
    if (part_new(reading, parent, begin, &child, err) != OK)
        return FAILED;
    reading->out->parts[parent].is_message = true;
    reading->current = child;
    begin_header(reading);
    return OK;
}

/* The header of the current part has ended: `body` is where its body begins. */
static enum result end_header(struct reading *reading, struct str header, uint64_t body,
                              struct error *err)
{
    struct mime_part *part = &reading->out->parts[reading->current];
    reading->headers += header.len;
    if (reading->headers > reading->limits->memory)
        return fail(err, ERROR_LIMIT, "the headers of its parts have more than %zu bytes",
                    reading->limits->memory);
    part->header = header;
    part->body_begin = part->body_end = body;
    reading->in_header = false;
    describe(reading, part);
    if (str_equal(part->type, STR("message/rfc822")) && part->encoding == MIME_IDENTITY)
        return begin_message(reading, body, err);
    if (!str_starts(part->type, STR("multipart/")))
        return OK;
    struct str boundary = mime_parameter(field_value(header, "Content-Type", reading->arena),
                                         "boundary", reading->arena);
    while (boundary.len && boundary.ptr[boundary.len - 1] == ' ')
        boundary.len--; /* it has none at its end (RFC 2046 5.1.1), and lines are compared so */
    if (!boundary.len)
        return OK; /* nobody can find its parts: a leaf */
    if (boundary.len > BOUNDARY_MAX)
        return fail(err, ERROR_LIMIT, "a boundary has more than %d bytes", BOUNDARY_MAX);
    if (reading->level_count >= reading->limits->depth)
        return fail(err, ERROR_LIMIT, "its parts are nested more than %u deep",
                    reading->limits->depth);
    part->is_multipart = true;
    reading->levels[reading->level_count++] =
        (struct level){.part = reading->current, .boundary = boundary};
    reading->current = -1;
    return OK;
}

/* ---- lines ---- */

/* Which level's boundary is this line, from the inside out; -1: none. */
static int find_boundary(const struct reading *reading, bool *out_closes)
{
    struct str line = str_of(reading->line, reading->line_len);
    if (!str_starts(line, STR("--")))
        return -1;
    line = str_from(line, 2);
    for (unsigned i = reading->level_count; i > 0; i--) {
        struct str boundary = reading->levels[i - 1].boundary;
        if (!str_starts(line, boundary))
            continue;
        struct str rest = str_from(line, boundary.len);
        *out_closes = str_starts(rest, STR("--"));
        if (*out_closes)
            rest = str_from(rest, 2);
        if (str_trim(rest).len == 0 || *out_closes)
            return (int)(i - 1);
    }
    return -1;
}

/* Everything that is open up to the part `ancestor`, not it itself, ends at `end`. */
static void end_parts(struct reading *reading, long ancestor, uint64_t end)
{
    long part = reading->current;
    if (part < 0 && reading->level_count)
        part = reading->levels[reading->level_count - 1].part;
    while (part >= 0 && part != ancestor) {
        struct mime_part *one = &reading->out->parts[part];
        one->body_end = end > one->body_begin ? end : one->body_begin;
        part = one->parent;
    }
}

static enum result at_boundary(struct reading *reading, unsigned level, bool closes, uint64_t next,
                               struct error *err)
{
    long parent = reading->levels[level].part;
    if (reading->in_header) { /* it never ended: all of it is header */
        struct str header;
        if (take_header(reading, &header, err) != OK)
            return FAILED;
        struct mime_part *part = &reading->out->parts[reading->current];
        part->header = header;
        part->body_begin = part->body_end = reading->line_begin;
        describe(reading, part);
        reading->in_header = false;
    }
    end_parts(reading, parent, reading->last_end);
    if (reading->level_count > level + 1)
        reading->level_count = level + 1;
    reading->current = -1;
    if (closes) {
        reading->out->parts[parent].body_end = next;
        reading->level_count = level;
        return OK;
    }
    if (part_new(reading, parent, next, &reading->current, err) != OK)
        return FAILED;
    begin_header(reading);
    return OK;
}

static enum result end_part_header(struct reading *reading, uint64_t body, struct error *err)
{
    struct str header;
    return take_header(reading, &header, err) == OK ? end_header(reading, header, body, err)
                                                    : FAILED;
}

/* A line has ended; `next` is where the one behind it begins. */
static enum result end_line(struct reading *reading, uint64_t content_end, uint64_t next,
                            struct error *err)
{
    bool closes = false;
    int level = find_boundary(reading, &closes);
    enum result result = OK;
    if (level >= 0)
        result = at_boundary(reading, (unsigned)level, closes, next, err);
    else if (reading->in_header && content_end == reading->line_begin)
        result = end_part_header(reading, next, err);
    reading->line_len = 0;
    reading->line_begin = next;
    reading->last_end = content_end;
    return result;
}

static void keep(struct reading *reading, struct str text)
{
    size_t room = LINE_KEPT - reading->line_len;
    size_t now = text.len < room ? text.len : room;
    memcpy(reading->line + reading->line_len, text.ptr, now);
    reading->line_len += now;
    if (!reading->in_header)
        return;
    reading->header_is_cut |= reading->header.len + text.len > HEADER_MAX;
    if (!reading->header_is_cut)
        buf_append(&reading->header, text);
}

/* A piece of the body that begins at `offset`. */
static enum result take_piece(struct reading *reading, struct str piece, uint64_t offset,
                              struct error *err)
{
    while (piece.len) {
        const char *end = memchr(piece.ptr, '\n', piece.len);
        size_t len = end ? (size_t)(end - piece.ptr) + 1 : piece.len;
        struct str text = str_slice(piece, 0, len);
        keep(reading, text);
        if (end) {
            bool cr = len > 1 ? piece.ptr[len - 2] == '\r' : reading->last_was_cr;
            uint64_t next = offset + len;
            if (end_line(reading, next - 1 - cr, next, err) != OK)
                return FAILED;
        }
        reading->last_was_cr = piece.ptr[len - 1] == '\r';
        piece = str_from(piece, len);
        offset += len;
    }
    return OK;
}

static enum result read_body(struct reading *reading, struct error *err) MAY_YIELD
{
    const struct mime_source *source = &reading->out->source;
    uint64_t offset = 0;
    char *space = arena_alloc(reading->arena, PIECE);
    for (;;) {
        struct str piece;
        if (mail_content_read(source->content, source->header.len + offset, PIECE, space, &piece,
                              err) != OK ||
            take_piece(reading, piece, offset, err) != OK)
            return FAILED;
        if (!piece.len)
            break;
        offset += piece.len;
        if (fiber_current()) {
            fiber_yield();
            if (fiber_check(err) != OK)
                return FAILED;
        }
    }
    if (reading->in_header) {
        reading->line_begin = offset;
        if (end_part_header(reading, offset, err) != OK)
            return FAILED;
    } else if (reading->line_len && end_line(reading, offset, offset, err) != OK) {
        return FAILED;
    }
    end_parts(reading, -1, offset);
    for (unsigned i = 0; i < reading->level_count; i++)
        reading->out->parts[reading->levels[i].part].body_end = offset;
    return OK;
}

enum result mime_read(const struct mime_source *source, const struct mime_limits *limits,
                      struct arena *arena, struct mime_message *out, struct error *err)
{
    struct reading reading = {.limits = limits, .out = out, .arena = arena, .current = -1};
    uint64_t size = mail_content_size(source->content);
    long root;
    *out = (struct mime_message){.source = *source};
    buf_init(&reading.header, HEADER_MAX + LINE_KEPT);
    reading.levels = arena_alloc_array(arena, limits->depth + 1, sizeof *reading.levels);
    enum result result = part_new(&reading, -1, 0, &root, err);
    reading.current = root;
    if (result == OK)
        result = end_header(&reading, source->header, 0, err);
    bool has_parts = out->count && (out->parts[0].is_multipart || out->parts[0].is_message);
    if (result == OK && has_parts)
        result = read_body(&reading, err);
    else if (result == OK)
        out->parts[0].body_end = size > source->header.len ? size - source->header.len : 0;
    buf_done(&reading.header);
    return result;
}
