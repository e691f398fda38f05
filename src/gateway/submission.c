/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/submission.h"

#include "content/encoded_word.h"
#include "content/resolver.h"
#include "event/event.h"
#include "flow/checks.h"
#include "gateway/origin.h"
#include "gateway/settings.h"
#include "gateway/worker.h"
#include "mail/header.h"
#include "queue/queue.h"

#include <string.h>

enum { HEADER_MAX = 1024 * 1024, READ_SIZE = 64 * 1024, SUBJECT_MAX = 256 };

/* Recipients that share a content flow: one run, one message of their own. */
struct group {
    const struct flow *flow;
    struct mail_content content;
    struct flow_verdict verdict;
    size_t count; /* recipients */
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
    return arena_printf(arena, "%.*s%.*s", STR_ARG(content->head), STR_ARG(header));
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

static void run_group(struct work *work, struct group *group) MAY_YIELD
{
    struct submission *in = work->in;
    struct mail_recipient *members =
        arena_alloc_array(in->arena, group->count, sizeof(struct mail_recipient));
    size_t count = 0;
    for (size_t i = 0; i < in->recipient_count; i++) {
        if (&work->groups[work->group_of[i]] == group)
            members[count++] = in->recipients[i];
    }
    struct flow_facts facts = *in->facts;
    facts.message = in->message;
    facts.recipients = members;
    facts.recipient_count = count;
    facts.size = mail_content_size(&group->content);
    facts.header = header_in_force(in->arena, &group->content, work->header);
    const struct resolver resolver = resolver_of_dns(in->worker->dns);
    struct flow_run run = {.arena = in->arena,
                           .resolver = &resolver,
                           .hostname = in->settings->hostname,
                           .directory = in->worker->directory,
                           .state = in->worker->gateway->state,
                           .facts = &facts,
                           .content = &group->content};
    flow_run_content(group->flow, &run, &group->verdict);
}

static void run_flows(struct work *work) MAY_YIELD
{
    for (size_t i = 0; i < work->group_count; i++) {
        if (work->in->queued) /* they run from the queue */
            work->groups[i].verdict.kind = FLOW_DELIVER;
        else
            run_group(work, &work->groups[i]);
    }
}

/* ---- the reply ---- */

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
    *out_reply = verdict->reply;
    out_reply->text =
        arena_printf(in->arena, "%.*s (ref %s)", STR_ARG(verdict->reply.text), ref.chars);
    event_emit(verdict->kind == FLOW_REJECT ? EVENT_MESSAGE_REJECTED : EVENT_MESSAGE_DEFERRED,
               F_C(MESSAGE, mail_id_text(in->message).chars), F_C(REF, ref.chars),
               F_STR(FROM, in->sender->address), F_INT(RECIPIENTS, in->recipient_count),
               F_INT(SIZE, in->body->size), F_STR(STEP, verdict->step),
               F_C(REASON, mail_reason_name(verdict->reason)), F_INT(CODE, out_reply->code),
               F_STR(REPLY, out_reply->text), F_STR(DETAIL, verdict->detail));
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
    struct queue_group *groups;
    struct mail_recipient *recipients; /* those of the groups, one behind the other */
    struct mail_recipient *refused;
    struct mail_reply *refused_replies;
    const struct mail_content *refused_content; /* what is quoted to the sender */
    size_t group_count, used, refused_count;
    uint64_t discarded;
};

static void describe_group(const struct submission *in, const struct group *group,
                           struct queue_group *out)
{
    out->content = group->content;
    out->content_flow = in->queued ? flow_name(group->flow) : STR_EMPTY;
    out->held = group->verdict.kind == FLOW_HOLD || group->verdict.kind == FLOW_QUARANTINE;
    out->held_reason = group->verdict.reason ? group->verdict.reason : MAIL_REASON_POLICY;
    if (group->verdict.kind == FLOW_REJECT) { /* no DSN possible: kept for a person to decide */
        out->held = true;
        out->held_reason = MAIL_REASON_UNDELIVERABLE;
    }
}

