/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "state/breaker.h"

#include "base/clock.h"
#include "event/event.h"

/* One failure a letter: 'a' and so on are about that thing, '-' is about none, '!' an answer. */
static void play(struct breaker *breaker, const char *letters)
{
    for (; *letters; letters++) {
        struct error err;
        (void)fail(&err, ERROR_TEMPORARY, "it hung up");
        uint64_t about = *letters == '-' ? 0 : (uint64_t)*letters;
        breaker_settle(breaker, clock_monotonic_ns(), about, *letters == '!' ? NULL : &err);
    }
}

static bool admits(struct breaker *breaker)
{
    struct error err;
    return breaker_admit(breaker, &err) == OK;
}

static void test_what_opens_it(void **unused)
{
    static const struct {
        const char *faults;
        bool admits;
    } cases[] = {
        {"--", true},     {"---", false}, {"--!-", true},      {"aaaaaa", true},
        {"ababab", true}, {"abc", false}, {"a--", false},      {"aa-aa", true},
        {"--a", false},   {"ab!c", true}, {"abab!abab", true}, {"a-a-", false},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct breaker breaker = {0};
        breaker_init(&breaker, STR("scanner"));
        clock_set_fake(NS_PER_S, NS_PER_S);
        play(&breaker, cases[i].faults);
        if (admits(&breaker) != cases[i].admits)
            fail_msg("%s", cases[i].faults);
        clock_set_fake(-1, -1);
        breaker_done(&breaker);
    }
}

static void test_one_question_finds_out(void **unused)
{
    struct breaker breaker = {0};
    (void)unused;
    breaker_init(&breaker, STR("scanner"));
    clock_set_fake(NS_PER_S, NS_PER_S);
    play(&breaker, "---");
    clock_set_fake(7 * NS_PER_S, NS_PER_S);
    assert_true(admits(&breaker));
    assert_false(admits(&breaker)); /* only one */
    breaker_abandoned(&breaker);
    assert_true(admits(&breaker));
    play(&breaker, "-");
    assert_false(admits(&breaker));
    clock_set_fake(13 * NS_PER_S, NS_PER_S);
    assert_true(admits(&breaker));
    play(&breaker, "!");
    assert_true(admits(&breaker));
    assert_true(admits(&breaker));
    clock_set_fake(-1, -1);
    breaker_done(&breaker);
}

/* What failed before and is tried again when it is open keeps nobody waiting longer. */
static void test_a_known_question_does_not_keep_it_open(void **unused)
{
    struct breaker breaker = {0};
    (void)unused;
    breaker_init(&breaker, STR("scanner"));
    clock_set_fake(NS_PER_S, NS_PER_S);
    play(&breaker, "p--");
    assert_false(admits(&breaker));
    clock_set_fake(7 * NS_PER_S, NS_PER_S);
    assert_true(admits(&breaker));
    play(&breaker, "p");
    assert_true(admits(&breaker));
    play(&breaker, "q");
    assert_false(admits(&breaker));
    clock_set_fake(-1, -1);
    breaker_done(&breaker);
}

/* ---- what is told ---- */

struct told {
    int down, up;
};

static void take_event(const struct event *event, void *arg)
{
    struct told *told = arg;
    told->down += event->type == EVENT_BACKEND_DOWN;
    told->up += event->type == EVENT_BACKEND_UP;
}

/* One that hung up on one message is not down; one that cannot be reached is at once. */
static void test_what_is_told(void **unused)
{
    static const struct {
        const char *faults;
        struct told told;
    } cases[] = {
        {"aaaa!", {0, 0}}, {"ab!", {0, 0}},     {"abc", {1, 0}}, {"abcde!", {1, 1}},
        {"-", {1, 0}},     {"-a-b-c!", {1, 1}}, {"a-!", {1, 1}}, {"-!-!", {2, 2}},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct told told = {0};
        struct breaker breaker = {0};
        breaker_init(&breaker, STR("scanner"));
        (void)event_drain(take_event, &(struct told){0});
        play(&breaker, cases[i].faults);
        (void)event_drain(take_event, &told);
        if (told.down != cases[i].told.down || told.up != cases[i].told.up)
            fail_msg("%s: %d down, %d up", cases[i].faults, told.down, told.up);
        breaker_done(&breaker);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_opens_it),
        cmocka_unit_test(test_one_question_finds_out),
        cmocka_unit_test(test_a_known_question_does_not_keep_it_open),
        cmocka_unit_test(test_what_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
