/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/cause.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct queue_cause cause_of(struct arena *arena, unsigned code, const char *text)
{
    struct queue_cause cause;
    struct mail_reply reply = {.code = (unsigned short)code, .text = str_c(text)};
    queue_cause_of(arena, &reply, &cause);
    return cause;
}

static void test_patterns(void **state)
{
    static const struct {
        const char *text, *pattern;
    } cases[] = {
        {"mailbox busy", "mailbox busy"},
        {"<a.b@example.net>: mailbox busy", "<<address>>: mailbox busy"},
        {"try again in 300 seconds", "try again in <n> seconds"},
        {"try again in 300s.", "try again in <n>s."},
        {"192.0.2.7 is listed at bl.example.org", "<ip> is listed at <host>"},
        {"[2001:db8::1] greylisted", "[<ip>] greylisted"},
        {"127.0.0.1:2525: Connection refused", "<ip>: Connection refused"},
        {"mx1.example.net:25: timed out", "<host>: timed out"},
        {"queue file 4bXkQ21Zz full", "queue file <id> full"},
        {"see https://help.example.com/a?b=1 for more", "see <url> for more"},
        {"rate limit a12-20020a05.12 - gsmtp", "rate limit <id> - gsmtp"},
        {"mailbox user1 full", "mailbox <id> full"},
        {"mailbox user1000 full", "mailbox <id> full"},
        {"code 5.7.1 of 12", "code <n>.<n>.<n> of <n>"},
        {"user \"Jo Doe 17\" over quota", "user <text> over quota"},
        {"can't take it, won't either", "can't take it, won't either"},
        {"two   blanks\r\n and a line", "two blanks and a line"},
        {"", ""},
        {"\xc3\xa9 odd", "\xc3\xa9 odd"},
    };
    (void)state;
    struct arena *arena = arena_new(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(cause_of(arena, 0, cases[i].text).pattern.ptr, cases[i].pattern);
    arena_free(arena);
}

static void test_names(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct queue_cause a = cause_of(arena, 450, "<x@one.example>: busy, id 12AB34CD");
    struct queue_cause b = cause_of(arena, 450, "<y@two.example>: Busy, id 99ZZ00QQ");
    struct queue_cause c = cause_of(arena, 451, "<y@two.example>: busy, id 99ZZ00QQ");
    assert_string_equal(a.id, b.id);
    assert_string_not_equal(a.id, c.id);
    assert_int_equal(a.id[0], 'C');
    assert_int_equal(strlen(a.id), 7);
    arena_free(arena);
}

static void test_codes_stand_first(void **state)
{
    (void)state;
    struct arena *arena = arena_new(0);
    struct queue_cause cause;
    struct mail_reply reply = {.code = 450, .enhanced = {4, 2, 1}, .text = STR("busy")};
    queue_cause_of(arena, &reply, &cause);
    assert_string_equal(cause.pattern.ptr, "450 4.2.1 busy");
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_codes_stand_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
