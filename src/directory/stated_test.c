/* SPDX-License-Identifier: Apache-2.0 */
/* directory/stated_test.c - what a stated directory answers. */
#include "directory/stated.h"

#include "base/test.h"

static const struct str recipients[] = {STR("anna@example.org"), STR("@all.example")};
static const struct directory_stated_login logins[] = {{STR("anna"), STR("right"), NULL, 0}};
static const struct directory_stated_source sources[] = {
    {.name = STR("mail"),
     .recipients = recipients,
     .recipient_count = 2,
     .logins = logins,
     .login_count = 1},
    {.name = STR("down"), .state = DIRECTORY_STATED_DOWN, .logins = logins, .login_count = 1},
    {.name = STR("closed"), .state = DIRECTORY_STATED_DENIES},
    {.name = STR("users"), .is_file = true, .logins = logins, .login_count = 1},
};
static const struct directory_stated stated = {sources, sizeof sources / sizeof *sources};

static void test_lookups(void **unused)
{
    static const struct {
        const char *source, *address;
        enum directory_lookup want;
    } cases[] = {
        {"mail", "anna@example.org", DIRECTORY_FOUND},
        {"mail", "ANNA@example.org", DIRECTORY_FOUND},
        {"mail", "bob@example.org", DIRECTORY_MISSING},
        {"mail", "anyone@all.example", DIRECTORY_FOUND},
        {"mail", "anyone@notall.example", DIRECTORY_MISSING},
        {"mail", "no-domain", DIRECTORY_MISSING},
        {"down", "anna@example.org", DIRECTORY_ERROR},
        {"closed", "anna@example.org", DIRECTORY_DENIED},
        {"unheard", "anna@example.org", DIRECTORY_ERROR},
    };
    (void)unused;
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct directory_answer answer;
        directory_stated_lookup(&stated, str_c(cases[i].source), false, str_c(cases[i].address),
                                arena, &answer);
        if (answer.lookup != cases[i].want)
            fail_msg("%s of %s: %d", cases[i].address, cases[i].source, (int)answer.lookup);
    }
    arena_free(arena);
}

static void test_logins(void **unused)
{
    static const struct {
        const char *source;
        bool is_file;
        const char *login, *password;
        enum directory_login want;
    } cases[] = {
        {"mail", false, "anna", "right", DIRECTORY_YES},
        {"mail", false, "anna", "wrong", DIRECTORY_NO},
        {"mail", false, "bob", "right", DIRECTORY_UNKNOWN},
        {"down", false, "anna", "right", DIRECTORY_LOGIN_ERROR},
        {"closed", false, "anna", "right", DIRECTORY_LOGIN_ERROR},
        {"users", false, "anna", "right", DIRECTORY_LOGIN_ERROR}, /* a file, not a server */
        {"/etc/postern/users", true, "anna", "right", DIRECTORY_YES},
        {"/etc/postern/more-users", true, "anna", "right", DIRECTORY_LOGIN_ERROR},
    };
    (void)unused;
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct directory_answer answer;
        directory_stated_login(&stated, str_c(cases[i].source), cases[i].is_file,
                               str_c(cases[i].login), str_c(cases[i].password), arena, &answer);
        if (answer.login != cases[i].want)
            fail_msg("%s of %s: %d", cases[i].login, cases[i].source, (int)answer.login);
    }
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),
        cmocka_unit_test(test_logins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
