/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/wipe.h"

#include "base/memory.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static void *give(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    return malloc(size);
}

static void wipe_and_free(void *old, const char *file, int line)
{
    (void)file, (void)line;
    if (old)
        memory_wipe(old, malloc_usable_size(old));
    free(old);
}

/* realloc() may leave the old place as it was. */
static void *move(void *old, size_t size, const char *file, int line)
{
    size_t room = old ? malloc_usable_size(old) : 0;
    if (old && size == 0) {
        wipe_and_free(old, file, line);
        return NULL;
    }
    void *fresh = malloc(size);
    if (!fresh)
        return NULL;
    if (room)
        memcpy(fresh, old, room < size ? room : size);
    wipe_and_free(old, file, line);
    return fresh;
}

bool crypto_wipe_freed(void)
{
    return CRYPTO_set_mem_functions(give, move, wipe_and_free) == 1;
}
