/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mail/address.h - the addresses of RFC 5321 (and RFC 6531): parsed once, compared one way.
 */
#pragma once

#include "base/arena.h"

enum mail_domain_kind { MAIL_DOMAIN_NAME, MAIL_DOMAIN_LITERAL, MAIL_DOMAIN_NONE };

/* Domain lower case as A-labels (RFC 5890), local part as it came but with the least quoting. */
struct mail_address {
    struct str local;  /* unquoted content is not interpreted; "" only for MAIL FROM:<> */
    struct str domain; /* "example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"; empty with NONE */
    enum mail_domain_kind kind;
    bool smtputf8; /* local part, or domain as it came, is not ASCII */
    bool quoted;   /* local part is a quoted string */
    bool routed;   /* a %, a ! or any further @ in the local part, quoted or not */
};

enum mail_address_fault {
    MAIL_ADDRESS_OK,
    MAIL_ADDRESS_SYNTAX,     /* 501 5.1.3 (recipient) or 5.1.7 (sender) */
    MAIL_ADDRESS_TOO_LONG,   /* local part over 64, domain over 255, path over 256 octets */
    MAIL_ADDRESS_BAD_DOMAIN, /* trailing dot, empty label, not valid IDN */
    MAIL_ADDRESS_NUL,
};

/* Parse what stands between < and > ("user@example.org", "postmaster" with `allow_no_domain`,
 * "@a,@b:user@c"). The result lives in `arena`. `allow_utf8`: RFC 6531. */
enum mail_address_fault mail_address_parse(struct arena *arena, struct str text,
                                           bool allow_no_domain, bool allow_utf8,
                                           struct mail_address *out_address);
/* The same; `known_domain` is the normalized domain of an address in this arena that the next one
 * may share, or empty. */
enum mail_address_fault mail_address_parse_with(struct arena *arena, struct str text,
                                                bool allow_no_domain, bool allow_utf8,
                                                struct str known_domain,
                                                struct mail_address *out_address);
/* "local@domain", in `arena`. Empty for <>. */
struct str mail_address_text(struct arena *arena, const struct mail_address *address);
/* The one form used for lookups, limits and caches: local part lower case, domain A-labels. */
struct str mail_address_key(struct arena *arena, const struct mail_address *address);
/* Lower-case A-labels of a domain; false if it is not a valid name (RFC 1123, IDNA 2008). */
bool mail_domain_normalize(struct arena *arena, struct str domain, struct str *out);
