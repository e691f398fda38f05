/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/milter.c - shows the message to a milter, and does what it wants.
 *
 * The milter is told the session and the message from the beginning, whatever it wants to hear of
 * them: a content flow begins when all of it is there.
 */
#include "flow/blocks.h"

#include "flow/milter_changes.h"
#include "flow/scan_options.h"

#include <string.h>

enum { ACCEPTED, CHANGED, REFUSED, DEFERRED, DISCARDED, QUARANTINED, TOO_BIG, ERROR };

struct parameters {
    struct str server;
    int recipients; /* enum milter_recipients */
    uint64_t max_size;
};

static const struct option_word recipient_words[] = {{"none", MILTER_RECIPIENTS_NONE},
                                                     {"listed", MILTER_RECIPIENTS_LISTED},
                                                     {"any", MILTER_RECIPIENTS_ANY},
                                                     {NULL, 0}};
static const struct option options[] = {
    FLOW_SCAN_SERVER_ROW("a server with milter:"),
    {.name = "recipients",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, recipients),
     .text = "which recipients it may add: of domains that the file lists, any, or none (then it "
             "may not take off any either, and one that insists gives no answer)",
     .fallback = "listed",
     .words = recipient_words},
    FLOW_SCAN_SIZE_ROW("100M", "larger messages are not shown"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "milter",
    .text =
        "Asks a milter (protocol version 2 to 6), and does what it wants: fields, body, sender, "
        "recipients.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [ACCEPTED] = {.name = "accepted",
                  .key = "accepted",
                  .action = ACTION_NEXT,
                  .text = "it has nothing against the message and changed nothing"},
    [CHANGED] = {.name = "changed",
                 .key = "changed",
                 .action = ACTION_NEXT,
                 .text = "it changed the message or its envelope; what, is in the trace"},
    [REFUSED] = {.name = "refused",
                 .key = "refused",
                 .action = ACTION_REJECT,
                 .reply = "554 5.7.1 This message was refused",
                 .reason = MAIL_REASON_POLICY,
                 .text = "it refuses the message, or one of its recipients; its own words are told "
                         "to the client"},
    [DEFERRED] = {.name = "deferred",
                  .key = "deferred",
                  .action = ACTION_DEFER,
                  .reply = "451 4.7.1 Try again later",
                  .reason = MAIL_REASON_POLICY,
                  .text = "it wants the client to come again"},
    [DISCARDED] = {.name = "discarded",
                   .key = "discarded",
                   .action = ACTION_DISCARD,
                   .text = "it wants the message to vanish, or took off all recipients"},
    [QUARANTINED] = {.name = "quarantined",
                     .key = "quarantined",
                     .action = ACTION_HOLD,
                     .reason = MAIL_REASON_POLICY,
                     .text = "it wants a person to look at the message"},
    [TOO_BIG] = {.name = "too-big",
                 .key = "too-big",
                 .action = ACTION_NEXT,
                 .reply = "552 5.3.4 This message is too large to be scanned",
                 .reason = MAIL_REASON_SIZE,
                 .text = "the message is larger than max_size: the milter was not asked"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 The filter does not answer, try again later",
               .reason = MAIL_REASON_BACKEND_DOWN,
               .text =
                   "the milter gave no answer, or wants what cannot be done; nothing is changed "
                   "then"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    step->prepared = flow_compile_server(compiling, parameters->server, 1u << SERVER_MILTER,
                                         flow_place_of(node, "server", step->place));
}

/* ---- the question ---- */

#define AT(stage) (1u << MILTER_AT_##stage)

static struct str message_id(const struct flow_running *running)
{
    struct mail_field field;
    if (!mail_header_find(running->facts.header, STR("Message-ID"), &field))
        return STR_EMPTY;
    return mail_field_text(running->run->arena, &field);
}

