/* SPDX-License-Identifier: Apache-2.0 */
#include "content/author.h"

#include "base/buf.h"
#include "content/mime.h"
#include "mail/address.h"
#include "mail/header.h"

#include <string.h>

enum { VALUE_MAX = 65536, COMMENTS_MAX = 32, ADDRESS_MAX = 1024 };

/* One mailbox at a time: what stands in <>, else all that is neither comment nor blank. */
struct reader {
    struct str value;
    size_t at;
    struct arena *arena;
    struct author *out;
    struct buf bare;    /* outside <>, without comments and blanks */
    struct buf angle;   /* inside */
    unsigned addresses; /* of the whole field */
    bool in_angle;
    bool had_angle; /* in this mailbox */
    bool has_words; /* blanks stood between words outside <> */
};

static void blame(struct author *out, const char *problem)
{
    out->kind = AUTHOR_AMBIGUOUS;
    if (!out->problem)
        out->problem = problem;
}

static void add_domain(struct reader *reader, struct str domain)
{
    struct author *out = reader->out;
    struct str name;
    if (!mail_domain_normalize(reader->arena, domain, &name))
        return;
    for (size_t i = 0; i < out->domain_count; i++)
        if (str_equal(out->domains[i], name))
            return;
    if (out->domain_count == AUTHOR_DOMAINS_MAX) {
        out->cut = true;
        blame(out, "too many domains");
        return;
    }
    out->domains[out->domain_count++] = name;
}

/* ---- addresses ---- */

static bool is_domain_byte(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '.' || c == '-' || c == '_' ||
           (unsigned char)c > 127;
}

/* Behind the quoted string at `at`; quotes are copied as they stand. */
static size_t skip_quoted(struct str text, size_t at)
{
    for (at++; at < text.len; at++) {
        if (text.ptr[at] == '\\')
            at++;
        else if (text.ptr[at] == '"')
            return at + 1;
    }
    return text.len;
}

static void add_domains_of(struct reader *reader, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '@')
            continue;
        size_t end = i + 1;
        while (end < text.len && is_domain_byte(text.ptr[end]))
            end++;
        while (end > i + 1 && text.ptr[end - 1] == '.')
            end--;
        add_domain(reader, str_slice(text, i + 1, end));
    }
}

/* All runs of domain characters behind an @, for whoever reads it differently; some also decode
 * words (RFC 2047) where none may stand. */
static void add_every_domain(struct reader *reader, struct str text)
{
    add_domains_of(reader, text);
    if (str_find_str(text, STR("=?")) >= 0)
        add_domains_of(reader, mime_decode_words(text, reader->arena));
}

/* `text` has no comments and no blanks outside quotes. */
static void take_address(struct reader *reader, struct str text)
{
    struct str domain = STR_EMPTY, name;
    unsigned ats = 0, all_ats = 0;
    if (text.len == 0)
        return;
    reader->addresses++;
    for (size_t i = 0; i < text.len;) {
        if (text.ptr[i] == '"') {
            i = skip_quoted(text, i);
            continue;
        }
        if (text.ptr[i++] != '@')
            continue;
        ats++;
        domain = str_from(text, i);
    }
    for (size_t i = 0; i < text.len; i++)
        all_ats += text.ptr[i] == '@';
    if (all_ats > ats) { /* in quotes, which some overlook */
        blame(reader->out, "an @ in quotes");
        add_every_domain(reader, text);
    }
    bool clear = ats == 1 && mail_domain_normalize(reader->arena, domain, &name) &&
                 text.len > domain.len + 1;
    if (!clear) {
        blame(reader->out,
              ats == 1 ? "an address that is none" : "an address with no or several @");
        add_every_domain(reader, text);
        return;
    }
    add_domain(reader, domain);
    struct author *out = reader->out;
    if (out->address_count == AUTHOR_ADDRESSES_MAX) {
        blame(out, "too many addresses");
        return;
    }
    out->addresses[out->address_count] =
        arena_printf(reader->arena, "%.*s@%.*s",
                     STR_ARG(str_slice(text, 0, text.len - domain.len - 1)), STR_ARG(name));
    if (out->address_count++ == 0)
        out->address = out->addresses[0];
}

/* Its end is missing, where the domain is. */
static void find_overflow(struct reader *reader, const struct buf *address)
{
    if (!address->overflow)
        return;
    blame(reader->out, "an address too long");
    add_every_domain(reader, reader->value);
}

static void end_mailbox(struct reader *reader)
{
    struct str bare = buf_str(&reader->bare);
    if (reader->in_angle) {
        blame(reader->out, "a < without >");
        take_address(reader, buf_str(&reader->angle));
    }
    if (!reader->had_angle && bare.len) {
        if (reader->has_words)
            blame(reader->out, "words around an address without <>");
        take_address(reader, bare);
    }
    if (reader->had_angle && bare.len) /* stood behind <> */
        add_every_domain(reader, bare);
    find_overflow(reader, &reader->bare);
    find_overflow(reader, &reader->angle);
    buf_clear(&reader->bare);
    buf_clear(&reader->angle);
    reader->in_angle = reader->had_angle = reader->has_words = false;
}

/* ---- the syntax of a list of mailboxes ---- */

