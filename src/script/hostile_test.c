/* SPDX-License-Identifier: Apache-2.0 */
/* script/hostile_test.c - scripts that try to go on for ever, or to have everything: each ends. */
#include "base/test.h"

#include "fiber/test.h"
#include "script/script.h"

#include <stdio.h>

static const struct script_limits small = {
    .memory = 1 << 20, .work = 200 * 1000, .time_ns = 20 * NS_PER_S};

struct trial {
    struct arena *arena;
    struct script *script;
    const struct script_limits *limits;
    struct script_outcome outcome;
    enum result result;
    unsigned turns_of_others;
    bool done;
};

static void run_trial(void *arg) NO_YIELD_CHECK
{
    struct trial *trial = arg;
    struct script_run run = {
        .script = trial->script,
        .function = STR("f"),
        .limits = trial->limits,
        .arena = trial->arena,
    };
    trial->result = script_run(&run, &trial->outcome);
    trial->done = true;
}

static void load(struct trial *trial, const char *text)
{
    struct script_problem problem;
    *trial = (struct trial){.arena = arena_new(0), .limits = &small};
    struct script_loading loading = {.arena = trial->arena};
    if (script_load_text(&loading, STR("t"), str_c(text), &trial->script, &problem) != OK)
        fail_msg("%s: %.*s", text, STR_ARG(problem.text));
}

enum { WORK = SCRIPT_STOP_WORK, MEMORY = SCRIPT_STOP_MEMORY, ERROR = SCRIPT_STOP_NONE, ENDS = -1 };

