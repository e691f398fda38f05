/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/password.h"

#include "base/memory.h"

#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

enum { PASSWORD_MAX = 512 };

/* crypt(3) of `password` with `setting`; the work area holds the secret and is wiped. */
static enum result hash_with(struct str password, const char *setting, char *out, size_t out_size,
                             struct error *err)
{
    char secret[PASSWORD_MAX];
    if (!str_to_c(password, secret, sizeof secret))
        return fail(err, ERROR_PERMANENT, "password is too long or holds a NUL");
    struct crypt_data *data = NEW(struct crypt_data);
    const char *hash = crypt_r(secret, setting, data);
    bool good = hash && hash[0] != '*' && str_to_c(str_c(hash), out, out_size);
    memory_wipe(data, sizeof *data);
    memory_wipe(secret, sizeof secret);
    free(data);
    return good ? OK : fail(err, ERROR_PERMANENT, "not a password hash that this system knows");
}

enum result password_verify(struct str password, struct str hash, bool *out_fits, struct error *err)
{
    char setting[PASSWORD_HASH_SIZE];
    char made[PASSWORD_HASH_SIZE];
    if (!str_to_c(hash, setting, sizeof setting))
        return fail(err, ERROR_PERMANENT, "not a password hash that this system knows");
    if (hash_with(password, setting, made, sizeof made, err) != OK)
        return FAILED;
    *out_fits = strlen(made) == hash.len && CRYPTO_memcmp(made, setting, hash.len) == 0;
    memory_wipe(made, sizeof made);
    return OK;
}

enum result password_hash(struct str password, char out_hash[PASSWORD_HASH_SIZE], struct error *err)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    if (!crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting))
        return fail_errno(err, errno, "cannot make a salt");
    return hash_with(password, setting, out_hash, PASSWORD_HASH_SIZE, err);
}
