/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/script.c - runs a Lua function of the administrator; what it returns is the outcome.
 *
 * What a script may do to where mail goes stands in the step, so that it can be proven that no
 * stranger relays: it chooses among the transports that are named there, and gives recipients
 * addresses in listed domains unless it says otherwise. In an authentication flow its accept counts
 * only behind a backend's yes in the same run.
 */
#include "flow/blocks.h"
#include "flow/expression_internal.h"
#include "flow/script.h"

#include "base/buf.h"
#include "flow/text.h"
#include "script/options.h"

enum { NEXT, ACCEPT, REJECT, DEFER, DELIVER, HOLD, QUARANTINE, DISCARD, ERROR };

struct parameters {
    struct str file;
    struct str function;
    struct option_texts transports;
    bool any_domain;
    uint64_t memory;
    int64_t work;
    int64_t time_ns;
};

static const struct option options[] = {
    {.name = "file",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, file),
     .text = "the Lua file; it may require others beside it",
     .required = true},
    {.name = "function",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, function),
     .text = "its global function to be called with `mail`; default: authentication, recipient or "
             "content, as the flow's type"},
    {.name = "transports",
     .type = OPTION_REFERENCES,
     .offset = offsetof(struct parameters, transports),
     .refers_to = "transports",
     .text = "those that mail:route() may choose"},
    {.name = "any_domain",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, any_domain),
     .fallback = "false",
     .text = "recipients may get addresses in domains that are not listed"},
    SCRIPT_LIMIT_ROWS(struct parameters),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "script",
    .text = "Runs a Lua function.",
    .options = options,
    .shorthand = "file",
    .size = sizeof(struct parameters),
};

static const struct flow_outcome outcomes[] = {
    [NEXT] = {.name = "next",
              .key = "next",
              .action = ACTION_NEXT,
              .text = "the function returned \"next\", or nothing"},
    /* in an authentication flow never without a backend's own yes, see give_verdict() */
    [ACCEPT] = {.name = "accept",
                .key = "accept",
                .action = ACTION_ACCEPT,
                .authenticates = true,
                .text = "it returned \"accept\""},
    [REJECT] = {.name = "reject",
                .key = "reject",
                .action = ACTION_REJECT,
                .reply = "550 5.7.1 Not accepted",
                .reason = MAIL_REASON_POLICY,
                .text = "it returned \"reject\", and maybe the reply"},
    [DEFER] = {.name = "defer",
               .key = "defer",
               .action = ACTION_DEFER,
               .reply = "451 4.7.1 Try again later",
               .reason = MAIL_REASON_POLICY,
               .text = "it returned \"defer\", and maybe the reply"},
    [DELIVER] = {.name = "deliver",
                 .key = "deliver",
                 .action = ACTION_DELIVER,
                 .text = "it returned \"deliver\""},
    [HOLD] = {.name = "hold",
              .key = "hold",
              .action = ACTION_HOLD,
              .reason = MAIL_REASON_POLICY,
              .text = "it returned \"hold\", and maybe why"},
    [QUARANTINE] = {.name = "quarantine",
                    .key = "quarantine",
                    .action = ACTION_QUARANTINE,
                    .reason = MAIL_REASON_POLICY,
                    .text = "it returned \"quarantine\", and maybe why, or { reason =, name = }"},
    [DISCARD] = {.name = "discard",
                 .key = "discard",
                 .action = ACTION_DISCARD,
                 .text = "it returned \"discard\""},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.5 Try again later",
               .reason = MAIL_REASON_POLICY,
               .text = "it failed, or needed too much; file, line and traceback are in the trace"},
    {.name = NULL},
};

/* ---- at load ---- */

