/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/library.c - what is left of Lua's library in the sandbox, and what had to be replaced.
 *
 * Left out: io, os, debug, package, load, loadfile, dofile, collectgarbage, print, warn, and __gc,
 * whose functions would run where no hook does. Replaced: what can catch an error (the end of a run
 * is raised again), what works long in C on a word of the script, and what resumes coroutines (a
 * function of the host that waits suspends through all of them).
 */
#include "script/internal.h"

#include "base/random.h"

#include <lauxlib.h>
#include <lualib.h>

enum { MOVES_A_STEP = 4 };

/* ---- catching errors ---- */

static int protected_done(lua_State *L, int status, lua_KContext before)
{
    script_raise_stop(L);
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - (int)before;
    lua_pushboolean(L, false);
    lua_pushvalue(L, -2);
    return 2;
}

static int protected_call(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, true);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, protected_done);
    return protected_done(L, status, 0);
}

/* The script's handler, an upvalue, is called where the error is raised: for the end of a run that
 * is in the hook, and no hook would stop the handler. */
static int handle_error(lua_State *L)
{
    if (script_sandbox_of(L)->stop)
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int protected_call_with(lua_State *L)
{
    int count = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, handle_error, 1);
    lua_replace(L, 2);
    lua_pushboolean(L, true);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    int status = lua_pcallk(L, count - 2, LUA_MULTRET, 2, 2, protected_done);
    return protected_done(L, status, 2);
}

static int set_metatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "scripts have no __gc");
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* ---- coroutines ---- */

static int resume_done(lua_State *L, lua_State *thread, int status, int count, bool wrapped)
{
    bool good = status == LUA_OK || status == LUA_YIELD;
    if (good && !lua_checkstack(L, count + 1)) {
        lua_pop(thread, count);
        return luaL_error(L, "too many results to resume");
    }
    if (!good && wrapped)
        lua_xmove(thread, L, 1);
    if (!good && wrapped)
        return lua_error(L);
    if (!wrapped)
        lua_pushboolean(L, good);
    lua_xmove(thread, L, good ? count : 1);
    return (good ? count : 1) + (wrapped ? 0 : 1);
}

static int resume_again(lua_State *L, int status, lua_KContext wrapped);

/* Run the thread; when the host has to be waited for in it, wait here too, and go on with it. */
static int resume_thread(lua_State *L, lua_State *thread, int arguments, bool wrapped)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    bool may_wait = sandbox->may_wait;
    int count = 0;
    sandbox->may_wait = may_wait && lua_isyieldable(L);
    int status = lua_resume(thread, L, arguments, &count);
    sandbox->may_wait = may_wait;
    script_raise_stop(L);
    if (status == LUA_YIELD && sandbox->pending)
        return lua_yieldk(L, 0, wrapped, resume_again);
    return resume_done(L, thread, status, count, wrapped);
}

static lua_State *thread_of(lua_State *L, bool wrapped)
{
    return lua_tothread(L, wrapped ? lua_upvalueindex(1) : 1);
}

static int resume_again(lua_State *L, int status, lua_KContext wrapped)
{
    (void)status;
    return resume_thread(L, thread_of(L, wrapped), 0, wrapped);
}

static int resume_with(lua_State *L, int arguments, bool wrapped)
{
    lua_State *thread = thread_of(L, wrapped);
    bool dead = lua_status(thread) == LUA_OK && lua_gettop(thread) == 0;
    if (dead || !lua_checkstack(thread, arguments)) {
        const char *text = dead ? "cannot resume dead coroutine" : "too many arguments to resume";
        if (wrapped)
            return luaL_error(L, "%s", text);
        lua_pushboolean(L, false);
        lua_pushstring(L, text);
        return 2;
    }
    lua_xmove(L, thread, arguments);
    return resume_thread(L, thread, arguments, wrapped);
}

static int thread_resume(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    return resume_with(L, lua_gettop(L) - 1, false);
}

static int wrapped_resume(lua_State *L)
{
    return resume_with(L, lua_gettop(L), true);
}

static int thread_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, thread, 1);
    lua_pushcclosure(L, wrapped_resume, 1);
    return 1;
}

/* Of an upvalue that runs functions of the script by itself. */
static int checked(lua_State *L)
{
    script_raise_stop(L);
    int count = lua_tocfunction(L, lua_upvalueindex(1))(L);
    script_raise_stop(L);
    return count;
}

/* ---- tables: C code that a word of the script could keep busy ---- */

static lua_Integer plain_table(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        luaL_argerror(L, 1, "a table with __len cannot be changed by this function");
    return (lua_Integer)lua_rawlen(L, 1);
}

static void spend_moves(lua_State *L, lua_Integer from, lua_Integer to)
{
    if (to >= from)
        script_spend(L, ((uint64_t)to - (uint64_t)from) / MOVES_A_STEP);
}

/* As the function itself will read it, where it is given: floats and digits, too. */
static bool integer_at(lua_State *L, int index, lua_Integer *out)
{
    int is_integer = 0;
    *out = lua_tointegerx(L, index, &is_integer);
    return is_integer;
}

