/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/blocks/verify.c - who really sent it: SPF, DKIM and DMARC together, told in one
 * Authentication-Results field (RFC 8601).
 */
#include "flow/expression_internal.h"
#include "flow/blocks.h"

#include "base/buf.h"
#include "content/auth_results.h"
#include "content/dkim.h"
#include "content/dmarc.h"
#include "event/event.h"
#include "mail/header.h"

enum { CHECK_SPF, CHECK_DKIM, CHECK_DMARC, CHECK_ARC };
enum { PASS, NONE, FAIL, QUARANTINE, REJECT, TEMPERROR, PERMERROR };
enum { FIELDS_MAX = 64 * 1024, HEAD_MAX = 4 * 1024 * 1024, DOMAIN_SHOWN = 100, REPORTED_MAX = 8 };

struct parameters {
    unsigned checks; /* a set */
    bool received_spf;
    struct str authserv_id;
    struct option_texts arc_trusted;
};

static const struct option_word check_words[] = {{"spf", CHECK_SPF},
                                                 {"dkim", CHECK_DKIM},
                                                 {"dmarc", CHECK_DMARC},
                                                 {"arc", CHECK_ARC},
                                                 {NULL, 0}};
static const struct option options[] = {
    {.name = "checks",
     .type = OPTION_WORDS,
     .offset = offsetof(struct parameters, checks),
     .text = "what is checked and told; dmarc alone decides, and needs the other two",
     .fallback = "[ spf, dkim, dmarc, arc ]",
     .words = check_words},
    {.name = "received_spf",
     .type = OPTION_BOOL,
     .offset = offsetof(struct parameters, received_spf),
     .text = "write a Received-SPF field, too",
     .fallback = "false"},
    {.name = "authserv_id",
     .type = OPTION_TEXT,
     .offset = offsetof(struct parameters, authserv_id),
     .text = "our name in Authentication-Results; default: hostname"},
    {.name = "arc_trusted",
     .type = OPTION_TEXTS,
     .offset = offsetof(struct parameters, arc_trusted),
     .text = "domains whose seals are believed: DMARC passes if it did for the first of them"},
    {.name = NULL},
};
static const struct option_table table = {
    .name = "verify",
    .text = "Checks SPF, DKIM, DMARC and ARC, and writes Authentication-Results.",
    .options = options,
    .shorthand = "checks",
    .size = sizeof(struct parameters),
};
static const struct flow_outcome outcomes[] = {
    [PASS] = {.name = "pass",
              .key = "pass",
              .action = ACTION_NEXT,
              .text = "the author's domain stands behind it; without dmarc: SPF or DKIM passed"},
    [NONE] = {.name = "none",
              .key = "none",
              .action = ACTION_NEXT,
              .reply = "550 5.7.26 The author's domain has no DMARC policy",
              .reason = MAIL_REASON_POLICY,
              .text = "the author's domain has no DMARC policy"},
    [FAIL] = {.name = "fail",
              .key = "fail",
              .action = ACTION_NOTE,
              .reply = "550 5.7.26 DMARC failed",
              .reason = MAIL_REASON_DMARC_REJECT,
              .text = "DMARC fails, and the domain asks for nothing (p=none)"},
    [QUARANTINE] = {.name = "quarantine",
                    .key = "quarantine",
                    .action = ACTION_NOTE,
                    .reply = "550 5.7.26 DMARC failed",
                    .reason = MAIL_REASON_DMARC_REJECT,
                    .text = "DMARC fails, and the domain asks for quarantine"},
    [REJECT] = {.name = "reject",
                .key = "reject",
                .action = ACTION_REJECT,
                .reply = "550 5.7.26 DMARC failed, and the author's domain asks for refusal",
                .reason = MAIL_REASON_DMARC_REJECT,
                .text = "DMARC fails, and the domain asks for refusal"},
    [TEMPERROR] = {.name = "temperror",
                   .key = "temperror",
                   .action = ACTION_NOTE,
                   .reply = "451 4.7.24 DMARC cannot be checked now, try again later",
                   .reason = MAIL_REASON_BACKEND_DOWN,
                   .text = "DNS gives no answer now"},
    [PERMERROR] = {.name = "permerror",
                   .key = "permerror",
                   .action = ACTION_NOTE,
                   .reply = "550 5.7.26 From names no author",
                   .reason = MAIL_REASON_POLICY,
                   .text = "From has no address, or several things that could be one"},
    {.name = NULL},
};