static void read_quarantines(const struct flow_compiling *compiling, struct flow_script *script)
{
    const struct flow_compile_context *context = compiling->context;
    const struct config_node *section =
        context->root ? config_get(context->root, STR("quarantines")) : NULL;
    if (!section || section->kind != CONFIG_MAP)
        return;
    script->quarantines =
        arena_alloc_array(context->option.arena, section->count + 1, sizeof *script->quarantines);
    for (size_t i = 0; i < section->count; i++)
        script->quarantines[script->quarantine_count++] = section->pairs[i].key;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    const struct flow_compile_context *context = compiling->context;
    enum flow_type type = compiling->flow->type;
    struct flow_script *script = ARENA_NEW(context->option.arena, struct flow_script);
    step->prepared = script;
    *script = (struct flow_script){
        .function = parameters->function.len ? parameters->function : str_c(flow_type_name(type)),
        .path = parameters->file,
        .limits = {.memory = (size_t)parameters->memory,
                   .work = (uint64_t)parameters->work,
                   .time_ns = parameters->time_ns},
        .transports = parameters->transports,
        .any_domain = parameters->any_domain,
        .type = type,
        .servers = context->servers,
        .server_count = context->server_count,
        .lists = context->lists,
        .list_count = context->list_count,
    };
    read_quarantines(compiling, script);
    if (type == FLOW_AUTHENTICATION && (parameters->transports.count || parameters->any_domain))
        flow_problem(compiling, CONFIG_ERROR, "illegal-step", step->place,
                     "transports and any_domain are for recipient and content flows");
    struct config_place place = flow_place_of(node, "file", step->place);
    script->script = flow_script_load(context, parameters->file, place, 1u << type);
    if (!script->script)
        return;
    script->rewrites = flow_script_rewrites(script->script);
    (void)flow_script_check_function(context, script->script, parameters->file, script->function,
                                     flow_place_of(node, "function", place));
}

/* ---- what it returned ---- */

/* In the order of the outcomes. */
static const struct {
    const char *word;
    unsigned flows;
} words[] = {
    [NEXT] = {"next", FLOW_IN_FLOWS},
    [ACCEPT] = {"accept", FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT},
    [REJECT] = {"reject", FLOW_IN_FLOWS},
    [DEFER] = {"defer", FLOW_IN_FLOWS},
    [DELIVER] = {"deliver", FLOW_IN_CONTENT},
    [HOLD] = {"hold", FLOW_IN_CONTENT},
    [QUARANTINE] = {"quarantine", FLOW_IN_CONTENT},
    [DISCARD] = {"discard", FLOW_IN_CONTENT},
};
enum { WORDS = sizeof words / sizeof *words };

static enum result find_word(const struct flow_scripting *scripting,
                             const struct script_value *value, unsigned *out, struct error *err)
{
    struct buf known BUF_CLEANUP;
    buf_init(&known, 200);
    unsigned here = 1u << scripting->script->type;
    *out = NEXT;
    if (value->kind == SCRIPT_NIL)
        return OK;
    for (unsigned i = 0; i < WORDS; i++) {
        if (!(words[i].flows & here))
            continue;
        *out = i;
        if (value->kind == SCRIPT_TEXT && str_equal(value->text, str_c(words[i].word)))
            return OK;
        buf_printf(&known, "%s%s", known.len ? ", " : "", words[i].word);
    }
    if (value->kind != SCRIPT_TEXT)
        return fail(err, ERROR_PERMANENT, "the function returned no text, but one of %.*s is due",
                    STR_ARG(buf_str(&known)));
    return fail(err, ERROR_PERMANENT, "the function returned \"%.*s\", and not one of %.*s",
                STR_ARG(str_slice(value->text, 0, 40)), STR_ARG(buf_str(&known)));
}

