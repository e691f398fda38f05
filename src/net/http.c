/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http.h"

#include "base/clock.h"

enum { READ_MAX = 64 * 1024, HEAD_MAX = 16 * 1024, CHUNK_DIGITS = 8, PATIENCE_MS = 1000 };

/* ---- the request ---- */

/* Behind the host of "http://host:port/path?query". */
static struct str path_of(struct str url)
{
    ptrdiff_t mark = str_find_str(url, STR("://"));
    struct str rest = mark < 0 ? STR_EMPTY : str_from(url, (size_t)mark + 3);
    ptrdiff_t slash = str_find(rest, '/');
    return slash < 0 ? STR("/") : str_from(rest, (size_t)slash);
}

static struct str host_of(struct str url)
{
    ptrdiff_t mark = str_find_str(url, STR("://"));
    struct str rest = mark < 0 ? STR_EMPTY : str_from(url, (size_t)mark + 3);
    ptrdiff_t slash = str_find(rest, '/');
    return slash < 0 ? rest : str_slice(rest, 0, (size_t)slash);
}

void http_write_request(struct str method, const struct server_endpoint *endpoint,
                        struct str target, struct buf *out)
{
    buf_append(out, method);
    buf_append_byte(out, ' ');
    buf_append(out, target.len ? target : path_of(endpoint->url));
    buf_append(out, STR(" HTTP/1.1\r\n"));
    http_write_field(out, "Host", host_of(endpoint->url));
    buf_append(out, STR("Connection: close\r\n"));
}

void http_write_field(struct buf *out, const char *name, struct str value)
{
    if (!value.len)
        return;
    buf_printf(out, "%s: ", name);
    for (size_t i = 0; i < value.len; i++)
        buf_append_byte(out, (unsigned char)value.ptr[i] < ' ' ? '?' : value.ptr[i]);
    buf_append(out, STR("\r\n"));
}

/* ---- the head of an answer ---- */

static bool next_line(struct str *rest, struct str *out_line)
{
    ptrdiff_t end = str_find(*rest, '\n');
    if (end < 0)
        return false;
    *out_line = str_slice(*rest, 0, (size_t)end);
    *rest = str_from(*rest, (size_t)end + 1);
    if (str_ends(*out_line, STR("\r")))
        out_line->len--;
    return true;
}

struct head {
    struct http_answer answer;
    bool has_length, chunked;
    uint64_t length;
    struct str rest; /* behind the empty line */
};

static bool is_named(struct str line, const char *name, struct str *out_value)
{
    ptrdiff_t colon = str_find(line, ':');
    if (colon < 0 || !str_equal_nocase(str_slice(line, 0, (size_t)colon), str_c(name)))
        return false;
    *out_value = str_trim(str_from(line, (size_t)colon + 1));
    return true;
}

static enum result read_field(struct str line, struct head *head, struct error *err)
{
    struct str value;
    uint64_t length;
    if (is_named(line, "Content-Type", &value))
        head->answer.type = value;
    if (is_named(line, "Transfer-Encoding", &value)) {
        if (!str_equal_nocase(value, STR("chunked")))
            return fail(err, ERROR_PROTOCOL, "the answer comes in a form that was not asked for");
        head->chunked = true;
    }
    if (!is_named(line, "Content-Length", &value))
        return OK;
    if (!str_to_uint(value, INT64_MAX, &length) || (head->has_length && length != head->length))
        return fail(err, ERROR_PROTOCOL, "the answer does not say how long it is");
    head->has_length = true;
    head->length = length;
    return OK;
}

/* *out_whole false: its end is not there. */
static enum result read_one_head(struct str text, struct head *head, bool *out_whole,
                                 struct error *err)
{
    struct str line;
    uint64_t status;
    *head = (struct head){.answer = {.reason = STR_EMPTY, .type = STR_EMPTY, .body = STR_EMPTY}};
    *out_whole = false;
    if (!next_line(&text, &line))
        return OK;
    if (!str_starts(line, STR("HTTP/1.")) || line.len < 12 || line.ptr[8] != ' ' ||
        !str_to_uint(str_slice(line, 9, 12), 599, &status) || status < 100)
        return fail(err, ERROR_PROTOCOL, "the answer is not HTTP");
    head->answer.status = (unsigned)status;
    head->answer.reason = str_slice(line, 9, 100);
    head->answer.fields = str_slice(text, 0, 0);
    while (next_line(&text, &line)) {
        if (line.len == 0) {
            *out_whole = true;
            head->rest = text;
            head->answer.fields.len = (size_t)(line.ptr - head->answer.fields.ptr);
            return OK;
        }
        if (read_field(line, head, err) != OK)
            return FAILED;
    }
    return OK;
}

