/* SPDX-License-Identifier: Apache-2.0 */
#include "flow/checks.h"
#include "flow/test.h"

#include "flow/expression.h"

static struct config_node scalar(const char *text)
{
    return (struct config_node){.kind = CONFIG_SCALAR,
                                .place = {.line = 7, .column = 11, .length = 1},
                                .text = str_c(text)};
}

static struct mail_recipient recipients[] = {
    {.address = {"ann@example.org", 15}, .domain = {"example.org", 11}},
    {.address = {"bob@example.net", 15}, .domain = {"example.net", 11}},
};

static struct flow_facts facts_of(enum flow_type type)
{
    struct flow_facts facts = {
        .authenticated = false,
        .trusted = true,
        .client_name = STR("host.example.com"),
        .helo = STR("HOST.example.com"),
        .tls = STR("TLSv1.3"),
        .listener = STR("inbound"),
        .sender = STR("Friend@example.net"),
        .sender_domain = STR("example.net"),
        .user = STR_EMPTY,
    };
    check(net_ip_parse(STR("192.0.2.7"), &facts.client));
    if (type == FLOW_RECIPIENT) {
        facts.recipient = STR("ann@example.org");
        facts.recipient_domain = STR("example.org");
    } else {
        static struct flow_checks checks = {.score = 6.5};
        facts.checks = &checks;
        facts.size = 5u << 20;
        facts.recipients = recipients;
        facts.recipient_count = 2;
        facts.header = STR("Subject: Your\r\n invoice\r\nPrecedence: bulk\r\n\r\n");
    }
    return facts;
}

struct value_case {
    enum flow_type type;
    const char *text;
    bool value;
};

static const struct value_case values[] = {
    {FLOW_RECIPIENT, "true", true},
    {FLOW_RECIPIENT, "false", false},
    {FLOW_RECIPIENT, "authenticated", false},
    {FLOW_RECIPIENT, "trusted", true},
    {FLOW_RECIPIENT, "not authenticated", true},
    {FLOW_RECIPIENT, "not not authenticated", false},
    {FLOW_RECIPIENT, "client in trusted", true},
    {FLOW_RECIPIENT, "client not in trusted", false},
    {FLOW_RECIPIENT, "not client in trusted", false},
    {FLOW_RECIPIENT, "authenticated or client in trusted", true},
    {FLOW_RECIPIENT, "authenticated and client in trusted", false},
    /* and binds before or, not before and */
    {FLOW_RECIPIENT, "true or false and false", true},
    {FLOW_RECIPIENT, "(true or false) and false", false},
    {FLOW_RECIPIENT, "not true or true", true},
    {FLOW_RECIPIENT, "not (true or true)", false},
    {FLOW_RECIPIENT, "not false and false", false},
    {FLOW_RECIPIENT, "authenticated == false", true},
    {FLOW_RECIPIENT, "authenticated != trusted", true},
    {FLOW_RECIPIENT, "user == \"\"", true},
    {FLOW_RECIPIENT, "client in [192.0.2.0/24]", true},
    {FLOW_RECIPIENT, "client in [ 10.0.0.0/8, 192.0.2.7 ]", true},
    {FLOW_RECIPIENT, "client in [\"10.0.0.0/8\", 2001:db8::/32]", false},
    {FLOW_RECIPIENT, "client in []", false},
    {FLOW_RECIPIENT, "client in office", true},
    {FLOW_RECIPIENT, "client == 192.0.2.7", true},
    {FLOW_RECIPIENT, "client == \"192.0.2.7\"", true},
    {FLOW_RECIPIENT, "client != ::1", true},
    {FLOW_RECIPIENT, "client.name == \"HOST.EXAMPLE.COM\"", true},
    {FLOW_RECIPIENT, "helo == client.name", true},
    {FLOW_RECIPIENT, "helo in [host.example.com]", true},
    {FLOW_RECIPIENT, "tls != \"\"", true},
    {FLOW_RECIPIENT, "listener == 'inbound'", true},
    {FLOW_RECIPIENT, "sender == \"friend@example.net\"", true},
    {FLOW_RECIPIENT, "sender in friends", true},
    {FLOW_RECIPIENT, "sender in [ @example.net ]", true},
    {FLOW_RECIPIENT, "sender in [ example.net ]", true},
    {FLOW_RECIPIENT, "sender in [ ample.net, friend ]", false},
    {FLOW_RECIPIENT, "sender.domain in [ example.com, example.net ]", true},
    {FLOW_RECIPIENT, "sender.domain in friends", false},
    {FLOW_RECIPIENT, "sender ~ \"^friend@\"", false},
    {FLOW_RECIPIENT, "sender ~ \"(?i)^friend@\"", true},
    {FLOW_RECIPIENT, "sender ~ \"@example\\.net$\"", true},
    {FLOW_RECIPIENT, "recipient == \"ann@example.org\"", true},
    {FLOW_RECIPIENT, "recipient.domain == \"example.net\"", false},
    {FLOW_RECIPIENT, "recipient in friends", false},
    {FLOW_CONTENT, "size > 4M", true},
    {FLOW_CONTENT, "size >= 5M and size <= 5M and size == 5242880", true},
    {FLOW_CONTENT, "size < 5M", false},
    {FLOW_CONTENT, "4M < size", true},
    {FLOW_CONTENT, "size != 1G", true},
    {FLOW_CONTENT, "score > 6.4 and score < 6.6 and score == 6.5", true},
    {FLOW_CONTENT, "score > 6.5 or score < -1", false},
    {FLOW_CONTENT, "recipients > 1", true},
    {FLOW_CONTENT, "header(\"subject\") == \"Your invoice\"", true},
    {FLOW_CONTENT, "header(\"Precedence\") in [ bulk, list, junk ]", true},
    {FLOW_CONTENT, "header(\"X-None\") == \"\"", true},
    {FLOW_CONTENT, "header(\"Subject\") ~ \"invoice$\"", true},
    {FLOW_CONTENT, "any(recipient.domain == \"example.net\")", true},
    {FLOW_CONTENT, "all(recipient.domain == \"example.net\")", false},
    {FLOW_CONTENT, "all(recipient ~ \"@example\")", true},
    {FLOW_CONTENT, "any(recipient == \"eve@example.org\")", false},
    {FLOW_CONTENT, "not any(recipient in friends)", true},
    {FLOW_CONTENT, "any(recipient.domain == \"example.org\" and not authenticated)", true},
};

