/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/spf.h - may this client send for this domain? check_host() of RFC 7208.
 *
 * All limits of 4.6.4 hold: 10 terms that ask DNS, 2 void lookups, 10 hosts of an mx, 10 names of a
 * ptr; besides, the resolver has a budget. The time is the caller's scope.
 */
#pragma once

#include "content/resolver.h"
#include "content/spf_record.h"

/* Questions that suffice for all that 4.6.4 allows but a hostile mix of it; RESOLVER_BUDGET is
 * this, eight keys of DKIM and DMARC_BUDGET. */
enum { SPF_BUDGET = 21 };

struct spf_request {
    struct net_ip client;
    struct str helo;
    struct str sender;   /* MAIL FROM, "local@domain" with A-labels; empty: the HELO identity */
    struct str receiver; /* our host name, for explanations */
    uint64_t now;        /* seconds since 1970 */
};

struct spf_outcome {
    enum spf_result result;
    bool is_helo;           /* the HELO identity was checked */
    struct str domain;      /* whose SPF it is; lower case, empty if there was none to check */
    struct str mechanism;   /* that decided, as written in the record; or empty */
    struct str explanation; /* the domain's own, for fail: printable ASCII; or empty */
    struct str problem;     /* why temperror or permerror */
};

const char *spf_result_name(enum spf_result result);

/* Never fails: no answer from DNS, and the end of the fiber's scope, are SPF_TEMPERROR. The outcome
 * lives in `arena`. */
void spf_check(struct resolver *resolver, const struct spf_request *request, struct arena *arena,
               struct spf_outcome *out) MAY_YIELD;
