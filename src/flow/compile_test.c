/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/test.h"

static const char *const good[] = {
    /* nothing at all */
    "version: 1\n",
    /* the flows of the scenario */
    "flows:\n"
    "  authentication:\n"
    "    staff:\n"
    "      - limit: { by: client, failures: 10/15m, then: defer }\n"
    "      - file:  { path: users.passwd }\n"
    "      - ldap:  { server: directory, filter: \"(mail={user})\" }\n"
    "      - smtp:  { server: mail }\n"
    "  recipient:\n"
    "    local-users:\n"
    "      - accept: { when: authenticated }\n"
    "      - lookup-smtp: { server: mail, cache: 15m }\n"
    "    relay-authenticated:\n"
    "      - accept: { when: authenticated or client in trusted }\n"
    "      - reject: { reply: \"554 5.7.1 Relay access denied\" }\n"
    "  content:\n"
    "    inbound:\n"
    "      - deliver\n"
    "    outbound:\n"
    "      - limit: { by: user, recipients: 500/1h, then: hold }\n"
    "      - deliver\n",
    /* forms of steps and actions */
    "flows:\n"
    "  authentication:\n"
    "    a:\n"
    "      - smtp: mail\n"
    "      - smtp: { server: mail, \"no\": reject, error: { defer: \"454 4.7.0 Later\" } }\n"
    "  recipient:\n"
    "    r:\n"
    "      - lookup-file: /etc/hostname\n"
    "        when: not authenticated\n"
    "        id: file\n"
    "      - lookup-smtp:\n"
    "          server: mail\n"
    "          observe: true\n"
    "          note: first only watch\n"
    "      - lookup-smtp: { server: mail, missing: next, error: accept, denied: note }\n"
    "      - match: { when: sender == \"\", matched: [ reject: \"550 5.7.1 No bounces\" ] }\n"
    "      - accept\n"
    "  content:\n"
    "    c:\n"
    "      - header: \"X-One: 1\"\n"
    "      - header: { add: [ \"X-Two: 2\", \"X-Three: 3\" ], remove: X-Four }\n"
    "      - match:\n"
    "          when: size > 10M\n"
    "          matched:\n"
    "            - header: { add: \"X-Big: yes\" }\n"
    "            - hold\n"
    "      - match: { when: \"header(\\\"X\\\") == \\\"\\\"\", matched: discard, unmatched: "
    "deliver }\n",
    /* a preset as a flow */
    "flows:\n"
    "  recipient:\n"
    "    x: { preset: local-users, server: mail, cache: 1h, missing: next }\n",
};

static void test_good(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct flow_fixture fixture;
        flow_fixture_open(&fixture, good[i]);
        if (fixture.result != OK || fixture.report.errors) {
            flow_fixture_print(&fixture);
            fail_msg("good flow %zu has errors", i);
        }
        flow_fixture_close(&fixture);
    }
}

struct fault_case {
    const char *text;
    const char *code;
    unsigned line; /* below the servers, from 1 */
    unsigned column;
    enum config_severity severity;
};

#define AUTH(step) "flows:\n  authentication:\n    f:\n      - " step "\n"
#define RCPT(step) "flows:\n  recipient:\n    f:\n      - " step "\n"
#define CONT(step) "flows:\n  content:\n    f:\n      - " step "\n"

