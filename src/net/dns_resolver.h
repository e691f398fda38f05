/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns_resolver.h - libunbound on a loop: questions out, answers in wire form back.
 *
 * The one door to libunbound. It needs up to 200 KiB of stack, so it is entered on the loop's own
 * stack; its callbacks only note the answer and wake the fiber.
 */
#pragma once

#include "net/dns.h"
#include "net/dns_answer.h"

struct dns_resolver;

struct dns_reply {
    bool failed; /* then `why` says so and `answer` is empty */
    struct error why;
    struct dns_answer answer;
    bool secure;
    bool cached; /* nobody was asked */
};

enum { DNS_TYPES_AT_ONCE = 2 };

enum result dns_resolver_new(struct loop *loop, const struct dns_settings *settings,
                             struct dns_resolver **out_resolver, struct error *err);
/* No fiber may be waiting in it. NULL is allowed. */
void dns_resolver_free(struct dns_resolver *resolver);

/* Ask for up to DNS_TYPES_AT_ONCE types of a name together and wait for all, each at most the
 * time-out of the settings. `name` must be a valid name (dns_name_to_wire). FAILED only when the
 * fiber was cancelled or is past its deadline; no answer to one question stands in its reply. */
enum result dns_resolver_ask(struct dns_resolver *resolver, struct str name,
                             const enum dns_type *types, size_t count, struct arena *arena,
                             struct dns_reply *out_replies, struct error *err) MAY_YIELD;
