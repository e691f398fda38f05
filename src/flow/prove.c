/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/prove.c - relay safety: can a stranger get a recipient accepted that is not ours?
 *
 * Walks every path of a flow for a client that is not authenticated and not in trusted_networks. A
 * test that does not follow from that, and from the conditions on the way, is taken as both true
 * and false, and every outcome of a backend can happen. A backend that knows the recipient protects
 * a listed domain, but never `any`: a mail server often trusts its gateway with every domain.
 *
 * Conditions on the way are those that hold on every path to a step: those of the branches, and
 * that a step before it which always decides was skipped. So the walk visits each step once, and a
 * contradiction is found when a step is come to.
 */
#include "base/buf.h"
#include "flow/prove_internal.h"

enum {
    PATHS_SHOWN = 8,
    PATH_MAX_BYTES = 4096,
    VISITS_MAX = 20000,
    /* of a closer look, for all domains of a listener */
    STEPS_MAX = 20000,
    TRIES_MAX = 1000,
};

struct hop {
    const struct flow_step *step;
    unsigned outcome;
};
struct walk {
    struct prove_goal goal;
    const struct flow *flow;
    struct str through; /* another domain, whose recipient flow led to this one; else empty */
    struct arena *arena;
    struct expression_knowledge known;
    struct expression_assumption assumed[EXPRESSION_ASSUMED_MAX];
    struct hop hops[FLOW_DEPTH_MAX + 2]; /* branches taken, and the step that accepts */
    size_t hop_count;
    struct buf *found; /* printed paths, a line each */
    size_t found_count;
    size_t visits;
    struct config_place end; /* of the first step found that accepts */
    const char *enter_fix;   /* AIM_PASSED_BY: of the first step found that rewrites */
};

/* ---- a path in words ---- */

static void print_hop(struct walk *walk, const struct flow_step *step, unsigned outcome)
{
    bool verdict = !step->block->outcomes[1].name; /* accept: its one outcome says nothing */
    buf_printf(walk->found, " -> %.*s/%.*s %s", STR_ARG(walk->flow->name), STR_ARG(step->number),
               step->block->name);
    if (!verdict)
        buf_printf(walk->found, " \"%s\"", step->block->outcomes[outcome].name);
    if (step->place.line)
        buf_printf(walk->found, " (%.*s)", STR_ARG(config_place_text(walk->arena, step->place)));
}

/* `changer`: the step that routes or rewrites, or NULL. */
static void print_path(struct walk *walk, const struct flow_step *changer)
{
    const struct flow_relay_case *relay = walk->goal.relay;
    struct buf *out = walk->found;
    if (walk->hop_count && !walk->end.line)
        walk->end = walk->hops[walk->hop_count - 1].step->place;
    if (!walk->found_count && walk->hop_count)
        walk->enter_fix =
            (changer ? changer : walk->hops[walk->hop_count - 1].step)->block->enter_fix;
    if (walk->found_count++ >= PATHS_SHOWN)
        return;
    if (out->len)
        buf_append_byte(out, '\n');
    buf_printf(out, "stranger -> listener %.*s", STR_ARG(relay->listener));
    if (walk->known.may_claim_client)
        buf_printf(out, " -> an address claimed by %.*s", STR_ARG(relay->claims));
    if (walk->known.may_log_in)
        buf_printf(out, " -> a login without a backend's yes in %.*s",
                   STR_ARG(relay->authentication_flow->name));
    if (walk->through.len)
        buf_printf(out, " -> domain %.*s, rewritten", STR_ARG(walk->through));
    buf_printf(out, " -> domain %.*s", STR_ARG(relay->domain));
    if (changer)
        print_hop(walk, changer, 0);
    for (size_t i = 0; i < walk->hop_count; i++)
        print_hop(walk, walk->hops[i].step, walk->hops[i].outcome);
    if (walk->visits > VISITS_MAX)
        buf_append(out, STR(" -> more paths than can be proven"));
    if (walk->goal.aim == AIM_ACCEPT)
        buf_printf(out, " -> %.*s", STR_ARG(relay->transport));
    else if (walk->goal.aim == AIM_PASSED_BY)
        buf_printf(out, " -> domain %.*s by MX", STR_ARG(walk->goal.target));
    else
        buf_append(out, walk->goal.aim == AIM_ROUTED ? STR(" -> a transport that looks up MX")
                                                     : STR(" -> a domain that is not listed"));
}

