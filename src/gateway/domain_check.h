/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/domain_check.h - would the world believe mail of our domains?
 *
 * Everything is compared with what this gateway does: the addresses it sends from, the keys it
 * signs with, the name it greets with. What is wrong comes with the record to publish. Used by
 * `postern domain check` and by the daemon's own look now and then (admin/domain_watch.h).
 */
#pragma once

#include "gateway/settings.h"
#include "net/dns.h"

enum domain_part {
    DOMAIN_MX,
    DOMAIN_SPF,
    DOMAIN_DKIM,
    DOMAIN_DMARC,
    DOMAIN_PTR,
    DOMAIN_TLS,
    DOMAIN_PARTS
};
extern const char *const domain_part_names[DOMAIN_PARTS]; /* "SPF" */

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_FAIL, FINDING_NO_ANSWER };

struct finding {
    enum finding_state state;
    enum domain_part part;
    struct str text;
    struct str record; /* to publish; or empty */
};

enum { FINDINGS_MAX = 200, ADDRESSES_MAX = 16 };

struct domain_check {
    struct arena *arena;
    const struct settings *settings;
    struct dns *dns;
    struct str domain;
    struct net_ip addresses[ADDRESSES_MAX]; /* that our mail leaves from */
    size_t address_count;
    struct finding findings[FINDINGS_MAX];
    size_t count;
};

/* The addresses: those of `asked` ("A,B"; may be empty), else what transports say, else where our
 * name leads. */
void domain_check_addresses(struct domain_check *check, struct str asked) MAY_YIELD;
/* Fill in the findings of these parts, a set of 1 << enum domain_part. The questions are bounded:
 * ten MX hosts, SPF's own limits, one for each of our keys. */
void domain_check_run(struct domain_check *check, unsigned parts) MAY_YIELD;

/* ---- between domain_check.c and domain_records.c ---- */

/* Add a finding; `record` may be empty. */
void domain_found(struct domain_check *check, enum finding_state state, enum domain_part part,
                  struct str record, const char *format, ...) __attribute__((format(printf, 5, 6)));
void domain_check_spf(struct domain_check *check) MAY_YIELD;
void domain_check_dkim(struct domain_check *check) MAY_YIELD;
void domain_check_dmarc(struct domain_check *check) MAY_YIELD;
