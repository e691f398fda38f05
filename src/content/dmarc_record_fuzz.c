/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/dmarc_record_fuzz.c - any text as a DMARC record, and as the one record that stands at
 * every _dmarc name of a message whose author the first bytes choose.
 */
#include "content/dmarc.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct str record;
    unsigned places; /* a set of label counts at which it stands */
    unsigned asked;
};

static enum result answer(void *context, enum resolver_type type, struct str name,
                          struct arena *arena, struct resolver_answer *out, struct error *err)
{
    struct world *world = context;
    unsigned labels = 0;
    (void)err;
    world->asked++;
    for (size_t i = 0; i < name.len; i++)
        labels += name.ptr[i] == '.';
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    if (type != RESOLVER_TXT || !(world->places >> (labels % 8) & 1))
        return OK;
    out->status = DNS_FOUND;
    out->count = 1;
    out->texts = arena_alloc_array(arena, 1, sizeof out->texts[0]);
    out->texts[0] = world->record;
    return OK;
}

static void check_record(struct str text)
{
    struct dmarc_record record;
    if (!dmarc_record_is_dmarc(text) || !dmarc_record_parse(text, &record))
        return;
    check(record.p != DMARC_POLICY_UNSET);
    check(record.rua.len <= text.len);
}

NO_YIELD_CHECK int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const headers[] = {"From: a@example.net\r\n\r\n",
                                          "From: a@b.c.example.net\r\n\r\n",
                                          "From: a@a.b.c.d.e.f.g.h.i.example.net\r\n\r\n",
                                          "From: a@example.net, b@example.org\r\n\r\n"};
    if (size < 2)
        return 0;
    struct arena *arena = arena_new(0);
    struct str domains[2] = {STR("x.example.net"), STR("example.net")};
    struct author author;
    struct dmarc_outcome outcome;
    struct world world = {.record = str_of((const char *)data + 2, size - 2), .places = data[1]};
    struct resolver resolver = {.ask = answer, .context = &world, .budget = DMARC_BUDGET};
    author_read(str_c(headers[data[0] & 3]), arena, &author);
    struct dmarc_request request = {.author = &author,
                                    .spf = data[0] & 4 ? SPF_PASS : SPF_FAIL,
                                    .spf_domain = STR("c.example.net"),
                                    .dkim_domains = domains,
                                    .dkim_domain_count = data[0] >> 3 & 1 ? 2 : 0};
    check_record(world.record);
    dmarc_check(&resolver, &request, arena, &outcome);
    check(world.asked <= DMARC_BUDGET);
    check((outcome.disposition != DMARC_POLICY_UNSET) <= (outcome.result == DMARC_FAIL));
    check(author.kind == AUTHOR_CLEAR || outcome.result != DMARC_PASS);
    check(outcome.result != DMARC_PASS || outcome.spf_aligned || outcome.dkim_aligned);
    arena_free(arena);
    return 0;
}
