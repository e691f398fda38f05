/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/rows.c - what the host lends to a run: objects whose rows answer, and values both ways.
 *
 * A row that waits suspends the script's thread with lua_yieldk(); the fiber gets the answer on its
 * own stack (run.c), and the thread goes on in row_done(). The arguments' texts stay where they
 * are, on the suspended function's part of the Lua stack.
 */
#include "script/internal.h"

#include "config/report.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

enum { ROW_COST = 10 };

/* ---- values from Lua ---- */

static void read_table(lua_State *L, int index, struct arena *arena, unsigned depth, size_t *count,
                       struct script_value *out);

static void read_value(lua_State *L, int index, struct arena *arena, unsigned depth, size_t *count,
                       struct script_value *out)
{
    *out = (struct script_value){.kind = SCRIPT_NIL, .text = STR_EMPTY};
    switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE:
        return;
    case LUA_TBOOLEAN:
        out->kind = SCRIPT_BOOL;
        out->truth = lua_toboolean(L, index);
        return;
    case LUA_TNUMBER:
        out->kind = lua_isinteger(L, index) ? SCRIPT_INTEGER : SCRIPT_NUMBER;
        out->integer = lua_tointeger(L, index);
        out->number = lua_tonumber(L, index);
        return;
    case LUA_TSTRING:
        out->kind = SCRIPT_TEXT;
        out->text.ptr = lua_tolstring(L, index, &out->text.len);
        return;
    case LUA_TTABLE:
        read_table(L, index, arena, depth, count, out);
        return;
    default:
        out->kind = SCRIPT_OTHER;
        out->text = str_c(luaL_typename(L, index));
    }
}

/* Texts are copied: they leave the Lua stack while the table is gone through. */
static void read_item(lua_State *L, struct arena *arena, unsigned depth, size_t *count,
                      struct script_value *out)
{
    if (++*count > SCRIPT_ITEMS_MAX)
        luaL_error(L, "a table with more than %d items", SCRIPT_ITEMS_MAX);
    read_value(L, -1, arena, depth + 1, count, out);
    if (out->kind == SCRIPT_TEXT) {
        script_spend(L, out->text.len / 16);
        out->text = arena_str(arena, out->text);
    }
}

static void read_map(lua_State *L, int index, struct arena *arena, unsigned depth, size_t *count,
                     struct script_value *out)
{
    size_t size = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (++size > SCRIPT_ITEMS_MAX)
            luaL_error(L, "a table with more than %d items", SCRIPT_ITEMS_MAX);
    out->kind = SCRIPT_MAP;
    out->items = arena_alloc_array(arena, size + 1, sizeof *out->items);
    out->keys = arena_alloc_array(arena, size + 1, sizeof *out->keys);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        struct str key;
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        key.ptr = lua_tolstring(L, -2, &key.len);
        out->keys[out->count] = arena_str(arena, key);
        read_item(L, arena, depth, count, &out->items[out->count]);
        out->count++;
    }
}

static void read_table(lua_State *L, int index, struct arena *arena, unsigned depth, size_t *count,
                       struct script_value *out)
{
    index = lua_absindex(L, index);
    if (depth >= SCRIPT_DEPTH_MAX)
        luaL_error(L, "tables more than %d deep", SCRIPT_DEPTH_MAX);
    luaL_checkstack(L, 8, "tables too deep");
    size_t size = lua_rawlen(L, index);
    if (size == 0) {
        read_map(L, index, arena, depth, count, out);
        return;
    }
    if (size > SCRIPT_ITEMS_MAX)
        luaL_error(L, "a table with more than %d items", SCRIPT_ITEMS_MAX);
    out->kind = SCRIPT_LIST;
    out->items = arena_alloc_array(arena, size, sizeof *out->items);
    for (out->count = 0; out->count < size; out->count++) {
        lua_rawgeti(L, index, (lua_Integer)out->count + 1);
        read_item(L, arena, depth, count, &out->items[out->count]);
        lua_pop(L, 1);
    }
}

void script_read_value(lua_State *L, int index, struct arena *arena, struct script_value *out)
{
    size_t count = 0;
    read_value(L, index, arena, 0, &count, out);
}

const struct script_value *script_value_get(const struct script_value *map, const char *key)
{
    for (size_t i = 0; map->kind == SCRIPT_MAP && i < map->count; i++)
        if (str_equal(map->keys[i], str_c(key)))
            return &map->items[i];
    return NULL;
}

/* ---- values to Lua ---- */

void script_push_value(lua_State *L, const struct script_value *value)
{
    luaL_checkstack(L, 4, "values too deep");
    switch (value->kind) {
    case SCRIPT_BOOL:
        lua_pushboolean(L, value->truth);
        return;
    case SCRIPT_INTEGER:
        lua_pushinteger(L, value->integer);
        return;
    case SCRIPT_NUMBER:
        lua_pushnumber(L, value->number);
        return;
    case SCRIPT_TEXT:
        lua_pushlstring(L, value->text.ptr ? value->text.ptr : "", value->text.len);
        return;
    case SCRIPT_LIST:
    case SCRIPT_MAP:
        lua_createtable(L, 0, 0);
        for (size_t i = 0; i < value->count; i++) {
            if (value->kind == SCRIPT_MAP)
                lua_pushlstring(L, value->keys[i].ptr, value->keys[i].len);
            else
                lua_pushinteger(L, (lua_Integer)i + 1);
            script_push_value(L, &value->items[i]);
            lua_rawset(L, -3);
        }
        return;
    default:
        lua_pushnil(L);
    }
}

