/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/command_test.c - command lines, paths, parameters, chunk sizes, addresses of MAIL and RCPT.
 */
#include "smtp/address.h"
#include "smtp/command.h"
#include "smtp/parameter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void assert_str(struct str got, const char *expected, const char *what)
{
    if (!str_equal(got, str_c(expected)))
        fail_msg("%s: got \"%.*s\", expected \"%s\"", what, STR_ARG(got), expected);
}

static void verbs(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        enum smtp_verb verb;
        const char *arguments;
    } cases[] = {
        {"EHLO mx.example.org", SMTP_VERB_EHLO, "mx.example.org"},
        {"ehlo  x \t", SMTP_VERB_EHLO, "x"},
        {"MAIL FROM:<>", SMTP_VERB_MAIL, "FROM:<>"},
        {"rcpt\tTO:<a@b>", SMTP_VERB_RCPT, "TO:<a@b>"},
        {"DATA", SMTP_VERB_DATA, ""},
        {"DATA ", SMTP_VERB_DATA, ""},
        {"DATAX", SMTP_VERB_UNKNOWN, ""},
        {" DATA", SMTP_VERB_UNKNOWN, "DATA"},
        {"", SMTP_VERB_UNKNOWN, ""},
        {"STARTTLS", SMTP_VERB_STARTTLS, ""},
        {"auth plain =", SMTP_VERB_AUTH, "plain ="},
        {"BDAT 5 LAST", SMTP_VERB_BDAT, "5 LAST"},
        {"XCLIENT ADDR=1.2.3.4", SMTP_VERB_XCLIENT, "ADDR=1.2.3.4"},
        {"GET / HTTP/1.1", SMTP_VERB_HTTP, "/ HTTP/1.1"},
        {"post /x HTTP/1.0", SMTP_VERB_HTTP, "/x HTTP/1.0"},
        {"PRI * HTTP/2.0", SMTP_VERB_HTTP, "* HTTP/2.0"},
        {"Host: mail", SMTP_VERB_HTTP, "mail"},
        {"HOST:mail", SMTP_VERB_HTTP, ""},
        {"LHLO x", SMTP_VERB_UNKNOWN, "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smtp_command command = smtp_command_parse(str_c(cases[i].line));
        if (command.verb != cases[i].verb)
            fail_msg("\"%s\" is verb %d", cases[i].line, command.verb);
        assert_str(command.arguments, cases[i].arguments, cases[i].line);
    }
    assert_str(smtp_verb_name(SMTP_VERB_STARTTLS), "STARTTLS", "name");
    assert_str(smtp_verb_name(SMTP_VERB_HTTP), "?", "name");
}

