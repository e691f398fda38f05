/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/addresses.h - a file of recipients: an address, an @domain or a /regular expression/
 * a line; # begins a comment line. All comparison is without regard to case.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

struct watched_table;

struct watched_table *addresses_parse(struct str path, struct str content);
/* `address` is local@domain. FAILED: an expression passed its limits. */
enum result addresses_have(const struct watched_table *table, struct str address, bool *out_found,
                           struct error *err);
