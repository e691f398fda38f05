/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/test.h"

enum expected { SAFE, UNSAFE };

struct prove_case {
    const char *steps;   /* of the recipient flow "f", in one line */
    enum expected any;   /* domain any, by lookup-mx */
    enum expected exact; /* a listed domain by lookup-mx */
};

static const struct prove_case cases[] = {
    {"[ reject ]", SAFE, SAFE},
    {"[ defer ]", SAFE, SAFE},
    {"[ accept ]", UNSAFE, UNSAFE},
    {"{ preset: relay-authenticated }", SAFE, SAFE},
    {"[ accept: { when: authenticated } ]", SAFE, SAFE},
    {"[ accept: { when: client in trusted } ]", SAFE, SAFE},
    {"[ accept: { when: trusted } ]", SAFE, SAFE},
    {"[ accept: { when: authenticated or client in trusted }, reject ]", SAFE, SAFE},
    {"[ accept: { when: not authenticated } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: not client in trusted } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: authenticated and not authenticated } ]", SAFE, SAFE},
    {"[ accept: { when: authenticated or not authenticated } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'sender.domain == \"example.org\"' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'sender.domain == \"example.org\" and authenticated' } ]", SAFE, SAFE},
    {"[ accept: { when: 'helo == \"friend\" or authenticated' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'client in [10.0.0.0/8]' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: client in office } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'recipient.domain == \"example.net\"' } ]", UNSAFE, SAFE},
    {"[ accept: { when: 'user != \"\"' } ]", SAFE, SAFE},
    {"[ accept: { when: 'listener == \"inbound\"' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'listener == \"submission\"' } ]", SAFE, SAFE},
    /* an earlier step that takes strangers out */
    {"[ reject: { when: not (authenticated or client in trusted) }, accept ]", SAFE, SAFE},
    {"[ reject: { when: not authenticated }, accept ]", SAFE, SAFE},
    {"[ defer: { when: not authenticated }, accept ]", SAFE, SAFE},
    {"[ reject: { when: 'helo == \"spammer\"' }, accept ]", UNSAFE, UNSAFE},
    {"[ reject: { when: not authenticated, observe: true }, accept ]", UNSAFE, UNSAFE},
    {"[ accept: { observe: true }, reject ]", SAFE, SAFE},
    /* a backend's word protects a listed domain, never any */
    {"[ lookup-smtp: mail ]", UNSAFE, SAFE},
    {"{ preset: local-users, server: mail }", UNSAFE, SAFE},
    {"[ lookup-file: /etc/hostname ]", UNSAFE, SAFE},
    {"[ lookup-ldap: directory ]", UNSAFE, SAFE},
    {"[ lookup-smtp: { server: mail, found: next }, accept ]", UNSAFE, SAFE},
    {"[ lookup-smtp: { server: mail, found: reject } ]", SAFE, SAFE},
    {"[ lookup-smtp: { server: mail, error: accept } ]", UNSAFE, UNSAFE},
    {"[ lookup-smtp: { server: mail, missing: next }, accept ]", UNSAFE, UNSAFE},
    {"[ lookup-smtp: { server: mail, when: authenticated, missing: accept }, reject ]", SAFE, SAFE},
    {"[ lookup-smtp: { server: mail, found: reject, denied: [ accept: { when: authenticated } ] } "
     "]",
     SAFE, SAFE},
    {"[ lookup-smtp: { server: mail, found: reject, denied: [ accept ] } ]", UNSAFE, UNSAFE},
    {"[ lookup-smtp: { server: mail, found: [ lookup-file: { path: /etc/hostname, found: reject, "
     "missing: accept } ] } ]",
     UNSAFE, SAFE},
    {"[ lookup-smtp: { server: mail, when: 'helo == \"x\"', found: next }, accept ]", UNSAFE,
     UNSAFE},
    /* forks */
    {"[ match: { when: authenticated, matched: accept, unmatched: reject } ]", SAFE, SAFE},
    {"[ match: { when: authenticated, matched: reject, unmatched: accept } ]", UNSAFE, UNSAFE},
    {"[ match: { when: 'helo == \"x\"', matched: [ reject ], unmatched: next }, accept ]", UNSAFE,
     UNSAFE},
    {"[ match: { when: authenticated, matched: next, unmatched: [ defer ] }, accept ]", SAFE, SAFE},
    /* contradictions on the way */
    {"[ accept: { when: 'helo == \"x\" and not helo == \"X\"' } ]", SAFE, SAFE},
    {"[ accept: { when: 'helo == \"x\" and helo == \"y\"' } ]", SAFE, SAFE},
    {"[ accept: { when: 'helo != \"x\" and helo != \"y\"' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'helo == \"x\" and helo ~ \"^y\"' } ]", SAFE, SAFE},
    {"[ reject: { when: 'helo == \"x\"' }, accept: { when: 'helo == \"x\"' } ]", SAFE, SAFE},
    {"[ reject: { when: 'helo == \"x\"' }, accept: { when: 'helo == \"y\"' } ]", UNSAFE, UNSAFE},
    {"[ reject: { when: 'helo == \"x\" or tls == \"\"' }, accept: { when: 'tls == \"\"' } ]", SAFE,
     SAFE},
    {"[ reject: { when: 'helo == \"x\" and tls == \"\"' }, accept: { when: 'tls == \"\"' } ]",
     UNSAFE, UNSAFE},
    {"[ reject: { when: 'helo == \"x\"' }, reject: { when: 'helo != \"x\"' }, accept ]", SAFE,
     SAFE},
    {"[ match: { when: 'helo == \"x\"', matched: [ accept: { when: 'helo != \"x\"' }, reject ], "
     "unmatched: reject } ]",
     SAFE, SAFE},
    {"[ match: { when: 'helo == \"x\"', matched: next, unmatched: reject }, accept: { when: 'helo "
     "== "
     "\"y\"' } ]",
     SAFE, SAFE},
    {"[ limit: { by: client, recipients: 5/1h, when: 'helo == \"x\"', then: reject }, accept: { "
     "when: 'helo == \"x\"' } ]",
     UNSAFE, UNSAFE},
    {"[ lookup-smtp: { server: mail, when: 'helo == \"x\"', found: next }, accept: { when: 'helo "
     "== "
     "\"x\"' } ]",
     UNSAFE, SAFE},
    {"[ match: { when: authenticated, matched: reject, unmatched: next }, accept: { when: 'helo == "
     "\"x\"' } ]",
     UNSAFE, UNSAFE},
    /* networks */
    {"[ accept: { when: 'client in [192.168.0.0/16]' } ]", SAFE, SAFE}, /* all of it is trusted */
    {"[ accept: { when: 'client in [192.168.4.0/24]' } ]", SAFE, SAFE},
    {"[ accept: { when: 'client in [192.168.0.0/15]' } ]", UNSAFE, UNSAFE},
    {"[ accept: { when: 'client in [10.0.0.0/8] and client in [11.0.0.0/8]' } ]", SAFE, SAFE},
    {"[ accept: { when: 'client in [10.0.0.0/8] and client not in [10.0.0.0/9, 10.128.0.0/9]' } ]",
     SAFE, SAFE},
    {"[ accept: { when: 'client in [10.0.0.0/8] and client not in [10.0.0.0/9]' } ]", UNSAFE,
     UNSAFE},
    {"[ reject: { when: 'client in [0.0.0.0/0]' }, accept: { when: 'client == 192.0.2.1' } ]", SAFE,
     SAFE},
    {"[ reject: { when: 'client in [0.0.0.0/0, \"::/0\"]' }, accept ]", SAFE, SAFE},
    {"[ reject: { when: 'client in [0.0.0.0/0]' }, accept ]", UNSAFE, UNSAFE},
    /* domains: example.com is listed, and sends by MX look-up here */
    {"[ accept: { when: 'recipient.domain == \"example.com\"' } ]", SAFE, UNSAFE},
    {"[ accept: { when: 'recipient == \"bob@EXAMPLE.com\"' } ]", SAFE, UNSAFE},
    {"[ accept: { when: 'recipient.domain in [ \"example.com\", \"example.org\" ]' } ]", SAFE,
     UNSAFE},
    {"[ accept: { when: 'recipient.domain != \"example.com\"' } ]", UNSAFE, UNSAFE}, /* the alias */
    {"[ accept: { when: 'recipient.domain not in [ \"example.com\", \"example.org\" ]' } ]", UNSAFE,
     SAFE},
    {"[ accept: { when: 'recipient.domain ~ \"^mail\"' } ]", UNSAFE, SAFE},
    {"[ accept: { when: 'sender == \"a@b.example\" and sender.domain == \"c.example\"' } ]", SAFE,
     SAFE},
    {"[ accept: { when: 'sender == recipient' } ]", UNSAFE, UNSAFE},
    {"[ limit: { by: client, recipients: 5/1h }, accept ]", UNSAFE, UNSAFE},
    {"[ limit: { by: client, recipients: 5/1h, then: accept }, reject ]", UNSAFE, UNSAFE},
    {"[ limit: { by: client, recipients: 5/1h, then: [ accept: { when: trusted } ] }, reject ]",
     SAFE, SAFE},
    /* what only one way at a time shows */
    {"[ spf: { none: reject, neutral: reject, pass: reject, fail: next, softfail: reject, "
     "temperror: reject, permerror: reject }, spf: { pass: accept, fail: reject, none: accept }, "
     "accept ]",
     SAFE, SAFE},
    {"[ spf: { none: reject, neutral: reject, pass: reject, fail: next, softfail: reject, "
     "temperror: reject, permerror: reject }, spf: { pass: reject, fail: accept }, reject ]",
     UNSAFE, UNSAFE},
    {"[ lookup-smtp: { server: mail, found: reject, missing: [ match: { when: 'helo == \"x\"', "
     "matched: [ accept: { when: 'helo == \"y\"' }, reject ], unmatched: reject } ] } ]",
     SAFE, SAFE},
    {"[ limit: { by: client, recipients: 5/1h, when: 'helo == \"x\"', then: next }, match: { when: "
     "'helo == \"x\" or helo == \"y\"', matched: [ reject ], unmatched: [ accept: { when: 'helo == "
     "\"y\"' } ] } ]",
     SAFE, SAFE},
};

