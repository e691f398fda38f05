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

/* 10, 64K, 25M, 1G: units are powers of 1,024. */
static bool read_number(struct str word, uint64_t *out)
{
    unsigned shift = 0;
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
    uint64_t value;
    if (!str_to_uint(word, UINT64_MAX >> shift, &value))
        return false;
    *out = value << shift;
    return true;
}

/* 7.5, -2, -0.125, in thousandths. */
static bool read_score(struct str word, int64_t *out)
{
    enum { PLACES = 3 };
    bool negative = str_starts(word, STR("-"));
    struct str digits = str_from(word, negative);
    ptrdiff_t point = str_find(digits, '.');
    struct str whole = point < 0 ? digits : str_slice(digits, 0, (size_t)point);
    struct str places = point < 0 ? STR_EMPTY : str_from(digits, (size_t)point + 1);
    uint64_t value;
    uint64_t fraction = 0;
    if (!str_to_uint(whole, 1000000, &value) || places.len > PLACES ||
        (point >= 0 && !str_to_uint(places, 999, &fraction)))
        return false;
    for (size_t i = places.len; i < PLACES; i++)
        fraction *= 10;
    *out = (int64_t)(value * 1000 + fraction) * (negative ? -1 : 1);
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
    else if (read_score(token.text, &token.score))
        token.kind = TOKEN_SCORE;
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