static void paths(void **state)
{
    (void)state;
    static const struct {
        const char *arguments;
        const char *path; /* NULL: refused */
        const char *parameters;
    } cases[] = {
        {"FROM:<a@b>", "a@b", ""},
        {"from:<a@b> SIZE=1", "a@b", "SIZE=1"},
        {"FROM: <a@b>  SIZE=1 BODY=7BIT ", "a@b", "SIZE=1 BODY=7BIT"},
        {"FROM :<a@b>", "a@b", ""},
        {"FROM:<>", "", ""},
        {"FROM:<\"a>b\"@c>", "\"a>b\"@c", ""},
        {"FROM:<\"a\\\">b\"@c> X", "\"a\\\">b\"@c", "X"},
        {"FROM:<a@b>SIZE=1", NULL, NULL},
        {"FROM:a@b", NULL, NULL},
        {"FROM:<a@b", NULL, NULL},
        {"FROM:<\"a>", NULL, NULL},
        {"FROM:<\"a\\", NULL, NULL},
        {"FROM", NULL, NULL},
        {"FROM:", NULL, NULL},
        {"", NULL, NULL},
        {"TO:<a@b>", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct str path;
        struct str parameters;
        bool got = smtp_command_path(str_c(cases[i].arguments), STR("FROM"), &path, &parameters);
        if (got != (cases[i].path != NULL))
            fail_msg("\"%s\": %d", cases[i].arguments, got);
        if (got) {
            assert_str(path, cases[i].path, cases[i].arguments);
            assert_str(parameters, cases[i].parameters, cases[i].arguments);
        }
    }
}

static void chunks(void **state)
{
    (void)state;
    static const struct {
        const char *arguments;
        bool fine;
        uint64_t size;
        bool last;
    } cases[] = {
        {"0 LAST", true, 0, true},
        {"86 last", true, 86, true},
        {"86", true, 86, false},
        {"9223372036854775807", true, INT64_MAX, false},
        {"9223372036854775808", false, 0, false},
        {"18446744073709551617", false, 0, false},
        {"99999999999999999999999999", false, 0, false},
        {"-1", false, 0, false},
        {"+1", false, 0, false},
        {"0x10", false, 0, false},
        {"1 LASTX", false, 0, false},
        {"1LAST", false, 0, false},
        {"LAST", false, 0, false},
        {"1 2", false, 0, false},
        {"", false, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t size = 77;
        bool last = false;
        bool fine = smtp_command_chunk(str_c(cases[i].arguments), &size, &last);
        if (fine != cases[i].fine || (fine && (size != cases[i].size || last != cases[i].last)))
            fail_msg("BDAT %s", cases[i].arguments);
    }
}

static void mail_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *parameters;
        unsigned code; /* 0: fine */
        struct mail_sender sender;
        const char *envid;
    } cases[] = {
        {"", 0, {.size = 0}, ""},
        {"SIZE=1000", 0, {.size = 1000}, ""},
        {"size=99999999999999999999", 0, {.size = UINT64_MAX}, ""},
        {"SIZE=-1", 501, {.size = 0}, NULL},
        {"SIZE", 501, {.size = 0}, NULL},
        {"SIZE=", 501, {.size = 0}, NULL},
        {"SIZE=1 SIZE=1", 501, {.size = 0}, NULL},
        {"BODY=8bitmime", 0, {.body = MAIL_BODY_8BITMIME}, ""},
        {"BODY=7BIT", 0, {.body = MAIL_BODY_7BIT}, ""},
        {"BODY=BINARYMIME", 555, {.size = 0}, NULL},
        {"BODY=9BIT", 501, {.size = 0}, NULL},
        {"SMTPUTF8", 0, {.smtputf8 = true}, ""},
        {"SMTPUTF8=1", 501, {.size = 0}, NULL},
        {"RET=FULL", 0, {.ret = MAIL_RET_FULL}, ""},
        {"RET=hdrs ENVID=QQ314159", 0, {.ret = MAIL_RET_HDRS}, "QQ314159"},
        {"RET=SOME", 501, {.size = 0}, NULL},
        {"ENVID=a+2Bb+20c", 0, {.size = 0}, "a+b c"},
        {"ENVID=a+0D+0Ab", 501, {.size = 0}, NULL},
        {"ENVID=a+00", 501, {.size = 0}, NULL},
        {"ENVID=a+2", 501, {.size = 0}, NULL},
        {"ENVID=a+2b", 501, {.size = 0}, NULL},
        {"ENVID=a=b", 501, {.size = 0}, NULL},
        {"AUTH=<>", 0, {.size = 0}, ""},
        {"AUTH=e+3Dmc2@example.org", 0, {.size = 0}, ""},
        {"AUTH=+", 501, {.size = 0}, NULL},
        {"REQUIRETLS", 555, {.size = 0}, NULL},
        {"MT-PRIORITY=3", 555, {.size = 0}, NULL},
        {"=x", 501, {.size = 0}, NULL},
        {"SIZE=1 =", 501, {.size = 0}, NULL},
        {"-SIZE=1", 501, {.size = 0}, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *arena = arena_new(0);
        struct mail_sender sender = {.envid = STR_EMPTY, .address = STR_EMPTY};
        struct mail_reply fault = {.code = 0};
        bool fine = smtp_parameter_mail(str_c(cases[i].parameters), arena, &sender, &fault);
        if (fine != (cases[i].code == 0) || (!fine && fault.code != cases[i].code))
            fail_msg("\"%s\": %d %u", cases[i].parameters, fine, fault.code);
        if (fine) {
            assert_int_equal(sender.size, cases[i].sender.size);
            assert_int_equal(sender.body, cases[i].sender.body);
            assert_int_equal(sender.smtputf8, cases[i].sender.smtputf8);
            assert_int_equal(sender.ret, cases[i].sender.ret);
            assert_str(sender.envid, cases[i].envid, cases[i].parameters);
        }
        arena_free(arena);
    }
}

static void recipient_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *parameters;
        bool smtputf8;
        unsigned code;
        unsigned notify;
        const char *orcpt;
    } cases[] = {
        {"", false, 0, 0, ""},
        {"NOTIFY=NEVER", false, 0, MAIL_NOTIFY_NEVER, ""},
        {"notify=success,FAILURE,delay", false, 0,
         MAIL_NOTIFY_SUCCESS | MAIL_NOTIFY_FAILURE | MAIL_NOTIFY_DELAY, ""},
        {"NOTIFY=NEVER,DELAY", false, 501, 0, NULL},
        {"NOTIFY=", false, 501, 0, NULL},
        {"NOTIFY=DELAY,", false, 501, 0, NULL},
        {"NOTIFY=,DELAY", false, 501, 0, NULL},
        {"NOTIFY=ALWAYS", false, 501, 0, NULL},
        {"NOTIFY=DELAY NOTIFY=DELAY", false, 501, 0, NULL},
        {"ORCPT=rfc822;a@b", false, 0, 0, "rfc822;a@b"},
        {"ORCPT=rfc822;a+2Bx@b", false, 0, 0, "rfc822;a+x@b"},
        {"ORCPT=a@b", false, 501, 0, NULL},
        {"ORCPT=;a@b", false, 501, 0, NULL},
        {"ORCPT=rfc822;", false, 501, 0, NULL},
        {"ORCPT=rfc822;a+0A@b", false, 501, 0, NULL},
        {"ORCPT=utf-8;\xc3\xa4@b", true, 0, 0, "utf-8;\xc3\xa4@b"},
        {"ORCPT=utf-8;\xc3\xa4@b", false, 501, 0, NULL},
        {"ORCPT=rfc822;\xc3\xa4@b", true, 501, 0, NULL},
        {"ORCPT=utf-8;\xc3@b", true, 501, 0, NULL},
        {"ORCPT=utf-8;\xe0\x80\x80@b", true, 501, 0, NULL},
        {"ORCPT=utf-8;\xf4\x90\x80\x80@b", true, 501, 0, NULL},
        {"ORCPT=utf-8;b\x80", true, 501, 0, NULL},
        {"SIZE=1", false, 555, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *arena = arena_new(0);
        struct mail_recipient recipient = {.orcpt = STR_EMPTY};
        struct mail_reply fault = {.code = 0};
        bool fine = smtp_parameter_recipient(str_c(cases[i].parameters), cases[i].smtputf8, arena,
                                             &recipient, &fault);
        if (fine != (cases[i].code == 0) || (!fine && fault.code != cases[i].code))
            fail_msg("\"%s\": %d %u", cases[i].parameters, fine, fault.code);
        if (fine) {
            assert_int_equal(recipient.notify, cases[i].notify);
            assert_str(recipient.orcpt, cases[i].orcpt, cases[i].parameters);
        }
        arena_free(arena);
    }
}