static const struct fault_case faults[] = {
    {"flows: 5\n", "wrong-type", 1, 8, CONFIG_ERROR},
    {"flows:\n  recipients:\n    f: [ accept ]\n", "unknown-key", 2, 3, CONFIG_ERROR},
    {"flows:\n  recipient: [ accept ]\n", "wrong-type", 2, 14, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: accept\n", "wrong-type", 3, 8, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: []\n", "empty-flow", 3, 8, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f:\n", "wrong-type", 3, 0, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: { accept: {} }\n", "wrong-type", 3, 8, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: { preset: local-user, server: mail }\n", "unknown-preset", 3, 18,
     CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: { preset: local-users }\n", "missing-key", 3, 0, CONFIG_ERROR},
    {"flows:\n  recipient:\n    f: { preset: relay-authenticated, server: mail }\n", "unknown-key",
     3, 39, CONFIG_ERROR},
    {RCPT("acept"), "unknown-block", 4, 9, CONFIG_ERROR},
    {RCPT("5"), "unknown-block", 4, 9, CONFIG_ERROR},
    {RCPT("[ accept ]"), "wrong-type", 4, 9, CONFIG_ERROR},
    {RCPT("accept: { wen: authenticated }"), "unknown-key", 4, 19, CONFIG_ERROR},
    {RCPT("accept: { when: autenticated }"), "unknown-name", 4, 25, CONFIG_ERROR},
    {RCPT("accept: { when: \"trusted or autenticated\" }"), "unknown-name", 4, 37, CONFIG_ERROR},
    {RCPT("accept: { observe: maybe }"), "wrong-type", 4, 28, CONFIG_ERROR},
    {RCPT("accept: { id: \"a b\" }"), "bad-name", 4, 23, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, id: x, missing: next }\n      - accept: { id: x }"),
     "duplicate-id", 5, 23, CONFIG_ERROR},
    {RCPT("accept: {}\n        reject: {}"), "wrong-type", 5, 9, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mial }"), "unknown-name", 4, 32, CONFIG_ERROR},
    {RCPT("lookup-smtp: {}"), "missing-key", 4, 0, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: directory }"), "wrong-server", 4, 32, CONFIG_ERROR},
    {RCPT("lookup-ldap: { server: mail }"), "wrong-server", 4, 32, CONFIG_ERROR},
    {RCPT("lookup-ldap: { server: directory, filter: \"(mail=x)\" }"), "bad-filter", 4, 51,
     CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, mising: next }"), "unknown-key", 4, 38, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: rejct }"), "unknown-action", 4, 47, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: }"), "unknown-action", 4, 0, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: [] }"), "empty-flow", 4, 47, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: hold }"), "illegal-action", 4, 47, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: deliver }"), "illegal-action", 4, 47,
     CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: { reject: \"451 4.7.1 x\" } }"), "bad-reply", 4,
     57, CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, missing: { accept: x } }"), "wrong-type", 4, 57,
     CONFIG_ERROR},
    {RCPT("lookup-smtp: { server: mail, cache: 5 }"), NULL, 4, 45, CONFIG_ERROR},
    {RCPT("lookup-file: /does/not/exist"), "missing-file", 4, 22, CONFIG_WARNING},
    {RCPT("reject: \"250 2.0.0 ok\""), "bad-reply", 4, 17, CONFIG_ERROR},
    {RCPT("reject: \"451 4.7.1 later\""), "bad-reply", 4, 17, CONFIG_ERROR},
    {RCPT("defer: \"550 5.7.1 no\""), "bad-reply", 4, 16, CONFIG_ERROR},
    {RCPT("reject: { reply: \"550 4.7.1 no\" }"), "bad-reply", 4, 26, CONFIG_ERROR},
    {RCPT("deliver"), "illegal-step", 4, 9, CONFIG_ERROR},
    {RCPT("smtp: { server: mail }"), "illegal-step", 4, 9, CONFIG_ERROR},
    {RCPT("dnsbl: \"a b\""), "bad-list", 4, 16, CONFIG_ERROR},
    {RCPT("dnsbl: { lists: [ a.example, \"b.example=2-1\" ] }"), "bad-list", 4, 38, CONFIG_ERROR},
    {RCPT("dnsbl: { lists: a.example, at_least: 2 }"), "wrong-value", 4, 46, CONFIG_ERROR},
    {RCPT("greylist: { delay: 1h, retry: 30m }"), "wrong-value", 4, 39, CONFIG_ERROR},
    {RCPT("accept\n      - reject"), "dead-step", 5, 9, CONFIG_WARNING},
    {RCPT("lookup-smtp: { server: mail }\n      - reject"), "dead-step", 5, 9, CONFIG_WARNING},
    {RCPT("accept: { when: true }\n      - reject"), "dead-step", 5, 9, CONFIG_WARNING},
    {RCPT("accept: { when: authenticated }\n      - reject: { when: not authenticated }\n"
          "      - lookup-smtp: mail"),
     "dead-step", 6, 9, CONFIG_WARNING},
    {RCPT("accept: { when: authenticated }\n      - reject: { when: not authenticated }\n"
          "      - accept"),
     "dead-step", 6, 9, CONFIG_WARNING},
    {RCPT("match: { when: authenticated }"), "dead-step", 4, 9, CONFIG_WARNING},
    {RCPT("accept: { when: 'helo == \"x\" and helo == \"y\"' }"), "never", 4, 25, CONFIG_WARNING},
    {RCPT("accept: { when: authenticated and not authenticated }"), "never", 4, 25, CONFIG_WARNING},
    {RCPT("lookup-file: /etc/hostname\n        when: 'user == \"a\" and user == \"b\"'"), "never",
     5, 15, CONFIG_WARNING},
    {RCPT("match: { when: 'client in [10.0.0.0/8] and client in [11.0.0.0/8]', matched: reject }"),
     "never", 4, 24, CONFIG_WARNING},
    {RCPT("match: { when: authenticated, matched: [ reject: { when: not authenticated } ] }"),
     "never", 4, 66, CONFIG_WARNING},
    {RCPT("reject: { when: not authenticated }\n      - defer: { when: not authenticated }"),
     "never", 5, 24, CONFIG_WARNING},
    {RCPT("match: { matched: accept }"), "missing-key", 4, 0, CONFIG_ERROR},
    {RCPT("limit: { by: client, messages: 5/1h }"), "bad-limit", 4, 0, CONFIG_ERROR},
    {RCPT("limit: { by: client, failures: 5/1h }"), "bad-limit", 4, 0, CONFIG_ERROR},
    {RCPT("limit: { by: nobody, recipients: 5/1h }"), NULL, 4, 22, CONFIG_ERROR},
    {AUTH("accept"), "illegal-step", 4, 9, CONFIG_ERROR},
    {AUTH("accept: { when: client in trusted }"), "illegal-step", 4, 9, CONFIG_ERROR},
    {AUTH("file: { path: /etc/hostname, unknown: accept }"), "illegal-action", 4, 47, CONFIG_ERROR},
    {AUTH("file: { path: /etc/hostname, \"no\": accept }"), "illegal-action", 4, 0, CONFIG_ERROR},
    {AUTH("file: { path: /etc/hostname, error: accept }"), "illegal-action", 4, 0, CONFIG_ERROR},
    {AUTH("file: { path: /etc/hostname, error: [ accept ] }"), "illegal-step", 4, 0, CONFIG_ERROR},
    {AUTH("limit: { failures: 5/1h, then: accept }"), "illegal-action", 4, 0, CONFIG_ERROR},
    {AUTH("limit: { by: client }"), "bad-limit", 4, 0, CONFIG_ERROR},
    {AUTH("limit: { by: user, failures: 5/1h }"), "bad-limit", 4, 22, CONFIG_ERROR},
    {AUTH("limit: { failures: 5/1h, recipients: 5/1h }"), "bad-limit", 4, 0, CONFIG_ERROR},
    {AUTH("smtp: { server: plain }"), "cleartext-credentials", 4, 25, CONFIG_WARNING},
    {AUTH("smtp: { server: directory }"), "wrong-server", 4, 25, CONFIG_ERROR},
    {AUTH("ldap: { server: directory, filter: \"(uid=admin)\" }"), "bad-filter", 4, 0,
     CONFIG_ERROR},
    {AUTH("script: x.lua"), "script", 4, 17, CONFIG_ERROR},
    {CONT("header: \"X-A: b\""), "no-verdict", 4, 9, CONFIG_ERROR},
    {CONT("deliver: { when: authenticated }"), "no-verdict", 4, 9, CONFIG_ERROR},
    {CONT("deliver: { observe: true }"), "no-verdict", 4, 9, CONFIG_ERROR},
    {CONT("match: { when: authenticated, matched: [ header: \"X-A: b\" ] }\n      - deliver"),
     "no-verdict", 4, 50, CONFIG_ERROR},
    {CONT("match: { when: authenticated, matched: deliver, unmatched: note }"), "no-verdict", 4, 9,
     CONFIG_ERROR},
    {CONT("match: { when: authenticated, matched: deliver, unmatched: discard }\n      - deliver"),
     "dead-step", 5, 9, CONFIG_WARNING},
    {CONT("accept"), "illegal-step", 4, 9, CONFIG_ERROR},
    {CONT("quarantine: spam"), "unknown-name", 4, 21, CONFIG_ERROR},
    {CONT("quarantine"), "missing-key", 4, 9, CONFIG_ERROR},
    {CONT("match: { when: authenticated, matched: quarantine }\n      - deliver"), "missing-key", 4,
     48, CONFIG_ERROR},
    {CONT("hold: { reason: odd, class: strange }"), "unknown-word", 4, 37, CONFIG_ERROR},
    {CONT("antivirus: { server: nothing }\n      - deliver"), "unknown-name", 4, 30, CONFIG_ERROR},
    {CONT("header: {}\n      - deliver"), "missing-key", 4, 9, CONFIG_ERROR},
    {CONT("header: \"no colon\"\n      - deliver"), "bad-header", 4, 17, CONFIG_ERROR},
    {CONT("header: { add: [ \"A: b\", \"X: y\\nBcc: z\" ] }\n      - deliver"), "bad-header", 4, 34,
     CONFIG_ERROR},
    {CONT("header: { remove: Received }\n      - deliver"), "bad-header", 4, 27, CONFIG_ERROR},
    {CONT("limit: { by: user, failures: 5/1h }\n      - deliver"), "bad-limit", 4, 38,
     CONFIG_ERROR},
};

