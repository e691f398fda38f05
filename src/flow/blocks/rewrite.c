/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/rewrite.c - changes addresses of the envelope: recipients, or the sender.
 *
 * Rules are tried in order, the first that fits counts, and what comes out is not rewritten again.
 * A changed recipient goes where its new domain goes. Either all of it can be done or nothing is.
 */
#include "flow/blocks.h"
#include "flow/pattern.h"
#include "flow/text.h"

enum { REWRITTEN, UNCHANGED, ERROR };
enum { RULES_MAX = 1000, TARGETS_MAX = 100, RECIPIENTS_MAX = 10000 };

struct parameters {
    const struct config_node *recipient;
    const struct config_node *sender;
};

struct rule {
    enum { RULE_ADDRESS, RULE_DOMAIN, RULE_PATTERN } kind;
    struct str from; /* lower case; the domain without its @; the pattern with its ~ */
    const struct pattern *pattern;
    struct str *to; /* an address, "@domain", or for a pattern a form with $1 */
    size_t to_count;
};
struct rules {
    struct rule *items;
    size_t count;
};
struct prepared {
    struct rules recipient, sender;
};

static const struct option options[] = {
    {.name = "recipient",
     .type = OPTION_NODE,
     .offset = offsetof(struct parameters, recipient),
     .text = "rules for recipients, as in { \"info@example.org\": ann@example.org, "
             "\"@old.example\": \"@example.org\", \"~^(.+)-list@(.+)$\": \"$1@lists.$2\" }; in "
             "content flows also a list of addresses for one"},
    {.name = "sender",
     .type = OPTION_NODE,
     .offset = offsetof(struct parameters, sender),
     .text = "rules for the envelope sender; content flows only"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "rewrite",
    .text = "Changes addresses of the envelope. The first rule that fits counts; a changed "
            "recipient goes where its new domain goes.",
    .options = options,
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [REWRITTEN] = {.name = "rewritten",
                   .action = ACTION_NEXT,
                   .text =
                       "an address was changed; a recipient goes where its new domain goes, and "
                       "that domain's own recipient flow is not asked"},
    [UNCHANGED] = {.name = "unchanged",
                   .key = "unchanged",
                   .action = ACTION_NEXT,
                   .text = "no rule fits"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.5 Try again later",
               .reason = MAIL_REASON_POLICY,
               .text = "what comes out is no address, or no domain takes mail for it"},
    {.name = NULL},
};

/* ---- at load ---- */

static bool target_is_good(struct flow_compiling *compiling, const struct rule *rule, struct str to,
                           struct config_place place)
{
    struct mail_recipient address;
    struct str domain;
    struct arena *arena = compiling->context->option.arena;
    if (rule->kind == RULE_PATTERN)
        return true; /* known when it is filled in */
    if (!str_starts(to, STR("@")))
        return flow_compile_address(compiling, to, place, &address);
    if (mail_domain_normalize(arena, str_from(to, 1), &domain))
        return true;
    flow_problem(compiling, CONFIG_ERROR, "bad-address", place, "\"%.*s\" is no domain",
                 STR_ARG(str_slice(to, 0, 80)));
    return false;
}

static void compile_targets(struct flow_compiling *compiling, const struct config_node *node,
                            bool one, struct rule *rule)
{
    struct option_texts targets = {0};
    if (!option_read_texts(node, &compiling->context->option, &targets))
        return;
    if (targets.count == 0 || targets.count > (one ? 1 : TARGETS_MAX)) {
        flow_problem(compiling, CONFIG_ERROR, "wrong-value", node->place,
                     one ? "expected one address" : "expected 1 to %d addresses", TARGETS_MAX);
        return;
    }
    rule->to = targets.items;
    for (size_t i = 0; i < targets.count; i++)
        rule->to_count += target_is_good(compiling, rule, targets.items[i], targets.places[i]);
}

static void compile_rule(struct flow_compiling *compiling, const struct config_pair *pair, bool one,
                         struct rule *out)
{
    struct arena *arena = compiling->context->option.arena;
    struct error err = {0};
    struct mail_recipient address;
    size_t fault = 0;
    if (str_starts(pair->key, STR("~"))) {
        out->kind = RULE_PATTERN;
        out->from = pair->key;
        if (pattern_new(arena, arena_printf(arena, "(?i)%.*s", STR_ARG(str_from(pair->key, 1))),
                        &out->pattern, &fault, &err) != OK)
            flow_problem(compiling, CONFIG_ERROR, "pattern", pair->place,
                         "the pattern is wrong: %s", err.text);
    } else if (str_starts(pair->key, STR("@"))) {
        out->kind = RULE_DOMAIN;
        if (!mail_domain_normalize(arena, str_from(pair->key, 1), &out->from))
            flow_problem(compiling, CONFIG_ERROR, "bad-address", pair->place,
                         "\"%.*s\" is no domain", STR_ARG(str_slice(pair->key, 0, 80)));
    } else if (flow_compile_address(compiling, pair->key, pair->place, &address)) {
        out->kind = RULE_ADDRESS;
        out->from = arena_lower(arena, address.address);
    }
    compile_targets(compiling, &pair->value, one, out);
}

static void compile_rules(struct flow_compiling *compiling, const struct config_node *node,
                          bool one, struct rules *out)
{
    if (!node)
        return;
    if (node->kind != CONFIG_MAP || !node->count || node->count > RULES_MAX) {
        flow_problem(compiling, CONFIG_ERROR, "wrong-type", node->place,
                     "expected rules: { address: address, \"@domain\": \"@domain\" }");
        return;
    }
    out->items =
        arena_alloc_array(compiling->context->option.arena, node->count, sizeof *out->items);
    for (size_t i = 0; i < node->count; i++)
        compile_rule(compiling, &node->pairs[i], one, &out->items[i]);
    out->count = node->count;
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct prepared *prepared = ARENA_NEW(compiling->context->option.arena, struct prepared);
    bool is_recipient = compiling->flow->type == FLOW_RECIPIENT;
    step->prepared = prepared;
    if (!parameters->recipient && !parameters->sender)
        flow_problem(compiling, CONFIG_ERROR, "missing-key", step->place,
                     "rewrite has no rules: add recipient or sender");
    if (is_recipient && parameters->sender)
        flow_problem(compiling, CONFIG_ERROR, "illegal-step",
                     flow_place_of(node, "sender", step->place),
                     "the sender is rewritten in content flows");
    compile_rules(compiling, parameters->recipient, is_recipient, &prepared->recipient);
    compile_rules(compiling, parameters->sender, /* one= */ true, &prepared->sender);
}

/* ---- running ---- */

static struct str domain_of(struct str address)
{
    ptrdiff_t at = str_find_last(address, '@');
    return at < 0 ? STR_EMPTY : str_from(address, (size_t)at + 1);
}

/* What a target makes of the address. */
static enum result fill_in(const struct flow_running *running, const struct rule *rule,
                           struct str address, struct str to, struct str *out, struct error *err)
{
    struct arena *arena = running->run->arena;
    bool matches;
    if (rule->kind == RULE_PATTERN)
        return pattern_expand(rule->pattern, address, to, arena, &matches, out, err);
    struct str local = str_slice(address, 0, address.len - domain_of(address).len - 1);
    *out = str_starts(to, STR("@")) ? arena_printf(arena, "%.*s%.*s", STR_ARG(local), STR_ARG(to))
                                    : to;
    return OK;
}

static enum result find_rule(const struct flow_running *running, const struct rules *rules,
                             struct str address, const struct rule **out, struct error *err)
{
    struct str lower = arena_lower(running->run->arena, address);
    *out = NULL;
    for (size_t i = 0; i < rules->count && !*out; i++) {
        const struct rule *rule = &rules->items[i];
        bool fits = rule->kind == RULE_DOMAIN ? str_equal(rule->from, domain_of(lower))
                                              : str_equal(rule->from, lower);
        if (rule->kind == RULE_PATTERN && pattern_match(rule->pattern, address, &fits, err) != OK)
            return FAILED;
        if (fits)
            *out = rule;
    }
    return OK;
}

/* A new address that can be sent to; else false, and why. */
static bool take_address(struct flow_running *running, struct str text, bool must_be_taken,
                         struct mail_address *out)
{
    struct arena *arena = running->run->arena;
    const struct flow_ways *ways = running->run->ways;
    struct str shown = str_slice(text, 0, 100);
    if (mail_address_parse(arena, text, false, true, out) != MAIL_ADDRESS_OK ||
        out->kind != MAIL_DOMAIN_NAME) {
        running->detail = arena_printf(arena, "\"%.*s\" came out, no address", STR_ARG(shown));
        return false;
    }
    if (must_be_taken && ways && !ways->is_taken(ways->context, out->domain)) {
        running->detail = arena_printf(arena, "no domain takes mail for <%.*s>", STR_ARG(shown));
        return false;
    }
    return true;
}

static void describe(struct flow_running *running, struct str from, struct str to)
{
    if (!running->detail.len)
        running->detail =
            arena_printf(running->run->arena, "<%.*s> became <%.*s>",
                         STR_ARG(str_slice(from, 0, 200)), STR_ARG(str_slice(to, 0, 200)));
}

struct rewriting {
    struct mail_recipient *recipients;
    long *came_as;
    size_t count, cap;
    bool changed;
};

static void make_room(struct rewriting *new, struct arena *arena, size_t more)
{
    if (new->count + more <= new->cap)
        return;
    size_t cap = (new->count + more) * 2;
    struct mail_recipient *recipients = arena_alloc_array(arena, cap, sizeof *recipients);
    long *came_as = arena_alloc_array(arena, cap, sizeof *came_as);
    for (size_t i = 0; i < new->count; i++) {
        recipients[i] = new->recipients[i];
        came_as[i] = new->came_as[i];
    }
    new->recipients = recipients;
    new->came_as = came_as;
    new->cap = cap;
}

/* *out_good false: an outcome `error`, with words. */
static enum result rewrite_one(struct flow_running *running, const struct rule *rule,
                               const struct mail_recipient *old, struct rewriting *new,
                               bool *out_good, struct error *err)
{
    struct arena *arena = running->run->arena;
    *out_good = false;
    for (size_t i = 0; i < rule->to_count; i++) {
        struct str text;
        struct mail_address address;
        if (fill_in(running, rule, old->address, rule->to[i], &text, err) != OK)
            return FAILED;
        if (!take_address(running, text, /* must_be_taken= */ true, &address))
            return OK;
        struct mail_recipient *recipient = &new->recipients[new->count];
        *recipient = *old;
        recipient->address = mail_address_text(arena, &address);
        recipient->domain = address.domain;
        if (!recipient->orcpt.len) /* whom the sender meant (RFC 3461 5.2.3) */
            recipient->orcpt = arena_printf(arena, "rfc822;%.*s", STR_ARG(old->address));
        new->came_as[new->count++] = FLOW_NEW_RECIPIENT;
        new->changed = true;
        describe(running, old->address, recipient->address);
    }
    *out_good = true;
    return OK;
}

static enum result rewrite_recipients(struct flow_running *running, const struct rules *rules,
                                      struct rewriting *new, bool *out_good, struct error *err)
{
    const struct flow_facts *facts = &running->facts;
    const struct flow_effects *effects = &running->verdict->effects;
    struct arena *arena = running->run->arena;
    *out_good = true;
    for (size_t i = 0; i < facts->recipient_count && *out_good; i++) {
        const struct mail_recipient *old = &facts->recipients[i];
        const struct rule *rule;
        if (find_rule(running, rules, old->address, &rule, err) != OK)
            return FAILED;
        make_room(new, arena, rule ? rule->to_count : 1);
        if (!rule) {
            new->recipients[new->count] = *old;
            new->came_as[new->count++] = effects->came_as ? effects->came_as[i] : (long)i;
            continue;
        }
        if (new->count + rule->to_count > RECIPIENTS_MAX)
            return fail(err, ERROR_LIMIT, "more than %d recipients come out", RECIPIENTS_MAX);
        if (rewrite_one(running, rule, old, new, out_good, err) != OK)
            return FAILED;
    }
    return OK;
}

/* Of a recipient flow's one recipient, or of the sender. */
static enum result rewrite_address(struct flow_running *running, const struct rules *rules,
                                   struct str old, bool is_recipient, struct mail_address *out,
                                   unsigned *out_outcome, struct error *err)
{
    const struct rule *rule = NULL;
    struct str text;
    *out_outcome = UNCHANGED;
    if (!old.len || find_rule(running, rules, old, &rule, err) != OK)
        return old.len ? FAILED : OK;
    if (!rule || !rule->to_count)
        return OK;
    if (fill_in(running, rule, old, rule->to[0], &text, err) != OK)
        return FAILED;
    *out_outcome = ERROR;
    if (!take_address(running, text, is_recipient, out))
        return OK;
    *out_outcome = REWRITTEN;
    describe(running, old, text);
    return OK;
}

static enum result run_recipient(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct prepared *prepared = step->prepared;
    struct mail_address address;
    if (rewrite_address(running, &prepared->recipient, running->facts.recipient,
                        /* is_recipient= */ true, &address, out_outcome, err) != OK)
        return FAILED;
    if (*out_outcome == REWRITTEN && !step->observe)
        flow_set_recipient(running, mail_address_key(running->run->arena, &address),
                           address.domain);
    return OK;
}

static enum result run_content(struct flow_running *running, const struct flow_step *step,
                               unsigned *out_outcome, struct error *err)
{
    const struct prepared *prepared = step->prepared;
    struct rewriting new = {.count = 0};
    struct mail_address sender;
    unsigned of_sender = UNCHANGED;
    bool good = true;
    if (prepared->sender.count &&
        rewrite_address(running, &prepared->sender, running->facts.sender,
                        /* is_recipient= */ false, &sender, &of_sender, err) != OK)
        return FAILED;
    if (prepared->recipient.count && of_sender != ERROR &&
        rewrite_recipients(running, &prepared->recipient, &new, &good, err) != OK)
        return FAILED;
    *out_outcome = !good || of_sender == ERROR             ? ERROR
                   : new.changed || of_sender == REWRITTEN ? REWRITTEN
                                                           : UNCHANGED;
    if (*out_outcome != REWRITTEN || step->observe)
        return OK;
    if (of_sender == REWRITTEN)
        flow_set_sender(running, mail_address_text(running->run->arena, &sender));
    if (new.changed)
        flow_set_recipients(running, new.recipients, new.came_as, new.count);
    return OK;
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    return running->flow->type == FLOW_RECIPIENT ? run_recipient(running, step, out_outcome, err)
                                                 : run_content(running, step, out_outcome, err);
}

/* ---- what the proof of relay safety asks ---- */

/* The domain at the end of "~…@example[.]org$"; empty: the pattern does not say it so. */
static struct str domain_of_pattern(struct str pattern, char out[static 256])
{
    ptrdiff_t at = str_find_last(pattern, '@');
    size_t len = 0;
    bool plain = at > 0 && str_ends(pattern, STR("$")) && str_find(pattern, '|') < 0 &&
                 str_find_str(pattern, STR("(?")) < 0;
    for (size_t i = (size_t)at + 1; plain && i + 1 < pattern.len && len < 255; i++) {
        struct str rest = str_from(pattern, i);
        char c = pattern.ptr[i];
        bool is_class = str_starts(rest, STR("[.]"));
        bool is_escaped = str_starts(rest, STR("\\."));
        if (!is_class && !is_escaped && !ascii_is_alpha(c) && !ascii_is_digit(c) && c != '-')
            return STR_EMPTY;
        out[len++] = is_class || is_escaped ? '.' : c;
        i += is_class ? 2 : is_escaped ? 1 : 0;
    }
    return plain ? str_of(out, len) : STR_EMPTY;
}

/* Can the rule fit what the client named, a recipient of the case's domain? */
static bool may_apply(const struct rule *rule, const struct flow_relay_case *relay)
{
    char space[256];
    struct str domain = rule->kind == RULE_DOMAIN    ? rule->from
                        : rule->kind == RULE_ADDRESS ? domain_of(rule->from)
                                                     : domain_of_pattern(rule->from, space);
    bool is_name = false;
    if (!relay->as_received || !relay->name_count || !domain.len)
        return true;
    for (size_t i = 0; i < relay->name_count && !is_name; i++)
        is_name = str_equal_nocase(relay->names[i], domain);
    return is_name != relay->is_any;
}

/* "~…@(.+)$" with its last group, "$2", as the domain: it stays what it was. */
static bool keeps_domain(const struct rule *rule, struct str domain)
{
    struct str pattern = rule->from;
    ptrdiff_t last = str_find_last(pattern, '(');
    unsigned groups = 0;
    bool in_class = false;
    if (rule->kind != RULE_PATTERN || last < 2 || pattern.ptr[last - 1] != '@' ||
        !str_ends(pattern, STR(")$")) || str_find(pattern, '|') >= 0 || domain.len != 2)
        return false;
    for (size_t i = 0; i < pattern.len; i++) {
        char c = pattern.ptr[i];
        if (c == '\\' ||
            (c == '(' && (in_class || pattern.ptr[i + 1] == '?' || pattern.ptr[i + 1] == '*')))
            return false;
        in_class = c == '[' || (in_class && c != ']');
        groups += c == '(';
    }
    struct str group = str_slice(pattern, (size_t)last + 1, pattern.len - 2);
    return str_find(group, ')') < 0 && domain.ptr[0] == '$' &&
           domain.ptr[1] == (char)('0' + groups);
}

/* An address that the file spells out is the administrator's choice, wherever it is: a forwarding,
 * no relay. What keeps a part that the client chose must stay in a listed domain. */
static bool target_may_leave(const struct rule *rule, struct str to,
                             const struct flow_relay_case *relay)
{
    struct str domain = domain_of(to);
    if (rule->kind != RULE_PATTERN && !str_starts(to, STR("@")))
        return false;
    if (rule->kind == RULE_PATTERN && str_find(to, '$') < 0)
        return false;
    if (keeps_domain(rule, domain))
        return false; /* if it is none of ours, another step did that */
    if (str_find(domain, '$') >= 0 || !relay->is_listed)
        return true;
    return !relay->is_listed(relay->context, domain);
}

static bool target_may_enter(const struct rule *rule, struct str to,
                             const struct flow_relay_case *relay, struct str name)
{
    bool keeps_a_part =
        rule->kind == RULE_PATTERN ? str_find(to, '$') >= 0 : str_starts(to, STR("@"));
    struct str domain = domain_of(to);
    return keeps_a_part && !keeps_domain(rule, domain) &&
           (str_find(domain, '$') >= 0 || !relay->belongs ||
            relay->belongs(relay->context, domain, name));
}

static bool may_enter(const struct flow_step *step, const struct flow_relay_case *relay,
                      struct str name)
{
    const struct prepared *prepared = step->prepared;
    for (size_t i = 0; i < prepared->recipient.count; i++) {
        const struct rule *rule = &prepared->recipient.items[i];
        for (size_t k = 0; k < rule->to_count && may_apply(rule, relay); k++)
            if (target_may_enter(rule, rule->to[k], relay, name))
                return true;
    }
    return false;
}

static bool may_leave(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct prepared *prepared = step->prepared;
    for (size_t i = 0; i < prepared->recipient.count; i++) {
        const struct rule *rule = &prepared->recipient.items[i];
        for (size_t k = 0; k < rule->to_count && may_apply(rule, relay); k++)
            if (target_may_leave(rule, rule->to[k], relay))
                return true;
    }
    return false;
}

static bool may_change(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct prepared *prepared = step->prepared;
    for (size_t i = 0; i < prepared->recipient.count; i++)
        if (may_apply(&prepared->recipient.items[i], relay))
            return true;
    return false;
}

static void suggest(const struct flow_step *step, void (*add)(void *context, struct str text),
                    void *context)
{
    const struct prepared *prepared = step->prepared;
    for (size_t i = 0; i < prepared->recipient.count; i++)
        add(context, prepared->recipient.items[i].from);
}

const struct flow_block flow_block_rewrite = {
    .name = "rewrite",
    .text = "changes addresses of the envelope",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .may_rewrite = true,
    .may_leave = may_leave,
    .may_enter = may_enter,
    .may_change = may_change,
    .suggest = suggest,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
};
