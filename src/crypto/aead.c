/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/aead.h"

#include "base/check.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/evp.h>

static EVP_CIPHER_CTX *begin(const struct aead_place *place, bool seal)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len;
    check(context != NULL && place->also.len <= INT_MAX);
    check(EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, place->key, place->nonce, seal) == 1);
    if (place->also.len)
        check(EVP_CipherUpdate(context, NULL, &len, (const unsigned char *)place->also.ptr,
                               (int)place->also.len) == 1);
    return context;
}

void aead_seal(const struct aead_place *place, struct str plain, char *out)
{
    unsigned char *to = (unsigned char *)out;
    int len = 0, last = 0;
    check(plain.len <= INT_MAX - AEAD_TAG_SIZE);
    EVP_CIPHER_CTX *context = begin(place, /* seal= */ true);
    if (plain.len)
        check(EVP_EncryptUpdate(context, to, &len, (const unsigned char *)plain.ptr,
                                (int)plain.len) == 1);
    check(EVP_EncryptFinal_ex(context, to + len, &last) == 1);
    check((size_t)(len + last) == plain.len);
    check(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_SIZE, to + plain.len) == 1);
    EVP_CIPHER_CTX_free(context);
}

bool aead_open(const struct aead_place *place, struct str sealed, char *out)
{
    unsigned char tag[AEAD_TAG_SIZE];
    int len = 0, last = 0;
    if (sealed.len < AEAD_TAG_SIZE || sealed.len > INT_MAX)
        return false;
    struct str hidden = str_slice(sealed, 0, sealed.len - AEAD_TAG_SIZE);
    for (size_t i = 0; i < AEAD_TAG_SIZE; i++)
        tag[i] = (unsigned char)sealed.ptr[hidden.len + i];
    EVP_CIPHER_CTX *context = begin(place, /* seal= */ false);
    bool fits = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, AEAD_TAG_SIZE, tag) == 1 &&
                (hidden.len == 0 ||
                 EVP_DecryptUpdate(context, (unsigned char *)out, &len,
                                   (const unsigned char *)hidden.ptr, (int)hidden.len) == 1) &&
                EVP_DecryptFinal_ex(context, (unsigned char *)out + len, &last) == 1;
    EVP_CIPHER_CTX_free(context);
    ERR_clear_error();
    return fits;
}
