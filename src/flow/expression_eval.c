/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/expression_eval.c - what an expression is for given facts, and what can be proven of it.
 */
#include "flow/expression.h"

#include "flow/checks.h"
#include "flow/effects.h"
#include "flow/expression_internal.h"
#include "mail/header.h"

struct evaluation {
    const struct flow_facts *facts;
    const struct mail_recipient *recipient; /* inside any() and all() */
    struct arena *scratch;
    struct error *err;
};

static struct str header_text(const struct evaluation *evaluation, struct str name)
{
    struct mail_field field;
    if (!mail_header_find(evaluation->facts->header, name, &field))
        return STR_EMPTY;
    return mail_field_text(evaluation->scratch, &field);
}

/* Results of checks; empty before the step that makes them, and in proofs. */
static struct str check_text(enum expression_name name, const struct flow_checks *checks)
{
    if (!checks)
        return STR_EMPTY;
    switch (name) {
    case NAME_SPF:
        return checks->spf_known ? str_c(spf_result_name(checks->spf.result)) : STR_EMPTY;
    case NAME_DKIM:
        return checks->dkim;
    case NAME_DKIM_DOMAIN:
        return checks->dkim_domain;
    case NAME_DMARC:
        return checks->dmarc;
    case NAME_DMARC_POLICY:
        return checks->dmarc_policy;
    default:
        return STR_EMPTY;
    }
}

static struct str findings_text(const struct evaluation *evaluation)
{
    const struct flow_effects *effects = evaluation->facts->effects;
    struct str text = STR_EMPTY;
    for (size_t i = 0; effects && i < effects->finding_count; i++)
        text = arena_printf(evaluation->scratch, "%.*s%s%.*s", STR_ARG(text), i ? " " : "",
                            STR_ARG(effects->findings[i].name));
    return text;
}

static struct str text_of(const struct expression *node, const struct evaluation *evaluation)
{
    const struct flow_facts *facts = evaluation->facts;
    const struct mail_recipient *recipient = evaluation->recipient;
    if (node->op == EXPRESSION_OP_LITERAL)
        return node->text;
    switch (node->name) {
    case NAME_USER:
        return facts->user;
    case NAME_CLIENT_NAME:
        return facts->client_name;
    case NAME_HELO:
        return facts->helo;
    case NAME_TLS:
        return facts->tls;
    case NAME_LISTENER:
        return facts->listener;
    case NAME_SENDER:
        return facts->sender;
    case NAME_SENDER_DOMAIN:
        return facts->sender_domain;
    case NAME_RECIPIENT:
        return recipient ? recipient->address : facts->recipient;
    case NAME_RECIPIENT_DOMAIN:
        return recipient ? recipient->domain : facts->recipient_domain;
    case NAME_HEADER:
        return header_text(evaluation, node->text);
    case NAME_FINDINGS:
        return findings_text(evaluation);
    default:
        return check_text(node->name, facts->checks);
    }
}

static double number_of(const struct expression *node, const struct flow_facts *facts)
{
    if (node->op == EXPRESSION_OP_LITERAL)
        return node->number;
    if (node->name == NAME_SCORE)
        return facts->checks ? facts->checks->score : 0;
    return node->name == NAME_SIZE ? (double)facts->size : (double)facts->recipient_count;
}

static bool bool_of(const struct expression *node, const struct flow_facts *facts)
{
    if (node->op == EXPRESSION_OP_LITERAL)
        return node->truth;
    return node->name == NAME_AUTHENTICATED ? facts->authenticated : facts->trusted;
}

static const struct net_ip *ip_of(const struct expression *node, const struct flow_facts *facts)
{
    return node->op == EXPRESSION_OP_LITERAL ? &node->ip : &facts->client;
}

/* An entry is the whole text; of an address also its domain, as "@domain" or "domain". */
static bool list_has_text(const struct flow_list *list, struct str text)
{
    ptrdiff_t at = str_find_last(text, '@');
    struct str domain = at >= 0 ? str_from(text, (size_t)at + 1) : STR_EMPTY;
    for (size_t i = 0; i < list->text_count; i++) {
        struct str entry = list->texts[i];
        if (str_equal_nocase(entry, text))
            return true;
        if (str_starts(entry, STR("@")))
            entry = str_from(entry, 1);
        if (domain.len && str_equal_nocase(entry, domain))
            return true;
    }
    return false;
}

