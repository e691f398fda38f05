/* SPDX-License-Identifier: Apache-2.0 */
/* ctl/domain.h - the findings of `postern domain check`, and what its checks share. */
#pragma once

#include "ctl/dkim.h"
#include "gateway/settings.h"
#include "net/dns.h"

enum finding_state { FINDING_OK, FINDING_WARN, FINDING_FAIL, FINDING_NO_ANSWER };

struct finding {
    enum finding_state state;
    const char *what; /* "SPF" */
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

/* Add a finding; `record` may be empty. */
void domain_found(struct domain_check *check, enum finding_state state, const char *what,
                  struct str record, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* domain_records.c */
void domain_check_spf(struct domain_check *check) MAY_YIELD;
void domain_check_dkim(struct domain_check *check) MAY_YIELD;
void domain_check_dmarc(struct domain_check *check) MAY_YIELD;