static const struct {
    const char *name, *text;
    int stop; /* one of the above */
} scripts[] = {
    {"a loop", "while true do end", WORK},
    {"a loop of calls", "local function g() end while true do g() end", WORK},
    {"recursion", "local function g() return 1 + g() end return g()", MEMORY},
    {"tail recursion", "local function g() return g() end return g()", WORK},
    {"recursion that is caught",
     "local function g() pcall(g) return g() end while true do pcall(g) end", MEMORY},
    {"pcall around it", "while true do pcall(function() while true do end end) end", WORK},
    {"xpcall around it",
     "while true do xpcall(function() while true do end end, function() while true do end end) "
     "end",
     WORK},
    {"xpcall with itself", "local h h = function() error('x') end xpcall(error, h, 'y')", ENDS},
    {"errors only", "while true do pcall(error, 'x') end", WORK},
    {"error objects", "while true do pcall(error, setmetatable({}, {__tostring = error})) end",
     WORK},
    {"an error that is a loop",
     "error(setmetatable({}, {__tostring = function() while true do end end}))", ERROR},
    {"tostring of a loop",
     "tostring(setmetatable({}, {__tostring = function() while true do end end}))", WORK},
    {"a coroutine", "coroutine.wrap(function() while true do end end)()", WORK},
    {"coroutines in pcall",
     "while true do pcall(coroutine.wrap(function() while true do end end)) end", WORK},
    {"coroutines that are resumed",
     "local c = coroutine.create(function() while true do end end) while true do "
     "coroutine.resume(c) end",
     WORK},
    {"coroutines in coroutines", "local function g() coroutine.wrap(g)() end g()", ERROR},
    {"coroutines kept", "local t = {} while true do t[#t+1] = coroutine.create(print or f) end",
     MEMORY},
    {"coroutines that close",
     "while true do local c = coroutine.create(function() local x <close> = setmetatable({}, "
     "{__close = function() while true do end end}) coroutine.yield() end) coroutine.resume(c) "
     "coroutine.close(c) end",
     WORK},
    {"__close", "local x <close> = setmetatable({}, {__close = function() while true do end end})",
     WORK},
    {"__close of many",
     "local function g(n) local x <close> = setmetatable({}, {__close = function() while true do "
     "end end}) if n > 0 then g(n - 1) end while true do end end g(150)",
     WORK},
    {"a table", "local t = {} for i = 1, 1e9 do t[i] = i end", MEMORY},
    {"a table, caught",
     "while true do pcall(function() local t = {} for i = 1, 1e9 do t[i] = i end end) end", MEMORY},
    {"memory, caught once", "pcall(function() local t = {} for i = 1, 1e9 do t[i] = i end end)",
     MEMORY},
    {"memory, caught once with a handler",
     "xpcall(function() local t = {} for i = 1, 1e9 do t[i] = i end end, tostring)", MEMORY},
    {"memory in a coroutine, caught once",
     "pcall(coroutine.wrap(function() local t = {} for i = 1, 1e9 do t[i] = i end end))", MEMORY},
    {"memory in a coroutine, resumed",
     "coroutine.resume(coroutine.create(function() local t = {} for i = 1, 1e9 do t[i] = i end "
     "end))",
     MEMORY},
    {"a text", "local s = 'x' while true do s = s .. s end", MEMORY},
    {"a text, caught", "local s = 'x' while true do pcall(function() s = s .. s end) end", MEMORY},
    {"rep", "return ('x'):rep(1e9)", ERROR},
    {"rep, less", "return ('x'):rep(5e7)", ERROR},
    {"rep of nothing", "return ('x'):rep(1 << 62, '')", ERROR},
    {"rep, caught", "while true do pcall(string.rep, 'x', 5e7) end", WORK},
    {"rep and garbage", "while true do local x = ('x'):rep(500000) end", WORK},
    {"format", "return ('%99.99f'):rep(100):format(table.unpack({}, 1, 100))", ERROR},
    {"concat",
     "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(2000) end return "
     "table.concat(t)",
     MEMORY},
    {"unpack", "return table.unpack({}, 1, 1e8)", WORK},
    {"unpack, less", "return table.unpack({}, 1, 500000)", MEMORY},
    {"move of nothing by floats", "table.move({}, 1, 1e15, 2)", WORK},
    {"move of nothing", "table.move({}, 1, 1 << 60, 2)", WORK},
    {"insert with a length",
     "table.insert(setmetatable({}, {__len = function() return 1 << 60 end}), 1, 1)", ERROR},
    {"remove with a length",
     "table.remove(setmetatable({}, {__len = function() return 1 << 60 end}), 1)", ERROR},
    {"sort", "local t = {} for i = 1, 20000 do t[i] = i end while true do table.sort(t) end", WORK},
    {"sort with a lie",
     "local t = {} for i = 1, 1000 do t[i] = i end while true do "
     "pcall(table.sort, t, function() return true end) end",
     WORK},
    {"a pattern", "return ('a'):rep(3000):find(('.-'):rep(20) .. 'b')", ERROR},
    {"a pattern, caught",
     "local s = ('a'):rep(3000) while true do pcall(string.find, s, ('.-'):rep(20) .. 'b') end",
     WORK},
    {"a pattern of balance", "return ('('):rep(100000):find('%b()')", WORK},
    {"a pattern with sets", "return ('a'):rep(20000):find('[' .. ('b'):rep(200) .. ']*[^a]')",
     ERROR},
    {"a pattern too deep", "return ('a'):rep(500):find(('a?'):rep(500) .. 'b')", ERROR},
    {"a plain search",
     "local s = ('a'):rep(200000) while true do s:find(('a'):rep(1000) .. 'b', 1, true) end", WORK},
    {"gsub", "local s = ('a'):rep(10000) while true do s = s:gsub('a', 'b') end", WORK},
    {"gsub that grows", "local s = 'a' while true do s = s:gsub('a', 'aa') end", MEMORY},
    {"gsub in gsub", "local function g() return (('a'):gsub('a', g)) end return g()", ERROR},
    {"gmatch", "for _ in ('a'):rep(100000):gmatch('') do end while true do end", WORK},
    {"next over holes",
     "local t = {} for i = 1, 10000 do t['x' .. i] = 1 end for k in pairs(t) do t[k] = nil end "
     "while true do next(t) end",
     WORK},
    {"metamethods",
     "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end "
     "return t.x",
     ERROR},
    {"a long chain of __index",
     "local t = {} for i = 1, 3000 do t = setmetatable({}, {__index = t}) end return t.x", ERROR},
    {"comparing", "local a, b = ('x'):rep(200000), ('x'):rep(200000) .. '' while a == b do end",
     WORK},
    {"utf8", "local s = ('x'):rep(200000) while true do utf8.len(s) end", WORK},
    {"tonumber", "local s = (' '):rep(200000) while true do tonumber(s) end", WORK},
    {"unpacking", "local s = ('x'):rep(200000) while true do pcall(string.unpack, 'z', s) end",
     WORK},
    {"select", "while true do select(1, table.unpack({}, 1, 20000)) end", WORK},
    {"goto", "::a:: goto a", WORK},
    {"numbers", "for i = 1, math.huge do end", WORK},
    {"globals of the next run", "string.rep = nil table.insert = nil _G.pcall = nil", ENDS},
    {"results too deep", "return {{{{{{}}}}}}", ERROR},
    {"results in a ring", "local t = {} t.t = t return t", ERROR},
    {"results too many", "local t = {} for i = 1, 5000 do t[i] = i end return t", ERROR},
};

static void every_one_ends(void **state)
{
    char text[2000];
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct trial trial;
        snprintf(text, sizeof text, "function f()\n%s\nend", scripts[i].text);
        load(&trial, text);
        test_in_fiber(run_trial, &trial);
        int stop = trial.result == OK ? ENDS : (int)trial.outcome.fault.stop;
        if (stop != scripts[i].stop)
            fail_msg("%s: %d, %.*s", scripts[i].name, stop, STR_ARG(trial.outcome.fault.text));
        assert_true(trial.outcome.memory <= small.memory);
        arena_free(trial.arena);
    }
}

