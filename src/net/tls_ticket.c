/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of session tickets (RFC 5077). They change twice a day, so that a key that leaks opens no
 * recorded sessions of last week; all workers share them through the context.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "net/tls_internal.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

static const int64_t period_ns = 12 * 3600 * NS_PER_S;

static void make_key(struct tls_ticket_key *key)
{
    random_bytes(key->name, sizeof key->name);
    random_bytes(key->cipher, sizeof key->cipher);
    random_bytes(key->mac, sizeof key->mac);
    key->made_ns = clock_monotonic_ns();
    key->usable = true;
}

static void renew(struct tls_ticket_key keys[2])
{
    int64_t age_ns = keys[0].usable ? clock_monotonic_ns() - keys[0].made_ns : period_ns;
    if (age_ns < period_ns)
        return;
    keys[1] = keys[0];
    if (age_ns >= 2 * period_ns)
        memory_wipe(&keys[1], sizeof keys[1]);
    make_key(&keys[0]);
}

/* A copy, so that the lock is not held over cryptography. 0: unknown; 1: the present key; 2: the
 * one before, and the client should get a new ticket. */
static int find_key(struct tls_context *context, const unsigned char *name,
                    struct tls_ticket_key *out)
{
    int found = 0;
    pthread_mutex_lock(&context->lock);
    renew(context->ticket_keys);
    for (int i = 0; i < 2 && !found; i++) {
        struct tls_ticket_key *key = &context->ticket_keys[i];
        if (!key->usable || (name && memcmp(key->name, name, sizeof key->name) != 0))
            continue;
        *out = *key;
        found = i + 1;
    }
    pthread_mutex_unlock(&context->lock);
    return found;
}

static bool set_mac_key(EVP_MAC_CTX *mac, struct tls_ticket_key *key)
{
    static char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

int tls_ticket_use_key(struct tls_context *context, unsigned char name[16], unsigned char *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool encrypt)
{
    struct tls_ticket_key key;
    int found = find_key(context, encrypt ? NULL : name, &key);
    if (!found)
        return 0;
    bool done;
    if (encrypt) {
        memcpy(name, key.name, sizeof key.name);
        random_bytes(iv, 16);
        done = EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
    } else {
        done = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
    }
    done = done && set_mac_key(mac, &key);
    memory_wipe(&key, sizeof key);
    return done ? found : -1;
}
