/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/run.c - runs a compiled flow: step by step, each told to the trace.
 */
#include "flow/flow.h"

#include "base/check.h"
#include "crypto/hmac.h"
#include "event/event.h"
#include "flow/flow_internal.h"

NO_YIELD_CHECK bool flow_is_over(struct error *err)
{
    return fiber_current() && fiber_check(err) != OK;
}

/* ---- keys ---- */

struct str flow_client_network(const struct flow_running *running)
{
    char text[NET_IP_TEXT];
    struct net_network network = net_client_network(&running->facts.client);
    struct str ip = net_ip_format(&network.ip, text);
    return arena_printf(running->run->arena, "%.*s/%u", STR_ARG(ip), network.bits);
}

struct str flow_keyed_hash(const struct flow_running *running, const unsigned char *secret,
                           struct str a, struct str b)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[HMAC_SIZE];
    unsigned char inner[HMAC_SIZE * 2];
    struct str key = str_of((const char *)secret, STATE_SECRET_SIZE);
    /* hash of hashes, so that ("ab", "c") and ("a", "bc") differ */
    hmac_sha256(key, a, inner);
    hmac_sha256(key, b, inner + HMAC_SIZE);
    hmac_sha256(key, str_of((const char *)inner, sizeof inner), hash);
    char *text = arena_alloc(running->run->arena, HMAC_SIZE * 2);
    for (size_t i = 0; i < HMAC_SIZE; i++) {
        text[2 * i] = digits[hash[i] >> 4];
        text[2 * i + 1] = digits[hash[i] & 15];
    }
    return str_of(text, HMAC_SIZE * 2);
}

/* ---- replies ---- */

/* Standard words made fit for the verdict: a refusal that became a deferral keeps its subject. */
static struct mail_reply fit_reply(struct mail_reply reply, enum flow_verdict_kind kind)
{
    bool transient = kind == FLOW_DEFER;
    if (transient && !mail_reply_is_transient(&reply)) {
        reply.code = 451;
        reply.enhanced.class = 4;
    } else if (!transient && !mail_reply_is_permanent(&reply)) {
        reply.code = 550;
        reply.enhanced.class = 5;
    }
    return reply;
}

struct mail_reply flow_standard_reply(enum flow_type type, enum flow_verdict_kind kind)
{
    if (type == FLOW_AUTHENTICATION)
        return kind == FLOW_DEFER
                   ? mail_reply_of(454, 4, 7, 0, STR("Temporary authentication failure"))
                   : mail_reply_of(535, 5, 7, 8, STR("Authentication credentials invalid"));
    if (kind == FLOW_DEFER)
        return mail_reply_of(451, 4, 7, 1, STR("Try again later"));
    return mail_reply_of(550, 5, 7, 1,
                         type == FLOW_RECIPIENT ? STR("Recipient not accepted")
                                                : STR("Message not accepted"));
}

static bool says_relay(struct str text)
{
    for (size_t i = 0; i + 5 <= text.len; i++)
        if (str_equal_nocase(str_slice(text, i, i + 5), STR("relay")))
            return true;
    return false;
}

struct mail_reply flow_refusal_reply(enum flow_type type, enum flow_verdict_kind kind,
                                     const struct flow_outcome *outcome,
                                     const struct flow_action *action,
                                     const struct mail_reply *said)
{
    struct mail_reply reply = flow_standard_reply(type, kind);
    if (action->reply.code)
        return action->reply;
    if (said && said->code)
        return fit_reply(*said, kind);
    if (outcome->reply && type != FLOW_AUTHENTICATION) {
        check(mail_reply_parse(str_c(outcome->reply), &reply));
        reply = fit_reply(reply, kind);
    }
    return reply;
}

static void set_refusal(struct flow_running *running, const struct flow_outcome *outcome,
                        const struct flow_action *action)
{
    struct flow_verdict *verdict = running->verdict;
    enum flow_type type = running->flow->type;
    struct mail_reply reply =
        flow_refusal_reply(type, verdict->kind, outcome, action, &running->reply);
    verdict->reason = running->reason   ? running->reason
                      : action->reason  ? action->reason
                      : outcome->reason ? outcome->reason
                                        : MAIL_REASON_POLICY;
    verdict->reply = mail_reply_copy(running->run->arena, &reply);
    if (verdict->reason == MAIL_REASON_POLICY && type == FLOW_RECIPIENT &&
        says_relay(verdict->reply.text))
        verdict->reason = MAIL_REASON_RELAY_DENIED;
}

