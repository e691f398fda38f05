/* SPDX-License-Identifier: Apache-2.0 */
/* flow/pattern_set_test.c - many patterns answer as one after the other does, and cost less. */
#include "flow/pattern_set.h"

#include "base/buf.h"
#include "base/test.h"
#include "flow/pattern.h"
#include "flow/prefilter.h"

#include <stdio.h>

/* What Hyperscan can and cannot do exactly, and what only PCRE2 knows. */
static const char *const forms[] = {
    "(?i)lottery",
    "^Subject: .*win",
    "\\bviagra\\b",
    "(a)(b)\\2\\1",
    "x(?=yz)",
    "(?<!un)paid",
    "free[!1]{2,}",
    "(?i)c[i1]al[i1]s",
    "end$",
    "^$",
    "\\x80\\xff",
    "(?s)begin.*finish",
    "(?:ab|cd){3}",
    "q(?>u+)v",
    "(?x) s p a c e",
    "(?m)^second line",
    "\\d{3}-\\d{4}",
    "[^\\x00-\\x7f]{4}",
    "(?P<n>t)o(?P=n)",
    "a{0,3}zz",
    "[]\\b]x",
    "[^]\\b]y",
    "[[:alpha:]\\b]9",
    "\\Bing\\b",

    "\\Q[\\b\\E",
    "(?#[)[]\\b]k",
    "[\\]\\b]m",
};
static const char *const subjects[] = {
    "",
    "Subject: You win the LOTTERY",
    "abba",
    "xyz",
    "xy",
    "unpaid",
    "paid",
    "free!1 c1al1s",
    "the end",
    "the end\n",
    "end of it",
    "\x80\xff",
    "begin\nand\nfinish",
    "abcdab",
    "quuuv",
    "space",
    "first\nsecond line",
    "call 555-1234",
    "\xc3\xa4\xc3\xb6",
    "tot",
    "aazz",
    "nothing of the kind",
    "\bx",
    "\bk",
    "ay",
    "\b9",
    "sing",
    "ing",
    "ac",
    "[\\b",
    "\bm",
    "]m",
};

enum { FORMS = sizeof forms / sizeof *forms, MANY = 2000 };

static const struct pattern_set *make(struct arena *arena, const struct str *texts, size_t count)
{
    const struct pattern_set *set = NULL;
    struct error err;
    size_t index = 0, offset = 0;
    if (pattern_set_new(arena, texts, count, &set, &index, &offset, &err) != OK)
        fail_msg("%.*s: %s", STR_ARG(texts[index]), err.text);
    return set;
}

/* One after the other. */
static struct str first_of(struct arena *arena, const struct str *texts, size_t count,
                           struct str subject)
{
    for (size_t i = 0; i < count; i++) {
        const struct pattern *pattern;
        struct error err;
        size_t offset;
        bool fits = false;
        if (pattern_new(arena, texts[i], &pattern, &offset, &err) != OK)
            fail_msg("%.*s: %s", STR_ARG(texts[i]), err.text);
        if (pattern_match(pattern, subject, &fits, &err) != OK)
            fail_msg("%.*s on \"%.*s\": %s", STR_ARG(texts[i]), STR_ARG(subject), err.text);
        if (fits)
            return texts[i];
    }
    return (struct str){0};
}

static void test_same_answer(void **state)
{
    struct arena *arena = arena_new(0);
    struct str texts[FORMS];
    (void)state;
    for (size_t i = 0; i < FORMS; i++)
        texts[i] = str_c(forms[i]);
    /* from each on, so that each is the first once */
    for (size_t from = 0; from < FORMS; from++) {
        struct str turned[FORMS];
        for (size_t i = 0; i < FORMS; i++)
            turned[i] = texts[(from + i) % FORMS];
        const struct pattern_set *set = make(arena, turned, FORMS);
        pattern_set_candidates(set, STR_EMPTY); /* from here on the prefilter is asked */
        for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
            struct str fits;
            struct error err;
            assert_int_equal(pattern_set_match(set, str_c(subjects[i]), &fits, &err), OK);
            struct str wanted = first_of(arena, turned, FORMS, str_c(subjects[i]));
            if (fits.ptr != wanted.ptr)
                fail_msg("from %zu, \"%s\": \"%.*s\", not \"%.*s\"", from, subjects[i],
                         STR_ARG(fits), STR_ARG(wanted));
        }
    }
    arena_free(arena);
}

static void test_many(void **state)
{
    struct arena *arena = arena_new(0);
    struct str *texts = arena_alloc_array(arena, MANY, sizeof *texts);
    struct str fits;
    struct error err;
    (void)state;
    for (size_t i = 0; i < MANY; i++)
        texts[i] = arena_printf(arena, "(?i)\\bword%zu(s|es)?\\b", i);
    const struct pattern_set *set = make(arena, texts, MANY);
    size_t count;
    (void)pattern_set_texts(set, &count);
    assert_int_equal(count, MANY);
    assert_int_equal(pattern_set_match(set, STR("some WORD1234s here"), &fits, &err), OK);
    assert_true(str_equal(fits, texts[1234]));
    assert_int_equal(pattern_set_match(set, STR("none of these words"), &fits, &err), OK);
    assert_null(fits.ptr);
    if (prefilter_is_built()) {
        assert_int_equal(pattern_set_candidates(set, STR("none of these words")), 0);
        assert_in_range(pattern_set_candidates(set, STR("some WORD1234s here")), 1, 10);
    }
    arena_free(arena);
}

/* A subject is looked at to the same end by both. */
static void test_end_of_subject(void **state)
{
    struct arena *arena = arena_new(0);
    struct buf subject BUF_CLEANUP;
    struct str texts[20];
    struct str fits;
    struct error err;
    (void)state;
    buf_init(&subject, 2 * PATTERN_SUBJECT_MAX);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        texts[i] = arena_printf(arena, "mark%zu", i);
    const struct pattern_set *set = make(arena, texts, sizeof texts / sizeof *texts);
    while (subject.len < PATTERN_SUBJECT_MAX - 5)
        buf_append_byte(&subject, '.');
    buf_append(&subject, STR("mark7"));
    assert_int_equal(pattern_set_match(set, buf_str(&subject), &fits, &err), OK);
    assert_true(str_equal(fits, STR("mark7")));
    buf_clear(&subject);
    while (subject.len < PATTERN_SUBJECT_MAX - 4)
        buf_append_byte(&subject, '.');
    buf_append(&subject, STR("mark7"));
    assert_int_equal(pattern_set_match(set, buf_str(&subject), &fits, &err), OK);
    assert_null(fits.ptr);
    arena_free(arena);
}

static void test_faults(void **state)
{
    struct arena *arena = arena_new(0);
    const struct str texts[] = {STR("good"), STR("bad(")};
    const struct pattern_set *set = NULL;
    struct error err;
    size_t index = 0, offset = 0;
    (void)state;
    assert_int_equal(pattern_set_new(arena, texts, 2, &set, &index, &offset, &err), FAILED);
    assert_int_equal(index, 1);
    assert_int_equal(offset, 4);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answer),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_end_of_subject),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
