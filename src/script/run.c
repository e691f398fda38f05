/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/run.c - one run: a fresh state, the file's chunk, the function; what it waits for.
 *
 * Lua runs on the loop's large stack, for its C code goes deep; between two of its turns the fiber
 * waits on its own. A state is never entered outside of a protected call: lack of memory anywhere
 * is an error of the run.
 */
#include "script/internal.h"

#include "base/check.h"
#include "base/clock.h"

#include <lauxlib.h>

enum {
    INTERVAL = 250, /* instructions between two looks at the bounds */
    SHARE_MS = 1,
    CPU_MAX_S = 1,          /* of a run, however little it works by its own count */
    FAULT_ROOM = 64 * 1024, /* memory to say what went wrong */
    TRACEBACK_MAX = 4 * 1024,
    TEXT_MAX = 400,
};

const struct script_limits script_limits_default = {
    .memory = (size_t)8 << 20,
    .work = 2 * 1000 * 1000,
    .time_ns = 10 * NS_PER_S,
};

/* ---- the state ---- */

static int open_state(lua_State *L)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    script_open_library(L, sandbox->script ? sandbox->script->uses : SCRIPT_USES_ALL);
    for (size_t i = 0; i < sandbox->global_count; i++) {
        script_push_object(L, &sandbox->globals[i]);
        lua_setglobal(L, sandbox->globals[i].name);
    }
    sandbox->thread = lua_newthread(L);
    script_watch(sandbox->thread, sandbox);
    lua_rawsetp(L, LUA_REGISTRYINDEX, sandbox); /* keeps it */
    return 0;
}

/* The state's memory begins to be needed before the state is known. */
bool script_sandbox_open(struct script_sandbox *sandbox, const struct script_limits *limits)
{
    script_memory_init(&sandbox->memory, limits->memory);
    sandbox->work_left = limits->work < INT64_MAX ? (int64_t)limits->work : INT64_MAX;
    sandbox->interval = INTERVAL;
    sandbox->cpu_left_ns = CPU_MAX_S * NS_PER_S;
    sandbox->scratch = arena_new(0);
    sandbox->main = lua_newstate(script_memory_resize, sandbox);
    if (!sandbox->main)
        return false;
    *(struct script_sandbox **)lua_getextraspace(sandbox->main) = sandbox;
    lua_pushcfunction(sandbox->main, open_state);
    return lua_pcall(sandbox->main, 0, 0, 0) == LUA_OK;
}

/* There is nothing in a state that lua_close() would have to end: it goes with its memory. */
void script_sandbox_close(struct script_sandbox *sandbox)
{
    script_memory_done(&sandbox->memory);
    arena_free(sandbox->scratch);
}

/* ---- what went wrong ---- */

static const char *stop_text(const struct script_sandbox *sandbox)
{
    switch (sandbox->stop) {
    case SCRIPT_STOP_MEMORY:
        return "the script needs more memory than it may use";
    case SCRIPT_STOP_WORK:
        return "the script works longer than it may";
    case SCRIPT_STOP_TIME:
        return "the script took longer than it may";
    case SCRIPT_STOP_CANCELLED:
        return "the script was cut off";
    default:
        return "error";
    }
}

/* Upvalue-free, in a protected call: the traceback of the script's thread as a text. */
static int make_traceback(lua_State *L)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    luaL_traceback(L, sandbox->thread, NULL, 0);
    return 1;
}

/* Where the script is, "name:line: ", or "". */
static struct str where(struct script_sandbox *sandbox, struct arena *arena)
{
    lua_Debug debug;
    for (int level = 0; lua_getstack(sandbox->thread, level, &debug); level++)
        if (lua_getinfo(sandbox->thread, "Sl", &debug) && debug.currentline > 0)
            return arena_printf(arena, "%s:%d: ", debug.short_src, debug.currentline);
    return STR_EMPTY;
}

