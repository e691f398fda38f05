/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include "base/check.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static void ask_system(void *out, size_t size)
{
    char *at = out;
    while (size) {
        ssize_t got = getrandom(at, size, 0);
        check(got > 0 || errno == EINTR);
        if (got > 0) {
            at += got;
            size -= (size_t)got;
        }
    }
}

void random_bytes(void *out, size_t size)
{
    /* one system call a 256 bytes: ids are made for every message */
    static _Thread_local char pool[256];
    static _Thread_local size_t left;
    if (size > sizeof pool / 4) {
        ask_system(out, size);
        return;
    }
    if (left < size) {
        ask_system(pool, sizeof pool);
        left = sizeof pool;
    }
    char *at = pool + (sizeof pool - left);
    memcpy(out, at, size);
    explicit_bzero(at, size);
    left -= size;
}

uint32_t random_below(uint32_t bound)
{
    check(bound > 0);
    uint32_t rest = UINT32_MAX - UINT32_MAX % bound;
    for (;;) {
        uint32_t value;
        random_bytes(&value, sizeof value);
        if (value < rest)
            return value % bound;
    }
}
