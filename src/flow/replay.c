/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/replay.c - a flow gone through once more by what was recorded of another run.
 *
 * Conditions are judged by the recorded facts; a step that would ask somebody takes the outcome
 * that the same question had then. Where neither says enough, the result is open: nothing is
 * guessed.
 */
#include "base/buf.h"
#include "flow/effects.h"
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"

#include <string.h>

enum { PARAMETER_MAX = 64 * 1024 };

struct replaying {
    const struct flow_replay *in;
    struct arena *arena;
    struct expression_knowledge known;
    struct flow_facts facts;
    struct flow_checks checks;
    struct flow_effects effects; /* for findings */
    struct str *fields;          /* those that are known still */
    struct str missing;          /* what a step would have had to know */
    struct flow_replayed *out;
};

/* ---- is it the same question? ---- */

static bool is_named(const char *const *names, struct str key)
{
    for (; names && *names; names++)
        if (str_equal(str_c(*names), key))
            return true;
    return false;
}

/* Keys that change what becomes of the answer, or how long it is believed, but not the question. */
static bool is_beside(const struct flow_block *block, struct str key)
{
    static const char *const common[] = {"id",    "observe", "note",          "cache",
                                         "stale", "timeout", "cache_missing", NULL};
    if (is_named(common, key) || is_named(block->judges_by, key) ||
        (str_equal(key, STR("when")) && !block->own_when))
        return true;
    for (const struct flow_outcome *outcome = block->outcomes; outcome->name; outcome++)
        if (outcome->key && str_equal(str_c(outcome->key), key))
            return true;
    return false;
}

static struct str print(const struct config_node *node, struct arena *arena)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, PARAMETER_MAX);
    option_print_node(node, &text);
    return arena_str(arena, buf_str(&text));
}

/* By key; one value alone is the parameter that the block's short form means. */
static const struct config_node *parameter(const struct flow_block *block,
                                           const struct config_node *node, struct str key)
{
    if (!node)
        return NULL;
    if (node->kind == CONFIG_MAP)
        return config_get(node, key);
    return str_equal(str_c(block->options->shorthand), key) ? node : NULL;
}

static bool has_it(const struct flow_block *block, struct str key, const struct config_node *value,
                   const struct config_node *other, struct arena *arena)
{
    const struct config_node *same = parameter(block, other, key);
    return is_beside(block, key) || (same && str_equal(print(value, arena), print(same, arena)));
}

/* Is each parameter of `a` that matters in `b` too? */
static bool has_all(const struct flow_block *block, const struct config_node *a,
                    const struct config_node *b, struct arena *arena)
{
    bool all = true;
    if (a && a->kind != CONFIG_MAP)
        return has_it(block, str_c(block->options->shorthand), a, b, arena);
    for (size_t i = 0; a && all && i < a->count; i++)
        all = has_it(block, a->pairs[i].key, &a->pairs[i].value, b, arena);
    return all;
}

static bool asks_the_same(const struct flow_step *one, const struct flow_step *two,
                          struct arena *arena)
{
    return one->block == two->block && has_all(one->block, one->written, two->written, arena) &&
           has_all(one->block, two->written, one->written, arena);
}

static const struct flow_step *find_step(const struct flow_steps *steps, struct str id)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        const struct flow_step *found = str_equal(step->id, id) ? step : NULL;
        for (unsigned k = 0; !found && k < step->outcome_count; k++)
            found = find_step(&step->actions[k].branch, id);
        if (found)
            return found;
    }
    return NULL;
}

/* ---- outcomes ---- */

static bool outcome_named(const struct flow_step *step, struct str name, unsigned *out)
{
    for (*out = 0; *out < step->outcome_count; ++*out)
        if (str_equal(str_c(step->block->outcomes[*out].name), name))
            return true;
    return false;
}

static const struct flow_recorded *find_record(const struct replaying *replaying,
                                               const struct flow_step *step)
{
    const struct flow_replay *in = replaying->in;
    for (size_t i = 0; in->former && i < in->record_count; i++) {
        const struct flow_recorded *record = &in->records[i];
        unsigned as_recorded;
        const struct flow_step *former = find_step(&in->former->steps, record->step);
        if (former && outcome_named(former, record->outcome, &as_recorded) &&
            asks_the_same(former, step, replaying->arena))
            return record;
    }
    return NULL;
}

