/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/submission.h"

#include "event/event.h"
#include "flow/checks.h"
#include "gateway/contain.h"
#include "gateway/label.h"
#include "gateway/origin.h"
#include "gateway/loan.h"
#include "gateway/plan.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "mail/header.h"
#include "queue/queue.h"

#include <string.h>

enum { HEADER_MAX = 1024 * 1024, READ_SIZE = 64 * 1024 };

/* Recipients that share a content flow: one run, one message of their own. */
struct group {
    const struct flow *flow;
    struct mail_content content;
    struct flow_verdict verdict;
    struct mail_recipient *members;
    struct str *transports; /* of each member */
    size_t count;
};

struct work {
    struct submission *in;
    struct group *groups;
    size_t group_count;
    size_t *group_of;  /* by recipient */
    struct str header; /* as it came */
};

/* ---- the parts of a message ---- */

/* Copy `length` bytes from the front of the body; less if it is shorter. */
static enum result read_front(struct submission *in, uint64_t length, struct str *out,
                              struct error *err) MAY_YIELD
{
    if (length > in->body->size)
        length = in->body->size;
    char *space = arena_alloc(in->arena, (size_t)length + 1);
    size_t len = 0;
    while (len < length) {
        struct str data;
        size_t want = (size_t)length - len < READ_SIZE ? (size_t)length - len : READ_SIZE;
        if (body_read(in->body, len, want, space + len, &data, err) != OK)
            return FAILED;
        if (data.len == 0)
            break;
        if (data.ptr != space + len)
            memcpy(space + len, data.ptr, data.len);
        len += data.len;
    }
    *out = str_of(space, len);
    return OK;
}

/* The header section. A message without an empty line is all header if it begins with a field. */
static enum result read_header(struct submission *in, struct str *out, struct error *err) MAY_YIELD
{
    if (in->header_length)
        return read_front(in, in->header_length, out, err);
    struct str front;
    if (read_front(in, HEADER_MAX, &front, err) != OK)
        return FAILED;
    struct str rest = front;
    struct mail_field field;
    bool is_header =
        mail_header_next(&rest, &field) && field.name.len && front.len == in->body->size;
    *out = is_header ? front : STR_EMPTY;
    return OK;
}

/* What header("X") sees: our fields, and those of the sender. */
static struct str header_in_force(struct arena *arena, const struct mail_content *content,
                                  struct str header)
{
    if (content->body_start)
        return content->head;
    return arena_join(arena, content->head, header, STR_EMPTY);
}

/* ---- groups and their flows ---- */

static void make_groups(struct work *work)
{
    struct submission *in = work->in;
    work->group_of = arena_alloc_array(in->arena, in->recipient_count, sizeof(size_t));
    work->groups = arena_alloc_array(in->arena, in->recipient_count, sizeof(struct group));
    for (size_t i = 0; i < in->recipient_count; i++) {
        size_t g = 0;
        while (g < work->group_count && work->groups[g].flow != in->domains[i]->content)
            g++;
        if (g == work->group_count)
            work->groups[work->group_count++].flow = in->domains[i]->content;
        work->groups[g].count++;
        work->group_of[i] = g;
    }
}

static void gather_members(struct work *work, struct group *group)
{
    struct submission *in = work->in;
    size_t count = 0;
    group->members = arena_alloc_array(in->arena, group->count, sizeof *group->members);
    group->transports = arena_alloc_array(in->arena, group->count, sizeof *group->transports);
    for (size_t i = 0; i < in->recipient_count; i++) {
        if (&work->groups[work->group_of[i]] != group)
            continue;
        group->members[count] = in->recipients[i];
        group->transports[count++] = in->transports && in->transports[i].len
                                         ? in->transports[i]
                                         : in->domains[i]->transport->name;
    }
}

static void run_group(struct work *work, struct group *group) MAY_YIELD
{
    struct submission *in = work->in;
    struct flow_facts facts = *in->facts;
    facts.message = in->message;
    facts.recipients = group->members;
    facts.recipient_count = group->count;
    facts.size = mail_content_size(&group->content);
    facts.header = header_in_force(in->arena, &group->content, work->header);
    struct loan loan;
    loan_init(&loan, in->worker, in->settings, in->arena, &facts);
    loan.run.content = &group->content;
    flow_run_content(group->flow, &loan.run, &group->verdict);
    contain_by_verdict(in->worker->gateway, in->settings, &facts, flow_name(group->flow),
                       &group->verdict);
}

