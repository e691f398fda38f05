/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/diff.h"

#include "base/buf.h"
#include "base/test.h"

static const struct diff_sides sides = {{"r1", 2}, {"r2", 2}};

static void test_lines(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *want;
    } cases[] = {
        {"a\nb\n", "a\nb\n", ""},
        {"a\nb\nc\n", "a\nx\nc\n", "--- f\tr1\n+++ f\tr2\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
        {"", "a\n", "--- f\tr1\n+++ f\tr2\n@@ -0,0 +1,1 @@\n+a\n"},
        {"a\n", "", "--- f\tr1\n+++ f\tr2\n@@ -1,1 +0,0 @@\n-a\n"},
        {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n",
         "--- f\tr1\n+++ f\tr2\n@@ -7,3 +7,4 @@\n 7\n 8\n 9\n+10\n"},
        {"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\nx\n",
         "--- f\tr1\n+++ f\tr2\n@@ -1,4 +1,3 @@\n-0\n 1\n 2\n 3\n@@ -7,4 +6,4 @@\n 6\n 7\n "
         "8\n-9\n+x\n"},
        {"a\nb\nc\nd\n", "b\nc\na\nd\n",
         "--- f\tr1\n+++ f\tr2\n@@ -1,4 +1,4 @@\n-a\n b\n c\n+a\n d\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out BUF_CLEANUP;
        buf_init(&out, 65536);
        diff_text(STR("f"), str_c(cases[i].from), str_c(cases[i].to), sides, &out);
        assert_str(buf_str(&out), cases[i].want);
    }
}

static void test_files(void **state)
{
    (void)state;
    struct config_text before[] = {{.name = STR("/etc/p.yaml"), .text = STR("a\n")},
                                   {.name = STR("/etc/conf.d/gone.yaml"), .text = STR("g\n")},
                                   {.name = STR("/etc/conf.d/same.yaml"), .text = STR("s\n")}};
    struct config_text after[] = {{.name = STR("/home/q.yaml"), .text = STR("b\n")},
                                  {.name = STR("/home/conf.d/new.yaml"), .text = STR("n\n")},
                                  {.name = STR("/home/conf.d/same.yaml"), .text = STR("s\n")}};
    struct config_texts from = {before, 3};
    struct config_texts to = {after, 3};
    struct buf out BUF_CLEANUP;
    buf_init(&out, 65536);
    diff_texts(&from, &to, sides, &out);
    assert_str(
        buf_str(&out),
        "--- /home/q.yaml\tr1\n+++ /home/q.yaml\tr2\n@@ -1,1 +1,1 @@\n-a\n+b\n"
        "--- /home/conf.d/new.yaml\tr1\n+++ /home/conf.d/new.yaml\tr2\n@@ -0,0 +1,1 @@\n+n\n"
        "--- /etc/conf.d/gone.yaml\tr1\n+++ /etc/conf.d/gone.yaml\tr2\n@@ -1,1 +0,0 @@\n-g\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
