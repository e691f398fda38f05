/* SPDX-License-Identifier: Apache-2.0 */
/* base/file_test.c - files around the ceiling, and what is no file. */
#include "base/file.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static void expect(const char *path, struct str text)
{
    struct buf out BUF_CLEANUP;
    struct error err;
    buf_init(&out, 1 << 20);
    assert_int_equal(file_read_path(path, &out, &err), OK);
    assert_true(str_equal(buf_str(&out), text));
}

static void test_replace(void **state)
{
    (void)state;
    char folder[] = "/tmp/postern-file-XXXXXX", path[64], draft[64], other[64];
    struct error err;
    struct stat seen;
    static char large[300 * 1000];
    memset(large, 'x', sizeof large);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    snprintf(draft, sizeof draft, "%s/file.new", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    assert_int_equal(file_replace(path, 0600, STR("first"), &err), OK);
    expect(path, STR("first"));
    assert_int_equal(stat(path, &seen), 0);
    assert_int_equal(seen.st_mode & 07777, 0600);
    assert_int_equal(file_replace(path, 0600, str_of(large, sizeof large), &err), OK);
    expect(path, str_of(large, sizeof large));
    assert_int_equal(file_replace(path, 0600, STR("less"), &err), OK);
    expect(path, STR("less"));
    assert_int_equal(access(draft, F_OK), -1);
    /* one that stands ready to send the text elsewhere */
    assert_int_equal(file_replace(other, 0600, STR("other"), &err), OK);
    assert_int_equal(symlink(other, draft), 0);
    assert_int_equal(file_replace(path, 0600, STR("never"), &err), FAILED);
    assert_non_null(strstr(err.text, draft));
    expect(path, STR("less"));
    expect(other, STR("other"));
    snprintf(draft, sizeof draft, "%s/no/file", folder);
    assert_int_equal(file_replace(draft, 0600, STR("never"), &err), FAILED);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_file),
        cmocka_unit_test(test_replace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
