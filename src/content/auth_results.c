/* SPDX-License-Identifier: Apache-2.0 */
#include "content/auth_results.h"

#include <string.h>

enum { VALUE_MAX = 512, LINE_AIM = 76, FIELD_MAX = 65536, COMMENTS_MAX = 16, NAME_MAX_LEN = 998 };

void auth_result_add(struct auth_result *result, const char *type, const char *name,
                     struct str value)
{
    if (result->property_count == AUTH_PROPERTIES_MAX || value.len == 0)
        return;
    result->properties[result->property_count++] =
        (struct auth_property){str_c(type), str_c(name), value};
}

/* ---- writing ---- */

/* token of RFC 2045 5.1; @ is not special where an address may stand */
static bool is_token_byte(char c)
{
    return c > ' ' && c < 127 && str_find(STR("()<>,;:\\\"/[]?="), c) < 0;
}

static bool is_token(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_token_byte(text.ptr[i]))
            return false;
    return text.len > 0;
}

/* A token as it is, else in quotes; bytes that no header may hold become "?". UTF-8 stays out: it
 * would need SMTPUTF8 all the way. */
static void append_value(struct buf *out, struct str value)
{
    value = str_slice(value, 0, VALUE_MAX);
    if (is_token(value)) {
        buf_append(out, value);
        return;
    }
    buf_append_byte(out, '"');
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '"' || c == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, c >= ' ' && c < 127 ? c : '?');
    }
    buf_append_byte(out, '"');
}

static void append_comment(struct buf *out, struct str text)
{
    buf_append_byte(out, '(');
    for (size_t i = 0; i < text.len && i < VALUE_MAX; i++) {
        char c = text.ptr[i];
        if (c == '(' || c == ')' || c == '\\')
            buf_append_byte(out, '\\');
        buf_append_byte(out, c >= ' ' && c < 127 ? c : '?');
    }
    buf_append_byte(out, ')');
}

/* Pieces of a field are folded between one another, so that lines stay short. */
struct folder {
    struct buf *out;
    size_t column;
};

static void append_piece(struct folder *folder, const struct buf *piece)
{
    if (folder->column + 1 + piece->len > LINE_AIM && folder->column > 8) {
        buf_append(folder->out, STR("\r\n\t"));
        folder->column = 8;
    } else {
        buf_append_byte(folder->out, ' ');
        folder->column++;
    }
    buf_append(folder->out, buf_str(piece));
    folder->column += piece->len;
}

static void write_result(struct folder *folder, const struct auth_result *result, struct buf *piece)
{
    buf_append(folder->out, STR(";\r\n\t"));
    folder->column = 8;
    buf_printf(folder->out, "%.*s=%.*s", STR_ARG(result->method), STR_ARG(result->result));
    folder->column += result->method.len + 1 + result->result.len;
    if (result->comment.len) {
        buf_clear(piece);
        append_comment(piece, result->comment);
        append_piece(folder, piece);
    }
    if (result->reason.len) {
        buf_clear(piece);
        buf_append(piece, STR("reason="));
        append_value(piece, result->reason);
        append_piece(folder, piece);
    }
    for (size_t i = 0; i < result->property_count; i++) {
        const struct auth_property *property = &result->properties[i];
        buf_clear(piece);
        buf_printf(piece, "%.*s.%.*s=", STR_ARG(property->type), STR_ARG(property->name));
        append_value(piece, property->value);
        append_piece(folder, piece);
    }
}

void auth_results_write(struct buf *out, const struct auth_results *results)
{
    struct buf piece BUF_CLEANUP = {0};
    struct folder folder = {.out = out};
    buf_init(&piece, 4 * VALUE_MAX);
    buf_append(out, STR("Authentication-Results: "));
    append_value(out, results->authserv_id);
    for (size_t i = 0; i < results->count; i++)
        write_result(&folder, &results->results[i], &piece);
    if (results->count == 0)
        buf_append(out, STR("; none"));
    buf_append(out, STR("\r\n"));
}

/* ---- reading ---- */

struct reader {
    struct str text;
    size_t at;
};

static bool skip_comment(struct reader *reader)
{
    unsigned depth = 0;
    for (; reader->at < reader->text.len; reader->at++) {
        char c = reader->text.ptr[reader->at];
        if (c == '\\')
            reader->at++;
        else if (c == '(' && ++depth > COMMENTS_MAX)
            return false;
        else if (c == ')' && --depth == 0) {
            reader->at++;
            return true;
        }
    }
    return false;
}

