/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sha256.h"

#include "base/check.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

void sha256_open(struct sha256 *sha)
{
    sha->context = EVP_MD_CTX_new();
    check(sha->context && EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL));
}

void sha256_add(struct sha256 *sha, struct str data)
{
    check(EVP_DigestUpdate(sha->context, data.ptr, data.len));
}

void sha256_finish(struct sha256 *sha, unsigned char out[SHA256_SIZE])
{
    unsigned size = SHA256_SIZE;
    check(EVP_DigestFinal_ex(sha->context, out, &size));
    check(size == SHA256_SIZE);
}

void sha256_copy(const struct sha256 *from, struct sha256 *to)
{
    to->context = EVP_MD_CTX_new();
    check(to->context && EVP_MD_CTX_copy_ex(to->context, from->context));
}

void sha256_close(struct sha256 *sha)
{
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}

bool sha256_equal(const unsigned char a[SHA256_SIZE], const unsigned char b[SHA256_SIZE])
{
    return CRYPTO_memcmp(a, b, SHA256_SIZE) == 0;
}