enum flow_verdict_kind flow_verdict_of(enum flow_type type, enum flow_action_kind action)
{
    static const enum flow_verdict_kind kinds[ACTION_COUNT] = {
        [ACTION_ACCEPT] = FLOW_ACCEPT,   [ACTION_REJECT] = FLOW_REJECT,
        [ACTION_DEFER] = FLOW_DEFER,     [ACTION_DELIVER] = FLOW_DELIVER,
        [ACTION_HOLD] = FLOW_HOLD,       [ACTION_QUARANTINE] = FLOW_QUARANTINE,
        [ACTION_DISCARD] = FLOW_DISCARD, [ACTION_CONTAIN] = FLOW_HOLD,
    };
    if (action == ACTION_CONTAIN && type == FLOW_RECIPIENT)
        return FLOW_DEFER; /* there is no message yet that could be held */
    return kinds[action];
}

static void set_containment(struct flow_running *running)
{
    struct flow_verdict *verdict = running->verdict;
    verdict->contain = true;
    verdict->reason = MAIL_REASON_CONTAINED;
    verdict->reply =
        mail_reply_of(450, 4, 7, 1, STR("Too much in too short a time, try again later"));
}

static void decide(struct flow_running *running, const struct flow_step *step, unsigned index)
{
    const struct flow_outcome *outcome = &step->block->outcomes[index];
    const struct flow_action *action = &step->actions[index];
    struct flow_verdict *verdict = running->verdict;
    verdict->kind = flow_verdict_of(running->flow->type, action->kind);
    verdict->step = step->id;
    verdict->block = step->block->name;
    verdict->detail = running->detail;
    verdict->quarantine = running->quarantine.len ? running->quarantine : action->quarantine;
    verdict->why = action->why.len ? action->why : running->detail;
    verdict->overrun = running->overrun;
    if (action->kind == ACTION_CONTAIN)
        set_containment(running);
    else if (verdict->kind == FLOW_REJECT || verdict->kind == FLOW_DEFER)
        set_refusal(running, outcome, action);
    else
        verdict->reason = running->reason  ? running->reason
                          : action->reason ? action->reason
                                           : outcome->reason;
}

/* ---- the trace ---- */

const char *flow_action_name(const struct flow_action *action)
{
    return action->kind == ACTION_BRANCH ? "branch" : flow_actions[action->kind].word;
}

static void trace(struct flow_running *running, const struct flow_step *step, const char *outcome,
                  const char *action, int64_t started_ns, bool ran)
{
    struct event_field fields[12] = {
        F_C(FLOW_TYPE, flow_type_name(running->flow->type)),
        F_STR(FLOW, running->flow->name),
        F_STR(STEP, step->id),
        F_C(BLOCK, step->block->name),
        F_C(OUTCOME, outcome),
        F_C(ACTION, action),
        F_INT(DURATION_US, (clock_monotonic_ns() - started_ns) / NS_PER_US),
        F_BOOL(OBSERVED, step->observe),
    };
    size_t count = 8;
    if (running->flow->type == FLOW_RECIPIENT)
        fields[count++] = F_STR(RCPT, running->facts.recipient);
    if (running->detail.len)
        fields[count++] = F_STR(DETAIL, running->detail);
    struct str values = ran ? flow_record_values(running, step) : STR_EMPTY;
    if (values.len)
        fields[count++] = F_STR(VALUES, values);
    if (ran && step->block->finds)
        fields[count++] = F_INT(FINDINGS, flow_record_findings(running, step));
    event_emit_fields(EVENT_FLOW_STEP, fields, count);
}

/* ---- the run ---- */

static void end_by_error(struct flow_running *running, const struct flow_step *step,
                         const struct error *err)
{
    struct flow_verdict *verdict = running->verdict;
    bool late = err->kind == ERROR_TIMEOUT || err->kind == ERROR_CANCELLED;
    verdict->kind = FLOW_DEFER;
    verdict->reply = running->flow->type == FLOW_AUTHENTICATION
                         ? flow_standard_reply(FLOW_AUTHENTICATION, FLOW_DEFER)
                         : mail_reply_of(451, 4, 3, 0, STR("Try again later"));
    verdict->reason = late ? MAIL_REASON_OVERLOAD : MAIL_REASON_POLICY;
    verdict->step = step->id;
    verdict->block = step->block->name;
    verdict->detail = arena_str(running->run->arena, str_c(err->text));
    running->detail = verdict->detail;
    running->had_error = true;
}

