/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/antispam.c - asks rspamd or SpamAssassin's spamd for a score, and acts on it.
 *
 * Thresholds are ours; without any of them rspamd's own advice counts. Fields that the sender wrote
 * himself to look harmless are taken out where ours are put in.
 */
#include "flow/expression_internal.h"
#include "flow/blocks.h"

#include "base/buf.h"
#include "content/spam.h"
#include "flow/scan_options.h"
#include "mail/header.h"

#include <stdlib.h>

enum { CLEAN, TAGGED, HELD, QUARANTINED, DEFERRED, REFUSED, TOO_BIG, ERROR };
enum { HEAD_MAX = 4 * 1024 * 1024 };

struct parameters {
    struct str server;
    double tag_at, hold_at, quarantine_at, reject_at; /* 0: no such threshold */
    struct str quarantine;
    uint64_t max_size;
};

#define THRESHOLD(name_, member_, text_)                                                           \
    {                                                                                              \
        .name = (name_), .type = OPTION_DECIMAL, .offset = offsetof(struct parameters, member_),   \
        .text = (text_), .min = -1000, .max = 1000                                                 \
    }
static const struct option options[] = {
    FLOW_SCAN_SERVER_ROW("a server with rspamd: or spamd:"),
    THRESHOLD("tag_at", tag_at, "score from which X-Spam-Flag: YES is put in"),
    THRESHOLD("hold_at", hold_at, "score from which the message waits for a person"),
    THRESHOLD("quarantine_at", quarantine_at, "score from which the message goes into quarantine"),
    THRESHOLD("reject_at", reject_at, "score from which the message is refused"),
    {.name = "quarantine",
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct parameters, quarantine),
     .text = "the quarantine that quarantine_at means",
     .refers_to = "quarantines"},
    FLOW_SCAN_SIZE_ROW("10M", "larger messages are not asked about"),
    {.name = NULL},
};
static const struct option_table table = {
    .name = "antispam",
    .text = "Asks a spam scanner.",
    .options = options,
    .shorthand = "server",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [CLEAN] = {.name = "clean",
               .key = "clean",
               .action = ACTION_NEXT,
               .text = "the score is under all thresholds"},
    [TAGGED] = {.name = "tagged",
                .key = "tagged",
                .action = ACTION_NEXT,
                .text = "it is over tag_at, and marked"},
    [HELD] = {.name = "held",
              .key = "held",
              .action = ACTION_HOLD,
              .reason = MAIL_REASON_SPAM,
              .text = "it is over hold_at"},
    [QUARANTINED] = {.name = "quarantined",
                     .key = "quarantined",
                     .action = ACTION_QUARANTINE,
                     .reason = MAIL_REASON_SPAM,
                     .text = "it is over quarantine_at"},
    [DEFERRED] = {.name = "deferred",
                  .key = "deferred",
                  .action = ACTION_DEFER,
                  .reply = "451 4.7.1 Try again later",
                  .reason = MAIL_REASON_SPAM,
                  .text = "there are no thresholds, and rspamd said greylist or soft reject"},
    [REFUSED] = {.name = "refused",
                 .key = "refused",
                 .action = ACTION_REJECT,
                 .reply = "554 5.7.1 This message looks like spam",
                 .reason = MAIL_REASON_SPAM,
                 .text = "it is over reject_at"},
    [TOO_BIG] = {.name = "too-big",
                 .key = "too-big",
                 .action = ACTION_NEXT,
                 .reply = "552 5.3.4 This message is too large to be scanned",
                 .reason = MAIL_REASON_SIZE,
                 .text = "the message is larger than max_size: nobody was asked"},
    [ERROR] = {.name = "error",
               .key = "error",
               .action = ACTION_DEFER,
               .reply = "451 4.3.0 The spam scanner does not answer, try again later",
               .reason = MAIL_REASON_BACKEND_DOWN,
               .text = "the scanner gave no answer"},
    {.name = NULL},
};

/* ---- checks at load ---- */

