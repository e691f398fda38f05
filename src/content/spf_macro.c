/* SPDX-License-Identifier: Apache-2.0 */
#include "content/spf_macro.h"

#include "base/check.h"

enum { PARTS_MAX = 256, NUMBER_MAX = 1000 };

struct macro {
    char letter; /* lower case; 0: one of %% %_ %- */
    char literal;
    bool escape; /* the letter stood in upper case */
    bool reverse;
    unsigned keep; /* 0: all parts */
    struct str delimiters;
};

/* ---- reading ---- */

static bool is_letter(char letter, enum spf_macro_use use)
{
    return str_find(STR("slodipvh"), letter) >= 0 ||
           (use == SPF_MACRO_TEXT && str_find(STR("crt"), letter) >= 0);
}

/* The digits of a transformer; "0" alone is none (7.1: at least one part). */
static bool read_keep(struct str text, size_t *at, struct macro *out)
{
    size_t begin = *at;
    while (*at < text.len && ascii_is_digit(text.ptr[*at])) {
        out->keep = out->keep * 10 + (unsigned)(text.ptr[*at] - '0');
        if (out->keep > NUMBER_MAX)
            out->keep = NUMBER_MAX;
        ++*at;
    }
    return *at == begin || out->keep > 0;
}

static bool read_braces(struct str text, size_t *at, enum spf_macro_use use, struct macro *out)
{
    if (*at >= text.len || !is_letter(ascii_lower(text.ptr[*at]), use))
        return false;
    char letter = text.ptr[(*at)++];
    out->letter = ascii_lower(letter);
    out->escape = letter != out->letter;
    if (!read_keep(text, at, out))
        return false;
    if (*at < text.len && ascii_lower(text.ptr[*at]) == 'r') {
        out->reverse = true;
        ++*at;
    }
    size_t begin = *at;
    while (*at < text.len && str_find(STR(".-+,/_="), text.ptr[*at]) >= 0)
        ++*at;
    out->delimiters = str_slice(text, begin, *at);
    if (*at >= text.len || text.ptr[*at] != '}')
        return false;
    ++*at;
    return true;
}

/* The macro behind the % at `*at`, which moves behind it. */
static bool read_macro(struct str text, size_t *at, enum spf_macro_use use, struct macro *out)
{
    *out = (struct macro){0};
    ++*at;
    if (*at >= text.len)
        return false;
    char kind = text.ptr[(*at)++];
    if (kind == '{')
        return read_braces(text, at, use, out);
    out->literal = kind;
    return kind == '%' || kind == '_' || kind == '-';
}

/* Valid? *out_literal is where the literal text behind the last macro begins. */
static bool scan(struct str text, enum spf_macro_use use, size_t *out_literal)
{
    size_t at = 0;
    struct macro macro;
    *out_literal = 0;
    while (at < text.len) {
        unsigned char byte = (unsigned char)text.ptr[at];
        if (byte == '%') {
            if (!read_macro(text, &at, use, &macro))
                return false;
            *out_literal = at;
            continue;
        }
        if (byte > 0x7e || byte < (use == SPF_MACRO_TEXT ? ' ' : '!'))
            return false;
        at++;
    }
    return true;
}

bool spf_macro_is_valid(struct str text, enum spf_macro_use use)
{
    size_t literal;
    return scan(text, use, &literal);
}

/* toplabel: letters, digits and inner hyphens, not digits only */
static bool is_toplabel(struct str label)
{
    bool digits_only = true;
    if (label.len == 0 || label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++) {
        char c = label.ptr[i];
        if (!ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-')
            return false;
        digits_only = digits_only && ascii_is_digit(c);
    }
    return !digits_only;
}

bool spf_macro_is_domain_spec(struct str text)
{
    size_t literal;
    if (text.len == 0 || !scan(text, SPF_MACRO_NAME, &literal))
        return false;
    if (literal == text.len)
        return true;
    struct str end = str_from(text, literal);
    if (str_ends(end, STR(".")))
        end.len--;
    ptrdiff_t dot = str_find_last(end, '.');
    return dot >= 0 && is_toplabel(str_from(end, (size_t)dot + 1));
}

bool spf_macro_uses(struct str text, char letter)
{
    size_t at = 0;
    struct macro macro;
    while (at < text.len) {
        if (text.ptr[at] != '%') {
            at++;
            continue;
        }
        if (!read_macro(text, &at, SPF_MACRO_TEXT, &macro))
            return false;
        if (macro.letter == letter)
            return true;
    }
    return false;
}

/* ---- expanding ---- */

static struct str value_of(char letter, const struct spf_macro_values *values, char number[24])
{
    switch (letter) {
    case 's':
        return values->sender;
    case 'l':
        return values->local;
    case 'o':
        return values->sender_domain;
    case 'd':
        return values->domain;
    case 'i':
        return values->ip_dotted;
    case 'p':
        return values->client_name;
    case 'v':
        return values->is_ip6 ? STR("ip6") : STR("in-addr");
    case 'h':
        return values->helo;
    case 'c':
        return values->ip_text;
    case 'r':
        return values->receiver;
    default:
        break;
    }
    check(letter == 't');
    size_t at = 24;
    uint64_t rest = values->now;
    do
        number[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    return str_of(number + at, 24 - at);
}

/* Upper-case letters ask for URL escapes (7.3): all but unreserved characters of RFC 3986. */
static void append_text(struct str text, bool escape, struct buf *out)
{
    if (!escape) {
        buf_append(out, text);
        return;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (ascii_is_alpha(c) || ascii_is_digit(c) || str_find(STR("-._~"), c) >= 0)
            buf_append_byte(out, c);
        else
            buf_printf(out, "%%%02X", (unsigned char)c);
    }
}

static size_t split(struct str value, struct str delimiters, struct str parts[PARTS_MAX])
{
    size_t count = 0, begin = 0;
    for (size_t i = 0; i < value.len && count < PARTS_MAX - 1; i++) {
        if (str_find(delimiters, value.ptr[i]) < 0)
            continue;
        parts[count++] = str_slice(value, begin, i);
        begin = i + 1;
    }
    parts[count++] = str_from(value, begin);
    return count;
}

static void append_parts(const struct macro *macro, struct str value, struct buf *out)
{
    struct str parts[PARTS_MAX];
    size_t count = split(value, macro->delimiters.len ? macro->delimiters : STR("."), parts);
    size_t first = macro->keep && macro->keep < count ? count - macro->keep : 0;
    for (size_t i = first; i < count; i++) {
        if (i > first)
            buf_append_byte(out, '.');
        append_text(parts[macro->reverse ? count - 1 - i : i], macro->escape, out);
    }
}

static void append_macro(const struct macro *macro, const struct spf_macro_values *values,
                         struct buf *out)
{
    char number[24];
    if (!macro->letter) {
        buf_append(out, macro->literal == '%'   ? STR("%")
                        : macro->literal == '_' ? STR(" ")
                                                : STR("%20"));
        return;
    }
    struct str value = value_of(macro->letter, values, number);
    if (macro->reverse || macro->keep || macro->delimiters.len)
        append_parts(macro, value, out);
    else
        append_text(value, macro->escape, out);
}

void spf_macro_expand(struct str text, const struct spf_macro_values *values, struct buf *out)
{
    size_t at = 0;
    struct macro macro;
    while (at < text.len && !out->overflow) {
        if (text.ptr[at] == '%') {
            if (!read_macro(text, &at, SPF_MACRO_TEXT, &macro))
                return;
            append_macro(&macro, values, out);
            continue;
        }
        buf_append_byte(out, text.ptr[at++]);
    }
}
