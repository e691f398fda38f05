/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/report_policy.c - who wants to hear what DMARC said of a domain; asked of DNS by a
 * worker.
 */
#include "gateway/operations.h"

#include "base/check.h"
#include "content/dmarc_rua.h"
#include "gateway/ask.h"

enum { QUESTIONS_MAX = 1 + DMARC_RUA_MAX };

struct question {
    struct str domain, organization;
    struct arena *arena; /* the asking thread waits, so its memory may be used */
    struct gateway_report_policy *out;
    enum result result;
    struct error *err;
};

static struct str policy_text(enum dmarc_policy policy)
{
    return policy == DMARC_POLICY_UNSET ? STR_EMPTY : str_c(dmarc_policy_name(policy));
}

static enum result read_record(struct question *question, struct resolver *resolver,
                               struct str text) MAY_YIELD
{
    struct gateway_report_policy *out = question->out;
    struct dmarc_record record = {0};
    struct dmarc_rua rua[DMARC_RUA_MAX];
    if (!dmarc_record_parse(text, &record))
        return OK;
    if (dmarc_rua_read(resolver, question->domain, question->organization, record.rua,
                       question->arena, rua, &out->address_count, question->err) != OK)
        return FAILED;
    out->p = policy_text(record.p);
    out->sp = policy_text(record.sp);
    out->np = policy_text(record.np);
    out->strict_dkim = record.strict_dkim;
    out->strict_spf = record.strict_spf;
    out->testing = record.testing;
    for (size_t i = 0; i < out->address_count; i++)
        out->addresses[i] = (struct gateway_report_address){.address = rua[i].address,
                                                            .max_bytes = rua[i].max_bytes};
    return OK;
}

static enum result look(struct question *question) MAY_YIELD
{
    struct resolver resolver = resolver_of_dns(worker_current()->dns);
    struct resolver_answer answer;
    struct str found = STR_EMPTY;
    size_t count = 0;
    resolver.budget = QUESTIONS_MAX;
    struct str name = arena_printf(question->arena, "_dmarc.%.*s", STR_ARG(question->domain));
    if (resolver_ask(&resolver, RESOLVER_TXT, name, question->arena, &answer, question->err) != OK)
        return FAILED;
    for (size_t i = 0; answer.status == DNS_FOUND && i < answer.count; i++)
        if (dmarc_record_is_dmarc(answer.texts[i])) {
            found = answer.texts[i];
            count++;
        }
    return count == 1 ? read_record(question, &resolver, found) : OK;
}

NO_YIELD_CHECK static void run(void *arg)
{
    struct question *question = arg;
    question->result = look(question);
}

enum result gateway_report_policy(struct gateway *gateway, struct str domain,
                                  struct str organization, struct arena *arena,
                                  struct gateway_report_policy *out, struct error *err)
{
    struct question question = {
        .domain = domain, .organization = organization, .arena = arena, .out = out, .err = err};
    *out = (struct gateway_report_policy){.p = STR_EMPTY, .sp = STR_EMPTY, .np = STR_EMPTY};
    check(sizeof out->addresses / sizeof *out->addresses >= DMARC_RUA_MAX);
    if (ask_worker(&gateway->workers[0], run, &question, err) != OK)
        return FAILED;
    return question.result;
}
