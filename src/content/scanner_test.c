/* SPDX-License-Identifier: Apache-2.0 */
/* What scanners answer, and what becomes of it. */
#include "base/test.h"

#include "content/clamd.h"
#include "content/spam.h"

static void test_answers_of_clamd(void **unused)
{
    static const struct {
        const char *line;
        enum result result;
        enum clamd_result found;
        const char *name;
    } cases[] = {
        {"stream: OK", OK, CLAMD_CLEAN, ""},
        {"stream: OK\n", OK, CLAMD_CLEAN, ""},
        {"stream: Win.Test.EICAR_HDB-1 FOUND", OK, CLAMD_FOUND, "Win.Test.EICAR_HDB-1"},
        {"stream: A B C FOUND", OK, CLAMD_FOUND, "A B C"},
        {"INSTREAM size limit exceeded. ERROR", OK, CLAMD_TOO_BIG, ""},
        {"stream: Can't allocate memory ERROR", FAILED, 0, NULL},
        {"UNKNOWN COMMAND", FAILED, 0, NULL},
        {"OK.", FAILED, 0, NULL},
        {"", FAILED, 0, NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct clamd_answer answer;
        struct error err;
        if (clamd_read_answer(str_c(cases[i].line), &answer, &err) != cases[i].result)
            fail_msg("%s", cases[i].line);
        if (cases[i].result != OK)
            continue;
        assert_int_equal(answer.result, cases[i].found);
        assert_str(answer.name, cases[i].name);
    }
}

#define HTTP "HTTP/1.1 200 OK\r\nServer: rspamd\r\n\r\n"

struct spam_case {
    const char *text;
    enum result result;
    double score;
    double required;
    enum spam_action action;
    const char *symbols;
};

static void check_cases(const struct spam_case *cases, size_t count,
                        enum result (*read)(struct str text, struct arena *arena,
                                            struct spam_answer *out, struct error *err))
{
    for (size_t i = 0; i < count; i++) {
        struct arena *arena = arena_new(0);
        struct spam_answer answer;
        struct error err;
        if (read(str_c(cases[i].text), arena, &answer, &err) != cases[i].result)
            fail_msg("%s", cases[i].text);
        if (cases[i].result == OK) {
            assert_true(answer.score > cases[i].score - 0.001 &&
                        answer.score < cases[i].score + 0.001);
            assert_true(answer.required > cases[i].required - 0.001 &&
                        answer.required < cases[i].required + 0.001);
            assert_int_equal(answer.action, cases[i].action);
            assert_str(answer.symbols, cases[i].symbols);
        }
        arena_free(arena);
    }
}

static void test_answers_of_rspamd(void **unused)
{
    static const struct spam_case cases[] = {
        {HTTP "{\"score\":7.5,\"required_score\":15,\"action\":\"add header\",\"symbols\":{"
              "\"LITTLE\":{\"score\":0.1},\"NONE\":{\"score\":0},\"GREAT\":{\"score\":-9}}}",
         OK, 7.5, 15, SPAM_TAG, "GREAT(-9.00) LITTLE(0.10)"},
        {HTTP "{\"score\":16,\"required_score\":15,\"action\":\"reject\"}", OK, 16, 15, SPAM_REJECT,
         ""},
        {HTTP "{\"score\":4,\"action\":\"greylist\"}", OK, 4, 0, SPAM_DEFER, ""},
        {HTTP "{\"score\":4,\"action\":\"soft reject\"}", OK, 4, 0, SPAM_DEFER, ""},
        {HTTP "{\"score\":1,\"action\":\"something new\"}", OK, 1, 0, SPAM_NO_ACTION, ""},
        {HTTP "{\"score\":1,\"symbols\":[1],\"action\":7}", OK, 1, 0, SPAM_NO_ACTION, ""},
        {HTTP "{\"score\":\"1\"}", FAILED, 0, 0, 0, NULL},
        {HTTP "{\"error\":\"no\"}", FAILED, 0, 0, 0, NULL},
        {HTTP "{\"score\":1", FAILED, 0, 0, 0, NULL},
        {HTTP, FAILED, 0, 0, 0, NULL},
        {"HTTP/1.1 503 Busy\r\n\r\n{\"score\":1}", FAILED, 0, 0, 0, NULL},
        {"HTTP/1.1 200 OK\r\nServer: x\r\n", FAILED, 0, 0, 0, NULL},
        {"HTTP/1.1", FAILED, 0, 0, 0, NULL},
        {"", FAILED, 0, 0, 0, NULL},
    };
    (void)unused;
    check_cases(cases, sizeof cases / sizeof *cases, rspamd_read_answer);
}

static void test_answers_of_spamd(void **unused)
{
    static const struct spam_case cases[] = {
        {"SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 15.0 / 5.0\r\n\r\nONE,TWO\r\n", OK,
         15, 5, SPAM_TAG, "ONE TWO"},
        {"SPAMD/1.1 0 EX_OK\r\nSpam: False ; -2.5 / 5.0\r\n\r\n", OK, -2.5, 5, SPAM_NO_ACTION, ""},
        {"SPAMD/1.1 0 EX_OK\r\n\r\nONE\r\n", FAILED, 0, 0, 0, NULL},
        {"SPAMD/1.1 0 EX_OK\r\nSpam: True ; inf / nan\r\n\r\n", FAILED, 0, 0, 0, NULL},
        {"SPAMD/1.1 0 EX_OK\r\nSpam: 15 / 5 ;\r\n\r\n", FAILED, 0, 0, 0, NULL},
        {"SPAMD/1.1 76 Bad header line\r\n", FAILED, 0, 0, 0, NULL},
        {"SPAMD/", FAILED, 0, 0, 0, NULL},
        {"HTTP/1.1 200 OK\r\n\r\n", FAILED, 0, 0, 0, NULL},
        {"", FAILED, 0, 0, 0, NULL},
    };
    (void)unused;
    check_cases(cases, sizeof cases / sizeof *cases, spamd_read_answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_of_clamd),
        cmocka_unit_test(test_answers_of_rspamd),
        cmocka_unit_test(test_answers_of_spamd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