static struct script_value *add_result(struct script_call *call)
{
    struct script_value *value =
        &call->results[call->result_count < SCRIPT_RESULTS_MAX ? call->result_count++
                                                               : SCRIPT_RESULTS_MAX - 1];
    *value = (struct script_value){.kind = SCRIPT_NIL, .text = STR_EMPTY};
    return value;
}

void script_return_nil(struct script_call *call)
{
    add_result(call);
}

void script_return_bool(struct script_call *call, bool truth)
{
    struct script_value *value = add_result(call);
    value->kind = SCRIPT_BOOL;
    value->truth = truth;
}

void script_return_integer(struct script_call *call, int64_t integer)
{
    struct script_value *value = add_result(call);
    value->kind = SCRIPT_INTEGER;
    value->integer = integer;
}

void script_return_number(struct script_call *call, double number)
{
    struct script_value *value = add_result(call);
    value->kind = SCRIPT_NUMBER;
    value->number = number;
}

struct script_value script_text(struct str text)
{
    return (struct script_value){.kind = SCRIPT_TEXT, .text = text};
}

void script_return_text(struct script_call *call, struct str text)
{
    *add_result(call) = script_text(text);
}

struct script_value *script_return_list(struct script_call *call, size_t count)
{
    struct script_value *value = add_result(call);
    value->kind = SCRIPT_LIST;
    value->count = count;
    value->items = arena_alloc_array(call->arena, count + 1, sizeof *value->items);
    return value->items;
}

/* ---- arguments ---- */

static const char *kind_name(enum script_kind kind)
{
    static const char *const names[] = {
        [SCRIPT_NIL] = "nothing",     [SCRIPT_BOOL] = "a boolean",   [SCRIPT_INTEGER] = "a number",
        [SCRIPT_NUMBER] = "a number", [SCRIPT_TEXT] = "a text",      [SCRIPT_LIST] = "a list",
        [SCRIPT_MAP] = "a table",     [SCRIPT_OTHER] = "a function",
    };
    return names[kind];
}

static enum result wrong(const struct script_call *call, size_t index, const char *expected,
                         struct error *err)
{
    enum script_kind kind = index < call->argument_count ? call->arguments[index].kind : SCRIPT_NIL;
    return fail(err, ERROR_PERMANENT, "argument %zu: expected %s, got %s", index + 1, expected,
                kind_name(kind));
}

enum result script_take_text(const struct script_call *call, size_t index, struct str *out,
                             struct error *err)
{
    const struct script_value *value = &call->arguments[index];
    enum script_kind kind = index < call->argument_count ? value->kind : SCRIPT_NIL;
    if (kind == SCRIPT_TEXT)
        *out = value->text;
    else if (kind == SCRIPT_INTEGER) /* as everywhere in Lua */
        *out = arena_printf(call->arena, "%lld", (long long)value->integer);
    else if (kind == SCRIPT_NUMBER)
        *out = arena_printf(call->arena, "%.14g", value->number);
    else
        return wrong(call, index, "a text", err);
    return OK;
}

enum result script_take_text_or(const struct script_call *call, size_t index, struct str fallback,
                                struct str *out, struct error *err)
{
    *out = fallback;
    if (index >= call->argument_count || call->arguments[index].kind == SCRIPT_NIL)
        return OK;
    return script_take_text(call, index, out, err);
}

enum result script_take_integer(const struct script_call *call, size_t index, int64_t min,
                                int64_t max, int64_t *out, struct error *err)
{
    const struct script_value *value = &call->arguments[index];
    bool whole = index < call->argument_count &&
                 (value->kind == SCRIPT_INTEGER ||
                  (value->kind == SCRIPT_NUMBER && fabs(value->number) < 1e15 &&
                   floor(value->number) == value->number));
    if (!whole)
        return wrong(call, index, "a whole number", err);
    *out = value->kind == SCRIPT_INTEGER ? value->integer : (int64_t)value->number;
    if (*out < min || *out > max)
        return fail(err, ERROR_PERMANENT, "argument %zu: %lld is not within %lld and %lld",
                    index + 1, (long long)*out, (long long)min, (long long)max);
    return OK;
}

/* ---- rows at work ---- */

static uint64_t work_of(const struct script_value *value)
{
    uint64_t work = 1 + value->text.len / 16;
    for (size_t i = 0; i < value->count; i++)
        work += work_of(&value->items[i]);
    return work;
}