static bool is_in(const struct expression *node, const struct evaluation *evaluation)
{
    if (node->in_trusted)
        return evaluation->facts->trusted;
    if (node->left->type == EXPRESSION_CLIENT)
        return net_networks_have(node->list->networks, node->list->network_count,
                                 ip_of(node->left, evaluation->facts));
    return list_has_text(node->list, text_of(node->left, evaluation));
}

static enum result eval(const struct expression *node, struct evaluation *evaluation, bool *out);

static bool number_compare(enum expression_compare compare, double a, double b)
{
    switch (compare) {
    case COMPARE_EQUAL:
        return a == b;
    case COMPARE_NOT_EQUAL:
        return a != b;
    case COMPARE_LESS:
        return a < b;
    case COMPARE_LESS_EQUAL:
        return a <= b;
    case COMPARE_GREATER:
        return a > b;
    default:
        return a >= b;
    }
}

static enum result eval_compare(const struct expression *node, struct evaluation *evaluation,
                                bool *out)
{
    const struct flow_facts *facts = evaluation->facts;
    bool equal = false;
    bool left;
    bool right;
    switch (node->left->type) {
    case EXPRESSION_NUMBER:
        *out = number_compare(node->compare, number_of(node->left, facts),
                              number_of(node->right, facts));
        return OK;
    case EXPRESSION_STRING:
        equal = str_equal_nocase(text_of(node->left, evaluation), text_of(node->right, evaluation));
        break;
    case EXPRESSION_CLIENT:
        equal = net_ip_equal(ip_of(node->left, facts), ip_of(node->right, facts));
        break;
    case EXPRESSION_BOOL:
        if (eval(node->left, evaluation, &left) != OK ||
            eval(node->right, evaluation, &right) != OK)
            return FAILED;
        equal = left == right;
        break;
    }
    *out = equal == (node->compare == COMPARE_EQUAL);
    return OK;
}

static enum result eval_quantifier(const struct expression *node, struct evaluation *evaluation,
                                   bool *out)
{
    bool wanted = node->op == EXPRESSION_OP_ANY;
    *out = !wanted;
    for (size_t i = 0; i < evaluation->facts->recipient_count; i++) {
        bool one;
        evaluation->recipient = &evaluation->facts->recipients[i];
        enum result result = eval(node->left, evaluation, &one);
        evaluation->recipient = NULL;
        if (result != OK)
            return FAILED;
        if (one == wanted) {
            *out = wanted;
            return OK;
        }
    }
    return OK;
}

static enum result eval(const struct expression *node, struct evaluation *evaluation, bool *out)
{
    switch (node->op) {
    case EXPRESSION_OP_LITERAL:
    case EXPRESSION_OP_NAME:
        *out = bool_of(node, evaluation->facts);
        return OK;
    case EXPRESSION_OP_NOT:
        if (eval(node->left, evaluation, out) != OK)
            return FAILED;
        *out = !*out;
        return OK;
    case EXPRESSION_OP_AND:
    case EXPRESSION_OP_OR:
        if (eval(node->left, evaluation, out) != OK)
            return FAILED;
        if (*out == (node->op == EXPRESSION_OP_OR))
            return OK;
        return eval(node->right, evaluation, out);
    case EXPRESSION_OP_COMPARE:
        return eval_compare(node, evaluation, out);
    case EXPRESSION_OP_IN:
        *out = is_in(node, evaluation);
        return OK;
    case EXPRESSION_OP_MATCH:
        return pattern_match(node->pattern, text_of(node->left, evaluation), out, evaluation->err);
    case EXPRESSION_OP_ANY:
    case EXPRESSION_OP_ALL:
        return eval_quantifier(node, evaluation, out);
    }
    return fail(evaluation->err, ERROR_PERMANENT, "unknown operation");
}

enum result expression_eval(const struct expression *expression, const struct flow_facts *facts,
                            struct arena *scratch, bool *out_value, struct error *err)
{
    struct evaluation evaluation = {.facts = facts, .scratch = scratch, .err = err};
    return eval(expression, &evaluation, out_value);
}

