/* SPDX-License-Identifier: Apache-2.0 */
/* flow/explain_test.c - what is told of a flow that is not run. */
#include "flow/test.h"

struct explain_case {
    const char *steps;
    bool authenticated;
    unsigned given;
    unsigned verdicts;
    const char *rows; /* "step condition outcome action", a line each */
};

#define BIT(kind) (1u << (kind))
static const struct explain_case cases[] = {
    {"[ accept ]", false, 0, BIT(FLOW_ACCEPT), "1-accept  accept accept\n"},
    {"[ accept: { when: authenticated }, reject ]", false, 0, BIT(FLOW_REJECT),
     "1-accept false  next\n2-reject  reject reject 550 5.7.1 Recipient not accepted\n"},
    {"[ accept: { when: authenticated }, reject ]", true, 0, BIT(FLOW_ACCEPT),
     "1-accept true accept accept\n"},
    {"[ accept: { when: 'client == 192.0.2.7' }, reject: \"554 5.7.1 No\" ]", false, 0,
     BIT(FLOW_ACCEPT) | BIT(FLOW_REJECT),
     "1-accept open accept accept\n2-reject  reject reject 554 5.7.1 No\n"},
    {"[ accept: { when: 'client == 192.0.2.7' }, reject ]", false, FLOW_GIVEN_CLIENT,
     BIT(FLOW_ACCEPT), "1-accept true accept accept\n"},
    {"[ accept: { when: 'client in trusted' } ]", false, FLOW_GIVEN_CLIENT, BIT(FLOW_REJECT),
     "1-accept false  next\n   reject 550 5.7.1 Recipient not accepted\n"},
    {"[ reject: { when: 'sender in friends' }, accept ]", false, FLOW_GIVEN_SENDER,
     BIT(FLOW_REJECT), "1-reject true reject reject 550 5.7.1 Recipient not accepted\n"},
    {"[ reject: { when: 'sender in friends and helo ~ \"x\"' }, accept ]", false, FLOW_GIVEN_SENDER,
     BIT(FLOW_REJECT) | BIT(FLOW_ACCEPT),
     "1-reject open reject reject 550 5.7.1 Recipient not accepted\n2-accept  accept accept\n"},
    {"[ lookup-file: { path: /etc/hostname, missing: next, found: [ defer ] }, reject ]", false, 0,
     BIT(FLOW_REJECT) | BIT(FLOW_DEFER),
     "1-lookup-file  found branch\n1.found.1-defer  defer defer 451 4.7.1 Try again later\n"
     "1-lookup-file  missing next\n"
     "1-lookup-file  denied defer 451 4.7.1 Recipient cannot be verified now\n"
     "1-lookup-file  error defer 451 4.4.3 Recipient cannot be verified now\n"
     "2-reject  reject reject 550 5.7.1 Recipient not accepted\n"},
    {"[ match: { when: 'sender.domain == \"example.net\"', matched: accept }, defer ]", false,
     FLOW_GIVEN_SENDER, BIT(FLOW_ACCEPT), "1-match  matched accept\n"},
    {"[ reject: { observe: true }, accept ]", false, 0, BIT(FLOW_ACCEPT),
     "1-reject  reject reject 550 5.7.1 Recipient not accepted (observed)\n"
     "2-accept  accept accept\n"},
};

static void print_rows(const struct flow_explanation *explanation, struct buf *out)
{
    for (size_t i = 0; i < explanation->count; i++) {
        const struct flow_explained *row = &explanation->rows[i];
        buf_printf(out, "%.*s %s %s %s%s%.*s%s\n", STR_ARG(row->step), row->condition, row->outcome,
                   row->action, row->reply.len ? " " : "", STR_ARG(row->reply),
                   row->observed ? " (observed)" : "");
    }
}

static void test_explanations(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct explain_case *c = &cases[i];
        struct flow_fixture fixture;
        struct flow_explanation explanation;
        char text[1024];
        snprintf(text, sizeof text, "flows: { recipient: { f: %s } }\n", c->steps);
        flow_fixture_open(&fixture, text);
        if (fixture.result != OK) {
            flow_fixture_print(&fixture);
            fail_msg("%s does not compile", c->steps);
        }
        struct flow_facts facts = {.listener = STR("inbound"),
                                   .authenticated = c->authenticated,
                                   .user = STR_EMPTY,
                                   .helo = STR_EMPTY,
                                   .sender = STR("friend@example.net"),
                                   .sender_domain = STR("example.net"),
                                   .recipient = STR("ann@example.org"),
                                   .recipient_domain = STR("example.org"),
                                   .header = STR_EMPTY};
        check(net_ip_parse(STR("192.0.2.7"), &facts.client));
        flow_explain(flow_find(fixture.set, FLOW_RECIPIENT, STR("f")), &facts, c->given,
                     fixture.arena, &explanation);
        struct buf rows BUF_CLEANUP;
        buf_init(&rows, 65536);
        print_rows(&explanation, &rows);
        assert_str(buf_str(&rows), c->rows);
        assert_int_equal(explanation.verdicts, c->verdicts);
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_explanations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
