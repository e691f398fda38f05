/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/arc_seal.c - makes the next set of a chain (RFC 8617 5.1).
 */
#include "base/clock.h"
#include "content/arc_set.h"
#include "content/draft.h"
#include "content/signed_names.h"
#include "crypto/base64.h"

enum { RESULTS_MAX = 64 * 1024 };

struct sealing {
    struct dkim_message *message;
    const struct arc_sealer *sealer;
    const struct arc_answer *chain;
    struct arena *arena;
    struct str instance, now;
    struct fields fields;
    struct str results, signature, seal; /* the three fields */
};

/* ---- ARC-Authentication-Results ---- */

/* What stands behind our name in an Authentication-Results field; false: it is another's. */
static bool take_results(struct str value, struct str authserv_id, struct str *out)
{
    struct str name;
    if (!str_split(&value, ';', &name) || !value.ptr)
        return false;
    *out = str_trim(value);
    if (str_ends(*out, STR(";")))
        *out = str_trim(str_slice(*out, 0, out->len - 1));
    return str_equal_nocase(str_trim(name), authserv_id) && out->len > 0;
}

/* All of ours, in their order, become one. False: there are none. */
static bool write_results(struct sealing *sealing, struct error *err, enum result *out_result)
{
    struct str rest = sealing->message->header;
    struct str id = sealing->sealer->authserv_id;
    struct mail_field field;
    struct buf text BUF_CLEANUP;
    bool found = false;
    buf_init(&text, RESULTS_MAX);
    buf_printf(&text, "ARC-Authentication-Results: i=%.*s; %.*s", STR_ARG(sealing->instance),
               STR_ARG(id));
    while (mail_header_next(&rest, &field)) {
        struct str results;
        if (!str_equal_nocase(field.name, STR("Authentication-Results")) ||
            !take_results(field.value, id, &results))
            continue;
        buf_append(&text, STR(";\r\n "));
        buf_append(&text, results);
        found = true;
    }
    buf_append(&text, STR("\r\n"));
    *out_result =
        text.overflow ? fail(err, ERROR_LIMIT, "results of over %d bytes", RESULTS_MAX) : OK;
    sealing->results = arena_str(sealing->arena, buf_str(&text));
    return found;
}

/* ---- ARC-Message-Signature ---- */

static struct str algorithm_of(const struct arc_sealer *sealer)
{
    return sign_key_kind(sealer->key) == SIGN_RSA ? STR("rsa-sha256") : STR("ed25519-sha256");
}

static enum result write_signature(struct sealing *sealing, const struct str *names, size_t count,
                                   struct error *err)
{
    const struct arc_sealer *sealer = sealing->sealer;
    const struct dkim_body_hash *body = &sealing->message->bodies[DKIM_RELAXED];
    struct draft draft;
    struct canon_sink sink;
    struct buf hash BUF_CLEANUP;
    buf_init(&hash, 64);
    base64_encode(str_of((const char *)body->hash, SHA256_SIZE), &hash);
    draft_open(&draft, STR("ARC-Message-Signature"));
    draft.one_line = true;
    draft_tag(&draft, "a", algorithm_of(sealer));
    draft_hole(&draft);
    draft_tag(&draft, "bh", buf_str(&hash));
    draft_tag(&draft, "c", STR("relaxed/relaxed"));
    draft_tag(&draft, "d", sealer->domain);
    draft_names(&draft, names, count);
    draft_tag(&draft, "i", sealing->instance);
    draft_tag(&draft, "s", sealer->selector);
    draft_tag(&draft, "t", sealing->now);
    canon_sink_open(&sink);
    fields_restart(&sealing->fields);
    for (size_t i = 0; i < count; i++) {
        const struct mail_field *field = fields_take(&sealing->fields, names[i]);
        if (field)
            canon_field(&sink, DKIM_RELAXED, field);
    }
    enum result result = draft_sign(&draft, DKIM_RELAXED, &sink, sealer->key, sealing->arena,
                                    &sealing->signature, err);
    canon_sink_close(&sink);
    draft_close(&draft);
    return result;
}

