/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/vault.h - mail that lies encrypted: the keys, and bodies and short texts under them.
 *
 * Keys are lines "ID KEY" of a file (0600), in hexadecimal; the last one is for what is new, the
 * others for what was written before. What is sealed names its key, so that keys can change, and is
 * bound to the id of its message, so that nothing sealed passes for something else. FORMAT.md has
 * the bytes. Any thread may call; the functions about keys block for a small file.
 */
#pragma once

#include "base/arena.h"
#include "crypto/hmac.h"
#include "mail/body.h"
#include "mail/id.h"

struct spool;
struct spool_vault;

enum { SPOOL_VAULT_ID_SIZE = 17 }; /* of a key, as text */

/*
 * Read the keys at `path` (a file that is not there holds none). `extra` (may be empty) is a second
 * file that is never written, systemd's credential: if it holds keys, its last one is for what is
 * new. FAILED: a file is there and cannot be read, or is none of ours.
 */
enum result spool_vault_open(struct str path, struct str extra, struct spool_vault **out_vault,
                             struct error *err);
/* Wipes the keys. NULL is allowed. */
void spool_vault_close(struct spool_vault *vault);
/* Make a first key if there is none. On disk when OK. */
enum result spool_vault_prepare(struct spool_vault *vault, struct error *err);
/* A new key for what comes from now on. On disk when OK. FAILED with ERROR_PERMANENT: keys come
 * from the credential, where only its owner changes them. */
enum result spool_vault_add_key(struct spool_vault *vault, uint64_t *out_id, struct error *err);
/* The key for what is new; 0: there is none. */
uint64_t spool_vault_current(struct spool_vault *vault);
bool spool_vault_has(struct spool_vault *vault, uint64_t id);
void spool_vault_id_text(uint64_t id, char out[SPOOL_VAULT_ID_SIZE]);

/* ---- short texts ---- */

/* In `arena`. FAILED: there is no key. */
enum result spool_vault_seal_text(struct spool_vault *vault, struct mail_id message,
                                  struct str text, struct arena *arena, struct str *out,
                                  struct error *err);
/* FAILED: its key is missing, or it was changed. */
enum result spool_vault_open_text(struct spool_vault *vault, struct mail_id message,
                                  struct str sealed, struct arena *arena, struct str *out,
                                  struct error *err);
/* The key that a sealed text names; 0: it is none. */
uint64_t spool_vault_key_of(struct str sealed);

/* ---- bodies ---- */

/* A new body of the spool, to be unreferenced, that holds all of `content` sealed. */
enum result spool_vault_seal(struct spool_vault *vault, struct spool *spool, struct mail_id message,
                             const struct mail_content *content, struct body **out_body,
                             struct error *err) MAY_YIELD;
/*
 * A body that reads what is sealed in `sealed` (which it references), to be unreferenced. All of it
 * was verified when OK. FAILED is never ERROR_PERMANENT: the key may come back, and mail is kept.
 */
enum result spool_vault_unseal(struct spool_vault *vault, struct mail_id message,
                               struct body *sealed, struct body **out_body,
                               struct error *err) MAY_YIELD;
/* Is it one that spool_vault_unseal() made? Such a body is to be read, not to be stored. */
bool spool_vault_is_unsealed(const struct body *body);
/* A new body of the spool, to be unreferenced, that holds all of `body`, readable. */
enum result spool_vault_copy(struct spool *spool, struct body *body, struct body **out_body,
                             struct error *err) MAY_YIELD;
/* Bytes of what is in a sealed body of that size. */
uint64_t spool_vault_plain_size(uint64_t sealed_size);

/* ---- other uses of the keys ---- */

/* HMAC of `data` under a key made of key `id` for `purpose`. False: there is no such key. */
bool spool_vault_mac(struct spool_vault *vault, uint64_t id, struct str purpose, struct str data,
                     unsigned char out[HMAC_SIZE]);