/* One line, cut. */
static struct str tidy(struct arena *arena, struct str text, size_t max, bool one_line)
{
    text = str_slice(text, 0, max);
    char *copy = arena_alloc(arena, text.len + 1);
    for (size_t i = 0; i < text.len; i++) {
        bool good = (unsigned char)text.ptr[i] >= ' ' && text.ptr[i] != 127;
        copy[i] = good || (!one_line && text.ptr[i] == '\n') ? text.ptr[i] : ' ';
    }
    return str_of(copy, text.len);
}

static struct str error_text(struct script_sandbox *sandbox, struct arena *arena)
{
    lua_State *L = sandbox->thread;
    struct str text;
    if (sandbox->stop)
        return arena_printf(arena, "%.*s%s", STR_ARG(where(sandbox, arena)), stop_text(sandbox));
    if (lua_gettop(L) < 1 || lua_type(L, -1) != LUA_TSTRING)
        return arena_printf(arena, "%.*serror with %s in place of words",
                            STR_ARG(where(sandbox, arena)),
                            lua_gettop(L) < 1 ? "nothing" : luaL_typename(L, -1));
    text.ptr = lua_tolstring(L, -1, &text.len);
    return tidy(arena, text, TEXT_MAX, /* one_line= */ true);
}

static void tell_fault(struct script_sandbox *sandbox, struct arena *arena)
{
    lua_State *L = sandbox->main;
    struct script_fault *fault = &sandbox->fault;
    *fault = (struct script_fault){
        .stop = sandbox->stop, .text = error_text(sandbox, arena), .traceback = STR_EMPTY};
    size_t peak = sandbox->memory.peak;
    sandbox->memory.max = sandbox->memory.used + FAULT_ROOM;
    lua_settop(L, 0);
    lua_pushcfunction(L, make_traceback);
    if (lua_pcall(L, 0, 1, 0) == LUA_OK) {
        struct str text;
        text.ptr = lua_tolstring(L, -1, &text.len);
        fault->traceback = tidy(arena, text, TRACEBACK_MAX, /* one_line= */ false);
    }
    sandbox->memory.peak = peak;
}

/* ---- turns ---- */

static void take_turn(void *arg)
{
    struct script_sandbox *sandbox = arg;
    int count;
    sandbox->pending = SCRIPT_PENDING_NONE;
    script_slice_begin(sandbox);
    sandbox->status = lua_resume(sandbox->thread, NULL, 0, &count);
    script_slice_end(sandbox);
}

static MAY_YIELD void answer_row(struct script_sandbox *sandbox)
{
    sandbox->call_error = (struct error){0};
    sandbox->call_result = sandbox->row->answer(&sandbox->call, &sandbox->call_error);
}

/* Has its time ended, or that of who asked? */
static MAY_YIELD bool is_over(struct script_sandbox *sandbox)
{
    struct error err;
    if (!fiber_current() || fiber_check(&err) == OK)
        return false;
    sandbox->stop = err.kind == ERROR_TIMEOUT ? SCRIPT_STOP_TIME : SCRIPT_STOP_CANCELLED;
    return true;
}

/* Rows that could wait need not have: others get their turn all the same. */
static MAY_YIELD void share(int64_t *since_ns)
{
    int64_t now_ns = clock_monotonic_ns();
    if (!fiber_current() || (now_ns >= *since_ns && now_ns - *since_ns < SHARE_MS * NS_PER_MS))
        return;
    fiber_yield();
    *since_ns = clock_monotonic_ns();
}

