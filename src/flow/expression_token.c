/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression_token.c - cuts the text of an expression into tokens.
 *
 * Words may hold . - _ @ / : so that names of lists, domains, addresses and networks need no
 * quotes. In a string only the backslash before its own quote is taken away, so that patterns are
 * written as PCRE2 writes them.
 */
#include "flow/expression_internal.h"

#include <string.h>

enum { FRACTION_DIGITS = 9 };
static const uint64_t NUMBER_MAX = UINT64_C(1) << 53; /* exact as a double */

static bool is_word(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || (c != '\0' && strchr("_.-@/:+*%", c));
}

static struct token bad(size_t begin, size_t end, const char *fault)
{
    return (struct token){
        .kind = TOKEN_BAD, .offset = begin, .length = end - begin, .fault = fault};
}

static struct token read_string(struct str text, size_t *offset, struct arena *arena)
{
    size_t begin = *offset;
    char quote = text.ptr[begin];
    char *out = arena_alloc(arena, text.len - begin);
    size_t len = 0;
    size_t at = begin + 1;
    while (at < text.len && text.ptr[at] != quote) {
        if (text.ptr[at] == '\\' && at + 1 < text.len) {
            if (text.ptr[at + 1] != quote)
                out[len++] = '\\';
            at++;
        }
        out[len++] = text.ptr[at++];
    }
    *offset = at < text.len ? at + 1 : at;
    if (at >= text.len)
        return bad(begin, text.len, "the text has no closing quote");
    return (struct token){
        .kind = TOKEN_STRING, .offset = begin, .length = *offset - begin, .text = str_of(out, len)};
}

/* 10, 64K, 25M, 1G: units are powers of 1,024; 7.5: no unit behind a fraction. */
static bool read_number(struct str word, double *out)
{
    unsigned shift = 0;
    bool negative = str_starts(word, STR("-"));
    if (negative)
        word = str_from(word, 1);
    if (word.len && !ascii_is_digit(word.ptr[word.len - 1])) {
        switch (word.ptr[word.len - 1]) {
        case 'K':
            shift = 10;
            break;
        case 'M':
            shift = 20;
            break;
        case 'G':
            shift = 30;
            break;
        default:
            return false;
        }
        word = str_slice(word, 0, word.len - 1);
    }
    uint64_t value, fraction = 0;
    ptrdiff_t point = str_find(word, '.');
    struct str behind = point >= 0 ? str_from(word, (size_t)point + 1) : STR_EMPTY;
    if (point >= 0 && (shift || behind.len == 0 || behind.len > FRACTION_DIGITS ||
                       !str_to_uint(behind, UINT64_MAX, &fraction)))
        return false;
    if (!str_to_uint(point >= 0 ? str_slice(word, 0, (size_t)point) : word, NUMBER_MAX >> shift,
                     &value))
        return false;
    *out = (double)(value << shift);
    double step = 1;
    for (size_t i = 0; i < behind.len; i++)
        step /= 10;
    *out += (double)fraction * step;
    if (negative)
        *out = -*out;
    return true;
}

static struct token read_word(struct str text, size_t *offset)
{
    size_t begin = *offset;
    while (*offset < text.len && is_word(text.ptr[*offset]))
        (*offset)++;
    struct token token = {.kind = TOKEN_WORD,
                          .offset = begin,
                          .length = *offset - begin,
                          .text = str_slice(text, begin, *offset)};
    if (read_number(token.text, &token.number))
        token.kind = TOKEN_NUMBER;
    else if (net_network_parse(token.text, &token.network))
        token.kind = TOKEN_NETWORK;
    token.is_address = token.kind == TOKEN_NETWORK && str_find(token.text, '/') < 0;
    return token;
}

static struct token read_symbol(struct str text, size_t *offset)
{
    static const struct {
        const char *text;
        enum token_kind kind;
        enum expression_compare compare;
    } symbols[] = {
        {"==", TOKEN_COMPARE, COMPARE_EQUAL},
        {"!=", TOKEN_COMPARE, COMPARE_NOT_EQUAL},
        {"<=", TOKEN_COMPARE, COMPARE_LESS_EQUAL},
        {">=", TOKEN_COMPARE, COMPARE_GREATER_EQUAL},
        {"<", TOKEN_COMPARE, COMPARE_LESS},
        {">", TOKEN_COMPARE, COMPARE_GREATER},
        {"~", TOKEN_TILDE, 0},
        {"(", TOKEN_OPEN, 0},
        {")", TOKEN_CLOSE, 0},
        {"[", TOKEN_OPEN_LIST, 0},
        {"]", TOKEN_CLOSE_LIST, 0},
        {",", TOKEN_COMMA, 0},
    };
    struct str rest = str_from(text, *offset);
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        struct str symbol = str_c(symbols[i].text);
        if (!str_starts(rest, symbol))
            continue;
        struct token token = {.kind = symbols[i].kind,
                              .offset = *offset,
                              .length = symbol.len,
                              .text = symbol,
                              .compare = symbols[i].compare};
        *offset += symbol.len;
        return token;
    }
    size_t begin = (*offset)++;
    const char *fault = "this character has no meaning here";
    if (rest.ptr[0] == '=')
        fault = "a comparison is written ==";
    else if (rest.ptr[0] == '&' || rest.ptr[0] == '|' || rest.ptr[0] == '!')
        fault = "write and, or, not";
    return bad(begin, begin + 1, fault);
}

struct token token_next(struct str text, size_t *offset, struct arena *arena)
{
    while (*offset < text.len && text.ptr[*offset] != '\0' && strchr(" \t\r\n", text.ptr[*offset]))
        (*offset)++;
    if (*offset >= text.len)
        return (struct token){.kind = TOKEN_END, .offset = text.len, .length = 1};
    char c = text.ptr[*offset];
    if (c == '"' || c == '\'')
        return read_string(text, offset, arena);
    if (is_word(c))
        return read_word(text, offset);
    return read_symbol(text, offset);
}
