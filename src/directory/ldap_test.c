/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written into filters and DN, and what result codes mean; the conversation itself is
 * tested against a real server (tests/).
 */
#include "base/test.h"

#include "directory/ldap.h"
#include "directory/ldap_template.h"

#include <ldap.h>

static void escapes_hostile_values(void **state)
{
    (void)state;
    static const struct {
        struct str value;
        const char *in_filter, *in_dn;
    } cases[] = {
        {{"anna", 4}, "anna", "anna"},
        {{"anna.b-c_d@example.org", 22}, "anna.b-c_d@example.org", "anna.b-c_d@example.org"},
        {{"*", 1}, "\\2A", "\\2A"},
        {{"*)(uid=*", 8}, "\\2A\\29\\28uid\\3D\\2A", "\\2A\\29\\28uid\\3D\\2A"},
        {{"a)(|(b=c", 8}, "a\\29\\28\\7C\\28b\\3Dc", "a\\29\\28\\7C\\28b\\3Dc"},
        {{"a\\", 2}, "a\\5C", "a\\5C"},
        {{"a\0b", 3}, "a\\00b", "a\\00b"},
        {{"a,ou=admins", 11}, "a\\2Cou\\3Dadmins", "a\\2Cou\\3Dadmins"},
        {{"a+b;c<d>\"#", 10}, "a\\2Bb\\3Bc\\3Cd\\3E\\22\\23", "a\\2Bb\\3Bc\\3Cd\\3E\\22\\23"},
        {{" a b ", 5}, " a b ", "\\20a b\\20"},
        {{" ", 1}, " ", "\\20"},
        {{"#a", 2}, "\\23a", "\\23a"},
        {{"j\303\274", 3}, "j\\C3\\BC", "j\\C3\\BC"},
        {{"\377\r\n", 3}, "\\FF\\0D\\0A", "\\FF\\0D\\0A"},
        {{"{user}", 6}, "\\7Buser\\7D", "\\7Buser\\7D"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf filter BUF_CLEANUP;
        struct buf dn BUF_CLEANUP;
        buf_init(&filter, 1000);
        buf_init(&dn, 1000);
        ldap_escape(LDAP_IN_FILTER, cases[i].value, &filter);
        ldap_escape(LDAP_IN_DN, cases[i].value, &dn);
        assert_str(buf_str(&filter), cases[i].in_filter);
        assert_str(buf_str(&dn), cases[i].in_dn);
    }
}

static void fills_patterns(void **state)
{
    (void)state;
    static const struct {
        enum ldap_place place;
        const char *pattern;
        const char *expected; /* NULL: refused */
    } cases[] = {
        {LDAP_IN_FILTER, "(uid={user})", "(uid=an\\2Ana)"},
        {LDAP_IN_FILTER, "(|(mail={address})(alias={local}))",
         "(|(mail=anna@example.org)(alias=anna))"},
        {LDAP_IN_DN, "uid={user},dc={domain}", "uid=an\\2Ana,dc=example.org"},
        {LDAP_IN_FILTER, "(objectClass=*)", "(objectClass=*)"},
        {LDAP_IN_FILTER, "", ""},
        {LDAP_IN_FILTER, "(uid={users})", NULL},
        {LDAP_IN_FILTER, "(uid={user", NULL},
        {LDAP_IN_FILTER, "(uid={})", NULL},
    };
    const struct ldap_values values = {
        .user = STR("an*na"),
        .address = STR("anna@example.org"),
        .local = STR("anna"),
        .domain = STR("example.org"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out BUF_CLEANUP;
        struct error err;
        buf_init(&out, 1000);
        enum result result =
            ldap_expand(cases[i].place, str_c(cases[i].pattern), &values, &out, &err);
        if ((result == OK) != (cases[i].expected != NULL))
            fail_msg("%s", cases[i].pattern);
        if (result == OK)
            assert_str(buf_str(&out), cases[i].expected);
    }
}

static void has_a_ceiling(void **state)
{
    (void)state;
    const struct ldap_values values = {.user = STR("*********")};
    struct buf out BUF_CLEANUP;
    struct error err;
    buf_init(&out, 10);
    assert_int_equal(ldap_expand(LDAP_IN_FILTER, STR("{user}"), &values, &out, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
}

static void judges_binds(void **state)
{
    (void)state;
    static const struct {
        int code;
        bool direct;
        enum directory_login login;
    } cases[] = {
        {LDAP_SUCCESS, true, DIRECTORY_YES},
        {LDAP_SUCCESS, false, DIRECTORY_YES},
        {LDAP_INVALID_CREDENTIALS, true, DIRECTORY_NO},
        {LDAP_INVALID_CREDENTIALS, false, DIRECTORY_NO},
        {LDAP_NO_SUCH_OBJECT, true, DIRECTORY_UNKNOWN},
        {LDAP_NO_SUCH_OBJECT, false, DIRECTORY_LOGIN_ERROR},
        {LDAP_INVALID_DN_SYNTAX, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_UNWILLING_TO_PERFORM, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_INSUFFICIENT_ACCESS, false, DIRECTORY_LOGIN_ERROR},
        {LDAP_BUSY, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_UNAVAILABLE, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_CONFIDENTIALITY_REQUIRED, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_REFERRAL, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_SERVER_DOWN, true, DIRECTORY_LOGIN_ERROR},
        {LDAP_TIMEOUT, true, DIRECTORY_LOGIN_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (ldap_judge_user_bind(cases[i].code, cases[i].direct) != cases[i].login)
            fail_msg("code %d", cases[i].code);
    }
}

static void judges_searches(void **state)
{
    (void)state;
    static const struct {
        int code, entries;
        enum directory_login login;
        enum directory_lookup lookup;
    } cases[] = {
        {LDAP_SUCCESS, 0, DIRECTORY_UNKNOWN, DIRECTORY_MISSING},
        {LDAP_SUCCESS, 1, DIRECTORY_YES, DIRECTORY_FOUND},
        {LDAP_SUCCESS, 2, DIRECTORY_LOGIN_ERROR, DIRECTORY_FOUND},
        {LDAP_SUCCESS, -1, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
        {LDAP_SIZELIMIT_EXCEEDED, 2, DIRECTORY_LOGIN_ERROR, DIRECTORY_FOUND},
        {LDAP_SIZELIMIT_EXCEEDED, 1, DIRECTORY_LOGIN_ERROR, DIRECTORY_FOUND},
        {LDAP_NO_SUCH_OBJECT, 0, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
        {LDAP_INSUFFICIENT_ACCESS, 0, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
        {LDAP_TIMELIMIT_EXCEEDED, 1, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
        {LDAP_SERVER_DOWN, 0, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
        {LDAP_OPERATIONS_ERROR, 0, DIRECTORY_LOGIN_ERROR, DIRECTORY_ERROR},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (ldap_judge_login_search(cases[i].code, cases[i].entries) != cases[i].login ||
            ldap_judge_lookup_search(cases[i].code, cases[i].entries) != cases[i].lookup)
            fail_msg("code %d, %d entries", cases[i].code, cases[i].entries);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escapes_hostile_values), cmocka_unit_test(fills_patterns),
        cmocka_unit_test(has_a_ceiling),          cmocka_unit_test(judges_binds),
        cmocka_unit_test(judges_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
