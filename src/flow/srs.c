/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/srs.h"

#include "base/check.h"
#include "crypto/hmac.h"

enum { HASH_LEN = 8, STAMP_LEN = 2, STAMPS = 1024, LOCAL_MAX = 64 };

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

/* 40 bits over what must not be changed, without case. */
static struct str hash_of(struct str secret, struct str text, struct arena *arena)
{
    unsigned char hash[HMAC_SIZE];
    char *out = arena_alloc(arena, HASH_LEN + 1);
    hmac_sha256(secret, arena_lower(arena, text), hash);
    uint64_t bits = 0;
    for (size_t i = 0; i < 5; i++)
        bits = bits << 8 | hash[i];
    for (size_t i = HASH_LEN; i > 0; i--, bits >>= 5)
        out[i - 1] = alphabet[bits & 31];
    return str_of(out, HASH_LEN);
}

/* In the time of the comparison nothing can be seen of the hash. */
static bool is_equal(struct str a, struct str b)
{
    unsigned char difference = 0;
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        difference |= (unsigned char)(ascii_lower(a.ptr[i]) ^ ascii_lower(b.ptr[i]));
    return difference == 0;
}

static bool is_signed(const struct srs_secrets *secrets, struct str hash, struct str text,
                      struct arena *arena)
{
    bool good = false;
    for (size_t i = 0; i < secrets->count; i++)
        good |= is_equal(hash, hash_of(secrets->items[i], text, arena));
    return good;
}

static struct str stamp_of(uint64_t day, struct arena *arena)
{
    uint64_t value = day % STAMPS;
    return arena_printf(arena, "%c%c", alphabet[value >> 5], alphabet[value & 31]);
}

static bool read_stamp(struct str text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = 0;
        while (digit < 32 && alphabet[digit] != ascii_lower(text.ptr[i]))
            digit++;
        if (digit == 32)
            return false;
        *out = *out << 5 | digit;
    }
    return text.len == STAMP_LEN;
}

static bool is_separator(char c)
{
    return c == '=' || c == '-' || c == '+';
}

/* "SRS0=", "SRS1+" …; what stands behind, with the separator. */
static bool starts(struct str local, const char *tag, struct str *out_rest)
{
    if (!str_starts_nocase(local, str_c(tag)) || local.len < 6 || !is_separator(local.ptr[4]))
        return false;
    *out_rest = str_from(local, 4);
    return true;
}

static bool take(struct str *rest, struct str *out)
{
    return rest->len && str_split(rest, '=', out) && rest->ptr != NULL;
}

/* ---- forward ---- */

static struct str wrap(const struct srs_secrets *secrets, struct str host, struct str rest,
                       struct arena *arena)
{
    struct str text = arena_printf(arena, "%.*s=%.*s", STR_ARG(host), STR_ARG(rest));
    struct str hash = hash_of(secrets->items[0], text, arena);
    return arena_printf(arena, "SRS1=%.*s=%.*s", STR_ARG(hash), STR_ARG(text));
}

enum srs_outcome srs_forward(const struct srs_secrets *secrets, struct str sender,
                             struct str domain, uint64_t day, struct arena *arena, struct str *out)
{
    ptrdiff_t at = str_find_last(sender, '@');
    struct str rest, ignored, host, local_out;
    if (at <= 0 || !secrets->count)
        return SRS_NONE;
    struct str local = str_slice(sender, 0, (size_t)at);
    struct str from = str_from(sender, (size_t)at + 1);
    if (starts(local, "SRS0", &rest)) {
        local_out = wrap(secrets, from, rest, arena);
    } else if (starts(local, "SRS1", &rest) && (rest = str_from(rest, 1), take(&rest, &ignored)) &&
               take(&rest, &host)) {
        local_out = wrap(secrets, host, rest, arena);
    } else {
        struct str text = arena_printf(arena, "%.*s=%.*s=%.*s", STR_ARG(stamp_of(day, arena)),
                                       STR_ARG(from), STR_ARG(local));
        local_out = arena_printf(arena, "SRS0=%.*s=%.*s",
                                 STR_ARG(hash_of(secrets->items[0], text, arena)), STR_ARG(text));
    }
    if (local_out.len > LOCAL_MAX)
        return SRS_TOO_LONG;
    *out = arena_printf(arena, "%.*s@%.*s", STR_ARG(local_out), STR_ARG(domain));
    return SRS_DONE;
}

/* ---- back ---- */

static enum srs_outcome unwrap_sender(const struct srs_secrets *secrets, struct str rest,
                                      uint64_t day, uint64_t valid_days, struct arena *arena,
                                      struct str *out)
{
    struct str hash, stamp, domain;
    uint64_t then;
    if (!take(&rest, &hash))
        return SRS_BAD;
    struct str text = rest;
    if (!take(&rest, &stamp) || !take(&rest, &domain) || !rest.len || !domain.len ||
        !is_signed(secrets, hash, text, arena) || !read_stamp(stamp, &then))
        return SRS_BAD;
    uint64_t age = (day % STAMPS + STAMPS - then) % STAMPS;
    if (age > valid_days && age != STAMPS - 1) /* a clock may be a day behind */
        return SRS_EXPIRED;
    *out = arena_printf(arena, "%.*s@%.*s", STR_ARG(rest), STR_ARG(domain));
    return SRS_DONE;
}

static enum srs_outcome unwrap_forwarder(const struct srs_secrets *secrets, struct str rest,
                                         struct arena *arena, struct str *out)
{
    struct str hash, host;
    if (!take(&rest, &hash))
        return SRS_BAD;
    struct str text = rest;
    if (!take(&rest, &host) || !host.len || !rest.len || !is_separator(rest.ptr[0]) ||
        !is_signed(secrets, hash, text, arena))
        return SRS_BAD;
    *out = arena_printf(arena, "SRS0%.*s@%.*s", STR_ARG(rest), STR_ARG(host));
    return SRS_DONE;
}

enum srs_outcome srs_reverse(const struct srs_secrets *secrets, struct str recipient, uint64_t day,
                             uint64_t valid_days, struct arena *arena, struct str *out)
{
    ptrdiff_t at = str_find_last(recipient, '@');
    struct str local = str_slice(recipient, 0, at < 0 ? 0 : (size_t)at);
    struct str rest;
    if (starts(local, "SRS0", &rest))
        return unwrap_sender(secrets, str_from(rest, 1), day, valid_days, arena, out);
    if (starts(local, "SRS1", &rest))
        return unwrap_forwarder(secrets, str_from(rest, 1), arena, out);
    return SRS_NONE;
}
