/* SPDX-License-Identifier: Apache-2.0 */
/* queue/cause.c - from words to patterns. */
#include "queue/cause.h"

#include "base/buf.h"

#include <string.h>

enum { PATTERN_MAX = 400, UNIT_MAX = 3, QUOTED_MAX = 120 };

static bool is_blank(char c)
{
    return (unsigned char)c <= ' ';
}

static bool is_separator(char c)
{
    return is_blank(c) || strchr("()<>[]{},;=\"'`|", c) != NULL;
}

static bool is_alnum(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

static bool is_hex(char c)
{
    char lower = ascii_lower(c);
    return ascii_is_digit(c) || (lower >= 'a' && lower <= 'f');
}

static size_t count_of(struct str word, char byte)
{
    size_t count = 0;
    for (size_t i = 0; i < word.len; i++)
        count += word.ptr[i] == byte;
    return count;
}

static bool has_digit(struct str word)
{
    for (size_t i = 0; i < word.len; i++)
        if (ascii_is_digit(word.ptr[i]))
            return true;
    return false;
}

/* "192.0.2.1", "192.0.2.1:25", "2001:db8::1"; near enough, nothing hangs on it. */
static bool is_ip(struct str word)
{
    bool hex = true, decimal = true;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        decimal &= ascii_is_digit(c) || c == '.' || c == ':';
        hex &= is_hex(c) || c == '.' || c == ':';
    }
    return (decimal && count_of(word, '.') == 3) || (hex && count_of(word, ':') >= 2);
}

/* "mx1.example.net", also with a port. */
static bool is_host(struct str word)
{
    ptrdiff_t port = str_find(word, ':');
    if (port > 0)
        word = str_slice(word, 0, (size_t)port);
    ptrdiff_t dot = str_find_last(word, '.');
    if (dot < 1 || word.len - (size_t)dot < 3)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        bool sound = i > (size_t)dot ? ascii_is_alpha(c) : is_alnum(c) || strchr(".-_", c) != NULL;
        if (!sound && i != (size_t)dot)
            return false;
    }
    return true;
}

/* "300", "5.7.1", "300s": a number, perhaps with a unit. */
static bool is_number(struct str word)
{
    size_t end = word.len;
    while (end > 0 && ascii_is_alpha(word.ptr[end - 1]))
        end--;
    if (word.len - end > UNIT_MAX || end == 0)
        return false;
    for (size_t i = 0; i < end; i++)
        if (ascii_is_alpha(word.ptr[i]))
            return false;
    return true;
}

static void put_word(struct buf *out, struct str word)
{
    if (str_starts_nocase(word, STR("http://")) || str_starts_nocase(word, STR("https://")))
        buf_append(out, STR("<url>"));
    else if (str_find(word, '@') >= 0)
        buf_append(out, STR("<address>"));
    else if (is_ip(word))
        buf_append(out, STR("<ip>"));
    else if (is_host(word))
        buf_append(out, STR("<host>"));
    else if (!has_digit(word))
        buf_append(out, word);
    else if (!is_number(word)) /* a queue id, a ticket, a user */
        buf_append(out, STR("<id>"));
    else
        for (size_t i = 0; i < word.len; i++) {
            if (!ascii_is_digit(word.ptr[i]))
                buf_append_byte(out, word.ptr[i]);
            else if (i == 0 || !ascii_is_digit(word.ptr[i - 1]))
                buf_append(out, STR("<n>"));
        }
}

/* The length of the quoted part that begins here, with its quotes; 0: there is none. An apostrophe
 * within a word is none. */
static size_t quoted_length(struct str text, size_t at)
{
    char quote = text.ptr[at];
    if ((quote != '"' && quote != '\'' && quote != '`') || (at > 0 && is_alnum(text.ptr[at - 1])))
        return 0;
    char closing = quote == '`' ? '\'' : quote;
    for (size_t i = at + 1; i < text.len && i - at < QUOTED_MAX; i++)
        if (text.ptr[i] == closing && (i + 1 == text.len || !is_alnum(text.ptr[i + 1])))
            return i + 1 - at;
    return 0;
}

/* Full stops and colons behind a word are not of it. */
static size_t word_length(struct str text, size_t at)
{
    size_t end = at;
    bool url = str_starts_nocase(str_from(text, at), STR("http"));
    while (end < text.len && (!is_separator(text.ptr[end]) || (url && text.ptr[end] == '=')))
        end++;
    while (end > at + 1 && strchr(".:!?", text.ptr[end - 1]) != NULL)
        end--;
    return end - at;
}

static void put_text(struct buf *out, struct str text)
{
    for (size_t at = 0; at < text.len;) {
        size_t quoted = quoted_length(text, at);
        if (quoted > 0) {
            buf_append(out, STR("<text>"));
            at += quoted;
        } else if (is_separator(text.ptr[at])) {
            bool blank = is_blank(text.ptr[at]);
            if (!blank)
                buf_append_byte(out, text.ptr[at]);
            else if (out->len > 0 && out->ptr[out->len - 1] != ' ')
                buf_append_byte(out, ' ');
            at++;
        } else {
            size_t length = word_length(text, at);
            put_word(out, str_slice(text, at, at + length));
            at += length;
        }
    }
}

/* FNV-1a over the lower case, six letters of it. */
static void name_it(struct str pattern, char *out)
{
    static const char letters[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < pattern.len; i++)
        hash = (hash ^ (unsigned char)ascii_lower(pattern.ptr[i])) * 0x100000001b3;
    hash ^= hash >> 32;
    out[0] = 'C';
    for (size_t i = 1; i < QUEUE_CAUSE_ID - 1; i++, hash >>= 5)
        out[i] = letters[hash & 31];
    out[QUEUE_CAUSE_ID - 1] = '\0';
}

void queue_cause_of(struct arena *arena, const struct mail_reply *reply, struct queue_cause *out)
{
    BUF_CLEANUP struct buf pattern;
    buf_init(&pattern, 4 * PATTERN_MAX);
    if (reply->code != 0)
        buf_printf(&pattern, "%u ", reply->code);
    if (reply->enhanced.class != 0)
        buf_printf(&pattern, "%u.%u.%u ", reply->enhanced.class, reply->enhanced.subject,
                   reply->enhanced.detail);
    put_text(&pattern, str_slice(reply->text, 0, PATTERN_MAX));
    out->pattern = arena_str(arena, str_trim(buf_str(&pattern)));
    name_it(out->pattern, out->id);
}