/* "550 5.7.1 Not here", or words alone. */
static enum result take_reply(struct flow_running *running, unsigned outcome, struct str text,
                              struct error *err)
{
    bool defers = outcome == DEFER;
    struct mail_reply reply;
    if (!text.len)
        return OK;
    if (text.len > FLOW_REPLY_MAX || !flow_text_is_clean(text, /* lines_allowed= */ false))
        return fail(err, ERROR_PERMANENT, "a reply is one line of at most %d bytes",
                    FLOW_REPLY_MAX);
    if (!ascii_is_digit(text.ptr[0])) {
        reply = defers ? mail_reply_of(451, 4, 7, 1, text) : mail_reply_of(550, 5, 7, 1, text);
    } else if (!mail_reply_parse(text, &reply) ||
               !(defers ? mail_reply_is_transient(&reply) : mail_reply_is_permanent(&reply))) {
        return fail(err, ERROR_PERMANENT, "\"%.*s\" is no reply that %s can give",
                    STR_ARG(str_slice(text, 0, 60)), defers ? "defer" : "reject");
    }
    if (!reply.enhanced.class)
        reply.enhanced = (struct mail_enhanced){defers ? 4 : 5, 7, 1};
    running->reply = mail_reply_copy(running->run->arena, &reply);
    return OK;
}

static enum result take_quarantine(struct flow_scripting *scripting, struct str name,
                                   struct error *err)
{
    const struct flow_script *script = scripting->script;
    if (!name.len && script->quarantine_count == 1)
        name = script->quarantines[0];
    for (size_t i = 0; i < script->quarantine_count; i++) {
        if (!str_equal(script->quarantines[i], name))
            continue;
        scripting->running->quarantine = script->quarantines[i];
        return OK;
    }
    return fail(err, ERROR_PERMANENT,
                name.len ? "there is no quarantine \"%.*s\""
                         : "say which quarantine: { name = … }%.*s",
                STR_ARG(str_slice(name, 0, 40)));
}

/* One of the reasons that events and metrics know. */
static enum result take_class(struct flow_running *running, const struct script_value *class,
                              struct error *err)
{
    if (!class)
        return OK;
    for (int reason = 0; reason < MAIL_REASON_COUNT && class->kind == SCRIPT_TEXT; reason++) {
        if (!str_equal(class->text, str_c(mail_reason_name((enum mail_reason)reason))))
            continue;
        running->reason = (enum mail_reason)reason;
        return OK;
    }
    return fail(err, ERROR_PERMANENT, "class: no such reason");
}

/* The second result: a text, or { reply =, reason =, class =, name = }. */
static enum result take_words(struct flow_scripting *scripting, unsigned outcome,
                              const struct script_value *value, struct error *err)
{
    struct flow_running *running = scripting->running;
    struct arena *arena = running->run->arena;
    bool refuses = outcome == REJECT || outcome == DEFER;
    const struct script_value *said = script_value_get(value, refuses ? "reply" : "reason");
    const struct script_value *name = script_value_get(value, "name");
    if (value->kind != SCRIPT_NIL && value->kind != SCRIPT_TEXT && value->kind != SCRIPT_MAP)
        return fail(err, ERROR_PERMANENT, "the function's second result is neither text nor table");
    if (take_class(running, script_value_get(value, "class"), err) != OK)
        return FAILED;
    struct str text = value->kind == SCRIPT_TEXT          ? value->text
                      : said && said->kind == SCRIPT_TEXT ? said->text
                                                          : STR_EMPTY;
    if (!refuses && !flow_text_is_clean(text, false))
        text = STR("(words that are no text)");
    running->detail = arena_str(arena, str_slice(text, 0, FLOW_REPLY_MAX));
    if (refuses)
        return take_reply(running, outcome, text, err);
    if (outcome == QUARANTINE)
        return take_quarantine(scripting,
                               name && name->kind == SCRIPT_TEXT ? name->text : STR_EMPTY, err);
    return OK;
}

