/* SPDX-License-Identifier: Apache-2.0 */
#include "content/dkim_key.h"

#include "content/tags.h"
#include "crypto/base64.h"

enum { KEY_BYTES_MAX = 2048, NAME_MAX_OCTETS = 253 };

static void release(void *key)
{
    sign_key_free(key);
}

/* v= k= h= s= : is it a key for this kind of signature at all? NULL: yes. */
static const char *find_mismatch(const struct tags *tags, enum sign_kind kind)
{
    const struct tag *version = tags_find(tags, STR("v"));
    const struct tag *type = tags_find(tags, STR("k"));
    const struct tag *hashes = tags_find(tags, STR("h"));
    const struct tag *services = tags_find(tags, STR("s"));
    struct str wanted = kind == SIGN_RSA ? STR("rsa") : STR("ed25519");
    if (version && (version != tags->items || !str_equal(version->value, STR("DKIM1"))))
        return "the key record is of another version";
    if (!str_equal_nocase(type ? type->value : STR("rsa"), wanted))
        return "the key is of another kind than the signature";
    if (hashes && !tags_list_has(hashes->value, STR("sha256")))
        return "the key does not allow SHA-256";
    if (services && !tags_list_has(services->value, STR("*")) &&
        !tags_list_has(services->value, STR("email")))
        return "the key is not for mail";
    return NULL;
}

static enum dkim_result read_key(struct str value, enum sign_kind kind, struct arena *arena,
                                 struct dkim_key *out_key, const char **out_detail)
{
    struct sign_key *key = NULL;
    struct error err = {0};
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, KEY_BYTES_MAX);
    if (value.len == 0) {
        *out_detail = "the key was revoked";
        return DKIM_PERMERROR;
    }
    if (!tags_base64(value, &bytes)) {
        *out_detail = "the key is not base64";
        return DKIM_PERMERROR;
    }
    if (sign_key_public(kind, buf_str(&bytes), &key, &out_key->bits, &err) != OK) {
        *out_detail = err.kind == ERROR_LIMIT ? "the key is too small or too large"
                                              : "the key cannot be read";
        return DKIM_PERMERROR;
    }
    arena_hook(arena, release, key);
    out_key->key = key;
    return DKIM_PASS;
}

enum dkim_result dkim_key_parse(struct str record, enum sign_kind kind, struct arena *arena,
                                struct dkim_key *out_key, const char **out_detail)
{
    struct tags tags;
    *out_key = (struct dkim_key){0};
    if (!tags_parse(record, &tags, out_detail)) {
        *out_detail = "the key record is malformed";
        return DKIM_PERMERROR;
    }
    *out_detail = find_mismatch(&tags, kind);
    if (*out_detail)
        return DKIM_PERMERROR;
    const struct tag *key = tags_find(&tags, STR("p"));
    if (!key) {
        *out_detail = "the key record has no key";
        return DKIM_PERMERROR;
    }
    out_key->testing = tags_list_has(tags_value(&tags, STR("t")), STR("y"));
    out_key->strict = tags_list_has(tags_value(&tags, STR("t")), STR("s"));
    return read_key(key->value, kind, arena, out_key, out_detail);
}

/* There should be one record; of several the first one that is usable counts. */
static enum dkim_result parse_any(const struct dns_text_answer *answer, enum sign_kind kind,
                                  struct arena *arena, struct dkim_key *out_key,
                                  const char **out_detail)
{
    enum { RECORDS_MAX = 4 };
    enum dkim_result first = DKIM_PERMERROR;
    const char *first_detail = "there is no key";
    struct dkim_key first_key = {0};
    for (size_t i = 0; i < answer->count && i < RECORDS_MAX; i++) {
        enum dkim_result result =
            dkim_key_parse(answer->texts[i], kind, arena, out_key, out_detail);
        if (result == DKIM_PASS)
            return DKIM_PASS;
        if (i == 0) {
            first = result;
            first_detail = *out_detail;
            first_key = *out_key;
        }
    }
    *out_detail = first_detail;
    *out_key = first_key;
    return first;
}

enum result dkim_key_fetch(const struct dkim_dns *dns, struct str selector, struct str domain,
                           enum sign_kind kind, struct arena *arena, struct dkim_key *out_key,
                           enum dkim_result *out_result, const char **out_detail, struct error *err)
{
    struct dns_text_answer answer = {0};
    struct str name =
        arena_printf(arena, "%.*s._domainkey.%.*s", STR_ARG(selector), STR_ARG(domain));
    *out_key = (struct dkim_key){0};
    *out_result = DKIM_PERMERROR;
    *out_detail = "the name of the key is too long";
    if (name.len > NAME_MAX_OCTETS)
        return OK;
    if (dns->text(dns->context, name, arena, &answer, err) != OK) {
        if (fiber_current() && fiber_check(err) != OK)
            return FAILED;
        bool is_over = err->kind == ERROR_LIMIT;
        *out_result = is_over ? DKIM_POLICY : DKIM_TEMPERROR;
        *out_detail = is_over ? "more keys than one message may ask for" : "DNS gave no answer";
        return OK;
    }
    if (answer.status != DNS_FOUND)
        answer.count = 0;
    *out_result = parse_any(&answer, kind, arena, out_key, out_detail);
    return OK;
}

enum result dkim_key_record(const struct sign_key *key, struct buf *out, struct error *err)
{
    struct buf bytes BUF_CLEANUP;
    buf_init(&bytes, KEY_BYTES_MAX);
    if (sign_key_public_bytes(key, &bytes, err) != OK)
        return FAILED;
    buf_printf(out, "v=DKIM1; k=%s; p=", sign_key_kind(key) == SIGN_RSA ? "rsa" : "ed25519");
    base64_encode(buf_str(&bytes), out);
    return OK;
}
