/* SPDX-License-Identifier: Apache-2.0 */
/* script/script_test.c - what scripts can do: the language, the host's rows, requirements, faults.
 */
#include "base/test.h"

#include "base/buf.h"
#include "fiber/test.h"
#include "script/script.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a host with a few rows ---- */

struct host {
    unsigned waits;
    struct str said;
    struct arena *arena;
};

static enum result give_name(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_text(call, STR("Ann"));
    return OK;
}

static enum result say(struct script_call *call, struct error *err)
{
    struct host *host = call->context;
    struct str text;
    if (script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    host->said = arena_str(host->arena, text);
    script_return_bool(call, true);
    return OK;
}

static MAY_YIELD enum result slow(struct script_call *call, struct error *err)
{
    struct host *host = call->context;
    struct str text;
    if (script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    host->waits++;
    if (fiber_current() && fiber_sleep(NS_PER_US, err) != OK)
        return FAILED;
    if (str_equal(text, STR("bad")))
        return fail(err, ERROR_TEMPORARY, "no answer");
    struct script_value *items = script_return_list(call, 2);
    items[0] = script_text(text);
    items[1] = script_text(STR("b"));
    return OK;
}

/* It could wait, and does not. */
static enum result busy(struct script_call *call, struct error *err)
{
    volatile unsigned turns = 0;
    (void)err;
    while (turns < 100000)
        turns++;
    script_return_text(call, STR("done"));
    return OK;
}

static enum result big(struct script_call *call, struct error *err)
{
    (void)err;
    script_return_text(call, str_of(arena_alloc(call->arena, 65536), 65536));
    return OK;
}

static enum result add(struct script_call *call, struct error *err)
{
    const struct script_value *list = &call->arguments[0];
    const struct script_value *times = script_value_get(&call->arguments[1], "times");
    int64_t sum = 0;
    (void)err;
    for (size_t i = 0; i < list->count; i++)
        sum += list->items[i].integer;
    script_return_integer(call, sum * (times ? times->integer : 1));
    return OK;
}

static enum result numbers(struct script_call *call, struct error *err)
{
    int64_t number;
    if (script_take_integer(call, 0, 1, 10, &number, err) != OK)
        return FAILED;
    script_return_number(call, (double)number / 2);
    script_return_nil(call);
    return OK;
}

static const struct script_row rows[] = {
    {.name = "name", .text = "a name", .where = 1, .answer = give_name},
    {.name = "say", .arguments = "text", .text = "says", .where = 1, .answer = say},
    {.name = "slow",
     .arguments = "text",
     .text = "waits",
     .where = 1,
     .waits = true,
     .answer = slow},
    {.name = "add", .arguments = "list, options", .text = "adds", .where = 1, .answer = add},
    {.name = "half", .arguments = "number", .text = "halves", .where = 1, .answer = numbers},
    {.name = "busy", .arguments = "", .text = "works", .where = 1, .waits = true, .answer = busy},
    {.name = "big", .arguments = "", .text = "a lot", .where = 1, .answer = big},
    {.name = "elsewhere", .arguments = "", .text = "not here", .where = 2, .answer = say},
    {.name = NULL},
};
static const struct script_object object = {.name = "host", .rows = rows, .where = 1};

/* ---- one script ---- */

struct trial {
    struct arena *arena;
    struct script *script;
    struct script_problem problem;
    enum result loaded;
    struct host host;
    struct script_limits limits;
    struct script_outcome outcome;
    enum result result;
};

static void open_trial(struct trial *trial, const char *text)
{
    *trial = (struct trial){.arena = arena_new(0), .limits = script_limits_default};
    trial->host.arena = trial->arena;
    struct script_loading loading = {.arena = trial->arena, .objects = &object, .object_count = 1};
    trial->loaded =
        script_load_text(&loading, STR("test.lua"), str_c(text), &trial->script, &trial->problem);
}

static void run_trial(void *arg) NO_YIELD_CHECK
{
    struct trial *trial = arg;
    struct script_run run = {
        .script = trial->script,
        .function = STR("f"),
        .limits = &trial->limits,
        .globals = &object,
        .global_count = 1,
        .argument = &object,
        .context = &trial->host,
        .arena = trial->arena,
    };
    trial->result = script_run(&run, &trial->outcome);
}

static struct str shown(struct trial *trial, const struct script_value *value)
{
    struct arena *arena = trial->arena;
    struct str text = STR("{");
    switch (value->kind) {
    case SCRIPT_NIL:
        return STR("nil");
    case SCRIPT_BOOL:
        return value->truth ? STR("true") : STR("false");
    case SCRIPT_INTEGER:
        return arena_printf(arena, "%lld", (long long)value->integer);
    case SCRIPT_NUMBER:
        return arena_printf(arena, "%g", value->number);
    case SCRIPT_TEXT:
        return value->text;
    case SCRIPT_OTHER:
        return arena_printf(arena, "<%.*s>", STR_ARG(value->text));
    default:
        for (size_t i = 0; i < value->count; i++) {
            struct str key = value->kind == SCRIPT_MAP ? value->keys[i] : STR_EMPTY;
            struct str item = shown(trial, &value->items[i]);
            text = arena_printf(arena, "%.*s%s%.*s%s%.*s", STR_ARG(text), i ? "," : "",
                                STR_ARG(key), key.len ? "=" : "", STR_ARG(item));
        }
        return arena_printf(arena, "%.*s}", STR_ARG(text));
    }
}

/* Results in one line, or "fault: …". */
static struct str said(struct trial *trial)
{
    struct str text = STR_EMPTY;
    if (trial->loaded != OK)
        return arena_printf(trial->arena, "load %u:%u: %.*s", trial->problem.line,
                            trial->problem.column, STR_ARG(trial->problem.text));
    if (trial->result != OK)
        return arena_printf(trial->arena, "fault: %.*s", STR_ARG(trial->outcome.fault.text));
    for (size_t i = 0; i < trial->outcome.result_count; i++)
        text = arena_printf(trial->arena, "%.*s%s%.*s", STR_ARG(text), i ? " " : "",
                            STR_ARG(shown(trial, &trial->outcome.results[i])));
    return text;
}

static void check_script(const char *name, const char *text, const char *expected)
{
    struct trial trial;
    open_trial(&trial, text);
    if (trial.loaded == OK)
        test_in_fiber(run_trial, &trial);
    struct str got = said(&trial);
    if (!str_equal(got, str_c(expected)))
        fail_msg("%s: \"%.*s\" instead of \"%s\"", name, STR_ARG(got), expected);
    arena_free(trial.arena);
}

/* ---- the language and the rows ---- */

#define F(body) "function f(host)\n" body "\nend"

static const struct {
    const char *name, *text, *expected;
} scripts[] = {
    {"nothing", F(""), ""},
    {"kinds", F("return 1, 2.5, 'x', true"), "1 2.5 x true"},
    {"tables", F("return {1, 'a'}, {reply='r'}, {}, nil"), "{1,a} {reply=r} {} nil"},
    {"a function", F("return f"), "<function>"},
    {"too many", F("return 1,2,3,4,5"), "fault: the function returns 5 values"},
    {"a row", F("return host.name"), "Ann"},
    {"a row by the global", F("return _G.host.name"), "Ann"},
    {"a call with :", F("return host:say('hi')"), "true"},
    {"a call with .", F("return host.say('hi')"), "true"},
    {"a number as text", F("return host:say(5)"), "true"},
    {"a wrong kind", F("return host:say({})"),
     "fault: test.lua:2: say: argument 1: expected a text, got a table"},
    {"a missing one", F("return host:say()"),
     "fault: test.lua:2: say: argument 1: expected a text, got nothing"},
    {"caught", F("local ok, text = pcall(host.say, nil) return ok, text"),
     "false say: argument 1: expected a text, got nothing"},
    {"a typing error", F("return host.nam"),
     "fault: test.lua:2: host has no \"nam\"; did you mean \"name\"?"},
    {"no such", F("return host.xxxxxxxxxx"), "fault: test.lua:2: host has no \"xxxxxxxxxx\""},
    {"not here", F("return host.elsewhere()"),
     "fault: test.lua:2: host.elsewhere does not exist here"},
    {"not to be changed", F("host.name = 'x'"), "fault: test.lua:2: host cannot be changed"},
    {"tables to the host", F("return host.add({1,2,3}, {times=2})"), "12"},
    {"no integer", F("return host.half(1.5)"),
     "fault: test.lua:2: half: argument 1: expected a whole number, got a number"},
    {"a whole float", F("return host.half(3.0)"), "1.5 nil"},
    {"out of bounds", F("return host.half(11)"),
     "fault: test.lua:2: half: argument 1: 11 is not within 1 and 10"},
    {"waiting", F("return host:slow('a')"), "{a,b}"},
    {"waiting twice", F("return host:slow('a'), host:slow('c')[1]"), "{a,b} c"},
    {"waiting fails", F("return host:slow('bad')"), "fault: test.lua:2: slow: no answer"},
    {"waiting fails and is caught", F("return pcall(host.slow, 'bad')"), "false slow: no answer"},
    {"waiting in pcall",
     F("local ok, list = pcall(function() return host:slow('a') end)"
       " return ok, list"),
     "true {a,b}"},
    {"waiting in a coroutine",
     F("local c = coroutine.wrap(function(x) local l = host:slow(x) coroutine.yield(l[1])"
       " return host:slow('d')[1] end) return c('a'), c()"),
     "a d"},
    {"waiting in a coroutine in one",
     F("local c = coroutine.create(function() local d = coroutine.wrap(function()"
       " return host:slow('a')[2] end) return d() end) return coroutine.resume(c)"),
     "true b"},
    {"a row that waits as a coroutine", F("return coroutine.wrap(host.slow)('a')"), "{a,b}"},
    {"waiting in an iterator",
     F("local all = '' for s in function(_, last) if not last then return host:slow('a')[1] end"
       " end do all = all .. s end return all"),
     "a"},
    {"waiting where that cannot be", F("return ('a'):gsub('a', function() host:slow('a') end)"),
     "fault: test.lua:2: slow waits for an answer, and cannot be called in a function that "
     "string.gsub, table.sort or a metamethod calls"},
    {"waiting in sort in a coroutine",
     F("local c = coroutine.wrap(function() table.sort({2,1}, function() host:slow('a') end) end)"
       " return c()"),
     "fault: test.lua:2: slow waits for an answer, and cannot be called in a function that "
     "string.gsub, table.sort or a metamethod calls"},
    {"much from a row", F("for i = 1, 1000000 do local x = host.big() end"),
     "fault: test.lua:2: the script works longer than it may"},
    {"a coroutine that ends", F("local c = coroutine.wrap(function() end) c() c()"),
     "fault: test.lua:2: cannot resume dead coroutine"},
    {"a coroutine that fails",
     F("local c = coroutine.create(function() error('x', 0) end) return coroutine.resume(c)"),
     "false x"},
    {"yield to nobody", F("coroutine.yield()"),
     "fault: test.lua:2: coroutine.yield outside of a coroutine"},
    {"an error", F("error('x')"), "fault: test.lua:2: x"},
    {"an error object", F("error({})"), "fault: test.lua:2: error with table in place of words"},
    {"an error of nothing", F("error()"), "fault: test.lua:2: error with nil in place of words"},
    {"an error with a line feed", F("error('a\\nb', 0)"), "fault: a b"},
    {"xpcall",
     F("return xpcall(function(a) error(a, 0) end, function(m) return m .. '!' end, 'x')"),
     "false x!"},
    {"xpcall good", F("return xpcall(function(a) return a end, function() end, 'x')"), "true x"},
    {"pcall good", F("return pcall(function(...) return select('#', ...) end, 1, 2)"), "true 2"},
    {"sort", F("local t = {3,1,2} table.sort(t) return t"), "{1,2,3}"},
    {"insert, remove", F("local t = {1,3} table.insert(t, 2, 2) table.remove(t, 1) return t"),
     "{2,3}"},
    {"concat", F("return table.concat({'a','b'}, '-')"), "a-b"},
    {"unpack", F("return table.unpack({1,2,3}, 2)"), "2 3"},
    {"move", F("return table.move({1,2}, 1, 2, 2)"), "{1,1,2}"},
    {"metatables",
     F("local t = setmetatable({}, {__index = function(_, k) return k end})"
       " return t.abc"),
     "abc"},
    {"utf8", F("return utf8.len('\\u{e4}b'), utf8.char(228)"), "2 \xC3\xA4"},
    {"math", F("return math.max(1, 2), math.floor(2.5)"), "2 2"},
    {"what is not there", F("return tostring(io), tostring(os), tostring(debug), tostring(load)"),
     "nil nil nil nil"},
    {"more of it",
     F("return tostring(loadfile), tostring(dofile), tostring(package), tostring(string.dump)"),
     "nil nil nil nil"},
    {"and more", F("return tostring(collectgarbage), tostring(print), getmetatable('')"),
     "nil nil false"},
    {"a metatable of texts", F("setmetatable('', {})"),
     "fault: test.lua:2: bad argument #1 to 'setmetatable' (table expected, got string)"},
    {"the metatable of an object", F("setmetatable(host, {})"),
     "fault: test.lua:2: cannot change a protected metatable"},
    {"__gc", F("setmetatable({}, {__gc = function() end})"),
     "fault: test.lua:2: scripts have no __gc"},
    {"no function", "g = 1", "fault: there is no function \"f\" any more"},
    {"a local function is none", "local function f() end",
     "fault: there is no function \"f\" any more"},
    {"require nothing", "require 'x'", "load 1:1: nothing can be required here"},
    {"at the top", "host.say('x')",
     "load 1:1: say: nothing is known while the file is loaded; use it in a function"},
};

static void each_script_says_what_it_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        check_script(scripts[i].name, scripts[i].text, scripts[i].expected);
}

/* ---- patterns: as Lua's manual describes them ---- */

static const struct {
    const char *expression, *expected;
} patterns[] = {
    {"('hello world'):find('wor')", "7 9"},
    {"('hello world'):find('l+')", "3 4"},
    {"('hello'):find('')", "1 0"},
    {"('hello'):find('', 6)", "6 5"},
    {"('hello'):find('', 7)", "nil"},
    {"('hello'):find('lo', -2)", "4 5"},
    {"('hello'):find('lo', -99)", "4 5"},
    {"('a.b'):find('.', 2, true)", "2 2"},
    {"('a.b'):find('%.')", "2 2"},
    {"('aXb'):find('(%u)(%l)')", "2 3 X b"},
    {"('hello'):match('^h(.-)o$')", "ell"},
    {"('hello'):match('^e')", "nil"},
    {"('key = value'):match('^(%w+)%s*=%s*(%w+)$')", "key value"},
    {"('hello'):match('()ll()')", "3 5"},
    {"('f(a(b)c)d'):match('%b()')", "(a(b)c)"},
    {"('THE (quick) fox'):find('%((%a+)%)')", "5 11 quick"},
    {"('THE (quick) fox'):gsub('%f[%a]%a+', 'w')", "w (w) w 3"},
    {"('abcabc'):match('(abc)%1')", "abc"},
    {"('x^y'):gsub('%^', '+')", "x+y 1"},
    {"('[]'):match('[]]')", "]"},
    {"('a-b'):match('[a%-]+')", "a-"},
    {"('a-b'):match('[%w-]+')", "a-b"},
    {"('abc'):match('[^a-b]')", "c"},
    {"('abc'):gsub('', '-')", "-a-b-c- 4"},
    {"('abc'):gsub('b*', 'x')", "xaxcx 3"},
    {"('hello world'):gsub('o', '0', 1)", "hell0 world 1"},
    {"('abc'):gsub('%w', '%0%0')", "aabbcc 3"},
    {"('ab'):gsub('(a)(b)', '%2%1')", "ba 1"},
    {"('ab'):gsub('a', {a = 'x'})", "xb 1"},
    {"('ab'):gsub('.', {a = false})", "ab 2"},
    {"('ab'):gsub('.', function(c) return c:upper() end)", "AB 2"},
    {"('abc'):gsub('b', 7)", "a7c 1"},
    {"('a,b,,c'):gsub(',', ';')", "a;b;;c 3"},
    {"(function() local t = {} for k in ('a=1 b=2'):gmatch('(%w)=') do t[#t+1] = k end"
     " return t end)()",
     "{a,b}"},
    {"(function() local n = 0 for _ in ('abc'):gmatch('') do n = n + 1 end return n end)()", "4"},
    {"('a\\0b'):find('\\0')", "2 2"},
    {"('a\\0b'):match('%z')", "nil"},
    {"('x'):rep(3, '-')", "x-x-x"},
    {"('x'):rep(0)", ""},
    {"(''):rep(1e15 // 1 | 0)", ""},
    {"('x'):match('(')", "fault: test.lua:1: unfinished capture"},
    {"('x'):match(')')", "fault: test.lua:1: invalid pattern capture"},
    {"('x'):match('[a')", "fault: test.lua:1: malformed pattern (missing ']')"},
    {"('x'):match('[a%')", "fault: test.lua:1: malformed pattern (missing ']')"},
    {"('x'):match('%')", "fault: test.lua:1: malformed pattern (ends with '%')"},
    {"('x'):match('%1')", "fault: test.lua:1: invalid capture index %1"},
    {"('xx'):match('()x%1')", "nil"},
    {"('x'):match('%b')", "fault: test.lua:1: malformed pattern (missing arguments to '%b')"},
    {"('x'):match('%f')", "fault: test.lua:1: missing '[' after '%f' in pattern"},
    {"('x'):gsub('x', '%2')", "fault: test.lua:1: invalid capture index %2"},
    {"('x'):gsub('x', '%a')", "fault: test.lua:1: invalid use of '%' in replacement string"},
    {"('x'):gsub('x', function() return {} end)",
     "fault: test.lua:1: invalid replacement value (a table)"},
};

static void patterns_match_as_in_lua(void **state)
{
    char text[1000];
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        snprintf(text, sizeof text, "function f() return %s end", patterns[i].expression);
        check_script(patterns[i].expression, text, patterns[i].expected);
    }
}