static void run_flows(struct work *work) MAY_YIELD
{
    for (size_t i = 0; i < work->group_count; i++) {
        gather_members(work, &work->groups[i]);
        if (work->in->queued) /* they run from the queue */
            work->groups[i].verdict.kind = FLOW_DELIVER;
        else
            run_group(work, &work->groups[i]);
    }
}

/* ---- the reply ---- */

static const char *direction_of_transport(const struct submission *in, struct str name)
{
    const struct transport *transport = settings_find_transport(in->settings, name);
    return transport ? transport_direction_name(transport) : "";
}

/* Where the message goes, by the transports that its recipients were given at RCPT. */
static const char *direction_of(const struct submission *in)
{
    const struct transport *last = NULL;
    const char *direction = "";
    for (size_t i = 0; i < in->recipient_count; i++) {
        const struct transport *transport =
            in->transports && in->transports[i].len
                ? settings_find_transport(in->settings, in->transports[i])
                : in->domains[i]->transport;
        if (!transport || transport == last)
            continue;
        if (last && last->direction != transport->direction)
            return "mixed";
        last = transport;
        direction = transport_direction_name(transport);
    }
    return direction;
}

static bool goes_on(const struct group *group)
{
    return group->verdict.kind != FLOW_REJECT && group->verdict.kind != FLOW_DEFER;
}

/* The one verdict for the client (direct processing): any group that defers defers all; a refusal
 * is the reply only if nobody accepted. NULL: accepted. */
static const struct flow_verdict *refusing_verdict(const struct work *work)
{
    bool any_goes_on = false;
    for (size_t i = 0; i < work->group_count; i++) {
        if (work->groups[i].verdict.kind == FLOW_DEFER)
            return &work->groups[i].verdict;
        any_goes_on = any_goes_on || goes_on(&work->groups[i]);
    }
    return any_goes_on ? NULL : &work->groups[0].verdict;
}

static void refuse(struct submission *in, const struct flow_verdict *verdict,
                   struct mail_reply *out_reply)
{
    struct mail_ref ref = mail_ref_new();
    char enhanced[MAIL_ENHANCED_TEXT];
    *out_reply = verdict->reply;
    out_reply->text =
        arena_printf(in->arena, "%.*s (ref %s)", STR_ARG(verdict->reply.text), ref.chars);
    event_emit(verdict->kind == FLOW_REJECT ? EVENT_MESSAGE_REJECTED : EVENT_MESSAGE_DEFERRED,
               F_C(MESSAGE, mail_id_text(in->message).chars), F_C(REF, ref.chars),
               F_STR(FROM, in->sender->address), F_INT(RECIPIENTS, in->recipient_count),
               F_INT(SIZE, in->body->size), F_STR(STEP, verdict->step),
               F_C(REASON, mail_reason_name(verdict->reason)), F_INT(CODE, out_reply->code),
               F_STR(ENHANCED, mail_enhanced_text(out_reply->enhanced, enhanced)),
               F_STR(REPLY, out_reply->text), F_STR(DETAIL, verdict->detail),
               F_STR(HELO, in->facts->helo), F_C(DIRECTION, direction_of(in)));
}

static void refuse_later(struct submission *in, bool no_space, const char *detail,
                         struct mail_reply *out_reply)
{
    struct flow_verdict later = {
        .kind = FLOW_DEFER,
        .reply = no_space ? mail_reply_of(452, 4, 3, 1, STR("Insufficient system storage"))
                          : mail_reply_of(451, 4, 3, 0, STR("Try again later")),
        .reason = no_space ? MAIL_REASON_OVERLOAD : MAIL_REASON_BACKEND_DOWN,
        .detail = str_c(detail),
    };
    refuse(in, &later, out_reply);
}

/* ---- to the queue ---- */

/* May a refusal that comes after a 250 be told to the sender? Only to a user of ours, and only at
 * an address that is his: anything else could be backscatter. */
static bool may_get_dsn(const struct submission *in)
{
    if (!in->own_user || in->sender->address.len == 0)
        return false;
    for (size_t i = 0; i < in->facts->own_address_count; i++) {
        if (str_equal_nocase(in->facts->own_addresses[i], in->sender->address))
            return true;
    }
    return settings_is_listed(in->settings, in->facts->sender_domain);
}

