/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The suite of RFC 7208, whose data is not part of the project: tests/suites/run finds it and makes
 * it readable. Without the file that POSTERN_SPF_SUITE names the program says that it was skipped.
 */
#include "content/spf.h"

#include "base/test.h"
#include "content/suite_text_test.h"
#include "content/suite_zone_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS_MAX = 200, FIELDS_MAX = 8, CASES = 203 };

struct suite {
    struct arena *arena; /* of a scenario */
    struct zone_record records[RECORDS_MAX];
    size_t record_count;
    struct str title;
    unsigned cases, failures;
};

static bool is_among(struct str list, struct str word)
{
    struct str item;
    while (str_split(&list, ',', &item))
        if (str_equal(item, word))
            return true;
    return false;
}

NO_YIELD_CHECK static void run_case(struct suite *suite, const struct str fields[FIELDS_MAX])
{
    struct arena *arena = arena_new(0);
    struct zone zone = {suite->records, suite->record_count, 0};
    struct resolver resolver = zone_resolver(&zone);
    struct spf_outcome outcome;
    resolver.budget = SPF_BUDGET;
    struct spf_request request = {.helo = suite_unescape(arena, fields[2]),
                                  .sender = suite_unescape(arena, fields[4]),
                                  .receiver = STR("receiver.example"),
                                  .now = 1700000000};
    assert_true(net_ip_parse(fields[3], &request.client));
    spf_check(&resolver, &request, arena, &outcome);
    struct str result = str_c(spf_result_name(outcome.result));
    struct str explanation = outcome.explanation.len ? outcome.explanation : STR("DEFAULT");
    bool good = is_among(fields[5], result);
    if (outcome.result == SPF_FAIL && !str_equal(fields[6], STR("-")))
        good = good && str_equal(explanation, suite_unescape(arena, fields[6]));
    if (!good) {
        suite->failures++;
        printf("%.*s / %.*s: %.*s \"%.*s\", not %.*s \"%.*s\" (%.*s)\n", STR_ARG(suite->title),
               STR_ARG(fields[1]), STR_ARG(result), STR_ARG(explanation), STR_ARG(fields[5]),
               STR_ARG(fields[6]), STR_ARG(outcome.problem));
    }
    suite->cases++;
    assert_true(zone.asked <= SPF_BUDGET);
    arena_free(arena);
}

static void run_line(struct suite *suite, struct str line)
{
    struct str fields[FIELDS_MAX] = {0};
    for (size_t i = 0; i < FIELDS_MAX && str_split(&line, '\t', &fields[i]); i++)
        ;
    if (str_equal(fields[0], STR("S"))) {
        arena_clear(suite->arena);
        suite->record_count = 0;
        suite->title = arena_str(suite->arena, fields[1]);
    } else if (str_equal(fields[0], STR("R"))) {
        assert_true(suite->record_count < RECORDS_MAX);
        suite->records[suite->record_count++] = (struct zone_record){
            suite_unescape(suite->arena, fields[1]), arena_str(suite->arena, fields[2]),
            suite_unescape(suite->arena, fields[3])};
    } else {
        run_case(suite, fields);
    }
}

static void test_suite(void **state)
{
    static char line[8192];
    struct suite suite = {.arena = arena_new(0)};
    FILE *file = fopen(getenv("POSTERN_SPF_SUITE"), "re");
    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        run_line(&suite, str_slice(str_c(line), 0, strlen(line) - 1));
    fclose(file);
    arena_free(suite.arena);
    printf("%u of %u pass\n", suite.cases - suite.failures, suite.cases);
    assert_int_equal(suite.cases, CASES);
    assert_int_equal(suite.failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_suite)};
    if (!getenv("POSTERN_SPF_SUITE")) {
        printf("skipped: POSTERN_SPF_SUITE names no file (tests/suites/run spf)\n");
        return 77; /* Meson counts it as skipped */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
