/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/arc.c - validates a chain.
 */
#include "content/arc.h"

#include "content/arc_set.h"
#include "content/canon.h"
#include "content/signature.h"

struct verifying {
    struct dkim_message *message;
    const struct dkim_dns *dns;
    struct arena *arena;
    struct arc_answer *answer;
    struct arc_chain chain;
    unsigned char hashes[ARC_SETS_MAX][SHA256_SIZE]; /* what each seal signs */
};

const char *arc_result_name(enum arc_result result)
{
    static const char *const names[] = {
        [ARC_NONE] = "none", [ARC_PASS] = "pass", [ARC_FAIL] = "fail"};
    return names[result];
}

static bool refuse(struct verifying *verifying, unsigned instance, const char *detail)
{
    verifying->answer->result = ARC_FAIL;
    verifying->answer->detail =
        instance ? arena_printf(verifying->arena, "i=%u: %s", instance, detail) : str_c(detail);
    return false;
}

/* cv= of all seals: none for the first, pass for the others (RFC 8617 5.2). */
static bool check_status(struct verifying *verifying)
{
    struct arc_answer *answer = verifying->answer;
    struct str newest = tags_value(&verifying->chain.seals[answer->count - 1].tags, STR("cv"));
    if (str_equal(newest, STR("fail"))) {
        answer->ended = true;
        return refuse(verifying, answer->count, "the seal says that the chain is broken");
    }
    for (unsigned i = 0; i < answer->count; i++) {
        struct str status = tags_value(&verifying->chain.seals[i].tags, STR("cv"));
        if (!str_equal(status, i == 0 ? STR("none") : STR("pass")))
            return refuse(verifying, i + 1, "cv= is wrong");
    }
    return true;
}

static bool parse_seals(struct verifying *verifying)
{
    struct arc_answer *answer = verifying->answer;
    for (unsigned i = 0; i < answer->count; i++) {
        const char *detail;
        struct signature *seal = &verifying->chain.seals[i];
        enum dkim_result result =
            signature_parse(&verifying->chain.fields[i][ARC_FIELD_SEAL], SIGNATURE_ARC_SEAL, 0,
                            verifying->arena, seal, &detail);
        if (result == DKIM_PASS && tags_find(&seal->tags, STR("h"))) {
            detail = "the seal has h=";
            result = DKIM_PERMERROR;
        }
        if (result != DKIM_PASS)
            return refuse(verifying, i + 1, detail);
        answer->sets[i] = (struct arc_set){
            .domain = seal->domain,
            .selector = seal->selector,
            .results = arc_results_of(&verifying->chain.fields[i][ARC_FIELD_RESULTS])};
    }
    return true;
}

/* A seal covers all sets before it and its own: one pass hashes for all of them. */
static void hash_seals(struct verifying *verifying)
{
    struct canon_sink all, one;
    canon_sink_open(&all);
    for (unsigned i = 0; i < verifying->answer->count; i++) {
        const struct signature *seal = &verifying->chain.seals[i];
        const struct mail_field *fields = verifying->chain.fields[i];
        canon_field(&all, DKIM_RELAXED, &fields[ARC_FIELD_RESULTS]);
        canon_field(&all, DKIM_RELAXED, &fields[ARC_FIELD_MESSAGE]);
        canon_sink_copy(&all, &one);
        canon_signature(&one, DKIM_RELAXED, &seal->field, tags_find(&seal->tags, STR("b"))->whole);
        canon_sink_finish(&one, verifying->hashes[i]);
        canon_sink_close(&one);
        canon_field(&all, DKIM_RELAXED, &fields[ARC_FIELD_SEAL]);
    }
    canon_sink_close(&all);
}

static MAY_YIELD enum result check_signature(struct verifying *verifying,
                                             const struct signature *signature, unsigned instance,
                                             const unsigned char *hash, bool *out_good,
                                             struct error *err)
{
    struct dkim_key key;
    enum dkim_result result;
    const char *detail;
    if (signature_check(signature, hash, verifying->dns, verifying->arena, &key, &result, &detail,
                        err) != OK)
        return FAILED;
    *out_good = result == DKIM_PASS || refuse(verifying, instance, detail);
    return OK;
}

/* The newest ARC-Message-Signature: the message is as the last sealer saw it. */
static MAY_YIELD enum result check_message(struct verifying *verifying, bool *out_good,
                                           struct error *err)
{
    unsigned instance = verifying->answer->count;
    struct signature *signature = ARENA_NEW(verifying->arena, struct signature);
    const struct mail_field *field = &verifying->chain.fields[instance - 1][ARC_FIELD_MESSAGE];
    unsigned char hash[SHA256_SIZE];
    struct fields fields;
    const char *detail;
    enum dkim_result result =
        signature_parse(field, SIGNATURE_ARC_MESSAGE, 0, verifying->arena, signature, &detail);
    if (result == DKIM_PASS) {
        if (canon_hash_bodies(verifying->message, 1u << signature->body, err) != OK)
            return FAILED;
        result = signature_check_body(signature, verifying->message, &detail);
    }
    if (result != DKIM_PASS) {
        *out_good = refuse(verifying, instance, detail);
        return OK;
    }
    verifying->answer->signs_from = tags_list_has(signature->names, STR("from"));
    fields_init(&fields, verifying->arena, verifying->message->header);
    signature_hash(signature, &fields, hash);
    fields_done(&fields);
    return check_signature(verifying, signature, instance, hash, out_good, err);
}

static MAY_YIELD enum result check_seals(struct verifying *verifying, bool *out_good,
                                         struct error *err)
{
    hash_seals(verifying);
    for (unsigned i = verifying->answer->count; i > 0 && *out_good; i--)
        if (check_signature(verifying, &verifying->chain.seals[i - 1], i, verifying->hashes[i - 1],
                            out_good, err) != OK)
            return FAILED;
    return OK;
}

enum result arc_verify(struct dkim_message *message, const struct dkim_dns *dns,
                       struct arena *arena, struct arc_answer *out, struct error *err)
{
    const char *detail = "";
    *out = (struct arc_answer){.result = ARC_NONE, .detail = STR_EMPTY};
    if (!arc_chain_is_there(message->header))
        return OK;
    struct verifying *verifying = ARENA_NEW(arena, struct verifying);
    *verifying = (struct verifying){.message = message, .dns = dns, .arena = arena, .answer = out};
    bool good =
        arc_chain_collect(message->header, arena, &verifying->chain, &out->count, &detail) ||
        refuse(verifying, 0, detail);
    if (!good || !parse_seals(verifying))
        return OK;
    out->known = true;
    if (!check_status(verifying))
        return OK;
    if (check_message(verifying, &good, err) != OK ||
        (good && check_seals(verifying, &good, err) != OK))
        return FAILED;
    if (good)
        out->result = ARC_PASS;
    return OK;
}
