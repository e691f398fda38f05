/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/contain.h"

#include "base/buf.h"
#include "base/memory.h"
#include "event/event.h"
#include "fiber/lane.h"
#include "flow/flow.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "queue/queue.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>

bool contain_holds(struct gateway *gateway, const struct flow_facts *facts)
{
    return facts->authenticated && incidents_contains(gateway->incidents, facts->user, NULL);
}

struct incidents *gateway_incidents(struct gateway *gateway)
{
    return gateway->incidents;
}

/* ---- containing, on a thread that may block ---- */

static void tell_opened(const struct incident *incident, int64_t number, size_t held)
{
    char name[24];
    snprintf(name, sizeof name, "%lld", (long long)number);
    struct event_field fields[12] = {
        F_C(INCIDENT, name),
        F_STR(USER, incident->user),
        F_STR(ACTOR, incident->opened_by),
        F_STR(WHY, incident->reason),
        F_INT(HELD, held),
    };
    size_t count = 5;
    if (incident->what.len) {
        fields[count++] = F_STR(FLOW, incident->flow);
        fields[count++] = F_STR(STEP, incident->step);
        fields[count++] = F_STR(LIMIT, incident->what);
        fields[count++] = F_INT(COUNT, incident->count);
        fields[count++] = F_INT(EXPECTED, incident->max);
        fields[count++] = F_INT(PERIOD, incident->period_ns / NS_PER_S);
    }
    event_emit_fields(EVENT_INCIDENT_OPENED, fields, count);
}

/* What is in the queue. Entries that are missed (a worker that does not answer, a crash) are held
 * when they move next, for the queue asks before each attempt. */
static size_t hold_queued(struct gateway *gateway, const struct incident *incident)
{
    struct queue_selector selector = {.user = incident->user, .state = -1};
    struct queue_action action = {.verb = QUEUE_HOLD,
                                  .hold_reason = MAIL_REASON_CONTAINED,
                                  .actor = incident->opened_by,
                                  .reason = incident->reason};
    struct queue_action_result result = {0};
    struct error err;
    if (queue_act(gateway->queue, &selector, &action, &result, &err) != OK)
        event_emit(EVENT_DAEMON_WARNING, F_STR(USER, incident->user), F_C(ERROR, err.text),
                   F_C(DETAIL, "not all of its mail is held yet; the rest is when it moves"));
    return result.done;
}

static enum result contain(struct gateway *gateway, const struct incident *draft,
                           int64_t *out_number, bool *out_new, size_t *out_held, struct error *err)
{
    struct net_ip ip;
    *out_held = 0;
    /* the queue knows those who need no login by their network, which is nobody's account */
    if (net_ip_parse(draft->user, &ip))
        return fail(err, ERROR_PERMANENT, "an address is nobody's login");
    if (incidents_open(gateway->incidents, draft, out_number, out_new, err) != OK)
        return FAILED;
    if (!*out_new)
        return OK;
    *out_held = hold_queued(gateway, draft);
    tell_opened(draft, *out_number, *out_held);
    return OK;
}

static struct incident draft_of(const struct gateway_containment *wish)
{
    return (struct incident){
        .user = wish->user,
        .opened_wall_ns = clock_steady_wall_ns(),
        .opened_by = wish->actor,
        .reason = wish->reason,
        .flow = STR_EMPTY,
        .step = STR_EMPTY,
        .what = STR_EMPTY,
        .by = STR_EMPTY,
        .subject = STR_EMPTY,
        .closed_by = STR_EMPTY,
        .closing_reason = STR_EMPTY,
    };
}

enum result gateway_contain(struct gateway *gateway, const struct gateway_containment *wish,
                            int64_t *out_number, bool *out_new, size_t *out_held, struct error *err)
{
    struct incident draft = draft_of(wish);
    return contain(gateway, &draft, out_number, out_new, out_held, err);
}

/* ---- by a flow, on a worker ---- */

struct contain_job {
    struct lane_job job;
    struct gateway *gateway;
    struct arena *arena;
    struct incident draft;
    int64_t number;
    enum result result;
    struct error error;
};

static void work(struct lane_job *job)
{
    struct contain_job *self = CONTAINER(job, struct contain_job, job);
    bool is_new;
    size_t held;
    self->result =
        contain(self->gateway, &self->draft, &self->number, &is_new, &held, &self->error);
}

static void release(struct lane_job *job)
{
    struct contain_job *self = CONTAINER(job, struct contain_job, job);
    arena_free(self->arena);
    free(self);
}

