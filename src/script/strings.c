/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/strings.c - the functions of `string` that use patterns, with our matcher (matcher.c), and
 * a `rep` that looks at what it is asked for.
 */
#include "script/internal.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

enum { REPEAT_MAX = 64 * 1024 * 1024 };

static struct str text_at(lua_State *L, int index)
{
    struct str text;
    text.ptr = luaL_checklstring(L, index, &text.len);
    return text;
}

/* Where argument `index` says to begin, from 0; beyond the end: len + 1. */
static size_t start_at(lua_State *L, int index, size_t len)
{
    lua_Integer place = luaL_optinteger(L, index, 1);
    if (place > 0)
        return (uint64_t)place - 1 > len ? len + 1 : (size_t)place - 1;
    if (place == 0 || place < -(lua_Integer)len)
        return 0;
    return (size_t)((lua_Integer)len + place);
}

/* ---- captures ---- */

/* Capture `index`, or the whole match where a pattern has none. */
static void push_capture(struct script_matcher *matcher, int index, const char *begin,
                         const char *end)
{
    lua_State *L = matcher->L;
    if (index >= matcher->level) {
        if (index != 0)
            luaL_error(L, "invalid capture index %%%d", index + 1);
        lua_pushlstring(L, begin, (size_t)(end - begin));
        return;
    }
    const char *start = matcher->captures[index].begin;
    ptrdiff_t len = matcher->captures[index].len;
    if (len == SCRIPT_CAPTURE_OPEN)
        luaL_error(L, "unfinished capture");
    if (len == SCRIPT_CAPTURE_PLACE)
        lua_pushinteger(L, start - matcher->text + 1);
    else
        lua_pushlstring(L, start, (size_t)len);
}

/* `begin` NULL: none for a pattern without captures. */
static int push_captures(struct script_matcher *matcher, const char *begin, const char *end)
{
    int count = matcher->level == 0 && begin ? 1 : matcher->level;
    luaL_checkstack(matcher->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(matcher, i, begin, end);
    return count;
}

/* ---- find, match ---- */

/* Without characters that mean something the search is one for bytes. */
static bool is_plain(struct str pattern)
{
    for (size_t i = 0; i < pattern.len; i++)
        if (pattern.ptr[i] && strchr("^$*+?.([%-", pattern.ptr[i]))
            return false;
    return true;
}

static int find_bytes(lua_State *L, struct str text, struct str pattern, size_t start)
{
    script_spend(L, (text.len - start) / 32);
    const char *found = memmem(text.ptr + start, text.len - start, pattern.ptr, pattern.len);
    if (!found) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - text.ptr + 1);
    lua_pushinteger(L, found - text.ptr + (lua_Integer)pattern.len);
    return 2;
}

/* The first match at `*at` or behind it; *at is its begin then. NULL: none. */
static const char *search(struct script_matcher *matcher, const char **at, bool anchored)
{
    for (;; (*at)++) {
        const char *end = script_match_at(matcher, *at);
        if (end || anchored || *at >= matcher->text_end)
            return end;
    }
}

static bool take_anchor(struct str *pattern)
{
    if (!str_starts(*pattern, STR("^")))
        return false;
    *pattern = str_from(*pattern, 1);
    return true;
}

static int find_or_match(lua_State *L, bool find)
{
    struct str text = text_at(L, 1);
    struct str pattern = text_at(L, 2);
    size_t start = start_at(L, 3, text.len);
    if (start > text.len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || is_plain(pattern)))
        return find_bytes(L, text, pattern, start);
    bool anchored = take_anchor(&pattern);
    struct script_matcher matcher;
    script_matcher_init(&matcher, L, text, pattern);
    const char *begin = text.ptr + start;
    const char *end = search(&matcher, &begin, anchored);
    script_matcher_settle(&matcher);
    if (!end) {
        luaL_pushfail(L);
        return 1;
    }
    if (!find)
        return push_captures(&matcher, begin, end);
    lua_pushinteger(L, begin - text.ptr + 1);
    lua_pushinteger(L, end - text.ptr);
    return push_captures(&matcher, NULL, NULL) + 2;
}

static int string_find(lua_State *L)
{
    return find_or_match(L, /* find= */ true);
}

static int string_match(lua_State *L)
{
    return find_or_match(L, /* find= */ false);
}

/* ---- gmatch: upvalues are the text, the pattern, where to go on, the end of the last match ----
 */

enum { UP_TEXT = 1, UP_PATTERN, UP_NEXT, UP_LAST };

static int gmatch_next(lua_State *L)
{
    struct str text = text_at(L, lua_upvalueindex(UP_TEXT));
    size_t next = (size_t)lua_tointeger(L, lua_upvalueindex(UP_NEXT));
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(UP_LAST));
    struct script_matcher matcher;
    script_matcher_init(&matcher, L, text, text_at(L, lua_upvalueindex(UP_PATTERN)));
    if (next > text.len)
        return 0;
    for (const char *at = text.ptr + next; at <= matcher.text_end; at++) {
        const char *end = script_match_at(&matcher, at);
        if (!end || end - text.ptr == last)
            continue;
        script_matcher_settle(&matcher);
        lua_pushinteger(L, end - text.ptr);
        lua_copy(L, -1, lua_upvalueindex(UP_NEXT));
        lua_replace(L, lua_upvalueindex(UP_LAST));
        return push_captures(&matcher, at, end);
    }
    script_matcher_settle(&matcher);
    return 0;
}

