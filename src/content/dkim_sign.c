/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim_sign.c - makes DKIM-Signature fields.
 */
#include "base/clock.h"
#include "content/dkim.h"
#include "content/draft.h"
#include "content/signed_names.h"
#include "crypto/base64.h"

static void write_tags(const struct dkim_signer *signer, const struct dkim_message *message,
                       const struct str *names, size_t count, struct arena *arena,
                       struct draft *draft)
{
    static const char *const canons[] = {[DKIM_SIMPLE] = "simple", [DKIM_RELAXED] = "relaxed"};
    bool is_rsa = sign_key_kind(signer->key) == SIGN_RSA;
    const struct dkim_body_hash *body = &message->bodies[signer->body];
    int64_t now_s = clock_wall_ns() / NS_PER_S;
    struct buf hash BUF_CLEANUP;
    buf_init(&hash, 64);
    base64_encode(str_of((const char *)body->hash, SHA256_SIZE), &hash);
    draft_tag(draft, "v", STR("1"));
    draft_tag(draft, "a", is_rsa ? STR("rsa-sha256") : STR("ed25519-sha256"));
    draft_tag(draft, "c",
              arena_printf(arena, "%s/%s", canons[signer->header], canons[signer->body]));
    draft_tag(draft, "d", signer->domain);
    draft_tag(draft, "s", signer->selector);
    draft_tag(draft, "t", arena_printf(arena, "%lld", (long long)now_s));
    if (signer->valid_s > 0)
        draft_tag(draft, "x", arena_printf(arena, "%lld", (long long)(now_s + signer->valid_s)));
    draft_names(draft, names, count);
    draft_tag(draft, "bh", buf_str(&hash));
    draft_hole(draft);
}

static enum result sign(const struct dkim_message *message, const struct dkim_signer *signer,
                        struct fields *fields, struct arena *arena, struct str *out_field,
                        struct error *err)
{
    struct str names[SIGNED_NAMES_MAX];
    size_t count = 0;
    struct draft draft;
    struct canon_sink sink;
    if (fields_count(fields, STR("From")) == 0)
        return fail(err, ERROR_PERMANENT, "the message has no From");
    if (signed_names_choose(fields, names, &count, err) != OK)
        return FAILED;
    draft_open(&draft, STR("DKIM-Signature"));
    write_tags(signer, message, names, count, arena, &draft);
    canon_sink_open(&sink);
    for (size_t i = 0; i < count; i++) {
        const struct mail_field *field = fields_take(fields, names[i]);
        if (field)
            canon_field(&sink, signer->header, field);
    }
    enum result result =
        draft_sign(&draft, signer->header, &sink, signer->key, arena, out_field, err);
    canon_sink_close(&sink);
    draft_close(&draft);
    return result;
}

enum result dkim_sign(struct dkim_message *message, const struct dkim_signer *signer,
                      struct arena *arena, struct str *out_field, struct error *err)
{
    struct fields fields;
    if (canon_hash_bodies(message, 1u << signer->body, err) != OK)
        return FAILED;
    fields_init(&fields, arena, message->header);
    enum result result = sign(message, signer, &fields, arena, out_field, err);
    fields_done(&fields);
    return result;
}