/* By all that steps of the same block said. */
static bool infer(struct replaying *replaying, const struct flow_step *step, unsigned *out)
{
    const struct flow_replay *in = replaying->in;
    struct flow_answer *answers =
        arena_alloc_array(replaying->arena, in->record_count + 1, sizeof *answers);
    size_t count = 0;
    for (size_t i = 0; in->former && i < in->record_count; i++) {
        const struct flow_recorded *record = &in->records[i];
        const struct flow_step *former = find_step(&in->former->steps, record->step);
        if (former && former->block == step->block &&
            outcome_named(former, record->outcome, &answers[count].outcome)) {
            answers[count].step = former;
            answers[count++].detail = record->detail;
        }
    }
    return in->former && step->block->infer(step, answers, count, &replaying->known,
                                            replaying->arena, out, &replaying->missing);
}

/* Whatever comes of it, the next step is next. */
static bool always_goes_on(const struct flow_step *step)
{
    for (unsigned i = 0; i < step->outcome_count; i++)
        if (step->actions[i].kind == ACTION_BRANCH || flow_actions[step->actions[i].kind].decides)
            return false;
    return true;
}

/* The only outcome that the facts leave; else the recorded one. */
static bool find_outcome(struct replaying *replaying, const struct flow_step *step,
                         const struct flow_recorded *record, unsigned *out)
{
    const struct flow_block *block = step->block;
    unsigned reachable = 0;
    *out = 0;
    if (!block->run || always_goes_on(step))
        return true;
    for (unsigned i = 0; block->is_reachable && i < step->outcome_count; i++) {
        if (block->is_reachable(step, i, &replaying->known)) {
            *out = i;
            reachable++;
        }
    }
    if (reachable == 1)
        return true;
    if (record && block->judge_again)
        return block->judge_again(step, record->outcome, record->detail, out);
    if (!record && block->infer)
        return infer(replaying, step, out);
    return record && outcome_named(step, record->outcome, out);
}

/* ---- what conditions know behind a step ---- */

enum {
    CONTENT_CHECKS = 1u << NAME_DKIM | 1u << NAME_DKIM_DOMAIN | 1u << NAME_DMARC |
                     1u << NAME_DMARC_POLICY | 1u << NAME_SCORE,
};

/* Fields that the step changed are no longer what they were when the message came. */
static void forget_fields(struct replaying *replaying, const struct flow_step *step)
{
    const struct flow_block *block = step->block;
    size_t kept = 0;
    for (size_t i = 0; i < replaying->known.field_count; i++)
        if (block->changes_field && !block->changes_field(step, replaying->fields[i]))
            replaying->fields[kept++] = replaying->fields[i];
    replaying->known.field_count = kept;
}

static void learn_findings(struct replaying *replaying, const struct flow_recorded *record)
{
    struct flow_effects *effects = &replaying->effects;
    if (!record || !record->has_findings ||
        effects->finding_count + record->finding_count > FLOW_FINDINGS_MAX) {
        replaying->known.given &= ~(1u << NAME_FINDINGS);
        return;
    }
    for (size_t i = 0; i < record->finding_count; i++)
        effects->findings[effects->finding_count++] =
            (struct flow_finding){.name = record->findings[i]};
}

static void learn(struct replaying *replaying, const struct flow_step *step,
                  const struct flow_recorded *record)
{
    const struct flow_block *block = step->block;
    if (!block->run)
        return;
    if (!step->observe)
        forget_fields(replaying, step);
    replaying->known.given &= ~flow_block_results(block);
    if (block->finds)
        learn_findings(replaying, record);
    if (block->may_rewrite && !step->observe)
        replaying->known.given &= ~(1u << NAME_RECIPIENTS);
    if (record && record->values.len)
        replaying->known.given |= flow_recall_values(record->values, &replaying->checks);
    else if (block->recall && record) /* told before there were values */
        replaying->known.given |=
            block->recall(record->outcome, record->detail, replaying->arena, &replaying->checks);
}

/* ---- the way through ---- */

static void end(struct replaying *replaying, bool open, enum flow_verdict_kind kind,
                struct str step)
{
    *replaying->out = (struct flow_replayed){.open = open, .kind = kind, .step = step};
}

static void open_at(struct replaying *replaying, const struct flow_step *step,
                    const struct expression *condition)
{
    struct arena *arena = replaying->arena;
    struct str missing = expression_missing(condition, &replaying->known, arena);
    if (!missing.len)
        missing = replaying->missing;
    end(replaying, true, FLOW_DEFER, step->id);
    if (missing.len)
        replaying->out->why = arena_printf(arena, "%.*s is not in the record", STR_ARG(missing));
    else if (replaying->in->former)
        replaying->out->why = arena_printf(arena, "%s was not asked this then", step->block->name);
    else
        replaying->out->why = STR("no flow of then is known");
}