struct verification {
    struct flow_running *running;
    const struct parameters *parameters;
    struct str authserv_id;
    const struct spf_outcome *spf;
    struct dkim_message message;
    struct dkim_answer *dkim;
    struct author author;
    struct dmarc_outcome dmarc;
    struct auth_results results;
};

static bool wants(const struct verification *verification, unsigned check)
{
    return (verification->parameters->checks & 1u << check) != 0;
}

static struct auth_result *add_result(struct verification *verification, const char *method,
                                      const char *result)
{
    struct auth_results *results = &verification->results;
    if (results->count == AUTH_RESULTS_MAX)
        return NULL;
    struct auth_result *added = &results->results[results->count++];
    *added = (struct auth_result){.method = str_c(method), .result = str_c(result)};
    return added;
}

/* ---- SPF ---- */

static void tell_spf(struct verification *verification)
{
    const struct flow_facts *facts = &verification->running->facts;
    const struct spf_outcome *spf = verification->spf;
    struct auth_result *result = add_result(verification, "spf", spf_result_name(spf->result));
    if (!result)
        return;
    result->comment = spf->problem;
    auth_result_add(result, "smtp", spf->is_helo ? "helo" : "mailfrom",
                    spf->is_helo ? facts->helo : facts->sender);
}

/* ---- DKIM ---- */

/* A signature of the envelope sender's domain, or of one above it, vouches for the sender. */
static void note_signer(struct flow_checks *checks, struct str signer, struct str sender_domain)
{
    bool above = sender_domain.len > signer.len && str_ends_nocase(sender_domain, signer) &&
                 sender_domain.ptr[sender_domain.len - signer.len - 1] == '.';
    if (signer.len == 0)
        return;
    if (checks->dkim_domain.len == 0)
        checks->dkim_domain = signer;
    if (above || str_equal_nocase(sender_domain, signer))
        checks->sender_verified = true;
}

static MAY_YIELD enum result check_dkim(struct verification *verification, struct error *err)
{
    struct flow_running *running = verification->running;
    struct arena *arena = running->run->arena;
    struct flow_checks *checks = running->facts.checks;
    struct resolver resolver = flow_key_resolver(running, DKIM_SIGNATURES_MAX);
    struct dkim_dns dns = flow_dkim_dns(&resolver);
    verification->dkim = ARENA_NEW(arena, struct dkim_answer);
    if (dkim_verify(&verification->message, &dns, arena, verification->dkim, err) == FAILED)
        return FAILED;
    checks->key_asked += resolver.asked;
    checks->dkim = str_c(dkim_result_name(verification->dkim->result));
    for (size_t i = 0; i < verification->dkim->count; i++)
        if (verification->dkim->signatures[i].result == DKIM_PASS)
            note_signer(checks, verification->dkim->signatures[i].domain,
                        running->facts.sender_domain);
    return OK;
}

static void tell_dkim(struct verification *verification)
{
    const struct dkim_answer *answer = verification->dkim;
    if (answer->count == 0)
        (void)add_result(verification, "dkim", dkim_result_name(answer->result));
    for (size_t i = 0; i < answer->count; i++) {
        const struct dkim_signature *signature = &answer->signatures[i];
        struct auth_result *result =
            add_result(verification, "dkim", dkim_result_name(signature->result));
        if (!result)
            return;
        result->comment = signature->detail;
        auth_result_add(result, "header", "d", signature->domain);
        auth_result_add(result, "header", "s", signature->selector);
        auth_result_add(result, "header", "a", signature->algorithm);
        auth_result_add(result, "header", "b", signature->start);
    }
}

/* ---- ARC ---- */

/* Most mail has no chain, of which there is nothing to tell. */
static void tell_arc(struct verification *verification)
{
    const struct arc_answer *answer = verification->running->facts.checks->arc;
    struct arena *arena = verification->running->run->arena;
    if (answer->result == ARC_NONE)
        return;
    struct auth_result *result = add_result(verification, "arc", arc_result_name(answer->result));
    if (result)
        result->comment = answer->result == ARC_PASS ? arena_printf(arena, "i=%u", answer->count)
                                                     : answer->detail;
}

/* ---- DMARC ---- */

