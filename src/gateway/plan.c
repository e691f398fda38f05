/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/plan.h"

#include "base/buf.h"
#include "event/event.h"
#include "flow/text.h"
#include "gateway/label.h"
#include "gateway/settings.h"
#include "smtp/parameter.h"

#include <string.h>

enum { FINDINGS_MAX = 16 * 1024 };

/* ---- ways ---- */

static bool is_taken(const void *context, struct str domain)
{
    return settings_route(context, domain) != NULL;
}

static bool is_listed(const void *context, struct str domain)
{
    return settings_is_listed(context, domain);
}

static bool read_sender_parameters(struct str text, struct arena *arena, struct mail_sender *out)
{
    struct mail_reply ignored;
    return smtp_parameter_mail(text, arena, out, &ignored);
}

static bool read_recipient_parameters(struct str text, struct arena *arena,
                                      struct mail_recipient *out)
{
    struct mail_reply ignored;
    return smtp_parameter_recipient(text, /* smtputf8= */ false, arena, out, &ignored);
}

struct flow_ways plan_ways(const struct settings *settings)
{
    return (struct flow_ways){.is_taken = is_taken,
                              .is_listed = is_listed,
                              .postmaster = settings->postmaster,
                              .context = settings,
                              .read_sender_parameters = read_sender_parameters,
                              .read_recipient_parameters = read_recipient_parameters};
}

/* By the domain table; empty where nobody takes it: the queue holds that, for a person to see. */
static struct str transport_of(const struct settings *settings, struct str domain)
{
    const struct settings_domain *found = settings_route(settings, domain);
    return found ? found->transport->name : STR_EMPTY;
}

/* ---- groups ---- */

void plan_init(struct plan *plan, struct arena *arena)
{
    *plan = (struct plan){.arena = arena};
}

static struct queue_group *group_new(struct plan *plan)
{
    if (plan->group_count == plan->group_cap) {
        size_t cap = plan->group_cap ? plan->group_cap * 2 : 4;
        struct queue_group *groups = arena_alloc_array(plan->arena, cap, sizeof *groups);
        if (plan->group_count)
            memcpy(groups, plan->groups, plan->group_count * sizeof *groups);
        plan->groups = groups;
        plan->group_cap = cap;
    }
    return &plan->groups[plan->group_count++];
}

static struct str findings_text(struct arena *arena, const struct flow_effects *effects)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, FINDINGS_MAX);
    for (size_t i = 0; i < effects->finding_count && !text.overflow; i++) {
        const struct flow_finding *finding = &effects->findings[i];
        buf_printf(&text, "%.*s %.*s %.*s\n", STR_ARG(finding->step), STR_ARG(finding->name),
                   STR_ARG(finding->text));
    }
    return arena_str(arena, buf_str(&text));
}

static void keep(const struct plan_source *source, struct arena *arena, struct queue_group *group)
{
    const struct flow_verdict *verdict = source->verdict;
    const struct flow_effects *effects = &verdict->effects;
    group->held = true;
    group->held_reason = verdict->reason ? verdict->reason : MAIL_REASON_POLICY;
    if (verdict->kind == FLOW_REJECT) /* no DSN possible: kept for a person to decide */
        group->held_reason = MAIL_REASON_UNDELIVERABLE;
    /* a release goes on where the flow stopped; at its end there is nothing left to run */
    if (verdict->step.len)
        group->content_flow = flow_name(source->flow);
    group->kept = (struct queue_kept){
        .step = verdict->step,
        .quarantine = verdict->kind == FLOW_QUARANTINE ? verdict->quarantine : STR_EMPTY,
        .why = verdict->kind == FLOW_REJECT ? verdict->reply.text : verdict->why,
        .findings = findings_text(arena, effects),
        .scored = effects->scored,
        .score = (int64_t)(effects->score * 1000),
    };
    if (group->kept.quarantine.len)
        group->kept.label = label_text(arena, source->header);
}

/* What all groups of the run have in common. */
static struct queue_group common_of(struct plan *plan, const struct plan_source *source)
{
    const struct flow_verdict *verdict = source->verdict;
    const struct flow_effects *effects = &verdict->effects;
    struct queue_group group = {.content = *source->content,
                                .content_flow = STR_EMPTY,
                                .has_8bit = effects->has_8bit,
                                .seven_bit = effects->seven_bit};
    if (verdict->kind == FLOW_HOLD || verdict->kind == FLOW_QUARANTINE ||
        verdict->kind == FLOW_REJECT) {
        keep(source, plan->arena, &group);
        plan->keeps = true;
    }
    if (effects->sender_changed) {
        struct mail_sender *sender = ARENA_NEW(plan->arena, struct mail_sender);
        *sender = *source->sender;
        sender->address = effects->sender;
        if (effects->sender_parameters) {
            sender->ret = effects->sender_parameters->ret;
            sender->envid = effects->sender_parameters->envid;
        }
        group.sender = sender;
    }
    return group;
}

struct addressed { /* the recipients in force, with their transports */
    const struct mail_recipient *recipients;
    const struct str *transports;
    size_t count;
};

