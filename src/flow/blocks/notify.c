/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/notify.c - tells somebody about the message, in a message of our own.
 *
 * It must not do harm: it comes from <> and says Auto-Submitted (RFC 3834), it is at most so many
 * in a time, and of the message's own people only those are told who are ours: the sender if he
 * logged in (and did not himself send automatically), recipients at listed domains.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "flow/blocks.h"
#include "flow/text.h"
#include "mail/header.h"

enum { NOTIFIED, SKIPPED, SUPPRESSED, ERROR };
enum { TEXT_MAX = 128 * 1024, QUOTED_MAX = 32 * 1024, TOLD_MAX = 20 };

struct parameters {
    struct option_texts to;
    struct str subject;
    struct str text;
    bool header;
    struct option_rate at_most;
};
struct target {
    enum { TO_ADDRESS, TO_POSTMASTER, TO_SENDER, TO_RECIPIENTS } kind;
    struct mail_recipient address;
};
struct prepared {
    struct target *targets;
    size_t count;
};
/* Who is told. One who is told as a recipient of the message does not hear of the others: they may
 * be blind copies. */
struct listener {
    struct mail_recipient to;
    bool as_recipient;
};

static const struct option options[] = {
    {.name = "to",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, to),
     .text = "addresses; or postmaster; sender (if he logged in); recipients (at listed domains)",
     .required = true},
    {.name = "subject",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, subject),
     .fallback = "\"Notice about a message from {sender}\"",
     .text = "with the same words in braces as text"},
    {.name = "text",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, text),
     .fallback = "\"\"",
     .text = "before the facts; {sender} {recipients} {subject} {user} {client} {findings} {score} "
             "{message} stand for those of the message; a recipient reads of no other recipient"},
    {.name = "header",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, header),
     .fallback = "true",
     .text = "quote the header section of the message"},
    {.name = "at_most",
     .type = OPTION_RATE,
     .offset = offsetof(struct parameters, at_most),
     .fallback = "60/1h",
     .text = "notices of this step to one address"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "notify",
    .text = "Sends a notice about the message. It comes from <>, and never goes to strangers who "
            "are not named here.",
    .options = options,
    .shorthand = "to",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [NOTIFIED] = {.name = "notified",
                  .action = ACTION_NEXT,
                  .text = "the notice goes with the message: not if that is deferred"},
    [SKIPPED] = {.name = "skipped",
                 .key = "skipped",
                 .action = ACTION_NEXT,
                 .text = "there is nobody who may be told"},
    [SUPPRESSED] = {.name = "suppressed",
                    .key = "suppressed",
                    .action = ACTION_NEXT,
                    .text = "there were too many notices lately"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_NOTE,
               .text = "no domain takes mail for the address"},
    {.name = NULL},
};

/* ---- at load ---- */

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = compiling->context->option.arena;
    struct prepared *prepared = ARENA_NEW(arena, struct prepared);
    prepared->targets =
        arena_alloc_array(arena, parameters->to.count + 1, sizeof *prepared->targets);
    step->prepared = prepared;
    for (size_t i = 0; i < parameters->to.count; i++) {
        struct str text = parameters->to.items[i];
        struct target *target = &prepared->targets[prepared->count];
        target->kind = str_equal(text, STR("postmaster"))   ? TO_POSTMASTER
                       : str_equal(text, STR("sender"))     ? TO_SENDER
                       : str_equal(text, STR("recipients")) ? TO_RECIPIENTS
                                                            : TO_ADDRESS;
        if (target->kind == TO_ADDRESS &&
            !flow_compile_address(compiling, text, parameters->to.places[i], &target->address))
            continue;
        prepared->count++;
    }
    if (!flow_text_is_clean(parameters->subject, false))
        flow_problem(compiling, CONFIG_ERROR, "bad-header",
                     flow_place_of(node, "subject", step->place), "this cannot stand in a subject");
    if (!flow_text_is_clean(parameters->text, true))
        flow_problem(compiling, CONFIG_ERROR, "wrong-value",
                     flow_place_of(node, "text", step->place), "this is no text in UTF-8");
}