static int string_gmatch(lua_State *L)
{
    struct str text = text_at(L, 1);
    (void)text_at(L, 2);
    size_t start = start_at(L, 3, text.len);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)start);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_next, 4);
    return 1;
}

/* ---- gsub ---- */

/* The replacement's text, with %0 … %9 filled in. */
static void add_text(struct script_matcher *matcher, luaL_Buffer *out, const char *begin,
                     const char *end)
{
    lua_State *L = matcher->L;
    struct str form;
    form.ptr = lua_tolstring(L, 3, &form.len);
    for (size_t i = 0; i < form.len; i++) {
        if (form.ptr[i] != '%') {
            luaL_addchar(out, form.ptr[i]);
            continue;
        }
        char next = ++i < form.len ? form.ptr[i] : '\0';
        if (next == '%') {
            luaL_addchar(out, '%');
        } else if (next == '0') {
            luaL_addlstring(out, begin, (size_t)(end - begin));
        } else if (next >= '1' && next <= '9') {
            push_capture(matcher, next - '1', begin, end);
            luaL_tolstring(L, -1, NULL);
            lua_remove(L, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
}

/* True: something else than what was there. */
static bool add_replacement(struct script_matcher *matcher, luaL_Buffer *out, const char *begin,
                            const char *end)
{
    lua_State *L = matcher->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION: {
        lua_pushvalue(L, 3);
        int count = push_captures(matcher, begin, end);
        lua_call(L, count, 1);
        break;
    }
    case LUA_TTABLE:
        push_capture(matcher, 0, begin, end);
        lua_gettable(L, 3);
        break;
    default:
        add_text(matcher, out, begin, end);
        return true;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, begin, (size_t)(end - begin));
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    luaL_addvalue(out);
    return true;
}

static int string_gsub(lua_State *L)
{
    struct str text = text_at(L, 1);
    struct str pattern = text_at(L, 2);
    int type = lua_type(L, 3);
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)text.len + 1);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    bool anchored = take_anchor(&pattern);
    bool changed = false;
    const char *last = NULL;
    lua_Integer count = 0;
    struct script_matcher matcher;
    luaL_Buffer out;
    if (type == LUA_TNUMBER) { /* made a text here, where no buffer is in the way */
        luaL_tolstring(L, 3, NULL);
        lua_replace(L, 3);
    }
    lua_settop(L, 3);
    script_matcher_init(&matcher, L, text, pattern);
    luaL_buffinit(L, &out);
    const char *at = text.ptr;
    while (count < most) {
        const char *end = script_match_at(&matcher, at);
        if (end && end != last) {
            count++;
            script_matcher_settle(&matcher);
            changed |= add_replacement(&matcher, &out, at, end);
            at = last = end;
        } else if (at < matcher.text_end) {
            luaL_addchar(&out, *at++);
        } else {
            break;
        }
        if (anchored)
            break;
    }
    script_matcher_settle(&matcher);
    luaL_addlstring(&out, at, (size_t)(matcher.text_end - at));
    luaL_pushresult(&out);
    if (!changed)
        lua_pushvalue(L, 1);
    lua_pushinteger(L, count);
    return 2;
}

/* ---- rep ---- */

static int string_rep(lua_State *L)
{
    struct str text = text_at(L, 1);
    lua_Integer times = luaL_checkinteger(L, 2);
    struct str between = {"", 0};
    if (!lua_isnoneornil(L, 3))
        between = text_at(L, 3);
    if (times <= 0 || text.len + between.len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((uint64_t)times > REPEAT_MAX / (text.len + between.len))
        return luaL_error(L, "resulting string too large");
    size_t total = (size_t)times * (text.len + between.len) - between.len;
    luaL_Buffer out;
    char *at = luaL_buffinitsize(L, &out, total);
    for (lua_Integer i = 0; i < times; i++) {
        memcpy(at, text.ptr, text.len);
        at += text.len;
        if (between.len && i + 1 < times) {
            memcpy(at, between.ptr, between.len);
            at += between.len;
        }
    }
    luaL_pushresultsize(&out, total);
    return 1;
}

/* ---- the table ---- */

static void charge(lua_State *L, const char *name, int bytes_a_step)
{
    lua_getfield(L, -1, name);
    lua_pushinteger(L, bytes_a_step);
    lua_pushcclosure(L, script_charged, 2);
    lua_setfield(L, -2, name);
}

void script_open_strings(lua_State *L)
{
    static const luaL_Reg ours[] = {
        {"find", string_find},   {"gmatch", string_gmatch}, {"gsub", string_gsub},
        {"match", string_match}, {"rep", string_rep},       {NULL, NULL},
    };
    luaL_requiref(L, "string", luaopen_string, true);
    luaL_setfuncs(L, ours, 0);
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    charge(L, "format", 8);
    charge(L, "unpack", 64);
    /* the metatable of all texts: not for scripts to change */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 3);
}
