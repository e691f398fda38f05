/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/replay.c - a flow gone through once more by what was recorded of another run.
 *
 * Conditions are judged by the recorded facts; a step that would ask somebody takes the outcome
 * that the same question had then. Where neither says enough, the result is open: nothing is
 * guessed.
 */
#include "base/buf.h"
#include "flow/expression_internal.h"
#include "flow/flow_internal.h"

#include <string.h>

enum { PARAMETER_MAX = 64 * 1024 };

struct replaying {
    const struct flow_replay *in;
    struct arena *arena;
    struct expression_knowledge known;
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

static bool find_recorded(const struct replaying *replaying, const struct flow_step *step,
                          unsigned *out)
{
    const struct flow_replay *in = replaying->in;
    for (size_t i = 0; in->former && i < in->record_count; i++) {
        const struct flow_recorded *record = &in->records[i];
        unsigned as_recorded;
        const struct flow_step *former = find_step(&in->former->steps, record->step);
        if (!former || !outcome_named(former, record->outcome, &as_recorded) ||
            !asks_the_same(former, step, replaying->arena))
            continue;
        if (step->block->judge_again)
            return step->block->judge_again(step, record->outcome, record->detail, out);
        *out = as_recorded;
        return true;
    }
    return false;
}

/* The only outcome that the facts leave; else the recorded one. */
static bool find_outcome(const struct replaying *replaying, const struct flow_step *step,
                         unsigned *out)
{
    const struct flow_block *block = step->block;
    unsigned reachable = 0;
    *out = 0;
    if (!block->run)
        return true;
    for (unsigned i = 0; block->is_reachable && i < step->outcome_count; i++) {
        if (block->is_reachable(step, i, &replaying->known)) {
            *out = i;
            reachable++;
        }
    }
    return reachable == 1 || find_recorded(replaying, step, out);
}

/* ---- the way through ---- */

static void end(struct replaying *replaying, bool open, enum flow_verdict_kind kind,
                struct str step)
{
    *replaying->out = (struct flow_replayed){.open = open, .kind = kind, .step = step};
}

/* False: control passed the end. */
static bool walk(struct replaying *replaying, const struct flow_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        unsigned index;
        enum expression_truth when =
            step->when ? expression_judge(step->when, &replaying->known) : EXPRESSION_TRUE;
        if (when == EXPRESSION_FALSE || (step->observe && when == EXPRESSION_UNDECIDED))
            continue;
        if (when == EXPRESSION_UNDECIDED ||
            (!step->observe && !find_outcome(replaying, step, &index))) {
            end(replaying, true, FLOW_DEFER, step->id);
            return true;
        }
        if (step->observe)
            continue;
        const struct flow_action *action = &step->actions[index];
        if (action->kind == ACTION_BRANCH)
            return walk(replaying, &action->branch);
        if (flow_actions[action->kind].decides) {
            end(replaying, false, flow_verdict_of(replaying->in->flow->type, action->kind),
                step->id);
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
    return names;
}

void flow_replay_run(const struct flow_replay *replay, struct arena *arena,
                     struct flow_replayed *out)
{
    struct replaying replaying = {.in = replay, .arena = arena, .out = out};
    replaying.known =
        (struct expression_knowledge){.facts = replay->facts, .given = names_of(replay)};
    if (walk(&replaying, &replay->flow->steps))
        return;
    end(&replaying, false, replay->flow->type == FLOW_CONTENT ? FLOW_DEFER : FLOW_REJECT,
        STR_EMPTY);
}
