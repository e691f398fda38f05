/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/quarantine_link.h - what a recipient may do without a login: release one message, for
 * himself, until it expires. The link says so, signed (HMAC-SHA-256) with a key of the quarantines.
 */
#pragma once

#include "base/arena.h"
#include "mail/id.h"

struct spool_vault;

struct quarantine_link {
    struct mail_id message;
    struct str quarantine; /* where it lies; in another one the link is worth nothing */
    struct str recipient;
    int64_t expires_wall_ns;
};

/* Letters, digits, "-" and "_", in `arena`. False: there is no key, or the texts are too long. */
bool quarantine_link_make(struct spool_vault *vault, const struct quarantine_link *link,
                          struct arena *arena, struct str *out_token);

enum quarantine_link_state {
    QUARANTINE_LINK_VALID,
    QUARANTINE_LINK_FORGED,
    QUARANTINE_LINK_EXPIRED
};
/* Texts in `arena`; `*out` means nothing when it is forged. */
enum quarantine_link_state quarantine_link_read(struct spool_vault *vault, struct str token,
                                                int64_t now_wall_ns, struct arena *arena,
                                                struct quarantine_link *out);
