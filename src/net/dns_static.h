/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns_static.h - names that the configuration answers itself.
 *
 * A name with addresses here has no others, and no MX records unless "mx:NAME" stands here too.
 */
#pragma once

#include "net/dns.h"

struct dns_statics;

/* FAILED (permanent) for a value that is no address or no "PREFERENCE HOST". */
enum result dns_statics_new(const struct dns_static *entries, size_t count,
                            struct dns_statics **out_statics, struct error *err);
/* NULL is allowed. */
void dns_statics_free(struct dns_statics *statics);

/* False: not answered here. */
bool dns_statics_mx(const struct dns_statics *statics, struct str domain, struct arena *arena,
                    struct dns_mx_answer *out);
bool dns_statics_addresses(const struct dns_statics *statics, struct str host, struct arena *arena,
                           struct dns_address_answer *out);
/* A name that has this address. */
bool dns_statics_name(const struct dns_statics *statics, const struct net_ip *ip,
                      struct arena *arena, struct str *out_name);