static const struct str names[] = {{"example.com", 11}, {"example.org", 11}};
static struct net_network trusted[1];

static struct flow_relay_case relay_case(const struct flow *flow, bool is_any)
{
    check(net_network_parse(STR("192.168.0.0/16"), &trusted[0]));
    return (struct flow_relay_case){
        .listener = STR("inbound"),
        .domain = is_any ? STR("any") : STR("example.com"),
        .is_any = is_any,
        .is_lookup_mx = true,
        .transport = STR("internet"),
        .recipient_flow = flow,
        .names = names,
        .name_count = 2,
        .trusted = trusted,
        .trusted_count = 1,
        .place = {.line = 3, .column = 3, .length = 3},
    };
}

static const struct flow *compile(struct flow_fixture *fixture, const char *steps)
{
    char text[1024];
    snprintf(text, sizeof text, "flows: { recipient: { f: %s } }\n", steps);
    flow_fixture_open(fixture, text);
    if (fixture->result != OK) {
        flow_fixture_print(fixture);
        fail_msg("%s does not compile", steps);
    }
    return flow_find(fixture->set, FLOW_RECIPIENT, STR("f"));
}

static void test_cases(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int is_any = 0; is_any < 2; is_any++) {
            struct flow_fixture fixture;
            struct config_report report;
            const struct flow *flow = compile(&fixture, cases[i].steps);
            struct flow_relay_case relay = relay_case(flow, is_any);
            config_report_init(&report, fixture.arena);
            flow_prove_relay(&relay, 1, &report);
            enum expected expected = is_any ? cases[i].any : cases[i].exact;
            if ((report.errors > 0) != (expected == UNSAFE))
                fail_msg("%s: %s for %s", cases[i].steps, report.errors ? "unsafe" : "safe",
                         is_any ? "any" : "a listed domain");
            flow_fixture_close(&fixture);
        }
    }
}

