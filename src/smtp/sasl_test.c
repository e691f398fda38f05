/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/sasl_test.c - exchanges of PLAIN and LOGIN, line by line. */
#include "smtp/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "crypto/base64.h"

/* Lines of a client; the first is the initial response, "-" none. */
static const struct {
    const char *name;
    enum smtp_sasl_mechanism mechanism;
    const char *lines[4];
    enum smtp_sasl_step last;
    const char *authzid, *login, *password;
} exchange_cases[] = {
    {"at once", SMTP_SASL_PLAIN, {"AGFsaWNlAHNlY3JldA=="}, SMTP_SASL_DONE, "", "alice", "secret"},
    {"asked",
     SMTP_SASL_PLAIN,
     {"-", "YWxpY2UAYWxpY2UAc2VjcmV0"},
     SMTP_SASL_DONE,
     "alice",
     "alice",
     "secret"},
    {"no password", SMTP_SASL_PLAIN, {"AGFsaWNlAA=="}, SMTP_SASL_DONE, "", "alice", ""},
    {"two NULs in the password", SMTP_SASL_PLAIN, {"AGEAYgBj"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"one NUL", SMTP_SASL_PLAIN, {"AGFsaWNl"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"nothing", SMTP_SASL_PLAIN, {"="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"a blank", SMTP_SASL_PLAIN, {"AGFsaWNl AHNlY3JldA=="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"short padding", SMTP_SASL_PLAIN, {"AGFsaWNlAHNlY3JldA="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"no padding", SMTP_SASL_PLAIN, {"AGFsaWNlAHNlY3JldA"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"padding inside", SMTP_SASL_PLAIN, {"AGFs=WNlAHNlY3JldA=="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"junk behind", SMTP_SASL_PLAIN, {"AGFsaWNlAHNlY3JldA==x"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"other alphabet", SMTP_SASL_PLAIN, {"AGFsaWNlAHNlY3J-dA=="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"cancelled", SMTP_SASL_PLAIN, {"-", "*"}, SMTP_SASL_CANCELLED, 0, 0, 0},
    {"asked, and an equals sign", SMTP_SASL_PLAIN, {"-", "="}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"login",
     SMTP_SASL_LOGIN,
     {"-", "YWxpY2U=", "c2VjcmV0"},
     SMTP_SASL_DONE,
     "",
     "alice",
     "secret"},
    {"login with name",
     SMTP_SASL_LOGIN,
     {"YWxpY2U=", "c2VjcmV0"},
     SMTP_SASL_DONE,
     "",
     "alice",
     "secret"},
    {"login without password", SMTP_SASL_LOGIN, {"YWxpY2U=", ""}, SMTP_SASL_DONE, "", "alice", ""},
    {"login without name", SMTP_SASL_LOGIN, {"=", "c2VjcmV0"}, SMTP_SASL_DONE, "", "", "secret"},
    {"login, cancelled at the password",
     SMTP_SASL_LOGIN,
     {"-", "YWxpY2U=", "*"},
     SMTP_SASL_CANCELLED,
     0,
     0,
     0},
    {"login, NUL in name", SMTP_SASL_LOGIN, {"YQBi"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"login, NUL in password", SMTP_SASL_LOGIN, {"YWxpY2U=", "YQBi"}, SMTP_SASL_MALFORMED, 0, 0, 0},
    {"login, not base64", SMTP_SASL_LOGIN, {"-", "alice"}, SMTP_SASL_MALFORMED, 0, 0, 0},
};

static void exchanges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof exchange_cases / sizeof exchange_cases[0]; i++) {
        struct smtp_sasl sasl;
        struct str challenge;
        enum smtp_sasl_step step = SMTP_SASL_CHALLENGE;
        smtp_sasl_init(&sasl, exchange_cases[i].mechanism, 1024);
        for (size_t k = 0; exchange_cases[i].lines[k]; k++) {
            if (step != SMTP_SASL_CHALLENGE)
                fail_msg("%s: over before line %zu", exchange_cases[i].name, k);
            struct str line = str_c(exchange_cases[i].lines[k]);
            if (str_equal(line, STR("-")))
                line = (struct str){NULL, 0};
            step = smtp_sasl_feed(&sasl, line, &challenge);
        }
        if (step != exchange_cases[i].last)
            fail_msg("%s: ended with %d", exchange_cases[i].name, step);
        if (step == SMTP_SASL_DONE &&
            (!str_equal(sasl.authzid, str_c(exchange_cases[i].authzid)) ||
             !str_equal(sasl.login, str_c(exchange_cases[i].login)) ||
             !str_equal(sasl.password, str_c(exchange_cases[i].password))))
            fail_msg("%s: wrong texts", exchange_cases[i].name);
        smtp_sasl_wipe(&sasl);
        assert_null(sasl.secrets.ptr);
    }
}

static void challenges(void **state)
{
    (void)state;
    struct smtp_sasl sasl;
    struct str challenge;
    struct str none = {NULL, 0};
    smtp_sasl_init(&sasl, SMTP_SASL_PLAIN, 100);
    assert_int_equal(smtp_sasl_feed(&sasl, none, &challenge), SMTP_SASL_CHALLENGE);
    assert_int_equal(challenge.len, 0);
    smtp_sasl_wipe(&sasl);
    static const char *const words[] = {"Username:", "Password:"};
    smtp_sasl_init(&sasl, SMTP_SASL_LOGIN, 100);
    for (int i = 0; i < 2; i++) {
        struct buf text;
        buf_init(&text, 100);
        assert_int_equal(smtp_sasl_feed(&sasl, i ? STR("YQ==") : none, &challenge),
                         SMTP_SASL_CHALLENGE);
        assert_true(base64_decode(challenge, &text));
        assert_true(str_equal(buf_str(&text), str_c(words[i])));
        buf_done(&text);
    }
    smtp_sasl_wipe(&sasl);
}

/* What does not fit is refused, and nothing grows: a buffer that moves leaves secrets behind. */
static void bounds(void **state)
{
    (void)state;
    char line[2001];
    memset(line, 'A', 2000);
    line[2000] = 0;
    struct smtp_sasl sasl;
    struct str challenge;
    smtp_sasl_init(&sasl, SMTP_SASL_LOGIN, 1000);
    const char *place = sasl.secrets.ptr;
    assert_non_null(place);
    memset(line, 'Y', 2000); /* no NUL in it when decoded */
    assert_int_equal(smtp_sasl_feed(&sasl, str_of(line, 1000), &challenge), SMTP_SASL_CHALLENGE);
    assert_int_equal(smtp_sasl_feed(&sasl, str_of(line, 1000), &challenge), SMTP_SASL_DONE);
    assert_ptr_equal(sasl.secrets.ptr, place);
    assert_int_equal(sasl.login.len, 750);
    assert_int_equal(sasl.password.len, 750);
    smtp_sasl_wipe(&sasl);
    smtp_sasl_init(&sasl, SMTP_SASL_PLAIN, 100);
    assert_int_equal(smtp_sasl_feed(&sasl, str_of(line, 2000), &challenge), SMTP_SASL_MALFORMED);
    smtp_sasl_wipe(&sasl);
}

static void names(void **state)
{
    (void)state;
    assert_int_equal(smtp_sasl_find(STR("plain")), SMTP_SASL_PLAIN);
    assert_int_equal(smtp_sasl_find(STR("Login")), SMTP_SASL_LOGIN);
    assert_int_equal(smtp_sasl_find(STR("PLAINX")), SMTP_SASL_NONE);
    assert_int_equal(smtp_sasl_find(STR("")), SMTP_SASL_NONE);
    assert_true(str_equal(smtp_sasl_name(SMTP_SASL_PLAIN), STR("PLAIN")));
    assert_true(str_equal(smtp_sasl_name(SMTP_SASL_LOGIN), STR("LOGIN")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges),
        cmocka_unit_test(challenges),
        cmocka_unit_test(bounds),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
