/* SPDX-License-Identifier: Apache-2.0 */
/* crypto/sha256.h - SHA-256 (FIPS 180-4) of bytes that come piece by piece. */
#pragma once

#include "base/str.h"

enum { SHA256_SIZE = 32 };

struct sha256 {
    void *context;
};

void sha256_open(struct sha256 *sha);
void sha256_add(struct sha256 *sha, struct str data);
/* Once; sha256_close follows. */
void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE]);
/* `to`, which was not open, goes on from where `from` is. */
void sha256_copy(const struct sha256 *from, struct sha256 *to);
/* No harm if it was closed, or zeroed and never opened. */
void sha256_close(struct sha256 *sha);
/* Takes as long wherever they differ. */
bool sha256_equal(const unsigned char a[SHA256_SIZE], const unsigned char b[SHA256_SIZE]);