static struct str reason_of(const struct flow_verdict *verdict, struct str flow,
                            struct arena *arena)
{
    const struct flow_overrun *overrun = &verdict->overrun;
    struct buf period BUF_CLEANUP;
    if (!overrun->step.len)
        return arena_printf(arena, "flow %.*s, step %.*s%s%.*s", STR_ARG(flow),
                            STR_ARG(verdict->step), verdict->detail.len ? ": " : "",
                            STR_ARG(verdict->detail));
    buf_init(&period, 64);
    option_print_duration(overrun->period_ns, &period);
    return arena_printf(arena, "%llu of %llu %s by %s in %.*s (flow %.*s, step %.*s)",
                        (unsigned long long)overrun->count, (unsigned long long)overrun->max,
                        overrun->what, overrun->by, (int)period.len, period.ptr,
                        STR_ARG(overrun->flow), STR_ARG(overrun->step));
}

static struct contain_job *job_new(struct gateway *gateway, const struct flow_facts *facts,
                                   struct str flow, const struct flow_verdict *verdict)
{
    struct contain_job *job = NEW(struct contain_job);
    const struct flow_overrun *overrun = &verdict->overrun;
    struct arena *arena = arena_new(0);
    job->job = (struct lane_job){.work = work, .release = release};
    job->gateway = gateway;
    job->arena = arena;
    job->draft = draft_of(&(struct gateway_containment){.user = arena_str(arena, facts->user),
                                                        .actor = STR("flow"),
                                                        .reason = reason_of(verdict, flow, arena)});
    job->draft.flow = arena_str(arena, flow);
    job->draft.step = arena_str(arena, verdict->step);
    if (overrun->step.len) {
        job->draft.flow = arena_str(arena, overrun->flow);
        job->draft.step = arena_str(arena, overrun->step);
        job->draft.what = str_c(overrun->what);
        job->draft.by = str_c(overrun->by);
        job->draft.subject = arena_str(arena, overrun->subject);
        job->draft.count = (int64_t)overrun->count;
        job->draft.max = (int64_t)overrun->max;
        job->draft.period_ns = overrun->period_ns;
    }
    return job;
}

static bool is_exempt(const struct settings *settings, struct str user)
{
    for (size_t i = 0; i < settings->contain.exempt.count; i++)
        if (str_equal_nocase(settings->contain.exempt.items[i], user))
            return true;
    return false;
}

static void defer(struct flow_verdict *verdict, struct str detail)
{
    verdict->kind = FLOW_DEFER; /* with the reply that it brought */
    verdict->reason = MAIL_REASON_RATE_LIMIT;
    verdict->detail = detail;
}

/* FAILED: nobody was contained, and the detail says why; in the arena of the verdict's texts or for
 * ever. */
static MAY_YIELD enum result open_incident(struct gateway *gateway, const struct flow_facts *facts,
                                           struct str flow, const struct flow_verdict *verdict,
                                           int64_t *out_number, struct error *err)
{
    struct contain_job *job = job_new(gateway, facts, flow, verdict);
    if (lane_run(gateway->incident_lane, &job->job, err) != OK)
        return FAILED; /* it is the lane's, and happens all the same */
    enum result result = job->result;
    *out_number = job->number;
    if (result != OK)
        *err = job->error;
    release(&job->job);
    return result;
}

void contain_by_verdict(struct gateway *gateway, const struct settings *settings,
                        const struct flow_facts *facts, struct str flow,
                        struct flow_verdict *verdict)
{
    struct error err;
    int64_t number = 0;
    if (!verdict->contain)
        return;
    if (!facts->authenticated || !facts->user.len) {
        defer(verdict, STR("nobody is logged in whose account could be contained"));
        return;
    }
    if (is_exempt(settings, facts->user)) {
        event_emit(EVENT_INCIDENT_SPARED, F_STR(USER, facts->user), F_STR(FLOW, flow),
                   F_STR(STEP, verdict->step), F_STR(DETAIL, verdict->detail));
        defer(verdict, STR("the account is exempt from containment"));
        return;
    }
    if (open_incident(gateway, facts, flow, verdict, &number, &err) != OK) {
        event_emit(EVENT_DAEMON_ERROR, F_STR(USER, facts->user), F_C(ERROR, err.text),
                   F_C(DETAIL, "an account could not be contained; its mail is deferred"));
        defer(verdict, STR("the incident could not be opened"));
        return;
    }
    verdict->why = STR("the account is contained");
    if (verdict->kind == FLOW_DEFER)
        verdict->reply = mail_reply_of(
            450, 4, 7, 1, STR("This account is on hold, please ask your administrator"));
}

/* ---- closing ---- */

