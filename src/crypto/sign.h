/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto/sign.h - signatures over SHA-256 hashes: RSA (PKCS #1 v1.5, RFC 8017) and Ed25519 (RFC
 * 8032; the hash is what is signed, as RFC 8463 has it).
 *
 * A key is parsed once and does not change: any thread may use it. Private keys are never printed;
 * the library wipes them when they are freed.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "crypto/sha256.h"

enum sign_kind { SIGN_RSA, SIGN_ED25519 };
enum { SIGN_RSA_BITS_MIN = 1024, SIGN_RSA_BITS_MAX = 4096, SIGN_BYTES_MAX = SIGN_RSA_BITS_MAX / 8 };

struct sign_key;

/* A private key: PEM (PKCS #8 or PKCS #1, not encrypted), or the 32 octets of Ed25519 in base64.
 * FAILED also for other kinds and for RSA outside of the bounds. */
enum result sign_key_private(struct str text, struct sign_key **out_key, struct error *err);
/* A public key as p= of a DKIM record holds it: DER of SubjectPublicKeyInfo (or RSAPublicKey), or
 * 32 octets. RSA outside of the bounds is FAILED with ERROR_LIMIT and *out_bits set. */
enum result sign_key_public(enum sign_kind kind, struct str bytes, struct sign_key **out_key,
                            unsigned *out_bits, struct error *err);
/* A new one; `bits` counts for RSA only. RSA takes a second and blocks. */
enum result sign_key_generate(enum sign_kind kind, unsigned bits, struct sign_key **out_key,
                              struct error *err);
void sign_key_free(struct sign_key *key); /* NULL is allowed */

enum sign_kind sign_key_kind(const struct sign_key *key);
unsigned sign_key_bits(const struct sign_key *key);
/* PEM of PKCS #8; the caller wipes it. */
enum result sign_key_private_text(const struct sign_key *key, struct buf *out, struct error *err);
/* What sign_key_public takes. */
enum result sign_key_public_bytes(const struct sign_key *key, struct buf *out, struct error *err);

enum result sign_make(const struct sign_key *key, const unsigned char hash[SHA256_SIZE],
                      struct buf *out_signature, struct error *err);
bool sign_check(const struct sign_key *key, const unsigned char hash[SHA256_SIZE],
                struct str signature);
