/* SPDX-License-Identifier: Apache-2.0 */
/* flow/content_test.c - content flows, header edits, the trace. */
#include "flow/run_bench.h"

/* ---- content ---- */

struct content_case {
    const char *steps;
    enum flow_verdict_kind kind;
    const char *reply;
    const char *step;
};

static const struct content_case contents[] = {
    {"[ deliver ]", FLOW_DELIVER, "", "1-deliver"},
    {"[ hold ]", FLOW_HOLD, "", "1-hold"},
    {"[ discard ]", FLOW_DISCARD, "", "1-discard"},
    {"[ reject ]", FLOW_REJECT, "550 5.7.1 Message not accepted", "1-reject"},
    {"[ defer ]", FLOW_DEFER, "451 4.7.1 Try again later", "1-defer"},
    {"{ preset: outgoing }", FLOW_DELIVER, "", "2-deliver"},
    {"[ match: { when: size > 1G, matched: reject }, deliver ]", FLOW_DELIVER, "", "2-deliver"},
    {"[ match: { when: size < 1G, matched: [ hold ], unmatched: deliver } ]", FLOW_HOLD, "",
     "1.matched.1-hold"},
    {"[ limit: { by: client, recipients: 1/1h, then: hold }, deliver ]", FLOW_HOLD, "", "1-limit"},
    {"[ limit: { by: client, recipients: 2/1h, messages: 1/1h, then: hold }, deliver ]",
     FLOW_DELIVER, "", "2-deliver"},
    {"[ limit: { by: user, recipients: 1/1h, then: hold }, deliver ]", FLOW_DELIVER, "",
     "2-deliver"},
};

static void test_contents(void **unused)
{
    (void)unused;
    static const struct mail_recipient two[2] = {
        {.address = {"ann@example.org", 15}, .domain = {"example.org", 11}},
        {.address = {"bob@example.org", 15}, .domain = {"example.org", 11}},
    };
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        struct bench bench;
        bench_open(&bench, FLOW_CONTENT, contents[i].steps);
        bench.facts.recipients = two;
        bench.facts.recipient_count = 2;
        bench.facts.size = 1000;
        scan(&bench);
        expect(&bench, contents[i].kind, contents[i].reply, contents[i].step);
        bench_close(&bench);
    }
}

struct header_case {
    const char *steps;
    const char *trace;  /* head before */
    const char *header; /* of the message */
    const char *head;   /* afterwards */
    uint64_t body_start;
};

static const struct header_case headers[] = {
    {"[ header: \"X-A: 1\", deliver ]", "Received: x\r\n", "From: a\r\nTo: b\r\n\r\n",
     "Received: x\r\nX-A: 1\r\nFrom: a\r\nTo: b\r\n\r\n", 18},
    {"[ header: { remove: [ x-spam, to ] }, deliver ]", "Received: x\r\n",
     "From: a\r\nX-SPAM: yes\r\n folded\r\nTo: b\r\nX-Spam: again\r\n\r\n",
     "Received: x\r\nFrom: a\r\n\r\n", 55},
    {"[ header: \"X-A: 1\", header: { add: \"X-B: 2\", remove: X-A }, deliver ]", "Received: x\r\n",
     "From: a\r\n\r\n", "Received: x\r\nX-B: 2\r\nFrom: a\r\n\r\n", 11},
    {"[ header: { add: [ \"X-A: 1\", \"X-B: 2\" ] }, deliver ]", "", "From: a\r\n\r\n",
     "X-A: 1\r\nX-B: 2\r\nFrom: a\r\n\r\n", 11},
    {"[ header: { add: \"X-A: 1\", observe: true }, deliver ]", "Received: x\r\n",
     "From: a\r\n\r\n", "Received: x\r\n", 0},
    {"[ header: { add: \"X-A: 1\", when: false }, deliver ]", "", "From: a\r\n\r\n", "", 0},
    /* an expression sees what a step before it did */
    {"[ header: \"X-A: 1\", header: { when: 'header(\"X-A\") == \"1\"', add: \"X-B: 2\" }, deliver "
     "]",
     "", "From: a\r\n\r\n", "X-B: 2\r\nX-A: 1\r\nFrom: a\r\n\r\n", 11},
    /* a message without a header section, and one that is nothing else */
    {"[ header: \"X-A: 1\", deliver ]", "", "\r\n", "X-A: 1\r\n\r\n", 2},
    {"[ header: \"X-A: 1\", deliver ]", "", "From: a\r\n", "X-A: 1\r\nFrom: a\r\n", 9},
};

