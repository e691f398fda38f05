/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/dkim_dns.h"

#include "base/buf.h"
#include "content/dkim_key.h"
#include "content/signing_key.h"

enum { RECORD_MAX = 4096, STRING_MAX = 255, KEY_BYTES_MAX = 2048 };

const char *dkim_dns_zone_line(struct arena *arena, struct str name, struct str text)
{
    struct buf line BUF_CLEANUP;
    size_t count = (text.len + STRING_MAX - 1) / STRING_MAX;
    buf_init(&line, 4 * RECORD_MAX);
    buf_printf(&line, "%.*s. IN TXT", STR_ARG(name));
    for (size_t i = 0; i < count; i++) {
        struct str part = str_slice(text, i * STRING_MAX, (i + 1) * STRING_MAX);
        buf_printf(&line, "%s\"%.*s\"",
                   count == 1 ? " "
                   : i        ? "\n    "
                              : " (\n    ",
                   STR_ARG(part));
    }
    buf_append(&line, count == 1 ? STR_EMPTY : STR(" )"));
    return arena_c(arena, buf_str(&line));
}

const char *dkim_dns_record(struct arena *arena, const struct sign_key *key, struct error *err)
{
    struct buf record BUF_CLEANUP;
    buf_init(&record, RECORD_MAX);
    return dkim_key_record(key, &record, err) == OK ? arena_c(arena, buf_str(&record)) : NULL;
}

const char *const dkim_shown_words[] = {
    [DKIM_SHOWN_PUBLISHED] = "published", [DKIM_SHOWN_MISSING] = "missing",
    [DKIM_SHOWN_ANOTHER] = "differs",     [DKIM_SHOWN_REVOKED] = "revoked",
    [DKIM_SHOWN_NO_ANSWER] = "no-answer",
};

static bool same_key(const struct sign_key *a, const struct sign_key *b)
{
    struct error err;
    struct buf one BUF_CLEANUP;
    struct buf other BUF_CLEANUP;
    buf_init(&one, KEY_BYTES_MAX);
    buf_init(&other, KEY_BYTES_MAX);
    return sign_key_public_bytes(a, &one, &err) == OK &&
           sign_key_public_bytes(b, &other, &err) == OK &&
           str_equal(buf_str(&one), buf_str(&other));
}

static enum dkim_shown judge(const struct signing_key *key, const struct dns_text_answer *answer,
                             struct arena *arena)
{
    enum dkim_shown shown = DKIM_SHOWN_MISSING;
    for (size_t i = 0; answer->status == DNS_FOUND && i < answer->count; i++) {
        struct dkim_key found;
        const char *detail;
        if (str_ends(str_trim(answer->texts[i]), STR("p=")))
            shown = DKIM_SHOWN_REVOKED;
        else
            shown = DKIM_SHOWN_ANOTHER;
        if (dkim_key_parse(answer->texts[i], sign_key_kind(key->key), arena, &found, &detail) ==
                DKIM_PASS &&
            same_key(found.key, key->key))
            return DKIM_SHOWN_PUBLISHED;
    }
    return shown;
}

enum dkim_shown dkim_dns_look(struct dns *dns, const struct signing_key *key)
{
    struct dns_text_answer answer;
    struct error err;
    struct arena *arena = arena_new(0);
    struct str name =
        arena_printf(arena, "%.*s._domainkey.%.*s", STR_ARG(key->selector), STR_ARG(key->domain));
    enum dkim_shown shown = DKIM_SHOWN_NO_ANSWER;
    if (dns_query_txt(dns, name, arena, &answer, &err) == OK)
        shown = judge(key, &answer, arena);
    arena_free(arena);
    return shown;
}
