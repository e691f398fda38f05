/* SPDX-License-Identifier: Apache-2.0 */
/* flow/run_test.c - logins and recipients. */
#include "flow/run_bench.h"

/* ---- logins ---- */

struct login_case {
    const char *steps;
    enum directory_login smtp, file, ldap;
    enum flow_verdict_kind kind;
    const char *reply;
    const char *step;
    unsigned asked; /* questions to backends */
};

#define ALL_THREE                                                                                  \
    "[ smtp: { server: mail, cache: 0s }, file: /etc/hostname, ldap: { server: directory, cache: " \
    "0s } ]"
#define NO_REPLY    "535 5.7.8 Authentication credentials invalid"
#define LATER_REPLY "454 4.7.0 Temporary authentication failure"

static const struct login_case logins[] = {
    {ALL_THREE, DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_NO, FLOW_ACCEPT, "", "1-smtp", 1},
    {ALL_THREE, DIRECTORY_NO, DIRECTORY_YES, DIRECTORY_NO, FLOW_ACCEPT, "", "2-file", 2},
    {ALL_THREE, DIRECTORY_LOGIN_ERROR, DIRECTORY_UNKNOWN, DIRECTORY_YES, FLOW_ACCEPT, "", "3-ldap",
     3},
    {ALL_THREE, DIRECTORY_NO, DIRECTORY_NO, DIRECTORY_NO, FLOW_REJECT, NO_REPLY, "", 3},
    {ALL_THREE, DIRECTORY_UNKNOWN, DIRECTORY_UNKNOWN, DIRECTORY_UNKNOWN, FLOW_REJECT, NO_REPLY, "",
     3},
    {ALL_THREE, DIRECTORY_NO, DIRECTORY_LOGIN_ERROR, DIRECTORY_UNKNOWN, FLOW_DEFER, LATER_REPLY, "",
     3},
    {ALL_THREE, DIRECTORY_LOGIN_ERROR, DIRECTORY_LOGIN_ERROR, DIRECTORY_LOGIN_ERROR, FLOW_DEFER,
     LATER_REPLY, "", 3},
    {"[ file: { path: /etc/hostname, \"no\": reject }, smtp: mail ]", DIRECTORY_YES, DIRECTORY_NO,
     DIRECTORY_NO, FLOW_REJECT, NO_REPLY, "1-file", 1},
    {"[ file: { path: /etc/hostname, error: defer }, smtp: mail ]", DIRECTORY_YES,
     DIRECTORY_LOGIN_ERROR, DIRECTORY_NO, FLOW_DEFER, LATER_REPLY, "1-file", 1},
    {"[ file: { path: /etc/hostname, \"no\": { reject: \"535 5.7.8 Ask the desk\" } } ]",
     DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_NO, FLOW_REJECT, "535 5.7.8 Ask the desk", "1-file", 1},
    /* an observed yes does not authenticate */
    {"[ smtp: { server: mail, observe: true } ]", DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_NO,
     FLOW_REJECT, NO_REPLY, "", 1},
    {"[ smtp: { server: mail, when: 'tls != \"\"' } ]", DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_NO,
     FLOW_REJECT, NO_REPLY, "", 0},
    {"[ smtp: { server: mail, unknown: [ file: /etc/hostname ] }, ldap: directory ]",
     DIRECTORY_UNKNOWN, DIRECTORY_YES, DIRECTORY_NO, FLOW_ACCEPT, "", "1.unknown.1-file", 2},
};

static void test_logins(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof logins / sizeof *logins; i++) {
        const struct login_case *c = &logins[i];
        struct bench bench;
        bench_open(&bench, FLOW_AUTHENTICATION, c->steps);
        fake.login[BY_SMTP] = c->smtp;
        fake.login[BY_FILE] = c->file;
        fake.login[BY_LDAP] = c->ldap;
        log_in(&bench, "ann", "secret");
        expect(&bench, c->kind, c->reply, c->step);
        assert_int_equal(fake.asked[0] + fake.asked[1] + fake.asked[2], c->asked);
        assert_int_equal(bench.verdict.own_address_count, c->kind == FLOW_ACCEPT);
        bench_close(&bench);
    }
}

static void test_empty_password_never_asks(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_AUTHENTICATION, "[ smtp: mail ]");
    fake.login[BY_SMTP] = DIRECTORY_YES;
    log_in(&bench, "ann", "");
    expect(&bench, FLOW_REJECT, NO_REPLY, "");
    log_in(&bench, "", "secret");
    expect(&bench, FLOW_REJECT, NO_REPLY, "");
    assert_int_equal(fake.asked[BY_SMTP], 0);
    bench_close(&bench);
}

