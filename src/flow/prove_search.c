/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove_search.c - each way through the flows for itself, with all that holds on it.
 *
 * Branches never come back, so a way is a chain: of each step the condition and one outcome, or not
 * the condition. A way ends where what is known contradicts itself. So "no way" is as certain as
 * the walk of prove.c, and closer: it knows what each step before it said, and which names have
 * kept their values since. A way through the recipient flow goes on in the content flow, as long as
 * the recipient is the same: what that refuses does not get out.
 */
#include "flow/prove_internal.h"

enum { WAYS_MAX = 24 }; /* for which a session is looked for */

static const unsigned sender_names = 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN;
static const unsigned address_names = 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN |
                                      1u << NAME_RECIPIENT | 1u << NAME_RECIPIENT_DOMAIN |
                                      1u << NAME_RECIPIENTS;
static const unsigned message_names = 1u << NAME_HEADER | 1u << NAME_SIZE;
static const unsigned check_names = 1u << NAME_SPF | 1u << NAME_DKIM | 1u << NAME_DKIM_DOMAIN |
                                    1u << NAME_DMARC | 1u << NAME_DMARC_POLICY | 1u << NAME_SCORE |
                                    1u << NAME_FINDINGS;

struct search {
    const struct prove_goal *goal;
    /* The same for a recipient that is what the client said. */
    struct prove_goal goal_as_received;
    struct flow_relay_case as_received;
    const struct flow *content; /* to go on in; NULL: none, or broken */
    bool changes_in_content;    /* the aim is one of the content flow */
    struct expression_knowledge known;
    struct expression_assumption assumed[EXPRESSION_ASSUMED_MAX];
    struct flow_stated_outcome hops[EXPRESSION_ASSUMED_MAX];
    size_t hop_count;
    unsigned epochs;
    unsigned content_begun;
    unsigned ways;
    bool over; /* a session is found, or the budget is used up */
    bool arrived, refused_late;
    struct prove_budget *budget;
    struct arena *arena;
    struct prove_session *out;
};

/* The transport that a step chose for certain. */
enum route { ROUTE_NONE, ROUTE_SERVER, ROUTE_MX };

struct point { /* where a way has come to */
    const struct flow_steps *steps;
    size_t at;
    const struct flow_step *changer;
    bool rewritten;        /* the recipient may be another by now */
    const unsigned *since; /* by name */
    bool in_content;
    enum route route, content_route;
};

static void explore(struct search *search, struct point point);

/* ---- conditions on the way ---- */

static void look_from(struct search *search, const struct point *point)
{
    search->known.since = point->since;
    search->known.epoch = search->epochs;
}

static void assume(struct search *search, const struct expression *expression, bool truth)
{
    if (expression && search->known.assumed_count < EXPRESSION_ASSUMED_MAX)
        search->assumed[search->known.assumed_count++] = (struct expression_assumption){
            expression, truth, search->known.epoch, search->known.since};
}

static void assume_outcome(struct search *search, const struct flow_step *step, unsigned outcome)
{
    bool truth = true;
    const struct expression *condition =
        step->block->condition ? step->block->condition(step, outcome, &truth) : NULL;
    assume(search, condition, truth);
}

static bool may_change_recipient(const struct flow_step *step, const struct prove_goal *goal)
{
    const struct flow_block *block = step->block;
    return block->may_rewrite && (!block->may_change || block->may_change(step, goal->relay));
}

/* Names that may have another value behind the step. */
static unsigned changed_by(const struct flow_step *step, const struct prove_goal *goal)
{
    const struct flow_block *block = step->block;
    unsigned addresses = may_change_recipient(step, goal) ? address_names : sender_names;
    bool keeps_fields = !block->run || block->changes_field == flow_changes_no_field;
    return (block->run ? flow_block_results(block) : 0) | (keeps_fields ? 0 : message_names) |
           (block->finds ? 1u << NAME_FINDINGS : 0) | (block->may_rewrite ? addresses : 0);
}

static const unsigned *since_now(struct search *search, const unsigned *since, unsigned names)
{
    unsigned *new = arena_alloc_array(search->arena, NAME_COUNT, sizeof *new);
    unsigned now = ++search->epochs;
    for (unsigned name = 0; name < NAME_COUNT; name++)
        new[name] = names & 1u << name ? now : since[name];
    return new;
}

