/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "crypto/base64.h"
#include "crypto/password.h"

static void base64(void **state)
{
    (void)state;
    static const struct {
        const char *text, *data; /* NULL: refused */
    } cases[] = {
        {"", ""},       {"YQ==", "a"},  {"YWI=", "ab"},   {"YWJj", "abc"},    {"AGEAYg==", NULL},
        {"YQ=", NULL},  {"YQ", NULL},   {"YQ==\n", NULL}, {" YQ==", NULL},    {"Y===", NULL},
        {"YW=j", NULL}, {"=YWJ", NULL}, {"Y Q=", NULL},   {"YWJj====", NULL}, {"YW-_", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out;
        buf_init(&out, 64);
        bool decoded = base64_decode(str_c(cases[i].text), &out);
        if (i == 4) { /* holds NULs: compare by length */
            assert_true(decoded);
            assert_int_equal(out.len, 4);
        } else if (decoded != (cases[i].data != NULL) ||
                   (decoded && !str_equal(buf_str(&out), str_c(cases[i].data)))) {
            fail_msg("\"%s\"", cases[i].text);
        }
        struct buf again;
        buf_init(&again, 64);
        base64_encode(buf_str(&out), &again);
        if (decoded)
            assert_true(str_equal(buf_str(&again), str_c(cases[i].text)));
        buf_done(&out);
        buf_done(&again);
    }
    struct buf small;
    buf_init(&small, 2);
    assert_false(base64_decode(STR("YWJj"), &small));
    buf_done(&small);
}

static void passwords(void **state)
{
    (void)state;
    struct error err;
    char hash[PASSWORD_HASH_SIZE];
    bool fits = false;
    assert_int_equal(password_hash(STR("correct horse"), hash, &err), OK);
    assert_int_equal(password_verify(STR("correct horse"), str_c(hash), &fits, &err), OK);
    assert_true(fits);
    assert_int_equal(password_verify(STR("correct hors"), str_c(hash), &fits, &err), OK);
    assert_false(fits);
    assert_int_equal(password_verify(STR("x"), STR("!"), &fits, &err), FAILED);
    assert_int_equal(password_verify(STR("x"), STR(""), &fits, &err), FAILED);
    assert_int_equal(password_hash(str_of("a\0b", 3), hash, &err), FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(base64), cmocka_unit_test(passwords)};
    return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