static void test_login_cache(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_AUTHENTICATION, "[ smtp: { server: mail, cache: 60s } ]");
    fake.right_password = "right";
    log_in(&bench, "ann", "right");
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_ACCEPT, "", "1-smtp");
    assert_int_equal(bench.verdict.own_address_count, 1);
    assert_str(bench.verdict.own_addresses[0], "alias@example.org");
    assert_int_equal(fake.asked[BY_SMTP], 1);
    /* another password or user never meets it, and a no is not kept */
    log_in(&bench, "ann", "wrong");
    expect(&bench, FLOW_REJECT, NO_REPLY, "");
    log_in(&bench, "ann", "wrong");
    log_in(&bench, "bob", "right");
    assert_int_equal(fake.asked[BY_SMTP], 4);
    /* never stale */
    bench_wait(&bench, 61);
    fake.right_password = NULL;
    fake.login[BY_SMTP] = DIRECTORY_LOGIN_ERROR;
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_DEFER, LATER_REPLY, "");
    /* forgotten on reload */
    fake.right_password = "right";
    log_in(&bench, "ann", "right");
    state_cache_drop_prefix(bench.state, STR("auth:"));
    fake.right_password = "changed";
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_REJECT, NO_REPLY, "");
    bench_close(&bench);
}

static void test_login_limit(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_AUTHENTICATION, "[ limit: { failures: 3/15m }, smtp: mail ]");
    fake.login[BY_SMTP] = DIRECTORY_NO;
    for (int i = 0; i < 3; i++) {
        log_in(&bench, "ann", "wrong");
        expect(&bench, FLOW_REJECT, NO_REPLY, "");
    }
    /* over: not even the right password is asked for */
    fake.login[BY_SMTP] = DIRECTORY_YES;
    log_in(&bench, "Ann", "right");
    expect(&bench, FLOW_DEFER, LATER_REPLY, "1-limit");
    assert_int_equal(bench.verdict.reason, MAIL_REASON_RATE_LIMIT);
    assert_int_equal(fake.asked[BY_SMTP], 3);
    /* another login of the same network, the same login of another network */
    log_in(&bench, "bob", "right");
    expect(&bench, FLOW_ACCEPT, "", "2-smtp");
    check(net_ip_parse(STR("198.51.100.7"), &bench.facts.client));
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_ACCEPT, "", "2-smtp");
    /* and it ends */
    check(net_ip_parse(STR("192.0.2.7"), &bench.facts.client));
    bench_wait(&bench, 16 * 60);
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_ACCEPT, "", "2-smtp");
    bench_close(&bench);
}

static void test_login_limit_of_network(void **unused)
{
    (void)unused;
    struct bench bench;
    char login[16];
    bench_open(&bench, FLOW_AUTHENTICATION,
               "[ limit: { failures: 3/15m, client_failures: 5/15m }, smtp: mail ]");
    fake.login[BY_SMTP] = DIRECTORY_UNKNOWN;
    for (int i = 0; i < 5; i++) {
        snprintf(login, sizeof login, "user%d", i);
        log_in(&bench, login, "guess");
        expect(&bench, FLOW_REJECT, NO_REPLY, "");
    }
    log_in(&bench, "ann", "right");
    expect(&bench, FLOW_DEFER, LATER_REPLY, "1-limit");
    bench_close(&bench);
}

static void test_errors_are_no_failures(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_AUTHENTICATION,
               "[ limit: { failures: 2/15m }, smtp: mail, file: /etc/hostname ]");
    fake.login[BY_SMTP] = DIRECTORY_LOGIN_ERROR;
    fake.login[BY_FILE] = DIRECTORY_UNKNOWN;
    for (int i = 0; i < 5; i++) {
        log_in(&bench, "ann", "right");
        expect(&bench, FLOW_DEFER, LATER_REPLY, "");
    }
    /* but a no counts, whatever the other directory says */
    fake.login[BY_FILE] = DIRECTORY_NO;
    log_in(&bench, "ann", "wrong");
    log_in(&bench, "ann", "wrong");
    log_in(&bench, "ann", "wrong");
    expect(&bench, FLOW_DEFER, LATER_REPLY, "1-limit");
    bench_close(&bench);
}

/* ---- recipients ---- */

