/* SPDX-License-Identifier: Apache-2.0 */
#include "content/encoded_word.h"

#include "base/test.h"

static const struct {
    const char *name, *text, *wanted;
    size_t most;
} cases[] = {
    {"plain", "hello", "hello", 100},
    {"q", "=?utf-8?q?gr=C3=BC=C3=9Fe?= from us",
     "gr\xc3\xbc\xc3\x9f"
     "e from us",
     100},
    {"b", "=?UTF-8?B?Z3LDvMOfZQ==?=",
     "gr\xc3\xbc\xc3\x9f"
     "e",
     100},
    {"underscore", "=?us-ascii?Q?a_b?=", "a b", 100},
    {"two words are one", "=?utf-8?q?a?= \t=?utf-8?q?b?=", "ab", 100},
    {"a character in two words", "=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "\xc3\xbc", 100},
    {"a blank before text", "=?utf-8?q?a?= b", "a b", 100},
    {"latin", "=?iso-8859-1?q?=FC?=", "\xc3\xbc", 100},
    {"latin, outside", "=?windows-1252?q?=80?=", "?", 100},
    {"language", "=?utf-8*de?q?a?=", "a", 100},
    {"unknown charset", "=?koi8-r?q?a?= b", "=?koi8-r?q?a?= b", 100},
    {"unknown encoding", "=?utf-8?x?a?=", "=?utf-8?x?a?=", 100},
    {"not base64", "=?utf-8?b?a?=", "=?utf-8?b?a?=", 100},
    {"not hex", "=?utf-8?q?=C?=", "=?utf-8?q?=C?=", 100},
    {"no end", "=?utf-8?q?abc", "=?utf-8?q?abc", 100},
    {"blank inside", "=?utf-8?q?a b?=", "=?utf-8?q?a b?=", 100},
    {"controls", "=?utf-8?q?a=0D=0Ab=00=1B[2J=7F?=", "a  b  [2J", 100},
    {"cut", "abcdef", "abc", 3},
    {"not inside a character", "a\xc3\xbc", "a", 2},
    {"empty", "", "", 10},
    {"only marks", "=?=?=?", "=?=?=?", 10},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct str text = encoded_word_text(arena, str_c(cases[i].text), cases[i].most);
        if (!str_equal(text, str_c(cases[i].wanted)))
            fail_msg("%s: \"%.*s\"", cases[i].name, STR_ARG(text));
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
