/* SPDX-License-Identifier: Apache-2.0 */
/* The block limit in recipient and content flows, and what contain makes of a verdict. */
#include "flow/run_bench.h"

static void test_amounts(void **unused)
{
    (void)unused;
    /* what one message with 3 recipients and `size` bytes counts, and how often it fits */
    static const struct {
        const char *steps;
        uint64_t size;
        int fits;
        const char *what;
        uint64_t count, max;
    } cases[] = {
        {"messages: 4/1h", 1000, 4, "messages", 4, 4},
        {"recipients: 10/1h", 1000, 3, "recipients", 9, 10},
        {"bytes: 10K/1h", 1024, 10, "bytes", 10240, 10240},
        {"bytes: 10K/1h", 1025, 5, "bytes", 10240, 10240}, /* in steps of 1 KiB */
        {"bytes: 1G/1h", 200 << 20, 5, "bytes", 1000 << 20, 1 << 30},
        {"messages: 4/1h, recipients: 6/1h, bytes: 1G/1h", 1, 2, "recipients", 6, 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        char steps[256];
        int fits = 0;
        snprintf(steps, sizeof steps, "[ limit: { by: user, %s, then: hold }, deliver ]",
                 cases[i].steps);
        bench_open(&bench, FLOW_CONTENT, steps);
        bench.facts.user = STR("Ann");
        bench.facts.recipient_count = 3;
        bench.facts.size = cases[i].size;
        for (scan(&bench); bench.verdict.kind == FLOW_DELIVER && fits < 100; scan(&bench))
            fits++;
        if (fits != cases[i].fits)
            fail_msg("%s: %d", cases[i].steps, fits);
        const struct flow_overrun *overrun = &bench.verdict.overrun;
        assert_string_equal(overrun->what, cases[i].what);
        assert_string_equal(overrun->by, "user");
        assert_str(overrun->subject, "ann");
        assert_int_equal(overrun->count, cases[i].count);
        assert_int_equal(overrun->max, cases[i].max);
        assert_int_equal(overrun->period_ns, 3600 * NS_PER_S);
        bench.facts.user = STR("bob");
        scan(&bench);
        assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
        bench_close(&bench);
    }
}

/* What one number refuses costs the others nothing. */
static void test_refused_is_not_counted(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_CONTENT,
               "[ limit: { by: user, messages: 2/1h, recipients: 5/1h }, deliver ]");
    bench.facts.user = STR("ann");
    bench.facts.recipient_count = 6;
    for (int i = 0; i < 10; i++)
        scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    bench.facts.recipient_count = 1;
    scan(&bench);
    scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
    scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    bench_wait(&bench, 3661);
    scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
    bench.run.released = true; /* somebody looked at it */
    for (int i = 0; i < 10; i++)
        scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
    bench.run.released = false;
    scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
    bench_close(&bench);
}