static void list_macros(const struct flow_running *running, struct milter_question *question)
{
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    char text[NET_IP_TEXT];
    struct str ip = arena_str(arena, net_ip_format(&facts->client, text));
    struct str id = arena_str(arena, str_c(mail_id_text(facts->message).chars));
    struct str name = facts->client_name.len ? facts->client_name : STR("unknown");
    const unsigned message = AT(MAIL) | AT(RECIPIENT) | AT(DATA) | AT(END_OF_HEADERS) | AT(END);
    const struct milter_macro macros[] = {
        {"j", running->run->hostname, AT(CONNECT)},
        {"_", arena_printf(arena, "%.*s [%.*s]", STR_ARG(name), STR_ARG(ip)), AT(CONNECT)},
        {"v", STR("Postern"), AT(CONNECT)},
        {"{daemon_name}", facts->listener, AT(CONNECT)},
        {"{client_addr}", ip, AT(CONNECT)},
        {"{client_name}", name, AT(CONNECT)},
        {"{client_ptr}", name, AT(CONNECT)},
        {"{tls_version}", facts->tls, AT(HELO)},
        {"{cipher}", facts->cipher, AT(HELO)},
        {"i", id, message},
        {"{auth_authen}", facts->user, AT(MAIL)},
        {"{auth_type}", facts->mechanism, AT(MAIL)},
        {"{mail_addr}", facts->sender, AT(MAIL)},
        {"{mail_host}", facts->sender_domain, AT(MAIL)},
        {"{mail_mailer}", STR("smtp"), AT(MAIL)},
        {"{nrcpts}", arena_printf(arena, "%zu", facts->recipient_count), AT(DATA)},
        {"{msg_id}", message_id(running), AT(END)},
        {"r", facts->authenticated ? STR("ESMTPA") : STR("ESMTP"), 0},
    };
    struct milter_macro *list = arena_alloc(arena, sizeof macros);
    memcpy(list, macros, sizeof macros);
    question->macros = list;
    question->macro_count = sizeof macros / sizeof *macros;
}

static unsigned actions_of(const struct parameters *parameters)
{
    unsigned recipients = MILTER_MAY_ADD_RECIPIENTS | MILTER_MAY_DELETE_RECIPIENTS |
                          MILTER_MAY_ADD_RECIPIENTS_WITH_PARAMETERS;
    return parameters->recipients == MILTER_RECIPIENTS_NONE ? MILTER_MAY_ALL & ~recipients
                                                            : MILTER_MAY_ALL;
}

static MAY_YIELD enum result ask(struct flow_running *running, const struct flow_step *step,
                                 const struct header_edit *edit, struct milter_opinion *out,
                                 struct error *err)
{
    const struct flow_facts *facts = &running->facts;
    const struct flow_limits *limits = flow_limits_of(running);
    struct arena *arena = running->run->arena;
    struct mail_field *fields;
    struct milter_question question = {
        .client = facts->client,
        .client_name = facts->client_name,
        .helo = facts->helo,
        .sender = facts->sender,
        .sender_parameters = arena_printf(arena, "SIZE=%llu%s", (unsigned long long)facts->size,
                                          facts->smtputf8 ? " SMTPUTF8" : ""),
        .recipients = facts->recipients,
        .recipient_count = facts->recipient_count,
        .content = running->run->content,
        .body_begin = facts->header.len,
        .actions = actions_of(step->parameters),
        .body_max =
            limits->memory > running->spent.memory ? limits->memory - running->spent.memory : 0,
    };
    list_macros(running, &question);
    header_edit_shown(edit, &fields, &question.field_count);
    question.fields = fields;
    struct scanner scanner = flow_scanner(running, step->prepared);
    return milter_ask(&scanner, &question, arena, out, err);
}

/* ---- the answer ---- */

static void say(struct flow_running *running, const struct error *err)
{
    running->detail = arena_str(running->run->arena, str_c(err->text));
}

static unsigned refuse(struct flow_running *running, const struct milter_opinion *opinion)
{
    struct arena *arena = running->run->arena;
    bool defers = opinion->verdict == MILTER_VERDICT_DEFER;
    if (opinion->reply.len && mail_reply_parse(opinion->reply, &running->reply) &&
        running->reply.code == 421)
        running->reply.code = 451; /* the session is not the milter's to end */
    running->detail =
        arena_printf(arena, "%.*s%s%.*s", STR_ARG(opinion->reply),
                     opinion->recipient.len ? " of " : "", STR_ARG(opinion->recipient));
    return defers ? DEFERRED : REFUSED;
}

