/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto/aead.h - AES-256-GCM (NIST SP 800-38D): nobody without the key can read, and nobody can
 * change without being noticed.
 *
 * A nonce must never be used twice with one key.
 */
#pragma once

#include "base/str.h"

enum { AEAD_KEY_SIZE = 32, AEAD_NONCE_SIZE = 12, AEAD_TAG_SIZE = 16 };

struct aead_place {
    const unsigned char *key;   /* AEAD_KEY_SIZE */
    const unsigned char *nonce; /* AEAD_NONCE_SIZE */
    struct str also;            /* not hidden, but guarded with it */
};

/* plain.len + AEAD_TAG_SIZE bytes to `out`. */
void aead_seal(const struct aead_place *place, struct str plain, char *out);
/* sealed.len - AEAD_TAG_SIZE bytes to `out`. False: another key, nonce or `also`, or it was
 * changed; then `out` means nothing. */
[[nodiscard]] bool aead_open(const struct aead_place *place, struct str sealed, char *out);
