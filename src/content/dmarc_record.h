/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc_record.h - the text of a DMARC policy record (RFC 9989 4.7, 4.8) to its tags.
 *
 * Pure. Unknown tags are passed over; a tag with a wrong value counts as missing, but for p, sp and
 * np, which make the whole record doubtful (4.10.1). pct, rf and ri of RFC 7489 are no more.
 */
#pragma once

#include "base/arena.h"

enum dmarc_policy {
    DMARC_POLICY_UNSET,
    DMARC_POLICY_NONE,
    DMARC_POLICY_QUARANTINE,
    DMARC_POLICY_REJECT
};
enum dmarc_psd { DMARC_PSD_UNKNOWN, DMARC_PSD_YES, DMARC_PSD_NO };

struct dmarc_record {
    enum dmarc_policy p, sp, np; /* UNSET: there is no such tag */
    enum dmarc_psd psd;
    bool strict_dkim, strict_spf;
    bool testing;    /* t=y */
    bool bad_policy; /* p is missing, or one of p, sp, np is no policy */
    struct str rua;  /* as written, or empty */
};

/* "v=DMARC1" first, exactly? Else it is some other record. */
bool dmarc_record_is_dmarc(struct str text);
/*
 * Read a record that is one; slices of `text`. False: no DMARC processing applies, since its
 * policies are wrong and there is no rua. With rua, such a record reads as p=none.
 */
bool dmarc_record_parse(struct str text, struct dmarc_record *out);
const char *dmarc_policy_name(enum dmarc_policy policy);