static void check_order(struct flow_compiling *compiling, const struct flow_step *step,
                        const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    const struct {
        const char *key;
        double at;
    } thresholds[] = {{"tag_at", parameters->tag_at},
                      {"hold_at", parameters->hold_at},
                      {"quarantine_at", parameters->quarantine_at},
                      {"reject_at", parameters->reject_at}};
    size_t before = 0;
    for (size_t i = 1; i < 4; i++) {
        if (thresholds[i].at == 0)
            continue;
        if (thresholds[before].at != 0 && thresholds[i].at <= thresholds[before].at)
            flow_problem(compiling, CONFIG_WARNING, "thresholds",
                         flow_place_of(node, thresholds[i].key, step->place),
                         "%s: %g comes before %s: %g, which is never reached", thresholds[i].key,
                         thresholds[i].at, thresholds[before].key, thresholds[before].at)
                ->fix = STR("the milder action has the lower score");
        before = i;
    }
}

static void prepare(struct flow_compiling *compiling, struct flow_step *step,
                    const struct config_node *node)
{
    const struct parameters *parameters = step->parameters;
    step->prepared =
        flow_compile_server(compiling, parameters->server, 1u << SERVER_RSPAMD | 1u << SERVER_SPAMD,
                            flow_place_of(node, "server", step->place));
    check_order(compiling, step, node);
}

/* ---- running ---- */

static MAY_YIELD enum result ask(struct flow_running *running, const struct server *server,
                                 struct spam_answer *out, struct error *err)
{
    const struct flow_facts *facts = &running->facts;
    struct arena *arena = running->run->arena;
    char client[NET_IP_TEXT];
    struct str *recipients =
        arena_alloc_array(arena, facts->recipient_count + 1, sizeof(struct str));
    for (size_t i = 0; i < facts->recipient_count; i++)
        recipients[i] = facts->recipients[i].address;
    struct spam_question question = {
        .message_id = arena_str(arena, str_c(mail_id_text(facts->message).chars)),
        .client = net_ip_format(&facts->client, client),
        .client_name = facts->client_name,
        .helo = facts->helo,
        .user = facts->user,
        .sender = facts->sender,
        .hostname = running->run->hostname,
        .recipients = recipients,
        .recipient_count = facts->recipient_count,
        .password = server->password,
    };
    struct scanner scanner = flow_scanner(running, server);
    return spam_check(&scanner, &question, running->run->content, arena, out, err);
}

static unsigned judge(const struct parameters *parameters, const struct spam_answer *answer)
{
    double score = answer->score;
    bool any = parameters->tag_at != 0 || parameters->hold_at != 0 ||
               parameters->quarantine_at != 0 || parameters->reject_at != 0;
    if (!any)
        return answer->action == SPAM_REJECT  ? REFUSED
               : answer->action == SPAM_DEFER ? DEFERRED
               : answer->action == SPAM_TAG   ? TAGGED
                                              : CLEAN;
    if (parameters->reject_at != 0 && score >= parameters->reject_at)
        return REFUSED;
    if (parameters->quarantine_at != 0 && score >= parameters->quarantine_at)
        return QUARANTINED;
    if (parameters->hold_at != 0 && score >= parameters->hold_at)
        return HELD;
    return parameters->tag_at != 0 && score >= parameters->tag_at ? TAGGED : CLEAN;
}

/* Our fields on top, those of others out. */
static enum result write_fields(struct flow_running *running, const struct parameters *parameters,
                                const struct spam_answer *answer, bool is_spam, struct error *err)
{
    struct str own;
    struct str trace = flow_head_split(running, &own);
    double at = parameters->tag_at != 0 ? parameters->tag_at : answer->required;
    struct buf head BUF_CLEANUP;
    buf_init(&head, HEAD_MAX);
    buf_append(&head, trace);
    if (is_spam)
        buf_append(&head, STR("X-Spam-Flag: YES\r\n"));
    buf_printf(&head, "X-Spam-Score: %.1f\r\nX-Spam-Status: %s, score=%.1f required=%.1f\r\n",
               answer->score, is_spam ? "Yes" : "No", answer->score, at);
    struct str rest = own;
    struct mail_field field;
    while (mail_header_next(&rest, &field))
        if (!str_starts_nocase(field.name, STR("X-Spam-")))
            buf_append(&head, field.raw);
    buf_append(&head, rest); /* the empty line */
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    flow_head_replace(running, buf_str(&head), trace.len, own.len);
    return OK;
}