struct path_case {
    const char *steps;
    const char *detail;
};

static const struct path_case paths[] = {
    {"[ accept ]",
     "stranger -> listener inbound -> domain any -> f/1 accept (test.yaml:5:28) -> internet"},
    {"[ accept: { when: authenticated }, reject: { when: 'helo == \"x\"' }, lookup-smtp: mail ]",
     "stranger -> listener inbound -> domain any -> f/3 lookup-smtp \"found\" -> internet"},
    {"[ lookup-smtp: { server: mail, found: reject, missing: [ defer: { when: authenticated }, "
     "accept ] } ]",
     "stranger -> listener inbound -> domain any -> f/1 lookup-smtp \"missing\" -> "
     "f/1.missing.2 accept -> internet"},
    {"[ lookup-smtp: { server: mail, error: accept } ]",
     "stranger -> listener inbound -> domain any -> f/1 lookup-smtp \"found\" -> internet\n"
     "stranger -> listener inbound -> domain any -> f/1 lookup-smtp \"error\" -> internet"},
};

/* The paths, without the session that goes one of them. */
static struct str paths_of(struct str detail)
{
    ptrdiff_t session = str_find_str(detail, STR("\nsession: "));
    assert_true(session > 0);
    return str_slice(detail, 0, (size_t)session);
}