static enum result give_verdict(struct flow_scripting *scripting,
                                const struct script_outcome *outcome, unsigned *out_outcome,
                                struct error *err)
{
    static const struct script_value nothing = {.kind = SCRIPT_NIL};
    const struct script_value *first = outcome->result_count > 0 ? &outcome->results[0] : &nothing;
    const struct script_value *second = outcome->result_count > 1 ? &outcome->results[1] : &nothing;
    if (find_word(scripting, first, out_outcome, err) != OK)
        return FAILED;
    if (*out_outcome == ACCEPT && scripting->script->type == FLOW_AUTHENTICATION &&
        !scripting->authenticated)
        return fail(err, ERROR_PERMANENT,
                    "the function returned \"accept\", but no backend said yes: ask one with "
                    "mail:login_by()");
    return take_words(scripting, *out_outcome, second, err);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct flow_script *script = step->prepared;
    struct arena *arena = running->run->arena;
    struct script_outcome outcome;
    struct error why = {0};
    struct flow_scripting scripting = {
        .running = running,
        .step = step,
        .script = script,
        .place = step->id,
        .observe = step->observe,
    };
    if (flow_script_run(&scripting, 1u << script->type, &outcome) != OK) {
        *out_outcome = ERROR;
        running->detail = flow_script_fault(&outcome.fault, arena);
    } else if (give_verdict(&scripting, &outcome, out_outcome, &why) != OK) {
        *out_outcome = ERROR;
        running->detail = arena_printf(arena, "%.*s: %s", STR_ARG(script->path), why.text);
    }
    running->had_error |= *out_outcome == ERROR;
    (void)err;
    return OK;
}

/* ---- what can come of it ---- */

static bool is_reachable(const struct flow_step *step, unsigned outcome,
                         const struct expression_knowledge *known)
{
    const struct flow_script *script = step->prepared;
    (void)known;
    return outcome >= WORDS || (words[outcome].flows & 1u << script->type);
}

static size_t ways(const struct flow_step *step, const struct str **out)
{
    const struct flow_script *script = step->prepared;
    *out = script->transports.items;
    return script->transports.count;
}

static bool may_look_up(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct flow_script *script = step->prepared;
    for (size_t i = 0; i < script->transports.count; i++)
        if (!relay->looks_up || relay->looks_up(relay->context, script->transports.items[i]))
            return true;
    return false;
}

static bool may_leave(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct flow_script *script = step->prepared;
    (void)relay;
    return script->any_domain && script->rewrites;
}

static bool may_change(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct flow_script *script = step->prepared;
    (void)relay;
    return script->rewrites;
}

/* To which of the listed domains is not in the file. */
static bool may_enter(const struct flow_step *step, const struct flow_relay_case *relay,
                      struct str name)
{
    const struct flow_script *script = step->prepared;
    (void)relay, (void)name;
    return script->rewrites;
}

/* The texts in quotes. */
static void suggest(const struct flow_step *step, void (*add)(void *context, struct str text),
                    void *context)
{
    const struct flow_script *script = step->prepared;
    struct str text, before, quoted;
    for (size_t i = 0; script->script && script_source(script->script, i, &text); i++)
        while (str_split(&text, '"', &before) && str_split(&text, '"', &quoted))
            if (quoted.len && quoted.len < 100 && str_find(quoted, '\n') < 0)
                add(context, quoted);
}

/* The file may be another one by now. */
static bool judge_again(const struct flow_step *step, struct str outcome, struct str detail,
                        unsigned *out_outcome)
{
    (void)step, (void)outcome, (void)detail, (void)out_outcome;
    return false;
}

const struct flow_block flow_block_script = {
    .name = "script",
    .text = "runs a Lua function, which decides and changes",
    .flows = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .may_route = true,
    .ways = ways,
    .may_rewrite = true,
    .prepare = prepare,
    .run = run,
    .is_reachable = is_reachable,
    .may_look_up = may_look_up,
    .may_leave = may_leave,
    .may_enter = may_enter,
    .may_change = may_change,
    .suggest = suggest,
    .enter_fix = "run the script only behind a lookup that knows the recipient, or only when: "
                 "authenticated; or say why with allow_open_relay",
    .judge_again = judge_again,
    .changes_field = flow_changes_any_field,
    .results = 1u << NAME_SCORE,
    .finds = true,
};