/* The same off a fiber, as when a configuration is checked. */
static void every_one_ends_at_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct arena *arena = arena_new(0);
        struct script_loading loading = {.arena = arena, .limits = &small};
        struct script *script;
        struct script_problem problem;
        enum result result =
            script_load_text(&loading, STR("t"), str_c(scripts[i].text), &script, &problem);
        if ((result == OK) !=
            (scripts[i].stop == ENDS || str_starts(str_c(scripts[i].name), STR("results"))))
            fail_msg("%s: %s", scripts[i].name, result == OK ? "loaded" : "not loaded");
        arena_free(arena);
    }
}

/* A long run lets others have their turn. */
static void count_turns(void *arg) NO_YIELD_CHECK
{
    struct trial *trial = arg;
    while (!trial->done) {
        trial->turns_of_others++;
        fiber_yield();
    }
}

static void a_long_run_yields(void **state)
{
    static const struct script_limits large = {
        .memory = 1 << 20, .work = 20 * 1000 * 1000, .time_ns = 60 * NS_PER_S};
    static const char *const texts[] = {
        "function f() for i = 1, 5000000 do end return 1 end",
        "function f() return coroutine.wrap(function() for i = 1, 5000000 do end return 1 end)() "
        "end",
        "function f() return select(2, pcall(function() for i = 1, 5000000 do end return 1 end)) "
        "end",
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct trial trial;
        struct test_loop loop;
        load(&trial, texts[i]);
        trial.limits = &large;
        test_loop_open(&loop, NULL);
        test_loop_spawn(&loop, run_trial, &trial);
        test_loop_spawn(&loop, count_turns, &trial);
        test_loop_run(&loop);
        test_loop_close(&loop);
        if (trial.result != OK || trial.outcome.results[0].integer != 1)
            fail_msg("%s: %.*s", texts[i], STR_ARG(trial.outcome.fault.text));
        assert_true(trial.turns_of_others > 3);
        arena_free(trial.arena);
    }
}

/* ---- time ---- */

struct watched {
    struct trial trial;
    int64_t time_ns;
};

static void run_within(void *arg) NO_YIELD_CHECK
{
    struct watched *watched = arg;
    struct scope scope;
    scope_open(&scope, clock_deadline(watched->time_ns));
    run_trial(&watched->trial);
    scope_close(&scope);
}

static void time_ends_a_run(void **state)
{
    static const struct script_limits short_time = {
        .memory = 1 << 20, .work = UINT64_C(1) << 40, .time_ns = 20 * NS_PER_MS};
    static const struct script_limits long_time = {
        .memory = 1 << 20, .work = UINT64_C(1) << 40, .time_ns = 60 * NS_PER_S};
    struct watched watched = {.time_ns = 60 * NS_PER_S};
    (void)state;
    load(&watched.trial, "function f() while true do pcall(error) end end");
    watched.trial.limits = &short_time;
    test_in_fiber(run_within, &watched);
    assert_int_equal(watched.trial.outcome.fault.stop, SCRIPT_STOP_TIME);
    assert_true(watched.trial.outcome.fault.traceback.len > 0);
    /* the time of who asked */
    watched.time_ns = 20 * NS_PER_MS;
    watched.trial.limits = &long_time;
    test_in_fiber(run_within, &watched);
    assert_int_equal(watched.trial.outcome.fault.stop, SCRIPT_STOP_TIME);
    arena_free(watched.trial.arena);
}

/* However little it counts, a run has a second of the processor. */
static void the_processor_is_bounded(void **state)
{
    static const struct script_limits endless = {
        .memory = 1 << 20, .work = UINT64_C(1) << 40, .time_ns = 600 * NS_PER_S};
    struct trial trial;
    (void)state;
    load(&trial, "function f() while true do end end");
    trial.limits = &endless;
    test_in_fiber(run_trial, &trial);
    assert_int_equal(trial.outcome.fault.stop, SCRIPT_STOP_WORK);
    arena_free(trial.arena);
}

/* With every size of memory a script is loaded or not, and runs or not: no crash. */
static void any_memory(void **state)
{
    (void)state;
    for (size_t memory = 100; memory < 120 * 1000; memory += 701) {
        struct script_limits limits = {.memory = memory, .work = 100000, .time_ns = NS_PER_S};
        struct trial trial;
        load(&trial, "function f() local t = {} for i = 1, 100 do t[i] = ('x'):rep(i) end return "
                     "pcall(error, t) end");
        trial.limits = &limits;
        test_in_fiber(run_trial, &trial);
        assert_true(trial.result == OK || trial.outcome.fault.text.len > 0);
        arena_free(trial.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_one_ends),           cmocka_unit_test(every_one_ends_at_load),
        cmocka_unit_test(a_long_run_yields),        cmocka_unit_test(time_ends_a_run),
        cmocka_unit_test(the_processor_is_bounded), cmocka_unit_test(any_memory),
    };
    return cmocka_run_group_tests_name("script-hostile", tests, NULL, NULL);
}