/* Of all but the first case, for brevity. */
static struct str without_places(struct str detail, char out[static 2048])
{
    size_t len = 0;
    for (size_t i = 0; i < detail.len && len < 2047; i++) {
        if (str_starts(str_from(detail, i), STR(" (test.yaml:")))
            i += (size_t)str_find(str_from(detail, i), ')');
        else
            out[len++] = detail.ptr[i];
    }
    return str_of(out, len);
}

static void test_paths(void **unused)
{
    (void)unused;
    char text[2048];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct flow_fixture fixture;
        struct config_report report;
        const struct flow *flow = compile(&fixture, paths[i].steps);
        struct flow_relay_case relay = relay_case(flow, /* is_any= */ true);
        config_report_init(&report, fixture.arena);
        flow_prove_relay(&relay, 1, &report);
        assert_int_equal(report.errors, 1);
        assert_str(report.problems[0].code, "open-relay");
        struct str detail = paths_of(report.problems[0].detail);
        assert_str(i ? without_places(detail, text) : detail, paths[i].detail);
        assert_int_equal(report.problems[0].place.line, 3);
        flow_fixture_close(&fixture);
    }
}

static void test_which_cases_count(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    struct config_report report;
    const struct flow *flow = compile(&fixture, "[ accept ]");
    struct flow_relay_case relay[4];
    for (int i = 0; i < 4; i++)
        relay[i] = relay_case(flow, /* is_any= */ false);
    relay[0].authentication_required = true; /* a stranger does not get there */
    relay[1].is_lookup_mx = false;           /* to our own server */
    relay[2].recipient_flow = NULL;
    relay[3].allow_open_relay = STR("a lab");
    config_report_init(&report, fixture.arena);
    flow_prove_relay(relay, 4, &report);
    assert_int_equal(report.errors, 0);
    assert_int_equal(report.warnings, 1);
    assert_str(report.problems[0].code, "open-relay");
    relay[0].authentication_required = false;
    relay[1].is_any = true;
    flow_prove_relay(relay, 4, &report);
    assert_int_equal(report.errors, 2);
    flow_fixture_close(&fixture);
}

static void test_many_paths_are_cut(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    struct config_report report;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 65536);
    buf_append(&text, STR("["));
    for (int i = 0; i < 12; i++)
        buf_printf(&text, "accept: { when: 'helo == \"x%d\"' }, ", i);
    buf_append(&text, STR("reject ]"));
    buf_append_byte(&text, '\0');
    struct buf items BUF_CLEANUP;
    buf_init(&items, 65536);
    buf_append(&items, STR("flows: { recipient: { f: "));
    buf_append(&items, str_c(text.ptr));
    buf_append(&items, STR(" } }\n"));
    buf_append_byte(&items, '\0');
    flow_fixture_open(&fixture, items.ptr);
    assert_int_equal(fixture.result, OK);
    struct flow_relay_case relay =
        relay_case(flow_find(fixture.set, FLOW_RECIPIENT, STR("f")), /* is_any= */ true);
    config_report_init(&report, fixture.arena);
    flow_prove_relay(&relay, 1, &report);
    assert_int_equal(report.errors, 1);
    assert_true(str_ends(paths_of(report.problems[0].detail), STR("\nand 4 more")));
    flow_fixture_close(&fixture);
}