/* Of a step whose block has its condition among its parameters. */
static const struct expression *own_condition(const struct flow_step *step)
{
    bool truth;
    return step->block->own_when && step->block->condition ? step->block->condition(step, 0, &truth)
                                                           : NULL;
}

enum progress { PROGRESS_PASSED, PROGRESS_BRANCHED, PROGRESS_ENDED };

static enum progress take_step(struct replaying *replaying, const struct flow_step *step,
                               const struct flow_steps **out_branch)
{
    unsigned index;
    enum expression_truth when =
        step->when ? expression_judge(step->when, &replaying->known) : EXPRESSION_TRUE;
    const struct flow_recorded *record = step->block->run ? find_record(replaying, step) : NULL;
    if (when == EXPRESSION_FALSE)
        return PROGRESS_PASSED;
    if (step->observe) {
        learn(replaying, step, record);
        return PROGRESS_PASSED;
    }
    if (when == EXPRESSION_UNDECIDED) {
        open_at(replaying, step, step->when);
        return PROGRESS_ENDED;
    }
    if (!find_outcome(replaying, step, record, &index)) {
        open_at(replaying, step, own_condition(step));
        return PROGRESS_ENDED;
    }
    learn(replaying, step, record);
    const struct flow_action *action = &step->actions[index];
    *out_branch = &action->branch;
    if (action->kind == ACTION_BRANCH)
        return PROGRESS_BRANCHED;
    if (!flow_actions[action->kind].decides)
        return PROGRESS_PASSED;
    end(replaying, false, flow_verdict_of(replaying->in->flow->type, action->kind), step->id);
    return PROGRESS_ENDED;
}

/* False: control passed the end. */
static bool walk(struct replaying *replaying, const struct flow_steps *steps)
{
    for (size_t i = 0; i < steps->count;) {
        const struct flow_steps *branch = NULL;
        switch (take_step(replaying, &steps->items[i], &branch)) {
        case PROGRESS_PASSED:
            i++;
            break;
        case PROGRESS_BRANCHED:
            steps = branch;
            i = 0;
            break;
        case PROGRESS_ENDED:
            return true;
        }
    }
    return false;
}

static unsigned names_of(const struct flow_replay *in)
{
    unsigned names = 1u << NAME_AUTHENTICATED | 1u << NAME_TRUSTED | 1u << NAME_USER |
                     1u << NAME_CLIENT | 1u << NAME_TLS | 1u << NAME_LISTENER | 1u << NAME_SENDER |
                     1u << NAME_SENDER_DOMAIN;
    if (in->flow->type == FLOW_RECIPIENT)
        names |= 1u << NAME_RECIPIENT | 1u << NAME_RECIPIENT_DOMAIN;
    if (in->has_helo)
        names |= 1u << NAME_HELO;
    if (in->has_client_name)
        names |= 1u << NAME_CLIENT_NAME;
    if (in->has_size)
        names |= 1u << NAME_SIZE;
    if (in->has_recipients)
        names |= 1u << NAME_RECIPIENTS;
    if (in->flow->type == FLOW_CONTENT)
        names |= (unsigned)CONTENT_CHECKS | 1u << NAME_FINDINGS; /* each run begins without any */
    return names;
}

void flow_replay_run(const struct flow_replay *replay, struct arena *arena,
                     struct flow_replayed *out)
{
    struct replaying replaying = {
        .in = replay, .arena = arena, .out = out, .facts = *replay->facts};
    replaying.facts.checks = &replaying.checks;
    replaying.effects.findings =
        arena_alloc_array(arena, FLOW_FINDINGS_MAX, sizeof *replaying.effects.findings);
    replaying.facts.effects = &replaying.effects;
    replaying.fields = arena_alloc_array(arena, replay->field_count + 1, sizeof *replaying.fields);
    for (size_t i = 0; i < replay->field_count; i++)
        replaying.fields[i] = replay->fields[i];
    replaying.known = (struct expression_knowledge){.facts = &replaying.facts,
                                                    .given = names_of(replay),
                                                    .fields = replaying.fields,
                                                    .field_count = replay->field_count,
                                                    .scratch = arena};
    if (walk(&replaying, &replay->flow->steps))
        return;
    end(&replaying, false, replay->flow->type == FLOW_CONTENT ? FLOW_DEFER : FLOW_REJECT,
        STR_EMPTY);
}