/* ---- conditions on the way ---- */

static void assume(struct walk *walk, const struct expression *expression, bool truth)
{
    if (expression && walk->known.assumed_count < EXPRESSION_ASSUMED_MAX)
        walk->assumed[walk->known.assumed_count++] =
            (struct expression_assumption){expression, truth, walk->known.epoch, NULL};
}

static void assume_outcome(struct walk *walk, const struct flow_step *step, unsigned outcome)
{
    bool truth = true;
    const struct expression *condition =
        step->block->condition ? step->block->condition(step, outcome, &truth) : NULL;
    assume(walk, condition, truth);
}

/* ---- the walk ---- */

bool prove_is_changer(const struct prove_goal *goal, const struct flow_step *step)
{
    const struct flow_block *block = step->block;
    const struct flow_relay_case *relay = goal->relay;
    if (goal->aim == AIM_ROUTED)
        return block->may_route && (!block->may_look_up || block->may_look_up(step, relay));
    if (goal->aim == AIM_REWRITTEN)
        return block->may_rewrite && (!block->may_leave || block->may_leave(step, relay));
    if (goal->aim == AIM_PASSED_BY)
        return block->may_enter && block->may_enter(step, relay, goal->target);
    return false;
}

bool prove_protects(const struct prove_goal *goal, const struct flow_step *step, unsigned outcome)
{
    return step->block->outcomes[outcome].vouches && !goal->relay->is_any &&
           goal->aim != AIM_REWRITTEN && !goal->unprotected;
}

static void walk_steps(struct walk *walk, const struct flow_steps *steps,
                       const struct flow_step *changer);

/* True if control may go on behind the step. */
static bool walk_outcome(struct walk *walk, const struct flow_step *step, unsigned index,
                         const struct flow_step *changer)
{
    const struct flow_action *action = &step->actions[index];
    bool accepts = action->kind == ACTION_ACCEPT || action->kind == ACTION_DELIVER;
    walk->hops[walk->hop_count++] = (struct hop){.step = step, .outcome = index};
    if (accepts && (walk->goal.aim == AIM_ACCEPT || changer))
        print_path(walk, changer == step ? NULL : changer);
    else if (action->kind == ACTION_BRANCH)
        walk_steps(walk, &action->branch, changer);
    walk->hop_count--;
    return action->kind == ACTION_NEXT || action->kind == ACTION_NOTE;
}

/* Follow each outcome without a backend's word: how many go on behind the step, and one of them. */
static unsigned walk_outcomes(struct walk *walk, const struct flow_step *step,
                              const struct flow_step *changer, unsigned *out_passing)
{
    unsigned passing = 0;
    size_t mark = walk->known.assumed_count;
    for (unsigned k = 0; k < step->outcome_count; k++) {
        if (step->block->is_reachable && !step->block->is_reachable(step, k, &walk->known))
            continue;
        if (prove_protects(&walk->goal, step, k))
            continue;
        assume_outcome(walk, step, k);
        if (walk_outcome(walk, step, k, changer)) {
            passing++;
            *out_passing = k;
        }
        walk->known.assumed_count = mark;
    }
    return passing;
}