/* ---- the words ---- */

static struct str subject_of(const struct flow_running *running)
{
    struct mail_field field;
    if (!mail_header_find(running->facts.header, STR("Subject"), &field))
        return STR_EMPTY;
    return str_slice(mail_field_text(running->run->arena, &field), 0, 500);
}

static struct str recipients_text(const struct flow_running *running,
                                  const struct listener *listener)
{
    const struct flow_facts *facts = &running->facts;
    if (listener->as_recipient)
        return listener->to.address;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 8192);
    for (size_t i = 0; i < facts->recipient_count && i < TOLD_MAX; i++)
        buf_printf(&text, "%s%.*s", i ? ", " : "", STR_ARG(facts->recipients[i].address));
    if (facts->recipient_count > TOLD_MAX)
        buf_printf(&text, " and %zu more", facts->recipient_count - TOLD_MAX);
    return arena_str(running->run->arena, buf_str(&text));
}

static struct str findings_text(const struct flow_running *running)
{
    struct buf text BUF_CLEANUP;
    const struct flow_effects *effects = &running->verdict->effects;
    buf_init(&text, 16384);
    for (size_t i = 0; i < effects->finding_count && text.len < 12000; i++)
        buf_printf(&text, "%s%.*s", i ? ", " : "", STR_ARG(effects->findings[i].name));
    return arena_str(running->run->arena, buf_str(&text));
}

static struct str word_of(const struct flow_running *running, const struct listener *listener,
                          struct str name)
{
    struct arena *arena = running->run->arena;
    const struct flow_facts *facts = &running->facts;
    char ip[NET_IP_TEXT];
    double score = running->verdict->effects.score;
    if (str_equal(name, STR("sender")))
        return facts->sender.len ? facts->sender : STR("<>");
    if (str_equal(name, STR("recipients")))
        return recipients_text(running, listener);
    if (str_equal(name, STR("subject")))
        return subject_of(running);
    if (str_equal(name, STR("user")))
        return facts->user;
    if (str_equal(name, STR("client")))
        return arena_str(arena, net_ip_format(&facts->client, ip));
    if (str_equal(name, STR("findings")))
        return findings_text(running);
    if (str_equal(name, STR("score")))
        return arena_printf(arena, "%.4g", score);
    if (str_equal(name, STR("message")))
        return arena_str(arena, str_c(mail_id_text(facts->message).chars));
    return STR_EMPTY;
}

/* Words in braces that are none stay as they are. */
static struct str fill_in(const struct flow_running *running, const struct listener *listener,
                          struct str form)
{
    static const char *const names[] = {"sender", "recipients", "subject", "user",
                                        "client", "findings",   "score",   "message"};
    struct buf out BUF_CLEANUP;
    buf_init(&out, TEXT_MAX);
    while (form.len) {
        ptrdiff_t end = form.ptr[0] == '{' ? str_find(form, '}') : -1;
        struct str name = end > 0 ? str_slice(form, 1, (size_t)end) : STR_EMPTY;
        bool known = false;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            known |= str_equal(name, str_c(names[i]));
        if (known)
            buf_append(&out, word_of(running, listener, name));
        else
            buf_append_byte(&out, form.ptr[0]);
        form = str_from(form, known ? (size_t)end + 1 : 1);
    }
    return arena_str(running->run->arena, buf_str(&out));
}

/* ---- the message ---- */

static void append_fact(const struct flow_running *running, const struct listener *listener,
                        const char *label, const char *name, struct buf *out)
{
    struct str value = word_of(running, listener, str_c(name));
    if (!value.len)
        return;
    buf_printf(out, "%-12s", label);
    flow_text_append(value, out);
    buf_append(out, STR("\r\n"));
}

