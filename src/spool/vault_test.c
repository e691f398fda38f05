/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed bodies and texts: what comes back, and what does not. */
#include "spool/vault.h"

#include "base/memory.h"
#include "spool/test_tools.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATH = TEST_PATH_SIZE + 32 };

struct bench {
    struct test_fixture *fixture;
    struct spool_vault *vault;
    char path[PATH];
};

static struct spool_vault *open_vault(const char *path, const char *extra)
{
    struct spool_vault *vault = NULL;
    struct error err = {0};
    assert_int_equal(spool_vault_open(str_c(path), str_c(extra), &vault, &err), OK);
    return vault;
}

static struct bench bench_of(void **state)
{
    struct bench bench = {.fixture = *state};
    struct error err = {0};
    snprintf(bench.path, sizeof bench.path, "%s/keys", bench.fixture->path);
    bench.vault = open_vault(bench.path, "");
    assert_int_equal(spool_vault_prepare(bench.vault, &err), OK);
    return bench;
}

static NO_YIELD_CHECK struct str all_of(struct body *body, char *out, size_t size)
{
    size_t done = 0;
    struct error err = {0};
    struct str data;
    do {
        static char space[70000];
        assert_int_equal(body_read(body, done, sizeof space, space, &data, &err), OK);
        assert_true(done + data.len <= size);
        memcpy(out + done, data.ptr, data.len);
        done += data.len;
    } while (data.len);
    return str_of(out, done);
}

/* ---- bodies ---- */

static NO_YIELD_CHECK void expect_round_trip(const struct bench *bench, const char *head,
                                             uint64_t size)
{
    struct error err = {0};
    struct body *plain = test_body(size, 7), *sealed = NULL, *back = NULL, *copy = NULL;
    struct mail_content content = {.head = str_c(head), .body = plain, .body_start = size / 3};
    uint64_t whole = mail_content_size(&content);
    char *bytes = memory_alloc(whole + 100000), *hidden = memory_alloc(2 * whole + 100000);
    assert_int_equal(
        spool_vault_seal(bench->vault, bench->fixture->spool, test_id(1), &content, &sealed, &err),
        OK);
    assert_int_equal(spool_vault_plain_size(sealed->size), whole);
    assert_int_equal(spool_vault_unseal(bench->vault, test_id(1), sealed, &back, &err), OK);
    assert_int_equal(back->size, whole);
    assert_true(spool_vault_is_unsealed(back) && !spool_vault_is_unsealed(sealed));
    struct str got = all_of(back, bytes, whole + 100000);
    assert_int_equal(got.len, whole);
    assert_true(str_starts(got, str_c(head)));
    for (uint64_t i = strlen(head); i < whole; i++)
        assert_int_equal(got.ptr[i], test_body_byte(size / 3 + i - strlen(head), 7));
    struct str secret = all_of(sealed, hidden, 2 * whole + 100000);
    if (strlen(head))
        assert_int_equal(str_find_str(secret, str_c(head)), -1);
    assert_int_equal(spool_vault_copy(bench->fixture->spool, back, &copy, &err), OK);
    assert_int_equal(copy->size, whole);
    assert_false(spool_vault_is_unsealed(copy));
    body_unref(copy);
    body_unref(back);
    body_unref(sealed);
    body_unref(plain);
    free(bytes);
    free(hidden);
}

static NO_YIELD_CHECK void round_trips(void *arg)
{
    static const uint64_t sizes[] = {0,     1,     16383,  16384,  16385,
                                     32768, 65536, 262144, 300000, 1000000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        expect_round_trip(arg, "", sizes[i]);
        expect_round_trip(arg, "Subject: a secret that nobody else may read\r\n", sizes[i]);
    }
}

static void test_bodies(void **state)
{
    struct bench bench = bench_of(state);
    test_on_fiber(round_trips, &bench);
    spool_vault_close(bench.vault);
}

/* A sealed body of the spool with one byte changed, or cut. */
static NO_YIELD_CHECK struct body *spoiled(const struct bench *bench, struct body *sealed,
                                           uint64_t at, uint64_t size)
{
    struct error err = {0};
    struct body *out = NULL;
    char *bytes = memory_alloc(sealed->size + 1);
    (void)all_of(sealed, bytes, sealed->size + 1);
    if (at < sealed->size)
        bytes[at] ^= 1;
    assert_int_equal(spool_body_new(bench->fixture->spool, &out, &err), OK);
    assert_int_equal(body_append(out, str_of(bytes, size), &err), OK);
    assert_int_equal(body_seal(out, &err), OK);
    free(bytes);
    return out;
}