/* ---- the transport ---- */

static void follow_route(const struct search *search, const struct flow_step *step,
                         struct point *point)
{
    const struct flow_relay_case *relay = search->goal->relay;
    const struct flow_block *block = step->block;
    enum route *route = point->in_content ? &point->content_route : &point->route;
    bool looks_up = block->may_route && (!block->may_look_up || block->may_look_up(step, relay));
    if (looks_up)
        *route = ROUTE_MX;
    else if (block->routes)
        *route = ROUTE_SERVER;
}

/* Is it certain that mail for a listed domain goes to a server, as mail for it may? */
static bool ends_at_server(const struct search *search, const struct point *point)
{
    const struct flow_relay_case *relay = search->goal->relay;
    enum aim aim = search->goal->aim;
    if (relay->is_any || aim == AIM_REWRITTEN || (point->rewritten && !point->in_content))
        return false;
    if (point->content_route != ROUTE_NONE)
        return point->content_route == ROUTE_SERVER;
    if (point->rewritten || aim == AIM_PASSED_BY)
        return false;
    return point->route == ROUTE_NONE ? !relay->is_lookup_mx : point->route == ROUTE_SERVER;
}

/* ---- the end of a way ---- */

static void find_session(struct search *search, const struct point *point)
{
    if (ends_at_server(search, point))
        return;
    const struct prove_way way = {.goal = search->goal,
                                  .assumed = search->assumed,
                                  .assumed_count = search->known.assumed_count,
                                  .content_begun = search->content_begun,
                                  .rewritten = point->rewritten,
                                  .hops = search->hops,
                                  .hop_count = search->hop_count};
    search->arrived = true;
    if (prove_find_session(&way, search->budget, search->arena, search->out))
        search->over = search->out->has_relayed || !search->goal->relay->shows;
    if (++search->ways >= WAYS_MAX)
        search->over = true;
}

/* The recipient is taken: what becomes of the message? */
static void go_on(struct search *search, const struct point *point)
{
    bool waits = search->changes_in_content;
    if (!waits && search->goal->aim != AIM_ACCEPT && !point->changer)
        return;
    if (!search->content || point->rewritten) { /* of which domain, is not known */
        find_session(search, point);
        return;
    }
    struct point content = {
        .steps = &search->content->steps, .in_content = true, .route = point->route};
    content.since = since_now(search, point->since, message_names | check_names | address_names);
    search->content_begun = search->known.unset_since = search->epochs;
    bool arrived = search->arrived;
    search->arrived = false;
    explore(search, content);
    if (!search->arrived && !search->over && !waits)
        search->refused_late = true;
    search->known.unset_since = 0;
    search->arrived |= arrived;
}

static void take_action(struct search *search, const struct flow_action *action, struct point point)
{
    bool changes_needed = search->goal->aim != AIM_ACCEPT && search->changes_in_content;
    switch (action->kind) {
    case ACTION_ACCEPT:
        go_on(search, &point);
        break;
    case ACTION_DELIVER:
        if (!changes_needed || point.changer)
            find_session(search, &point);
        break;
    case ACTION_HOLD: /* it gets out when somebody lets it */
    case ACTION_QUARANTINE:
    case ACTION_CONTAIN:
        if (point.in_content && !changes_needed)
            find_session(search, &point);
        break;
    case ACTION_BRANCH:
        point.steps = &action->branch;
        point.at = 0;
        explore(search, point);
        break;
    case ACTION_NEXT:
    case ACTION_NOTE:
        point.at++;
        explore(search, point);
        break;
    default:
        break;
    }
}

/* ---- the way ---- */

/* Steps of one kind that cannot contradict each other in one transaction. */
static bool agrees(const struct search *search, const struct flow_step *step, unsigned outcome)
{
    for (size_t i = 0; step->block->agrees && i < search->hop_count; i++)
        if (search->hops[i].step->block == step->block &&
            !step->block->agrees(step, outcome, search->hops[i].step, search->hops[i].outcome))
            return false;
    return true;
}