static MAY_YIELD void check_dmarc(struct verification *verification)
{
    struct flow_running *running = verification->running;
    struct flow_checks *checks = running->facts.checks;
    struct resolver resolver = flow_sender_resolver(running, DMARC_BUDGET);
    struct str domains[DKIM_SIGNATURES_MAX], unsure[DKIM_SIGNATURES_MAX];
    struct dmarc_request request = {.author = &verification->author,
                                    .spf = verification->spf->result,
                                    .spf_domain = verification->spf->domain,
                                    .dkim_domains = domains,
                                    .unsure_domains = unsure};
    for (size_t i = 0; i < verification->dkim->count; i++) {
        const struct dkim_signature *signature = &verification->dkim->signatures[i];
        if (signature->result == DKIM_PASS && signature->domain.len)
            domains[request.dkim_domain_count++] = signature->domain;
        else if (signature->result == DKIM_TEMPERROR && signature->domain.len)
            unsure[request.unsure_domain_count++] = signature->domain;
    }
    dmarc_check(&resolver, &request, running->run->arena, &verification->dmarc);
    checks->dmarc = str_c(dmarc_result_name(verification->dmarc.result));
    checks->dmarc_policy = str_c(dmarc_policy_name(verification->dmarc.disposition));
}

static void tell_dmarc(struct verification *verification)
{
    const struct dmarc_outcome *dmarc = &verification->dmarc;
    struct arena *arena = verification->running->run->arena;
    struct auth_result *result =
        add_result(verification, "dmarc", dmarc_result_name(dmarc->result));
    if (!result)
        return;
    if (dmarc->problem.len)
        result->comment = dmarc->problem;
    else if (dmarc->policy)
        result->comment =
            arena_printf(arena, "p=%s%s%s", dmarc_policy_name(dmarc->policy),
                         dmarc->disposition ? " dis=" : "", dmarc_policy_name(dmarc->disposition));
    auth_result_add(result, "header", "from", dmarc->author_domain);
}

/* ---- the header ---- */

static bool is_forged(const struct verification *verification, const struct mail_field *field)
{
    struct str name, value;
    return mail_field_loosely(field, &name, &value) &&
           str_equal_nocase(name, STR("Authentication-Results")) &&
           auth_results_is_ours(value, verification->authserv_id);
}

/* Take out what claims to be ours; the rest stays byte for byte. */
static enum result remove_forged(struct verification *verification, struct error *err)
{
    struct flow_running *running = verification->running;
    struct mail_field field;
    struct str own;
    struct str trace = flow_head_split(running, &own), rest = own;
    struct buf head BUF_CLEANUP = {0};
    bool found = false;
    while (!found && mail_header_next(&rest, &field))
        found = is_forged(verification, &field);
    if (!found)
        return OK;
    buf_init(&head, HEAD_MAX);
    buf_append(&head, trace);
    rest = own;
    while (mail_header_next(&rest, &field))
        if (!is_forged(verification, &field))
            buf_append(&head, field.raw);
    buf_append(&head, rest);
    if (head.overflow)
        return fail(err, ERROR_LIMIT, "the header section is over %d bytes", HEAD_MAX);
    flow_head_replace(running, buf_str(&head), trace.len, own.len);
    return OK;
}

static enum result write_header(struct verification *verification, struct error *err)
{
    struct buf fields BUF_CLEANUP = {0};
    if (remove_forged(verification, err) == FAILED)
        return FAILED;
    buf_init(&fields, FIELDS_MAX);
    auth_results_write(&fields, &verification->results);
    if (verification->parameters->received_spf && verification->spf) {
        struct spf_request request = flow_sender_request(verification->running);
        auth_results_write_received_spf(&fields, verification->spf, &request);
    }
    if (fields.overflow)
        return fail(err, ERROR_LIMIT, "Authentication-Results is over %d bytes", FIELDS_MAX);
    flow_head_prepend(verification->running, buf_str(&fields));
    return OK;
}

/* ---- the verdict ---- */

static unsigned judge_dmarc(const struct dmarc_outcome *dmarc)
{
    static const unsigned by_result[] = {
        [DMARC_NONE] = NONE,           [DMARC_PASS] = PASS,           [DMARC_FAIL] = FAIL,
        [DMARC_TEMPERROR] = TEMPERROR, [DMARC_PERMERROR] = PERMERROR,
    };
    if (dmarc->disposition == DMARC_POLICY_REJECT)
        return REJECT;
    if (dmarc->disposition == DMARC_POLICY_QUARANTINE)
        return QUARANTINE;
    return by_result[dmarc->result];
}