static void test_by(void **unused)
{
    (void)unused;
    static const struct {
        const char *by, *subject;
    } cases[] = {
        {"client", "192.0.2.0/24"}, {"user", "ann"},         {"sender", "friend@example.net"},
        {"domain", "example.net"},  {"listener", "inbound"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        char steps[128];
        snprintf(steps, sizeof steps, "[ limit: { by: %s, messages: 1/1h }, deliver ]",
                 cases[i].by);
        bench_open(&bench, FLOW_CONTENT, steps);
        bench.facts.user = STR("ann");
        scan(&bench);
        scan(&bench);
        assert_int_equal(bench.verdict.kind, FLOW_DEFER);
        assert_str(bench.verdict.overrun.subject, cases[i].subject);
        bench_close(&bench);
    }
}

/* Recipients that a lookup does not know: only those that were not accepted in the end. */
static void test_unknown(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(
        &bench, FLOW_RECIPIENT,
        "[ limit: { by: client, unknown: 2/1h }, lookup-smtp: { server: mail, missing: "
        "next, stale: 0s, "
        "cache: 0s, cache_missing: 0s }, lookup-ldap: { "
        "server: directory, filter: \"(mail={address})\", cache: 0s, cache_missing: 0s, stale: "
        "0s } ]");
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    for (int i = 0; i < 5; i++)
        look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "2-lookup-smtp");
    fake.lookup[BY_SMTP] = DIRECTORY_ERROR; /* no answer is no "no" */
    for (int i = 0; i < 5; i++)
        look_up(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    assert_int_not_equal(bench.verdict.reason, MAIL_REASON_RATE_LIMIT);
    bench.facts.recipient = STR("two@example.org");
    fake.lookup[BY_SMTP] = DIRECTORY_MISSING; /* one does not know it, the other is away */
    fake.lookup[BY_LDAP] = DIRECTORY_ERROR;
    for (int i = 0; i < 5; i++)
        look_up(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DEFER);
    assert_int_not_equal(bench.verdict.reason, MAIL_REASON_RATE_LIMIT);
    fake.lookup[BY_LDAP] = DIRECTORY_MISSING;
    look_up(&bench);
    look_up(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_REJECT);
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    assert_int_equal(bench.verdict.reason, MAIL_REASON_RATE_LIMIT);
    assert_string_equal(bench.verdict.overrun.what, "unknown");
    bench_close(&bench);
}

/* ---- warnings ---- */

static void count_near(const struct event *event, void *arg)
{
    *(int *)arg += event->type == EVENT_LIMIT_NEAR;
}

static void test_warning(void **unused)
{
    (void)unused;
    struct bench bench;
    int before = 0, near = 0;
    bench_open(&bench, FLOW_CONTENT,
               "[ limit: { by: user, messages: 10/1h, warn_at: 80% }, deliver ]");
    bench.facts.user = STR("ann");
    event_drain(count_near, &before);
    before = 0;
    for (int i = 0; i < 7; i++)
        scan(&bench);
    event_drain(count_near, &before);
    assert_int_equal(before, 0);
    for (int i = 0; i < 10; i++)
        scan(&bench);
    event_drain(count_near, &near);
    assert_int_equal(near, 1);
    bench_close(&bench);
}

/* ---- contain ---- */

static void test_contain(void **unused)
{
    (void)unused;
    static const char later[] = "450 4.7.1 Too much in too short a time, try again later";
    static const struct {
        enum flow_type type;
        const char *steps;
        enum flow_verdict_kind kind;
        const char *what;
    } cases[] = {
        {FLOW_CONTENT, "[ limit: { by: user, messages: 1/1h, then: contain }, deliver ]", FLOW_HOLD,
         "messages"},
        {FLOW_CONTENT, "[ limit: { by: user, messages: 1/1h, then: [ contain ] }, deliver ]",
         FLOW_HOLD, "messages"},
        {FLOW_CONTENT, "[ match: { when: size > 1, matched: contain }, deliver ]", FLOW_HOLD, NULL},
        {FLOW_RECIPIENT, "[ limit: { by: user, recipients: 1/1h, then: contain }, accept ]",
         FLOW_DEFER, "recipients"},
        {FLOW_RECIPIENT, "[ contain ]", FLOW_DEFER, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench bench;
        bench_open(&bench, cases[i].type, cases[i].steps);
        bench.facts.user = STR("ann");
        bench.facts.size = 10;
        for (int k = 0; k < 2; k++) {
            if (cases[i].type == FLOW_CONTENT)
                scan(&bench);
            else
                look_up(&bench);
        }
        const struct flow_verdict *verdict = &bench.verdict;
        assert_true(verdict->contain);
        assert_int_equal(verdict->kind, cases[i].kind);
        assert_int_equal(verdict->reason, MAIL_REASON_CONTAINED);
        assert_str(mail_reply_text(bench.arena, &verdict->reply), later);
        assert_int_equal(verdict->overrun.step.len > 0, cases[i].what != NULL);
        if (cases[i].what)
            assert_string_equal(verdict->overrun.what, cases[i].what);
        bench_close(&bench);
    }
}

/* An observed step only tells. */
static void test_observed(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_CONTENT, "[ contain: { observe: true }, deliver ]");
    scan(&bench);
    assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
    assert_false(bench.verdict.contain);
    bench_close(&bench);
}

/* ---- what does not compile ---- */

static void test_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *type, *steps, *code;
    } cases[] = {
        {"authentication", "[ limit: { failures: 3/1h, then: contain }, smtp: mail ]",
         "illegal-action"},
        {"authentication", "[ contain, smtp: mail ]", "illegal-step"},
        {"authentication", "[ limit: { failures: 3/1h, unknown: 3/1h }, smtp: mail ]", "bad-limit"},
        {"authentication", "[ limit: { failures: 3/1h, bytes: 3M/1h }, smtp: mail ]", "bad-limit"},
        {"authentication", "[ limit: { failures: 3/1h, warn_at: 9% }, smtp: mail ]", "bad-limit"},
        {"recipient", "[ limit: { bytes: 3M/1h }, accept ]", "bad-limit"},
        {"recipient", "[ limit: { messages: 3/1h }, accept ]", "bad-limit"},
        {"recipient", "[ limit: { by: user }, accept ]", "bad-limit"},
        {"content", "[ limit: { unknown: 3/1h }, deliver ]", "bad-limit"},
        {"content", "[ limit: { bytes: 0/1h }, deliver ]", "bad-limit"},
        {"content", "[ limit: { bytes: 3M }, deliver ]", "bad-limit"},
        {"content", "[ limit: { bytes: 3X/1h }, deliver ]", "bad-limit"},
        {"content", "[ limit: { bytes: 4T/1h }, deliver ]", "bad-limit"},
        {"content", "[ limit: { bytes: 99999999999999T/1h }, deliver ]", "bad-limit"},
        {"content", "[ limit: { messages: 3/1h, warn_at: 100% }, deliver ]", "bad-limit"},
        {"content", "[ limit: { messages: 3/1h, warn_at: 0% }, deliver ]", "bad-limit"},
        {"content", "[ limit: { messages: 3/1h, warn_at: x }, deliver ]", "bad-limit"},
        {"content", "[ contain: { reason: x } ]", "unknown-key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct flow_fixture fixture;
        char text[512];
        snprintf(text, sizeof text, "flows: { %s: { f: %s } }\n", cases[i].type, cases[i].steps);
        flow_fixture_open(&fixture, text);
        bool found = false;
        for (size_t k = 0; k < fixture.report.count; k++)
            found = found || str_equal(fixture.report.problems[k].code, str_c(cases[i].code));
        if (!found) {
            flow_fixture_print(&fixture);
            fail_msg("%s %s: no %s", cases[i].type, cases[i].steps, cases[i].code);
        }
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_amounts),  cmocka_unit_test(test_refused_is_not_counted),
        cmocka_unit_test(test_by),       cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_warning),  cmocka_unit_test(test_contain),
        cmocka_unit_test(test_observed), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