static void test_values(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct flow_fixture fixture = {0};
        struct error err = {0};
        bool value = false;
        flow_fixture_context(&fixture);
        struct config_node node = scalar(values[i].text);
        const struct expression *expression =
            expression_parse(&node, values[i].type, &fixture.context);
        if (!expression) {
            flow_fixture_print(&fixture);
            fail_msg("%s does not parse", values[i].text);
        }
        struct flow_facts facts = facts_of(values[i].type);
        assert_int_equal(expression_eval(expression, &facts, fixture.arena, &value, &err), OK);
        if (value != values[i].value)
            fail_msg("%s is %d", values[i].text, value);
        flow_fixture_close(&fixture);
    }
}

struct fault_case {
    enum flow_type type;
    const char *text;
    const char *code;
    unsigned offset; /* of the caret in the text */
    const char *fix; /* part of it, or NULL */
};

static const struct fault_case faults[] = {
    {FLOW_RECIPIENT, "", "expression", 0, NULL},
    {FLOW_RECIPIENT, "   ", "expression", 3, NULL},
    {FLOW_RECIPIENT, "autenticated", "unknown-name", 0, "authenticated"},
    {FLOW_RECIPIENT, "not client.nam == \"x\"", "unknown-name", 4, "client.name"},
    {FLOW_RECIPIENT, "authenticated or", "expression", 16, NULL},
    {FLOW_RECIPIENT, "authenticated trusted", "expression", 14, NULL},
    {FLOW_RECIPIENT, "(authenticated", "expression", 14, NULL},
    {FLOW_RECIPIENT, "authenticated)", "expression", 13, NULL},
    {FLOW_RECIPIENT, "sender", "expression-type", 0, "sender != \"\""},
    {FLOW_RECIPIENT, "authenticated and sender", "expression-type", 18, "sender != \"\""},
    {FLOW_RECIPIENT, "not helo", "expression-type", 4, NULL},
    {FLOW_RECIPIENT, "sender == 5", "expression-type", 10, NULL},
    {FLOW_RECIPIENT, "sender = \"x\"", "expression", 7, NULL},
    {FLOW_RECIPIENT, "sender == \"x", "expression", 10, NULL},
    {FLOW_RECIPIENT, "sender < \"x\"", "expression-type", 0, NULL},
    {FLOW_RECIPIENT, "authenticated && trusted", "expression", 14, NULL},
    {FLOW_RECIPIENT, "!authenticated", "expression", 0, NULL},
    {FLOW_RECIPIENT, "client == 10.0.0.0/8", "expression-type", 10, "client in [10.0.0.0/8]"},
    {FLOW_RECIPIENT, "client == \"host\"", "expression-type", 10, NULL},
    {FLOW_RECIPIENT, "client in [example.org]", "expression-type", 11, NULL},
    {FLOW_RECIPIENT, "client in [10.0.0.1/8]", "expression-type", 11, NULL},
    {FLOW_RECIPIENT, "client in [10.0.0.0/8", "expression", 21, NULL},
    {FLOW_RECIPIENT, "client in offce", "unknown-name", 10, "office"},
    {FLOW_RECIPIENT, "sender in trusted", "expression-type", 10, NULL},
    {FLOW_RECIPIENT, "authenticated in trusted", "expression-type", 0, NULL},
    {FLOW_RECIPIENT, "sender not trusted", "expression", 11, NULL},
    {FLOW_RECIPIENT, "sender ~ 5", "expression", 9, NULL},
    {FLOW_RECIPIENT, "sender ~ \"a(b\"", "pattern", 13, NULL},
    {FLOW_AUTHENTICATION, "spf == \"fail\"", "unknown-name", 0, NULL},
    {FLOW_RECIPIENT, "dmarc == \"fail\"", "unknown-name", 0, NULL},
    {FLOW_RECIPIENT, "size > 5M", "unknown-name", 0, NULL},
    {FLOW_RECIPIENT, "any(authenticated)", "unknown-name", 0, NULL},
    {FLOW_CONTENT, "recipient == \"x\"", "unknown-name", 0, "any("},
    {FLOW_CONTENT, "any(all(recipient == \"x\"))", "unknown-name", 4, NULL},
    {FLOW_CONTENT, "any(recipient)", "expression-type", 4, NULL},
    {FLOW_RECIPIENT, "score > 5", "unknown-name", 0, NULL},
    {FLOW_CONTENT, "score > 5.", "unknown-name", 8, NULL},
    {FLOW_CONTENT, "score > 5.5K", "unknown-name", 8, NULL},
    {FLOW_CONTENT, "dkim.domian == \"x\"", "unknown-name", 0, "dkim.domain"},
    {FLOW_CONTENT, "header == \"x\"", "expression", 7, NULL},
    {FLOW_CONTENT, "header(Subject) == \"x\"", "expression", 7, NULL},
    {FLOW_CONTENT, "header(\"a b\") == \"x\"", "expression", 7, NULL},
    {FLOW_AUTHENTICATION, "sender == \"x\"", "unknown-name", 0, NULL},
};