struct hand_over {
    struct plan plan;
    struct mail_recipient *refused;
    struct mail_reply *refused_replies;
    const struct mail_content *refused_content; /* what is quoted to the sender */
    size_t refused_count;
    uint64_t discarded; /* by a verdict */
    bool contained;     /* its account is: all of it is held, and nobody is told of anything */
};

static struct plan_source source_of(const struct work *work, const struct group *group)
{
    return (struct plan_source){
        .settings = work->in->settings,
        .flow = group->flow,
        .verdict = &group->verdict,
        .content = &group->content,
        .header = work->header,
        .sender = work->in->sender,
        .recipients = group->members,
        .transports = group->transports,
        .recipient_count = group->count,
    };
}

static void add_refused(const struct work *work, const struct group *group, struct hand_over *out)
{
    size_t n = work->in->recipient_count;
    if (!out->refused) {
        out->refused = arena_alloc_array(work->in->arena, n, sizeof *out->refused);
        out->refused_replies = arena_alloc_array(work->in->arena, n, sizeof *out->refused_replies);
        out->refused_content = &group->content;
    }
    for (size_t i = 0; i < group->count; i++) {
        out->refused[out->refused_count] = group->members[i];
        out->refused_replies[out->refused_count++] = group->verdict.reply;
    }
}

static void sort_groups(struct work *work, struct hand_over *out)
{
    struct submission *in = work->in;
    *out = (struct hand_over){.contained = contain_holds(in->worker->gateway, in->facts)};
    plan_init(&out->plan, in->arena);
    for (size_t g = 0; g < work->group_count; g++) {
        const struct group *group = &work->groups[g];
        struct plan_source source = source_of(work, group);
        if (in->queued) {
            plan_add_unjudged(&out->plan, &source);
            continue;
        }
        if (group->verdict.kind == FLOW_DISCARD)
            out->discarded += group->count;
        else if (group->verdict.kind == FLOW_REJECT && !out->contained && may_get_dsn(in))
            add_refused(work, group, out);
        else
            plan_add(&out->plan, &source);
        plan_add_extras(&out->plan, &source);
    }
    if (out->contained)
        plan_hold(&out->plan, MAIL_REASON_CONTAINED);
}

static bool has_utf8(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] > 127)
            return true;
    }
    return false;
}

/* Does the header need SMTPUTF8 onward, more than just having been offered (RFC 6531 3.6)? The
 * queue looks at the addresses itself, recipient by recipient. */
static bool needs_smtputf8(const struct work *work)
{
    return work->in->sender->smtputf8 && has_utf8(work->header);
}

static void tell_accepted(const struct work *work, const struct hand_over *handed)
{
    const struct submission *in = work->in;
    struct str id = STR_EMPTY;
    struct str subject = STR_EMPTY;
    struct mail_field field;
    if (mail_header_find(work->header, STR("Message-ID"), &field))
        id = mail_field_text(in->arena, &field);
    if (in->settings->events.subjects)
        subject = label_subject(in->arena, work->header);
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(MESSAGE, mail_id_text(in->message).chars),
               F_STR(FROM, in->sender->address), F_INT(RECIPIENTS, in->recipient_count),
               F_INT(SIZE, in->body->size), F_STR(MESSAGE_ID, id), F_STR(USER, in->facts->user),
               F_STR(SUBJECT, subject), F_STR(CLIENT_NAME, in->facts->client_name),
               F_STR(HELO, in->facts->helo), F_C(DIRECTION, direction_of(in)));
    if (handed->discarded)
        event_emit(EVENT_MESSAGE_DISCARDED, F_C(MESSAGE, mail_id_text(in->message).chars),
                   F_INT(RECIPIENTS, handed->discarded), F_C(DIRECTION, direction_of(in)));
    for (size_t i = 0; i < handed->plan.group_count; i++) {
        const struct queue_group *group = &handed->plan.groups[i];
        if (group->held)
            event_emit(
                group->kept.quarantine.len ? EVENT_MESSAGE_QUARANTINED : EVENT_MESSAGE_HELD,
                F_C(MESSAGE, mail_id_text(in->message).chars), F_STR(TRANSPORT, group->transport),
                F_C(DIRECTION, direction_of_transport(in, group->transport)),
                F_STR(STEP, group->kept.step), F_C(REASON, mail_reason_name(group->held_reason)),
                F_STR(QUARANTINE, group->kept.quarantine), F_STR(DETAIL, group->kept.why),
                F_INT(RECIPIENTS, group->recipient_count));
    }
}