static void walk_steps(struct walk *walk, const struct flow_steps *steps,
                       const struct flow_step *changer)
{
    size_t outer = walk->known.assumed_count;
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        walk->known.epoch = (unsigned)++walk->visits;
        if (walk->visits > VISITS_MAX)
            break;
        if (step->observe)
            continue; /* it never acts */
        unsigned epoch = walk->known.epoch;
        enum expression_truth when =
            step->when ? expression_judge(step->when, &walk->known) : EXPRESSION_TRUE;
        if (when == EXPRESSION_FALSE)
            continue;
        size_t mark = walk->known.assumed_count;
        unsigned outcome = 0;
        assume(walk, step->when, true);
        const struct flow_step *through = prove_is_changer(&walk->goal, step) ? step : changer;
        unsigned passing = walk_outcomes(walk, step, through, &outcome);
        walk->known.assumed_count = mark;
        walk->known.epoch = epoch;
        if (!passing && when == EXPRESSION_TRUE)
            break;
        if (!passing)
            assume(walk, step->when, false); /* the only way on */
        else if (passing == 1 && when == EXPRESSION_TRUE)
            assume_outcome(walk, step, outcome);
        if (passing)
            changer = through;
    }
    walk->known.assumed_count = outer;
}

/* ---- what is known at the beginning ---- */

static bool has_block(const struct flow_steps *steps, bool route)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        if (route ? step->block->may_route : step->block->may_rewrite)
            return true;
        for (unsigned k = 0; k < step->outcome_count; k++)
            if (step->actions[k].kind == ACTION_BRANCH &&
                has_block(&step->actions[k].branch, route))
                return true;
    }
    return false;
}

/* Can a login succeed by another word than a backend's own yes? */
static bool login_is_open(const struct flow_steps *steps)
{
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        for (unsigned k = 0; k < step->outcome_count; k++) {
            const struct flow_action *action = &step->actions[k];
            if (action->kind == ACTION_ACCEPT && !step->block->outcomes[k].authenticates)
                return true;
            if (action->kind == ACTION_BRANCH && login_is_open(&action->branch))
                return true;
        }
    }
    return false;
}

struct expression_knowledge prove_knowledge(const struct flow_relay_case *relay,
                                            const struct flow *flow)
{
    const unsigned checks = 1u << NAME_SPF | 1u << NAME_DKIM | 1u << NAME_DKIM_DOMAIN |
                            1u << NAME_DMARC | 1u << NAME_DMARC_POLICY | 1u << NAME_SCORE |
                            1u << NAME_HEADER | 1u << NAME_SIZE | 1u << NAME_FINDINGS;
    const unsigned addresses = 1u << NAME_SENDER | 1u << NAME_SENDER_DOMAIN | 1u << NAME_RECIPIENT |
                               1u << NAME_RECIPIENT_DOMAIN | 1u << NAME_RECIPIENTS;
    bool rewrites = flow->type == FLOW_CONTENT || has_block(&flow->steps, /* route= */ false);
    return (struct expression_knowledge){
        .stranger = true,
        .may_claim_client = relay->claims.len > 0,
        .may_log_in = relay->authentication_flow && !relay->authentication_flow->broken &&
                      login_is_open(&relay->authentication_flow->steps),
        .listener = relay->listener,
        .tls = relay->tls_never    ? EXPRESSION_TLS_NEVER
               : relay->tls_always ? EXPRESSION_TLS_ALWAYS
                                   : EXPRESSION_TLS_OPEN,
        .trusted = relay->trusted,
        .trusted_count = relay->trusted_count,
        .domain_is = rewrites || !relay->name_count ? EXPRESSION_DOMAIN_OPEN
                     : relay->is_any                ? EXPRESSION_DOMAIN_NONE_OF
                                                    : EXPRESSION_DOMAIN_ONE_OF,
        .domains = relay->names,
        .domain_count = relay->name_count,
        .unstable = checks | (rewrites ? addresses : 0),
    };
}

/* ---- the report ---- */

