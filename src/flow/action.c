/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/action.c - what an outcome leads to: a verdict word, a verdict with words, or a branch.
 */
#include "flow/flow_internal.h"

enum {
    ANYWHERE = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
};

const struct flow_action_row flow_actions[ACTION_COUNT] = {
    [ACTION_NEXT] = {.word = "next", .flows = ANYWHERE},
    [ACTION_NOTE] = {.word = "note", .flows = ANYWHERE},
    [ACTION_ACCEPT] = {"accept", FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT, .decides = true},
    [ACTION_REJECT] = {"reject", ANYWHERE, .decides = true},
    [ACTION_DEFER] = {"defer", ANYWHERE, .decides = true},
    [ACTION_DELIVER] = {"deliver", FLOW_IN_CONTENT, .decides = true},
    [ACTION_HOLD] = {"hold", FLOW_IN_CONTENT, .decides = true},
    [ACTION_QUARANTINE] = {"quarantine", FLOW_IN_CONTENT, .decides = true},
    [ACTION_DISCARD] = {"discard", FLOW_IN_CONTENT, .decides = true},
    [ACTION_CONTAIN] = {"contain", FLOW_IN_RECIPIENT | FLOW_IN_CONTENT, .decides = true},
    [ACTION_BRANCH] = {.flows = ANYWHERE},
};

struct words {
    struct str reply;
};
static const struct option words_options[] = {
    {.name = "reply",
     .type = OPTION_TEXT,
     .offset = offsetof(struct words, reply),
     .text = "what the client is told, with its codes: \"550 5.7.1 Not here\""},
    {.name = NULL},
};
static const struct option_table words_table = {
    .name = "reject, defer",
    .text = "A refusal in your own words.",
    .options = words_options,
    .shorthand = "reply",
    .size = sizeof(struct words),
};

/* Of hold and quarantine; the blocks of these names take the same. */
static const struct option_word reason_words[] = {
#define MAIL_REASON(symbol, word) {word, MAIL_REASON_##symbol},
#include "mail/reasons.h"
#undef MAIL_REASON
    {NULL, 0},
};
static const struct option kept_options[] = {
    {.name = "reason",
     .type = OPTION_TEXT,
     .offset = offsetof(struct flow_kept, why),
     .text = "why, in words: shown to whoever looks at the held message"},
    {.name = "class",
     .type = OPTION_WORD,
     .offset = offsetof(struct flow_kept, reason),
     .words = reason_words,
     .fallback = "none",
     .text = "why, as one of the reasons that events and metrics know: spam, virus, policy, …"},
    {.name = NULL},
};
const struct option_table flow_hold_table = {
    .name = "hold",
    .text = "Keeps the message in the queue.",
    .options = kept_options,
    .shorthand = "reason",
    .size = sizeof(struct flow_kept),
};
static const struct option quarantine_options[] = {
    {.name = "name",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct flow_kept, quarantine),
     .refers_to = "quarantines",
     .text = "which one; may be left out where there is only one"},
    {.name = "reason",
     .type = OPTION_TEXT,
     .offset = offsetof(struct flow_kept, why),
     .text = "why, in words"},
    {.name = "class",
     .type = OPTION_WORD,
     .offset = offsetof(struct flow_kept, reason),
     .words = reason_words,
     .fallback = "none",
     .text = "why, as one of the reasons that events and metrics know: spam, virus, policy, …"},
    {.name = NULL},
};
const struct option_table flow_quarantine_table = {
    .name = "quarantine",
    .text = "Puts the message aside.",
    .options = quarantine_options,
    .shorthand = "name",
    .size = sizeof(struct flow_kept),
};

struct str flow_only_quarantine(const struct flow_compiling *compiling)
{
    const struct config_node *root = compiling->context->root;
    const struct config_node *section = root ? config_get(root, STR("quarantines")) : NULL;
    bool only = section && section->kind == CONFIG_MAP && section->count == 1;
    return only ? section->pairs[0].key : STR_EMPTY;
}