static struct str text_of(const struct flow_running *running, const struct parameters *parameters,
                          const struct listener *listener)
{
    struct buf out BUF_CLEANUP;
    buf_init(&out, TEXT_MAX);
    if (parameters->text.len) {
        flow_text_append(fill_in(running, listener, parameters->text), &out);
        buf_append(&out, STR("\r\n\r\n"));
    }
    append_fact(running, listener, "From:", "sender", &out);
    append_fact(running, listener, "To:", "recipients", &out);
    append_fact(running, listener, "Subject:", "subject", &out);
    append_fact(running, listener, "User:", "user", &out);
    append_fact(running, listener, "Client:", "client", &out);
    append_fact(running, listener, "Findings:", "findings", &out);
    append_fact(running, listener, "Message:", "message", &out);
    if (parameters->header) {
        struct str own = str_slice(running->facts.header, 0, QUOTED_MAX);
        buf_append(&out, STR("\r\n--- The header of the message ---\r\n\r\n"));
        flow_text_append(own, &out);
    }
    return arena_str(running->run->arena, buf_str(&out));
}

static struct str from_of(const struct flow_running *running)
{
    const struct flow_ways *ways = running->run->ways;
    if (ways && ways->postmaster.len)
        return ways->postmaster;
    return arena_printf(running->run->arena, "postmaster@%.*s", STR_ARG(running->run->hostname));
}

static struct str head_of(const struct flow_running *running, const struct parameters *parameters,
                          const struct listener *listener, struct mail_id id, bool ascii)
{
    struct buf subject BUF_CLEANUP, head BUF_CLEANUP, clean BUF_CLEANUP;
    char date[TIME_RFC5322_SIZE];
    buf_init(&subject, 16384);
    buf_init(&clean, 8192);
    buf_init(&head, 65536);
    flow_text_append(str_slice(fill_in(running, listener, parameters->subject), 0, 800), &clean);
    flow_text_encode(str_trim(buf_str(&clean)), &subject);
    struct str now = clock_format_rfc5322(clock_wall_ns(), date);
    buf_printf(&head,
               "From: Mail gateway <%.*s>\r\nTo: <%.*s>\r\nSubject: %.*s\r\nDate: %.*s\r\n"
               "Message-ID: <%s@%.*s>\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
               "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n",
               STR_ARG(from_of(running)), STR_ARG(listener->to.address), STR_ARG(buf_str(&subject)),
               STR_ARG(now), mail_id_text(id).chars, STR_ARG(running->run->hostname),
               ascii ? "7bit" : "8bit");
    return arena_str(running->run->arena, buf_str(&head));
}

static enum result build(struct flow_running *running, const struct flow_step *step,
                         const struct listener *listener, struct error *err) MAY_YIELD
{
    const struct parameters *parameters = step->parameters;
    struct str text = text_of(running, parameters, listener);
    bool ascii = flow_text_is_ascii(text);
    struct body *body = body_memory_new(TEXT_MAX);
    flow_body_keep(running, body);
    struct mail_id id = mail_id_new();
    struct flow_extra extra = {.kind = FLOW_NOTICE,
                               .to = listener->to,
                               .sender = STR_EMPTY,
                               .message = id,
                               .has_8bit = !ascii,
                               .step = step->id};
    extra.to.notify = 0;
    extra.to.orcpt = STR_EMPTY;
    extra.content.head = head_of(running, parameters, listener, id, ascii);
    extra.content.body = body;
    if (body_append(body, text, err) != OK || body_seal(body, err) != OK)
        return FAILED;
    return flow_add_extra(running, &extra, err);
}

/* ---- who ---- */

static bool is_automatic(const struct flow_running *running)
{
    struct mail_field field;
    if (!running->facts.sender.len)
        return true;
    return mail_header_find(running->facts.header, STR("Auto-Submitted"), &field) &&
           !str_equal_nocase(mail_field_text(running->run->arena, &field), STR("no"));
}

struct told {
    struct listener *items;
    size_t count, cap;
};