/* A client whose word about its own address is taken is as good as trusted. */
static void test_claimed_addresses(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    struct config_report report;
    const struct flow *flow = compile(&fixture, "[ accept: { when: client in trusted }, reject ]");
    struct flow_relay_case relay = relay_case(flow, /* is_any= */ true);
    config_report_init(&report, fixture.arena);
    flow_prove_relay(&relay, 1, &report);
    assert_int_equal(report.errors, 0);
    relay.claims = STR("any client (proxy.from)");
    flow_prove_relay(&relay, 1, &report);
    assert_int_equal(report.errors, 1);
    assert_true(str_find_str(report.problems[0].detail,
                             STR("an address claimed by any client (proxy.from)")) > 0);
    flow_fixture_close(&fixture);
}

/* ---- the session that goes a way ---- */

static const struct path_case sessions[] = {
    {"[ accept ]", "client 203.0.113.77, HELO client.example, no TLS, "
                   "MAIL FROM:<stranger@sender.example>, RCPT TO:<somebody@elsewhere.example>"},
    {"[ accept: { when: 'client in [10.0.0.0/8] and not client in [10.0.0.0/9]' } ]",
     "client 10.128.0.1, HELO client.example"},
    {"[ reject: { when: 'client in [203.0.113.0/24]' }, accept: { when: 'helo ~ \"^mail[.]x\"' } ]",
     "client 198.51.100.77, HELO mail.x"},
    {"[ accept: { when: 'sender == \"\" and tls != \"\"' } ]", ", TLS, MAIL FROM:<>"},
    {"[ accept: { when: 'sender.domain == recipient.domain and sender.domain == \"z.test\"' } ]",
     "MAIL FROM:<somebody@z.test>, RCPT TO:<somebody@z.test>"},
    {"[ lookup-smtp: { server: mail, found: reject, missing: [ lookup-file: { path: "
     "/etc/hostname, found: reject, error: accept } ] } ]",
     "; where f/1 lookup-smtp says \"missing\", f/1.missing.1 lookup-file says \"error\""},
};

static void test_sessions(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof sessions / sizeof *sessions; i++) {
        struct flow_fixture fixture;
        struct config_report report;
        const struct flow *flow = compile(&fixture, sessions[i].steps);
        struct flow_relay_case relay = relay_case(flow, /* is_any= */ true);
        config_report_init(&report, fixture.arena);
        flow_prove_relay(&relay, 1, &report);
        assert_int_equal(report.errors, 1);
        struct str detail = report.problems[0].detail;
        if (str_find_str(detail, STR("\nsession: ")) < 0 ||
            str_find_str(detail, str_c(sessions[i].detail)) < 0)
            fail_msg("%s: %.*s", sessions[i].steps, STR_ARG(detail));
        flow_fixture_close(&fixture);
    }
}

static struct str asked_about;
static enum flow_shown shows_nothing(const struct flow_relay_case *relay,
                                     const struct flow_witness *witness, struct str *out_domain)
{
    (void)out_domain;
    assert_str(relay->listener, "inbound");
    asked_about = witness->facts.recipient;
    return FLOW_SHOWN_NOTHING;
}

/* A session that does not relay when it is tried is not told, and the alarm stays. */
static void test_session_that_stays(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    struct config_report report;
    struct flow_relay_case relay = relay_case(compile(&fixture, "[ accept ]"), /* is_any= */ true);
    relay.shows = shows_nothing;
    asked_about = STR_EMPTY;
    config_report_init(&report, fixture.arena);
    flow_prove_relay(&relay, 1, &report);
    assert_int_equal(report.errors, 1);
    assert_true(asked_about.len > 0);
    assert_true(str_find_str(report.problems[0].detail, STR("session: ")) < 0);
    assert_true(str_find_str(report.problems[0].detail, STR("no session was found")) > 0);
    flow_fixture_close(&fixture);
}