/* One sweep over the queue; the incident is done when it missed nothing and all is on disk. */
static enum result settle(struct gateway *gateway, const struct incident *incident,
                          struct gateway_incident_end *out, struct error *err)
{
    bool drop = incident->state == INCIDENT_DROPPING;
    int64_t closed_ago_ns = clock_steady_wall_ns() - incident->closed_wall_ns;
    struct queue_selector selector = {.user = incident->user,
                                      .state = QUEUE_HELD,
                                      .held_reason = MAIL_REASON_CONTAINED,
                                      /* what came later is not of this incident */
                                      .older_ns = closed_ago_ns > 0 ? closed_ago_ns : 1};
    struct queue_action action = {.verb = drop ? QUEUE_DROP : QUEUE_RELEASE,
                                  .actor = incident->closed_by,
                                  .reason = incident->closing_reason};
    struct queue_action_result result;
    bool known = queue_is_known(gateway->queue);
    if (queue_act(gateway->queue, &selector, &action, &result, err) != OK)
        return FAILED;
    out->settled += result.done;
    if (!known)
        return OK;
    /* what is still held came when the account was free, and was held again by a start */
    selector.older_ns = 0;
    action.verb = QUEUE_RELEASE;
    if (drop && queue_act(gateway->queue, &selector, &action, &result, err) != OK)
        return FAILED;
    if (queue_flush(gateway->queue, err) != OK ||
        incidents_finish(gateway->incidents, incident->number, err) != OK)
        return FAILED;
    out->done = true;
    char name[24];
    snprintf(name, sizeof name, "%lld", (long long)incident->number);
    event_emit(EVENT_INCIDENT_DONE, F_C(INCIDENT, name), F_STR(USER, incident->user),
               F_C(ACTION, drop ? "drop" : "release"), F_INT(COUNT, out->settled));
    return OK;
}

/* Limits begin anew, or the next message would contain the account again. */
static void forget_counts(struct gateway *gateway, const struct incident *incident)
{
    struct arena *arena = arena_new(0);
    const struct str subjects[] = {incident->user, incident->subject};
    for (size_t i = 0; i < 2; i++)
        if (subjects[i].len && (i == 0 || !str_equal(subjects[0], subjects[1])))
            state_limit_forget(gateway->state, STR("limit:"),
                               arena_printf(arena, ":%.*s", STR_ARG(subjects[i])));
    arena_free(arena);
}

/* Closing is answered when they are gone from the disk, too: a crash would bring them back. */
static void flush_counts(struct gateway *gateway, const struct incident *incident)
{
    struct error err;
    if (state_flush(gateway->state, &err) != OK)
        event_emit(EVENT_DAEMON_WARNING, F_STR(USER, incident->user), F_C(ERROR, err.text),
                   F_C(DETAIL, "after a crash now, limits would contain the account again"));
}

void contain_forget_unsettled(struct gateway *gateway)
{
    size_t count;
    struct arena *arena = arena_new(0);
    struct incident *incidents = incidents_list(gateway->incidents, arena, &count);
    for (size_t i = 0; i < count; i++)
        if (incidents[i].state == INCIDENT_RELEASING || incidents[i].state == INCIDENT_DROPPING)
            forget_counts(gateway, &incidents[i]);
    arena_free(arena);
}

static void tell_closed(const struct incident *incident)
{
    char name[24];
    snprintf(name, sizeof name, "%lld", (long long)incident->number);
    event_emit(EVENT_INCIDENT_CLOSED, F_C(INCIDENT, name), F_STR(USER, incident->user),
               F_C(ACTION, incident->state == INCIDENT_DROPPING ? "drop" : "release"),
               F_STR(ACTOR, incident->closed_by), F_STR(WHY, incident->closing_reason));
}

enum result gateway_close_incident(struct gateway *gateway, const struct incident_closing *closing,
                                   struct gateway_incident_end *out, struct error *err)
{
    struct arena *arena = arena_new(0);
    struct incident incident;
    struct error late;
    *out = (struct gateway_incident_end){.was = INCIDENT_STATES};
    pthread_mutex_lock(&gateway->settling);
    enum result result = incidents_close(gateway->incidents, closing, &out->was, err);
    if (result == OK && out->was == INCIDENT_OPEN &&
        incidents_find(gateway->incidents, closing->number, arena, &incident)) {
        forget_counts(gateway, &incident);
        flush_counts(gateway, &incident);
        tell_closed(&incident);
        /* the account is free, whatever becomes of this: it is tried again */
        if (settle(gateway, &incident, out, &late) != OK)
            event_emit(EVENT_DAEMON_WARNING, F_STR(USER, incident.user), F_C(ERROR, late.text),
                       F_C(DETAIL, "mail of a closed incident is still held; it is seen to soon"));
    }
    pthread_mutex_unlock(&gateway->settling);
    arena_free(arena);
    return result;
}

void gateway_settle_incidents(struct gateway *gateway)
{
    size_t count;
    struct error err;
    if (!incidents_is_unsettled(gateway->incidents) ||
        pthread_mutex_trylock(&gateway->settling) != 0) /* somebody is at it */
        return;
    struct arena *arena = arena_new(0);
    struct incident *incidents = incidents_list(gateway->incidents, arena, &count);
    for (size_t i = 0; i < count; i++) {
        struct gateway_incident_end end = {0};
        if (incidents[i].state == INCIDENT_RELEASING || incidents[i].state == INCIDENT_DROPPING)
            (void)!settle(gateway, &incidents[i], &end, &err); /* again in some seconds */
    }
    pthread_mutex_unlock(&gateway->settling);
    arena_free(arena);
}
