/* SPDX-License-Identifier: Apache-2.0 */
/* spool/vault_internal.h - what vault.c and vault_body.c share. */
#pragma once

#include "crypto/aead.h"
#include "spool/vault.h"

enum { SPOOL_VAULT_SALT_SIZE = 16 };

/* What one sealed thing's own key is made of. */
struct spool_vault_place {
    uint64_t key;              /* id */
    const unsigned char *salt; /* SPOOL_VAULT_SALT_SIZE */
    struct mail_id message;
    struct str purpose;
};
/* FAILED with ERROR_TEMPORARY: there is no such key. The caller wipes it. */
enum result spool_vault_derive(struct spool_vault *vault, const struct spool_vault_place *place,
                               unsigned char out[AEAD_KEY_SIZE], struct error *err);
