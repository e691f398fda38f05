/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/spf_record_fuzz.c - any text as an SPF record: parsed, then evaluated in a DNS where
 * every name has this record, addresses, hosts, or no answer.
 */
#include "content/spf.h"

#include "base/check.h"
#include "content/spf_macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct str record;
    unsigned asked;
};

/* What a name has depends on its letters, so that the input decides. */
static unsigned sum_of(struct str name)
{
    unsigned sum = 0;
    for (size_t i = 0; i < name.len; i++)
        sum = sum * 31 + (unsigned char)name.ptr[i];
    return sum;
}

static enum result answer(void *context, enum resolver_type type, struct str name,
                          struct arena *arena, struct resolver_answer *out, struct error *err)
{
    struct world *world = context;
    unsigned sum = sum_of(name) + (unsigned)type;
    check(resolver_name_is_valid(name));
    world->asked++;
    if (sum % 13 == 0)
        return fail(err, ERROR_TEMPORARY, "no answer");
    *out = (struct resolver_answer){.status = sum % 5 ? DNS_FOUND : DNS_NO_NAME};
    out->count = sum % 5 ? 1 + sum % 12 : 0;
    out->ips = arena_alloc_array(arena, out->count, sizeof out->ips[0]);
    out->texts = arena_alloc_array(arena, out->count, sizeof out->texts[0]);
    if (type == RESOLVER_TXT && out->count)
        out->count = 1;
    for (size_t i = 0; i < out->count; i++) {
        out->ips[i] = (struct net_ip){.family = type == RESOLVER_A ? 4 : 6, .bytes = {192, 0, 2}};
        out->ips[i].bytes[3] = (unsigned char)(sum + i);
        out->texts[i] =
            type == RESOLVER_TXT ? world->record : arena_printf(arena, "h%zu.%u.example", i, sum);
    }
    return OK;
}

static void check_terms(struct str text, struct arena *arena)
{
    struct spf_record record;
    struct str bad = STR_EMPTY;
    if (!spf_record_is_spf(text) || !spf_record_parse(text, arena, &record, &bad)) {
        check(bad.len <= text.len);
        return;
    }
    for (size_t i = 0; i < record.count; i++) {
        const struct spf_term *term = &record.terms[i];
        check(term->domain.len == 0 || spf_macro_is_domain_spec(term->domain));
        check(term->bits4 <= 32 && term->bits6 <= 128 && term->network.bits <= 128);
        check(term->qualifier == SPF_PASS || term->qualifier == SPF_FAIL ||
              term->qualifier == SPF_SOFTFAIL || term->qualifier == SPF_NEUTRAL);
    }
}

NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new(0);
    struct str text = arena_printf(arena, "v=spf1 %.*s", (int)size, (const char *)data);
    struct world world = {.record = text};
    struct resolver resolver = {.ask = answer, .context = &world, .budget = SPF_BUDGET};
    struct spf_request request = {.helo = STR("helo.example"),
                                  .sender = STR("\"a.b-c\"@sub.example.net"),
                                  .client = {.family = 4, .bytes = {192, 0, 2, 7}}};
    struct spf_outcome outcome;
    if (size & 1) {
        request.client = (struct net_ip){.family = 6, .bytes = {0x20, 1, 0xd, 0xb8}};
        request.sender = STR_EMPTY;
    }
    check_terms(text, arena);
    spf_check(&resolver, &request, arena, &outcome);
    check(world.asked <= SPF_BUDGET);
    check(outcome.result <= SPF_PERMERROR);
    check((outcome.result == SPF_TEMPERROR || outcome.result == SPF_PERMERROR) ==
          (outcome.problem.len > 0));
    check(outcome.explanation.len == 0 || outcome.result == SPF_FAIL);
    arena_free(arena);
    return 0;
}
