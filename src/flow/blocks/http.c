/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/http.c - asks a web service what is to become of a recipient or a message.
 *
 * What it is told are facts as JSON (and the message, where the file says so); what it says is a
 * verdict, and fields to put in or take out. It chooses no way and no recipients.
 */
#include "flow/blocks.h"

#include "base/buf.h"
#include "content/hook.h"
#include "flow/expression_internal.h"
#include "flow/header_edit.h"
#include "flow/scan_options.h"
#include "flow/text.h"

enum { ACCEPTED, REFUSED, DEFERRED, HELD, QUARANTINED, DISCARDED, TOO_BIG, ERROR };
enum { FACTS_MAX = 4 * 1024 * 1024, VALUE_MAX = 32 * 1024 };
enum sends { SENDS_NOTHING, SENDS_HEADER, SENDS_ALL };

struct parameters {
    struct str server;
    int message; /* enum sends */
    uint64_t max_size;
};

static const struct option_word sends_words[] = {
    {"none", SENDS_NOTHING}, {"header", SENDS_HEADER}, {"whole", SENDS_ALL}, {NULL, 0}};
static const struct option options[] = {
    FLOW_SCAN_SERVER_ROW("a server with http:"),
    {.name = "message",
     .type = OPTION_WORD,
     .offset = offsetof(struct parameters, message),
     .text =
         "what it sees of the message besides the facts: nothing, its header section, or all of "
         "it; content flows only",
     .fallback = "none",
     .words = sends_words},
    FLOW_SCAN_SIZE_ROW("100M", "with message: whole, nobody is asked about larger messages"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "http",
    .text = "Asks a web service: facts as JSON in a POST, a verdict as JSON in its answer.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [ACCEPTED] = {.name = "accepted",
                  .key = "accepted",
                  .action = ACTION_NEXT,
                  .text = "it says accept, or nothing (204)"},
    [REFUSED] = {.name = "refused",
                 .key = "refused",
                 .action = ACTION_REJECT,
                 .reply = "550 5.7.1 Not accepted",
                 .reason = MAIL_REASON_POLICY,
                 .text = "it says reject; its reply is told to the client"},
    [DEFERRED] = {.name = "deferred",
                  .key = "deferred",
                  .action = ACTION_DEFER,
                  .reply = "451 4.7.1 Try again later",
                  .reason = MAIL_REASON_POLICY,
                  .text = "it says defer"},
    [HELD] = {.name = "held",
              .key = "held",
              .action = ACTION_HOLD,
              .reason = MAIL_REASON_POLICY,
              .text = "it says hold; content flows only"},
    [QUARANTINED] = {.name = "quarantined",
                     .key = "quarantined",
                     .action = ACTION_HOLD,
                     .reason = MAIL_REASON_POLICY,
                     .text = "it says quarantine; held, unless a quarantine is named here; content "
                             "flows only"},
    [DISCARDED] = {.name = "discarded",
                   .key = "discarded",
                   .action = ACTION_DISCARD,
                   .text = "it says discard; content flows only"},
    [TOO_BIG] = {.name = "too-big",
                 .key = "too-big",
                 .action = ACTION_NEXT,
                 .reply = "552 5.3.4 This message is too large to be looked at",
                 .reason = MAIL_REASON_SIZE,
                 .text = "the message is larger than max_size: nobody was asked"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 A service does not answer, try again later",
               .reason = MAIL_REASON_BACKEND_DOWN,
               .text = "it gave no answer, or one that is none"},
    {.name = NULL},
};

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    struct config_place place = flow_place_of(node, "server", step->place);
    const struct server *server =
        flow_compile_server(compiling, parameters->server, 1u << SERVER_HTTP, place);
    step->prepared = server;
    if (server && server->password.len && !server->tls_context && !server_is_loopback(server))
        flow_problem(compiling, CONFIG_WARNING, "cleartext-credentials", place,
                     "the password travels to server \"%.*s\" without TLS", STR_ARG(server->name))
            ->fix = STR("write https:// in its URL");
    if (compiling->flow->type != FLOW_CONTENT && parameters->message != SENDS_NOTHING)
        flow_problem(compiling, CONFIG_ERROR, "illegal-step",
                     flow_place_of(node, "message", step->place),
                     "there is no message in recipient flows")
            ->fix = STR("leave out message");
}

