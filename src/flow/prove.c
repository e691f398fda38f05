/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove.c - relay safety: can a stranger get a recipient accepted that is not ours?
 *
 * Walks every path of a recipient flow for a client that is not authenticated and not in
 * trusted_networks. A test that does not follow from that is taken as both true and false, and
 * every outcome of a backend can happen. A backend that knows the recipient protects a listed
 * domain, but never `any`: a mail server often trusts its gateway with every domain.
 */
#include "base/buf.h"
#include "flow/flow_internal.h"

enum { PATHS_SHOWN = 8, PATH_MAX_BYTES = 2048, VISITS_MAX = 20000 };

struct hop {
    const struct flow_step *step;
    unsigned outcome;
};
struct walk {
    const struct flow_relay_case *relay;
    struct expression_knowledge known;
    struct hop hops[FLOW_DEPTH_MAX + 2]; /* branches taken, and the step that accepts */
    size_t hop_count;
    struct buf found; /* printed paths, a line each */
    size_t found_count;
    size_t visits;
};

static void print_path(struct walk *walk)
{
    const struct flow_relay_case *relay = walk->relay;
    struct buf *out = &walk->found;
    struct str flow = relay->recipient_flow->name;
    if (walk->found_count++ >= PATHS_SHOWN)
        return;
    if (out->len)
        buf_append_byte(out, '\n');
    buf_printf(out, "stranger -> listener %.*s -> domain %.*s", STR_ARG(relay->listener),
               STR_ARG(relay->domain));
    for (size_t i = 0; i < walk->hop_count; i++) {
        const struct flow_step *step = walk->hops[i].step;
        const char *outcome = step->block->outcomes[walk->hops[i].outcome].name;
        bool verdict = !step->block->outcomes[1].name; /* accept: its one outcome says nothing */
        buf_printf(out, " -> %.*s/%.*s %s", STR_ARG(flow), STR_ARG(step->number),
                   step->block->name);
        if (!verdict)
            buf_printf(out, " \"%s\"", outcome);
    }
    buf_printf(out, " -> %.*s", STR_ARG(relay->transport));
}

static void walk_steps(struct walk *walk, const struct flow_steps *steps, bool vouched);

/* True if control may go on behind the step. */
static bool walk_outcome(struct walk *walk, const struct flow_step *step, unsigned index,
                         bool vouched)
{
    const struct flow_action *action = &step->actions[index];
    walk->hops[walk->hop_count++] = (struct hop){.step = step, .outcome = index};
    if (action->kind == ACTION_ACCEPT && !vouched)
        print_path(walk);
    else if (action->kind == ACTION_BRANCH)
        walk_steps(walk, &action->branch, vouched);
    walk->hop_count--;
    return action->kind == ACTION_NEXT || action->kind == ACTION_NOTE;
}

/* `vouched`: a backend knows the recipient on this path. Where control goes on both with and
 * without a backend's word, the rest is judged without it. */
static void walk_steps(struct walk *walk, const struct flow_steps *steps, bool vouched)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        enum expression_truth when =
            step->when ? expression_judge(step->when, &walk->known) : EXPRESSION_TRUE;
        if (when == EXPRESSION_FALSE)
            continue;
        if (step->observe)
            continue; /* it never acts */
        if (++walk->visits > VISITS_MAX)
            return;
        bool goes_on = when != EXPRESSION_TRUE;
        bool goes_on_vouched = false;
        for (unsigned k = 0; k < step->outcome_count; k++) {
            if (step->block->is_reachable && !step->block->is_reachable(step, k, &walk->known))
                continue;
            bool vouches = step->block->outcomes[k].vouches && !walk->relay->is_any;
            bool passes = walk_outcome(walk, step, k, vouched || vouches);
            goes_on |= passes && !vouches;
            goes_on_vouched |= passes && vouches;
        }
        if (!goes_on && !goes_on_vouched)
            return;
        vouched |= !goes_on; /* the only way on is by the backend's word */
    }
}

static void report(const struct walk *walk, struct config_report *report)
{
    const struct flow_relay_case *relay = walk->relay;
    bool allowed = relay->allow_open_relay.len > 0;
    struct config_problem *problem =
        config_problem(report, allowed ? CONFIG_WARNING : CONFIG_ERROR, "open-relay", relay->place,
                       "a stranger can relay through listener %.*s to %s%.*s",
                       STR_ARG(relay->listener), relay->is_any ? "any domain" : "domain ",
                       relay->is_any ? 0 : (int)relay->domain.len, relay->domain.ptr);
    problem->detail = arena_str(report->arena, buf_str(&walk->found));
    if (walk->found_count > PATHS_SHOWN)
        problem->detail = arena_printf(report->arena, "%.*s\nand %zu more",
                                       STR_ARG(problem->detail), walk->found_count - PATHS_SHOWN);
    if (allowed)
        problem->fix = arena_printf(report->arena, "allowed by allow_open_relay: %.*s",
                                    STR_ARG(relay->allow_open_relay));
    else
        problem->fix = STR("accept only when: authenticated or client in trusted, and reject the "
                           "rest; or preset relay-authenticated");
}

static void prove(const struct flow_relay_case *relay, struct config_report *out_report)
{
    struct walk walk = {.relay = relay, .known = {.stranger = true, .listener = relay->listener}};
    buf_init(&walk.found, (size_t)PATH_MAX_BYTES * PATHS_SHOWN);
    walk_steps(&walk, &relay->recipient_flow->steps, /* vouched= */ false);
    if (walk.visits > VISITS_MAX)
        print_path(&walk); /* not proven is not safe */
    if (walk.found_count)
        report(&walk, out_report);
    buf_done(&walk.found);
}

void flow_prove_relay(const struct flow_relay_case *cases, size_t count,
                      struct config_report *report)
{
    for (size_t i = 0; i < count; i++) {
        const struct flow_relay_case *relay = &cases[i];
        if (relay->authentication_required || !relay->recipient_flow ||
            relay->recipient_flow->broken)
            continue;
        if (relay->is_any || relay->is_lookup_mx)
            prove(relay, report);
    }
}
