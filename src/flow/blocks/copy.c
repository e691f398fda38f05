/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/copy.c - sends a copy of the message, as it is at this step, to somebody (archive).
 *
 * The copy is a message of the gateway's: it fails to postmaster, never to the sender, who must not
 * learn of it. It runs through no flow.
 */
#include "flow/blocks.h"
#include "flow/text.h"

enum { COPIED, ERROR };
enum { ENVELOPE_MAX = 1024 * 1024 };

struct parameters {
    struct option_texts to;
    struct str sender;
    bool envelope;
};
struct prepared {
    struct mail_recipient *to;
    size_t count;
};

static const struct option options[] = {
    {.name = "to",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, to),
     .text = "addresses",
     .required = true},
    {.name = "sender",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, sender),
     .text = "envelope sender of the copy; default: <>"},
    {.name = "envelope",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, envelope),
     .fallback = "false",
     .text = "put X-Envelope-From and an X-Envelope-To for each recipient on top of the copy: an "
             "archive cannot know who got the message otherwise"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "copy",
    .text = "Sends a copy of the message as it is at this step; the sender does not learn of it.",
    .options = options,
    .shorthand = "to",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [COPIED] = {.name = "copied",
                .action = ACTION_NEXT,
                .text = "the copy goes with the message: not if that is deferred"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.5 Try again later",
               .reason = MAIL_REASON_TRANSPORT_MISSING,
               .text = "no domain takes mail for the address, or there are too many copies"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    struct mail_recipient sender;
    prepared->to = arena_alloc_array(arena, parameters->to.count + 1, sizeof *prepared->to);
    for (size_t i = 0; i < parameters->to.count; i++)
        prepared->count +=
            flow_compile_address(compiling, parameters->to.items[i], parameters->to.places[i],
                                 &prepared->to[prepared->count]);
    if (parameters->sender.len &&
        flow_compile_address(compiling, parameters->sender,
                             flow_place_of(node, "sender", step->place), &sender))
        parameters->sender = sender.address;
    step->prepared = prepared;
}

static struct mail_content snapshot(struct flow_running *running, bool envelope)
{
    struct mail_content content = *running->run->content;
    struct arena *arena = running->run->arena;
    struct buf head BUF_CLEANUP;
    buf_init(&head, ENVELOPE_MAX + content.head.len);
    if (!envelope)
        return content;
    buf_printf(&head, "X-Envelope-From: <%.*s>\r\n", STR_ARG(running->facts.sender));
    for (size_t i = 0; i < running->facts.recipient_count && head.len < ENVELOPE_MAX; i++)
        buf_printf(&head, "X-Envelope-To: <%.*s>\r\n",
                   STR_ARG(running->facts.recipients[i].address));
    buf_append(&head, content.head);
    content.head = arena_str(arena, buf_str(&head));
    return content;
}

static bool is_taken(const struct flow_running *running, struct str domain)
{
    const struct flow_ways *ways = running->run->ways;
    return !ways || ways->is_taken(ways->context, domain);
}

static enum result run(struct flow_running *running, const struct flow_step *step,
                       unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct prepared *prepared = step->prepared;
    struct arena *arena = running->run->arena;
    *out_outcome = ERROR;
    for (size_t i = 0; i < prepared->count; i++) {
        if (is_taken(running, prepared->to[i].domain))
            continue;
        running->detail = arena_printf(arena, "no domain takes mail for <%.*s>",
                                       STR_ARG(prepared->to[i].address));
        return OK;
    }
    const struct flow_effects *effects = &running->verdict->effects;
    struct flow_extra extra = {.kind = FLOW_COPY,
                               .sender = parameters->sender,
                               .has_8bit = effects->has_8bit,
                               .seven_bit = effects->seven_bit,
                               .step = step->id};
    if (!step->observe)
        extra.content = snapshot(running, parameters->envelope);
    for (size_t i = 0; i < prepared->count && !step->observe; i++) {
        extra.to = prepared->to[i];
        if (flow_add_extra(running, &extra, err) != OK) {
            running->detail = arena_str(arena, str_c(err->text));
            return OK;
        }
    }
    running->detail = prepared->count ? prepared->to[0].address : STR_EMPTY;
    *out_outcome = COPIED;
    return OK;
}

const struct flow_block flow_block_copy = {
    .name = "copy",
    .text = "sends a copy to somebody",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
};