static bool is_stated(const struct flow_run *run, const struct flow_step *step,
                      unsigned *out_outcome)
{
    for (size_t i = 0; i < run->stated_count; i++) {
        *out_outcome = run->stated[i].outcome;
        if (run->stated[i].step == step)
            return true;
    }
    *out_outcome = 0;
    return false;
}

static MAY_YIELD enum result run_block(struct flow_running *running, const struct flow_step *step,
                                       unsigned *out_index, struct error *err)
{
    running->reply = (struct mail_reply){0};
    running->detail = STR_EMPTY;
    running->quarantine = STR_EMPTY;
    running->reason = MAIL_REASON_NONE;
    if (flow_is_over(err))
        return FAILED;
    if (is_stated(running->run, step, out_index) || !step->block->run)
        return OK;
    if (step->block->run(running, step, out_index, err) != OK)
        return FAILED;
    /* a backend that was cut off by the end of the session has said nothing */
    return flow_is_over(err) ? FAILED : OK;
}

enum progress { PROGRESS_PASSED, PROGRESS_BRANCHED, PROGRESS_DECIDED };

static MAY_YIELD enum progress run_step(struct flow_running *running, const struct flow_step *step,
                                        const struct flow_steps **out_branch)
{
    struct error err = {0};
    bool holds = true;
    unsigned index = 0;
    int64_t started_ns = clock_monotonic_ns();
    running->detail = STR_EMPTY;
    if (step->when &&
        expression_eval(step->when, &running->facts, running->run->arena, &holds, &err) != OK) {
        end_by_error(running, step, &err);
        trace(running, step, "fault", "defer", started_ns, /* ran= */ false);
        return PROGRESS_DECIDED;
    }
    if (!holds) {
        trace(running, step, "skipped", "next", started_ns, /* ran= */ false);
        return PROGRESS_PASSED;
    }
    running->verdict->steps_run++;
    if (run_block(running, step, &index, &err) != OK) {
        end_by_error(running, step, &err);
        trace(running, step, "fault", "defer", started_ns, /* ran= */ false);
        return PROGRESS_DECIDED;
    }
    check(index < step->outcome_count);
    const struct flow_action *action = &step->actions[index];
    trace(running, step, step->block->outcomes[index].name, flow_action_name(action), started_ns,
          /* ran= */ true);
    if (step->observe)
        return PROGRESS_PASSED;
    if (action->kind == ACTION_BRANCH) {
        *out_branch = &action->branch;
        return PROGRESS_BRANCHED;
    }
    if (!flow_actions[action->kind].decides)
        return PROGRESS_PASSED;
    decide(running, step, index);
    return PROGRESS_DECIDED;
}

/* False: control passed the end without a verdict. */
static MAY_YIELD bool run_steps(struct flow_running *running, const struct flow_steps *steps,
                                size_t at)
{
    while (at < steps->count) {
        const struct flow_steps *branch = NULL;
        switch (run_step(running, &steps->items[at], &branch)) {
        case PROGRESS_PASSED:
            at++;
            break;
        case PROGRESS_BRANCHED:
            steps = branch;
            at = 0;
            break;
        case PROGRESS_DECIDED:
            return true;
        }
    }
    return false;
}

/* ---- a message that was released goes on ---- */

struct place { /* in a list of steps */
    const struct flow_steps *steps;
    size_t at;
};
struct way { /* from the flow's list into branches, down to a step */
    struct place places[FLOW_DEPTH_MAX + 2];
    size_t depth;
};

static bool find_step(const struct flow_steps *steps, struct str id, struct way *way)
{
    if (way->depth >= FLOW_DEPTH_MAX + 2)
        return false;
    struct place *place = &way->places[way->depth++];
    for (size_t i = 0; i < steps->count; i++) {
        const struct flow_step *step = &steps->items[i];
        *place = (struct place){.steps = steps, .at = i};
        if (str_equal(step->id, id))
            return true;
        for (unsigned k = 0; k < step->outcome_count; k++)
            if (step->actions[k].kind == ACTION_BRANCH &&
                find_step(&step->actions[k].branch, id, way))
                return true;
    }
    way->depth--;
    return false;
}

bool flow_has_step(const struct flow *flow, struct str id)
{
    struct way way = {.depth = 0};
    return find_step(&flow->steps, id, &way);
}

/* Behind the step that kept it; behind the end of a branch, behind the step that branched: what
 * stands there (a signature, say) is for the released message, too. */
static MAY_YIELD bool run_behind(struct flow_running *running)
{
    struct way way = {.depth = 0};
    if (!find_step(&running->flow->steps, running->run->after_step, &way))
        return run_steps(running, &running->flow->steps, 0);
    while (way.depth > 0) {
        const struct place *place = &way.places[--way.depth];
        if (run_steps(running, place->steps, place->at + 1))
            return true;
    }
    return false;
}