/* Blanks, folds and comments; false for a comment without end. */
static bool skip_cfws(struct reader *reader)
{
    while (reader->at < reader->text.len) {
        char c = reader->text.ptr[reader->at];
        if (c == '(') {
            if (!skip_comment(reader))
                return false;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            reader->at++;
        } else {
            break;
        }
    }
    return true;
}

static bool at_byte(const struct reader *reader, char byte)
{
    return reader->at < reader->text.len && reader->text.ptr[reader->at] == byte;
}

static bool take_byte(struct reader *reader, char byte)
{
    if (!skip_cfws(reader) || !at_byte(reader, byte))
        return false;
    reader->at++;
    return skip_cfws(reader);
}

/* Letters, digits and hyphens (RFC 5321 Keyword), for methods, results, ptypes. */
static bool take_keyword(struct reader *reader, struct str *out)
{
    size_t begin = reader->at;
    while (reader->at < reader->text.len) {
        char c = reader->text.ptr[reader->at];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-' && c != '_')
            break;
        reader->at++;
    }
    *out = str_slice(reader->text, begin, reader->at);
    return out->len > 0;
}

static bool take_quoted(struct reader *reader, struct arena *arena, struct str *out)
{
    char *text = arena_alloc(arena, reader->text.len - reader->at);
    size_t len = 0;
    for (reader->at++; reader->at < reader->text.len; reader->at++) {
        char c = reader->text.ptr[reader->at];
        if (c == '"') {
            reader->at++;
            *out = str_of(text, len);
            return true;
        }
        if (c == '\\' && ++reader->at < reader->text.len)
            c = reader->text.ptr[reader->at];
        if (c != '\r' && c != '\n')
            text[len++] = c;
    }
    return false;
}

/* A token, an address, or a quoted string, or both as in "a b"@example.net. Slashes, colons and
 * brackets are taken too, for addresses of IPv6 and media types stand there unquoted in the wild.
 */
static bool take_value(struct reader *reader, struct arena *arena, struct str *out)
{
    struct str quoted = STR_EMPTY;
    if (at_byte(reader, '"')) {
        if (!take_quoted(reader, arena, &quoted))
            return false;
        *out = quoted;
        if (!at_byte(reader, '@'))
            return true;
    }
    size_t begin = reader->at;
    while (reader->at < reader->text.len) {
        char c = reader->text.ptr[reader->at];
        if (c <= ' ' || c == 127 || str_find(STR("();\"\\"), c) >= 0)
            break;
        reader->at++;
    }
    struct str rest = str_slice(reader->text, begin, reader->at);
    *out = quoted.len ? arena_printf(arena, "%.*s%.*s", STR_ARG(quoted), STR_ARG(rest)) : rest;
    return out->len > 0;
}

static bool take_property(struct reader *reader, struct arena *arena, struct auth_result *out)
{
    struct auth_property property;
    struct str word;
    if (!take_keyword(reader, &word))
        return false;
    if (str_equal_nocase(word, STR("reason")) && skip_cfws(reader) && at_byte(reader, '='))
        return take_byte(reader, '=') && take_value(reader, arena, &out->reason) &&
               skip_cfws(reader);
    property.type = word;
    if (!take_byte(reader, '.') || !take_keyword(reader, &property.name) ||
        !take_byte(reader, '=') || !take_value(reader, arena, &property.value) ||
        !skip_cfws(reader))
        return false;
    if (out->property_count == AUTH_PROPERTIES_MAX)
        return false;
    out->properties[out->property_count++] = property;
    return true;
}

/* A version behind a name, as in "dkim/1". */
static bool skip_version(struct reader *reader)
{
    struct str ignored;
    return !at_byte(reader, '/') ||
           (take_byte(reader, '/') && take_keyword(reader, &ignored) && skip_cfws(reader));
}

