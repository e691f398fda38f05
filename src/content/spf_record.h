/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/spf_record.h - the text of an SPF record (RFC 7208 4.5, 4.6, 5, 6) to terms.
 *
 * Pure. A record is read whole before any of it is used: an error anywhere in it counts.
 */
#pragma once

#include "base/arena.h"
#include "net/address.h"

enum spf_result {
    SPF_NONE,
    SPF_NEUTRAL,
    SPF_PASS,
    SPF_FAIL,
    SPF_SOFTFAIL,
    SPF_TEMPERROR,
    SPF_PERMERROR,
};

enum spf_mechanism {
    SPF_ALL,
    SPF_INCLUDE,
    SPF_A,
    SPF_MX,
    SPF_PTR,
    SPF_IP4,
    SPF_IP6,
    SPF_EXISTS,
};

struct spf_term {
    enum spf_mechanism mechanism;
    enum spf_result qualifier;  /* the result if it matches */
    struct str text;            /* as written */
    struct str domain;          /* domain-spec with its macros, or empty */
    struct net_network network; /* ip4, ip6; host bits may be set */
    unsigned char bits4, bits6; /* a, mx */
};

struct spf_record {
    struct spf_term *terms;
    size_t count;
    struct str redirect; /* domain-spec, or empty */
    struct str exp;
};

/* "v=spf1", then a blank or the end (4.5). */
bool spf_record_is_spf(struct str text);
/* False for a syntax error; *out_bad is the term. `text` must be an SPF record and outlive *out. */
bool spf_record_parse(struct str text, struct arena *arena, struct spf_record *out,
                      struct str *out_bad);