static bool check_fault(const struct fault_case *c, const struct flow_fixture *fixture)
{
    const struct config_report *report = &fixture->report;
    bool found = false;
    for (size_t i = 0; i < report->count; i++) {
        const struct config_problem *problem = &report->problems[i];
        bool same = (!c->code || str_equal(problem->code, str_c(c->code))) &&
                    problem->severity == c->severity && problem->place.line == 4 + c->line &&
                    (!c->column || problem->place.column == c->column);
        found |= same;
    }
    bool clean = c->severity == CONFIG_ERROR ? fixture->result == FAILED
                                             : fixture->result == OK && report->errors == 0;
    if (found && clean)
        return true;
    flow_fixture_print(fixture);
    print_error("expected %s at %u:%u in\n%s\n", c->code ? c->code : "an error", 4 + c->line,
                c->column, c->text);
    return false;
}

static void test_faults(void **unused)
{
    (void)unused;
    unsigned failures = 0;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct flow_fixture fixture;
        flow_fixture_open(&fixture, faults[i].text);
        failures += !check_fault(&faults[i], &fixture);
        flow_fixture_close(&fixture);
    }
    assert_int_equal(failures, 0);
}

/* What may hold: for some client, some time, after a change on the way. */
static void test_not_never(void **unused)
{
    (void)unused;
    static const char *const texts[] = {
        RCPT("accept: { when: 'helo == \"x\" or helo == \"y\"' }"),
        RCPT("accept: { when: 'client in office and client not in trusted' }"),
        RCPT("accept: { when: 'sender.domain == \"a.example\" and recipient.domain == "
             "\"b.example\"' }"),
        RCPT("reject: { when: not authenticated, observe: true }\n"
             "      - defer: { when: not authenticated }"),
        RCPT("lookup-smtp: { server: mail, when: not authenticated, missing: next }\n"
             "      - defer: { when: not authenticated }"),
        RCPT("reject: { when: 'client in office' }\n      - defer: { when: 'client in office' }"),
        RCPT("reject: { when: 'recipient == \"a@b.example\"' }\n"
             "      - rewrite: { recipient: { add_domain: b.example } }\n"
             "      - defer: { when: 'recipient == \"a@b.example\"' }"),
        RCPT("accept: { when: authenticated }\n      - reject: { when: not authenticated }\n"
             "      - reject"),
        RCPT("accept: { when: authenticated }\n      - reject: { when: client in office }\n"
             "      - reject: { when: client not in office }\n      - lookup-smtp: mail"),
        CONT("deliver: { when: authenticated }\n      - reject: { when: not authenticated }\n"
             "      - deliver"),
        CONT("hold: { when: authenticated }\n      - deliver: { when: not authenticated }\n"
             "      - header: { add: \"X-A: b\", when: authenticated }\n      - deliver"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct flow_fixture fixture;
        flow_fixture_open(&fixture, texts[i]);
        for (size_t k = 0; k < fixture.report.count; k++)
            if (str_equal(fixture.report.problems[k].code, STR("never")) ||
                str_equal(fixture.report.problems[k].code, STR("dead-step")))
                fail_msg("a false alarm in\n%s", texts[i]);
        flow_fixture_close(&fixture);
    }
}

static void test_all_errors_in_one_run(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    flow_fixture_open(&fixture, "flows:\n"
                                "  recipient:\n"
                                "    a: [ acept ]\n"
                                "    b: [ accept: { when: foo }, reject: { reply: x } ]\n"
                                "  content:\n"
                                "    c: [ accept, antivirus, deliver ]\n");
    assert_int_equal(fixture.result, FAILED);
    assert_int_equal(fixture.report.errors, 5);
    flow_fixture_close(&fixture);
}

static void test_did_you_mean(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    flow_fixture_open(&fixture, RCPT("lookup-smpt: { server: mail }"));
    assert_int_equal(fixture.report.errors, 1);
    assert_true(str_find_str(fixture.report.problems[0].fix, STR("lookup-smtp")) >= 0);
    flow_fixture_close(&fixture);
}

static void test_depth_is_bounded(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    struct buf text BUF_CLEANUP;
    buf_init(&text, 65536);
    buf_append(&text, STR("flows: { content: { f: "));
    for (int i = 0; i < 12; i++)
        buf_append(&text, STR("[ match: { when: authenticated, unmatched: hold, matched: "));
    buf_append(&text, STR("deliver"));
    for (int i = 0; i < 12; i++)
        buf_append(&text, STR(" } ]"));
    buf_append(&text, STR(" } }\n"));
    buf_append_byte(&text, '\0');
    flow_fixture_open(&fixture, text.ptr);
    assert_int_equal(fixture.result, FAILED);
    assert_str(fixture.report.problems[0].code, "too-deep");
    flow_fixture_close(&fixture);
}

/* ---- names, inline flows, templates ---- */

static enum result compile_inline(struct flow_fixture *fixture, enum flow_type type,
                                  const char *text, const struct flow **out_flow)
{
    struct config_node *root = ARENA_NEW(fixture->arena, struct config_node);
    struct str whole = arena_printf(fixture->arena, "x: %s\n", text);
    check(config_load_text(STR("inline.yaml"), whole, fixture->arena, &fixture->report, root) ==
          OK);
    return flow_compile_inline(fixture->set, type, STR("example.org"), config_get(root, STR("x")),
                               &fixture->context, out_flow);
}

static void test_inline(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    const struct flow *flow = NULL;
    flow_fixture_open(&fixture, "flows: { recipient: { mine: [ accept ] } }\n");
    assert_int_equal(compile_inline(&fixture, FLOW_RECIPIENT, "mine", &flow), OK);
    assert_str(flow_name(flow), "mine");
    assert_int_equal(compile_inline(&fixture, FLOW_RECIPIENT, "[ reject ]", &flow), OK);
    assert_str(flow_name(flow), "example.org");
    assert_int_equal(
        compile_inline(&fixture, FLOW_RECIPIENT, "{ preset: local-users, server: mail }", &flow),
        OK);
    assert_int_equal(
        compile_inline(&fixture, FLOW_RECIPIENT, "{ preset: relay-authenticated }", &flow), OK);
    assert_int_equal(compile_inline(&fixture, FLOW_RECIPIENT, "relay-authenticated", &flow), OK);
    assert_str(flow_name(flow), "relay-authenticated");
    assert_int_equal(compile_inline(&fixture, FLOW_CONTENT, "incoming", &flow), OK);
    assert_int_equal(compile_inline(&fixture, FLOW_CONTENT, "outgoing", &flow), OK);
    assert_int_equal(fixture.report.errors, 0);
    assert_int_equal(compile_inline(&fixture, FLOW_RECIPIENT, "mime", &flow), FAILED);
    assert_str(fixture.report.problems[0].code, "unknown-name");
    assert_int_equal(compile_inline(&fixture, FLOW_CONTENT, "mine", &flow), FAILED);
    assert_int_equal(
        compile_inline(&fixture, FLOW_RECIPIENT, "{ preset: local-users, server: nowhere }", &flow),
        FAILED);
    flow_fixture_close(&fixture);
}

static void test_file_hides_template(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    flow_fixture_open(&fixture, "flows: { recipient: { relay-authenticated: [ reject ] } }\n");
    size_t reported = fixture.report.count;
    flow_report_unused(fixture.set, &fixture.report);
    assert_int_equal(fixture.report.count, reported + 1);
    assert_str(fixture.report.problems[reported].code, "unused-name");
    assert_int_equal(fixture.report.problems[reported].place.line, 5);
    flow_fixture_close(&fixture);
}

static void test_unused(void **unused)
{
    (void)unused;
    struct flow_fixture fixture;
    flow_fixture_open(&fixture, "flows: { recipient: { a: [ accept ], b: [ accept ] } }\n");
    const struct flow *flow = flow_find(fixture.set, FLOW_RECIPIENT, STR("a"));
    assert_non_null(flow);
    assert_null(flow_find(fixture.set, FLOW_CONTENT, STR("a")));
    flow_mark_used(flow);
    flow_report_unused(fixture.set, &fixture.report);
    assert_int_equal(fixture.report.count, 1);
    assert_int_equal(fixture.report.errors, 0);
    assert_true(str_find_str(fixture.report.problems[0].text, STR("\"b\"")) >= 0);
    flow_fixture_close(&fixture);
}

static void test_describe(void **unused)
{
    (void)unused;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    flow_describe_blocks(&out);
    assert_false(out.overflow);
    assert_true(str_find_str(buf_str(&out), STR("lookup-smtp")) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),         cmocka_unit_test(test_faults),
        cmocka_unit_test(test_not_never),    cmocka_unit_test(test_all_errors_in_one_run),
        cmocka_unit_test(test_did_you_mean), cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_inline),       cmocka_unit_test(test_file_hides_template),
        cmocka_unit_test(test_unused),       cmocka_unit_test(test_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