/* Behind the comment at reader->at; comments nest. */
static void skip_comment(struct reader *reader)
{
    unsigned depth = 0;
    for (; reader->at < reader->value.len; reader->at++) {
        char c = reader->value.ptr[reader->at];
        if (c == '\\')
            reader->at++;
        else if (c == '(' && ++depth > COMMENTS_MAX)
            break;
        else if (c == ')' && --depth == 0) {
            reader->at++;
            return;
        }
    }
    blame(reader->out, "a comment without end");
    add_every_domain(reader, reader->value);
    reader->at = reader->value.len;
}

static void take_quoted(struct reader *reader)
{
    size_t end = skip_quoted(reader->value, reader->at);
    struct str quoted = str_slice(reader->value, reader->at, end);
    if (quoted.len < 2 || quoted.ptr[quoted.len - 1] != '"') {
        blame(reader->out, "a quote without end");
        add_every_domain(reader, reader->value);
    }
    buf_append(reader->in_angle ? &reader->angle : &reader->bare, quoted);
    reader->at = end;
}

static void open_angle(struct reader *reader)
{
    if (reader->in_angle || reader->had_angle)
        blame(reader->out, "several <> in one mailbox");
    reader->in_angle = reader->had_angle = true;
    reader->has_words = false;
    reader->at++;
}

static void close_angle(struct reader *reader)
{
    if (!reader->in_angle)
        blame(reader->out, "a > without <");
    else if (reader->angle.len == 0)
        blame(reader->out, "<> without an address");
    take_address(reader, buf_str(&reader->angle));
    find_overflow(reader, &reader->angle);
    buf_clear(&reader->angle);
    buf_clear(&reader->bare);
    reader->in_angle = false;
    reader->at++;
}

/* Blanks mean nothing around . and @, and part words elsewhere. */
static void take_blanks(struct reader *reader)
{
    while (reader->at < reader->value.len &&
           str_find(STR(" \t\r\n"), reader->value.ptr[reader->at]) >= 0)
        reader->at++;
    struct str bare = buf_str(&reader->bare);
    if (reader->in_angle || bare.len == 0 || reader->at == reader->value.len)
        return;
    char before = bare.ptr[bare.len - 1], after = reader->value.ptr[reader->at];
    bool joined = str_find(STR(".@"), before) >= 0 || str_find(STR(".@(,;:<"), after) >= 0;
    reader->has_words = reader->has_words || !joined;
}

static void take_plain(struct reader *reader, char c)
{
    unsigned char byte = (unsigned char)c;
    if (byte < ' ' || byte == 127)
        blame(reader->out, "a control character");
    if (reader->had_angle && !reader->in_angle)
        blame(reader->out, "text behind <>");
    buf_append_byte(reader->in_angle ? &reader->angle : &reader->bare, c);
    reader->at++;
}

static void read_one(struct reader *reader)
{
    char c = reader->value.ptr[reader->at];
    switch (c) {
    case '(':
        if (reader->in_angle) {
            blame(reader->out, "a comment inside <>");
            add_every_domain(reader, reader->value);
        }
        skip_comment(reader);
        return;
    case '"':
        take_quoted(reader);
        return;
    case '<':
        open_angle(reader);
        return;
    case '>':
        close_angle(reader);
        return;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        take_blanks(reader);
        return;
    case ':': /* the name of a group stood before it */
        if (reader->in_angle)
            break;
        if (str_find(buf_str(&reader->bare), '@') >= 0) {
            blame(reader->out, "an address before a colon");
            add_every_domain(reader, buf_str(&reader->bare));
        }
        buf_clear(&reader->bare);
        reader->has_words = false;
        reader->at++;
        return;
    case ',':
    case ';':
        if (reader->in_angle)
            break;
        end_mailbox(reader);
        reader->at++;
        return;
    default:
        break;
    }
    take_plain(reader, c);
}

void author_read_value(struct str value, struct arena *arena, struct author *out)
{
    struct reader reader = {.value = str_slice(value, 0, VALUE_MAX), .arena = arena, .out = out};
    out->cut = out->cut || value.len > VALUE_MAX;
    if (value.len > VALUE_MAX)
        blame(out, "a From too long");
    buf_init(&reader.bare, ADDRESS_MAX);
    buf_init(&reader.angle, ADDRESS_MAX);
    while (reader.at < reader.value.len)
        read_one(&reader);
    end_mailbox(&reader);
    buf_done(&reader.bare);
    buf_done(&reader.angle);
    if (out->domain_count > 1)
        blame(out, "addresses in several domains");
}

void author_read(struct str header, struct arena *arena, struct author *out)
{
    struct mail_field field;
    struct str name, value;
    size_t fields = 0;
    *out = (struct author){.kind = AUTHOR_CLEAR, .address = STR_EMPTY};
    while (mail_header_next(&header, &field)) {
        if (!mail_field_loosely(&field, &name, &value) || !str_equal_nocase(name, STR("From")))
            continue;
        if (++fields > 1)
            blame(out, "several From fields");
        if (field.name.len == 0)
            blame(out, "a field that only some take for From");
        author_read_value(value, arena, out);
    }
    if (out->kind == AUTHOR_CLEAR && out->domain_count == 0)
        out->kind = AUTHOR_NONE;
}