static void explain_fix(const struct walk *walk, struct config_problem *problem)
{
    const struct flow_relay_case *relay = walk->goal.relay;
    struct str place = walk->end.line ? config_place_text(walk->arena, walk->end) : STR_EMPTY;
    if (relay->allow_open_relay.len)
        problem->fix = arena_printf(walk->arena, "allowed by allow_open_relay: %.*s",
                                    STR_ARG(relay->allow_open_relay));
    else if (walk->known.may_claim_client)
        problem->fix = arena_printf(walk->arena, "name only your own front ends: %.*s",
                                    STR_ARG(relay->claims));
    else if (walk->goal.aim == AIM_ROUTED)
        problem->fix = STR("route strangers' mail to a server only, or only when: authenticated");
    else if (walk->goal.aim == AIM_PASSED_BY && walk->enter_fix)
        problem->fix = str_c(walk->enter_fix);
    else if (walk->goal.aim == AIM_PASSED_BY)
        problem->fix = STR("rewrite strangers' recipients only behind a lookup that knows them, or "
                           "only when: authenticated; or say why with allow_open_relay");
    else if (walk->goal.aim == AIM_REWRITTEN)
        problem->fix = STR(
            "rewrite strangers' recipients to listed domains only, or only when: authenticated");
    else
        problem->fix =
            arena_printf(walk->arena,
                         "%.*s%saccept only when: authenticated or client in trusted, and reject "
                         "the rest; or preset relay-authenticated",
                         STR_ARG(place), place.len ? ": " : "");
}

static struct config_problem *report_way(const struct walk *walk, struct config_report *report)
{
    const struct flow_relay_case *relay = walk->goal.relay;
    bool allowed = relay->allow_open_relay.len > 0;
    bool any = relay->is_any || walk->goal.aim == AIM_REWRITTEN;
    if (walk->goal.aim == AIM_PASSED_BY)
        return config_problem(report, CONFIG_WARNING, "passed-by", relay->place,
                              "what a stranger sends through listener %.*s to domain %.*s %s "
                              "rewritten into domain %.*s%s, which goes by MX and whose "
                              "recipient flow is not asked",
                              STR_ARG(relay->listener), STR_ARG(relay->domain),
                              walk->enter_fix ? "may be" : "is", STR_ARG(walk->goal.target),
                              walk->enter_fix && relay->target_count > 1 ? " or another" : "");
    return config_problem(report, allowed ? CONFIG_WARNING : CONFIG_ERROR, "open-relay",
                          relay->place, "a stranger can relay through listener %.*s to %s%.*s",
                          STR_ARG(relay->listener), any ? "any domain" : "domain ",
                          any ? 0 : (int)relay->domain.len, relay->domain.ptr);
}

/* Nothing gets out, but who looks only at the reply to RCPT sees an open relay; and what is taken
 * from strangers there hangs by a flow that is written for something else. */
static void report_late(const struct walk *walk, struct config_report *report)
{
    const struct flow_relay_case *relay = walk->goal.relay;
    bool allowed = relay->allow_open_relay.len > 0;
    config_problem(report, allowed ? CONFIG_WARNING : CONFIG_ERROR, "refused-late", relay->place,
                   "recipients of %s%.*s are accepted from strangers through listener %.*s; only "
                   "content flow %.*s refuses the message",
                   relay->is_any ? "any domain" : "domain ",
                   relay->is_any ? 0 : (int)relay->domain.len, relay->domain.ptr,
                   STR_ARG(relay->listener), STR_ARG(relay->content_flow->name))
        ->fix = STR("refuse at RCPT: tests for open relays often look no further, and the network "
                    "carries each message for nothing");
}

static void report(const struct walk *walk, const struct prove_session *session,
                   const struct prove_budget *budget, struct config_report *report)
{
    struct config_problem *problem = report_way(walk, report);
    struct arena *arena = report->arena;
    problem->detail = arena_str(arena, buf_str(walk->found));
    if (walk->found_count > PATHS_SHOWN)
        problem->detail = arena_printf(arena, "%.*s\nand %zu more", STR_ARG(problem->detail),
                                       walk->found_count - PATHS_SHOWN);
    /* that none is found says nothing where no more could be tried */
    bool is_tried = walk->goal.relay->shows && budget->tries;
    if (session->has_relayed || is_tried || (session->is_known && !walk->goal.relay->shows))
        problem->detail = arena_printf(arena, "%.*s\n%.*s", STR_ARG(problem->detail),
                                       STR_ARG(prove_session_text(&walk->goal, session, arena)));
    explain_fix(walk, problem);
}

