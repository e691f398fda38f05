/* SPDX-License-Identifier: Apache-2.0 */
/* `postern spool verify`: of a spool at rest, and beside one that runs. */
#include "base/test.h"
#include "spool/test_tools.h"

#include "base/buf.h"
#include "base/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void test_verify(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown);
    body_unref(grown.body);
    for (int damaged = 0; damaged < 2; damaged++) {
        struct buf out BUF_CLEANUP;
        buf_init(&out, 1 << 20);
        size_t problems = 0;
        struct error err = {0};
        assert_int_equal(
            spool_verify(str_c(fixture->path), /* verbose= */ true, &out, &problems, &err), OK);
        assert_int_equal(problems, damaged ? 2 : 0);
        assert_true(str_find_str(buf_str(&out), STR("2 entries")) >= 0);
        char command[TEST_PATH_SIZE * 2];
        snprintf(command, sizeof command, "truncate -s 500000 %s/bodies/*.body", fixture->path);
        assert_int_equal(system(command), 0);
    }
}

/* A running spool delivers a message between its log and its body being read. */
static void test_verify_beside_a_running_one(void **state)
{
    struct test_fixture *fixture = *state;
    struct test_grown grown = {.fixture = fixture, .size = 600000};
    test_on_fiber(test_grow_body, &grown);
    test_on_fiber(test_commit_grown, &grown); /* two entries, one body */
    body_unref(grown.body);
    static const struct {
        unsigned first, count; /* looks at a body that find none */
        size_t problems;
        const char *text;
    } cases[] = {
        {1, 1, 0, "0 problems"},       {1, 2, 0, "0 problems"},
        {2, 2, 0, "0 problems"}, /* each walk another one */
        {1, 3, 1, "\nproblem: entry"}, {1, 100, 2, "2 problems"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out BUF_CLEANUP;
        buf_init(&out, 1 << 20);
        size_t problems = 77;
        struct error err = {0};
        fault_arm("spool.verify", cases[i].first, cases[i].count, ENOENT);
        assert_int_equal(
            spool_verify(str_c(fixture->path), /* verbose= */ true, &out, &problems, &err), OK);
        fault_disarm_all();
        if (problems != cases[i].problems || str_find_str(buf_str(&out), str_c(cases[i].text)) < 0)
            fail_msg("case %zu: %zu problems, %.*s", i, problems, STR_ARG(buf_str(&out)));
        assert_true(str_find_str(buf_str(&out), STR("2 entries")) >= 0);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, test_set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_verify),
        CASE(test_verify_beside_a_running_one),
    };
    return cmocka_run_group_tests_name("spool-verify", tests, NULL, NULL);
}
