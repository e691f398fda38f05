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

/* ---- content ---- */

/* "DETAIL|VALUES|FINDING,FINDING"; without the second | nothing is known of findings. */
static void read_rest(struct flow_recorded *record, struct str rest, struct arena *arena)
{
    struct str name;
    record->findings = arena_alloc_array(arena, 4, sizeof *record->findings);
    if (!str_split(&rest, '|', &record->detail))
        return;
    if (!rest.ptr || !str_split(&rest, '|', &record->values))
        record->values = STR_EMPTY;
    record->has_findings = rest.ptr != NULL;
    while (rest.len && str_split(&rest, ',', &name))
        record->findings[record->finding_count++] = name;
}

/* The content flow `now`; what was recorded: "STEP OUTCOME REST", a line each, the header. */
static void replay_content(const char *then, const char *now, const char *recorded,
                           const char *header, struct arena *arena, struct flow_replayed *out)
{
    static struct str fields[] = {STR("Subject"), STR("X-Kind"), STR("X-Gone")};
    static const struct mail_recipient recipients[] = {
        {.address = STR("anna@example.org"), .domain = STR("example.org")},
        {.address = STR("bert@other.example"), .domain = STR("other.example")}};
    struct flow_fixture fixture;
    struct flow_recorded records[4];
    size_t count = 0;
    struct str text =
        arena_printf(arena, "flows:\n  content:\n    then:\n%s    now:\n%s", then, now);
    flow_fixture_open(&fixture, text.ptr);
    if (fixture.result != OK)
        flow_fixture_print(&fixture);
    assert_int_equal(fixture.result, OK);
    struct str rest = str_c(recorded);
    struct str line;
    while (str_split(&rest, '\n', &line)) {
        records[count] = (struct flow_recorded){.detail = STR_EMPTY};
        if (str_split(&line, ' ', &records[count].step) &&
            str_split(&line, ' ', &records[count].outcome))
            read_rest(&records[count], line, arena);
        count++;
    }
    struct flow_facts facts = facts_of("x@example.net");
    facts.recipient = facts.recipient_domain = STR_EMPTY;
    facts.header = str_c(header);
    facts.recipients = recipients;
    facts.recipient_count = 2;
    const struct flow_replay in = {
        .flow = flow_find(fixture.set, FLOW_CONTENT, STR("now")),
        .former = flow_find(fixture.set, FLOW_CONTENT, STR("then")),
        .records = records,
        .record_count = count,
        .facts = &facts,
        .has_helo = true,
        .has_recipients = true,
        .fields = fields,
        .field_count = 3,
    };
    flow_replay_run(&in, arena, out);
    out->step = arena_str(arena, out->step);
    flow_fixture_close(&fixture);
}

#define ENDS         "      - deliver\n"
#define VERIFIES     "      - verify: [ spf, dkim, dmarc ]\n"
#define LOOKS        "      - attachment: { macro: next, encrypted: next }\n"
#define WORDS(words) "      - match: { body: [ " words " ], matched: hold }\n"
#define BOTH                                                                                       \
    "      - match: { header: [ h, i ], body: [ one ], matched: hold, unmatched: next }\n" ENDS
#define VERIFIED "1-verify fail dmarc=fail of example.net, spf=softfail, dkim=none\n"

