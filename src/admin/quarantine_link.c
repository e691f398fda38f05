/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token := base64url(u8 1, u64 key, id message, u64 expires (s), u8 length, quarantine, recipient,
 *                    32 bytes HMAC of all before), numbers big endian
 */
#include "admin/quarantine_link.h"

#include "base/buf.h"
#include "base/clock.h"
#include "crypto/base64.h"
#include "crypto/sha256.h"
#include "spool/vault.h"

enum {
    FORM = 1,
    FIXED = 1 + 8 + 16 + 8 + 1,
    TEXT_MAX = 255,
    RECIPIENT_MAX = 512,
    TOKEN_MAX = 1400
};

#define PURPOSE STR("postern quarantine link")

static void put_number(struct buf *out, uint64_t value)
{
    for (int shift = 56; shift >= 0; shift -= 8)
        buf_append_byte(out, (char)(unsigned char)(value >> shift));
}

static uint64_t get_number(struct str bytes, size_t at)
{
    uint64_t value = 0;
    for (size_t i = at; i < at + 8; i++)
        value = value << 8 | (unsigned char)bytes.ptr[i];
    return value;
}

bool quarantine_link_make(struct spool_vault *vault, const struct quarantine_link *link,
                          struct arena *arena, struct str *out_token)
{
    struct buf bytes BUF_CLEANUP;
    struct buf text BUF_CLEANUP;
    unsigned char mac[HMAC_SIZE];
    uint64_t key = spool_vault_current(vault);
    buf_init(&bytes, TOKEN_MAX);
    buf_init(&text, 2 * TOKEN_MAX);
    if (link->quarantine.len > TEXT_MAX || link->recipient.len > RECIPIENT_MAX)
        return false;
    buf_append_byte(&bytes, FORM);
    put_number(&bytes, key);
    put_number(&bytes, link->message.high);
    put_number(&bytes, link->message.low);
    put_number(&bytes, (uint64_t)(link->expires_wall_ns / NS_PER_S));
    buf_append_byte(&bytes, (char)(unsigned char)link->quarantine.len);
    buf_append(&bytes, link->quarantine);
    buf_append(&bytes, link->recipient);
    if (!spool_vault_mac(vault, key, PURPOSE, buf_str(&bytes), mac))
        return false;
    buf_append(&bytes, str_of((const char *)mac, sizeof mac));
    base64_encode(buf_str(&bytes), &text);
    while (text.len && text.ptr[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++)
        text.ptr[i] = text.ptr[i] == '+' ? '-' : text.ptr[i] == '/' ? '_' : text.ptr[i];
    *out_token = arena_str(arena, buf_str(&text));
    return true;
}

static bool decode(struct str token, struct buf *out)
{
    struct buf text BUF_CLEANUP;
    buf_init(&text, TOKEN_MAX + 4);
    if (token.len > TOKEN_MAX)
        return false;
    for (size_t i = 0; i < token.len; i++) {
        char c = token.ptr[i];
        if (c == '+' || c == '/' || c == '=')
            return false; /* one way to write it */
        buf_append_byte(&text, c == '-' ? '+' : c == '_' ? '/' : c);
    }
    while (text.len % 4)
        buf_append_byte(&text, '=');
    return base64_decode(buf_str(&text), out);
}

enum quarantine_link_state quarantine_link_read(struct spool_vault *vault, struct str token,
                                                int64_t now_wall_ns, struct arena *arena,
                                                struct quarantine_link *out)
{
    struct buf bytes BUF_CLEANUP;
    unsigned char mac[HMAC_SIZE];
    buf_init(&bytes, TOKEN_MAX);
    if (!decode(token, &bytes) || bytes.len < FIXED + HMAC_SIZE || bytes.ptr[0] != FORM)
        return QUARANTINE_LINK_FORGED;
    struct str all = buf_str(&bytes);
    struct str said = str_slice(all, 0, all.len - HMAC_SIZE);
    if (!spool_vault_mac(vault, get_number(said, 1), PURPOSE, said, mac) ||
        !sha256_equal(mac, (const unsigned char *)all.ptr + said.len))
        return QUARANTINE_LINK_FORGED;
    size_t name_len = (unsigned char)said.ptr[FIXED - 1];
    if (said.len <= FIXED + name_len || said.ptr[FIXED + name_len] == '@')
        return QUARANTINE_LINK_FORGED;
    *out = (struct quarantine_link){
        .message = {.high = get_number(said, 9), .low = get_number(said, 17)},
        .expires_wall_ns = (int64_t)(get_number(said, 25) % (INT64_MAX / NS_PER_S)) * NS_PER_S,
        .quarantine = arena_str(arena, str_slice(said, FIXED, FIXED + name_len)),
        .recipient = arena_str(arena, str_from(said, FIXED + name_len)),
    };
    return now_wall_ns > out->expires_wall_ns ? QUARANTINE_LINK_EXPIRED : QUARANTINE_LINK_VALID;
}