static void test_headers(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const struct header_case *c = &headers[i];
        struct bench bench;
        bench_open(&bench, FLOW_CONTENT, c->steps);
        bench.content.head = str_c(c->trace);
        bench.content.body = body_memory_new(1000);
        bench.facts.header = arena_printf(bench.arena, "%s%s", c->trace, c->header);
        scan(&bench);
        assert_int_equal(bench.verdict.kind, FLOW_DELIVER);
        if (!str_equal(bench.content.head, str_c(c->head)))
            fail_msg("%s: \"%.*s\"", c->steps, STR_ARG(bench.content.head));
        assert_int_equal(bench.content.body_start, c->body_start);
        body_unref(bench.content.body);
        bench_close(&bench);
    }
}

/* A second run over the content of the first: the head is the whole section. */
static void test_header_twice(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_CONTENT, "[ header: \"X-A: 1\", deliver ]");
    bench.content.head = STR("Received: x\r\n");
    bench.content.body = body_memory_new(1000);
    bench.facts.header = STR("Received: x\r\nFrom: a\r\n\r\n");
    scan(&bench);
    bench.facts.header = bench.content.head;
    scan(&bench);
    assert_str(bench.content.head, "X-A: 1\r\nReceived: x\r\nX-A: 1\r\nFrom: a\r\n\r\n");
    assert_int_equal(bench.content.body_start, 11);
    body_unref(bench.content.body);
    bench_close(&bench);
}

/* ---- the trace ---- */

struct seen {
    char text[2048];
    size_t len;
};

static void take_event(const struct event *event, void *arg)
{
    struct seen *seen = arg;
    if (event->type != EVENT_FLOW_STEP)
        return;
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (field->key == KEY_DURATION_US || field->key == KEY_DETAIL)
            continue;
        int n = field->kind == EVENT_VALUE_STR
                    ? snprintf(seen->text + seen->len, sizeof seen->text - seen->len, "%.*s ",
                               STR_ARG(field->text))
                    : snprintf(seen->text + seen->len, sizeof seen->text - seen->len, "%lld ",
                               (long long)field->number);
        seen->len += (size_t)n;
    }
    seen->text[seen->len - 1] = '\n';
}

static void ignore_event(const struct event *event, void *arg)
{
    (void)event, (void)arg;
}

static void test_trace(void **unused)
{
    (void)unused;
    struct bench bench;
    struct seen seen = {0};
    bench_open(&bench, FLOW_RECIPIENT,
               "[ accept: { when: authenticated }, reject: { observe: true, id: strict }, "
               "lookup-smtp: { server: mail, missing: [ reject ] } ]");
    fake.lookup[BY_SMTP] = DIRECTORY_MISSING;
    event_drain(ignore_event, NULL);
    look_up(&bench);
    event_drain(take_event, &seen);
    assert_string_equal(seen.text,
                        "recipient f 1-accept accept skipped next 0 ann@example.org\n"
                        "recipient f strict reject reject reject 1 ann@example.org\n"
                        "recipient f 3-lookup-smtp lookup-smtp missing branch 0 ann@example.org\n"
                        "recipient f 3.missing.1-reject reject reject reject 0 ann@example.org\n");
    assert_int_equal(bench.verdict.steps_run, 3);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_header_twice),
        cmocka_unit_test(test_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
