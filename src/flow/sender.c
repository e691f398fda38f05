/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/sender.c - SPF of a transaction's sender, asked once for all of its recipients.
 */
#include "flow/flow_internal.h"

#include "content/dmarc.h"
#include "mail/address.h"

enum { CHECK_SECONDS = 20 }; /* RFC 7208 4.6.4 */

static enum result no_dns(void *context, enum resolver_type type, struct str name,
                          struct arena *arena, struct resolver_answer *out, struct error *err)
{
    (void)context, (void)type, (void)name, (void)arena, (void)out;
    return fail(err, ERROR_TEMPORARY, "there is no DNS here");
}

struct resolver flow_sender_resolver(const struct flow_running *running, unsigned budget)
{
    struct resolver resolver = {.ask = no_dns};
    if (running->run->resolver)
        resolver = *running->run->resolver;
    resolver.budget = budget;
    if (fiber_current())
        resolver.deadline_ns = clock_deadline(CHECK_SECONDS * NS_PER_S);
    return resolver;
}

/* All checks together keep to the ceiling of one message, and something is left for DMARC. */
struct resolver flow_key_resolver(const struct flow_running *running, unsigned budget)
{
    enum { CEILING = RESOLVER_BUDGET - DMARC_BUDGET };
    const struct flow_checks *checks = running->facts.checks;
    unsigned used = checks->spf_asked + checks->key_asked;
    unsigned left = used < CEILING ? CEILING - used : 0;
    return flow_sender_resolver(running, budget < left ? budget : left);
}

/* The sender with its domain as A-labels; a domain that is no name has no SPF, and is left as it
 * is. */
static struct str sender_in_ascii(const struct flow_facts *facts, struct arena *arena)
{
    struct str domain;
    ptrdiff_t at = str_find_last(facts->sender, '@');
    if (at < 0 || !mail_domain_normalize(arena, str_from(facts->sender, (size_t)at + 1), &domain))
        return facts->sender;
    return arena_printf(arena, "%.*s@%.*s", STR_ARG(str_slice(facts->sender, 0, (size_t)at)),
                        STR_ARG(domain));
}

struct spf_request flow_sender_request(const struct flow_running *running)
{
    return (struct spf_request){
        .client = running->facts.client,
        .helo = running->facts.helo,
        .sender = sender_in_ascii(&running->facts, running->run->arena),
        .receiver = running->run->hostname,
        .now = (uint64_t)(clock_wall_ns() / NS_PER_S),
    };
}

const struct spf_outcome *flow_sender_spf(struct flow_running *running)
{
    struct flow_checks *checks = running->facts.checks;
    if (checks->spf_known)
        return &checks->spf;
    struct resolver resolver = flow_sender_resolver(running, SPF_BUDGET - checks->spf_asked);
    struct spf_request request = flow_sender_request(running);
    spf_check(&resolver, &request, running->run->arena, &checks->spf);
    checks->spf_asked += resolver.asked;
    checks->spf_known = true;
    if (checks->spf.result == SPF_PASS && !checks->spf.is_helo)
        checks->sender_verified = true;
    return &checks->spf;
}

const struct spf_outcome *flow_sender_helo(struct flow_running *running)
{
    struct flow_checks *checks = running->facts.checks;
    if (running->facts.sender.len == 0)
        return flow_sender_spf(running);
    if (checks->helo_known)
        return &checks->helo;
    struct resolver resolver = flow_sender_resolver(running, SPF_BUDGET - checks->spf_asked);
    struct spf_request request = flow_sender_request(running);
    request.sender = STR_EMPTY;
    spf_check(&resolver, &request, running->run->arena, &checks->helo);
    checks->spf_asked += resolver.asked;
    checks->helo_known = true;
    return &checks->helo;
}