/* ---- what is wrong with a text, and where ---- */

static const struct {
    const char *text, *expected;
} errors[] = {
    {"function f()\n  retrun 1\nend", "load 2:10: syntax error near '1'"},
    {"local x = = 2", "load 1:11: unexpected symbol near '='"},
    {"function f(\n", "load 2:1: <name> or '...' expected near <eof>"},
    {"x = 'abc", "load 1:9: unfinished string near <eof>"},
    {"if x then\n  y = 1\n", "load 3:1: 'end' expected (to close 'if' at line 1) near <eof>"},
    {"local t = nil\nt.x = 1", "load 2:1: attempt to index a nil value (local 't')"},
    {"goto nowhere", "load 1:1: no visible label 'nowhere' for <goto> at line 1"},
    {"while true do end", "load 1:1: the script works longer than it may"},
    {"\x1bLua", "load 0:0: attempt to load a binary chunk (mode is 't')"},
};

static void errors_have_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        check_script(errors[i].text, errors[i].text, errors[i].expected);
}

/* ---- files ---- */

static char folder[] = "/tmp/script-test-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    check(file && fputs(text, file) >= 0);
    fclose(file);
}

static void count_file(void *context, struct str path)
{
    (void)path;
    ++*(unsigned *)context;
}

static struct str load_and_run(struct trial *trial, const char *name, unsigned *files)
{
    *trial = (struct trial){.arena = arena_new(0), .limits = script_limits_default};
    trial->host.arena = trial->arena;
    *files = 0;
    struct script_loading loading = {.arena = trial->arena,
                                     .objects = &object,
                                     .object_count = 1,
                                     .saw_file = count_file,
                                     .context = files};
    trial->loaded = script_load_file(&loading, arena_printf(trial->arena, "%s/%s", folder, name),
                                     &trial->script, &trial->problem);
    if (trial->loaded == OK)
        test_in_fiber(run_trial, trial);
    return said(trial);
}