/* A queue group for every (content group, transport). */
static void add_queue_groups(struct work *work, size_t g, struct hand_over *out)
{
    struct submission *in = work->in;
    size_t first = out->group_count;
    for (size_t i = 0; i < in->recipient_count; i++) {
        if (work->group_of[i] != g)
            continue;
        struct str transport = in->domains[i]->transport->name;
        size_t k = first;
        while (k < out->group_count && !str_equal(out->groups[k].transport, transport))
            k++;
        if (k < out->group_count)
            continue; /* its recipients were added with the first of them */
        struct queue_group *group = &out->groups[out->group_count++];
        group->transport = transport;
        group->recipients = out->recipients + out->used;
        describe_group(in, &work->groups[g], group);
        for (size_t r = i; r < in->recipient_count; r++) {
            if (work->group_of[r] == g && str_equal(in->domains[r]->transport->name, transport)) {
                out->recipients[out->used++] = in->recipients[r];
                group->recipient_count++;
            }
        }
    }
}

static void add_refused(struct work *work, size_t g, struct hand_over *out)
{
    if (!out->refused_content)
        out->refused_content = &work->groups[g].content;
    for (size_t i = 0; i < work->in->recipient_count; i++) {
        if (work->group_of[i] == g) {
            out->refused[out->refused_count] = work->in->recipients[i];
            out->refused_replies[out->refused_count++] = work->groups[g].verdict.reply;
        }
    }
}

static void sort_groups(struct work *work, struct hand_over *out)
{
    struct submission *in = work->in;
    size_t n = in->recipient_count;
    *out = (struct hand_over){
        .groups = arena_alloc_array(in->arena, n, sizeof(struct queue_group)),
        .recipients = arena_alloc_array(in->arena, n, sizeof(struct mail_recipient)),
        .refused = arena_alloc_array(in->arena, n, sizeof(struct mail_recipient)),
        .refused_replies = arena_alloc_array(in->arena, n, sizeof(struct mail_reply)),
    };
    for (size_t g = 0; g < work->group_count; g++) {
        const struct group *group = &work->groups[g];
        if (!in->queued && group->verdict.kind == FLOW_DISCARD)
            out->discarded += group->count;
        else if (!in->queued && group->verdict.kind == FLOW_REJECT && may_get_dsn(in))
            add_refused(work, g, out);
        else
            add_queue_groups(work, g, out);
    }
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
    if (in->settings->events.subjects && mail_header_find(work->header, STR("Subject"), &field))
        subject = encoded_word_text(in->arena, mail_field_text(in->arena, &field), SUBJECT_MAX);
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(MESSAGE, mail_id_text(in->message).chars),
               F_STR(FROM, in->sender->address), F_INT(RECIPIENTS, in->recipient_count),
               F_INT(SIZE, in->body->size), F_STR(MESSAGE_ID, id), F_STR(USER, in->facts->user),
               F_STR(SUBJECT, subject));
    if (handed->discarded)
        event_emit(EVENT_MESSAGE_DISCARDED, F_C(MESSAGE, mail_id_text(in->message).chars),
                   F_INT(RECIPIENTS, handed->discarded));
    for (size_t i = 0; i < handed->group_count; i++) {
        const struct queue_group *group = &handed->groups[i];
        if (group->held)
            event_emit(EVENT_MESSAGE_HELD, F_C(MESSAGE, mail_id_text(in->message).chars),
                       F_STR(TRANSPORT, group->transport),
                       F_C(REASON, mail_reason_name(group->held_reason)),
                       F_INT(RECIPIENTS, group->recipient_count));
    }
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
        .origin = in->queued ? origin_encode(in->arena, in->facts) : STR_EMPTY,
        .has_8bit = in->has_8bit,
        .needs_smtputf8 = needs_smtputf8(work),
        .groups = handed.groups,
        .group_count = handed.group_count,
        .discarded = handed.discarded,
        .refused = handed.refused,
        .refused_replies = handed.refused_replies,
        .refused_count = handed.refused_count,
        .refused_content = handed.refused_content,
    };
    struct error err;
    if (queue_submit(in->worker->gateway->queue, &to_queue, &err) != OK) {
        refuse_later(in, err.kind == ERROR_LIMIT, err.text, out_reply);
        return;
    }
    atomic_fetch_add_explicit(&in->worker->gateway->messages_accepted, 1, memory_order_relaxed);
    tell_accepted(work, &handed);
    *out_reply = mail_reply_of(
        250, 2, 0, 0, arena_printf(in->arena, "Ok, queued as %s", mail_id_text(in->message).chars));
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
    else if (no)
        refuse(in, no, out_reply);
    else
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