/* That of the answer: interim ones before it (RFC 9110 15.2) say nothing. */
static enum result read_head(struct str text, struct head *head, bool *out_whole, struct error *err)
{
    do {
        if (read_one_head(text, head, out_whole, err) != OK)
            return FAILED;
        text = head->rest;
    } while (*out_whole && head->answer.status < 200);
    return OK;
}

/* ---- chunks (RFC 9112 7.1) ---- */

static bool read_size(struct str line, uint64_t *out)
{
    size_t digits = 0;
    *out = 0;
    for (; digits < line.len; digits++) {
        char c = ascii_lower(line.ptr[digits]);
        bool is_letter = c >= 'a' && c <= 'f';
        if (!ascii_is_digit(c) && !is_letter)
            break;
        if (digits >= CHUNK_DIGITS)
            return false;
        *out = *out * 16 + (uint64_t)(is_letter ? c - 'a' + 10 : c - '0');
    }
    struct str extension = str_trim(str_from(line, digits));
    return digits > 0 && (extension.len == 0 || extension.ptr[0] == ';');
}

static enum result join_chunks(struct str rest, struct arena *arena, struct str *out,
                               struct error *err)
{
    struct buf body BUF_CLEANUP;
    struct str line;
    uint64_t size;
    buf_init(&body, rest.len + 1);
    for (;;) {
        if (!next_line(&rest, &line) || !read_size(line, &size))
            return fail(err, ERROR_PROTOCOL, "the answer's chunks are broken, or cut off");
        if (size == 0)
            break;
        if (size + 1 >= rest.len)
            return fail(err, ERROR_PROTOCOL, "the answer is cut off");
        buf_append(&body, str_slice(rest, 0, (size_t)size));
        rest = str_from(rest, (size_t)size);
        if (!next_line(&rest, &line) || line.len)
            return fail(err, ERROR_PROTOCOL, "the answer's chunks are broken");
    }
    *out = arena_str(arena, buf_str(&body));
    return OK;
}

enum result http_read_answer(struct str text, struct arena *arena, struct http_answer *out,
                             struct error *err)
{
    struct head head;
    bool whole;
    if (read_head(text, &head, &whole, err) != OK)
        return FAILED;
    if (head.answer.status == 0)
        return fail(err, ERROR_PROTOCOL, "the answer is not HTTP");
    if (!whole)
        return fail(err, ERROR_PROTOCOL, "the answer is cut off in its head");
    if (head.chunked && head.has_length)
        return fail(err, ERROR_PROTOCOL, "the answer has two lengths");
    head.answer.body = head.rest;
    if (head.chunked && join_chunks(head.rest, arena, &head.answer.body, err) != OK)
        return FAILED;
    if (head.has_length && head.rest.len < head.length)
        return fail(err, ERROR_PROTOCOL, "the answer is cut off");
    if (head.has_length)
        head.answer.body.len = (size_t)head.length;
    *out = head.answer;
    return OK;
}

/* Chunks as far as they are there. */
static struct str join_first_chunks(struct str rest, struct arena *arena)
{
    struct buf body BUF_CLEANUP;
    struct str line;
    uint64_t size;
    buf_init(&body, rest.len + 1);
    while (next_line(&rest, &line) && read_size(line, &size) && size) {
        struct str piece = str_slice(rest, 0, size < rest.len ? (size_t)size : rest.len);
        buf_append(&body, piece);
        rest = str_from(rest, piece.len);
        if (!next_line(&rest, &line) || line.len)
            break;
    }
    return arena_str(arena, buf_str(&body));
}

enum result http_read_beginning(struct str text, struct arena *arena, struct http_answer *out,
                                struct error *err)
{
    struct head head;
    bool whole;
    if (read_head(text, &head, &whole, err) != OK)
        return FAILED;
    if (!whole)
        return fail(err, ERROR_PROTOCOL, "the answer is cut off in its head");
    head.answer.body = head.chunked ? join_first_chunks(head.rest, arena) : head.rest;
    if (head.has_length && head.answer.body.len > head.length)
        head.answer.body.len = (size_t)head.length;
    *out = head.answer;
    return OK;
}

