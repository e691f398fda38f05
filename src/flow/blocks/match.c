/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/match.c - a fork in the road: `match: { when: EXPR, matched: …, unmatched: … }`.
 *
 * Besides the expression, patterns for header fields and for the text that a reader sees. Of each
 * kind that is given one must fit.
 */
#include "flow/blocks.h"

#include "base/file.h"
#include "flow/blocks/match.h"
#include "mail/header.h"

struct parameters {
    const struct config_node *when;
    struct option_texts header;
    struct option_texts body;
    struct str header_file, body_file;
};
enum { FIELD_MAX = 8192, FILE_MAX = 4 * 1024 * 1024 };

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
    {.name = "header_file",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, header_file),
     .text =
         "more of the kind of `header`, a line each; empty lines and lines that begin with # are "
         "left out. Read again when it changes"},
    {.name = "body_file",
     .type = OPTION_PATH,
     .offset = offsetof(struct parameters, body_file),
     .text = "more of the kind of `body`, in the same form"},
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
    [MATCH_MATCHED] = {.name = "matched",
                       .key = "matched",
                       .action = ACTION_NEXT,
                       .text = "all that is given is true"},
    [MATCH_UNMATCHED] = {.name = "unmatched",
                         .key = "unmatched",
                         .action = ACTION_NEXT,
                         .text = "it is not"},
    [MATCH_ERROR] = {.name = "error",
                     .key = "error",
                     .action = ACTION_DEFER,
                     .reply = "451 4.3.0 The message cannot be looked through",
                     .reason = MAIL_REASON_POLICY,
                     .text =
                         "a pattern is too costly for this message, or it is over content.limits"},
    {.name = NULL},
};

/* One kind of patterns while it is put together. */
struct kind {
    struct flow_compiling *compiling;
    const struct option_texts *given;
    struct str path;
    struct config_place file_place;
    struct str *texts; /* those given, then the lines of the file */
    unsigned *lines;   /* of the file; 0: given */
    size_t count;
};

static void add_line(struct kind *kind, struct str line, unsigned number)
{
    if (line.len && !str_starts(line, STR("#"))) {
        kind->lines[kind->count] = number;
        kind->texts[kind->count++] = line;
    }
}

static void read_lines(struct kind *kind)
{
    const struct flow_compile_context *context = kind->compiling->context;
    struct arena *arena = context->option.arena;
    struct buf bytes BUF_CLEANUP;
    struct error err;
    struct str line, rest = STR_EMPTY;
    buf_init(&bytes, FILE_MAX);
    option_paths_add(context->files, arena, kind->path);
    if (file_read_path(arena_c(arena, kind->path), &bytes, &err) == OK)
        rest = arena_str(arena, buf_str(&bytes));
    else
        flow_problem(kind->compiling, CONFIG_ERROR, "unreadable", kind->file_place, "%.*s: %s",
                     STR_ARG(kind->path), err.text);
    for (unsigned number = 1; rest.len && str_split(&rest, '\n', &line); number++) {
        if (kind->count == PATTERN_SET_MAX) {
            flow_problem(kind->compiling, CONFIG_ERROR, "too-long", kind->file_place,
                         "at most %d patterns", PATTERN_SET_MAX);
            return;
        }
        add_line(kind, str_trim(line), number);
    }
}

static void tell_fault(const struct kind *kind, size_t index, size_t offset,
                       const struct error *err)
{
    if (kind->lines[index])
        flow_problem(kind->compiling, CONFIG_ERROR, "pattern", kind->file_place,
                     "%.*s:%u: the pattern is wrong at character %zu: %s", STR_ARG(kind->path),
                     kind->lines[index], offset + 1, err->text);
    else
        flow_problem(kind->compiling, CONFIG_ERROR, "pattern", kind->given->places[index],
                     "the pattern is wrong at character %zu: %s", offset + 1, err->text);
}

/* NULL: there are none, or a problem was told. */
static const struct pattern_set *compile_kind(struct kind *kind)
{
    struct arena *arena = kind->compiling->context->option.arena;
    const struct pattern_set *set = NULL;
    struct error err;
    size_t index = 0, offset = 0;
    size_t given = kind->given->count < PATTERN_SET_MAX ? kind->given->count : PATTERN_SET_MAX;
    kind->texts = arena_alloc_array(arena, PATTERN_SET_MAX, sizeof *kind->texts);
    kind->lines = arena_alloc_array(arena, PATTERN_SET_MAX, sizeof *kind->lines);
    for (size_t i = 0; i < given; i++)
        kind->texts[kind->count++] = kind->given->items[i];
    if (kind->path.len)
        read_lines(kind);
    if (kind->count &&
        pattern_set_new(arena, kind->texts, kind->count, &set, &index, &offset, &err) != OK)
        tell_fault(kind, index, offset, &err);
    return set;
}