static void begin(struct flow_running *running, const struct flow *flow, const struct flow_run *run,
                  struct flow_verdict *out)
{
    *out = (struct flow_verdict){0};
    *running =
        (struct flow_running){.flow = flow, .run = run, .facts = *run->facts, .verdict = out};
    running->facts.effects = &out->effects;
    if (!running->facts.checks)
        running->facts.checks = ARENA_NEW(run->arena, struct flow_checks);
}

/* The end of the flow: no step decided. */
static void end(struct flow_running *running, enum flow_verdict_kind kind, enum mail_reason reason)
{
    struct flow_verdict *verdict = running->verdict;
    verdict->kind = kind;
    verdict->reply = flow_standard_reply(running->flow->type, kind);
    verdict->reason = reason;
    verdict->step = STR_EMPTY;
    verdict->detail = STR("end of the flow");
}

static MAY_YIELD void count_pending(struct flow_running *running)
{
    struct state_limit_answer answer;
    struct error err;
    for (unsigned i = 0; i < running->pending_count; i++) {
        const struct flow_pending *pending = &running->pending[i];
        /* a cancelled session does not get its failure for nothing, but cannot wait either */
        if (state_limit(running->run->state, pending->key, 1, pending->max, pending->period_ns,
                        /* peek= */ false, &answer, &err) != OK)
            return;
    }
}

/* For those who run the gateway; the client is told no more than that it failed. */
static enum mail_reason refusal_of_login(const struct flow_running *running)
{
    return running->said_no        ? MAIL_REASON_PASSWORD_WRONG
           : running->said_unknown ? MAIL_REASON_USER_UNKNOWN
                                   : MAIL_REASON_AUTH_FAILED;
}

void flow_run_authentication(const struct flow *flow, const struct flow_run *run, struct str login,
                             struct str password, struct flow_verdict *out)
{
    check(flow->type == FLOW_AUTHENTICATION);
    struct flow_running running;
    begin(&running, flow, run, out);
    running.login = login;
    running.password = password;
    if (!run_steps(&running, &flow->steps, 0)) {
        if (running.had_error)
            end(&running, FLOW_DEFER, MAIL_REASON_BACKEND_DOWN);
        else
            end(&running, FLOW_REJECT, refusal_of_login(&running));
        out->block = running.refused_by;
        if (running.refusal.len)
            out->detail = running.refusal;
    }
    if (out->kind == FLOW_ACCEPT) {
        out->own_addresses = running.own_addresses;
        out->own_address_count = running.own_address_count;
        out->account = running.account;
        return;
    }
    /* no answer is no failure of the user; a backend's no is, whatever the others said, and so is
     * to make one hang up: it would be as good as a no to whoever guesses */
    if (running.said_no || running.was_hung_up || (running.said_unknown && !running.had_error))
        count_pending(&running);
}

void flow_run_recipient(const struct flow *flow, const struct flow_run *run,
                        struct flow_verdict *out)
{
    check(flow->type == FLOW_RECIPIENT);
    struct flow_running running;
    begin(&running, flow, run, out);
    if (!run_steps(&running, &flow->steps, 0))
        end(&running, FLOW_REJECT, MAIL_REASON_POLICY);
    /* recipients that do not exist; where one that was asked gave no answer, nobody knows */
    if (running.said_missing && !running.had_error && out->kind != FLOW_ACCEPT)
        count_pending(&running);
}

void flow_run_content(const struct flow *flow, const struct flow_run *run, struct flow_verdict *out)
{
    check(flow->type == FLOW_CONTENT);
    struct flow_running running;
    begin(&running, flow, run, out);
    struct flow_checks *checks = running.facts.checks; /* each content has results of its own */
    checks->key_asked = 0;
    checks->dkim = checks->dkim_domain = checks->dmarc = checks->dmarc_policy = STR_EMPTY;
    checks->arc = NULL;
    checks->score = 0;
    struct scope scope;
    bool timed = fiber_current() != NULL;
    if (timed)
        scope_open(&scope, clock_deadline(flow_limits_of(&running)->time_ns));
    bool released = run->after_step.len > 0;
    flow_record_fields(&running);
    if (!(released ? run_behind(&running) : run_steps(&running, &flow->steps, 0)))
        end(&running, released ? FLOW_DELIVER : FLOW_DEFER,
            released ? MAIL_REASON_NONE : MAIL_REASON_POLICY);
    if (timed)
        scope_close(&scope);
}
