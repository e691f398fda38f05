/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/auth_results.h - Authentication-Results (RFC 8601) and Received-SPF (RFC 7208 9.1):
 * written, read, and told from forgeries.
 */
#pragma once

#include "base/buf.h"
#include "content/spf.h"

enum { AUTH_RESULTS_MAX = 32, AUTH_PROPERTIES_MAX = 8 };

struct auth_property {
    struct str type; /* "smtp", "header", "policy", "body" … */
    struct str name; /* "mailfrom", "d", "from" … */
    struct str value;
};

struct auth_result {
    struct str method; /* "spf", "dkim", "dmarc" … */
    struct str result; /* "pass" … */
    struct str reason;
    struct str comment; /* written behind the result; not read */
    struct auth_property properties[AUTH_PROPERTIES_MAX];
    size_t property_count;
};

struct auth_results {
    struct str authserv_id;
    struct auth_result results[AUTH_RESULTS_MAX];
    size_t count;
};

/* Add a property; values that may not stand there are written in quotes or left out. */
void auth_result_add(struct auth_result *result, const char *type, const char *name,
                     struct str value);

/* Append the whole field with its final CRLF. Values may come from outside. */
void auth_results_write(struct buf *out, const struct auth_results *results);

/* Read a field's value (folded or not). False if it breaks the grammar, or has more results than
 * fit; then only authserv_id can be relied on, and may be empty. Texts live in `arena`. */
bool auth_results_parse(struct str value, struct arena *arena, struct auth_results *out);

/* Is this Authentication-Results field one that claims to be ours? As RFC 8601 5 has it, one that
 * cannot be read and has our name in it does, too. */
bool auth_results_is_ours(struct str value, struct str authserv_id);

/* Append a Received-SPF field with its final CRLF. */
void auth_results_write_received_spf(struct buf *out, const struct spf_outcome *outcome,
                                     const struct spf_request *request);
