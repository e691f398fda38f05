/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/action.c - what an outcome leads to: a verdict word, a verdict with words, or a branch.
 */
#include "flow/flow_internal.h"

enum {
    ANYWHERE = FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
};

const struct flow_action_row flow_actions[ACTION_COUNT] = {
    [ACTION_NEXT] = {"next", ANYWHERE, .built = true},
    [ACTION_NOTE] = {"note", ANYWHERE, .built = true},
    [ACTION_ACCEPT] = {"accept", FLOW_IN_AUTHENTICATION | FLOW_IN_RECIPIENT, .built = true,
                       .decides = true},
    [ACTION_REJECT] = {"reject", ANYWHERE, .built = true, .decides = true},
    [ACTION_DEFER] = {"defer", ANYWHERE, .built = true, .decides = true},
    [ACTION_DELIVER] = {"deliver", FLOW_IN_CONTENT, .built = true, .decides = true},
    [ACTION_HOLD] = {"hold", FLOW_IN_CONTENT, .built = true, .decides = true},
    [ACTION_QUARANTINE] = {"quarantine", FLOW_IN_CONTENT, .built = false, .decides = true},
    [ACTION_DISCARD] = {"discard", FLOW_IN_CONTENT, .built = true, .decides = true},
    [ACTION_BRANCH] = {NULL, ANYWHERE, .built = true},
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
    if (!row->built) {
        flow_problem(compiling, CONFIG_ERROR, "not-built", place, "%s is not built yet", row->word);
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
    struct str near = config_nearest(word, words, count);
    struct config_problem *problem = flow_problem(compiling, CONFIG_ERROR, "unknown-action", place,
                                                  "\"%.*s\" is no action", STR_ARG(word));
    if (near.len)
        problem->fix = flow_fix(compiling, "did you mean \"%.*s\"?", STR_ARG(near));
    else
        problem->fix = STR("actions are next, note, a verdict such as reject, a verdict with its "
                           "words ({ reject: \"550 5.7.1 …\" }), or a list of steps");
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

static void compile_words(struct flow_compiling *compiling, const struct config_node *node,
                          struct flow_action *action)
{
    const struct flow_compile_context *context = compiling->context;
    struct words words = {0};
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
        else if (check_legal(compiling, outcome, kind, node->place))
            *out_action = (struct flow_action){.kind = kind};
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
