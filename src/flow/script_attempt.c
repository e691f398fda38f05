/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "event/event.h"
#include "flow/attempt.h"
#include "flow/checks.h"
#include "flow/script.h"
#include "flow/text.h"

enum { DELAY_MAX_S = 30 * 86400 };

struct flow_attempt_script {
    struct flow_script before, after; /* .script NULL: none */
    struct option_texts servers;
};

/* ---- at load ---- */

static void check_servers(const struct flow_compile_context *context,
                          const struct flow_attempt_options *options)
{
    for (size_t i = 0; i < options->servers.count; i++) {
        const struct server *server =
            server_find(context->servers, context->server_count, options->servers.items[i]);
        if (server && server->kind != SERVER_SMTP && server->kind != SERVER_LMTP)
            config_problem(context->option.report, CONFIG_ERROR, "wrong-server",
                           options->servers.places[i], "\"%.*s\" is not a mail server",
                           STR_ARG(options->servers.items[i]));
    }
}

static struct flow_script use(const struct flow_compile_context *context,
                              const struct flow_attempt_options *options, struct str function,
                              const struct script *script)
{
    return (struct flow_script){
        .script = function.len ? script : NULL,
        .function = function,
        .path = options->file,
        .limits = {.memory = (size_t)options->memory,
                   .work = (uint64_t)options->work,
                   .time_ns = options->time_ns},
        .servers = context->servers,
        .server_count = context->server_count,
        .lists = context->lists,
        .list_count = context->list_count,
    };
}

const struct flow_attempt_script *flow_attempt_compile(const struct flow_compile_context *context,
                                                       const struct flow_attempt_options *options)
{
    const struct script *script =
        flow_script_load(context, options->file, options->file_place, FLOW_AT_ATTEMPT);
    if (!script)
        return NULL;
    if (options->before.len)
        (void)flow_script_check_function(context, script, options->file, options->before,
                                         options->before_place);
    if (options->after.len)
        (void)flow_script_check_function(context, script, options->file, options->after,
                                         options->after_place);
    check_servers(context, options);
    struct flow_attempt_script *made = ARENA_NEW(context->option.arena, struct flow_attempt_script);
    made->before = use(context, options, options->before, script);
    made->after = use(context, options, options->after, script);
    made->servers = options->servers;
    return made;
}

/* ---- what it returned ---- */

static const char *const words[] = {
    [FLOW_ATTEMPT_NEXT] = "next", [FLOW_ATTEMPT_DEFER] = "defer", [FLOW_ATTEMPT_REJECT] = "reject",
    [FLOW_ATTEMPT_HOLD] = "hold", [FLOW_ATTEMPT_ROUTE] = "route",
};
enum { WORDS = sizeof words / sizeof *words };

static enum result take_word(const struct script_value *value, bool after,
                             struct flow_attempt_said *out, struct error *err)
{
    unsigned count = after ? FLOW_ATTEMPT_ROUTE : WORDS;
    if (value->kind == SCRIPT_NIL)
        return OK;
    for (unsigned i = 0; i < count; i++) {
        out->kind = (enum flow_attempt_kind)i;
        if (value->kind == SCRIPT_TEXT && str_equal(value->text, str_c(words[i])))
            return OK;
    }
    out->kind = FLOW_ATTEMPT_NEXT;
    struct str said = value->kind == SCRIPT_TEXT ? str_slice(value->text, 0, 40) : STR("no text");
    return fail(err, ERROR_PERMANENT, "the function returned \"%.*s\", and not one of %s",
                STR_ARG(said),
                after ? "next, defer, reject, hold" : "next, defer, reject, hold, route");
}

static enum result take_reply(struct flow_attempt_said *out, struct str text, struct arena *arena,
                              struct error *err)
{
    bool defers = out->kind == FLOW_ATTEMPT_DEFER;
    struct mail_reply reply;
    if (!text.len || (out->kind != FLOW_ATTEMPT_DEFER && out->kind != FLOW_ATTEMPT_REJECT))
        return OK;
    if (text.len > FLOW_REPLY_MAX || !flow_text_is_clean(text, /* lines_allowed= */ false))
        return fail(err, ERROR_PERMANENT, "a reply is one line of at most %d bytes",
                    FLOW_REPLY_MAX);
    if (!ascii_is_digit(text.ptr[0]))
        reply = defers ? mail_reply_of(451, 4, 7, 1, text) : mail_reply_of(550, 5, 7, 1, text);
    else if (!mail_reply_parse(text, &reply) ||
             !(defers ? mail_reply_is_transient(&reply) : mail_reply_is_permanent(&reply)))
        return fail(err, ERROR_PERMANENT, "\"%.*s\" is no reply that %s can give",
                    STR_ARG(str_slice(text, 0, 60)), words[out->kind]);
    out->reply = mail_reply_copy(arena, &reply);
    return OK;
}

static enum result take_server(const struct flow_attempt_script *script, struct str name,
                               struct flow_attempt_said *out, struct error *err)
{
    const struct flow_script *before = &script->before;
    for (size_t i = 0; i < script->servers.count; i++)
        if (str_equal(script->servers.items[i], name))
            out->server = server_find(before->servers, before->server_count, name);
    if (out->server)
        return OK;
    return fail(err, ERROR_PERMANENT, "\"%.*s\" is not among the script's servers",
                STR_ARG(str_slice(name, 0, 60)));
}

