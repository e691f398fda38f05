/* SPDX-License-Identifier: Apache-2.0 */
/* flow/srs_test.c - senders there and back, once and twice forwarded, and what others make of them.
 */
#include "flow/srs.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct str both[] = {{"a new secret of ours", 20}, {"the old secret of ours", 22}};
static const struct srs_secrets ours = {both, 2};
static const struct srs_secrets old = {both + 1, 1};
static const struct str other[] = {{"somebody else's secret", 22}};
static const struct srs_secrets theirs = {other, 1};

enum { DAY = 20000, VALID = 21 };

static struct str forward(struct arena *arena, const struct srs_secrets *secrets, struct str sender,
                          const char *domain)
{
    struct str out = STR_EMPTY;
    assert_int_equal(srs_forward(secrets, sender, str_c(domain), DAY, arena, &out), SRS_DONE);
    return out;
}

static void test_there_and_back(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    struct str out, first, second, third;
    first = forward(arena, &ours, STR("Ann.Lee+x@example.com"), "f.example");
    assert_true(str_starts(first, STR("SRS0=")));
    assert_true(str_ends(first, STR("=example.com=Ann.Lee+x@f.example")));
    assert_int_equal(srs_reverse(&ours, first, DAY + 5, VALID, arena, &out), SRS_DONE);
    assert_str(out, "Ann.Lee+x@example.com");
    /* a second forwarder, and a third that does not wrap deeper */
    second = forward(arena, &theirs, first, "g.example");
    assert_true(str_starts(second, STR("SRS1=")));
    assert_int_equal(srs_reverse(&theirs, second, DAY, VALID, arena, &out), SRS_DONE);
    assert_str(out, arena_c(arena, first));
    third = forward(arena, &ours, second, "h.example");
    assert_int_equal(srs_reverse(&ours, third, DAY, VALID, arena, &out), SRS_DONE);
    assert_str(out, arena_c(arena, first));
    arena_free(arena);
}

static void test_what_is_refused(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    struct str out;
    struct str made = forward(arena, &ours, STR("ann@example.com"), "f.example");
    struct str by_old = forward(arena, &old, STR("ann@example.com"), "f.example");
    struct str loud = arena_lower(arena, made);
    char changed[200];
    assert_int_equal(srs_reverse(&ours, loud, DAY, VALID, arena, &out), SRS_DONE);
    assert_int_equal(srs_reverse(&ours, by_old, DAY, VALID, arena, &out), SRS_DONE);
    assert_int_equal(srs_reverse(&theirs, made, DAY, VALID, arena, &out), SRS_BAD);
    assert_int_equal(srs_reverse(&ours, made, DAY + VALID, VALID, arena, &out), SRS_DONE);
    assert_int_equal(srs_reverse(&ours, made, DAY + VALID + 1, VALID, arena, &out), SRS_EXPIRED);
    assert_int_equal(srs_reverse(&ours, made, DAY - 1, VALID, arena, &out), SRS_DONE);
    assert_int_equal(srs_reverse(&ours, made, DAY - 2, VALID, arena, &out), SRS_EXPIRED);
    /* each byte of it counts, but for the domain behind the @ and what only splits */
    ptrdiff_t at = str_find(made, '@');
    for (ptrdiff_t i = 5; i < at; i++) {
        memcpy(changed, made.ptr, made.len);
        changed[i] = changed[i] == 'x' ? 'y' : 'x';
        assert_int_equal(srs_reverse(&ours, str_of(changed, made.len), DAY, VALID, arena, &out),
                         SRS_BAD);
    }
    static const char *const bad[] = {"SRS0=@f.example",       "SRS0=a=b=c@f.example",
                                      "SRS0====@f.example",    "SRS1=a=b@f.example",
                                      "SRS1=a=b==c@f.example", "SRS0=a@f.example"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(srs_reverse(&ours, str_c(bad[i]), DAY, VALID, arena, &out), SRS_DONE);
    assert_int_equal(srs_reverse(&ours, STR("ann@f.example"), DAY, VALID, arena, &out), SRS_NONE);
    assert_int_equal(srs_reverse(&ours, STR("SRS0x@f.example"), DAY, VALID, arena, &out), SRS_NONE);
    arena_free(arena);
}

static void test_nothing_to_do(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(0);
    struct str out;
    char local[80];
    memset(local, 'a', 60);
    snprintf(local + 60, 20, "@example.com");
    assert_int_equal(srs_forward(&ours, STR_EMPTY, STR("f.example"), DAY, arena, &out), SRS_NONE);
    assert_int_equal(srs_forward(&ours, str_c(local), STR("f.example"), DAY, arena, &out),
                     SRS_TOO_LONG);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_nothing_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
