/* SPDX-License-Identifier: Apache-2.0 */
/* SPF beyond the suite: zones made to cost us, identities made to be misread, explanations. */
#include "content/spf.h"

#include "base/test.h"

#include <stdio.h>
#include <string.h>

/* ---- a world without end: every name has what its rule says ---- */

struct world {
    const char *record; /* the last TXT record of all names */
    size_t texts;       /* how many there are; 0: one */
    size_t hosts;       /* of MX and PTR */
    bool addresses;
    bool slow; /* no answer to all but TXT */
    unsigned asked;
};

static enum result world_ask(void *context, enum resolver_type type, struct str name,
                             struct arena *arena, struct resolver_answer *out, struct error *err)
{
    struct world *world = context;
    world->asked++;
    (void)name;
    if (world->slow && type != RESOLVER_TXT)
        return fail(err, ERROR_TIMEOUT, "no answer");
    *out = (struct resolver_answer){.status = DNS_NO_NAME};
    size_t texts = world->texts ? world->texts : 1;
    size_t count = type == RESOLVER_TXT                          ? texts
                   : type == RESOLVER_MX || type == RESOLVER_PTR ? world->hosts
                                                                 : (size_t)world->addresses;
    out->texts = arena_alloc_array(arena, count, sizeof out->texts[0]);
    out->ips = arena_alloc_array(arena, count, sizeof out->ips[0]);
    for (size_t i = 0; i < count; i++) {
        out->ips[i] = (struct net_ip){.family = type == RESOLVER_A ? 4 : 6, .bytes = {10}};
        out->texts[i] = arena_printf(arena, "h%zu.n%u.example", i, world->asked);
        if (type == RESOLVER_TXT)
            out->texts[i] = i + 1 < texts ? STR("something else") : str_c(world->record);
    }
    out->count = count;
    out->status = count ? DNS_FOUND : DNS_NO_DATA;
    return OK;
}

struct bomb {
    const char *name;
    struct world world;
    enum spf_result result;
    unsigned asked_max;
};

#define TEN(term)                                                                                  \
    term " " term " " term " " term " " term " " term " " term " " term " " term " " term

static const struct bomb bombs[] = {
    {"include of itself", {.record = "v=spf1 include:%{d} -all"}, SPF_PERMERROR, 11},
    {"includes that branch",
     {.record = "v=spf1 include:a.%{d} include:b.%{d} -all"},
     SPF_PERMERROR,
     11},
    {"redirect to itself", {.record = "v=spf1 redirect=%{d}"}, SPF_PERMERROR, 11},
    {"redirect that grows", {.record = "v=spf1 redirect=x.%{d}"}, SPF_PERMERROR, 11},
    {"eleven exists",
     {.record = "v=spf1 " TEN("exists:a.%{d}") " exists:%{d} -all", .addresses = false},
     SPF_PERMERROR,
     4},
    {"ten a that miss",
     {.record = "v=spf1 " TEN("a:x.%{d}") " -all", .addresses = true},
     SPF_FAIL,
     11},
    {"eleven a that miss",
     {.record = "v=spf1 " TEN("a:x.%{d}") " a -all", .addresses = true},
     SPF_PERMERROR,
     11},
    {"three void a", {.record = "v=spf1 a:a.%{d} a:b.%{d} a:c.%{d} -all"}, SPF_PERMERROR, 4},
    {"three void mx", {.record = "v=spf1 mx:a.%{d} mx:b.%{d} mx:c.%{d} -all"}, SPF_PERMERROR, 4},
    {"ten mx of ten hosts",
     {.record = "v=spf1 " TEN("mx:x.%{d}") " -all", .hosts = 10, .addresses = true},
     SPF_PERMERROR,
     SPF_BUDGET},
    {"one mx of eleven hosts",
     {.record = "v=spf1 mx -all", .hosts = 11, .addresses = true},
     SPF_PERMERROR,
     2},
    {"a thousand hosts",
     {.record = "v=spf1 mx -all", .hosts = 1000, .addresses = true},
     SPF_PERMERROR,
     2},
    {"hosts without addresses",
     {.record = "v=spf1 " TEN("mx:x.%{d}") " -all", .hosts = 9},
     SPF_PERMERROR,
     SPF_BUDGET},
    {"ptr of a thousand names",
     {.record = "v=spf1 ptr -all", .hosts = 1000, .addresses = true},
     SPF_FAIL,
     12},
    {"ten ptr",
     {.record = "v=spf1 " TEN("ptr:x.%{d}") " -all", .hosts = 10, .addresses = true},
     SPF_FAIL,
     12},
    {"p in each macro",
     {.record = "v=spf1 " TEN("exists:%{p}.%{d}") " -all", .hosts = 10, .addresses = false},
     SPF_PERMERROR,
     16},
    {"p and mx",
     {.record = "v=spf1 exists:%{p}.x " TEN("mx:x.%{d}") " -all", .hosts = 10, .addresses = true},
     SPF_PASS,
     SPF_BUDGET},
    {"a thousand TXT records", {.record = "v=spf1 -all", .texts = 1000}, SPF_FAIL, 1},
    {"slow", {.record = "v=spf1 " TEN("a:x.%{d}") " -all", .slow = true}, SPF_TEMPERROR, 2},
    {"slow, behind an include",
     {.record = "v=spf1 a include:%{d} -all", .slow = true},
     SPF_TEMPERROR,
     2},
    {"explanation without end",
     {.record = "v=spf1 -all exp=%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}.%{d}"},
     SPF_FAIL,
     2},
};