static NO_YIELD_CHECK void spoil(void *arg)
{
    const struct bench *bench = arg;
    struct error err = {0};
    struct body *plain = test_body(40000, 3), *sealed = NULL, *back = NULL;
    struct mail_content content = {.head = STR_EMPTY, .body = plain};
    assert_int_equal(
        spool_vault_seal(bench->vault, bench->fixture->spool, test_id(1), &content, &sealed, &err),
        OK);
    const struct {
        const char *name;
        uint64_t at, size;
    } cases[] = {
        {"magic", 0, sealed->size},
        {"key", 8, sealed->size},
        {"salt", 20, sealed->size},
        {"size", 33, sealed->size},
        {"first piece", 41, sealed->size},
        {"last byte", sealed->size - 1, sealed->size},
        {"a piece less", UINT64_MAX, sealed->size - 16400},
        {"a byte less", UINT64_MAX, sealed->size - 1},
        {"header only", UINT64_MAX, 40},
        {"empty", UINT64_MAX, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct body *bad = spoiled(bench, sealed, cases[i].at, cases[i].size);
        err = (struct error){0};
        if (spool_vault_unseal(bench->vault, test_id(1), bad, &back, &err) == OK)
            fail_msg("%s: it opens", cases[i].name);
        assert_int_equal(err.kind, ERROR_TEMPORARY); /* mail is never given up for it */
        body_unref(bad);
    }
    /* as another message's */
    assert_int_equal(spool_vault_unseal(bench->vault, test_id(2), sealed, &back, &err), FAILED);
    body_unref(sealed);
    body_unref(plain);
}

static void test_spoiled(void **state)
{
    struct bench bench = bench_of(state);
    test_on_fiber(spoil, &bench);
    spool_vault_close(bench.vault);
}

/* ---- texts and keys ---- */

static void test_texts(void **state)
{
    struct bench bench = bench_of(state);
    struct arena *arena = arena_new(0);
    struct error err = {0};
    struct str sealed, again, text;
    struct str words = STR("Cheap pills\nmallory@example.net");
    assert_int_equal(spool_vault_seal_text(bench.vault, test_id(1), words, arena, &sealed, &err),
                     OK);
    assert_int_equal(spool_vault_seal_text(bench.vault, test_id(1), words, arena, &again, &err),
                     OK);
    assert_false(str_equal(sealed, again));
    assert_int_equal(str_find_str(sealed, STR("pills")), -1);
    assert_int_equal(spool_vault_key_of(sealed), spool_vault_current(bench.vault));
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(1), sealed, arena, &text, &err),
                     OK);
    assert_true(str_equal(text, words));
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(2), sealed, arena, &text, &err),
                     FAILED);
    assert_int_equal(
        spool_vault_open_text(bench.vault, test_id(1), STR("short"), arena, &text, &err), FAILED);
    ((char *)(uintptr_t)sealed.ptr)[sealed.len - 1] ^= 1;
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(1), sealed, arena, &text, &err),
                     FAILED);
    arena_free(arena);
    spool_vault_close(bench.vault);
}

static void test_keys(void **state)
{
    struct bench bench = bench_of(state);
    struct arena *arena = arena_new(0);
    struct error err = {0};
    struct str old_text, text;
    struct stat seen;
    uint64_t old = spool_vault_current(bench.vault), fresh = 0;
    assert_int_equal(stat(bench.path, &seen), 0);
    assert_int_equal(seen.st_mode & 0777, 0600);
    assert_int_equal(
        spool_vault_seal_text(bench.vault, test_id(1), STR("one"), arena, &old_text, &err), OK);
    assert_int_equal(spool_vault_add_key(bench.vault, &fresh, &err), OK);
    assert_true(fresh != old && spool_vault_current(bench.vault) == fresh);
    spool_vault_close(bench.vault);

    bench.vault = open_vault(bench.path, "");
    assert_int_equal(spool_vault_prepare(bench.vault, &err), OK); /* there are some */
    assert_true(spool_vault_current(bench.vault) == fresh && spool_vault_has(bench.vault, old));
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(1), old_text, arena, &text, &err),
                     OK);
    spool_vault_close(bench.vault);

    /* from a credential: it is for what is new, and the file's still open what was before */
    char extra[PATH];
    snprintf(extra, sizeof extra, "%s/extra", bench.fixture->path);
    struct spool_vault *other = open_vault(extra, "");
    assert_int_equal(spool_vault_prepare(other, &err), OK);
    uint64_t given = spool_vault_current(other);
    spool_vault_close(other);
    bench.vault = open_vault(bench.path, extra);
    assert_true(spool_vault_current(bench.vault) == given);
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(1), old_text, arena, &text, &err),
                     OK);
    assert_int_equal(spool_vault_add_key(bench.vault, &fresh, &err), FAILED);
    spool_vault_close(bench.vault);

    /* lost */
    assert_int_equal(unlink(bench.path), 0);
    bench.vault = open_vault(bench.path, "");
    assert_int_equal(spool_vault_current(bench.vault), 0);
    assert_int_equal(spool_vault_open_text(bench.vault, test_id(1), old_text, arena, &text, &err),
                     FAILED);
    assert_non_null(strstr(err.text, "which is not in"));
    assert_int_equal(spool_vault_seal_text(bench.vault, test_id(1), STR("x"), arena, &text, &err),
                     FAILED);
    spool_vault_close(bench.vault);
    arena_free(arena);
}

static void test_files_that_are_none(void **state)
{
    static const char *const texts[] = {
        "hello\n",
        "0123456789abcdef 00\n",
        "0000000000000000 0000000000000000000000000000000000000000000000000000000000000000\n",
        "0123456789ABCDEF 0000000000000000000000000000000000000000000000000000000000000000\n",
    };
    struct test_fixture *fixture = *state;
    char path[PATH];
    snprintf(path, sizeof path, "%s/bad", fixture->path);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct spool_vault *vault = NULL;
        struct error err = {0};
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, texts[i], strlen(texts[i])), (ssize_t)strlen(texts[i]));
        close(fd);
        assert_int_equal(spool_vault_open(str_c(path), STR_EMPTY, &vault, &err), FAILED);
        assert_null(strstr(err.text, "0123456789")); /* no part of a key in a message */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bodies, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_spoiled, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_texts, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_keys, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(test_files_that_are_none, test_set_up, test_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
