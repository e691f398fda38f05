/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dkim.c - verifies the DKIM-Signature fields of a message.
 */
#include "content/dkim.h"

#include "base/clock.h"
#include "content/canon.h"
#include "content/signature.h"

struct verifying {
    struct dkim_message *message;
    const struct dkim_dns *dns;
    struct arena *arena;
    struct dkim_answer *answer;
    struct fields fields;
    struct signature *signatures; /* beside those of the answer */
};

const char *dkim_result_name(enum dkim_result result)
{
    static const char *const names[] = {
        [DKIM_NONE] = "none",           [DKIM_PASS] = "pass",       [DKIM_FAIL] = "fail",
        [DKIM_POLICY] = "policy",       [DKIM_NEUTRAL] = "neutral", [DKIM_TEMPERROR] = "temperror",
        [DKIM_PERMERROR] = "permerror",
    };
    return names[result];
}

static bool is_signature(const struct mail_field *field)
{
    return str_equal_nocase(field->name, STR("DKIM-Signature"));
}

static void read_field(struct verifying *verifying, const struct mail_field *field)
{
    struct dkim_answer *answer = verifying->answer;
    if (answer->count == DKIM_SIGNATURES_MAX) {
        answer->ignored++;
        return;
    }
    const char *detail;
    struct signature *signature = &verifying->signatures[answer->count];
    struct dkim_signature *out = &answer->signatures[answer->count++];
    out->result = signature_parse(field, SIGNATURE_DKIM, clock_wall_ns() / NS_PER_S,
                                  verifying->arena, signature, &detail);
    out->domain = signature->domain;
    out->selector = signature->selector;
    out->identity = signature->identity;
    out->algorithm = signature->algorithm;
    out->start = signature->start;
    out->detail = str_c(detail);
}

/* Bodies first, all that are needed in one pass: what was changed need not be asked about. */
static MAY_YIELD enum result check_bodies(struct verifying *verifying, struct error *err)
{
    struct dkim_answer *answer = verifying->answer;
    unsigned wanted = 0;
    for (size_t i = 0; i < answer->count; i++)
        if (answer->signatures[i].result == DKIM_PASS)
            wanted |= 1u << verifying->signatures[i].body;
    if (canon_hash_bodies(verifying->message, wanted, err) != OK)
        return FAILED;
    for (size_t i = 0; i < answer->count; i++) {
        const char *detail;
        struct dkim_signature *out = &answer->signatures[i];
        if (out->result != DKIM_PASS)
            continue;
        out->result = signature_check_body(&verifying->signatures[i], verifying->message, &detail);
        out->detail = str_c(detail);
    }
    return OK;
}

static MAY_YIELD enum result check_signature(struct verifying *verifying, size_t index,
                                             struct error *err)
{
    const struct signature *signature = &verifying->signatures[index];
    struct dkim_signature *out = &verifying->answer->signatures[index];
    unsigned char hash[SHA256_SIZE];
    struct dkim_key key;
    const char *detail;
    signature_hash(signature, &verifying->fields, hash);
    if (signature_check(signature, hash, verifying->dns, verifying->arena, &key, &out->result,
                        &detail, err) != OK)
        return FAILED;
    out->detail = str_c(detail);
    out->testing = key.testing;
    if (out->result != DKIM_PASS || !key.strict)
        return OK;
    ptrdiff_t at = str_find_last(out->identity, '@');
    if (!str_equal_nocase(str_from(out->identity, (size_t)at + 1), out->domain)) {
        out->result = DKIM_PERMERROR;
        out->detail = STR("the key is for no subdomains");
    }
    return OK;
}

static void judge(struct dkim_answer *answer)
{
    static const int ranks[] = {
        [DKIM_NONE] = 0,   [DKIM_NEUTRAL] = 1,   [DKIM_PERMERROR] = 2, [DKIM_FAIL] = 3,
        [DKIM_POLICY] = 4, [DKIM_TEMPERROR] = 5, [DKIM_PASS] = 6,
    };
    for (size_t i = 0; i < answer->count; i++)
        if (ranks[answer->signatures[i].result] > ranks[answer->result])
            answer->result = answer->signatures[i].result;
}

static bool is_below(struct str domain, struct str above)
{
    return str_equal(domain, above) || (domain.len > above.len && str_ends(domain, above) &&
                                        domain.ptr[domain.len - above.len - 1] == '.');
}

static bool is_by_author(const struct verifying *verifying, size_t index)
{
    struct str author = verifying->message->author;
    struct str domain = verifying->answer->signatures[index].domain;
    return author.len && (is_below(author, domain) || is_below(domain, author));
}

/* The author's own first: signatures of others must not use up what may be asked for them. */
static MAY_YIELD enum result check_all(struct verifying *verifying, struct error *err)
{
    if (check_bodies(verifying, err) != OK)
        return FAILED;
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < verifying->answer->count; i++)
            if (verifying->answer->signatures[i].result == DKIM_PASS &&
                is_by_author(verifying, i) == (turn == 0) &&
                check_signature(verifying, i, err) != OK)
                return FAILED;
    judge(verifying->answer);
    return OK;
}

enum result dkim_verify(struct dkim_message *message, const struct dkim_dns *dns,
                        struct arena *arena, struct dkim_answer *out, struct error *err)
{
    struct verifying verifying = {.message = message, .dns = dns, .arena = arena, .answer = out};
    struct str rest = message->header;
    struct mail_field field;
    *out = (struct dkim_answer){.result = DKIM_NONE};
    if (!mail_header_find(message->header, STR("DKIM-Signature"), &field))
        return OK;
    verifying.signatures = arena_alloc_array(arena, DKIM_SIGNATURES_MAX, sizeof(struct signature));
    while (mail_header_next(&rest, &field))
        if (is_signature(&field))
            read_field(&verifying, &field);
    fields_init(&verifying.fields, arena, message->header);
    enum result result = check_all(&verifying, err);
    fields_done(&verifying.fields);
    return result;
}