void flow_compile_quarantine(struct flow_compiling *compiling, struct flow_kept *kept,
                             struct config_place place)
{
    const struct config_node *root = compiling->context->root;
    const struct config_node *section = root ? config_get(root, STR("quarantines")) : NULL;
    if (kept->quarantine.len)
        return;
    kept->quarantine = flow_only_quarantine(compiling);
    if (kept->quarantine.len)
        return;
    struct config_problem *problem =
        flow_problem(compiling, CONFIG_ERROR, "missing-key", place,
                     section ? "which quarantine?" : "there is no quarantine");
    problem->fix = section ? STR("name it: quarantine: spam")
                           : STR("add to the file: quarantines: { spam: { keep: 30d } }");
}

static bool find_word(struct str word, enum flow_action_kind *out_kind)
{
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        if (flow_actions[i].word && str_equal(word, str_c(flow_actions[i].word))) {
            *out_kind = (enum flow_action_kind)i;
            return true;
        }
    }
    return false;
}

/* Is `kind` allowed as the action of this outcome? Reports if not. */
static bool check_legal(struct flow_compiling *compiling, const struct flow_outcome *outcome,
                        enum flow_action_kind kind, struct config_place place)
{
    const struct flow_action_row *row = &flow_actions[kind];
    enum flow_type type = compiling->flow->type;
    struct config_problem *problem;
    if (!(row->flows & (1u << type))) {
        problem = flow_problem(compiling, CONFIG_ERROR, "illegal-action", place,
                               "%s is no action of %s flows", row->word, flow_type_name(type));
        if (kind == ACTION_ACCEPT)
            problem->fix = STR("say deliver: a content flow ends in deliver, reject, defer, hold "
                               "or discard");
        else if (kind == ACTION_DELIVER)
            problem->fix = STR("say accept");
        return false;
    }
    if (type == FLOW_AUTHENTICATION && kind == ACTION_ACCEPT && !outcome->authenticates) {
        problem = flow_problem(compiling, CONFIG_ERROR, "illegal-action", place,
                               "accept is not allowed for \"%s\": only a backend's own yes may "
                               "authenticate",
                               outcome->name);
        problem->fix = STR("say next, reject or defer");
        return false;
    }
    return true;
}

static void report_unknown(struct flow_compiling *compiling, struct str word,
                           struct config_place place)
{
    struct str words[ACTION_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < ACTION_COUNT; i++)
        if (flow_actions[i].word && (flow_actions[i].flows & (1u << compiling->flow->type)))
            words[count++] = str_c(flow_actions[i].word);
    struct config_problem *problem = flow_problem(compiling, CONFIG_ERROR, "unknown-action", place,
                                                  "\"%.*s\" is no action", STR_ARG(word));
    config_suggest(problem, compiling->context->option.report->arena, word, words, count,
                   STR("actions are next, note, a verdict such as reject, a verdict with its "
                       "words ({ reject: \"550 5.7.1 …\" }), or a list of steps"));
}

struct mail_reply flow_compile_reply(struct flow_compiling *compiling, struct str text,
                                     enum flow_action_kind kind, struct config_place place)
{
    struct mail_reply none = {0};
    struct mail_reply reply = {0};
    bool is_defer = kind == ACTION_DEFER;
    if (text.len == 0)
        return none;
    bool good = text.len <= FLOW_REPLY_MAX && mail_reply_parse(text, &reply);
    for (size_t i = 0; i < text.len; i++)
        good = good && (unsigned char)text.ptr[i] >= ' ' && text.ptr[i] != 127;
    good = good && (is_defer ? mail_reply_is_transient(&reply) : mail_reply_is_permanent(&reply));
    if (good) {
        if (!reply.enhanced.class)
            reply.enhanced =
                (struct mail_enhanced){.class = is_defer ? 4 : 5, .subject = 7, .detail = 1};
        return mail_reply_copy(compiling->context->option.arena, &reply);
    }
    struct config_problem *problem = flow_problem(
        compiling, CONFIG_ERROR, "bad-reply", place, "\"%.*s\" is no reply that %s can give",
        STR_ARG(str_slice(text, 0, 60)), is_defer ? "defer" : "reject");
    problem->fix = is_defer ? STR("as in \"451 4.7.1 Try again later\": a code 4xx, 4.x.x, words")
                            : STR("as in \"550 5.7.1 Not here\": a code 5xx, 5.x.x, words");
    return none;
}