static bool take_result(struct reader *reader, struct arena *arena, struct auth_results *out)
{
    if (out->count == AUTH_RESULTS_MAX)
        return false;
    struct auth_result *result = &out->results[out->count];
    *result = (struct auth_result){.reason = STR_EMPTY, .comment = STR_EMPTY};
    if (!take_keyword(reader, &result->method) || !skip_cfws(reader) || !skip_version(reader) ||
        !take_byte(reader, '=') || !take_keyword(reader, &result->result) || !skip_cfws(reader))
        return false;
    while (reader->at < reader->text.len && !at_byte(reader, ';'))
        if (!take_property(reader, arena, result))
            return false;
    out->count++;
    return true;
}

static bool take_none(struct reader *reader)
{
    struct reader ahead = *reader;
    struct str word;
    if (!take_keyword(&ahead, &word) || !str_equal_nocase(word, STR("none")) ||
        !skip_cfws(&ahead) || ahead.at < ahead.text.len)
        return false;
    *reader = ahead;
    return true;
}

/* "authserv-id [version]" */
static bool take_id(struct reader *reader, struct arena *arena, struct auth_results *out)
{
    struct str version;
    uint64_t number;
    if (!skip_cfws(reader) || !take_value(reader, arena, &out->authserv_id) || !skip_cfws(reader))
        return false;
    ptrdiff_t slash = str_find(out->authserv_id, '/'); /* "name/1" is a name with its version */
    if (slash > 0)
        out->authserv_id.len = (size_t)slash;
    if (reader->at == reader->text.len || at_byte(reader, ';'))
        return true;
    return take_keyword(reader, &version) && str_to_uint(version, 1000, &number) &&
           skip_cfws(reader);
}

bool auth_results_parse(struct str value, struct arena *arena, struct auth_results *out)
{
    struct reader reader = {.text = str_slice(value, 0, FIELD_MAX)};
    *out = (struct auth_results){.authserv_id = STR_EMPTY};
    if (value.len > FIELD_MAX || !take_id(&reader, arena, out))
        return false;
    while (reader.at < reader.text.len) {
        if (!take_byte(&reader, ';'))
            return false;
        if (reader.at == reader.text.len || (out->count == 0 && take_none(&reader)))
            break; /* a final semicolon is common */
        if (!take_result(&reader, arena, out))
            return false;
    }
    return reader.at == reader.text.len;
}

/* ---- forgeries ---- */

static bool has_word_nocase(struct str text, struct str word)
{
    for (size_t i = 0; i + word.len <= text.len; i++)
        if (str_equal_nocase(str_slice(text, i, i + word.len), word))
            return true;
    return false;
}

bool auth_results_is_ours(struct str value, struct str authserv_id)
{
    struct arena *arena = arena_new(0);
    struct auth_results *results = ARENA_NEW(arena, struct auth_results);
    bool readable = auth_results_parse(value, arena, results);
    struct str id = results->authserv_id;
    if (str_ends(id, STR(".")))
        id.len--;
    bool ours = str_equal_nocase(id, authserv_id) ||
                (!readable && authserv_id.len && has_word_nocase(value, authserv_id));
    arena_free(arena);
    return ours;
}

/* ---- Received-SPF ---- */

static void append_pair(struct folder *folder, const char *key, struct str value, bool last)
{
    struct buf piece BUF_CLEANUP = {0};
    buf_init(&piece, 4 * VALUE_MAX);
    buf_printf(&piece, "%s=", key);
    append_value(&piece, value);
    if (!last)
        buf_append_byte(&piece, ';');
    append_piece(folder, &piece);
}

void auth_results_write_received_spf(struct buf *out, const struct spf_outcome *outcome,
                                     const struct spf_request *request)
{
    char ip[NET_IP_TEXT];
    struct folder folder = {.out = out};
    const char *result = spf_result_name(outcome->result);
    buf_printf(out, "Received-SPF: %s", result);
    folder.column = 14 + strlen(result);
    append_pair(&folder, "receiver", request->receiver, false);
    append_pair(&folder, "client-ip", net_ip_format(&request->client, ip), false);
    append_pair(&folder, "envelope-from", request->sender, false);
    append_pair(&folder, "helo", request->helo, false);
    if (outcome->mechanism.len)
        append_pair(&folder, "mechanism", outcome->mechanism, false);
    if (outcome->problem.len)
        append_pair(&folder, "problem", outcome->problem, false);
    append_pair(&folder, "identity", outcome->is_helo ? STR("helo") : STR("mailfrom"), true);
    buf_append(out, STR("\r\n"));
}