struct str http_field(const struct http_answer *answer, const char *name)
{
    struct str rest = answer->fields, line, value;
    while (next_line(&rest, &line))
        if (is_named(line, name, &value))
            return value;
    return STR_EMPTY;
}

/* ---- from the wire ---- */

struct expected {
    bool known;  /* the head is there */
    size_t size; /* of all of it; SIZE_MAX: until the peer ends */
};

static enum result expect(struct str text, struct expected *expected, struct error *err)
{
    struct head head;
    if (read_head(str_slice(text, 0, HEAD_MAX), &head, &expected->known, err) != OK)
        return FAILED;
    if (!expected->known)
        return text.len < HEAD_MAX ? OK
                                   : fail(err, ERROR_PROTOCOL, "the answer's head does not end");
    size_t length = (size_t)(head.rest.ptr - text.ptr);
    expected->size = SIZE_MAX;
    if (head.answer.status == 204)
        expected->size = length;
    else if (head.has_length && head.length < SIZE_MAX - length)
        expected->size = length + (size_t)head.length;
    return OK;
}

enum result http_receive(struct stream *stream, size_t max, struct arena *arena, struct str *out,
                         struct error *err)
{
    struct buf text BUF_CLEANUP;
    struct expected expected = {.size = SIZE_MAX};
    bool end = false;
    buf_init(&text, max);
    while (!end && text.len < expected.size) {
        if (stream_fill(stream, READ_MAX, &end, err) != OK)
            return FAILED;
        struct str piece = stream_buffered(stream);
        buf_append(&text, piece);
        stream_consume(stream, piece.len);
        if (text.overflow)
            return fail(err, ERROR_PROTOCOL, "the answer is longer than %zu bytes", max);
        if (!expected.known && expect(buf_str(&text), &expected, err) != OK)
            return FAILED;
    }
    *out = arena_str(arena, buf_str(&text));
    return OK;
}

/* One piece more; what does not fit into `text` is left. */
static enum result receive_piece(struct stream *stream, struct buf *text, bool *out_end,
                                 struct error *err) MAY_YIELD
{
    if (stream_fill(stream, READ_MAX, out_end, err) != OK)
        return FAILED;
    struct str piece = stream_buffered(stream);
    buf_append(text, str_slice(piece, 0, text->max - text->len));
    stream_consume(stream, piece.len);
    return OK;
}

/* Of the body, what comes within the time that a good service needs for it. */
static void receive_some(struct stream *stream, struct buf *text, size_t size) MAY_YIELD
{
    bool end = false;
    struct scope scope;
    scope_open(&scope, clock_deadline(PATIENCE_MS * NS_PER_MS));
    while (!end && text->len < size && text->len < text->max)
        end = str_ends(buf_str(text), STR("\r\n0\r\n\r\n")) || /* the last chunk */
              receive_piece(stream, text, &end, NULL) != OK || end;
    scope_close(&scope);
}

enum result http_receive_beginning(struct stream *stream, size_t max, struct arena *arena,
                                   struct http_answer *out, struct error *err)
{
    struct buf text BUF_CLEANUP;
    struct expected expected = {.size = SIZE_MAX};
    bool end = false;
    buf_init(&text, max < HEAD_MAX ? HEAD_MAX : max);
    while (!end && !expected.known) {
        if (receive_piece(stream, &text, &end, err) != OK ||
            expect(buf_str(&text), &expected, err) != OK)
            return FAILED;
    }
    if (!end)
        receive_some(stream, &text, expected.size);
    struct str copy = arena_str(arena, buf_str(&text));
    return http_read_beginning(copy, arena, out, err);
}

/* ---- JSON ---- */

static bool is_shallow(struct str text)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']') && depth)
            depth--;
        if (depth > HTTP_JSON_DEPTH)
            return false;
    }
    return true;
}

enum result http_read_json(struct str text, json_t **out, struct error *err)
{
    json_error_t where;
    /* the library goes down with every level, on a stack that is not its own */
    if (!is_shallow(text))
        return fail(err, ERROR_PROTOCOL, "the answer is nested more than %d deep", HTTP_JSON_DEPTH);
    *out = json_loadb(text.ptr, text.len, 0, &where);
    if (!*out)
        return fail(err, ERROR_PROTOCOL, "the answer is not JSON: %s", where.text);
    return OK;
}
