/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script/script_fuzz.c - any text as a script: compiled, run at load, and its function f run, all
 * with little to spend.
 */
#include "base/check.h"
#include "script/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum result echo(struct script_call *call, struct error *err)
{
    struct str text;
    if (script_take_text(call, 0, &text, err) != OK)
        return FAILED;
    script_return_text(call, text);
    for (size_t i = 0; i < call->argument_count; i++)
        if (call->arguments[i].kind == SCRIPT_LIST)
            script_return_integer(call, (int64_t)call->arguments[i].count);
    return OK;
}

static const struct script_row rows[] = {
    {.name = "echo", .arguments = "text, …", .where = 1, .answer = echo},
    {.name = "wait", .arguments = "text, …", .where = 1, .waits = true, .answer = echo},
    {.name = NULL},
};
static const struct script_object object = {.name = "host", .rows = rows, .where = 1};

NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct script_limits limits = {
        .memory = 200 * 1000, .work = 5000, .time_ns = NS_PER_S};
    struct arena *arena = arena_new(0);
    struct script_loading loading = {
        .arena = arena, .limits = &limits, .objects = &object, .object_count = 1};
    struct script *script;
    struct script_problem problem;
    if (script_load_text(&loading, STR("f"), str_of((const char *)data, size), &script, &problem) ==
        OK) {
        struct script_run run = {.script = script,
                                 .function = STR("f"),
                                 .limits = &limits,
                                 .globals = &object,
                                 .global_count = 1,
                                 .argument = &object,
                                 .arena = arena};
        struct script_outcome outcome;
        enum result result = script_run(&run, &outcome);
        check(result == OK || outcome.fault.text.len > 0);
        check(outcome.memory <= limits.memory);
    } else {
        check(problem.text.len > 0);
    }
    arena_free(arena);
    return 0;
}
