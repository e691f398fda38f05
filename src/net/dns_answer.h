/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net/dns_answer.h - reads an answer in DNS wire form (RFC 1035 4.1): bytes in, records out.
 *
 * Pure. Every byte of the packet is hostile: pointers must go backwards, names and texts have
 * ceilings, and CNAMEs are followed a few steps inside the answer only.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "net/address.h"
#include "net/dns.h"

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_DNSKEY = 48
};

enum { DNS_NAME_TEXT = 1024, DNS_TEXT_MAX = 16384, DNS_CNAME_STEPS = 10 };

struct dns_record {
    unsigned preference; /* MX */
    struct net_ip ip;    /* A, AAAA */
    struct str text;     /* TXT joined; MX and PTR: name in lower case without the final dot, bytes
                            that no host name has written as \DDD */
};

struct dns_answer {
    enum dns_status status;
    struct dns_record *records; /* in the order of the packet; all of the type asked for */
    size_t count;
    bool authentic; /* the AD bit */
};

/*
 * Records of `type` for `name`, which may end in a dot and compares without case. FAILED: malformed
 * or cut short, another question, a chain of CNAMEs too long, or a response code other than
 * "no error" and "no such name"; all of them temporary.
 */
enum result dns_answer_parse(struct str packet, struct str name, enum dns_type type,
                             struct arena *arena, struct dns_answer *out, struct error *err);

/* Name in text form ("\DDD" and "\." understood) to wire form; false if it can be no name: an empty
 * label, one over 63 bytes, over 255 in all. Returns the size, 0 if it cannot be. */
size_t dns_name_to_wire(struct str name, unsigned char out[255]);