static const struct {
    const char *name, *then, *now, *recorded, *want, *why;
} content_cases[] = {
    {"a field that is known", ENDS,
     "      - reject: { when: header(\"subject\") ~ \"^win\" }\n" ENDS, "", "reject 1-reject", ""},
    {"a known one does not fit", ENDS,
     "      - reject: { when: header(\"Subject\") == \"other\" }\n" ENDS, "", "deliver 2-deliver",
     ""},
    {"a missing one is known to be missing", ENDS,
     "      - reject: { when: header(\"X-Gone\") == \"\" }\n" ENDS, "", "reject 1-reject", ""},
    {"one that was not told", ENDS, "      - reject: { when: header(\"X-Other\") == \"\" }\n" ENDS,
     "", "open 1-reject", "header(\"X-Other\") is not in the record"},
    {"one that does not matter", ENDS,
     "      - reject: { when: authenticated and header(\"X-Other\") == \"\" }\n" ENDS, "",
     "deliver 2-deliver", ""},
    {"changed before", ENDS,
     "      - header: { add: \"X-Kind: new\" }\n"
     "      - reject: { when: header(\"X-Kind\") == \"old\" }\n" ENDS,
     "", "open 2-reject", "header(\"X-Kind\") is not in the record"},
    {"changed before, as then", "      - header: { add: \"X-Kind: new\" }\n" ENDS,
     "      - header: { add: \"X-Kind: new\" }\n"
     "      - reject: { when: header(\"X-Kind\") == \"old\" }\n" ENDS,
     "1-header done", "open 2-reject", "header(\"X-Kind\") is not in the record"},
    {"another was changed", "      - header: { add: \"X-Kind: new\" }\n" ENDS,
     "      - header: { add: \"X-Kind: new\" }\n"
     "      - reject: { when: header(\"Subject\") ~ \"^win\" }\n" ENDS,
     "1-header done", "reject 2-reject", ""},
    {"a new tag goes before what decides", ENDS,
     "      - subject-tag: \"[X]\"\n"
     "      - reject: { when: header(\"X-Kind\") == \"old\" }\n" ENDS,
     "", "reject 2-reject", ""},
    {"a new check is open", ENDS, VERIFIES ENDS, "", "open 1-verify",
     "verify was not asked this then"},
    {"any", ENDS, "      - reject: { when: any(recipient.domain == \"other.example\") }\n" ENDS, "",
     "reject 1-reject", ""},
    {"not any", ENDS, "      - reject: { when: any(recipient == \"carl@example.org\") }\n" ENDS, "",
     "deliver 2-deliver", ""},
    {"all", ENDS, "      - reject: { when: all(recipient.domain == \"other.example\") }\n" ENDS, "",
     "deliver 2-deliver", ""},
    {"how many", ENDS, "      - reject: { when: recipients > 1 }\n" ENDS, "", "reject 1-reject",
     ""},
    {"a check that nobody made yet", ENDS, "      - reject: { when: dmarc == \"fail\" }\n" ENDS, "",
     "deliver 2-deliver", ""},
    {"a check that was made", VERIFIES ENDS,
     VERIFIES "      - reject: { when: dmarc == \"fail\" and dkim == \"none\" }\n" ENDS, VERIFIED,
     "reject 2-reject", ""},
    {"spf of it", VERIFIES ENDS, VERIFIES "      - hold: { when: spf == \"softfail\" }\n" ENDS,
     VERIFIED, "hold 2-hold", ""},
    {"what it does not tell", VERIFIES ENDS,
     VERIFIES "      - reject: { when: dmarc.policy == \"reject\" }\n" ENDS, VERIFIED,
     "open 2-reject", "dmarc.policy is not in the record"},
    {"what it tells as a value", VERIFIES ENDS,
     VERIFIES "      - reject: { when: dmarc.policy == \"reject\" and dkim.domain == \"a.example\" "
              "and spf == \"pass\" }\n" ENDS,
     "1-verify pass dkim=pass|spf=pass dkim=pass dkim.domain=a.example dmarc=pass "
     "dmarc.policy=reject\n",
     "reject 2-reject", ""},
    {"an empty value is one", VERIFIES ENDS,
     VERIFIES "      - reject: { when: dkim.domain == \"\" and dmarc.policy == \"\" }\n" ENDS,
     "1-verify pass dkim=none|spf=none dkim=none dkim.domain= dmarc=none dmarc.policy=\n",
     "reject 2-reject", ""},
    {"nothing was found yet", ENDS, "      - reject: { when: findings == \"\" }\n" ENDS, "",
     "reject 1-reject", ""},
    {"what was found", LOOKS ENDS,
     LOOKS "      - reject: { when: findings == \"macro encrypted\" }\n" ENDS,
     "1-attachment macro x||macro,encrypted\n", "reject 2-reject", ""},
    {"nothing was found", LOOKS ENDS, LOOKS "      - reject: { when: findings ~ \"macro\" }\n" ENDS,
     "1-attachment clean x||\n", "deliver 3-deliver", ""},
    {"nobody told what was found", LOOKS ENDS,
     LOOKS "      - reject: { when: findings ~ \"macro\" }\n" ENDS, "1-attachment macro x\n",
     "open 2-reject", "findings is not in the record"},
    {"in a match", ENDS,
     "      - match: { when: header(\"X-Kind\") == \"old\", matched: [ discard ] }\n" ENDS, "",
     "discard 1.matched.1-discard", ""},
    {"open in a match", ENDS,
     "      - match: { when: header(\"X-Other\") == \"old\", matched: [ discard ] }\n" ENDS, "",
     "open 1-match", "header(\"X-Other\") is not in the record"},
    /* what match looks for */
    {"other patterns, and one that fitted then", WORDS("one, two") ENDS, WORDS("three, two") ENDS,
     "1-match matched two||\n", "hold 1-match", ""},
    {"what fitted is not looked for", WORDS("one, two") ENDS, WORDS("one") ENDS,
     "1-match matched two||\n", "open 1-match",
     "whether the body pattern \"one\" fits is not in the record"},
    {"fewer patterns, none fitted", WORDS("one, two") ENDS, WORDS("two") ENDS,
     "1-match unmatched no body pattern fits||\n", "deliver 2-deliver", ""},
    {"in two steps", WORDS("one, two") ENDS, WORDS("two") WORDS("one") ENDS,
     "1-match unmatched no body pattern fits||\n", "deliver 3-deliver", ""},
    {"of two steps", WORDS("one") WORDS("two") ENDS, WORDS("two, one") ENDS,
     "1-match unmatched no body pattern fits||\n2-match matched two||\n", "hold 1-match", ""},
    {"a new pattern", WORDS("one") ENDS, WORDS("one, two") ENDS,
     "1-match unmatched no body pattern fits||\n", "open 1-match",
     "whether the body pattern \"two\" fits is not in the record"},
    {"a new condition that does not hold", WORDS("one") ENDS,
     "      - match: { when: recipients > 5, body: [ one ], matched: hold }\n" ENDS, "",
     "deliver 2-deliver", ""},
    {"a new condition that holds", WORDS("one") ENDS,
     "      - match: { when: recipients > 1, body: [ one ], matched: hold }\n" ENDS,
     "1-match matched one||\n", "hold 1-match", ""},
    {"a new condition that is open", WORDS("one") ENDS,
     "      - match: { when: header(\"X-Other\") == \"\", body: [ one ], matched: hold }\n" ENDS,
     "1-match matched one||\n", "open 1-match", "header(\"X-Other\") is not in the record"},
    {"nor does it matter", WORDS("one") ENDS,
     "      - match: { when: header(\"X-Other\") == \"\", body: [ one ], matched: hold }\n" ENDS,
     "1-match unmatched no body pattern fits||\n", "deliver 2-deliver", ""},
    {"it was not looked for",
     "      - match: { when: recipients > 5, body: [ one ], matched: hold }\n" ENDS,
     WORDS("one") ENDS, "1-match unmatched ||\n", "open 1-match",
     "whether the body pattern \"one\" fits is not in the record"},
    {"told before there was a detail", WORDS("one") ENDS, WORDS("one") WORDS("one") ENDS,
     "1-match unmatched\n", "deliver 3-deliver", ""},
    {"another kind", WORDS("one") ENDS, "      - match: { header: [ one ], matched: hold }\n" ENDS,
     "1-match matched one||\n", "open 1-match",
     "whether the header pattern \"one\" fits is not in the record"},
    {"both fitted", BOTH, "      - match: { header: [ h, i ], matched: hold }\n" ENDS,
     "1-match matched one||\n", "hold 1-match", ""},
    {"the header did not", BOTH, "      - match: { header: [ h ], matched: hold }\n" ENDS,
     "1-match unmatched no header pattern fits||\n", "deliver 2-deliver", ""},
    {"nor was the body looked at then", BOTH, WORDS("one") ENDS,
     "1-match unmatched no header pattern fits||\n", "open 1-match",
     "whether the body pattern \"one\" fits is not in the record"},
    {"the body did not, but the header", BOTH,
     "      - match: { header: [ h, i ], matched: hold }\n" ENDS,
     "1-match unmatched no body pattern fits||\n", "hold 1-match", ""},
};

static void test_content_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof content_cases / sizeof *content_cases; i++) {
        struct arena *arena = arena_new(0);
        struct flow_replayed out = {.why = STR_EMPTY};
        replay_content(content_cases[i].then, content_cases[i].now, content_cases[i].recorded,
                       "Subject: win a prize\r\nX-Kind: old\r\n\r\n", arena, &out);
        struct str got = arena_printf(
            arena, "%s %.*s", out.open ? "open" : flow_verdict_name(out.kind), STR_ARG(out.step));
        if (!str_equal(got, str_c(content_cases[i].want)) ||
            !str_equal(out.why, str_c(content_cases[i].why)))
            fail_msg("%s: \"%s\" (%.*s) instead of \"%s\"", content_cases[i].name, got.ptr,
                     STR_ARG(out.why), content_cases[i].want);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases),
                                       cmocka_unit_test(test_content_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