static void test_tls(void **unused)
{
    (void)unused;
    for (int has_tls = 0; has_tls < 2; has_tls++) {
        struct flow_fixture fixture;
        struct config_report report;
        const struct flow *flow =
            compile(&fixture, has_tls ? "[ accept: { when: 'tls == \"\"' } ]"
                                      : "[ accept: { when: 'tls != \"\"' } ]");
        struct flow_relay_case relay = relay_case(flow, /* is_any= */ true);
        config_report_init(&report, fixture.arena);
        flow_prove_relay(&relay, 1, &report);
        assert_int_equal(report.errors, 1); /* STARTTLS is offered */
        relay.tls_never = !has_tls;
        relay.tls_always = has_tls;
        flow_prove_relay(&relay, 1, &report);
        assert_int_equal(report.errors, 1);
        flow_fixture_close(&fixture);
    }
}

/* ---- and what the content flow makes of it ---- */

struct content_case {
    const char *recipient, *content;
    enum expected any, exact;
    bool late;
};
static const struct content_case contents[] = {
    {"[ accept ]", "[ deliver ]", UNSAFE, UNSAFE, false},
    {"[ accept ]", "[ reject ]", SAFE, SAFE, true},
    {"[ accept ]", "[ reject: { when: not authenticated }, deliver ]", SAFE, SAFE, true},
    {"[ accept ]", "[ reject: { when: 'helo == \"x\"' }, deliver ]", UNSAFE, UNSAFE, false},
    {"[ accept: { when: 'helo == \"x\"' } ]", "[ reject: { when: 'helo == \"x\"' }, deliver ]",
     SAFE, SAFE, true},
    {"[ accept ]", "[ hold: { when: 'score > 5' }, reject ]", SAFE, SAFE,
     true}, /* nothing scores */
    {"[ accept ]", "[ hold: { when: 'score < 5' }, reject ]", UNSAFE, UNSAFE, false},
    {"[ accept ]", "[ deliver: { when: 'dmarc == \"pass\"' }, reject ]", SAFE, SAFE, true},
    {"[ accept ]", "[ verify: [ dmarc ], deliver: { when: 'dmarc == \"pass\"' }, reject ]", UNSAFE,
     UNSAFE, false},
    {"[ accept ]",
     "[ match: { when: 'header(\"X\") == \"a\"', matched: [ deliver: { when: 'header(\"X\") == "
     "\"b\"' }, reject ], unmatched: reject } ]",
     SAFE, SAFE, true},
    {"[ accept ]",
     "[ match: { when: 'header(\"X\") == \"a\"', matched: [ header: { remove: X }, header: { add: "
     "\"X: b\" }, deliver: { "
     "when: 'header(\"X\") == \"b\"' }, reject ], unmatched: reject } ]",
     UNSAFE, UNSAFE, false},
    {"[ accept: { when: authenticated } ]", "[ deliver ]", SAFE, SAFE, false},
};

static void test_contents(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 2 * sizeof contents / sizeof *contents; i++) {
        const struct content_case *one = &contents[i / 2];
        struct flow_fixture fixture;
        struct config_report report;
        char text[2048];
        bool is_any = i % 2;
        snprintf(text, sizeof text, "flows: { recipient: { f: %s }, content: { c: %s } }\n",
                 one->recipient, one->content);
        flow_fixture_open(&fixture, text);
        if (fixture.result != OK)
            flow_fixture_print(&fixture);
        assert_int_equal(fixture.result, OK);
        struct flow_relay_case relay =
            relay_case(flow_find(fixture.set, FLOW_RECIPIENT, STR("f")), is_any);
        relay.content_flow = flow_find(fixture.set, FLOW_CONTENT, STR("c"));
        config_report_init(&report, fixture.arena);
        flow_prove_relay(&relay, 1, &report);
        bool unsafe = (is_any ? one->any : one->exact) == UNSAFE;
        const char *code = report.count ? report.problems[0].code.ptr : "";
        if ((report.errors > 0) != (unsafe || one->late) ||
            (report.errors > 0 && strcmp(code, one->late ? "refused-late" : "open-relay") != 0))
            fail_msg("%s, %s: %zu errors, %s", one->recipient, one->content, report.errors, code);
        size_t errors = report.errors;
        relay.queued = true; /* it has been taken then */
        flow_prove_relay(&relay, 1, &report);
        if (is_any)
            assert_int_equal(report.errors - errors, one->late || one->any == UNSAFE);
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_which_cases_count),
        cmocka_unit_test(test_many_paths_are_cut),
        cmocka_unit_test(test_claimed_addresses),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_session_that_stays),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
