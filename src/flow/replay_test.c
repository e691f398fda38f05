/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/test.h"

#include "flow/flow_internal.h"

static struct flow_facts facts_of(const char *sender)
{
    ptrdiff_t at = str_find_last(str_c(sender), '@');
    struct flow_facts facts = {.listener = STR("in"),
                               .sender = str_c(sender),
                               .sender_domain = str_from(str_c(sender), (size_t)(at + 1)),
                               .recipient = STR("a@example.org"),
                               .recipient_domain = STR("example.org"),
                               .helo = STR("x.example"),
                               .user = STR_EMPTY,
                               .client_name = STR_EMPTY,
                               .tls = STR_EMPTY,
                               .header = STR_EMPTY};
    check(net_ip_parse(STR("192.0.2.7"), &facts.client));
    return facts;
}

/* The flow `now` gone through with what a run of `then` recorded: "1-lookup-smtp found". */
static void replay(const char *then, const char *now, const char *recorded, struct arena *arena,
                   struct flow_replayed *out)
{
    struct flow_fixture fixture;
    struct str text =
        arena_printf(arena, "flows:\n  recipient:\n    then:\n%s    now:\n%s", then, now);
    flow_fixture_open(&fixture, text.ptr);
    if (fixture.result != OK)
        flow_fixture_print(&fixture);
    assert_int_equal(fixture.result, OK);
    struct str rest = str_c(recorded);
    struct flow_recorded record = {.detail = STR_EMPTY};
    if (str_split(&rest, ' ', &record.step))
        record.outcome = rest;
    struct flow_facts facts = facts_of("x@example.net");
    const struct flow_replay in = {
        .flow = flow_find(fixture.set, FLOW_RECIPIENT, STR("now")),
        .former = flow_find(fixture.set, FLOW_RECIPIENT, STR("then")),
        .records = &record,
        .record_count = 1,
        .facts = &facts,
        .has_helo = true,
    };
    flow_replay_run(&in, arena, out);
    out->step = arena_str(arena, out->step);
    flow_fixture_close(&fixture);
}

#define ASKS "      - lookup-smtp: { server: mail }\n"

static void test_cases(void **state)
{
    (void)state;
    static const struct {
        const char *name, *then, *now, *recorded, *want; /* "verdict step", or "open step" */
    } cases[] = {
        {"the same", ASKS, ASKS, "1-lookup-smtp found", "accept 1-lookup-smtp"},
        {"a no", ASKS, ASKS, "1-lookup-smtp missing", "reject 1-lookup-smtp"},
        {"another action", ASKS, "      - lookup-smtp: { server: mail, missing: defer }\n",
         "1-lookup-smtp missing", "defer 1-lookup-smtp"},
        {"the cache is no question", ASKS, "      - lookup-smtp: { server: mail, cache: 1m }\n",
         "1-lookup-smtp found", "accept 1-lookup-smtp"},
        {"the short form", ASKS, "      - lookup-smtp: mail\n", "1-lookup-smtp found",
         "accept 1-lookup-smtp"},
        {"another server", ASKS, "      - lookup-smtp: { server: plain }\n", "1-lookup-smtp found",
         "open 1-lookup-smtp"},
        {"another place", ASKS, "      - reject: { when: sender == \"y@z.example\" }\n" ASKS,
         "1-lookup-smtp found", "accept 2-lookup-smtp"},
        {"before it", ASKS, "      - reject: { when: sender.domain == \"example.net\" }\n" ASKS,
         "1-lookup-smtp found", "reject 1-reject"},
        {"in a branch", ASKS,
         "      - match: { when: helo == \"x.example\", matched: [ defer ] }\n" ASKS,
         "1-lookup-smtp found", "defer 1.matched.1-defer"},
        {"not in the branch", ASKS,
         "      - match: { when: helo == \"other\", matched: [ defer ] }\n" ASKS,
         "1-lookup-smtp found", "accept 2-lookup-smtp"},
        {"an unknown fact", ASKS, "      - reject: { when: client.name == \"x\" }\n" ASKS,
         "1-lookup-smtp found", "open 1-reject"},
        {"an unknown fact that only watches", ASKS,
         "      - reject: { when: client.name == \"x\", observe: true }\n" ASKS,
         "1-lookup-smtp found", "accept 2-lookup-smtp"},
        {"it watched, now it acts", "      - lookup-smtp: { server: mail, observe: true }\n", ASKS,
         "1-lookup-smtp missing", "reject 1-lookup-smtp"},
        {"it was skipped", ASKS, ASKS, "1-lookup-smtp skipped", "open 1-lookup-smtp"},
        {"the end", ASKS, "      - lookup-smtp: { server: mail, found: next }\n",
         "1-lookup-smtp found", "reject "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct flow_replayed out;
        replay(cases[i].then, cases[i].now, cases[i].recorded, arena, &out);
        struct str got = arena_printf(
            arena, "%s %.*s", out.open ? "open" : flow_verdict_name(out.kind), STR_ARG(out.step));
        if (!str_equal(got, str_c(cases[i].want)))
            fail_msg("%s: \"%s\" instead of \"%s\"", cases[i].name, got.ptr, cases[i].want);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
