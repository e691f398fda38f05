/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow/srs.h - the sender rewriting scheme of forwarders: SRS0 and SRS1.
 *
 * Who forwards mail sends it under an address of his own, or SPF of the sender's domain fails; the
 * address holds the sender, a day and a hash, so that a bounce finds back and nobody else can use
 * us as a relay. A second forwarder wraps the first one's address once (SRS1), never deeper.
 */
#pragma once

#include "base/arena.h"

struct srs_secrets { /* the first makes hashes, all of them are accepted */
    const struct str *items;
    size_t count;
};

enum srs_outcome {
    SRS_DONE,
    SRS_NONE,     /* nothing to do: no sender; no address of this scheme */
    SRS_TOO_LONG, /* the local part would be over 64 octets (RFC 5321 4.5.3.1.1) */
    SRS_BAD,      /* not our hash */
    SRS_EXPIRED,
};
/* `sender` under `domain`. `day`: days since 1970. */
enum srs_outcome srs_forward(const struct srs_secrets *secrets, struct str sender,
                             struct str domain, uint64_t day, struct arena *arena, struct str *out);
/* The address that a bounce to `recipient` is meant for: the sender, or the forwarder before us.
 * Letters' case does not matter, for some change it. */
enum srs_outcome srs_reverse(const struct srs_secrets *secrets, struct str recipient, uint64_t day,
                             uint64_t valid_days, struct arena *arena, struct str *out);
