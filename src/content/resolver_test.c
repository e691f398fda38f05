/* SPDX-License-Identifier: Apache-2.0 */
/* content/resolver_test.c - the budget of a message's questions. */
#include "content/resolver.h"

#include "base/test.h"
#include "content/suite_zone_test.h"

#include <string.h>

struct budget_case {
    const char *name;
    unsigned budget;
    const char *asked; /* a letter a question: "a" is answered, "n" has no answer, "x" is no name */
    const char *took;  /* a letter each: "y" answered, "t" no answer now, "l" over the limit */
    unsigned left, sent;
};

static const struct budget_case budget_cases[] = {
    {"each takes one", 3, "aaaa", "yyyl", 0, 3},
    {"an unanswered one takes five", 8, "naaaa", "tyyyl", 0, 4},
    {"or what is left", 7, "nnn", "ttl", 0, 2},
    {"the last one", 1, "nn", "tl", 0, 1},
    {"what is no name takes nothing", 2, "xaxax", "yyyyy", 0, 2},
    {"none left", 0, "a", "l", 0, 0},
    {"no name, none left", 0, "x", "y", 0, 0},
    {"some left", 20, "anxa", "ytyy", 13, 3},
};

static NO_YIELD_CHECK char ask_one(struct resolver *resolver, char kind, struct arena *arena)
{
    struct resolver_answer answer;
    struct error err = {0};
    const char *name = kind == 'x' ? "not..one" : kind == 'a' ? "answered.test" : "silent.test";
    if (resolver_ask(resolver, RESOLVER_TXT, str_c(name), arena, &answer, &err) == OK) {
        assert_int_equal(answer.status, kind == 'x' ? DNS_NO_NAME : DNS_FOUND);
        return 'y';
    }
    return err.kind == ERROR_LIMIT ? 'l' : 't';
}

static void test_budget(void **state)
{
    struct zone_record records[] = {{STR("answered.test"), STR("TXT"), STR("yes")},
                                    {STR("silent.test"), STR("TIMEOUT"), STR("")}};
    (void)state;
    for (size_t i = 0; i < sizeof budget_cases / sizeof budget_cases[0]; i++) {
        const struct budget_case *c = &budget_cases[i];
        struct arena *arena = arena_new(0);
        struct zone zone = {records, 2, 0};
        struct resolver resolver = zone_resolver(&zone);
        char took[8] = "";
        resolver.budget = c->budget;
        for (size_t k = 0; c->asked[k]; k++)
            took[k] = ask_one(&resolver, c->asked[k], arena);
        if (strcmp(took, c->took) != 0 || resolver.budget != c->left || zone.asked != c->sent ||
            resolver.asked != c->budget - c->left)
            fail_msg("%s: %s, %u left, %u sent", c->name, took, resolver.budget, zone.asked);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_budget)};
    return cmocka_run_group_tests_name("content-resolver", tests, NULL, NULL);
}
