/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/spf.c - may this client send for this domain (RFC 7208)? Asked once a transaction.
 */
#include "flow/expression_internal.h"
#include "flow/blocks.h"

#include "base/buf.h"

enum { DOMAIN_SHOWN = 100, EXPLANATION_SHOWN = 180 };

struct parameters {
    bool helo;
};

static const struct option options[] = {
    {.name = "helo",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, helo),
     .text = "ask for the HELO name, too, and take its fail for a fail",
     .fallback = "false"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "spf",
    .text = "Checks the sender's SPF record.",
    .options = options,
    .size = sizeof(struct parameters),
};

/* by enum spf_result */
static const struct flow_outcome outcomes[] = {
    [SPF_NONE] = {.name = "none",
                  .key = "none",
                  .action = ACTION_NEXT,
                  .reply = "550 5.7.23 The sender's domain has no SPF record",
                  .reason = MAIL_REASON_SPF_FAIL,
                  .text = "the domain has no SPF record"},
    [SPF_NEUTRAL] = {.name = "neutral",
                     .key = "neutral",
                     .action = ACTION_NEXT,
                     .reply = "550 5.7.23 The sender's SPF record does not name this client",
                     .reason = MAIL_REASON_SPF_FAIL,
                     .text = "the domain says nothing about this client"},
    [SPF_PASS] = {.name = "pass",
                  .key = "pass",
                  .action = ACTION_NEXT,
                  .text = "the client may send for the domain"},
    [SPF_FAIL] = {.name = "fail",
                  .key = "fail",
                  .action = ACTION_REJECT,
                  .reply = "550 5.7.23 SPF validation failed",
                  .reason = MAIL_REASON_SPF_FAIL,
                  .text = "it may not"},
    [SPF_SOFTFAIL] = {.name = "softfail",
                      .key = "softfail",
                      .action = ACTION_NOTE,
                      .reply = "550 5.7.23 SPF validation failed",
                      .reason = MAIL_REASON_SPF_FAIL,
                      .text = "it probably may not"},
    [SPF_TEMPERROR] = {.name = "temperror",
                       .key = "temperror",
                       .action = ACTION_NOTE,
                       .reply = "451 4.7.24 SPF cannot be checked now, try again later",
                       .reason = MAIL_REASON_BACKEND_DOWN,
                       .text = "DNS gives no answer now"},
    [SPF_PERMERROR] = {.name = "permerror",
                       .key = "permerror",
                       .action = ACTION_NOTE,
                       .reply = "550 5.7.24 The sender's SPF record is broken",
                       .reason = MAIL_REASON_SPF_FAIL,
                       .text = "the record is broken, or asks for too much"},
    {.name = NULL},
};

/* Whoever has trouble with our mail must be able to tell us. */
static bool is_exempt(struct str recipient)
{
    return str_starts_nocase(recipient, STR("postmaster@")) ||
           str_starts_nocase(recipient, STR("abuse@"));
}

static void describe(struct flow_running *running, const struct spf_outcome *outcome)
{
    struct buf detail BUF_CLEANUP = {0};
    buf_init(&detail, 600);
    buf_printf(&detail, "%s of %.*s", outcome->is_helo ? "HELO name" : "domain",
               STR_ARG(outcome->domain.len ? outcome->domain : STR("no name")));
    if (outcome->mechanism.len)
        buf_printf(&detail, " by \"%.*s\"", STR_ARG(str_slice(outcome->mechanism, 0, 100)));
    if (outcome->problem.len)
        buf_printf(&detail, ": %.*s", STR_ARG(outcome->problem));
    running->detail = arena_str(running->run->arena, buf_str(&detail));
}

static void say_fail(struct flow_running *running, const struct spf_outcome *outcome)
{
    char ip[NET_IP_TEXT];
    struct str client = net_ip_format(&running->facts.client, ip);
    struct str domain = str_slice(outcome->domain, 0, DOMAIN_SHOWN);
    struct str text = arena_printf(running->run->arena, "%.*s may not send for %.*s (SPF)",
                                   STR_ARG(client), STR_ARG(domain));
    if (outcome->explanation.len)
        text = arena_printf(running->run->arena, "%.*s; it says: %.*s", STR_ARG(text),
                            STR_ARG(str_slice(outcome->explanation, 0, EXPLANATION_SHOWN)));
    running->reply = mail_reply_of(550, 5, 7, 23, text);
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    const struct parameters *parameters = step->parameters;
    const struct spf_outcome *outcome = flow_sender_spf(running);
    (void)err;
    if (parameters->helo && outcome->result != SPF_FAIL) {
        const struct spf_outcome *helo = flow_sender_helo(running);
        if (helo->result == SPF_FAIL)
            outcome = helo;
    }
    describe(running, outcome);
    *out_outcome = outcome->result;
    if (is_exempt(running->facts.recipient)) {
        *out_outcome = SPF_PASS;
        running->detail = STR("postmaster and abuse take mail from everybody");
    } else if (outcome->result == SPF_FAIL) {
        say_fail(running, outcome);
    }
    return OK;
}

static unsigned recall(struct str outcome, struct str detail, struct arena *arena,
                       struct flow_checks *io_checks)
{
    (void)arena;
    if (!str_starts(detail, STR("domain ")))
        return 0; /* the exempt, and what the HELO name said, say nothing of the sender */
    for (int i = 0; outcomes[i].name; i++) {
        if (!str_equal(outcome, str_c(outcomes[i].name)))
            continue;
        io_checks->spf_known = true;
        io_checks->spf.result = (enum spf_result)i;
        return 1u << NAME_SPF;
    }
    return 0;
}

/* The sender is looked at once; only where HELO counts, too, one may fail and the other not. */
static bool agrees(const struct flow_step *step, unsigned outcome, const struct flow_step *before,
                   unsigned outcome_before)
{
    const struct parameters *now = step->parameters, *then = before->parameters;
    return outcome == outcome_before ||
           (now->helo != then->helo && (now->helo ? outcome : outcome_before) == SPF_FAIL);
}

const struct flow_block flow_block_spf = {
    .name = "spf",
    .text = "checks the sender's SPF record",
    .flows = FLOW_IN_RECIPIENT | FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .run = run,
    .asks_world = true,
    .agrees = agrees,
    .results = 1u << NAME_SPF,
    .recall = recall,
    .changes_field = flow_changes_no_field,
};
