/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns_stub.h - questions straight to a resolver whose AD bit is believed.
 *
 * libunbound believes nobody's AD bit, rightly so. This is for `dnssec: trust-ad`: a validating
 * resolver on this machine or on a trusted path, which keeps the cache, too.
 */
#pragma once

#include "net/dns.h"
#include "net/dns_resolver.h"

struct dns_stub;

/* With the servers of the settings, else those of /etc/resolv.conf. */
enum result dns_stub_new(const struct dns_settings *settings, struct dns_stub **out_stub,
                         struct error *err);
/* NULL is allowed. */
void dns_stub_free(struct dns_stub *stub);

/* As dns_resolver_ask(); `secure` is the AD bit. */
enum result dns_stub_ask(struct dns_stub *stub, struct str name, const enum dns_type *types,
                         size_t count, struct arena *arena, struct dns_reply *out_replies,
                         struct error *err) MAY_YIELD;
