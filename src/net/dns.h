/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns.h - DNS questions from fibers (libunbound), with static overrides.
 *
 * One resolver a worker. "No such name" and "no such data" are answers; FAILED means that there is
 * no answer now (SERVFAIL, time-out, bogus): try later.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "fiber/fiber.h"
#include "net/address.h"

struct dns;
struct loop;

enum dns_dnssec { DNS_DNSSEC_NONE, DNS_DNSSEC_TRUST_AD, DNS_DNSSEC_VALIDATE };

struct dns_static {
    struct str name;    /* "mail.local", or "mx:example.net" */
    struct str *values; /* addresses, or "10 mail.local" */
    size_t count;
};

struct dns_settings {
    struct net_address *servers; /* none: the system's resolvers */
    size_t server_count;
    enum dns_dnssec dnssec;
    struct dns_static *statics;
    size_t static_count;
    int64_t timeout_ns; /* for one question, 0 = 10 s */
    /* For VALIDATE; empty: the system's (dns-root-data), else the built-in keys of the root. */
    struct str trust_anchor_file;
};

enum dns_status { DNS_FOUND, DNS_NO_DATA, DNS_NO_NAME };

struct dns_mx {
    unsigned preference;
    struct str host; /* lower case, without the final dot; "" for the root (null MX, RFC 7505) */
};
struct dns_mx_answer {
    enum dns_status status;
    struct dns_mx *hosts; /* by preference, random inside one */
    size_t count;
    bool secure;
};
struct dns_address_answer {
    enum dns_status status; /* NO_NAME only when both families say so */
    struct net_ip *ips;     /* IPv6 and IPv4, random inside a family */
    size_t count;
    bool secure;
};
struct dns_text_answer {
    enum dns_status status;
    struct str *texts; /* TXT strings joined, each at most 16K; or names for PTR */
    size_t count;
    bool secure;
};

enum { DNS_KINDS = 6, DNS_RESULTS = 4, DNS_BOUNDS = 8 };
/* Questions since dns_new(), of any name but static ones. */
struct dns_numbers {
    uint64_t asked[DNS_KINDS][DNS_RESULTS]; /* over the network */
    uint64_t cached[DNS_KINDS][DNS_RESULTS];
    uint64_t took[DNS_BOUNDS]; /* of those asked: as long as the bound at most, and longer than the
                                  one before */
    uint64_t took_us;          /* of those asked, all together */
};
extern const char *const dns_kind_names[DNS_KINDS];     /* "A", …, "other" */
extern const char *const dns_result_names[DNS_RESULTS]; /* "found", …, "failed" */
extern const double dns_bounds[DNS_BOUNDS];             /* seconds */
/* Add to `io`; any thread while the resolver lives. */
void dns_add_numbers(const struct dns *dns, struct dns_numbers *io);

/* On the worker's thread. The settings are copied. */
enum result dns_new(struct loop *loop, const struct dns_settings *settings, struct dns **out_dns,
                    struct error *err);
void dns_free(struct dns *dns);

enum result dns_query_mx(struct dns *dns, struct str domain, struct arena *arena,
                         struct dns_mx_answer *out, struct error *err) MAY_YIELD;
enum result dns_query_addresses(struct dns *dns, struct str host, struct arena *arena,
                                struct dns_address_answer *out, struct error *err) MAY_YIELD;
/* Of one family only, 4 or 6: all of them, in the order of the answer. */
enum result dns_query_family(struct dns *dns, struct str host, unsigned family, struct arena *arena,
                             struct dns_address_answer *out, struct error *err) MAY_YIELD;
enum result dns_query_txt(struct dns *dns, struct str name, struct arena *arena,
                          struct dns_text_answer *out, struct error *err) MAY_YIELD;
/* The names that stand at a reverse name ("1.2.0.192.in-addr.arpa"), unconfirmed. */
enum result dns_query_ptr(struct dns *dns, struct str name, struct arena *arena,
                          struct dns_text_answer *out, struct error *err) MAY_YIELD;
/* Name of a client, confirmed by its addresses (FCrDNS); NO_NAME if none is confirmed. */
enum result dns_query_client_name(struct dns *dns, const struct net_ip *ip, struct arena *arena,
                                  enum dns_status *out_status, struct str *out_name,
                                  struct error *err) MAY_YIELD;
/*
 * Does DNSSEC work as the settings say? Asks for the SOA of `name`, a signed zone; empty: the root.
 * OK at once without DNSSEC. FAILED: permanent when signatures or the AD bit are missing, temporary
 * when there was no answer or a bogus one.
 */
enum result dns_probe_dnssec(struct dns *dns, struct str name, struct error *err) MAY_YIELD;