static void files_require_others_beside_them(void **state)
{
    static const struct {
        const char *name, *expected;
        unsigned files;
    } cases[] = {
        {"good.lua", "1 2 true", 3},
        {"missing.lua", "load 1:1: /F/nothing.lua: No such file or directory", 2},
        {"outside.lua",
         "load 1:1: a module is named by letters, digits, - and _, with . between "
         "folders: it is a file beside this one",
         1},
        {"absolute.lua",
         "load 1:1: a module is named by letters, digits, - and _, with . between "
         "folders: it is a file beside this one",
         1},
        {"loop.lua", "load 1:1: \"loop_b\" requires itself", 4},
        {"broken.lua", "load 2:5: unexpected symbol near '='", 2},
        {"late.lua",
         "fault: late.lua:1: \"one\" was not required while the file was loaded: do it "
         "at the top of the file",
         1},
        {"none.lua", "load 0:0: /F/none.lua: No such file or directory", 1},
    };
    (void)state;
    check(mkdtemp(folder));
    char path[200];
    snprintf(path, sizeof path, "%s/lib", folder);
    check(mkdir(path, 0700) == 0);
    put("one.lua", "return { value = 1 }");
    put("lib/two.lua", "two = 2");
    put("good.lua", "local one = require('one') local b = require('lib.two')\n"
                    "function f() return one.value, two, b end");
    put("missing.lua", "require 'nothing'");
    put("outside.lua", "require '..etc'");
    put("absolute.lua", "require '/etc/passwd'");
    put("loop.lua", "require 'loop_a'");
    put("loop_a.lua", "require 'loop_b'");
    put("loop_b.lua", "require 'loop_c'");
    put("loop_c.lua", "require 'loop_b'");
    put("broken.lua", "require 'wrong'");
    put("wrong.lua", "local x\nx = = 1");
    put("late.lua", "function f() return require('one') end");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct trial trial;
        unsigned files;
        struct str got = load_and_run(&trial, cases[i].name, &files);
        ptrdiff_t at = str_find_str(got, str_c(folder));
        if (at >= 0)
            got = arena_printf(trial.arena, "%.*s/F%.*s", (int)at, got.ptr,
                               STR_ARG(str_from(got, (size_t)at + sizeof folder - 1)));
        if (!str_equal(got, str_c(cases[i].expected)) ||
            (trial.loaded == OK && files != cases[i].files))
            fail_msg("%s: \"%.*s\", %u files", cases[i].name, STR_ARG(got), files);
        arena_free(trial.arena);
    }
    snprintf(path, sizeof path, "rm -r %s", folder);
    check(system(path) == 0);
}