NO_YIELD_CHECK static void check_one(struct world *world, const struct spf_request *request,
                                     struct arena *arena, struct spf_outcome *out)
{
    struct resolver resolver = {.ask = world_ask, .context = world, .budget = SPF_BUDGET};
    spf_check(&resolver, request, arena, out);
}

static void test_bombs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct world world = bombs[i].world;
        struct spf_outcome outcome;
        struct arena *arena = arena_new(0);
        struct spf_request request = {.client = {.family = 4, .bytes = {192, 0, 2, 7}},
                                      .helo = STR("helo.example"),
                                      .sender = STR("a@bomb.example")};
        check_one(&world, &request, arena, &outcome);
        if (outcome.result != bombs[i].result || world.asked > bombs[i].asked_max)
            fail_msg("%s: %s after %u questions (%.*s)", bombs[i].name,
                     spf_result_name(outcome.result), world.asked, STR_ARG(outcome.problem));
        arena_free(arena);
    }
}

/* ---- identities ---- */

static const struct {
    const char *sender, *helo;
    enum spf_result result;
    const char *domain;
    bool is_helo;
} identities[] = {
    {"a@sender.example", "helo.example", SPF_PASS, "sender.example", false},
    {"a@Sender.EXAMPLE.", "helo.example", SPF_PASS, "sender.example", false},
    {"@sender.example", "helo.example", SPF_PASS, "sender.example", false},
    {"\"a@b\"@sender.example", "helo.example", SPF_PASS, "sender.example", false},
    {"", "helo.example", SPF_PASS, "helo.example", true},
    {"", "HELO.example", SPF_PASS, "helo.example", true},
    {"", "localhost", SPF_NONE, "localhost", true},
    {"", "[192.0.2.7]", SPF_NONE, "", true},
    {"", "", SPF_NONE, "", true},
    {"a@[192.0.2.7]", "helo.example", SPF_NONE, "", false},
    {"a@good.example(.evil.example", "helo.example", SPF_NONE, "", false},
    {"", "good.example\\@evil.example", SPF_NONE, "", true},
    {"a@good..example", "helo.example", SPF_NONE, "good..example", false},
    {"a@b\xc3\xbc"
     "cher.example",
     "helo.example", SPF_NONE, "", false},
};

static void test_identities(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof identities / sizeof *identities; i++) {
        struct world world = {.record = "v=spf1 +all"};
        struct spf_outcome outcome;
        struct arena *arena = arena_new(0);
        struct spf_request request = {.client = {.family = 4, .bytes = {192, 0, 2, 7}},
                                      .helo = str_c(identities[i].helo),
                                      .sender = str_c(identities[i].sender)};
        check_one(&world, &request, arena, &outcome);
        if (outcome.result != identities[i].result || outcome.is_helo != identities[i].is_helo ||
            !str_equal(outcome.domain, str_c(identities[i].domain)))
            fail_msg("<%s> from %s: %s of \"%.*s\"", identities[i].sender, identities[i].helo,
                     spf_result_name(outcome.result), STR_ARG(outcome.domain));
        arena_free(arena);
    }
}

/* A client without an address, as behind a socket of the machine, has no SPF. */
static void test_no_client(void **state)
{
    struct world world = {.record = "v=spf1 -all"};
    struct spf_outcome outcome;
    struct arena *arena = arena_new(0);
    struct spf_request request = {.helo = STR("helo.example"), .sender = STR("a@b.example")};
    (void)state;
    check_one(&world, &request, arena, &outcome);
    assert_int_equal(outcome.result, SPF_NONE);
    assert_int_equal(world.asked, 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_no_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