static unsigned judge(struct flow_running *running, const struct flow_step *step,
                      const struct milter_changes *changes, const struct milter_opinion *opinion)
{
    running->detail = milter_changes_words(changes, opinion, running->run->arena);
    if (opinion->verdict == MILTER_VERDICT_DISCARD ||
        (changes->has_recipients && changes->recipient_count == 0))
        return DISCARDED;
    if (changes->quarantine.ptr) {
        flow_add_finding(running, step, STR("milter"), changes->quarantine);
        running->detail = changes->quarantine;
        return QUARANTINED;
    }
    return running->detail.len ? CHANGED : ACCEPTED;
}

static enum result act(struct flow_running *running, const struct flow_step *step,
                       struct milter_changes *changes, struct milter_opinion *opinion,
                       unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    *out_outcome = ERROR;
    if (opinion->verdict == MILTER_VERDICT_REJECT || opinion->verdict == MILTER_VERDICT_DEFER) {
        *out_outcome = refuse(running, opinion);
        return OK;
    }
    if (milter_changes_read(changes, running, opinion,
                            (enum milter_recipients)parameters->recipients, err) != OK) {
        say(running, err);
        return OK;
    }
    unsigned outcome = judge(running, step, changes, opinion);
    if (!step->observe && outcome != DISCARDED &&
        milter_changes_apply(changes, running, opinion, err) != OK) {
        say(running, err);
        return OK;
    }
    *out_outcome = outcome;
    return OK;
}

static unsigned judge_stated(struct flow_running *running,
                             const struct directory_stated_source *stated)
{
    static const unsigned by_verdict[] = {
        [DIRECTORY_STATED_ACCEPT] = ACCEPTED,   [DIRECTORY_STATED_REJECT] = REFUSED,
        [DIRECTORY_STATED_DEFER] = DEFERRED,    [DIRECTORY_STATED_HOLD] = QUARANTINED,
        [DIRECTORY_STATED_DISCARD] = DISCARDED, [DIRECTORY_STATED_QUARANTINE] = QUARANTINED};
    if (!stated)
        return ERROR;
    running->detail = STR("stated");
    return stated->too_big ? TOO_BIG : by_verdict[stated->verdict];
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct directory_stated_source *stated;
    struct milter_changes changes = {.sender = STR_EMPTY};
    struct milter_opinion opinion = {.reply = STR_EMPTY};
    if (running->facts.size > parameters->max_size) {
        *out_outcome = TOO_BIG;
        return OK;
    }
    if (flow_scan_is_stated(running, step->prepared, &stated)) {
        *out_outcome = judge_stated(running, stated);
        return OK;
    }
    header_edit_begin(&changes.edit, running);
    if (ask(running, step, &changes.edit, &opinion, err) != OK) {
        *out_outcome = ERROR;
        say(running, err);
        return OK;
    }
    enum result result = act(running, step, &changes, &opinion, out_outcome, err);
    body_unref(opinion.body);
    return result;
}

/* Any address that the file does not list is one that it may send to only where that was said. */
static bool may_leave(const struct flow_step *step, const struct flow_relay_case *relay)
{
    const struct parameters *parameters = step->parameters;
    (void)relay;
    return parameters->recipients == MILTER_RECIPIENTS_ANY;
}

/* To which of the listed domains is the milter's own choice. */
static bool may_enter(const struct flow_step *step, const struct flow_relay_case *relay,
                      struct str name)
{
    const struct parameters *parameters = step->parameters;
    (void)relay, (void)name;
    return parameters->recipients != MILTER_RECIPIENTS_NONE;
}

const struct flow_block flow_block_milter = {
    .name = "milter",
    .text = "shows the message to a milter, and does what it wants",
    .flows = FLOW_IN_CONTENT,
    .may_rewrite = true,
    .may_leave = may_leave,
    .may_enter = may_enter,
    .enter_fix = "\"recipients: none\" at a milter that need not change them; or accept strangers' "
                 "recipients only behind a lookup that knows them",
    .breaks_signatures = true,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .changes_field = flow_changes_any_field,
    .finds = true,
};
