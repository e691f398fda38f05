/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/ldap_template.h - filters and DN with {user} {address} {local} {domain}, each value
 * escaped for the place where it stands (RFC 4515 3, RFC 4514 2.4), as pure functions.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

enum ldap_place { LDAP_IN_FILTER, LDAP_IN_DN };

struct ldap_values {
    struct str user;
    struct str address;
    struct str local;
    struct str domain;
};

void ldap_escape(enum ldap_place place, struct str value, struct buf *out);
/* FAILED (ERROR_PERMANENT): an unknown name between braces, or no closing brace; ERROR_LIMIT: it
 * does not fit `out`. */
enum result ldap_expand(enum ldap_place place, struct str pattern, const struct ldap_values *values,
                        struct buf *out, struct error *err);
