/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "directory/addresses.h"
#include "directory/watched_file.h"

static void finds_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        bool found;
    } cases[] = {
        {"anna@example.org", true},
        {"ANNA@Example.ORG", true},
        {"bert@example.org", false},
        {"anna@sub.example.org", false},
        {"anybody@example.net", true},
        {"anybody@sub.example.net", false},
        {"sales-7@example.com", true},
        {"SALES-7@example.com", true},
        {"sales-x@example.com", false},
        {"anna@xn--mnchen-3ya.example", true},
        {"anna@[192.0.2.1]", true},
        {"anna", false},
        {"@example.net", true}, /* no address has an empty local part */
        {"", false},
    };
    struct watched_table *table =
        addresses_parse(STR("test"), STR("# comment\nAnna@example.org\r\n\n @Example.NET \n"
                                         "/^sales-[0-9]+@example\\.com$/\n"
                                         "anna@m\303\274nchen.example\nanna@[192.0.2.1]\n"
                                         "/(broken/\nno-address\nx@bad..domain\n//\n/"));
    atomic_store(&table->references, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err;
        bool found = !cases[i].found;
        assert_int_equal(addresses_have(table, str_c(cases[i].address), &found, &err), OK);
        if (found != cases[i].found)
            fail_msg("%s", cases[i].address);
    }
    watched_table_unref(table);
}

static void a_slow_expression_is_an_error(void **state)
{
    (void)state;
    struct watched_table *table = addresses_parse(STR("test"), STR("/^(a+)+$/\n"));
    atomic_store(&table->references, 1);
    struct error err;
    bool found;
    assert_int_equal(
        addresses_have(table, STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@example.org"), &found, &err),
        FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    watched_table_unref(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_addresses),
        cmocka_unit_test(a_slow_expression_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
