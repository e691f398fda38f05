/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/resolver.h - DNS as the checks of a message see it: one function and a budget.
 *
 * All checks of one message share a resolver, so that nobody's records can make it ask more than
 * its budget. Tests lend their own function.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "fiber/fiber.h"
#include "net/address.h"
#include "net/dns.h"

enum {
    RESOLVER_BUDGET = 40,         /* questions for one message, by all checks together */
    RESOLVER_UNANSWERED_COST = 5, /* what one counts for that has no answer: it was repeated */
};

enum resolver_type { RESOLVER_A, RESOLVER_AAAA, RESOLVER_MX, RESOLVER_PTR, RESOLVER_TXT };

struct resolver_answer {
    enum dns_status status;
    struct net_ip *ips; /* A, AAAA */
    struct str *texts;  /* TXT joined; names of MX (by preference) and PTR */
    size_t count;
    bool secure;
};

struct resolver {
    /* As resolver_ask(), without the budget; a MAY_YIELD function. */
    enum result (*ask)(void *context, enum resolver_type type, struct str name, struct arena *arena,
                       struct resolver_answer *out, struct error *err);
    void *context;
    unsigned budget;     /* questions left; an unanswered one takes RESOLVER_UNANSWERED_COST */
    int64_t deadline_ns; /* of all questions together, monotonic; 0: the caller's scope alone */
    unsigned asked;      /* what was taken from the budget */
};

/* No such name and no such data are answers. FAILED: no answer now (temporary), or ERROR_LIMIT when
 * the budget is used up. A name that cannot be one of DNS is answered DNS_NO_NAME unasked. */
enum result resolver_ask(struct resolver *resolver, enum resolver_type type, struct str name,
                         struct arena *arena, struct resolver_answer *out,
                         struct error *err) MAY_YIELD;

/* The worker's DNS behind a resolver with the budget of one message. */
struct resolver resolver_of_dns(struct dns *dns);

/* Labels of 1 to 63 bytes of printable ASCII, at most 253 in all; a final dot is allowed. */
bool resolver_name_is_valid(struct str name);