static void test_faults(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        const struct fault_case *c = &faults[i];
        struct flow_fixture fixture = {0};
        flow_fixture_context(&fixture);
        struct config_node node = scalar(c->text);
        if (expression_parse(&node, c->type, &fixture.context))
            fail_msg("%s parses", c->text);
        if (fixture.report.errors != 1)
            fail_msg("%s: %zu errors", c->text, fixture.report.errors);
        const struct config_problem *problem = &fixture.report.problems[0];
        if (!str_equal(problem->code, str_c(c->code)))
            fail_msg("%s: %.*s (%.*s)", c->text, STR_ARG(problem->code), STR_ARG(problem->text));
        if (problem->place.line != 7 || problem->place.column != 11 + c->offset)
            fail_msg("%s: column %u (%.*s)", c->text, problem->place.column - 11,
                     STR_ARG(problem->text));
        if (c->fix && str_find_str(problem->fix, str_c(c->fix)) < 0)
            fail_msg("%s: fix %.*s", c->text, STR_ARG(problem->fix));
        flow_fixture_close(&fixture);
    }
}

static void test_quotes_move_the_caret(void **unused)
{
    (void)unused;
    struct flow_fixture fixture = {0};
    flow_fixture_context(&fixture);
    struct config_node node = scalar("not foo");
    node.quoted = true;
    assert_null(expression_parse(&node, FLOW_RECIPIENT, &fixture.context));
    assert_int_equal(fixture.report.problems[0].place.column, 11 + 1 + 4);
    assert_int_equal(fixture.report.problems[0].place.length, 3);
    flow_fixture_close(&fixture);
}

