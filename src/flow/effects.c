/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/effects.c - what blocks change beyond the header section: kept until the run has a verdict.
 */
#include "flow/effects.h"

#include "event/event.h"
#include "flow/flow_internal.h"

#include <string.h>

const struct flow_limits flow_limits_default = {
    .time_ns = 180 * NS_PER_S,
    .memory = UINT64_C(64) << 20,
    .decoded = UINT64_C(200) << 20,
    .parts = 2000,
    .depth = 32,
};

static struct flow_effects *effects_of(struct flow_running *running)
{
    return &running->verdict->effects;
}

/* ---- envelope ---- */

void flow_set_sender(struct flow_running *running, struct str address)
{
    struct arena *arena = running->run->arena;
    ptrdiff_t at = str_find_last(address, '@');
    struct flow_effects *effects = effects_of(running);
    effects->sender_changed = true;
    effects->sender = arena_str(arena, address);
    running->facts.sender = effects->sender;
    running->facts.sender_domain =
        at < 0 ? STR_EMPTY : arena_lower(arena, str_from(address, (size_t)at + 1));
}

void flow_set_sender_parameters(struct flow_running *running, const struct mail_sender *parameters)
{
    effects_of(running)->sender_parameters = parameters;
}

void flow_set_recipient(struct flow_running *running, struct str address, struct str domain)
{
    struct arena *arena = running->run->arena;
    struct flow_effects *effects = effects_of(running);
    struct mail_recipient *recipient = ARENA_NEW(arena, struct mail_recipient);
    long *came_as = ARENA_NEW(arena, long);
    *recipient = (struct mail_recipient){.address = arena_str(arena, address),
                                         .domain = arena_str(arena, domain),
                                         .orcpt = STR_EMPTY};
    *came_as = FLOW_NEW_RECIPIENT;
    effects->recipients = recipient;
    effects->came_as = came_as;
    effects->recipient_count = 1;
    running->facts.recipient = recipient->address;
    running->facts.recipient_domain = recipient->domain;
}

void flow_set_recipients(struct flow_running *running, struct mail_recipient *recipients,
                         long *came_as, size_t count)
{
    struct flow_effects *effects = effects_of(running);
    struct map seen;
    size_t kept = 0;
    map_init(&seen);
    for (size_t i = 0; i < count; i++) {
        if (map_put(&seen, arena_lower(running->run->arena, recipients[i].address), recipients))
            continue;
        recipients[kept] = recipients[i];
        came_as[kept++] = came_as[i];
    }
    map_done(&seen);
    effects->recipients = recipients;
    effects->came_as = came_as;
    effects->recipient_count = kept;
    running->facts.recipients = recipients;
    running->facts.recipient_count = kept;
}

void flow_set_transport(struct flow_running *running, struct str name)
{
    effects_of(running)->transport = name;
}

/* ---- further mail, judgements ---- */

/* Room for one more, at `count` of at most `max`. */
static void *grow(struct arena *arena, void *items, size_t count, size_t size)
{
    bool full = count == 0 || (count >= 4 && (count & (count - 1)) == 0);
    if (!full)
        return items;
    void *more = arena_alloc_array(arena, count ? count * 2 : 4, size);
    if (count)
        memcpy(more, items, count * size);
    return more;
}

enum result flow_add_extra(struct flow_running *running, const struct flow_extra *extra,
                           struct error *err)
{
    struct flow_effects *effects = effects_of(running);
    if (effects->extra_count >= FLOW_EXTRAS_MAX)
        return fail(err, ERROR_LIMIT, "a message makes at most %d others", FLOW_EXTRAS_MAX);
    effects->extras =
        grow(running->run->arena, effects->extras, effects->extra_count, sizeof *effects->extras);
    effects->extras[effects->extra_count++] = *extra;
    return OK;
}

void flow_add_finding(struct flow_running *running, const struct flow_step *step, struct str name,
                      struct str text)
{
    enum { NAME_MAX_LEN = 200, TEXT_MAX_LEN = 500 };
    struct flow_effects *effects = effects_of(running);
    struct arena *arena = running->run->arena;
    if (effects->finding_count >= FLOW_FINDINGS_MAX) {
        effects->findings_dropped++;
        return;
    }
    effects->findings =
        grow(arena, effects->findings, effects->finding_count, sizeof *effects->findings);
    effects->findings[effects->finding_count++] =
        (struct flow_finding){.step = step->id,
                              .name = arena_str(arena, str_slice(name, 0, NAME_MAX_LEN)),
                              .text = arena_str(arena, str_slice(text, 0, TEXT_MAX_LEN))};
}

void flow_set_score(struct flow_running *running, double score)
{
    struct flow_effects *effects = effects_of(running);
    effects->scored = true;
    effects->score = score;
    running->facts.checks->score = score;
}

/* ---- limits ---- */

const struct flow_limits *flow_limits_of(const struct flow_running *running)
{
    return running->run->limits ? running->run->limits : &flow_limits_default;
}

static enum result over(const struct flow_running *running, struct error *err, const char *what,
                        uint64_t max)
{
    enum result result =
        fail(err, ERROR_LIMIT, "the message has more than %llu %s", (unsigned long long)max, what);
    event_emit(EVENT_LIMIT_REACHED, F_STR(FLOW, running->flow->name),
               F_STR(LISTENER, running->facts.listener), F_C(LIMIT, what), F_INT(COUNT, max));
    return result;
}

enum result flow_spend(struct flow_running *running, enum flow_budget budget, uint64_t amount,
                       struct error *err)
{
    const struct flow_limits *limits = flow_limits_of(running);
    struct flow_spent *spent = &running->spent;
    switch (budget) {
    case FLOW_BUDGET_MEMORY:
        spent->memory += amount;
        if (spent->memory > limits->memory)
            return over(running, err, "bytes of working memory", limits->memory);
        return OK;
    case FLOW_BUDGET_DECODED:
        spent->decoded += amount;
        if (spent->decoded > limits->decoded)
            return over(running, err, "decoded bytes", limits->decoded);
        return OK;
    case FLOW_BUDGET_PARTS:
        spent->parts += (int64_t)amount;
        if (spent->parts > limits->parts)
            return over(running, err, "parts", (uint64_t)limits->parts);
        return OK;
    }
    return OK;
}

/* ---- the body ---- */

uint64_t flow_body_size(const struct flow_running *running)
{
    uint64_t size = mail_content_size(running->run->content);
    size_t header = running->facts.header.len;
    return size > header ? size - header : 0;
}

enum result flow_body_read(const struct flow_running *running, uint64_t offset, size_t size,
                           char *space, struct str *out_data, struct error *err)
{
    return mail_content_read(running->run->content, offset + running->facts.header.len, size, space,
                             out_data, err);
}

static void release_body(void *body)
{
    body_unref(body);
}

void flow_body_keep(struct flow_running *running, struct body *body)
{
    arena_hook(running->run->arena, release_body, body);
}

void flow_body_replace(struct flow_running *running, struct body *body, bool has_8bit)
{
    struct mail_content *content = running->run->content;
    struct str own;
    struct str trace = flow_head_split(running, &own);
    flow_body_keep(running, body);
    flow_head_replace(running, running->facts.header, trace.len, own.len);
    content->body = body;
    content->body_start = 0;
    running->has_new_body = true;
    running->mime = NULL;
    running->facts.size = mail_content_size(content);
    effects_of(running)->has_8bit |= has_8bit;
}