struct recipient_case {
    const char *steps;
    enum directory_lookup answer;
    const char *words; /* of the server */
    enum flow_verdict_kind kind;
    const char *reply;
    const char *step;
    enum mail_reason reason;
};

static const struct recipient_case recipients[] = {
    {"[ accept ]", 0, NULL, FLOW_ACCEPT, "", "1-accept", 0},
    {"[ reject ]", 0, NULL, FLOW_REJECT, "550 5.7.1 Recipient not accepted", "1-reject",
     MAIL_REASON_POLICY},
    {"[ reject: \"554 5.7.1 Relay access denied\" ]", 0, NULL, FLOW_REJECT,
     "554 5.7.1 Relay access denied", "1-reject", MAIL_REASON_RELAY_DENIED},
    {"[ reject: { reply: \"550 5.7.1 Spam\", reason: spam } ]", 0, NULL, FLOW_REJECT,
     "550 5.7.1 Spam", "1-reject", MAIL_REASON_SPAM},
    {"[ reject: \"550 Go away\" ]", 0, NULL, FLOW_REJECT, "550 5.7.1 Go away", "1-reject",
     MAIL_REASON_POLICY},
    {"[ defer ]", 0, NULL, FLOW_DEFER, "451 4.7.1 Try again later", "1-defer", MAIL_REASON_POLICY},
    {"{ preset: relay-authenticated }", 0, NULL, FLOW_REJECT, "554 5.7.1 Relay access denied",
     "2-reject", MAIL_REASON_RELAY_DENIED},
    /* the end of the flow */
    {"[ accept: { when: authenticated } ]", 0, NULL, FLOW_REJECT,
     "550 5.7.1 Recipient not accepted", "", MAIL_REASON_POLICY},
    {"[ accept: { observe: true } ]", 0, NULL, FLOW_REJECT, "550 5.7.1 Recipient not accepted", "",
     MAIL_REASON_POLICY},
    /* lookups */
    {"[ lookup-smtp: mail ]", DIRECTORY_FOUND, NULL, FLOW_ACCEPT, "", "1-lookup-smtp", 0},
    {"[ lookup-smtp: mail ]", DIRECTORY_MISSING, NULL, FLOW_REJECT,
     "550 5.1.1 Recipient address unknown", "1-lookup-smtp", MAIL_REASON_RECIPIENT_UNKNOWN},
    {"[ lookup-smtp: mail ]", DIRECTORY_MISSING, "551 5.1.6 User has moved", FLOW_REJECT,
     "551 5.1.6 User has moved", "1-lookup-smtp", MAIL_REASON_RECIPIENT_UNKNOWN},
    {"[ lookup-smtp: mail ]", DIRECTORY_MISSING, "550 Nobody here", FLOW_REJECT,
     "550 5.1.1 Nobody here", "1-lookup-smtp", MAIL_REASON_RECIPIENT_UNKNOWN},
    {"[ lookup-smtp: mail ]", DIRECTORY_DENIED, "554 5.7.1 Relay access denied", FLOW_DEFER,
     "451 4.7.1 Recipient cannot be verified now", "1-lookup-smtp",
     MAIL_REASON_RECIPIENT_UNVERIFIED},
    {"[ lookup-smtp: mail ]", DIRECTORY_ERROR, NULL, FLOW_DEFER,
     "451 4.4.3 Recipient cannot be verified now", "1-lookup-smtp", MAIL_REASON_BACKEND_DOWN},
    {"[ lookup-smtp: { server: mail, missing: defer } ]", DIRECTORY_MISSING, "550 5.1.1 Nobody",
     FLOW_DEFER, "451 4.1.1 Nobody", "1-lookup-smtp", MAIL_REASON_RECIPIENT_UNKNOWN},
    {"[ lookup-smtp: { server: mail, missing: { reject: \"550 5.1.1 No\" } } ]", DIRECTORY_MISSING,
     "550 5.1.1 Nobody", FLOW_REJECT, "550 5.1.1 No", "1-lookup-smtp",
     MAIL_REASON_RECIPIENT_UNKNOWN},
    {"[ lookup-smtp: { server: mail, error: accept } ]", DIRECTORY_ERROR, NULL, FLOW_ACCEPT, "",
     "1-lookup-smtp", 0},
    {"[ lookup-smtp: { server: mail, error: reject } ]", DIRECTORY_ERROR, NULL, FLOW_REJECT,
     "550 5.4.3 Recipient cannot be verified now", "1-lookup-smtp", MAIL_REASON_BACKEND_DOWN},
    {"[ lookup-file: { path: /etc/hostname, missing: next }, reject: \"550 5.1.1 Neither\" ]",
     DIRECTORY_MISSING, NULL, FLOW_REJECT, "550 5.1.1 Neither", "2-reject", MAIL_REASON_POLICY},
    {"[ lookup-ldap: { server: directory, found: [ defer: { when: authenticated }, accept: { id: "
     "last } ] } ]",
     DIRECTORY_FOUND, NULL, FLOW_ACCEPT, "", "last", 0},
    {"[ match: { when: 'sender.domain == \"example.net\"', matched: { reject: \"550 5.7.1 Bad\" } "
     "}, accept ]",
     0, NULL, FLOW_REJECT, "550 5.7.1 Bad", "1-match", MAIL_REASON_POLICY},
};

