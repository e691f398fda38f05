/* SPDX-License-Identifier: Apache-2.0 */
/* base/file_test.c - files around the ceiling, and what is no file. */
#include "base/file.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    size_t size, ceiling;
    enum result result;
} cases[] = {
    {"empty", 0, 10, OK},
    {"below the ceiling", 9, 10, OK},
    {"at it", 10, 10, OK},
    {"above it", 11, 10, FAILED},
    {"several pieces", 200 * 1000, 300 * 1000, OK},
    {"a piece exactly", 65536, 65536, OK},
    {"one byte more than pieces", 131073, 131072, FAILED},
};

static void test_sizes(void **state)
{
    (void)state;
    char path[] = "/tmp/postern-file-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out BUF_CLEANUP;
        struct error err;
        buf_init(&out, cases[i].ceiling);
        assert_int_equal(ftruncate(fd, (off_t)cases[i].size), 0);
        if (file_read_path(path, &out, &err) != cases[i].result)
            fail_msg("%s", cases[i].name);
        if (cases[i].result == OK)
            assert_int_equal(out.len, cases[i].size);
        else
            assert_int_equal(err.kind, ERROR_LIMIT);
    }
    close(fd);
    unlink(path);
}

static void test_no_file(void **state)
{
    (void)state;
    struct buf out BUF_CLEANUP;
    struct error err;
    buf_init(&out, 100);
    assert_int_equal(file_read_path("/no/such/file", &out, &err), FAILED);
    assert_string_equal(err.text, "No such file or directory");
    assert_int_equal(file_read_path("/tmp", &out, &err), FAILED);
    char path[] = "/tmp/postern-file-XXXXXX";
    assert_non_null(mkdtemp(path));
    char fifo[64];
    snprintf(fifo, sizeof fifo, "%s/fifo", path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_read_path(fifo, &out, &err), OK); /* nobody writes: its end */
    assert_int_equal(out.len, 0);
    unlink(fifo);
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