static bool is_ours(const struct flow_running *running, struct str domain)
{
    const struct flow_ways *ways = running->run->ways;
    return ways && ways->is_listed(ways->context, domain);
}

/* Each address once, however often it is named. */
static void add(struct told *told, const struct mail_recipient *to, bool as_recipient)
{
    for (size_t i = 0; i < told->count; i++)
        if (str_equal_nocase(told->items[i].to.address, to->address))
            return;
    if (told->count < told->cap)
        told->items[told->count++] = (struct listener){.to = *to, .as_recipient = as_recipient};
}

static void add_address(const struct flow_running *running, struct str text, struct told *told)
{
    struct mail_address address;
    struct arena *arena = running->run->arena;
    if (mail_address_parse(arena, text, false, true, &address) != MAIL_ADDRESS_OK ||
        address.kind != MAIL_DOMAIN_NAME)
        return;
    struct mail_recipient to = {.address = mail_address_text(arena, &address),
                                .domain = address.domain};
    add(told, &to, /* as_recipient= */ false);
}

static void gather(const struct flow_running *running, const struct prepared *prepared,
                   struct told *told)
{
    const struct flow_facts *facts = &running->facts;
    const struct flow_ways *ways = running->run->ways;
    bool own = facts->authenticated || facts->trusted;
    told->cap = prepared->count + TOLD_MAX;
    told->items = arena_alloc_array(running->run->arena, told->cap, sizeof *told->items);
    for (size_t i = 0; i < prepared->count; i++) {
        const struct target *target = &prepared->targets[i];
        if (target->kind == TO_ADDRESS)
            add(told, &target->address, /* as_recipient= */ false);
        else if (target->kind == TO_POSTMASTER && ways)
            add_address(running, ways->postmaster, told);
        else if (target->kind == TO_SENDER && own && !is_automatic(running) &&
                 is_ours(running, facts->sender_domain))
            add_address(running, facts->sender, told);
        size_t all = target->kind == TO_RECIPIENTS ? facts->recipient_count : 0;
        for (size_t k = 0; k < all && k < TOLD_MAX; k++)
            if (is_ours(running, facts->recipients[k].domain))
                add(told, &facts->recipients[k], /* as_recipient= */ true);
    }
}

static enum result is_too_much(struct flow_running *running, const struct flow_step *step,
                               struct str address, bool *out_too_much, struct error *err) MAY_YIELD
{
    const struct parameters *parameters = step->parameters;
    struct arena *arena = running->run->arena;
    struct state_limit_answer answer;
    struct str key = arena_printf(arena, "limit:%.*s:notices:%.*s", STR_ARG(step->key),
                                  STR_ARG(arena_lower(arena, address)));
    if (state_limit(running->run->state, key, 1, parameters->at_most.count,
                    parameters->at_most.period_ns, /* peek= */ step->observe, &answer, err) != OK)
        return FAILED;
    *out_too_much = !answer.allowed;
    return OK;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    struct told told = {.count = 0};
    const struct flow_ways *ways = running->run->ways;
    bool too_much = false;
    *out_outcome = SKIPPED;
    gather(running, step->prepared, &told);
    for (size_t i = 0; i < told.count; i++) {
        const struct mail_recipient *to = &told.items[i].to;
        if (ways && !ways->is_taken(ways->context, to->domain)) {
            running->detail = arena_printf(running->run->arena, "no domain takes mail for <%.*s>",
                                           STR_ARG(to->address));
            *out_outcome = ERROR;
            return OK;
        }
        if (is_too_much(running, step, to->address, &too_much, err) != OK)
            return FAILED;
        if (too_much) {
            *out_outcome = *out_outcome == SKIPPED ? SUPPRESSED : *out_outcome;
            continue;
        }
        if (!step->observe && build(running, step, &told.items[i], err) != OK)
            return FAILED;
        running->detail = to->address;
        *out_outcome = NOTIFIED;
    }
    return OK;
}

const struct flow_block flow_block_notify = {
    .name = "notify",
    .text = "tells somebody about the message",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_no_field,
};