static MAY_YIELD enum result take_turns(struct script_sandbox *sandbox, struct arena *arena)
{
    int64_t since_ns = clock_monotonic_ns();
    for (;;) {
        fiber_on_loop_stack(take_turn, sandbox);
        if (sandbox->status == LUA_OK)
            return OK;
        if (sandbox->status != LUA_YIELD) {
            tell_fault(sandbox, arena);
            return FAILED;
        }
        if (sandbox->pending == SCRIPT_PENDING_ROW)
            answer_row(sandbox);
        share(&since_ns);
        if (is_over(sandbox)) {
            tell_fault(sandbox, arena);
            return FAILED;
        }
        if (sandbox->pending)
            continue;
        lua_settop(sandbox->thread, 0); /* it yields to nobody */
        tell_fault(sandbox, arena);
        sandbox->fault.text = arena_printf(arena, "%.*scoroutine.yield outside of a coroutine",
                                           STR_ARG(where(sandbox, arena)));
        return FAILED;
    }
}

enum result script_drive(struct script_sandbox *sandbox, lua_CFunction entry, struct arena *arena,
                         int64_t time_ns)
{
    bool timed = fiber_current() != NULL && time_ns > 0;
    struct scope scope;
    lua_pushcfunction(sandbox->thread, entry);
    sandbox->may_yield = fiber_current() != NULL;
    sandbox->may_wait = true;
    if (timed)
        scope_open(&scope, clock_deadline(time_ns));
    enum result result = take_turns(sandbox, arena);
    if (timed)
        scope_close(&scope);
    return result;
}

/* ---- a run ---- */

static int take_results(lua_State *L, int status, lua_KContext context)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    struct script_outcome *outcome = sandbox->outcome;
    struct arena *arena = sandbox->run->arena;
    (void)status, (void)context;
    int count = lua_gettop(L);
    if (count > SCRIPT_RESULTS_MAX)
        return luaL_error(L, "the function returns %d values", count);
    outcome->result_count = (size_t)count;
    for (int i = 0; i < count; i++) {
        struct script_value *value = &outcome->results[i];
        script_read_value(L, i + 1, arena, value);
        if (value->kind == SCRIPT_TEXT) /* the state ends before they are looked at */
            value->text = arena_str(arena, str_slice(value->text, 0, SCRIPT_FILE_MAX));
    }
    return 0;
}

/* The thread's first function. */
static int enter(lua_State *L)
{
    struct script_sandbox *sandbox = script_sandbox_of(L);
    const struct script_run *run = sandbox->run;
    script_push_chunk(L, &run->script->chunks[0]);
    lua_call(L, 0, 0);
    lua_pushglobaltable(L);
    lua_pushlstring(L, run->function.ptr, run->function.len);
    lua_rawget(L, 1);
    lua_remove(L, 1);
    if (!lua_isfunction(L, -1))
        return luaL_error(L, "there is no function \"%s\" any more",
                          lua_pushlstring(L, run->function.ptr, run->function.len));
    if (run->argument)
        script_push_object(L, run->argument);
    lua_callk(L, run->argument ? 1 : 0, LUA_MULTRET, 0, take_results);
    return take_results(L, LUA_OK, 0);
}

enum result script_run(const struct script_run *run, struct script_outcome *out)
{
    const struct script_limits *limits = run->limits ? run->limits : &script_limits_default;
    *out = (struct script_outcome){
        .fault = {.text = STR_EMPTY, .traceback = STR_EMPTY},
    };
    struct script_sandbox sandbox = {
        .script = run->script,
        .run = run,
        .globals = run->globals,
        .global_count = run->global_count,
        .outcome = out,
        .fault = {.stop = SCRIPT_STOP_MEMORY,
                  .text = STR("the script needs more memory than it may use"),
                  .traceback = STR_EMPTY},
    };
    enum result result = FAILED;
    if (script_sandbox_open(&sandbox, limits))
        result = script_drive(&sandbox, enter, run->arena, limits->time_ns);
    if (result != OK)
        out->fault = sandbox.fault;
    int64_t left = sandbox.work_left > 0 ? sandbox.work_left : 0;
    out->work = limits->work - (uint64_t)left;
    out->memory = sandbox.memory.peak;
    script_sandbox_close(&sandbox);
    return result;
}