static void compile_kept(struct flow_compiling *compiling, const struct config_node *node,
                         struct flow_action *action)
{
    bool aside = action->kind == ACTION_QUARANTINE;
    struct flow_kept kept = {0};
    if (option_bind(aside ? &flow_quarantine_table : &flow_hold_table, node->is_null ? NULL : node,
                    NULL, &compiling->context->option, &kept) != OK)
        return;
    if (aside)
        flow_compile_quarantine(compiling, &kept, node->place);
    flow_action_keep(action, &kept);
}

void flow_action_keep(struct flow_action *action, const struct flow_kept *kept)
{
    action->quarantine = kept->quarantine;
    action->why = kept->why;
    action->reason = (enum mail_reason)kept->reason;
}

static void compile_words(struct flow_compiling *compiling, const struct config_node *node,
                          struct flow_action *action)
{
    const struct flow_compile_context *context = compiling->context;
    struct words words = {0};
    if (action->kind == ACTION_HOLD || action->kind == ACTION_QUARANTINE) {
        compile_kept(compiling, node, action);
        return;
    }
    if (node->is_null)
        return;
    if (action->kind != ACTION_REJECT && action->kind != ACTION_DEFER) {
        if (node->kind != CONFIG_MAP || node->count)
            flow_problem(compiling, CONFIG_ERROR, "wrong-type", node->place, "%s takes no words",
                         flow_actions[action->kind].word);
        return;
    }
    if (option_bind(&words_table, node, NULL, &context->option, &words) != OK)
        return;
    action->reply = flow_compile_reply(compiling, words.reply, action->kind,
                                       flow_place_of(node, "reply", node->place));
}

/* A list of steps, or the one step of a map. */
static void compile_branch(struct flow_compiling *compiling, const struct flow_step *step,
                           const struct flow_outcome *outcome, const struct config_node *node,
                           struct flow_action *action)
{
    action->kind = ACTION_BRANCH;
    if (compiling->depth >= FLOW_DEPTH_MAX) {
        flow_problem(compiling, CONFIG_ERROR, "too-deep", node->place,
                     "branches are nested more than %d deep", FLOW_DEPTH_MAX);
        return;
    }
    struct str prefix = arena_printf(compiling->context->option.arena, "%.*s.%s.",
                                     STR_ARG(step->number), outcome->name);
    struct config_node list = *node;
    if (node->kind == CONFIG_MAP) {
        struct config_node *copy = ARENA_NEW(compiling->context->option.arena, struct config_node);
        *copy = *node;
        list = (struct config_node){
            .kind = CONFIG_LIST, .place = node->place, .items = copy, .count = 1};
    }
    compiling->depth++;
    flow_compile_steps(compiling, &list, prefix, &action->branch);
    compiling->depth--;
}

void flow_compile_action(struct flow_compiling *compiling, const struct flow_step *step,
                         const struct flow_outcome *outcome, const struct config_node *node,
                         struct flow_action *out_action)
{
    enum flow_action_kind kind;
    if (node->kind == CONFIG_SCALAR) {
        if (node->is_null || !find_word(node->text, &kind))
            report_unknown(compiling, node->is_null ? STR("") : node->text, node->place);
        else if (check_legal(compiling, outcome, kind, node->place)) {
            const struct config_node nothing = {.is_null = true, .place = node->place};
            *out_action = (struct flow_action){.kind = kind};
            if (kind == ACTION_QUARANTINE)
                compile_kept(compiling, &nothing, out_action);
        }
        return;
    }
    if (node->kind == CONFIG_LIST) {
        compile_branch(compiling, step, outcome, node, out_action);
        return;
    }
    if (node->count == 1 && find_word(node->pairs[0].key, &kind)) {
        if (!check_legal(compiling, outcome, kind, node->pairs[0].place))
            return;
        *out_action = (struct flow_action){.kind = kind};
        compile_words(compiling, &node->pairs[0].value, out_action);
        return;
    }
    if (node->count >= 1 && flow_block_find(node->pairs[0].key)) {
        compile_branch(compiling, step, outcome, node, out_action);
        return;
    }
    report_unknown(compiling, node->count ? node->pairs[0].key : STR(""),
                   node->count ? node->pairs[0].place : node->place);
}