/* On whatever stack the answer was had: on the script's, and in its protection, now. */
static int push_answer(lua_State *L)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    struct script_call *call = &sandbox->call;
    if (sandbox->call_result != OK) {
        luaL_where(L, 1);
        lua_pushfstring(L, "%s: %s", sandbox->row->name, sandbox->call_error.text);
        lua_concat(L, 2);
        arena_clear(sandbox->scratch);
        return lua_error(L);
    }
    luaL_checkstack(L, SCRIPT_RESULTS_MAX, "too many results");
    for (size_t i = 0; i < call->result_count; i++)
        script_spend(L, work_of(&call->results[i]));
    for (size_t i = 0; i < call->result_count; i++)
        script_push_value(L, &call->results[i]);
    int count = (int)call->result_count;
    arena_clear(sandbox->scratch);
    return count;
}

static int row_done(lua_State *L, int status, lua_KContext context)
{
    (void)status, (void)context;
    return push_answer(L);
}

static int use_row(lua_State *L, const struct script_row *row)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    script_spend(L, ROW_COST + row->cost);
    if (!sandbox->run)
        return luaL_error(L, "%s: nothing is known while the file is loaded; use it in a function",
                          row->name);
    sandbox->row = row;
    sandbox->call.row = row;
    if (!row->waits) {
        sandbox->call_result = row->answer(&sandbox->call, &sandbox->call_error);
        return push_answer(L);
    }
    if (!sandbox->may_wait || !lua_isyieldable(L))
        return luaL_error(L,
                          "%s waits for an answer, and cannot be called in a function that "
                          "string.gsub, table.sort or a metamethod calls",
                          row->name);
    sandbox->pending = SCRIPT_PENDING_ROW;
    return lua_yieldk(L, 0, 0, row_done);
}

/* The arguments behind `first`. */
static void take_arguments(lua_State *L, int first)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    struct script_call *call = &sandbox->call;
    int count = lua_gettop(L) - first + 1;
    if (count > SCRIPT_ARGUMENTS_MAX)
        luaL_error(L, "more than %d arguments", SCRIPT_ARGUMENTS_MAX);
    arena_clear(sandbox->scratch);
    *call = (struct script_call){.arena = sandbox->scratch, .argument_count = (size_t)count};
    call->context = sandbox->run ? sandbox->run->context : NULL;
    for (int i = 0; i < count; i++)
        script_read_value(L, first + i, sandbox->scratch, &call->arguments[i]);
}

/* Upvalues: the row, the object's table. `mail:f(x)` and `mail.f(x)` are the same. */
static int call_row(lua_State *L)
{
    const struct script_row *row = lua_touserdata(L, lua_upvalueindex(1));
    bool is_method = lua_rawequal(L, 1, lua_upvalueindex(2));
    take_arguments(L, is_method ? 2 : 1);
    return use_row(L, row);
}

static const struct script_row *find_row(const struct script_object *object, struct str name)
{
    for (const struct script_row *row = object->rows; row->name; row++)
        if (str_equal(str_c(row->name), name))
            return row;
    return NULL;
}

static int no_row(lua_State *L, const struct script_object *object, const char *name)
{
    struct str names[100];
    size_t count = 0;
    for (const struct script_row *row = object->rows; row->name && count < 100; row++)
        if (row->where & object->where)
            names[count++] = str_c(row->name);
    struct str near = config_nearest(str_c(name), names, count);
    if (near.len)
        return luaL_error(L, "%s has no \"%s\"; did you mean \"%s\"?", object->name, name,
                          lua_pushlstring(L, near.ptr, near.len));
    return luaL_error(L, "%s has no \"%s\"", object->name, name);
}

/* __index: upvalue the object; the table, the name. */
static int index_object(lua_State *L)
{
    const struct script_object *object = lua_touserdata(L, lua_upvalueindex(1));
    const struct script_row *row = NULL;
    struct str name = STR_EMPTY;
    if (lua_type(L, 2) == LUA_TSTRING) {
        name.ptr = lua_tolstring(L, 2, &name.len);
        row = find_row(object, name);
    }
    if (!row)
        return no_row(L, object, luaL_tolstring(L, 2, NULL));
    if (!(row->where & object->where))
        return luaL_error(L, "%s.%s does not exist here", object->name, row->name);
    if (row->arguments) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)row);
        lua_pushvalue(L, 1);
        lua_pushcclosure(L, call_row, 2);
        lua_pushvalue(L, 2); /* found at once the next time */
        lua_pushvalue(L, -2);
        lua_rawset(L, 1);
        return 1;
    }
    take_arguments(L, lua_gettop(L) + 1);
    return use_row(L, row);
}

static int refuse_change(lua_State *L)
{
    return luaL_error(L, "%s cannot be changed", lua_tostring(L, lua_upvalueindex(1)));
}

void script_push_object(lua_State *L, const struct script_object *object)
{
    lua_createtable(L, 0, 0);
    lua_createtable(L, 0, 4);
    lua_pushlightuserdata(L, (void *)(uintptr_t)object);
    lua_pushcclosure(L, index_object, 1);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, object->name);
    lua_pushcclosure(L, refuse_change, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}