/* What is asked of a flow, and how a stranger came to it. */
struct question {
    const struct flow_relay_case *relay;
    const struct flow *flow;
    struct str through; /* see struct walk */
    bool has_others;    /* another domain's recipient flow leads here, too */
    struct prove_budget *budget;
};

/* A closer look at what the walk found. True: it is to be reported. */
static bool confirm(const struct question *question, const struct walk *walk,
                    struct config_report *out_report)
{
    struct prove_session session = {.is_known = false};
    struct prove_goal goal = walk->goal;
    bool in_content = question->flow != goal.relay->recipient_flow;
    enum prove_end end = PROVE_OPEN;
    struct arena *scratch = arena_new(0);
    goal.unprotected = in_content && goal.aim != AIM_PASSED_BY;
    if (!question->through.len)
        end = prove_search(&goal, question->flow, question->budget, scratch, &session);
    if (end == PROVE_OPEN || question->has_others)
        report(walk, &session, question->budget, out_report);
    else if (end == PROVE_REFUSED_LATE)
        report_late(walk, out_report);
    arena_free(scratch);
    return end == PROVE_OPEN || question->has_others;
}

/* True: what was found is a step that may lead to any target. */
static bool prove(const struct question *question, enum aim aim, struct str target,
                  struct config_report *out_report)
{
    struct buf found BUF_CLEANUP;
    const struct flow_relay_case *relay = question->relay;
    struct walk walk = {.goal = {.relay = relay, .aim = aim, .target = target},
                        .flow = question->flow,
                        .through = question->through,
                        .arena = out_report->arena,
                        .known = prove_knowledge(relay, question->flow),
                        .found = &found};
    walk.known.assumed = walk.assumed;
    buf_init(&found, (size_t)PATH_MAX_BYTES * PATHS_SHOWN);
    if (relay->authentication_required && !walk.known.may_log_in)
        return false; /* a stranger never gets there */
    walk_steps(&walk, &question->flow->steps, /* changer= */ NULL);
    if (walk.visits > VISITS_MAX)
        print_path(&walk, NULL); /* not proven is not safe */
    return walk.found_count && confirm(question, &walk, out_report) && walk.enter_fix;
}

/* Does the recipient flow take what a stranger sends; with AIM_PASSED_BY: and make it one for the
 * domain `target`? `unprotected`: also where a backend must know whom. */
static bool takes(const struct flow_relay_case *relay, enum aim aim, struct str target,
                  bool unprotected, struct arena *arena)
{
    struct buf found BUF_CLEANUP;
    const struct flow *flow = relay->recipient_flow;
    struct walk walk = {
        .goal = {.relay = relay, .aim = aim, .target = target, .unprotected = unprotected},
        .flow = flow,
        .arena = arena,
        .known = prove_knowledge(relay, flow),
        .found = &found,
        .found_count = PATHS_SHOWN};
    walk.known.assumed = walk.assumed;
    buf_init(&found, PATH_MAX_BYTES);
    walk_steps(&walk, &flow->steps, /* changer= */ NULL);
    return walk.found_count > PATHS_SHOWN || walk.visits > VISITS_MAX;
}

/* Steps that let mail for a listed domain go elsewhere: each kind is told, as neither is mended by
 * mending the other. */
static void prove_changes(const struct question *question, struct config_report *report)
{
    const struct flow_relay_case *relay = question->relay;
    bool accepts_by_look_up = relay->is_any || relay->is_lookup_mx;
    if (relay->takes_any && !relay->is_any && has_block(&question->flow->steps, /* route= */ false))
        (void)prove(question, AIM_REWRITTEN, STR_EMPTY, report);
    if (!accepts_by_look_up && has_block(&question->flow->steps, /* route= */ true))
        (void)prove(question, AIM_ROUTED, STR_EMPTY, report);
}

