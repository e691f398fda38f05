/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sign.h"

#include "base/check.h"
#include "base/memory.h"
#include "crypto/base64.h"

#include <limits.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>

enum { ED25519_SIZE = 32, PEM_MAX = 16 * 1024, PUBLIC_MAX = 2048, EXPONENT_BITS_MAX = 64 };

struct sign_key {
    EVP_PKEY *pkey;
    enum sign_kind kind;
    unsigned bits;
};

/* ---- keys ---- */

/* A large public exponent makes each verification as costly as a signature. */
static bool exponent_is_sane(const EVP_PKEY *pkey)
{
    BIGNUM *exponent = NULL;
    bool sane = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                BN_is_odd(exponent) && !BN_is_one(exponent) &&
                BN_num_bits(exponent) <= EXPONENT_BITS_MAX;
    BN_free(exponent);
    return sane;
}

/* Takes `pkey`, which may be NULL. */
static enum result wrap(EVP_PKEY *pkey, struct sign_key **out_key, struct error *err)
{
    struct sign_key key = {.pkey = pkey};
    int id = pkey ? EVP_PKEY_get_base_id(pkey) : EVP_PKEY_NONE;
    key.bits = pkey ? (unsigned)EVP_PKEY_get_bits(pkey) : 0;
    key.kind = id == EVP_PKEY_ED25519 ? SIGN_ED25519 : SIGN_RSA;
    enum result result = OK;
    if (id == EVP_PKEY_NONE)
        result = fail(err, ERROR_PERMANENT, "this is no key");
    else if (id != EVP_PKEY_RSA && id != EVP_PKEY_ED25519)
        result = fail(err, ERROR_PERMANENT, "neither an RSA nor an Ed25519 key");
    else if (id == EVP_PKEY_RSA && (key.bits < SIGN_RSA_BITS_MIN || key.bits > SIGN_RSA_BITS_MAX))
        result = fail(err, ERROR_LIMIT, "RSA of %u bits, not %d to %d", key.bits, SIGN_RSA_BITS_MIN,
                      SIGN_RSA_BITS_MAX);
    else if (id == EVP_PKEY_RSA && !exponent_is_sane(pkey))
        result = fail(err, ERROR_PERMANENT, "RSA with an unusual public exponent");
    ERR_clear_error();
    if (result != OK) {
        EVP_PKEY_free(pkey);
        return FAILED;
    }
    *out_key = NEW(struct sign_key);
    **out_key = key;
    return OK;
}

/* Nobody is there to be asked for a passphrase. */
static int no_passphrase(char *buffer, int size, int is_writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)is_writing;
    (void)context;
    return -1;
}

static EVP_PKEY *read_pem(struct str text)
{
    BIO *bio = BIO_new_mem_buf(text.ptr, (int)text.len);
    EVP_PKEY *pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return pkey;
}

static EVP_PKEY *read_seed(struct str text)
{
    EVP_PKEY *pkey = NULL;
    struct buf seed;
    buf_init(&seed, 64);
    if (text.len <= 48 && base64_decode(text, &seed) && seed.len == ED25519_SIZE)
        pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, (unsigned char *)seed.ptr,
                                            seed.len);
    if (seed.ptr)
        memory_wipe(seed.ptr, seed.cap);
    buf_done(&seed);
    return pkey;
}

enum result sign_key_private(struct str text, struct sign_key **out_key, struct error *err)
{
    if (text.len > PEM_MAX)
        return fail(err, ERROR_LIMIT, "a key file of over %d bytes", PEM_MAX);
    bool is_pem = str_find_str(text, STR("-----BEGIN ")) >= 0;
    return wrap(is_pem ? read_pem(text) : read_seed(str_trim(text)), out_key, err);
}

/* One element of DER with this tag off the front of `*rest`. Short and long definite lengths only.
 */
static bool take_der(struct str *rest, unsigned char tag, struct str *out)
{
    const unsigned char *bytes = (const unsigned char *)rest->ptr;
    size_t begin = 2;
    if (rest->len < 2 || bytes[0] != tag)
        return false;
    size_t len = bytes[1];
    if (len & 0x80) {
        size_t count = len & 0x7f;
        if (count == 0 || count > 2 || rest->len < 2 + count)
            return false;
        len = count == 1 ? bytes[2] : (size_t)bytes[2] << 8 | bytes[3];
        begin += count;
    }
    if (len > rest->len - begin)
        return false;
    *out = str_slice(*rest, begin, begin + len);
    *rest = str_from(*rest, begin + len);
    return true;
}