/* insert and remove: everything behind the place moves. */
static int table_shift(lua_State *L)
{
    lua_Integer count = plain_table(L);
    lua_Integer place;
    if (integer_at(L, 2, &place))
        spend_moves(L, place, count);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int table_move(lua_State *L)
{
    lua_Integer from, to;
    if (integer_at(L, 2, &from) && integer_at(L, 3, &to))
        spend_moves(L, from, to);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int table_concat(lua_State *L)
{
    spend_moves(L, 0, plain_table(L));
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int table_unpack(lua_State *L)
{
    lua_Integer first, last;
    lua_settop(L, 3);
    if (!integer_at(L, 2, &first))
        first = 1;
    if (!integer_at(L, 3, &last))
        last = plain_table(L);
    lua_settop(L, 3);
    spend_moves(L, first, last);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int table_sort(lua_State *L)
{
    lua_Integer count = plain_table(L);
    lua_settop(L, 2);
    for (lua_Integer half = count; half > 1; half /= 2)
        spend_moves(L, 0, count);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* ---- putting it together ---- */

int script_charged(lua_State *L)
{
    uint64_t total = 0;
    for (int i = lua_gettop(L); i > 0; i--)
        if (lua_type(L, i) == LUA_TSTRING)
            total += lua_rawlen(L, i);
    script_spend(L, total / (uint64_t)lua_tointeger(L, lua_upvalueindex(2)));
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* The function of the table on top becomes one of ours around it. */
static void wrap(lua_State *L, const char *name, lua_CFunction around)
{
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, around, 1);
    lua_setfield(L, -2, name);
}

static void set(lua_State *L, const char *name, lua_CFunction function)
{
    lua_pushcfunction(L, function);
    lua_setfield(L, -2, name);
}

static void charge(lua_State *L, const char *name, int bytes_a_step)
{
    lua_getfield(L, -1, name);
    lua_pushinteger(L, bytes_a_step);
    lua_pushcclosure(L, script_charged, 2);
    lua_setfield(L, -2, name);
}

static void open_base(lua_State *L)
{
    static const char *const gone[] = {"collectgarbage", "dofile", "load", "loadfile",
                                       "print",          "warn",   NULL};
    luaL_requiref(L, "_G", luaopen_base, true);
    for (size_t i = 0; gone[i]; i++) {
        lua_pushnil(L);
        lua_setfield(L, -2, gone[i]);
    }
    set(L, "pcall", protected_call);
    set(L, "xpcall", protected_call_with);
    set(L, "setmetatable", set_metatable);
    set(L, "require", script_require);
    charge(L, "tonumber", 8);
    lua_pop(L, 1);
}

static void open_coroutines(lua_State *L)
{
    luaL_requiref(L, "coroutine", luaopen_coroutine, true);
    set(L, "resume", thread_resume);
    set(L, "wrap", thread_wrap);
    wrap(L, "close", checked);
    lua_pop(L, 1);
}

static void open_tables(lua_State *L)
{
    luaL_requiref(L, "table", luaopen_table, true);
    wrap(L, "insert", table_shift);
    wrap(L, "remove", table_shift);
    wrap(L, "move", table_move);
    wrap(L, "concat", table_concat);
    wrap(L, "unpack", table_unpack);
    wrap(L, "sort", table_sort);
    lua_pop(L, 1);
}

static void open_utf8(lua_State *L)
{
    luaL_requiref(L, "utf8", luaopen_utf8, true);
    charge(L, "len", 8);
    charge(L, "offset", 64);
    lua_pop(L, 1);
}

/* A global is named where it is used, or found through _G and _ENV: what a text does not name it
 * cannot have. Making a library costs more than most scripts do. */
unsigned script_library_uses(struct str text)
{
    static const struct {
        const char *word;
        unsigned uses;
    } words[] = {
        {"table", SCRIPT_USES_TABLE}, {"math", SCRIPT_USES_MATH},
        {"utf8", SCRIPT_USES_UTF8},   {"coroutine", SCRIPT_USES_COROUTINE},
        {"_G", SCRIPT_USES_ALL},      {"_ENV", SCRIPT_USES_ALL},
    };
    unsigned uses = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_find_str(text, str_c(words[i].word)) >= 0)
            uses |= words[i].uses;
    return uses;
}

/* Lua's own seed is an address and the second: the same for many runs. */
static void open_math(lua_State *L)
{
    lua_Integer seeds[2];
    random_bytes(seeds, sizeof seeds);
    luaL_requiref(L, "math", luaopen_math, true);
    lua_getfield(L, -1, "randomseed");
    lua_pushinteger(L, seeds[0]);
    lua_pushinteger(L, seeds[1]);
    lua_call(L, 2, 0);
    lua_pop(L, 1);
}

void script_open_library(lua_State *L, unsigned uses)
{
    open_base(L);
    script_open_strings(L);
    if (uses & SCRIPT_USES_TABLE)
        open_tables(L);
    if (uses & SCRIPT_USES_COROUTINE)
        open_coroutines(L);
    if (uses & SCRIPT_USES_UTF8)
        open_utf8(L);
    if (uses & SCRIPT_USES_MATH)
        open_math(L);
}