static void test_recipients(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof recipients / sizeof *recipients; i++) {
        const struct recipient_case *c = &recipients[i];
        struct bench bench;
        bench_open(&bench, FLOW_RECIPIENT, c->steps);
        fake.lookup[BY_SMTP] = fake.lookup[BY_FILE] = fake.lookup[BY_LDAP] = c->answer;
        if (c->words)
            check(mail_reply_parse(str_c(c->words), &fake.reply));
        look_up(&bench);
        expect(&bench, c->kind, c->reply, c->step);
        if (c->kind != FLOW_ACCEPT)
            assert_int_equal(bench.verdict.reason, c->reason);
        bench_close(&bench);
    }
}

static void test_costly_pattern_defers(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ reject: { when: 'helo ~ \"^(a+)+$\"' }, accept ]");
    bench.facts.helo = STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab");
    look_up(&bench);
    expect(&bench, FLOW_DEFER, "451 4.3.0 Try again later", "1-reject");
    bench_close(&bench);
}

static void test_lookup_cache(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: mail ]");
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    assert_int_equal(fake.asked[BY_SMTP], 1);
    bench_wait(&bench, 14 * 60);
    look_up(&bench);
    assert_int_equal(fake.asked[BY_SMTP], 1);
    bench_wait(&bench, 2 * 60);
    look_up(&bench);
    assert_int_equal(fake.asked[BY_SMTP], 2);
    bench_close(&bench);
}

static void test_missing_is_kept_shortly(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: mail ]");
    fake.lookup[BY_SMTP] = DIRECTORY_MISSING;
    check(mail_reply_parse(STR("550 5.1.1 Nobody here"), &fake.reply));
    look_up(&bench);
    look_up(&bench);
    expect(&bench, FLOW_REJECT, "550 5.1.1 Nobody here", "1-lookup-smtp");
    assert_int_equal(fake.asked[BY_SMTP], 1);
    bench_wait(&bench, 61);
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    bench_close(&bench);
}

static void test_stale(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: mail ]");
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    /* an outage: believed for seven days, and asked again after a minute */
    fake.lookup[BY_SMTP] = DIRECTORY_ERROR;
    bench_wait(&bench, 3600);
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    assert_int_equal(fake.asked[BY_SMTP], 2);
    look_up(&bench);
    assert_int_equal(fake.asked[BY_SMTP], 2);
    bench_wait(&bench, 61);
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    assert_int_equal(fake.asked[BY_SMTP], 3);
    /* a denial is not an outage */
    bench_wait(&bench, 61);
    fake.lookup[BY_SMTP] = DIRECTORY_DENIED;
    look_up(&bench);
    expect(&bench, FLOW_DEFER, "451 4.7.1 Recipient cannot be verified now", "1-lookup-smtp");
    /* the outage goes on, and the seven days count from the last real answer */
    fake.lookup[BY_SMTP] = DIRECTORY_ERROR;
    bench_wait(&bench, 6 * 86400);
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    bench_wait(&bench, 86400);
    look_up(&bench);
    expect(&bench, FLOW_DEFER, "451 4.4.3 Recipient cannot be verified now", "1-lookup-smtp");
    bench_close(&bench);
}

static void test_missing_ends_stale(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: { server: mail, cache_missing: 0s } ]");
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    bench_wait(&bench, 3600);
    fake.lookup[BY_SMTP] = DIRECTORY_MISSING;
    look_up(&bench);
    expect(&bench, FLOW_REJECT, "550 5.1.1 Recipient address unknown", "1-lookup-smtp");
    bench_wait(&bench, 3600);
    fake.lookup[BY_SMTP] = DIRECTORY_ERROR;
    look_up(&bench);
    expect(&bench, FLOW_DEFER, "451 4.4.3 Recipient cannot be verified now", "1-lookup-smtp");
    bench_close(&bench);
}

