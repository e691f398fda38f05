/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc.h - does the author's domain stand behind the message, and what does it ask for if
 * not? (RFC 9989; where it differs from RFC 7489 the tree walk and t= replace the list of public
 * suffixes and pct=.)
 */
#pragma once

#include "content/author.h"
#include "content/dmarc_record.h"
#include "content/resolver.h"
#include "content/spf_record.h"

enum { DMARC_BUDGET = 11, DMARC_IDENTIFIERS_MAX = 8 };

enum dmarc_result { DMARC_NONE, DMARC_PASS, DMARC_FAIL, DMARC_TEMPERROR, DMARC_PERMERROR };

struct dmarc_request {
    const struct author *author;
    enum spf_result spf;
    struct str spf_domain;          /* lower case */
    const struct str *dkim_domains; /* of the signatures that passed; lower case */
    size_t dkim_domain_count;
    const struct str *unsure_domains; /* of those that could not be checked now */
    size_t unsure_domain_count;
};

struct dmarc_outcome {
    enum dmarc_result result;
    enum dmarc_policy policy;      /* of the domain: p, sp or np; UNSET without a record */
    enum dmarc_policy disposition; /* what it asks for this message: UNSET unless it fails */
    struct str author_domain;      /* clear From, or the one whose policy counts */
    struct str policy_domain;      /* where the record stands */
    struct str organization;       /* Organizational Domain of the author */
    bool spf_aligned, dkim_aligned;
    bool unseen;        /* From has more domains than are looked at: as if one asked for refusal */
    bool testing;       /* t=y: the disposition is one step milder than the policy */
    struct str problem; /* why temperror or permerror, or why From is ambiguous */
};

const char *dmarc_result_name(enum dmarc_result result);

/* What might have passed if DNS had answered makes a temperror, not a fail, where it is aligned. A
 * From that is not clear never passes, and the strictest policy of its domains counts; if they are
 * too many to ask for, it is the strictest there is. Texts live in `arena`. */
void dmarc_check(struct resolver *resolver, const struct dmarc_request *request,
                 struct arena *arena, struct dmarc_outcome *out) MAY_YIELD;