/* ---- runs ---- */

/* What is opened only when it is named is there in each form of naming. */
static void libraries_are_there_when_named(void **state)
{
    static const char *const texts[] = {
        F("return math.max(1, 2)"),
        F("local m = _G['ma' .. 'th'] return m.max(1, 2)"),
        F("return _ENV['ma' .. 'th'].max(1, 2)"),
        F("for name, value in pairs(_G) do if name == ('m' .. 'ath') then return value.max(1, 2) "
          "end end"),
        F("return #table.pack(1, 2)"),
        F("return utf8.len('ab')"),
        F("return coroutine.wrap(function() return 2 end)()"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_script(texts[i], texts[i], "2");
}

/* Dice are not the same for each message. */
static void random_numbers_differ(void **state)
{
    struct trial trial;
    int64_t first = 0;
    unsigned same = 0;
    (void)state;
    open_trial(&trial, F("return math.random(1, 1000000000)"));
    for (int i = 0; i < 10; i++) {
        test_in_fiber(run_trial, &trial);
        same += i > 0 && trial.outcome.results[0].integer == first;
        first = trial.outcome.results[0].integer;
    }
    assert_true(same < 9);
    arena_free(trial.arena);
}

static void nothing_is_left_of_a_run(void **state)
{
    struct trial trial;
    (void)state;
    open_trial(&trial, "n = 0\nfunction f() n = n + 1; string.x = (string.x or 0) + 1; return n, "
                       "string.x end");
    for (int i = 0; i < 3; i++) {
        test_in_fiber(run_trial, &trial);
        assert_str(said(&trial), "1 1");
    }
    arena_free(trial.arena);
}

static void a_run_works_off_a_fiber(void **state)
{
    struct trial trial;
    (void)state;
    open_trial(&trial, F("host:say('x') return host:slow('a')"));
    run_trial(&trial);
    assert_str(said(&trial), "{a,b}");
    assert_str(trial.host.said, "x");
    arena_free(trial.arena);
}

static void faults_have_tracebacks(void **state)
{
    struct trial trial;
    (void)state;
    open_trial(&trial, "local function g() error('deep') end\nfunction f()\n  g()\nend");
    test_in_fiber(run_trial, &trial);
    assert_str(said(&trial), "fault: test.lua:1: deep");
    struct str trace = trial.outcome.fault.traceback;
    assert_true(str_find_str(trace, STR("test.lua:1: in upvalue 'g'")) >= 0);
    assert_true(str_find_str(trace, STR("test.lua:3: in function 'f'")) >= 0);
    assert_true(script_has_function(trial.script, STR("f")));
    assert_false(script_has_function(trial.script, STR("g")));
    arena_free(trial.arena);
}

/* Many runs at once, each suspended at times, do not disturb each other. */

enum { MANY = 50 };

static void many_runs_at_once(void **state)
{
    static struct trial trials[MANY];
    struct test_loop loop;
    (void)state;
    open_trial(&trials[0], F("local n = 0 for i = 1, 20 do n = n + #host:slow('a') end return n"));
    for (size_t i = 1; i < MANY; i++) {
        trials[i] = trials[0];
        trials[i].arena = arena_new(0);
        trials[i].host.arena = trials[i].arena;
    }
    test_loop_open(&loop, NULL);
    for (size_t i = 0; i < MANY; i++)
        test_loop_spawn(&loop, run_trial, &trials[i]);
    test_loop_run(&loop);
    test_loop_close(&loop);
    for (size_t i = 0; i < MANY; i++) {
        assert_str(said(&trials[i]), "40");
        assert_int_equal(trials[i].host.waits, 20);
    }
    for (size_t i = 0; i < MANY; i++)
        arena_free(trials[i].arena);
}

/* A row that does not wait takes no more of the worker than the script itself. */

struct others {
    struct trial *trial;
    bool done;
    unsigned turns;
};

static void run_and_tell(void *arg) NO_YIELD_CHECK
{
    struct others *others = arg;
    run_trial(others->trial);
    others->done = true;
}

static void count_turns(void *arg) NO_YIELD_CHECK
{
    struct others *others = arg;
    while (!others->done) {
        others->turns++;
        fiber_yield();
    }
}

static void rows_share_the_worker(void **state)
{
    struct trial trial;
    struct others others = {.trial = &trial};
    struct test_loop loop;
    (void)state;
    open_trial(&trial, F("for i = 1, 300 do host:busy() end return 1"));
    test_loop_open(&loop, NULL);
    test_loop_spawn(&loop, run_and_tell, &others);
    test_loop_spawn(&loop, count_turns, &others);
    test_loop_run(&loop);
    test_loop_close(&loop);
    assert_str(said(&trial), "1");
    assert_true(others.turns > 3);
    arena_free(trial.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_script_says_what_it_should),
        cmocka_unit_test(patterns_match_as_in_lua),
        cmocka_unit_test(errors_have_places),
        cmocka_unit_test(files_require_others_beside_them),
        cmocka_unit_test(libraries_are_there_when_named),
        cmocka_unit_test(random_numbers_differ),
        cmocka_unit_test(nothing_is_left_of_a_run),
        cmocka_unit_test(a_run_works_off_a_fiber),
        cmocka_unit_test(faults_have_tracebacks),
        cmocka_unit_test(many_runs_at_once),
        cmocka_unit_test(rows_share_the_worker),
    };
    return cmocka_run_group_tests_name("script", tests, NULL, NULL);
}
