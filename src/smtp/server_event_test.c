/* SPDX-License-Identifier: Apache-2.0 */
/* smtp/server_event_test.c - what a session tells the event stream, and what it never tells. */
#include "event/event.h"
#include "fiber/fiber.h"
#include "smtp/server_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const struct event_context *context_of_fiber(void)
{
    return fiber_current() ? fiber_context() : NULL;
}

/* All events since the last call as one text: "name key=value …" a line. */
static void add_event(const struct event *event, void *arg)
{
    struct buf *out = arg;
    buf_printf(out, "%s", event_name(event->type));
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (field->kind == EVENT_VALUE_STR)
            buf_printf(out, " %s=%.*s", event_key_name(field->key), STR_ARG(field->text));
        else
            buf_printf(out, " %s=%lld", event_key_name(field->key), (long long)field->number);
    }
    buf_append(out, STR("\n"));
}

static void play(const char *text, void (*prepare)(struct rig *rig), struct buf *out)
{
    struct script script = {text, text, NEVER_CUT, prepare, NULL, NULL, NULL, 0};
    buf_init(out, 1 << 20);
    (void)event_drain(add_event, out);
    buf_clear(out);
    run_script(&script, 0);
    (void)event_drain(add_event, out);
}

static void assert_told(const struct buf *events, const char *part)
{
    if (str_find_str(buf_str(events), str_c(part)) < 0)
        fail_msg("\"%s\" is not in:\n%.*s", part, STR_ARG(buf_str(events)));
}

#define HELO "S: 220 *\nC: HELO client.example\nS: 250 *\n"
#define QUIT "C: QUIT\nS: 221 *\nE\n"

static void open_and_close(void **state)
{
    (void)state;
    struct buf events;
    play(HELO QUIT, NULL, &events);
    assert_told(&events, "session.open ");
    assert_told(&events, "session.close ");
    assert_told(&events, " listener=test");
    assert_told(&events, " client=127.0.0.1");
    assert_told(&events, " why=quit");
    buf_done(&events);
}

static void small(struct rig *rig)
{
    rig->settings.limits.recipients = 1;
    rig->settings.limits.size = 1024;
}

static void limits(void **state)
{
    (void)state;
    struct buf events;
    play(HELO "C: MAIL FROM:<> SIZE=2000\nS: 552 *\nC: MAIL FROM:<>\nS: 250 *\n"
              "C: RCPT TO:<b@example.org>\nS: 250 *\nC: RCPT TO:<b@example.org>\nS: 452 *\n" QUIT,
         small, &events);
    assert_told(&events, "session.limit limit=size");
    assert_told(&events, "session.limit limit=recipients");
    buf_done(&events);
    play(HELO "T: 301\nS: 421 *\nE\n", NULL, &events);
    assert_told(&events, "session.limit limit=command_timeout");
    assert_told(&events, "why=command_timeout");
    buf_done(&events);
}

/* "secret" in every form in which it crosses the wire, in exchanges that go wrong in every way. */
static void no_secret_is_told(void **state)
{
    (void)state;
    static const char *const sessions[] = {
        HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 235 *\n" QUIT,
        HELO "C: AUTH PLAIN AGJvYgBzZWNyZXQ=\nS: 535 *\n" QUIT,
        HELO "C: AUTH PLAIN Ym9iAGFsaWNlAHNlY3JldA==\nS: 535 *\n" QUIT,
        HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA=\nS: 501 *\n" QUIT,
        HELO "C: AUTH PLAIN AGFsaWNlAHNlY3JldA== x\nS: 501 *\n" QUIT,
        HELO "C: AUTH FOO AGFsaWNlAHNlY3JldA==\nS: 504 *\n" QUIT,
        HELO "C: AUTH LOGIN\nS: 334 *\nC: YWxpY2U=\nS: 334 *\nC: c2VjcmV0\nS: 235 *\n" QUIT,
        HELO "C: AUTH LOGIN\nS: 334 *\nC: YWxpY2U=\nS: 334 *\nC: secret\nS: 501 *\n" QUIT,
        HELO "C: AUTH LOGIN\nC: YWxpY2U=\nC: c2VjcmV0\nS: 554 *\nE\n",
        HELO "C: YWxpY2U=\nS: 500 *\nC: c2VjcmV0\nS: 500 *\n" QUIT,
        HELO "R: AUTH PLAIN AGFsaWNlAHNlY3JldA==\\n\nS: 500 *\nE\n",
        HELO "C: AUTH LOGIN\nS: 334 *\nR: c2VjcmV0\\n\nS: 500 *\nE\n",
        ("S: 220 *\nC: AUTH PLAIN AGFsaWNlAHNlY3JldA==\nS: 503 *\n" QUIT),
    };
    static const char *const forms[] = {"secret", "c2VjcmV0", "AHNlY3JldA", "zZWNyZXQ", "HNlY3Jl"};
    for (size_t i = 0; i < sizeof sessions / sizeof sessions[0]; i++) {
        struct buf events;
        play(sessions[i], NULL, &events);
        assert_told(&events, "session.close");
        for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k++)
            if (str_find_str(buf_str(&events), str_c(forms[k])) >= 0)
                fail_msg("session %zu told \"%s\":\n%.*s", i, forms[k], STR_ARG(buf_str(&events)));
        buf_done(&events);
    }
}

static void refused_logins(void **state)
{
    (void)state;
    struct buf events;
    play(HELO "C: AUTH PLAIN AGFsaWNlAA==\nS: 535 *\n" QUIT, NULL, &events);
    assert_told(&events,
                "auth.fail user=alice mechanism=PLAIN reason=password_wrong detail=empty password");
    buf_done(&events);
}

int main(void)
{
    event_context_source = context_of_fiber;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_and_close),
        cmocka_unit_test(limits),
        cmocka_unit_test(no_secret_is_told),
        cmocka_unit_test(refused_logins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
