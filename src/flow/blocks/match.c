/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/match.c - a fork in the road: `match: { when: EXPR, matched: …, unmatched: … }`.
 *
 * Besides the expression, patterns for header fields and for the text that a reader sees. Of each
 * kind that is given one must fit.
 */
#include "flow/blocks.h"
#include "flow/pattern.h"
#include "mail/header.h"

struct parameters {
    const struct config_node *when;
    struct option_texts header;
    struct option_texts body;
};
struct patterns {
    const struct pattern **items;
    const struct str *texts;
    size_t count;
};
struct prepared {
    const struct expression *when; /* NULL: none */
    struct patterns header, body;
};
enum { MATCHED, UNMATCHED, ERROR };
enum { PATTERNS_MAX = 200, FIELD_MAX = 8192 };

static const struct option options[] = {
    {.name = "when",
     .type = OPTION_NODE,
     .offset = offsetof(struct parameters, when),
     .text = "the test, as in size > 25M or header(\"Precedence\") == \"bulk\""},
    {.name = "header",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, header),
     .text =
         "content: patterns, one of which must fit a field, as in \"(?i)^Subject: .*lottery\"; a "
         "field is one line here, with encoded words as text"},
    {.name = "body",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, body),
     .text = "content: patterns, one of which must fit what a reader sees of text/plain and "
             "text/html parts: decoded, as UTF-8, without tags. They look at pieces of 16 KiB that "
             "overlap by 1 KiB"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "match",
    .text = "Goes on in one of two ways.",
    .options = options,
    .shorthand = "when",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [MATCHED] = {.name = "matched",
                 .key = "matched",
                 .action = ACTION_NEXT,
                 .text = "all that is given is true"},
    [UNMATCHED] = {.name = "unmatched",
                   .key = "unmatched",
                   .action = ACTION_NEXT,
                   .text = "it is not"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 The message cannot be looked through",
               .reason = MAIL_REASON_POLICY,
               .text = "a pattern is too costly for this message, or it is over content.limits"},
    {.name = NULL},
};

static void compile_patterns(struct flow_compiling *compiling, const struct option_texts *texts,
                             struct patterns *out)
{
    struct arena *arena = compiling->context->option.arena;
    out->items = arena_alloc_array(arena, texts->count + 1, sizeof *out->items);
    out->texts = texts->items;
    if (texts->count > PATTERNS_MAX)
        flow_problem(compiling, CONFIG_ERROR, "too-long", texts->places[0], "at most %d patterns",
                     PATTERNS_MAX);
    for (size_t i = 0; i < texts->count; i++) {
        struct error err = {0};
        size_t fault = 0;
        if (pattern_new(arena, texts->items[i], &out->items[i], &fault, &err) != OK)
            flow_problem(compiling, CONFIG_ERROR, "pattern", texts->places[i],
                         "the pattern is wrong at character %zu: %s", fault + 1, err.text);
    }
    out->count = texts->count;
    if (texts->count && compiling->flow->type != FLOW_CONTENT)
        flow_problem(compiling, CONFIG_ERROR, "illegal-step", texts->places[0],
                     "only content flows see the message");
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct prepared *prepared = ARENA_NEW(compiling->context->option.arena, struct prepared);
    (void)node;
    step->prepared = prepared;
    if (parameters->when)
        prepared->when =
            expression_parse(parameters->when, compiling->flow->type, compiling->context);
    compile_patterns(compiling, &parameters->header, &prepared->header);
    compile_patterns(compiling, &parameters->body, &prepared->body);
    if (!parameters->when && !parameters->header.count && !parameters->body.count)
        flow_problem(compiling, CONFIG_ERROR, "missing-key", step->place,
                     "this match has no test: add when, header or body");
    if (step->actions[MATCHED].kind == ACTION_NEXT && step->actions[UNMATCHED].kind == ACTION_NEXT)
        flow_problem(compiling, CONFIG_WARNING, "dead-step", step->place,
                     "this match changes nothing: give matched or unmatched an action");
}