/* ---- ARC-Seal ---- */

static void add_field(struct canon_sink *sink, struct str text)
{
    struct mail_field field;
    if (mail_header_next(&text, &field))
        canon_field(sink, DKIM_RELAXED, &field);
}

/* The sets before: those of a broken chain are not vouched for (5.1.2). */
static void add_chain(struct sealing *sealing, struct canon_sink *sink)
{
    struct arc_chain *chain = ARENA_NEW(sealing->arena, struct arc_chain);
    const char *detail;
    unsigned count;
    if (sealing->chain->result != ARC_PASS ||
        !arc_chain_collect(sealing->message->header, sealing->arena, chain, &count, &detail))
        return;
    for (unsigned i = 0; i < count; i++)
        for (int kind = 0; kind < ARC_FIELD_COUNT; kind++)
            canon_field(sink, DKIM_RELAXED, &chain->fields[i][kind]);
}

static enum result write_seal(struct sealing *sealing, struct error *err)
{
    const struct arc_sealer *sealer = sealing->sealer;
    struct draft draft;
    struct canon_sink sink;
    draft_open(&draft, STR("ARC-Seal"));
    draft.one_line = true;
    draft_tag(&draft, "a", algorithm_of(sealer));
    draft_hole(&draft);
    draft_tag(&draft, "cv", str_c(arc_result_name(sealing->chain->result)));
    draft_tag(&draft, "d", sealer->domain);
    draft_tag(&draft, "i", sealing->instance);
    draft_tag(&draft, "s", sealer->selector);
    draft_tag(&draft, "t", sealing->now);
    canon_sink_open(&sink);
    add_chain(sealing, &sink);
    add_field(&sink, sealing->results);
    add_field(&sink, sealing->signature);
    enum result result =
        draft_sign(&draft, DKIM_RELAXED, &sink, sealer->key, sealing->arena, &sealing->seal, err);
    canon_sink_close(&sink);
    draft_close(&draft);
    return result;
}

/* ---- the set ---- */

static enum result write_set(struct sealing *sealing, struct str *out_fields, struct error *err)
{
    const struct arc_sealer *sealer = sealing->sealer;
    struct str own_names[SIGNED_NAMES_MAX];
    const struct str *names = sealer->names;
    size_t count = sealer->name_count;
    if (!names) {
        if (signed_names_choose(&sealing->fields, own_names, &count, err) != OK)
            return FAILED;
        names = own_names;
    }
    if (write_signature(sealing, names, count, err) != OK || write_seal(sealing, err) != OK)
        return FAILED;
    *out_fields = arena_printf(sealing->arena, "%.*s%.*s%.*s", STR_ARG(sealing->seal),
                               STR_ARG(sealing->signature), STR_ARG(sealing->results));
    return OK;
}

enum result arc_seal(struct dkim_message *message, const struct arc_sealer *sealer,
                     const struct arc_answer *chain, struct arena *arena, struct str *out_fields,
                     struct error *err)
{
    struct sealing sealing = {
        .message = message,
        .sealer = sealer,
        .chain = chain,
        .arena = arena,
        .instance = arena_printf(arena, "%u", chain->count + 1),
        .now = arena_printf(arena, "%lld", (long long)(clock_wall_ns() / NS_PER_S)),
    };
    enum result result = OK;
    *out_fields = STR_EMPTY;
    if (chain->ended || chain->count >= ARC_INSTANCE_MAX ||
        !write_results(&sealing, err, &result) || result != OK)
        return result;
    if (canon_hash_bodies(message, 1u << DKIM_RELAXED, err) != OK)
        return FAILED;
    fields_init(&sealing.fields, arena, message->header);
    result = write_set(&sealing, out_fields, err);
    fields_done(&sealing.fields);
    return result;
}