static struct str text_of(const struct script_value *map, const char *key)
{
    const struct script_value *value = script_value_get(map, key);
    return value && value->kind == SCRIPT_TEXT ? value->text : STR_EMPTY;
}

/* The second result: a text, or { reply =, reason =, delay =, server = }. */
static enum result take_words(const struct flow_attempt_script *script,
                              const struct script_value *value, struct arena *arena,
                              struct flow_attempt_said *out, struct error *err)
{
    if (value->kind != SCRIPT_NIL && value->kind != SCRIPT_TEXT && value->kind != SCRIPT_MAP)
        return fail(err, ERROR_PERMANENT, "the function's second result is neither text nor table");
    struct str alone = value->kind == SCRIPT_TEXT ? value->text : STR_EMPTY;
    struct str reply = alone.len ? alone : text_of(value, "reply");
    struct str reason = alone.len ? alone : text_of(value, "reason");
    struct str server = alone.len ? alone : text_of(value, "server");
    struct str delay = text_of(value, "delay");
    if (delay.len && (!option_parse_duration(delay, &out->delay_ns) || out->delay_ns < NS_PER_S ||
                      out->delay_ns > DELAY_MAX_S * NS_PER_S))
        return fail(err, ERROR_PERMANENT, "delay: a time such as \"30m\", of 1s to 30d");
    if (reason.len && flow_text_is_clean(reason, /* lines_allowed= */ false))
        out->detail = arena_str(arena, str_slice(reason, 0, FLOW_REPLY_MAX));
    if (out->kind == FLOW_ATTEMPT_ROUTE)
        return take_server(script, server, out, err);
    return take_reply(out, reply, arena, err);
}

/* ---- running ---- */

static void tell(const struct flow_attempt *attempt, const struct flow_attempt_said *said,
                 int64_t started_ns)
{
    event_emit(said->fault ? EVENT_SCRIPT_FAULT : EVENT_SCRIPT_ATTEMPT,
               F_C(MESSAGE, mail_id_text(attempt->message).chars),
               F_C(SESSION, mail_id_text(attempt->session).chars),
               F_STR(TRANSPORT, attempt->transport), F_STR(DESTINATION, attempt->destination),
               F_C(STEP, attempt->after ? "after" : "before"), F_INT(ATTEMPT, attempt->number),
               F_C(OUTCOME, said->fault ? "error" : words[said->kind]),
               F_STR(DETAIL, said->server ? said->server->name : said->detail),
               F_INT(DURATION_US, (clock_monotonic_ns() - started_ns) / NS_PER_US));
}

static void take_results(const struct flow_attempt_script *script,
                         const struct script_outcome *outcome, bool after, struct arena *arena,
                         struct flow_attempt_said *out)
{
    static const struct script_value nothing = {.kind = SCRIPT_NIL, .text = {"", 0}};
    const struct script_value *first = outcome->result_count > 0 ? &outcome->results[0] : &nothing;
    const struct script_value *second = outcome->result_count > 1 ? &outcome->results[1] : &nothing;
    struct error err = {0};
    if (take_word(first, after, out, &err) == OK &&
        take_words(script, second, arena, out, &err) == OK)
        return;
    *out = (struct flow_attempt_said){
        .fault = true,
        .detail = arena_printf(arena, "%.*s: %s", STR_ARG(script->before.path), err.text)};
}

void flow_attempt_run(const struct flow_attempt_script *script, const struct flow_run *run,
                      const struct flow_attempt *attempt, struct flow_attempt_said *out)
{
    const struct flow_script *use = attempt->after ? &script->after : &script->before;
    struct arena *arena = run->arena;
    *out = (struct flow_attempt_said){.detail = STR_EMPTY};
    if (!use->script)
        return;
    ptrdiff_t at = str_find_last(attempt->sender, '@');
    struct mail_recipient *recipients =
        arena_alloc_array(arena, attempt->recipient_count + 1, sizeof *recipients);
    for (size_t i = 0; i < attempt->recipient_count; i++)
        recipients[i].address = attempt->recipients[i].address;
    struct flow_verdict verdict = {0};
    struct flow flow = {.type = FLOW_CONTENT, .name = attempt->transport};
    struct flow_checks checks = {0};
    struct flow_running running = {
        .flow = &flow,
        .run = run,
        .facts = {.session = attempt->session,
                  .message = attempt->message,
                  .sender = attempt->sender,
                  .sender_domain =
                      at < 0 ? STR_EMPTY
                             : arena_lower(arena, str_from(attempt->sender, (size_t)at + 1)),
                  .recipients = recipients,
                  .recipient_count = attempt->recipient_count,
                  .size = attempt->size,
                  .header = STR_EMPTY,
                  .checks = &checks},
        .verdict = &verdict,
    };
    struct flow_scripting scripting = {
        .running = &running,
        .script = use,
        .place = attempt->transport,
        .attempt = attempt,
    };
    struct script_outcome outcome;
    int64_t started_ns = clock_monotonic_ns();
    if (flow_script_run(&scripting, attempt->after ? FLOW_AFTER_ATTEMPT : FLOW_BEFORE_ATTEMPT,
                        &outcome) == OK)
        take_results(script, &outcome, attempt->after, arena, out);
    else
        *out = (struct flow_attempt_said){.fault = true,
                                          .detail = flow_script_fault(&outcome.fault, arena)};
    tell(attempt, out, started_ns);
}