static void test_depth_and_length_are_bounded(void **unused)
{
    (void)unused;
    struct flow_fixture fixture = {0};
    flow_fixture_context(&fixture);
    char text[EXPRESSION_TEXT_MAX + 64];
    size_t len = 0;
    while (len < 2000)
        text[len++] = '(';
    text[len] = '\0';
    struct config_node node = scalar(text);
    assert_null(expression_parse(&node, FLOW_RECIPIENT, &fixture.context));
    assert_int_equal(fixture.report.errors, 1);
    while (len < EXPRESSION_TEXT_MAX + 1)
        text[len++] = ' ';
    text[len] = '\0';
    node = scalar(text);
    assert_null(expression_parse(&node, FLOW_RECIPIENT, &fixture.context));
    assert_int_equal(fixture.report.errors, 2);
    flow_fixture_close(&fixture);
}

static void test_costly_pattern_fails(void **unused)
{
    (void)unused;
    struct flow_fixture fixture = {0};
    struct error err = {0};
    bool value;
    flow_fixture_context(&fixture);
    struct config_node node = scalar("helo ~ \"^(a+)+$\"");
    const struct expression *expression = expression_parse(&node, FLOW_RECIPIENT, &fixture.context);
    assert_non_null(expression);
    struct flow_facts facts = facts_of(FLOW_RECIPIENT);
    facts.helo = STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab");
    assert_int_equal(expression_eval(expression, &facts, fixture.arena, &value, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    flow_fixture_close(&fixture);
}

struct judge_case {
    const char *text;
    enum expression_truth truth;
};

static const struct judge_case judged[] = {
    {"true", EXPRESSION_TRUE},
    {"authenticated", EXPRESSION_FALSE},
    {"not authenticated", EXPRESSION_TRUE},
    {"authenticated and not authenticated", EXPRESSION_FALSE},
    {"authenticated or not authenticated", EXPRESSION_TRUE},
    {"client in trusted", EXPRESSION_FALSE},
    {"client not in trusted", EXPRESSION_TRUE},
    {"trusted", EXPRESSION_FALSE},
    {"authenticated == true", EXPRESSION_FALSE},
    {"authenticated == trusted", EXPRESSION_TRUE},
    {"authenticated or client in trusted", EXPRESSION_FALSE},
    {"client in [10.0.0.0/8]", EXPRESSION_UNDECIDED},
    {"client in office", EXPRESSION_UNDECIDED},
    {"client == 10.0.0.1", EXPRESSION_UNDECIDED},
    {"helo == \"x\"", EXPRESSION_UNDECIDED},
    {"not helo == \"x\"", EXPRESSION_UNDECIDED},
    {"helo == \"x\" and authenticated", EXPRESSION_FALSE},
    {"authenticated and helo == \"x\"", EXPRESSION_FALSE},
    {"helo == \"x\" or not authenticated", EXPRESSION_TRUE},
    {"helo == \"x\" or authenticated", EXPRESSION_UNDECIDED},
    {"listener == \"inbound\"", EXPRESSION_TRUE},
    {"listener == \"submission\"", EXPRESSION_FALSE},
    {"listener in [ a, b ]", EXPRESSION_FALSE},
    {"listener ~ \"^in\"", EXPRESSION_TRUE},
    {"user == \"\"", EXPRESSION_TRUE},
    {"user ~ \".\"", EXPRESSION_FALSE},
    {"user in friends", EXPRESSION_UNDECIDED},
    {"user == helo", EXPRESSION_UNDECIDED},
    {"recipient.domain == \"example.org\"", EXPRESSION_UNDECIDED},
};

static void test_judge(void **unused)
{
    (void)unused;
    static const struct expression_knowledge known = {.stranger = true, .listener = {"inbound", 7}};
    for (size_t i = 0; i < sizeof judged / sizeof *judged; i++) {
        struct flow_fixture fixture = {0};
        flow_fixture_context(&fixture);
        struct config_node node = scalar(judged[i].text);
        const struct expression *expression =
            expression_parse(&node, FLOW_RECIPIENT, &fixture.context);
        assert_non_null(expression);
        enum expression_truth truth = expression_judge(expression, &known);
        if (truth != judged[i].truth)
            fail_msg("%s: %d", judged[i].text, (int)truth);
        flow_fixture_close(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_quotes_move_the_caret),
        cmocka_unit_test(test_depth_and_length_are_bounded),
        cmocka_unit_test(test_costly_pattern_fails),
        cmocka_unit_test(test_judge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
