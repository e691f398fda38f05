/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "admin/log_postfix.h"

#include "base/buf.h"

#include <stdlib.h>
#include <time.h>

static void collect(const char *program, unsigned process, struct str line, void *arg)
{
    (void)process;
    buf_printf(arg, "%s: %.*s\n", program, STR_ARG(line));
}

#define T(key_, value)                                                                             \
    {                                                                                              \
        .key = KEY_##key_, .kind = EVENT_VALUE_STR, .text = {                                      \
            .ptr = (value),                                                                        \
            .len = sizeof(value) - 1                                                               \
        }                                                                                          \
    }
#define N(key_, value)                                                                             \
    {                                                                                              \
        .key = KEY_##key_, .kind = EVENT_VALUE_INT, .number = (value)                              \
    }
#define ID          T(MESSAGE, "01M8DVMGXZ42W38KBWTWFS6AZ0")
#define FROM_CLIENT T(CLIENT, "192.0.2.7"), T(SESSION, "01M8DVMGWJEZGSKVK3GRYFK4YF")

static const struct line_case {
    const char *name;
    enum event_type type;
    struct event_field fields[12];
    const char *lines;
} cases[] = {
    {"connect", EVENT_SESSION_OPEN, {FROM_CLIENT}, "smtpd: connect from unknown[192.0.2.7]\n"},
    {"accepted",
     EVENT_MESSAGE_ACCEPTED,
     {ID, T(FROM, "a@b.test"), N(RECIPIENTS, 2), N(SIZE, 44), T(MESSAGE_ID, "<m@b>"),
      T(USER, "anna"), FROM_CLIENT},
     "smtpd: 01M8DVMGXZ42W38KBWTWFS6AZ0: client=unknown[192.0.2.7], sasl_username=anna\n"
     "cleanup: 01M8DVMGXZ42W38KBWTWFS6AZ0: message-id=<m@b>\n"
     "qmgr: 01M8DVMGXZ42W38KBWTWFS6AZ0: from=<a@b.test>, size=44, nrcpt=2 (queue active)\n"},
    {"put in on this host",
     EVENT_MESSAGE_ACCEPTED,
     {ID, T(FROM, ""), N(RECIPIENTS, 1), N(SIZE, 5), T(MESSAGE_ID, "")},
     "pickup: 01M8DVMGXZ42W38KBWTWFS6AZ0: uid=0 from=<>\n"
     "cleanup: 01M8DVMGXZ42W38KBWTWFS6AZ0: message-id=\n"
     "qmgr: 01M8DVMGXZ42W38KBWTWFS6AZ0: from=<>, size=5, nrcpt=1 (queue active)\n"},
    {"an unknown recipient",
     EVENT_RECIPIENT_REJECT,
     {FROM_CLIENT, T(FROM, "a@b.test"), T(TO, "x@c.test"), N(CODE, 550),
      T(REASON, "recipient_unknown"), T(REPLY, "nope")},
     "smtpd: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 550 5.1.1 <x@c.test>: Recipient "
     "address rejected: User unknown in relay recipient table; from=<a@b.test> to=<x@c.test> "
     "proto=ESMTP\n"},
    {"a client whose name DNS confirmed, and what it called itself",
     EVENT_RECIPIENT_REJECT,
     {FROM_CLIENT, T(CLIENT_NAME, "mx.b.test"), T(HELO, "b> x\n"), T(FROM, "a@b.test"),
      T(TO, "x@c.test"), N(CODE, 550), T(REASON, "recipient_unknown"), T(REPLY, "nope")},
     "smtpd: NOQUEUE: reject: RCPT from mx.b.test[192.0.2.7]: 550 5.1.1 <x@c.test>: Recipient "
     "address rejected: User unknown in relay recipient table; from=<a@b.test> to=<x@c.test> "
     "proto=ESMTP helo=<b? x?>\n"},
    {"a recipient that would be another line",
     EVENT_RECIPIENT_REJECT,
     {FROM_CLIENT, T(FROM, ""), T(TO, "x>, \n\x1b@c.test"), N(CODE, 451),
      T(REASON, "backend_error"), T(REPLY, "later; from=<z>")},
     "smtpd: NOQUEUE: reject: RCPT from unknown[192.0.2.7]: 451 4.7.1 <x?, ??@c.test>: Recipient "
     "address rejected: later? from=<z>; from=<> to=<x?, ??@c.test> proto=ESMTP\n"},
    {"a login",
     EVENT_AUTH_FAIL,
     {FROM_CLIENT, T(USER, "an na"), T(MECHANISM, "PLAIN")},
     "smtpd: warning: unknown[192.0.2.7]: SASL PLAIN authentication failed: authentication "
     "failure, sasl_username=an?na\n"},
    {"a login that nobody could decide",
     EVENT_AUTH_ERROR,
     {FROM_CLIENT, T(USER, "anna"), T(MECHANISM, "LOGIN")},
     "smtpd: warning: unknown[192.0.2.7]: SASL LOGIN authentication failed: Connection lost to "
     "authentication server, sasl_username=anna\n"},
    {"sent",
     EVENT_DELIVERY_SENT,
     {T(MESSAGE, "none"), T(TO, "x@c.test"), T(MX, "mx.c.test"), T(IP, "[2001:db8::1]:25"),
      N(CODE, 250), T(ENHANCED, "2.0.0"), T(REPLY, "queued (as 7)"), N(CONNECT_US, 120000),
      N(TRANSFER_US, 30000)},
     "smtp: none: to=<x@c.test>, relay=mx.c.test[2001:db8::1]:25, delay=0.00, "
     "delays=0/0.00/0.12/0.03, dsn=2.0.0, status=sent (250 2.0.0 queued ?as 7?)\n"},
    {"deferred without a host",
     EVENT_DELIVERY_DEFERRED,
     {T(MESSAGE, "none"), T(TO, "x@c.test"), T(REPLY, "no address found")},
     "smtp: none: to=<x@c.test>, relay=none, delay=0.00, delays=0/0.00/0.00/0.00, dsn=4.0.0, "
     "status=deferred (no address found)\n"},
    {"bounced",
     EVENT_DELIVERY_FAILED,
     {T(MESSAGE, "none"), T(TO, "x@c.test"), T(MX, "mx.c.test"), T(IP, "192.0.2.1:25"),
      N(CODE, 550), T(ENHANCED, "5.1.1"), T(REPLY, "nope")},
     "smtp: none: to=<x@c.test>, relay=mx.c.test[192.0.2.1]:25, delay=0.00, "
     "delays=0/0.00/0.00/0.00, dsn=5.1.1, status=bounced (host mx.c.test[192.0.2.1] said: 550 "
     "5.1.1 nope)\n"},
    {"a notice",
     EVENT_DSN_SENT,
     {T(MESSAGE, "A1"), T(OBJECT, "B2"), T(KIND, "failure")},
     "bounce: A1: sender non-delivery notification: B2\n"
     "qmgr: B2: from=<>, size=0, nrcpt=1 (queue active)\n"},
    {"no words", EVENT_FLOW_STEP, {T(STEP, "1-accept")}, ""},
    {"a warning",
     EVENT_BACKEND_DOWN,
     {T(BACKEND, "mail")},
     "master: warning: error  backend.down backend=mail\n"},
};

static void test_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct event event = {.type = cases[i].type, .wall_ns = INT64_C(1795766400000000000)};
        for (; event.count < 12; event.count++) {
            const struct event_field *field = &cases[i].fields[event.count];
            if (field->kind == EVENT_VALUE_STR && !field->text.ptr)
                break;
            event.fields[event.count] = *field;
        }
        struct buf out BUF_CLEANUP;
        buf_init(&out, 1 << 16);
        log_postfix_lines(&event, collect, &out);
        buf_append_byte(&out, '\0');
        if (!str_equal(str_c(out.ptr), str_c(cases[i].lines)))
            fail_msg("%s:\n%s", cases[i].name, out.ptr);
    }
}

static void test_time(void **state)
{
    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    char text[LOG_POSTFIX_TIME_SIZE];
    struct str time = log_postfix_time(INT64_C(1764498000) * 1000000000 + 5, text);
    assert_true(str_equal(time, STR("Nov 30 10:20:00")));
    time = log_postfix_time(INT64_C(1764584461) * 1000000000, text);
    assert_true(str_equal(time, STR("Dec  1 10:21:01")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
