/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/spf_macro.h - the macro language of SPF (RFC 7208 7): checked, then expanded.
 *
 * Pure. Output has a ceiling; a text that passes the check expands whatever the values are.
 */
#pragma once

#include "base/buf.h"

enum spf_macro_use {
    SPF_MACRO_NAME, /* a domain-spec or an unknown modifier: no blanks, no c r t */
    SPF_MACRO_TEXT, /* an explanation: blanks and c r t too */
};

struct spf_macro_values {
    struct str sender;        /* s: local@domain */
    struct str local;         /* l */
    struct str sender_domain; /* o */
    struct str domain;        /* d: whose record it is */
    struct str ip_dotted;     /* i: "192.0.2.1", or 32 nibbles with dots */
    struct str ip_text;       /* c */
    struct str client_name;   /* p: validated, or "unknown" */
    struct str helo;          /* h */
    struct str receiver;      /* r */
    bool is_ip6;              /* v: "ip6" or "in-addr" */
    uint64_t now;             /* t: seconds since 1970 */
};

/* Is it a macro-string (7.1)? */
bool spf_macro_is_valid(struct str text, enum spf_macro_use use);
/* Is it a domain-spec: a macro-string that ends in a macro or in ".toplabel"? */
bool spf_macro_is_domain_spec(struct str text);
/* Does a valid text use this letter, in either case? */
bool spf_macro_uses(struct str text, char letter);
/* Append the expansion of a valid text; out->overflow is set when it does not fit. */
void spf_macro_expand(struct str text, const struct spf_macro_values *values, struct buf *out);
