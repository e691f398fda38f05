/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim_key.h - key records (RFC 6376 3.6.1): what a domain publishes in DNS.
 */
#pragma once

#include "base/buf.h"
#include "content/dkim.h"
#include "crypto/sign.h"

struct dkim_key {
    const struct sign_key *key; /* belongs to the arena */
    unsigned bits;              /* set too if the size is why it is refused */
    bool testing;               /* t=y */
    bool strict;                /* t=s: i= must be of the very domain */
};

/* PASS, or PERMERROR or NEUTRAL with *out_detail. `kind` is what the signature's a= asks for. */
enum dkim_result dkim_key_parse(struct str record, enum sign_kind kind, struct arena *arena,
                                struct dkim_key *out_key, const char **out_detail);
/* Ask for SELECTOR._domainkey.DOMAIN and parse what comes. TEMPERROR: no answer now. FAILED only if
 * the fiber is over. */
enum result dkim_key_fetch(const struct dkim_dns *dns, struct str selector, struct str domain,
                           enum sign_kind kind, struct arena *arena, struct dkim_key *out_key,
                           enum dkim_result *out_result, const char **out_detail,
                           struct error *err) MAY_YIELD;
/* "v=DKIM1; k=rsa; p=…" for the public part of a key. */
enum result dkim_key_record(const struct sign_key *key, struct buf *out, struct error *err);