/* ---- the facts ---- */

/* JSON is UTF-8, and what clients say of themselves need not be. */
static void add_value(struct buf *out, struct str text)
{
    struct buf mended BUF_CLEANUP;
    buf_init(&mended, text.len + 1);
    if (flow_text_is_clean(text, /* lines_allowed= */ true)) {
        option_print_json(text, out);
        return;
    }
    for (size_t i = 0; i < text.len; i++)
        buf_append_byte(&mended, (unsigned char)text.ptr[i] > 126 ? '?' : text.ptr[i]);
    option_print_json(buf_str(&mended), out);
}

static void add_text(struct buf *out, const char *name, struct str text)
{
    buf_printf(out, ",\"%s\":", name);
    add_value(out, text);
}

static void add_session(struct buf *out, const struct flow_facts *facts)
{
    char text[NET_IP_TEXT];
    add_text(out, "listener", facts->listener);
    buf_append(out, STR(",\"client\":{\"address\":"));
    add_value(out, net_ip_format(&facts->client, text));
    add_text(out, "name", facts->client_name);
    add_text(out, "helo", facts->helo);
    add_text(out, "tls", facts->tls);
    buf_printf(out, "},\"authenticated\":%s,\"trusted\":%s",
               facts->authenticated ? "true" : "false", facts->trusted ? "true" : "false");
    add_text(out, "user", facts->user);
    add_text(out, "sender", facts->sender);
}

static void add_message(struct buf *out, const struct flow_running *running)
{
    const struct flow_facts *facts = &running->facts;
    const struct flow_effects *effects = &running->verdict->effects;
    const struct flow_checks *checks = facts->checks;
    add_text(out, "message", str_c(mail_id_text(facts->message).chars));
    buf_printf(out, ",\"size\":%llu,\"recipients\":[", (unsigned long long)facts->size);
    for (size_t i = 0; i < facts->recipient_count; i++) {
        buf_append(out, i ? STR(",") : STR_EMPTY);
        add_value(out, facts->recipients[i].address);
    }
    buf_append(out, STR("],\"findings\":["));
    for (size_t i = 0; i < effects->finding_count; i++) {
        buf_printf(out, "%s{\"step\":", i ? "," : "");
        add_value(out, effects->findings[i].step);
        add_text(out, "name", effects->findings[i].name);
        buf_append_byte(out, '}');
    }
    buf_append_byte(out, ']');
    if (effects->scored)
        buf_printf(out, ",\"score\":%.3f", effects->score);
    if (checks->dkim.len)
        add_text(out, "dkim", checks->dkim);
    if (checks->dmarc.len)
        add_text(out, "dmarc", checks->dmarc);
}

static struct str write_facts(const struct flow_running *running, const struct flow_step *step)
{
    const struct flow_facts *facts = &running->facts;
    bool is_content = running->flow->type == FLOW_CONTENT;
    struct buf out BUF_CLEANUP;
    buf_init(&out, FACTS_MAX);
    buf_printf(&out, "{\"version\":1,\"phase\":\"%s\"", is_content ? "content" : "recipient");
    add_text(&out, "flow", running->flow->name);
    add_text(&out, "step", step->id);
    add_text(&out, "hostname", running->run->hostname);
    add_text(&out, "session", str_c(mail_id_text(facts->session).chars));
    add_session(&out, facts);
    if (is_content)
        add_message(&out, running);
    else
        add_text(&out, "recipient", facts->recipient);
    buf_append_byte(&out, '}');
    return out.overflow ? STR_EMPTY : arena_str(running->run->arena, buf_str(&out));
}

static MAY_YIELD enum result ask(struct flow_running *running, const struct flow_step *step,
                                 struct hook_answer *out, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct server *server = step->prepared;
    struct hook_question question = {.facts = write_facts(running, step),
                                     .password = server->password};
    if (!question.facts.len)
        return fail(err, ERROR_LIMIT, "the facts are over %d bytes", FACTS_MAX);
    if (parameters->message != SENDS_NOTHING) {
        question.content = running->run->content;
        question.content_size =
            parameters->message == SENDS_ALL ? running->facts.size : running->facts.header.len;
    }
    struct scanner scanner = flow_scanner(running, server);
    return hook_ask(&scanner, &question, running->run->arena, out, err);
}