/* RSAPublicKey, bare or inside of a SubjectPublicKeyInfo (RFC 8017 A.1). The library's decoders
 * would do as well, at ten times the cost of the verification itself. */
static bool read_rsa_numbers(struct str bytes, struct str *out_modulus, struct str *out_exponent)
{
    static const unsigned char algorithm[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                                              0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    enum { SEQUENCE = 0x30, INTEGER = 0x02, BIT_STRING = 0x03 };
    struct str outer, inner, key;
    if (!take_der(&bytes, SEQUENCE, &outer) || bytes.len)
        return false;
    key = outer;
    if (take_der(&outer, SEQUENCE, &inner)) {
        if (!str_equal(inner, str_of((const char *)algorithm, sizeof algorithm)) ||
            !take_der(&outer, BIT_STRING, &inner) || outer.len || !inner.len || inner.ptr[0] != 0)
            return false;
        inner = str_from(inner, 1);
        if (!take_der(&inner, SEQUENCE, &key) || inner.len)
            return false;
    }
    return take_der(&key, INTEGER, out_modulus) && take_der(&key, INTEGER, out_exponent) &&
           !key.len;
}

static BIGNUM *number_of(struct str bytes)
{
    bool positive = bytes.len > 0 && !(bytes.ptr[0] & 0x80);
    return positive ? BN_bin2bn((const unsigned char *)bytes.ptr, (int)bytes.len, NULL) : NULL;
}

static EVP_PKEY *make_rsa_key(const BIGNUM *modulus, const BIGNUM *exponent)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *values = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (builder && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        values = OSSL_PARAM_BLD_to_param(builder);
    if (!values || !context || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, values) != 1)
        pkey = NULL;
    OSSL_PARAM_free(values);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(context);
    return pkey;
}

static EVP_PKEY *read_rsa(struct str bytes)
{
    struct str modulus_bytes, exponent_bytes;
    if (!read_rsa_numbers(bytes, &modulus_bytes, &exponent_bytes))
        return NULL;
    BIGNUM *modulus = number_of(modulus_bytes);
    BIGNUM *exponent = number_of(exponent_bytes);
    EVP_PKEY *pkey = modulus && exponent ? make_rsa_key(modulus, exponent) : NULL;
    BN_free(modulus);
    BN_free(exponent);
    return pkey;
}

enum result sign_key_public(enum sign_kind kind, struct str bytes, struct sign_key **out_key,
                            unsigned *out_bits, struct error *err)
{
    EVP_PKEY *pkey = NULL;
    *out_bits = 0;
    if (kind == SIGN_ED25519 && bytes.len == ED25519_SIZE)
        pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)bytes.ptr,
                                           bytes.len);
    else if (kind == SIGN_RSA && bytes.len > 0 && bytes.len <= PUBLIC_MAX)
        pkey = read_rsa(bytes);
    if (pkey)
        *out_bits = (unsigned)EVP_PKEY_get_bits(pkey);
    return wrap(pkey, out_key, err);
}

enum result sign_key_generate(enum sign_kind kind, unsigned bits, struct sign_key **out_key,
                              struct error *err)
{
    if (kind == SIGN_RSA && (bits < SIGN_RSA_BITS_MIN || bits > SIGN_RSA_BITS_MAX))
        return fail(err, ERROR_LIMIT, "RSA of %u bits, not %d to %d", bits, SIGN_RSA_BITS_MIN,
                    SIGN_RSA_BITS_MAX);
    return wrap(kind == SIGN_RSA ? EVP_RSA_gen(bits) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"),
                out_key, err);
}

void sign_key_free(struct sign_key *key)
{
    if (!key)
        return;
    EVP_PKEY_free(key->pkey);
    free(key);
}

enum sign_kind sign_key_kind(const struct sign_key *key)
{
    return key->kind;
}