static void long_parameters(void **state)
{
    (void)state;
    char text[600];
    struct arena *arena = arena_new(0);
    struct mail_sender sender = {.envid = STR_EMPTY};
    struct mail_recipient recipient = {.orcpt = STR_EMPTY};
    struct mail_reply fault;
    snprintf(text, sizeof text, "ENVID=%0100d", 1);
    assert_true(smtp_parameter_mail(str_c(text), arena, &sender, &fault));
    snprintf(text, sizeof text, "ENVID=%0101d", 1);
    assert_false(smtp_parameter_mail(str_c(text), arena, &sender, &fault));
    snprintf(text, sizeof text, "ORCPT=rfc822;%0493d", 1);
    assert_true(smtp_parameter_recipient(str_c(text), false, arena, &recipient, &fault));
    snprintf(text, sizeof text, "ORCPT=rfc822;%0494d", 1);
    recipient.orcpt = STR_EMPTY;
    assert_false(smtp_parameter_recipient(str_c(text), false, arena, &recipient, &fault));
    arena_free(arena);
}

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        bool recipient, smtputf8, routed;
        const char *answer; /* "address" or "code subject.detail" */
    } cases[] = {
        {"a@Example.ORG", true, false, false, "a@example.org"},
        {"a@example.org.", true, false, false, "501 1.3"},
        {"a@example.org.", false, false, false, "501 1.7"},
        {"a@", true, false, false, "501 1.3"},
        {"a@-x-.org", true, false, false, "501 1.3"},
        {"a b@example.org", true, false, false, "501 1.3"},
        {"@one.example,@two.example:a@example.org", true, false, false, "a@example.org"},
        {"a%other.example@example.org", true, false, false, "550 1.3"},
        {"other.example!a@example.org", true, false, false, "550 1.3"},
        {"a@other.example@example.org", true, false, false, "550 1.3"},
        {"\"a@other.example\"@example.org", true, false, false, "550 1.3"},
        {"a%other.example@example.org", true, false, true, "a%other.example@example.org"},
        {"a%other.example@example.org", false, false, false, "a%other.example@example.org"},
        {"postmaster", true, false, false, "postmaster"},
        {"PostMaster", true, false, false, "PostMaster"},
        {"a", true, false, false, "501 1.3"},
        {"postmaster", false, false, false, "501 1.7"},
        {"postmaster@[192.0.2.1]", true, false, false, "postmaster@[192.0.2.1]"},
        {"Postmaster@[IPv6:2001:db8::1]", true, false, false, "Postmaster@[IPv6:2001:db8::1]"},
        {"postmaster@[192.0.2.2]", true, false, false, "550 1.2"},
        {"a@[192.0.2.1]", true, false, false, "550 1.2"},
        {"a@[192.0.2.1]", false, false, false, "550 1.8"},
        {"a@[x]", true, false, false, "501 1.3"},
        {"\xc3\xa4@example.org", true, true, false, "\xc3\xa4@example.org"},
        {"\xc3\xa4@example.org", true, false, false, "553 6.7"},
        {"\xc3\xa4@example.org", false, false, false, "553 6.7"},
        {"\xc3@example.org", true, true, false, "501 1.3"},
        {"\xc3@example.org", true, false, false, "501 1.3"},
    };
    struct net_ip own[2];
    assert_true(net_ip_parse(STR("192.0.2.1"), &own[0]));
    assert_true(net_ip_parse(STR("2001:db8::1"), &own[1]));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct arena *arena = arena_new(0);
        struct smtp_address_rules rules = {.smtputf8 = cases[i].smtputf8,
                                           .allow_routed = cases[i].routed,
                                           .own = {&own[0], &own[1]}};
        struct mail_address address;
        struct mail_reply fault = {.code = 0};
        struct str path = str_c(cases[i].path);
        bool fine = cases[i].recipient
                        ? smtp_address_recipient(arena, path, &rules, &address, &fault)
                        : smtp_address_sender(arena, path, rules.smtputf8, &address, &fault);
        struct str answer =
            fine ? mail_address_text(arena, &address)
                 : arena_printf(arena, "%u %u.%u", fault.code, (unsigned)fault.enhanced.subject,
                                (unsigned)fault.enhanced.detail);
        assert_str(answer, cases[i].answer, cases[i].path);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbs),
        cmocka_unit_test(paths),
        cmocka_unit_test(chunks),
        cmocka_unit_test(mail_parameters),
        cmocka_unit_test(recipient_parameters),
        cmocka_unit_test(long_parameters),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