static void say_reject(struct verification *verification)
{
    const struct dmarc_outcome *dmarc = &verification->dmarc;
    struct arena *arena = verification->running->run->arena;
    struct str domain = str_slice(dmarc->author_domain, 0, DOMAIN_SHOWN);
    struct str text = STR("From names more domains than can be asked for their policy (DMARC)");
    if (!dmarc->unseen)
        text = arena_printf(
            arena, "%.*s does not stand behind this message, and asks for its refusal (DMARC)",
            STR_ARG(domain));
    verification->running->reply = mail_reply_of(550, 5, 7, 26, text);
}

static unsigned judge(struct verification *verification)
{
    struct flow_running *running = verification->running;
    const struct dmarc_outcome *dmarc = &verification->dmarc;
    if (!wants(verification, CHECK_DMARC)) {
        bool passed = (verification->spf && verification->spf->result == SPF_PASS) ||
                      (verification->dkim && verification->dkim->result == DKIM_PASS);
        return passed ? PASS : NONE;
    }
    unsigned outcome = judge_dmarc(dmarc);
    /* a From that is not clear may have grown another author since it was sealed */
    bool sealed = (outcome == FAIL || outcome == QUARANTINE || outcome == REJECT) &&
                  verification->author.kind == AUTHOR_CLEAR &&
                  flow_arc_vouches(running->facts.checks->arc,
                                   &verification->parameters->arc_trusted, running->run->arena);
    if (sealed)
        outcome = PASS;
    running->detail = arena_printf(
        running->run->arena, "dmarc=%s of %.*s, spf=%s, dkim=%s%s%s%.*s",
        dmarc_result_name(dmarc->result),
        STR_ARG(dmarc->author_domain.len ? dmarc->author_domain : STR("nobody")),
        spf_result_name(verification->spf->result), dkim_result_name(verification->dkim->result),
        sealed ? ", sealed by those who saw it pass" : "", dmarc->problem.len ? ": " : "",
        STR_ARG(dmarc->problem));
    if (outcome == REJECT)
        say_reject(verification);
    return outcome;
}

/* ---- for aggregate reports ---- */

/* "fail example.net s1, pass example.org s2" */
static struct str list_signatures(const struct verification *verification)
{
    struct arena *arena = verification->running->run->arena;
    struct str list = STR_EMPTY;
    for (size_t i = 0; i < verification->dkim->count && i < REPORTED_MAX; i++) {
        const struct dkim_signature *signature = &verification->dkim->signatures[i];
        if (signature->domain.len)
            list = arena_printf(arena, "%.*s%s%s %.*s %.*s", STR_ARG(list), list.len ? ", " : "",
                                dkim_result_name(signature->result), STR_ARG(signature->domain),
                                STR_ARG(signature->selector));
    }
    return list;
}

/* What becomes of the message by this step, in the words of a report. */
static const char *disposition_of(const struct flow_step *step, unsigned outcome)
{
    enum flow_action_kind kind = step->actions[outcome].kind;
    if (step->observe)
        return "none";
    if (kind == ACTION_REJECT)
        return "reject";
    return kind == ACTION_HOLD || kind == ACTION_QUARANTINE ? "quarantine" : "none";
}

static void tell_result(const struct verification *verification, const struct flow_step *step,
                        unsigned outcome)
{
    const struct flow_facts *facts = &verification->running->facts;
    const struct dmarc_outcome *dmarc = &verification->dmarc;
    const struct spf_outcome *spf = verification->spf;
    char client[NET_IP_TEXT];
    if (!dmarc->policy_domain.len || dmarc->unseen || dmarc->result == DMARC_TEMPERROR)
        return;
    struct str checked =
        arena_printf(verification->running->run->arena, "%s %.*s %s", spf_result_name(spf->result),
                     STR_ARG(spf->domain), spf->is_helo ? "helo" : "mfrom");
    bool sealed = dmarc->result == DMARC_FAIL && outcome == PASS;
    event_emit(EVENT_DMARC_RESULT, F_STR(DOMAIN, dmarc->policy_domain),
               F_STR(OBJECT, dmarc->organization), F_STR(IP, net_ip_format(&facts->client, client)),
               F_STR(HEADER_FROM, dmarc->author_domain), F_STR(FROM, facts->sender_domain),
               F_C(ACTION, disposition_of(step, outcome)),
               F_C(POLICY, dmarc_policy_name(dmarc->disposition)),
               F_C(REASON, sealed ? "trusted_forwarder" : ""), F_STR(SPF, checked),
               F_STR(DKIM, list_signatures(verification)),
               F_C(OUTCOME, dmarc->spf_aligned    ? dmarc->dkim_aligned ? "both" : "spf"
                            : dmarc->dkim_aligned ? "dkim"
                                                  : "none"));
}