struct str expression_fact(int name, const struct flow_facts *facts, struct arena *scratch)
{
    struct evaluation evaluation = {.facts = facts, .scratch = scratch};
    struct expression node = {.op = EXPRESSION_OP_NAME, .name = (enum expression_name)name};
    return text_of(&node, &evaluation);
}

bool expression_list_has(const struct flow_list *list, struct str text)
{
    return list_has_text(list, text);
}

/* ---- proof ---- */

static enum expression_truth truth_of(bool value)
{
    return value ? EXPRESSION_TRUE : EXPRESSION_FALSE;
}

static enum expression_truth truth_not(enum expression_truth truth)
{
    return truth == EXPRESSION_UNDECIDED ? truth : truth_of(truth == EXPRESSION_FALSE);
}

static bool is_given(const struct expression *node, const struct expression_knowledge *known)
{
    if (node->op == EXPRESSION_OP_NAME && node->name == NAME_HEADER) {
        for (size_t i = 0; i < known->field_count; i++)
            if (str_equal_nocase(known->fields[i], node->text))
                return true;
        return false;
    }
    if (node->op == EXPRESSION_OP_NAME && known->recipient &&
        (node->name == NAME_RECIPIENT || node->name == NAME_RECIPIENT_DOMAIN))
        return true;
    return node->op == EXPRESSION_OP_LITERAL ||
           (node->op == EXPRESSION_OP_NAME && known->given & (1u << node->name));
}

struct str expression_missing(const struct expression *expression,
                              const struct expression_knowledge *known, struct arena *arena)
{
    struct expression_knowledge inner = *known;
    static const struct mail_recipient any;
    if (!expression)
        return STR_EMPTY;
    if (expression->op == EXPRESSION_OP_NAME && !is_given(expression, known))
        return expression->name == NAME_HEADER
                   ? arena_printf(arena, "header(\"%.*s\")", STR_ARG(expression->text))
                   : str_c(expression_names[expression->name].name);
    bool quantifier = expression->op == EXPRESSION_OP_ANY || expression->op == EXPRESSION_OP_ALL;
    if (quantifier && !(known->given & 1u << NAME_RECIPIENTS))
        return STR("recipients");
    if (quantifier)
        inner.recipient = &any;
    struct str left = expression_missing(expression->left, &inner, arena);
    return left.len ? left : expression_missing(expression->right, &inner, arena);
}

/* A comparison, list or pattern in the one case whose facts are given. */
static enum expression_truth judge_case(const struct expression *node,
                                        const struct expression_knowledge *known)
{
    struct evaluation evaluation = {
        .facts = known->facts, .recipient = known->recipient, .scratch = known->scratch};
    bool value;
    bool given = is_given(node->left, known) &&
                 (node->op != EXPRESSION_OP_COMPARE || is_given(node->right, known));
    if (!given || eval(node, &evaluation, &value) != OK)
        return EXPRESSION_UNDECIDED;
    return truth_of(value);
}

static bool text_is_known(const struct expression *node, const struct expression_knowledge *known)
{
    if (node->op == EXPRESSION_OP_LITERAL)
        return true;
    return (node->name == NAME_USER && known->stranger && !known->may_log_in) ||
           (node->name == NAME_LISTENER && known->listener.len);
}

static bool flag_is_false(enum expression_name name, const struct expression_knowledge *known)
{
    bool may = name == NAME_TRUSTED ? known->may_claim_client : known->may_log_in;
    return known->stranger && !may;
}

static enum expression_truth judge(const struct expression *node,
                                   const struct expression_knowledge *known);

/* For each recipient of the one case. */
static enum expression_truth judge_quantifier(const struct expression *node,
                                              const struct expression_knowledge *known)
{
    enum expression_truth wanted = truth_of(node->op == EXPRESSION_OP_ANY);
    enum expression_truth all = truth_not(wanted);
    struct expression_knowledge inner = *known;
    if (!known->facts || !(known->given & 1u << NAME_RECIPIENTS))
        return EXPRESSION_UNDECIDED;
    for (size_t i = 0; i < known->facts->recipient_count; i++) {
        inner.recipient = &known->facts->recipients[i];
        enum expression_truth one = judge(node->left, &inner);
        if (one == wanted)
            return wanted;
        if (one == EXPRESSION_UNDECIDED)
            all = one;
    }
    return all;
}