/* ---- running ---- */

struct looking {
    struct flow_running *running;
    const struct patterns *patterns;
    bool found;
};

static enum result look(void *context, struct str text, bool *out_done, struct error *err)
{
    struct looking *looking = context;
    const struct patterns *patterns = looking->patterns;
    for (size_t i = 0; i < patterns->count && !looking->found; i++) {
        if (pattern_match(patterns->items[i], text, &looking->found, err) != OK)
            return FAILED;
        if (looking->found)
            looking->running->detail = patterns->texts[i];
    }
    *out_done = looking->found;
    return OK;
}

static enum result look_at_fields(struct looking *looking, struct error *err)
{
    struct arena *arena = looking->running->run->arena;
    struct str rest = looking->running->facts.header;
    struct mail_field field;
    bool done = false;
    while (!done && mail_header_next(&rest, &field)) {
        struct str value =
            mime_decode_words(str_slice(mail_field_text(arena, &field), 0, FIELD_MAX), arena);
        struct str line = arena_printf(arena, "%.*s: %.*s", STR_ARG(str_slice(field.name, 0, 100)),
                                       STR_ARG(value));
        if (flow_spend(looking->running, FLOW_BUDGET_MEMORY, 2 * line.len, err) != OK ||
            look(looking, line, &done, err) != OK)
            return FAILED;
    }
    return OK;
}

/* The patterns, where *out_matches still holds. */
static MAY_YIELD enum result look_through(struct flow_running *running,
                                          const struct prepared *prepared, bool *out_matches,
                                          struct error *err)
{
    struct looking header = {.running = running, .patterns = &prepared->header};
    struct looking body = {.running = running, .patterns = &prepared->body};
    if (*out_matches && prepared->header.count) {
        if (look_at_fields(&header, err) != OK)
            return FAILED;
        *out_matches = header.found;
    }
    if (*out_matches && prepared->body.count) {
        if (flow_body_windows(running, look, &body, err) != OK)
            return FAILED;
        *out_matches = body.found;
    }
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct prepared *prepared = step->prepared;
    bool matches = true;
    if (prepared->when &&
        expression_eval(prepared->when, &running->facts, running->run->arena, &matches, err) != OK)
        return FAILED;
    if (look_through(running, prepared, &matches, err) == OK) {
        *out_outcome = matches ? MATCHED : UNMATCHED;
        return OK;
    }
    if (err->kind != ERROR_LIMIT)
        return FAILED;
    *out_outcome = ERROR;
    running->detail = arena_str(running->run->arena, str_c(err->text));
    return OK;
}

static bool is_reachable(const struct flow_step *step, unsigned outcome,
                         const struct expression_knowledge *known)
{
    const struct prepared *prepared = step->prepared;
    bool looks = prepared->header.count || prepared->body.count;
    enum expression_truth truth =
        prepared->when ? expression_judge(prepared->when, known) : EXPRESSION_TRUE;
    if (outcome == ERROR)
        return looks;
    if (truth == EXPRESSION_UNDECIDED || (truth == EXPRESSION_TRUE && looks))
        return true;
    return (truth == EXPRESSION_TRUE) == (outcome == MATCHED);
}

static const struct expression *condition(const struct flow_step *step, unsigned outcome,
                                          bool *out_truth)
{
    const struct prepared *prepared = step->prepared;
    bool looks = prepared->header.count || prepared->body.count;
    *out_truth = outcome == MATCHED;
    /* unmatched and error may come of what it looks at, too */
    return outcome == MATCHED || (outcome == UNMATCHED && !looks) ? prepared->when : NULL;
}

const struct flow_block flow_block_match = {
    .name = "match",
    .text = "goes on in one of two ways",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .built = true,
    .options = &table,
    .outcomes = outcomes,
    .own_when = true,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
    .is_reachable = is_reachable,
    .condition = condition,
};