/* Only what the queue may ask for again lies on the disk. */
static struct str origin_of(const struct submission *in, const struct plan *plan)
{
    return in->queued || plan->keeps ? origin_encode(in->arena, in->facts) : STR_EMPTY;
}

/* A refused message leaves copies and notices behind, if its flow made some; the reply to the
 * client is the refusal, whatever becomes of them. */
static void hand_over_extras(struct work *work) MAY_YIELD
{
    struct submission *in = work->in;
    struct plan plan;
    struct error err;
    plan_init(&plan, in->arena);
    for (size_t g = 0; g < work->group_count; g++) {
        struct plan_source source = source_of(work, &work->groups[g]);
        plan_add_extras(&plan, &source);
    }
    struct queue_submission to_queue = {
        .message = in->message,
        .session = in->facts->session,
        .sender = in->sender,
        .own_user = true,
        .fairness_key = STR("<>"),
        .origin = STR_EMPTY,
        .has_8bit = in->has_8bit,
        .needs_smtputf8 = needs_smtputf8(work),
        .groups = plan.groups,
        .group_count = plan.group_count,
    };
    if (plan.group_count && queue_submit(in->worker->gateway->queue, &to_queue, &err) != OK)
        event_emit(EVENT_MESSAGE_EXTRA_LOST, F_C(MESSAGE, mail_id_text(in->message).chars),
                   F_INT(COUNT, plan.group_count), F_C(ERROR, err.text));
}

static void hand_over(struct work *work, struct mail_reply *out_reply) MAY_YIELD
{
    struct submission *in = work->in;
    struct hand_over handed;
    sort_groups(work, &handed);
    struct queue_submission to_queue = {
        .message = in->message,
        .session = in->facts->session,
        .sender = in->sender,
        .own_user = in->own_user,
        .sender_verified = in->facts->checks && in->facts->checks->sender_verified,
        .fairness_key = in->fairness_key,
        .origin = origin_of(in, &handed.plan),
        .has_8bit = in->has_8bit,
        .needs_smtputf8 = needs_smtputf8(work),
        .groups = handed.plan.groups,
        .group_count = handed.plan.group_count,
        .discarded = handed.discarded + handed.plan.discarded,
        .added = handed.plan.added,
        .refused = handed.refused,
        .refused_replies = handed.refused_replies,
        .refused_count = handed.refused_count,
        .refused_content = handed.refused_content,
    };
    struct error err;
    if (!plan_fits_quarantines(&handed.plan, in->settings, in->worker->gateway->queue, &err) ||
        queue_submit(in->worker->gateway->queue, &to_queue, &err) != OK) {
        refuse_later(in, err.kind == ERROR_LIMIT, err.text, out_reply);
        return;
    }
    atomic_fetch_add_explicit(&in->worker->gateway->messages_accepted, 1, memory_order_relaxed);
    if (in->facts->authenticated)
        incidents_note_message(in->worker->gateway->incidents, in->facts->user);
    tell_accepted(work, &handed);
    struct mail_id_text id = mail_id_text(in->message);
    *out_reply = mail_reply_of(
        250, 2, 0, 0, arena_join(in->arena, STR("Ok, queued as "), str_c(id.chars), STR_EMPTY));
}

static void decide(struct work *work, const struct scope *scope,
                   struct mail_reply *out_reply) MAY_YIELD
{
    struct submission *in = work->in;
    struct error err;
    if (read_header(in, &work->header, &err) != OK) {
        refuse_later(in, false, err.text, out_reply);
        return;
    }
    struct mail_content content;
    trace_build(in->arena, &in->trace, work->header, in->body, &content);
    make_groups(work);
    for (size_t i = 0; i < work->group_count; i++)
        work->groups[i].content = content;
    run_flows(work);
    const struct flow_verdict *no = refusing_verdict(work);
    if (scope_is_over(scope))
        refuse_later(in, false, "the content flows took longer than direct_timeout", out_reply);
    else if (no) {
        refuse(in, no, out_reply);
        if (no->kind == FLOW_REJECT)
            hand_over_extras(work);
    } else
        hand_over(work, out_reply);
}

/* All of it within the time that a client waits for its reply. The deadline ends where the spool
 * takes the message: from there on only the sync's result answers. */
void submission_run(struct submission *in, struct mail_reply *out_reply)
{
    struct work work = {.in = in, .header = STR_EMPTY};
    struct scope scope;
    scope_open(&scope, clock_deadline(in->direct_timeout_ns));
    decide(&work, &scope, out_reply);
    scope_close(&scope);
}
