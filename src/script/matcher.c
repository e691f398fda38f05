/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/matcher.c - patterns as Lua's manual describes them (6.4.1), with a bound on their work.
 *
 * Lua's own matcher runs in C, where no hook does, and a pattern such as ".-.-.-x" takes it a time
 * that grows with a power of the text's length. Here each comparison is a step; a match has so many
 * as its text is long, times a constant, and they are counted as work of the script.
 */
#include "script/internal.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 200, /* of matching within matching */
    STEPS_FREE = 100 * 1000,
    STEPS_A_BYTE = 40,
    STEPS_A_UNIT = 8, /* of work */
    SETTLE_EVERY = 4096,
    ESCAPE = '%',
};

void script_matcher_init(struct script_matcher *matcher, lua_State *L, struct str text,
                         struct str pattern)
{
    *matcher = (struct script_matcher){
        .L = L,
        .text = text.ptr,
        .text_end = text.ptr + text.len,
        .pattern = pattern.ptr,
        .pattern_end = pattern.ptr + pattern.len,
        .steps_max = STEPS_FREE + (uint64_t)text.len * STEPS_A_BYTE,
    };
}

void script_matcher_settle(struct script_matcher *matcher)
{
    uint64_t steps = matcher->steps - matcher->steps_counted;
    matcher->steps_counted = matcher->steps;
    script_spend(matcher->L, steps / STEPS_A_UNIT);
    if (matcher->steps > matcher->steps_max)
        luaL_error(matcher->L, "the pattern needs too much work for this text");
}

static void step(struct script_matcher *matcher)
{
    if (++matcher->steps - matcher->steps_counted >= SETTLE_EVERY)
        script_matcher_settle(matcher);
}

/* ---- one character ---- */

static bool is_of_class(unsigned char c, unsigned char class)
{
    bool is;
    switch (tolower(class)) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'g':
        is = isgraph(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    default:
        return class == c;
    }
    return is != (isupper(class) != 0);
}

/* Behind the single-character item at `item`. */
static const char *item_end(struct script_matcher *matcher, const char *item)
{
    const char *end = matcher->pattern_end;
    char first = *item++;
    if (first == ESCAPE) {
        if (item == end)
            luaL_error(matcher->L, "malformed pattern (ends with '%%')");
        return item + 1;
    }
    if (first != '[')
        return item;
    if (item < end && *item == '^')
        item++;
    do { /* a ] that comes first is a character of the set */
        if (item == end)
            luaL_error(matcher->L, "malformed pattern (missing ']')");
        if (*item++ == ESCAPE) {
            if (item == end)
                luaL_error(matcher->L, "malformed pattern (missing ']')");
            item++;
        }
    } while (item == end || *item != ']');
    return item + 1;
}

/* `set` at its '[', `last` at its ']'. */
static bool is_in_set(struct script_matcher *matcher, unsigned char c, const char *set,
                      const char *last)
{
    bool wanted = true;
    set++;
    if (*set == '^') {
        wanted = false;
        set++;
    }
    while (set < last) {
        step(matcher);
        if (*set == ESCAPE) {
            if (is_of_class(c, (unsigned char)set[1]))
                return wanted;
            set += 2;
        } else if (set + 2 < last && set[1] == '-') {
            if ((unsigned char)set[0] <= c && c <= (unsigned char)set[2])
                return wanted;
            set += 3;
        } else {
            if ((unsigned char)*set == c)
                return wanted;
            set++;
        }
    }
    return !wanted;
}

static bool is_one(struct script_matcher *matcher, const char *at, const char *item,
                   const char *behind)
{
    step(matcher);
    if (at >= matcher->text_end)
        return false;
    unsigned char c = (unsigned char)*at;
    switch (*item) {
    case '.':
        return true;
    case ESCAPE:
        return is_of_class(c, (unsigned char)item[1]);
    case '[':
        return is_in_set(matcher, c, item, behind - 1);
    default:
        return (unsigned char)*item == c;
    }
}

/* ---- items ---- */

static const char *match(struct script_matcher *matcher, const char *at, const char *item);