static void test_errors_are_not_kept(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: mail ]");
    fake.lookup[BY_SMTP] = DIRECTORY_ERROR;
    look_up(&bench);
    fake.lookup[BY_SMTP] = DIRECTORY_DENIED;
    look_up(&bench);
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "1-lookup-smtp");
    assert_int_equal(fake.asked[BY_SMTP], 3);
    bench_close(&bench);
}

static void test_recipient_limit(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench, FLOW_RECIPIENT, "[ limit: { by: sender, recipients: 2/1h }, accept ]");
    look_up(&bench);
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "2-accept");
    look_up(&bench);
    expect(&bench, FLOW_DEFER, "450 4.7.1 Too much in too short a time, try again later",
           "1-limit");
    assert_int_equal(bench.verdict.reason, MAIL_REASON_RATE_LIMIT);
    bench.facts.sender = STR("other@example.net");
    look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "2-accept");
    bench.facts.sender = STR_EMPTY; /* bounces have no common account */
    for (int i = 0; i < 5; i++)
        look_up(&bench);
    expect(&bench, FLOW_ACCEPT, "", "2-accept");
    bench_close(&bench);
}

/* ---- sessions that end while they ask ---- */

struct visitor {
    struct bench *bench;
    struct flow_verdict verdict;
};

static MAY_YIELD void visit(void *arg)
{
    struct visitor *visitor = arg;
    flow_run_recipient(visitor->bench->flow, &visitor->bench->run, &visitor->verdict);
}

static MAY_YIELD void three_visitors(void *arg)
{
    struct bench *bench = arg;
    struct visitor visitors[3] = {{bench, {0}}, {bench, {0}}, {bench, {0}}};
    struct scope first;
    struct scope others;
    struct error err;
    scope_open(&others, TIME_NEVER);
    scope_open(&first, TIME_NEVER);
    check(fiber_spawn(&first, "first", visit, &visitors[0], &err) == OK);
    for (int i = 0; i < 5; i++)
        fiber_yield();
    check(fiber_spawn(&others, "second", visit, &visitors[1], &err) == OK);
    check(fiber_spawn(&others, "third", visit, &visitors[2], &err) == OK);
    for (int i = 0; i < 5; i++)
        fiber_yield();
    check(fake.asked[BY_SMTP] == 1);
    scope_cancel(&first);
    scope_close(&first);
    scope_close(&others);
    assert_int_equal(visitors[0].verdict.kind, FLOW_DEFER);
    assert_int_equal(visitors[1].verdict.kind, FLOW_ACCEPT);
    assert_int_equal(visitors[2].verdict.kind, FLOW_ACCEPT);
    assert_int_equal(fake.asked[BY_SMTP], 2);
}

/* The client who asked first hangs up: those who waited for its answer ask once more, and are not
 * told that the directory is away. */
static void test_cancelled_question_is_asked_again(void **unused)
{
    (void)unused;
    struct bench bench;
    struct test_loop test;
    bench_open(&bench, FLOW_RECIPIENT, "[ lookup-smtp: mail ]");
    fake.lookup[BY_SMTP] = DIRECTORY_FOUND;
    fake.slow = true;
    test_loop_open(&test, NULL);
    state_free(bench.state);
    bench.state = state_new(&test.loop, 1, 1000);
    bench.run.state = bench.state;
    test_loop_spawn(&test, three_visitors, &bench);
    test_loop_run(&test);
    test_loop_close(&test);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logins),
        cmocka_unit_test(test_empty_password_never_asks),
        cmocka_unit_test(test_login_cache),
        cmocka_unit_test(test_login_limit),
        cmocka_unit_test(test_login_limit_of_network),
        cmocka_unit_test(test_errors_are_no_failures),
        cmocka_unit_test(test_recipients),
        cmocka_unit_test(test_costly_pattern_defers),
        cmocka_unit_test(test_lookup_cache),
        cmocka_unit_test(test_missing_is_kept_shortly),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_missing_ends_stale),
        cmocka_unit_test(test_errors_are_not_kept),
        cmocka_unit_test(test_recipient_limit),
        cmocka_unit_test(test_cancelled_question_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
