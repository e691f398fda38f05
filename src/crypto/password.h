/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto/password.h - crypt(5) password hashes (libcrypt).
 *
 * Both calls take tens of milliseconds and megabytes: on a lane only, never on a loop.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

/* Does `password` fit `hash`? Constant-time compare; a malformed hash is FAILED. */
enum result password_verify(struct str password, struct str hash, bool *out_fits,
                            struct error *err);
/* A new yescrypt hash with a random salt. */
enum { PASSWORD_HASH_SIZE = 384 };
enum result password_hash(struct str password, char out_hash[PASSWORD_HASH_SIZE],
                          struct error *err);