unsigned sign_key_bits(const struct sign_key *key)
{
    return key->bits;
}

enum result sign_key_private_text(const struct sign_key *key, struct buf *out, struct error *err)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_secmem());
    bool good =
        bio && PEM_write_bio_PKCS8PrivateKey(bio, key->pkey, NULL, NULL, 0, NULL, NULL) == 1;
    long len = good ? BIO_get_mem_data(bio, &text) : 0;
    if (len > 0)
        buf_append(out, str_of(text, (size_t)len));
    BIO_free(bio);
    ERR_clear_error();
    return len > 0 && !out->overflow ? OK : fail(err, ERROR_PERMANENT, "the key cannot be written");
}

enum result sign_key_public_bytes(const struct sign_key *key, struct buf *out, struct error *err)
{
    unsigned char raw[ED25519_SIZE];
    size_t raw_len = sizeof raw;
    if (key->kind == SIGN_ED25519) {
        if (EVP_PKEY_get_raw_public_key(key->pkey, raw, &raw_len) != 1)
            return fail(err, ERROR_PERMANENT, "the key has no public part");
        buf_append(out, str_of((const char *)raw, raw_len));
        return OK;
    }
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);
    if (len <= 0)
        return fail(err, ERROR_PERMANENT, "the key has no public part");
    buf_append(out, str_of((const char *)der, (size_t)len));
    OPENSSL_free(der);
    return OK;
}

/* ---- signatures ---- */

/* What RSA needs besides the key: the padding, and the hash that the signature names. */
static EVP_PKEY_CTX *rsa_context(const struct sign_key *key, int (*init)(EVP_PKEY_CTX *context))
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key->pkey, NULL);
    check(context != NULL);
    if (init(context) == 1 && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
        EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1)
        return context;
    EVP_PKEY_CTX_free(context);
    return NULL;
}

static bool make_rsa(const struct sign_key *key, const unsigned char *hash, unsigned char *out,
                     size_t *len)
{
    EVP_PKEY_CTX *context = rsa_context(key, EVP_PKEY_sign_init);
    bool good = context && EVP_PKEY_sign(context, out, len, hash, SHA256_SIZE) == 1;
    EVP_PKEY_CTX_free(context);
    return good;
}

static bool make_ed25519(const struct sign_key *key, const unsigned char *hash, unsigned char *out,
                         size_t *len)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestSignInit(context, NULL, NULL, NULL, key->pkey) == 1 &&
                EVP_DigestSign(context, out, len, hash, SHA256_SIZE) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

enum result sign_make(const struct sign_key *key, const unsigned char hash[SHA256_SIZE],
                      struct buf *out_signature, struct error *err)
{
    unsigned char bytes[SIGN_BYTES_MAX];
    size_t len = sizeof bytes;
    bool good = key->kind == SIGN_RSA ? make_rsa(key, hash, bytes, &len)
                                      : make_ed25519(key, hash, bytes, &len);
    ERR_clear_error();
    if (!good)
        return fail(err, ERROR_PERMANENT, "the key cannot sign");
    buf_append(out_signature, str_of((const char *)bytes, len));
    return OK;
}

static bool check_rsa(const struct sign_key *key, const unsigned char *hash, struct str signature)
{
    EVP_PKEY_CTX *context = rsa_context(key, EVP_PKEY_verify_init);
    bool good = context && EVP_PKEY_verify(context, (const unsigned char *)signature.ptr,
                                           signature.len, hash, SHA256_SIZE) == 1;
    EVP_PKEY_CTX_free(context);
    return good;
}

static bool check_ed25519(const struct sign_key *key, const unsigned char *hash,
                          struct str signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key->pkey) == 1 &&
                EVP_DigestVerify(context, (const unsigned char *)signature.ptr, signature.len, hash,
                                 SHA256_SIZE) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

bool sign_check(const struct sign_key *key, const unsigned char hash[SHA256_SIZE],
                struct str signature)
{
    if (signature.len == 0 || signature.len > SIGN_BYTES_MAX)
        return false;
    bool good = key->kind == SIGN_RSA ? check_rsa(key, hash, signature)
                                      : check_ed25519(key, hash, signature);
    ERR_clear_error();
    return good;
}
