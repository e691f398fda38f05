/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/script.c - loads and runs the scripts that blocks and transports name.
 */
#include "flow/script.h"

#include "base/buf.h"
#include "net/dns.h"

enum { TRACE_MAX = 900 };

/* ---- loading ---- */

static void tell_problem(const struct flow_compile_context *context, struct config_place place,
                         struct str path, const struct script_problem *found)
{
    struct config_report *report = context->option.report;
    struct arena *arena = report->arena;
    struct config_place inside = place;
    if (found->line)
        inside = (struct config_place){
            .file = config_file_new(arena, arena_str(arena, found->path),
                                    arena_str(arena, found->source)),
            .line = found->line,
            .column = found->column,
            .length = found->length ? found->length : 1,
        };
    struct config_problem *problem = config_problem(report, CONFIG_ERROR, "script", inside, "%.*s",
                                                    STR_ARG(arena_str(arena, found->text)));
    if (found->line)
        problem->detail = arena_printf(arena, "in the script that %.*s names",
                                       STR_ARG(config_place_text(arena, place)));
    else
        problem->fix = arena_printf(arena, "it is read from %.*s", STR_ARG(path));
}

/* It is watched for changes. */
static void saw_file(void *arg, struct str path)
{
    const struct flow_compile_context *context = arg;
    option_paths_add(context->files, context->option.arena, path);
}

const struct script *flow_script_load(const struct flow_compile_context *context, struct str path,
                                      struct config_place place, unsigned where)
{
    const struct script_object objects[] = {
        {.name = "postern", .rows = flow_postern_rows, .where = where}};
    struct script_loading loading = {
        .arena = context->option.arena,
        .objects = objects,
        .object_count = 1,
        .saw_file = saw_file,
        .context = (void *)(uintptr_t)context,
    };
    struct script *script;
    struct script_problem problem;
    if (!path.len)
        return NULL; /* the binder has said that it is missing */
    if (script_load_file(&loading, path, &script, &problem) == OK)
        return script;
    tell_problem(context, place, path, &problem);
    return NULL;
}

bool flow_script_rewrites(const struct script *script)
{
    return script_mentions(script, STR("set_recipient")); /* and set_recipients */
}

bool flow_script_check_function(const struct flow_compile_context *context,
                                const struct script *script, struct str path, struct str function,
                                struct config_place place)
{
    size_t count;
    const struct str *functions = script_functions(script, &count);
    if (script_has_function(script, function))
        return true;
    struct config_report *report = context->option.report;
    struct config_problem *problem =
        config_problem(report, CONFIG_ERROR, "script", place,
                       "there is no function \"%.*s\" in %.*s", STR_ARG(function), STR_ARG(path));
    config_suggest(
        problem, report->arena, function, functions, count,
        STR("write \"function NAME(mail) … end\" at the top of the file, without local"));
    return false;
}

/* ---- running ---- */

enum result flow_script_run(struct flow_scripting *scripting, unsigned where,
                            struct script_outcome *outcome)
{
    struct flow_running *running = scripting->running;
    const struct script_object mail = {.name = "mail", .rows = flow_mail_rows, .where = where};
    const struct script_object postern = {
        .name = "postern", .rows = flow_postern_rows, .where = where};
    if (running->run->resolver) {
        scripting->resolver = *running->run->resolver;
        scripting->resolver.budget = FLOW_SCRIPT_QUESTIONS;
    }
    struct script_run run = {
        .script = scripting->script->script,
        .function = scripting->script->function,
        .limits = &scripting->script->limits,
        .globals = &postern,
        .global_count = 1,
        .argument = &mail,
        .context = scripting,
        .arena = running->run->arena,
    };
    return script_run(&run, outcome);
}

struct str flow_script_fault(const struct script_fault *fault, struct arena *arena)
{
    struct buf text BUF_CLEANUP;
    struct str rest = fault->traceback;
    struct str line;
    buf_init(&text, TRACE_MAX);
    buf_append(&text, fault->text);
    const char *between = "; called: ";
    while (rest.len && str_split(&rest, '\n', &line)) {
        line = str_trim(line);
        if (str_equal(line, STR("stack traceback:")) || str_starts(line, STR("[C]")))
            continue;
        struct str piece = arena_printf(arena, "%s%.*s", between, STR_ARG(line));
        buf_append(&text, piece);
        between = " < ";
    }
    return arena_str(arena, buf_str(&text));
}