static MAY_YIELD enum result run(struct flow_running *running, const struct flow_step *step,
                                 unsigned *out_outcome, struct error *err)
{
    struct verification *verification = ARENA_NEW(running->run->arena, struct verification);
    verification->running = running;
    verification->parameters = step->parameters;
    verification->authserv_id = verification->parameters->authserv_id.len
                                    ? verification->parameters->authserv_id
                                    : running->run->hostname;
    verification->results.authserv_id = verification->authserv_id;
    bool dmarc = wants(verification, CHECK_DMARC);
    dkim_message_init(&verification->message, running->run->content, running->facts.header);
    author_read(running->facts.header, running->run->arena, &verification->author);
    if (verification->author.kind == AUTHOR_CLEAR)
        verification->message.author = verification->author.domains[0];
    if (dmarc || wants(verification, CHECK_SPF))
        verification->spf = flow_sender_spf(running);
    if ((dmarc || wants(verification, CHECK_DKIM)) && check_dkim(verification, err) == FAILED)
        return FAILED;
    if (wants(verification, CHECK_ARC) &&
        flow_arc_check(running, &verification->message, err) == FAILED)
        return FAILED;
    if (dmarc)
        check_dmarc(verification);
    if (wants(verification, CHECK_SPF))
        tell_spf(verification);
    if (wants(verification, CHECK_DKIM))
        tell_dkim(verification);
    if (dmarc)
        tell_dmarc(verification);
    if (wants(verification, CHECK_ARC))
        tell_arc(verification);
    *out_outcome = judge(verification);
    if (dmarc)
        tell_result(verification, step, *out_outcome);
    return step->observe ? OK : write_header(verification, err);
}

static bool changes_field(const struct flow_step *step, struct str name)
{
    (void)step;
    return str_equal_nocase(name, STR("Authentication-Results")) ||
           str_equal_nocase(name, STR("Received-SPF"));
}

/* "spf" of "dmarc=pass of example.org, spf=none, dkim=pass: …"; false: it does not say. */
static bool detail_has(struct str detail, const char *method, struct arena *arena, struct str *out)
{
    struct str prefix = arena_printf(arena, "%s=", method);
    struct str part;
    while (str_split(&detail, ',', &part)) {
        part = str_trim(part);
        if (!str_starts(part, prefix))
            continue;
        size_t end = prefix.len;
        while (end < part.len && ascii_is_alpha(part.ptr[end]))
            end++;
        *out = str_slice(part, prefix.len, end);
        return out->len > 0;
    }
    return false;
}

static unsigned recall(struct str outcome, struct str detail, struct arena *arena,
                       struct flow_checks *io_checks)
{
    unsigned known = 0;
    struct str spf;
    (void)outcome;
    if (detail_has(detail, "dmarc", arena, &io_checks->dmarc))
        known |= 1u << NAME_DMARC;
    if (detail_has(detail, "dkim", arena, &io_checks->dkim))
        known |= 1u << NAME_DKIM;
    for (int i = 0; detail_has(detail, "spf", arena, &spf) && i <= SPF_PERMERROR; i++) {
        if (!str_equal(spf, str_c(spf_result_name((enum spf_result)i))))
            continue;
        io_checks->spf_known = true;
        io_checks->spf.result = (enum spf_result)i;
        known |= 1u << NAME_SPF;
    }
    return known;
}

const struct flow_block flow_block_verify = {
    .name = "verify",
    .text = "checks SPF, DKIM, DMARC and ARC, and writes Authentication-Results",
    .flows = FLOW_IN_CONTENT,
    .options = &table,
    .outcomes = outcomes,
    .run = run,
    .asks_world = true,
    .changes_field = changes_field,
    .results = 1u << NAME_SPF | 1u << NAME_DKIM | 1u << NAME_DKIM_DOMAIN | 1u << NAME_DMARC |
               1u << NAME_DMARC_POLICY,
    .recall = recall,
};
