/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/origin.h"

#include "base/buf.h"

#include <string.h>

enum { VERSION = 3, ORIGIN_MAX = 64 * 1024, TEXTS = 7, OWN_MAX = 100 };

/* The texts of the facts in the order of the format; new ones go behind all of it, with a new
 * version. */
static void list_texts(struct flow_facts *facts, struct str *out[TEXTS])
{
    struct str *texts[TEXTS] = {&facts->user,         &facts->client_name, &facts->helo,
                                &facts->tls,          &facts->listener,    &facts->sender,
                                &facts->sender_domain};
    memcpy(out, texts, sizeof texts);
}

static void put_u16(struct buf *out, size_t value)
{
    buf_append_byte(out, (char)(value & 0xff));
    buf_append_byte(out, (char)(value >> 8 & 0xff));
}

static void put_text(struct buf *out, struct str text)
{
    struct str cut = str_slice(text, 0, 4096);
    put_u16(out, cut.len);
    buf_append(out, cut);
}

struct str origin_encode(struct arena *arena, const struct flow_facts *facts)
{
    struct flow_facts copy = *facts;
    struct str *texts[TEXTS];
    list_texts(&copy, texts);
    struct buf out BUF_CLEANUP;
    buf_init(&out, ORIGIN_MAX);
    buf_append_byte(&out, VERSION);
    buf_append_byte(&out,
                    (char)(facts->authenticated | facts->trusted << 1 | facts->smtputf8 << 2));
    buf_append(&out, str_of((const char *)&facts->session, sizeof facts->session));
    buf_append_byte(&out, (char)facts->client.family);
    buf_append(&out, str_of((const char *)facts->client.bytes, sizeof facts->client.bytes));
    for (size_t i = 0; i < TEXTS; i++)
        put_text(&out, *texts[i]);
    size_t own = facts->own_address_count < OWN_MAX ? facts->own_address_count : OWN_MAX;
    put_u16(&out, own);
    for (size_t i = 0; i < own; i++) {
        struct str text = str_slice(facts->own_addresses[i], 0, 320);
        put_u16(&out, text.len);
        buf_append(&out, text);
    }
    put_text(&out, facts->cipher);
    put_text(&out, facts->mechanism);
    return arena_str(arena, buf_str(&out));
}

static bool take_bytes(struct str *rest, void *out, size_t size)
{
    if (rest->len < size)
        return false;
    memcpy(out, rest->ptr, size);
    *rest = str_from(*rest, size);
    return true;
}

static bool take_text(struct str *rest, struct arena *arena, struct str *out)
{
    unsigned char length[2];
    if (!take_bytes(rest, length, 2))
        return false;
    size_t len = (size_t)length[0] | (size_t)length[1] << 8;
    if (rest->len < len)
        return false;
    *out = arena_str(arena, str_slice(*rest, 0, len));
    *rest = str_from(*rest, len);
    return true;
}

/* Version 2: the addresses of the user. */
static bool take_own_addresses(struct str *rest, struct arena *arena, struct flow_facts *facts)
{
    unsigned char length[2];
    if (!take_bytes(rest, length, 2))
        return false;
    facts->own_address_count = (size_t)length[0] | (size_t)length[1] << 8;
    if (facts->own_address_count > OWN_MAX)
        return false;
    facts->own_addresses =
        arena_alloc_array(arena, facts->own_address_count + 1, sizeof *facts->own_addresses);
    for (size_t i = 0; i < facts->own_address_count; i++)
        if (!take_text(rest, arena, &facts->own_addresses[i]))
            return false;
    return true;
}

bool origin_decode(struct arena *arena, struct str bytes, struct flow_facts *out_facts)
{
    struct flow_facts facts = {0};
    unsigned char head[2];
    if (!take_bytes(&bytes, head, 2) || head[0] < 1 || head[0] > VERSION ||
        !take_bytes(&bytes, &facts.session, sizeof facts.session) ||
        !take_bytes(&bytes, &facts.client.family, 1) ||
        !take_bytes(&bytes, facts.client.bytes, sizeof facts.client.bytes))
        return false;
    facts.authenticated = head[1] & 1;
    facts.trusted = head[1] >> 1 & 1;
    facts.smtputf8 = head[1] >> 2 & 1;
    struct str *texts[TEXTS];
    list_texts(&facts, texts);
    for (size_t i = 0; i < TEXTS; i++) {
        if (!take_text(&bytes, arena, texts[i]))
            return false;
    }
    if (head[0] >= 2 && !take_own_addresses(&bytes, arena, &facts))
        return false;
    /* version 3: more of the session */
    if (head[0] >= 3 &&
        (!take_text(&bytes, arena, &facts.cipher) || !take_text(&bytes, arena, &facts.mechanism)))
        return false;
    *out_facts = facts;
    return bytes.len == 0;
}