/* %bxy */
static const char *match_balance(struct script_matcher *matcher, const char *at, const char *item)
{
    if (item + 1 >= matcher->pattern_end)
        luaL_error(matcher->L, "malformed pattern (missing arguments to '%%b')");
    if (at >= matcher->text_end || *at != item[0])
        return NULL;
    long open = 1;
    for (at++; at < matcher->text_end; at++) {
        step(matcher);
        if (*at == item[1]) {
            if (--open == 0)
                return at + 1;
        } else if (*at == item[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *match_most(struct script_matcher *matcher, const char *at, const char *item,
                              const char *behind)
{
    ptrdiff_t count = 0;
    while (is_one(matcher, at + count, item, behind))
        count++;
    for (; count >= 0; count--) {
        const char *end = match(matcher, at + count, behind + 1);
        if (end)
            return end;
    }
    return NULL;
}

static const char *match_least(struct script_matcher *matcher, const char *at, const char *item,
                               const char *behind)
{
    for (;;) {
        const char *end = match(matcher, at, behind + 1);
        if (end)
            return end;
        if (!is_one(matcher, at, item, behind))
            return NULL;
        at++;
    }
}

static const char *open_capture(struct script_matcher *matcher, const char *at, const char *item,
                                ptrdiff_t kind)
{
    if (matcher->level >= SCRIPT_CAPTURES)
        luaL_error(matcher->L, "too many captures");
    matcher->captures[matcher->level].begin = at;
    matcher->captures[matcher->level].len = kind;
    matcher->level++;
    const char *end = match(matcher, at, item);
    if (!end)
        matcher->level--;
    return end;
}

static const char *close_capture(struct script_matcher *matcher, const char *at, const char *item)
{
    int level = matcher->level - 1;
    while (level >= 0 && matcher->captures[level].len != SCRIPT_CAPTURE_OPEN)
        level--;
    if (level < 0)
        luaL_error(matcher->L, "invalid pattern capture");
    matcher->captures[level].len = at - matcher->captures[level].begin;
    const char *end = match(matcher, at, item);
    if (!end)
        matcher->captures[level].len = SCRIPT_CAPTURE_OPEN;
    return end;
}

/* %1: the same text as capture 1 */
static const char *match_capture(struct script_matcher *matcher, const char *at, char digit)
{
    int level = digit - '1';
    if (level < 0 || level >= matcher->level || matcher->captures[level].len == SCRIPT_CAPTURE_OPEN)
        luaL_error(matcher->L, "invalid capture index %%%d", level + 1);
    if (matcher->captures[level].len == SCRIPT_CAPTURE_PLACE)
        return NULL; /* a place is no text */
    size_t len = (size_t)matcher->captures[level].len;
    matcher->steps += len / 16;
    step(matcher);
    if ((size_t)(matcher->text_end - at) < len ||
        memcmp(matcher->captures[level].begin, at, len) != 0)
        return NULL;
    return at + len;
}

/* %f[set]: between what is not in the set and what is. *out_behind: of the item. */
static bool is_frontier(struct script_matcher *matcher, const char *at, const char *item,
                        const char **out_behind)
{
    if (item >= matcher->pattern_end || *item != '[')
        luaL_error(matcher->L, "missing '[' after '%%f' in pattern");
    *out_behind = item_end(matcher, item);
    unsigned char before = at == matcher->text ? '\0' : (unsigned char)at[-1];
    unsigned char here = at < matcher->text_end ? (unsigned char)*at : '\0';
    return !is_in_set(matcher, before, item, *out_behind - 1) &&
           is_in_set(matcher, here, item, *out_behind - 1);
}

/* An item that takes a fixed piece, with what may stand behind it. NULL: no match; *item becomes
 * what goes on behind it, NULL when the end was found already. */
static const char *match_single(struct script_matcher *matcher, const char *at, const char **item)
{
    const char *behind = item_end(matcher, *item);
    char suffix = behind < matcher->pattern_end ? *behind : '\0';
    const char *first = *item;
    *item = NULL;
    switch (suffix) {
    case '*':
        return match_most(matcher, at, first, behind);
    case '+':
        return is_one(matcher, at, first, behind) ? match_most(matcher, at + 1, first, behind)
                                                  : NULL;
    case '-':
        return match_least(matcher, at, first, behind);
    case '?': {
        const char *end =
            is_one(matcher, at, first, behind) ? match(matcher, at + 1, behind + 1) : NULL;
        if (end)
            return end;
        *item = behind + 1;
        return at;
    }
    default:
        if (!is_one(matcher, at, first, behind))
            return NULL;
        *item = behind;
        return at + 1;
    }
}

/* What begins with an escape and is no character. False: it is one. */
static bool match_special(struct script_matcher *matcher, const char **at, const char **item)
{
    const char *p = *item;
    const char *behind;
    if (*p != ESCAPE || p + 1 >= matcher->pattern_end)
        return false;
    if (p[1] == 'b') {
        *at = match_balance(matcher, *at, p + 2);
        *item = p + 4;
    } else if (p[1] == 'f') {
        if (!is_frontier(matcher, *at, p + 2, &behind))
            *at = NULL;
        *item = behind;
    } else if (isdigit((unsigned char)p[1])) {
        *at = match_capture(matcher, *at, p[1]);
        *item = p + 2;
    } else {
        return false;
    }
    return true;
}

static const char *match_items(struct script_matcher *matcher, const char *at, const char *item)
{
    while (at && item && item < matcher->pattern_end) {
        step(matcher);
        if (*item == '(') {
            bool place = item + 1 < matcher->pattern_end && item[1] == ')';
            return place ? open_capture(matcher, at, item + 2, SCRIPT_CAPTURE_PLACE)
                         : open_capture(matcher, at, item + 1, SCRIPT_CAPTURE_OPEN);
        }
        if (*item == ')')
            return close_capture(matcher, at, item + 1);
        if (*item == '$' && item + 1 == matcher->pattern_end)
            return at == matcher->text_end ? at : NULL;
        if (!match_special(matcher, &at, &item))
            at = match_single(matcher, at, &item);
    }
    return at;
}

static const char *match(struct script_matcher *matcher, const char *at, const char *item)
{
    if (++matcher->depth > DEPTH_MAX)
        luaL_error(matcher->L, "pattern too complex");
    const char *end = match_items(matcher, at, item);
    matcher->depth--;
    return end;
}

const char *script_match_at(struct script_matcher *matcher, const char *at)
{
    matcher->level = 0;
    matcher->depth = 0;
    return match(matcher, at, matcher->pattern);
}