static struct match_patterns compile_patterns(struct flow_compiling *compiling,
                                              const struct flow_step *step,
                                              const struct config_node *node, const char *file,
                                              const struct option_texts *given, struct str path)
{
    struct match_patterns patterns = {.given = *given, .has_file = path.len > 0};
    struct kind kind = {.compiling = compiling,
                        .given = given,
                        .path = path,
                        .file_place = flow_place_of(node, file, step->place)};
    if (!given->count && !path.len)
        return patterns;
    if (compiling->flow->type != FLOW_CONTENT)
        flow_problem(compiling, CONFIG_ERROR, "illegal-step",
                     given->count ? given->places[0] : kind.file_place,
                     "only content flows see the message");
    patterns.set = compile_kind(&kind);
    return patterns;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct match_prepared *prepared =
        ARENA_NEW(compiling->context->option.arena, struct match_prepared);
    step->prepared = prepared;
    if (parameters->when)
        prepared->when =
            expression_parse(parameters->when, compiling->flow->type, compiling->context);
    prepared->header = compile_patterns(compiling, step, node, "header_file", &parameters->header,
                                        parameters->header_file);
    prepared->body = compile_patterns(compiling, step, node, "body_file", &parameters->body,
                                      parameters->body_file);
    if (!parameters->when && !parameters->header.count && !parameters->body.count &&
        !parameters->header_file.len && !parameters->body_file.len)
        flow_problem(compiling, CONFIG_ERROR, "missing-key", step->place,
                     "this match has no test: add when, header or body");
    if (step->actions[MATCH_MATCHED].kind == ACTION_NEXT &&
        step->actions[MATCH_UNMATCHED].kind == ACTION_NEXT)
        flow_problem(compiling, CONFIG_WARNING, "dead-step", step->place,
                     "this match changes nothing: give matched or unmatched an action");
}

/* ---- running ---- */

struct looking {
    struct flow_running *running;
    const struct pattern_set *patterns;
    bool found;
};

static enum result look(void *context, struct str text, bool *out_done, struct error *err)
{
    struct looking *looking = context;
    struct str fits;
    if (pattern_set_match(looking->patterns, text, &fits, err) != OK)
        return FAILED;
    if (fits.ptr)
        looking->running->detail = fits;
    *out_done = looking->found = fits.ptr != NULL;
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
                                          const struct match_prepared *prepared, bool *out_matches,
                                          struct error *err)
{
    struct looking header = {.running = running, .patterns = prepared->header.set};
    struct looking body = {.running = running, .patterns = prepared->body.set};
    if (*out_matches && header.patterns) {
        if (look_at_fields(&header, err) != OK)
            return FAILED;
        *out_matches = header.found;
        if (!header.found)
            running->detail = STR(MATCH_NO_HEADER);
    }
    if (*out_matches && body.patterns) {
        if (flow_body_windows(running, look, &body, err) != OK)
            return FAILED;
        *out_matches = body.found;
        if (!body.found)
            running->detail = STR(MATCH_NO_BODY);
    }
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct match_prepared *prepared = step->prepared;
    bool matches = true;
    if (prepared->when &&
        expression_eval(prepared->when, &running->facts, running->run->arena, &matches, err) != OK)
        return FAILED;
    if (look_through(running, prepared, &matches, err) == OK) {
        *out_outcome = matches ? MATCH_MATCHED : MATCH_UNMATCHED;
        return OK;
    }
    if (err->kind != ERROR_LIMIT)
        return FAILED;
    *out_outcome = MATCH_ERROR;
    running->detail = arena_str(running->run->arena, str_c(err->text));
    return OK;
}

static bool is_reachable(const struct flow_step *step, unsigned outcome,
                         const struct expression_knowledge *known)
{
    const struct match_prepared *prepared = step->prepared;
    bool looks = prepared->header.set || prepared->body.set;
    enum expression_truth truth =
        prepared->when ? expression_judge(prepared->when, known) : EXPRESSION_TRUE;
    if (outcome == MATCH_ERROR)
        return looks && truth != EXPRESSION_FALSE;
    if (truth == EXPRESSION_UNDECIDED || (truth == EXPRESSION_TRUE && looks))
        return true;
    return (truth == EXPRESSION_TRUE) == (outcome == MATCH_MATCHED);
}

static const struct expression *condition(const struct flow_step *step, unsigned outcome,
                                          bool *out_truth)
{
    const struct match_prepared *prepared = step->prepared;
    bool looks = prepared->header.set || prepared->body.set;
    *out_truth = outcome == MATCH_MATCHED;
    /* unmatched and error may come of what it looks at, too */
    return outcome == MATCH_MATCHED || (outcome == MATCH_UNMATCHED && !looks) ? prepared->when
                                                                              : NULL;
}

const struct flow_block flow_block_match = {
    .name = "match",
    .text = "goes on in one of two ways",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .own_when = true,
    .prepare = prepare,
    .run = run,
    .infer = match_infer,
    .changes_field = flow_changes_no_field,
    .is_reachable = is_reachable,
    .condition = condition,
};