static enum result act(struct flow_running *running, const struct flow_step *step,
                       const struct spam_answer *answer, unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    unsigned outcome = judge(parameters, answer);
    flow_set_score(running, answer->score);
    running->detail = arena_printf(running->run->arena, "score %.2f%s%.*s", answer->score,
                                   answer->symbols.len ? ": " : "", STR_ARG(answer->symbols));
    *out_outcome = outcome;
    bool marks = parameters->tag_at != 0 || outcome == TAGGED;
    if (!marks || step->observe || outcome == REFUSED || outcome == DEFERRED)
        return OK;
    return write_fields(running, parameters, answer, outcome != CLEAN, err);
}

static const char *const judges_by[] = {"tag_at",    "hold_at",    "quarantine_at",
                                        "reject_at", "quarantine", NULL};

/* "score 4.20: SYMBOLS" */
static bool score_of(struct str detail, double *out_score)
{
    char text[32];
    char *end;
    if (!str_starts(detail, STR("score ")))
        return false;
    struct str number = str_from(detail, 6);
    ptrdiff_t colon = str_find(number, ':');
    if (!str_to_c(colon < 0 ? number : str_slice(number, 0, (size_t)colon), text, sizeof text))
        return false;
    *out_score = strtod(text, &end);
    return end != text && *end == '\0';
}

/* The score stands in the trace, what rspamd would do does not. */
static bool judge_again(const struct flow_step *step, struct str outcome, struct str detail,
                        unsigned *out_outcome)
{
    const struct parameters *parameters = step->parameters;
    struct spam_answer answer = {0};
    *out_outcome = str_equal(outcome, STR("too-big")) ? TOO_BIG : ERROR;
    if (*out_outcome == TOO_BIG || str_equal(outcome, STR("error")))
        return true;
    bool any = parameters->tag_at != 0 || parameters->hold_at != 0 ||
               parameters->quarantine_at != 0 || parameters->reject_at != 0;
    if (!any || !score_of(detail, &answer.score))
        return false;
    *out_outcome = judge(parameters, &answer);
    return true;
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct directory_stated_source *stated;
    struct spam_answer answer = {.symbols = STR_EMPTY};
    *out_outcome = ERROR;
    if (running->facts.size > parameters->max_size) {
        *out_outcome = TOO_BIG;
        return OK;
    }
    if (flow_scan_is_stated(running, step->prepared, &stated)) {
        if (!stated)
            return OK;
        answer.score = stated->score;
        return act(running, step, &answer, out_outcome, err);
    }
    if (ask(running, step->prepared, &answer, err) != OK) {
        running->detail = arena_str(running->run->arena, str_c(err->text));
        return OK;
    }
    return act(running, step, &answer, out_outcome, err);
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    (void)step;
    return str_starts_nocase(name, STR("X-Spam-"));
}

static unsigned recall(struct str outcome, struct str detail, struct arena *arena,
                       struct flow_checks *io_checks)
{
    (void)arena;
    if (str_equal(outcome, STR("too-big")) || str_equal(outcome, STR("error")))
        return 0;
    return score_of(detail, &io_checks->score) ? 1u << NAME_SCORE : 0;
}

const struct flow_block flow_block_antispam = {
    .name = "antispam",
    .text = "asks rspamd or SpamAssassin for a score, and acts on it",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .prepare = prepare,
    .run = run,
    .asks_world = true,
    .changes_field = changes_field,
    .results = 1u << NAME_SCORE,
    .recall = recall,
    .judge_again = judge_again,
    .judges_by = judges_by,
};
