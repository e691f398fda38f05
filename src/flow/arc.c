/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/arc.c - the chain of a message that came by way of others (RFC 8617), for the blocks that
 * check and seal it.
 */
#include "content/auth_results.h"
#include "flow/flow_internal.h"

static enum result answer_text(void *context, struct str name, struct arena *arena,
                               struct dns_text_answer *out, struct error *err) NO_YIELD_CHECK
{
    struct resolver_answer answer;
    if (resolver_ask(context, RESOLVER_TXT, name, arena, &answer, err) == FAILED)
        return FAILED;
    *out = (struct dns_text_answer){.status = answer.status,
                                    .texts = answer.texts,
                                    .count = answer.count,
                                    .secure = answer.secure};
    return OK;
}

struct dkim_dns flow_dkim_dns(struct resolver *resolver)
{
    return (struct dkim_dns){.text = answer_text, .context = resolver};
}

enum result flow_arc_check(struct flow_running *running, struct dkim_message *message,
                           struct error *err)
{
    enum { BUDGET = 12 }; /* one key a sealer; a longer chain of strangers is not worth more */
    struct arena *arena = running->run->arena;
    struct flow_checks *checks = running->facts.checks;
    struct arc_answer *answer = ARENA_NEW(arena, struct arc_answer);
    struct resolver resolver = flow_key_resolver(running, BUDGET);
    struct dkim_dns dns = flow_dkim_dns(&resolver);
    if (arc_verify(message, &dns, arena, answer, err) == FAILED)
        return FAILED;
    checks->key_asked += resolver.asked;
    checks->arc = answer;
    return OK;
}

static bool is_trusted(const struct option_texts *trusted, struct str domain)
{
    for (size_t i = 0; i < trusted->count; i++)
        if (str_equal_nocase(trusted->items[i], domain))
            return true;
    return false;
}

/* The first sealer saw DMARC pass. */
static bool saw_pass(const struct arc_set *set, struct arena *arena)
{
    struct auth_results *results = ARENA_NEW(arena, struct auth_results);
    if (!auth_results_parse(set->results, arena, results))
        return false;
    for (size_t i = 0; i < results->count; i++)
        if (str_equal_nocase(results->results[i].method, STR("dmarc")))
            return str_equal_nocase(results->results[i].result, STR("pass"));
    return false;
}

bool flow_arc_vouches(const struct arc_answer *answer, const struct option_texts *trusted,
                      struct arena *arena)
{
    if (!answer || answer->result != ARC_PASS || answer->count == 0 || !answer->signs_from)
        return false;
    /* any of them could have changed what those before it wrote */
    for (size_t i = 0; i < answer->count; i++)
        if (!is_trusted(trusted, answer->sets[i].domain))
            return false;
    return saw_pass(&answer->sets[0], arena);
}
