/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc_rua.h - who wants aggregate reports about a domain (RFC 9990 3.5, RFC 7489 7.1).
 *
 * An address outside the domain must say itself that it takes them, or anybody could send our
 * reports to strangers.
 */
#pragma once

#include "content/dmarc_record.h"
#include "content/resolver.h"

enum { DMARC_RUA_MAX = 5 };

struct dmarc_rua {
    struct str address; /* local@domain */
    uint64_t max_bytes; /* "!10m"; 0: no limit given */
};

/* The addresses of `rua` (as written in the record of `domain`) that may be written to; others are
 * passed over. `organization` is the domain's. FAILED: no answer from DNS now. */
enum result dmarc_rua_read(struct resolver *resolver, struct str domain, struct str organization,
                           struct str rua, struct arena *arena,
                           struct dmarc_rua out[static DMARC_RUA_MAX], size_t *out_count,
                           struct error *err) MAY_YIELD;