/* The transport of each recipient: what a step chose, else that of the domain it came with, else,
 * for a new address, that of the domain table. */
static struct addressed address(struct plan *plan, const struct plan_source *source)
{
    const struct flow_effects *effects = &source->verdict->effects;
    struct addressed out = {source->recipients, source->transports, source->recipient_count};
    if (!effects->came_as && !effects->transport.len)
        return out;
    if (effects->came_as) {
        out.recipients = effects->recipients;
        out.count = effects->recipient_count;
    }
    struct str *transports = arena_alloc_array(plan->arena, out.count + 1, sizeof *transports);
    for (size_t i = 0; i < out.count; i++) {
        long came_as = effects->came_as ? effects->came_as[i] : (long)i;
        if (effects->transport.len)
            transports[i] = effects->transport;
        else if (came_as >= 0)
            transports[i] = source->transports[came_as];
        else
            transports[i] = transport_of(source->settings, out.recipients[i].domain);
    }
    out.transports = transports;
    return out;
}

/* One group for each transport; `common` has the rest. */
static void split(struct plan *plan, const struct queue_group *common, const struct addressed *to)
{
    struct mail_recipient *all = arena_alloc_array(plan->arena, to->count + 1, sizeof *all);
    size_t first = plan->group_count;
    size_t used = 0;
    for (size_t i = 0; i < to->count; i++) {
        size_t k = first;
        while (k < plan->group_count && !str_equal(plan->groups[k].transport, to->transports[i]))
            k++;
        if (k < plan->group_count)
            continue; /* its recipients were added with the first of them */
        struct queue_group *group = group_new(plan);
        *group = *common;
        group->transport = to->transports[i];
        group->recipients = all + used;
        for (size_t r = i; r < to->count; r++) {
            if (str_equal(to->transports[r], group->transport)) {
                all[used++] = to->recipients[r];
                group->recipient_count++;
            }
        }
    }
}

void plan_add(struct plan *plan, const struct plan_source *source)
{
    struct queue_group common = common_of(plan, source);
    struct addressed to = address(plan, source);
    split(plan, &common, &to);
    if (to.count > source->recipient_count)
        plan->added += to.count - source->recipient_count;
    else
        plan->discarded += source->recipient_count - to.count;
}

/* One that is full takes nothing, or what is oldest in it goes soon (admin/quarantine.c); what
 * could never fit would be removed at once, and that is no way to treat a message. */
bool plan_fits_quarantines(const struct plan *plan, const struct settings *settings,
                           struct queue *queue, struct error *err)
{
    for (size_t i = 0; i < plan->group_count; i++) {
        const struct queue_group *group = &plan->groups[i];
        const struct settings_quarantine *quarantine =
            group->held && group->kept.quarantine.len
                ? settings_find_quarantine(settings, group->kept.quarantine)
                : NULL;
        if (!quarantine)
            continue;
        uint64_t size = mail_content_size(&group->content);
        uint64_t full = quarantine->when_full == SETTINGS_FULL_DEFER
                            ? queue_quarantine_bytes(queue, quarantine->name)
                            : 0;
        if (full + size + size / 512 + 1024 <= quarantine->size) /* encrypted it is a bit larger */
            continue;
        (void)!fail(err, ERROR_LIMIT, "the quarantine %.*s is full", STR_ARG(quarantine->name));
        return false;
    }
    return true;
}

void plan_add_unjudged(struct plan *plan, const struct plan_source *source)
{
    struct queue_group common = {.content = *source->content,
                                 .content_flow = flow_name(source->flow)};
    struct addressed to = {source->recipients, source->transports, source->recipient_count};
    split(plan, &common, &to);
}

void plan_add_extras(struct plan *plan, const struct plan_source *source)
{
    const struct flow_effects *effects = &source->verdict->effects;
    for (size_t i = 0; i < effects->extra_count; i++) {
        const struct flow_extra *extra = &effects->extras[i];
        struct mail_sender *sender = ARENA_NEW(plan->arena, struct mail_sender);
        *sender = (struct mail_sender){.address = extra->sender,
                                       .body = extra->kind == FLOW_COPY ? source->sender->body
                                                                        : MAIL_BODY_7BIT,
                                       .envid = STR_EMPTY};
        *group_new(plan) = (struct queue_group){
            .content = extra->content,
            .transport = transport_of(source->settings, extra->to.domain),
            .content_flow = STR_EMPTY,
            .recipients = &extra->to,
            .recipient_count = 1,
            .sender = sender,
            .has_8bit = extra->has_8bit,
            .seven_bit = extra->seven_bit,
            .generated = true,
            .message = extra->message,
            .header_utf8 = extra->kind == FLOW_NOTICE && !flow_text_is_ascii(extra->to.address)};
    }
}

void plan_hold(struct plan *plan, enum mail_reason reason)
{
    for (size_t i = 0; i < plan->group_count; i++) {
        struct queue_group *group = &plan->groups[i];
        if (group->held || group->generated)
            continue;
        group->held = true;
        group->held_reason = reason;
        plan->keeps = true;
    }
}