static void take_step(struct search *search, const struct flow_step *step, struct point point)
{
    const struct flow *flow =
        point.in_content ? search->content : search->goal->relay->recipient_flow;
    size_t mark = search->known.assumed_count;
    struct point behind = point;
    const struct prove_goal *goal = point.rewritten ? search->goal : &search->goal_as_received;
    unsigned changed = changed_by(step, goal);
    if (prove_is_changer(goal, step) && point.in_content == search->changes_in_content)
        behind.changer = step;
    behind.rewritten |= may_change_recipient(step, goal);
    follow_route(search, step, &behind);
    for (unsigned k = 0; k < step->outcome_count && !search->over; k++) {
        look_from(search, &point);
        if (step->block->is_reachable && !step->block->is_reachable(step, k, &search->known))
            continue;
        if (!point.in_content && prove_protects(search->goal, step, k))
            continue;
        if (!point.rewritten && !agrees(search, step, k))
            continue;
        assume_outcome(search, step, k);
        behind.since = changed ? since_now(search, point.since, changed) : point.since;
        size_t hops = search->hop_count;
        if (hops < EXPRESSION_ASSUMED_MAX)
            search->hops[search->hop_count++] =
                (struct flow_stated_outcome){.flow = flow, .step = step, .outcome = k};
        take_action(search, &step->actions[k], behind);
        search->hop_count = hops;
        search->known.assumed_count = mark;
    }
}

static void explore(struct search *search, struct point point)
{
    while (point.at < point.steps->count && point.steps->items[point.at].observe)
        point.at++; /* it never acts */
    if (point.at >= point.steps->count || search->over)
        return;
    if (!search->budget->steps) {
        search->arrived = search->over = true; /* not proven is not safe */
        return;
    }
    search->budget->steps--;
    const struct flow_step *step = &point.steps->items[point.at];
    size_t mark = search->known.assumed_count;
    search->epochs++;
    look_from(search, &point);
    enum expression_truth when =
        step->when ? expression_judge(step->when, &search->known) : EXPRESSION_TRUE;
    if (when != EXPRESSION_FALSE) {
        assume(search, step->when, true);
        take_step(search, step, point);
        search->known.assumed_count = mark;
    }
    if (when == EXPRESSION_TRUE || search->over)
        return;
    search->epochs++;
    look_from(search, &point);
    assume(search, step->when, false);
    point.at++;
    explore(search, point);
    search->known.assumed_count = mark;
}

enum prove_end prove_search(const struct prove_goal *goal, const struct flow *flow,
                            struct prove_budget *budget, struct arena *arena,
                            struct prove_session *out)
{
    static const unsigned beginning[NAME_COUNT];
    const struct flow_relay_case *relay = goal->relay;
    bool in_content = flow == relay->content_flow;
    /* a message for any domain that is queued has been taken, whatever comes of it */
    bool goes_on = in_content || (relay->content_flow && !(relay->queued && relay->is_any));
    struct search search = {
        .goal = goal,
        .content = goes_on && !relay->content_flow->broken ? relay->content_flow : NULL,
        .changes_in_content = in_content,
        .known = prove_knowledge(relay, relay->recipient_flow),
        .budget = budget,
        .arena = arena,
        .out = out,
    };
    *out = (struct prove_session){.is_known = false};
    search.as_received = *relay;
    search.as_received.as_received = true;
    search.goal_as_received = *goal;
    search.goal_as_received.relay = &search.as_received;
    search.known.unset = check_names & ~(1u << NAME_SPF); /* that one may be known from before */
    search.known.domain_is = !relay->name_count ? EXPRESSION_DOMAIN_OPEN
                             : relay->is_any    ? EXPRESSION_DOMAIN_NONE_OF
                                                : EXPRESSION_DOMAIN_ONE_OF;
    search.known.domain_of_all = !relay->content_shared;
    search.known.assumed = search.assumed;
    explore(&search, (struct point){.steps = &relay->recipient_flow->steps, .since = beginning});
    if (search.arrived)
        return PROVE_OPEN;
    return search.refused_late ? PROVE_REFUSED_LATE : PROVE_NO_WAY;
}