/* Comparisons, lists and patterns of texts that the proof knows. */
static enum expression_truth judge_texts(const struct expression *node,
                                         const struct expression_knowledge *known)
{
    struct flow_facts facts = {.listener = known->listener, .user = STR_EMPTY};
    struct evaluation evaluation = {.facts = &facts};
    bool value;
    if (known->facts)
        return judge_case(node, known);
    if (node->left->type != EXPRESSION_STRING || !text_is_known(node->left, known))
        return EXPRESSION_UNDECIDED;
    if (node->op == EXPRESSION_OP_COMPARE && !text_is_known(node->right, known))
        return EXPRESSION_UNDECIDED;
    if (node->op == EXPRESSION_OP_IN && !node->list_is_literal)
        return EXPRESSION_UNDECIDED; /* lists are reread while the flow is in force */
    if (eval(node, &evaluation, &value) != OK)
        return EXPRESSION_UNDECIDED;
    return truth_of(value);
}

static enum expression_truth judge_compare(const struct expression *node,
                                           const struct expression_knowledge *known)
{
    if (node->left->type != EXPRESSION_BOOL)
        return judge_texts(node, known);
    enum expression_truth left = judge(node->left, known);
    enum expression_truth right = judge(node->right, known);
    if (left == EXPRESSION_UNDECIDED || right == EXPRESSION_UNDECIDED)
        return EXPRESSION_UNDECIDED;
    return truth_of((left == right) == (node->compare == COMPARE_EQUAL));
}

static enum expression_truth judge(const struct expression *node,
                                   const struct expression_knowledge *known)
{
    switch (node->op) {
    case EXPRESSION_OP_LITERAL:
        return truth_of(node->truth);
    case EXPRESSION_OP_NAME: /* authenticated, trusted */
        if (known->facts && is_given(node, known))
            return truth_of(bool_of(node, known->facts));
        return flag_is_false(node->name, known) ? EXPRESSION_FALSE : EXPRESSION_UNDECIDED;
    case EXPRESSION_OP_NOT:
        return truth_not(judge(node->left, known));
    case EXPRESSION_OP_AND:
    case EXPRESSION_OP_OR: {
        enum expression_truth decisive = truth_of(node->op == EXPRESSION_OP_OR);
        enum expression_truth left = judge(node->left, known);
        enum expression_truth right = judge(node->right, known);
        if (left == decisive || right == decisive)
            return decisive;
        return left == right ? left : EXPRESSION_UNDECIDED;
    }
    case EXPRESSION_OP_COMPARE:
        return judge_compare(node, known);
    case EXPRESSION_OP_IN:
        if (node->in_trusted && known->given & (1u << NAME_TRUSTED))
            return truth_of(known->facts->trusted);
        if (node->in_trusted)
            return flag_is_false(NAME_TRUSTED, known) ? EXPRESSION_FALSE : EXPRESSION_UNDECIDED;
        return judge_texts(node, known);
    case EXPRESSION_OP_MATCH:
        return judge_texts(node, known);
    case EXPRESSION_OP_ANY:
    case EXPRESSION_OP_ALL:
        return judge_quantifier(node, known);
    }
    return EXPRESSION_UNDECIDED;
}

/* Can it be `truth`, together with what is assumed? */
static bool can_be(const struct expression *expression, bool truth,
                   const struct expression_knowledge *known)
{
    struct expression_assumption items[EXPRESSION_ASSUMED_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; i < known->assumed_count && count < EXPRESSION_ASSUMED_MAX; i++)
        items[count++] = known->assumed[i];
    items[count++] = (struct expression_assumption){expression, truth, known->epoch, known->since};
    return expression_possible(items, count, known);
}

enum expression_truth expression_judge(const struct expression *expression,
                                       const struct expression_knowledge *known)
{
    static const struct expression_knowledge nothing = {0};
    if (!known)
        known = &nothing;
    enum expression_truth truth = judge(expression, known);
    if (truth != EXPRESSION_UNDECIDED || known->facts)
        return truth;
    if (!can_be(expression, true, known))
        return EXPRESSION_FALSE;
    return can_be(expression, false, known) ? EXPRESSION_UNDECIDED : EXPRESSION_TRUE;
}
