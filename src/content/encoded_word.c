/* SPDX-License-Identifier: Apache-2.0 */
#include "content/encoded_word.h"

#include "base/buf.h"
#include "crypto/base64.h"

enum { TEXT_MAX = 2000 };

enum charset { CHARSET_UTF8, CHARSET_LATIN };

struct word {
    struct str charset, encoding, payload;
    size_t length; /* of all of it */
};

/* "=?charset?encoding?payload?=" at the beginning of `text` (RFC 2047 2). */
static bool word_begins(struct str text, struct word *out)
{
    struct str rest = text;
    if (!str_starts(text, STR("=?")))
        return false;
    rest = str_from(rest, 2);
    struct str part[3];
    for (size_t i = 0; i < 3; i++) {
        ptrdiff_t end = str_find(rest, '?');
        if (end < 0)
            return false;
        part[i] = str_slice(rest, 0, (size_t)end);
        rest = str_from(rest, (size_t)end + 1);
    }
    if (!str_starts(rest, STR("=")) || part[0].len == 0 || str_find(part[0], ' ') >= 0 ||
        str_find(part[2], ' ') >= 0)
        return false;
    ptrdiff_t language = str_find(part[0], '*'); /* RFC 2231 5 */
    out->charset = language >= 0 ? str_slice(part[0], 0, (size_t)language) : part[0];
    out->encoding = part[1];
    out->payload = part[2];
    out->length = 2 + part[0].len + 1 + part[1].len + 1 + part[2].len + 2;
    return true;
}

static bool find_charset(struct str name, enum charset *out)
{
    static const struct {
        const char *name;
        enum charset charset;
    } known[] = {
        {"utf-8", CHARSET_UTF8},         {"us-ascii", CHARSET_UTF8},
        {"iso-8859-1", CHARSET_LATIN},   {"iso-8859-15", CHARSET_LATIN},
        {"windows-1252", CHARSET_LATIN},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (str_equal_nocase(name, str_c(known[i].name))) {
            *out = known[i].charset;
            return true;
        }
    }
    return false;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static bool decode_q(struct str payload, struct buf *out)
{
    for (size_t i = 0; i < payload.len; i++) {
        char c = payload.ptr[i];
        if (c == '=') {
            int high = i + 1 < payload.len ? hex_digit(payload.ptr[i + 1]) : -1;
            int low = i + 2 < payload.len ? hex_digit(payload.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        buf_append_byte(out, c);
    }
    return true;
}

/* Where the three differ (the euro sign, dashes and quotes) the letter is not worth a table. */
static void append_latin(struct str bytes, struct buf *out)
{
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];
        if (c < 128) {
            buf_append_byte(out, (char)c);
        } else if (c < 160) {
            buf_append_byte(out, '?');
        } else {
            buf_append_byte(out, (char)(0xc0 | c >> 6));
            buf_append_byte(out, (char)(0x80 | (c & 63)));
        }
    }
}

static bool append_word(const struct word *word, struct buf *out)
{
    enum charset charset;
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, TEXT_MAX);
    if (!find_charset(word->charset, &charset))
        return false;
    if (!(str_equal_nocase(word->encoding, STR("q"))   ? decode_q(word->payload, &bytes)
          : str_equal_nocase(word->encoding, STR("b")) ? base64_decode(word->payload, &bytes)
                                                       : false))
        return false;
    if (charset == CHARSET_LATIN)
        append_latin(buf_str(&bytes), out);
    else
        buf_append(out, buf_str(&bytes));
    return true;
}

static size_t blanks_at(struct str text)
{
    size_t count = 0;
    while (count < text.len && (text.ptr[count] == ' ' || text.ptr[count] == '\t'))
        count++;
    return count;
}

static struct str cut(struct str text, size_t most)
{
    if (text.len <= most)
        return text;
    while (most && ((unsigned char)text.ptr[most] & 0xc0) == 0x80)
        most--;
    return str_slice(text, 0, most);
}

struct str encoded_word_text(struct arena *arena, struct str text, size_t most)
{
    struct buf out BUF_CLEANUP;
    struct word word;
    buf_init(&out, 3 * TEXT_MAX);
    text = str_slice(text, 0, text.len < TEXT_MAX ? text.len : TEXT_MAX);
    while (text.len) {
        if (!word_begins(text, &word) || !append_word(&word, &out)) {
            buf_append_byte(&out, text.ptr[0]);
            text = str_from(text, 1);
            continue;
        }
        text = str_from(text, word.length);
        size_t blanks = blanks_at(text); /* between two words they are nothing (RFC 2047 6.2) */
        if (blanks && word_begins(str_from(text, blanks), &word))
            text = str_from(text, blanks);
    }
    for (size_t i = 0; i < out.len; i++) {
        unsigned char c = (unsigned char)out.ptr[i];
        if (c < 32 || c == 127)
            out.ptr[i] = ' ';
    }
    return arena_str(arena, str_trim(cut(buf_str(&out), most)));
}
