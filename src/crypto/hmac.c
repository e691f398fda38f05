/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/hmac.h"

#include "base/check.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void hmac_sha256(struct str key, struct str data, unsigned char out[HMAC_SIZE])
{
    unsigned size = HMAC_SIZE;
    check(key.len <= INT_MAX);
    check(HMAC(EVP_sha256(), key.ptr, (int)key.len, (const unsigned char *)data.ptr, data.len, out,
               &size));
    check(size == HMAC_SIZE);
}