/* ---- the answer ---- */

static const unsigned by_outcome[HOOK_OUTCOMES] = {
    [HOOK_ACCEPT] = ACCEPTED, [HOOK_REJECT] = REFUSED,         [HOOK_DEFER] = DEFERRED,
    [HOOK_HOLD] = HELD,       [HOOK_QUARANTINE] = QUARANTINED, [HOOK_DISCARD] = DISCARDED};

static enum result no_answer(struct flow_running *running, const char *words)
{
    running->detail = arena_str(running->run->arena, str_c(words));
    return OK;
}

static enum result change_fields(struct flow_running *running, const struct hook_answer *answer,
                                 struct error *err)
{
    struct header_edit edit;
    header_edit_begin(&edit, running);
    for (size_t i = 0; i < answer->remove_count; i++)
        header_edit_remove(&edit, answer->remove[i]);
    for (size_t i = answer->add_count; i > 0; i--) {
        const struct hook_pair *pair = &answer->add[i - 1];
        struct buf value BUF_CLEANUP;
        buf_init(&value, VALUE_MAX);
        flow_text_encode(pair->value, &value);
        if (header_edit_insert(&edit, 1, pair->name, buf_str(&value), /* has_blank= */ false,
                               err) != OK)
            return FAILED;
    }
    return header_edit_commit(&edit, running, err);
}

static void note(struct flow_running *running, const struct flow_step *step,
                 const struct hook_answer *answer)
{
    for (size_t i = 0; i < answer->finding_count; i++)
        flow_add_finding(running, step, answer->findings[i].name, answer->findings[i].value);
    if (answer->scored && running->flow->type == FLOW_CONTENT)
        flow_set_score(running, answer->score);
    running->detail = answer->reason;
}

static enum result act(struct flow_running *running, const struct flow_step *step,
                       const struct hook_answer *answer, unsigned *out_outcome, struct error *err)
{
    unsigned outcome = by_outcome[answer->outcome];
    bool is_content = running->flow->type == FLOW_CONTENT;
    bool refuses = outcome == REFUSED || outcome == DEFERRED;
    bool changes = answer->add_count || answer->remove_count;
    if (!is_content && ((outcome != ACCEPTED && !refuses) || changes))
        return no_answer(running, "what it says has no meaning in a recipient flow");
    if (refuses && answer->reply.len &&
        (!mail_reply_parse(answer->reply, &running->reply) || running->reply.code < 400 ||
         running->reply.code == 421)) {
        running->reply = (struct mail_reply){0};
        return no_answer(running, "the reply that it wants is none");
    }
    if (changes && !refuses && !step->observe && change_fields(running, answer, err) != OK)
        return no_answer(running, err->text);
    note(running, step, answer);
    *out_outcome = outcome;
    return OK;
}

static unsigned judge_stated(struct flow_running *running,
                             const struct directory_stated_source *stated)
{
    static const unsigned by_verdict[] = {
        [DIRECTORY_STATED_ACCEPT] = ACCEPTED,   [DIRECTORY_STATED_REJECT] = REFUSED,
        [DIRECTORY_STATED_DEFER] = DEFERRED,    [DIRECTORY_STATED_HOLD] = HELD,
        [DIRECTORY_STATED_DISCARD] = DISCARDED, [DIRECTORY_STATED_QUARANTINE] = QUARANTINED};
    if (!stated)
        return ERROR;
    running->detail = STR("stated");
    return by_verdict[stated->verdict];
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct directory_stated_source *stated;
    struct hook_answer answer;
    *out_outcome = ERROR;
    if (parameters->message == SENDS_ALL && running->facts.size > parameters->max_size) {
        *out_outcome = TOO_BIG;
        return OK;
    }
    if (flow_scan_is_stated(running, step->prepared, &stated)) {
        *out_outcome = judge_stated(running, stated);
        return OK;
    }
    if (ask(running, step, &answer, err) != OK)
        return no_answer(running, err->text);
    return act(running, step, &answer, out_outcome, err);
}

const struct flow_block flow_block_http = {
    .name = "http",
    .text = "asks a web service what is to become of a recipient or a message",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = flow_changes_any_field,
    .results = 1u << NAME_SCORE,
    .finds = true,
};