/* Steps that rewrite into listed domains, whose mail goes by MX: nobody asks whether those would
 * have taken it from a stranger. */
static void prove_passing_by(const struct question *question, struct config_report *report)
{
    const struct flow_relay_case *relay = question->relay;
    const struct flow *flow = question->flow;
    if (relay->is_any || !has_block(&flow->steps, /* route= */ false))
        return;
    for (size_t i = 0; i < relay->target_count; i++)
        if ((relay->targets[i].served || flow->type == FLOW_CONTENT) &&
            prove(question, AIM_PASSED_BY, relay->targets[i].name, report))
            return; /* told for all of them */
}

static bool is_good(const struct flow *flow)
{
    return flow && !flow->broken;
}

/* The cases whose recipient flow rewrites. */
struct rewriters {
    const struct flow_relay_case **items;
    size_t count;
};

static struct rewriters find_rewriters(const struct flow_relay_case *cases, size_t count,
                                       struct arena *arena)
{
    struct rewriters found = {
        .items = arena_alloc_array(arena, count + 1, sizeof(struct flow_relay_case *))};
    for (size_t i = 0; i < count; i++)
        if (is_good(cases[i].recipient_flow) &&
            has_block(&cases[i].recipient_flow->steps, /* route= */ false))
            found.items[found.count++] = &cases[i];
    return found;
}

/* Can a stranger's mail come before the content flow of the case: by its own recipient flow, or by
 * that of another domain, which rewrites into this one? `question` gets the way. */
static bool reaches(const struct rewriters *rewriters, bool unprotected, struct question *question,
                    struct arena *arena)
{
    const struct flow_relay_case *relay = question->relay;
    bool by_own =
        is_good(relay->recipient_flow) && takes(relay, AIM_ACCEPT, STR_EMPTY, unprotected, arena);
    question->through = STR_EMPTY;
    question->has_others = false;
    for (size_t i = 0; i < rewriters->count && !question->has_others; i++) {
        const struct flow_relay_case *other = rewriters->items[i];
        if (other == relay || !takes(other, AIM_PASSED_BY, relay->domain, unprotected, arena))
            continue;
        question->has_others = true;
        if (!by_own)
            question->through = other->domain;
    }
    return by_own || question->has_others;
}

static bool has_changes(const struct flow *flow)
{
    return has_block(&flow->steps, /* route= */ true) ||
           has_block(&flow->steps, /* route= */ false);
}

static void prove_case(const struct flow_relay_case *relay, const struct rewriters *rewriters,
                       struct prove_budget *budget, struct config_report *report)
{
    struct question recipient = {
        .relay = relay, .flow = relay->recipient_flow, .through = STR_EMPTY, .budget = budget};
    struct question content = {
        .relay = relay, .flow = relay->content_flow, .through = STR_EMPTY, .budget = budget};
    /* mail for its own domain that nobody vouches for; that it may leave for any is worse, and
     * told as well */
    if (is_good(recipient.flow) && (relay->is_any || relay->is_lookup_mx))
        (void)prove(&recipient, AIM_ACCEPT, STR_EMPTY, report);
    if (is_good(recipient.flow)) {
        prove_changes(&recipient, report);
        prove_passing_by(&recipient, report);
    }
    if (!is_good(content.flow) || !has_changes(content.flow))
        return;
    if (reaches(rewriters, /* unprotected= */ true, &content, report->arena))
        prove_changes(&content, report);
    if (reaches(rewriters, /* unprotected= */ false, &content, report->arena))
        prove_passing_by(&content, report);
}

void flow_prove_relay(const struct flow_relay_case *cases, size_t count,
                      struct config_report *report)
{
    const struct rewriters rewriters = find_rewriters(cases, count, report->arena);
    struct prove_budget budget = {.steps = STEPS_MAX, .tries = TRIES_MAX};
    for (size_t i = 0; i < count; i++)
        prove_case(&cases[i], &rewriters, &budget, report);
}
