/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/outcome.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct outcome_case {
    const char *name;
    enum queue_stage stage;
    const char *reply; /* NULL: none came */
    enum queue_outcome outcome;
    bool too_many;
} cases[] = {
    /* before MAIL every trouble is the host's */
    {"no connection", QUEUE_STAGE_CONNECT, NULL, QUEUE_OUTCOME_NEXT_HOST, false},
    {"4xx greeting", QUEUE_STAGE_GREETING, "421 4.3.2 busy", QUEUE_OUTCOME_NEXT_HOST, false},
    {"5xx greeting", QUEUE_STAGE_GREETING, "554 5.7.1 no", QUEUE_OUTCOME_NEXT_HOST, false},
    {"5xx EHLO and HELO", QUEUE_STAGE_HELLO, "550 5.7.1 no", QUEUE_OUTCOME_NEXT_HOST, false},
    {"5xx STARTTLS", QUEUE_STAGE_TLS, "502 5.5.1 no", QUEUE_OUTCOME_NEXT_HOST, false},
    {"4xx STARTTLS", QUEUE_STAGE_TLS, "454 4.7.0 no", QUEUE_OUTCOME_NEXT_HOST, false},
    {"5xx AUTH", QUEUE_STAGE_AUTH, "535 5.7.8 no", QUEUE_OUTCOME_NEXT_HOST, false},
    /* MAIL: final only when it is about this message */
    {"lost at MAIL", QUEUE_STAGE_MAIL, NULL, QUEUE_OUTCOME_NEXT_HOST, false},
    {"4xx MAIL", QUEUE_STAGE_MAIL, "451 4.7.1 later", QUEUE_OUTCOME_NEXT_HOST, false},
    {"421 MAIL", QUEUE_STAGE_MAIL, "421 4.3.0 bye", QUEUE_OUTCOME_NEXT_HOST, false},
    {"550 MAIL without code", QUEUE_STAGE_MAIL, "550 denied", QUEUE_OUTCOME_NEXT_HOST, false},
    {"550 5.7.1 MAIL", QUEUE_STAGE_MAIL, "550 5.7.1 denied", QUEUE_OUTCOME_NEXT_HOST, false},
    {"550 5.1.8 MAIL", QUEUE_STAGE_MAIL, "550 5.1.8 bad sender", QUEUE_OUTCOME_FAILED, false},
    {"552 5.3.4 MAIL", QUEUE_STAGE_MAIL, "552 5.3.4 too big", QUEUE_OUTCOME_FAILED, false},
    {"552 5.3.1 MAIL", QUEUE_STAGE_MAIL, "552 5.3.1 full", QUEUE_OUTCOME_NEXT_HOST, false},
    {"550 5.6.7 MAIL", QUEUE_STAGE_MAIL, "550 5.6.7 UTF-8", QUEUE_OUTCOME_FAILED, false},
    {"451 4.1.8 MAIL", QUEUE_STAGE_MAIL, "451 4.1.8 unsure", QUEUE_OUTCOME_NEXT_HOST, false},
    /* RCPT */
    {"lost at RCPT", QUEUE_STAGE_RCPT, NULL, QUEUE_OUTCOME_RETRY, false},
    {"4xx RCPT", QUEUE_STAGE_RCPT, "451 4.7.1 greylisted", QUEUE_OUTCOME_RETRY, false},
    {"5xx RCPT", QUEUE_STAGE_RCPT, "550 5.1.1 unknown", QUEUE_OUTCOME_FAILED, false},
    {"554 RCPT without code", QUEUE_STAGE_RCPT, "554 no", QUEUE_OUTCOME_FAILED, false},
    {"552 RCPT is 452", QUEUE_STAGE_RCPT, "552 too many", QUEUE_OUTCOME_RETRY, true},
    {"552 5.5.3 RCPT is 452", QUEUE_STAGE_RCPT, "552 5.5.3 many", QUEUE_OUTCOME_RETRY, true},
    {"552 5.2.2 RCPT", QUEUE_STAGE_RCPT, "552 5.2.2 full", QUEUE_OUTCOME_FAILED, false},
    {"552 5.3.4 RCPT", QUEUE_STAGE_RCPT, "552 5.3.4 too big", QUEUE_OUTCOME_FAILED, false},
    {"452 RCPT", QUEUE_STAGE_RCPT, "452 4.5.3 too many", QUEUE_OUTCOME_RETRY, true},
    {"452 4.2.2 RCPT", QUEUE_STAGE_RCPT, "452 4.2.2 mailbox full", QUEUE_OUTCOME_RETRY, false},
    /* DATA and its end */
    {"lost at DATA", QUEUE_STAGE_DATA, NULL, QUEUE_OUTCOME_RETRY, false},
    {"5xx DATA", QUEUE_STAGE_DATA, "554 5.5.1 no", QUEUE_OUTCOME_FAILED, false},
    {"4xx DATA", QUEUE_STAGE_DATA, "451 4.3.0 later", QUEUE_OUTCOME_RETRY, false},
    {"2xx DATA", QUEUE_STAGE_DATA, "250 2.0.0 what", QUEUE_OUTCOME_RETRY, false},
    {"lost at the end", QUEUE_STAGE_END, NULL, QUEUE_OUTCOME_RETRY, false},
    {"2xx at the end", QUEUE_STAGE_END, "250 2.0.0 ok", QUEUE_OUTCOME_DELIVERED, false},
    {"4xx at the end", QUEUE_STAGE_END, "451 4.7.1 later", QUEUE_OUTCOME_RETRY, false},
    {"5xx at the end", QUEUE_STAGE_END, "550 5.7.1 spam", QUEUE_OUTCOME_FAILED, false},
    {"552 at the end", QUEUE_STAGE_END, "552 too big", QUEUE_OUTCOME_FAILED, false},
};

static void test_outcomes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mail_reply reply = {0};
        if (cases[i].reply != NULL && !mail_reply_parse(str_c(cases[i].reply), &reply))
            fail_msg("%s: not a reply", cases[i].name);
        if (queue_outcome_of(cases[i].stage, &reply) != cases[i].outcome)
            fail_msg("%s: outcome %d", cases[i].name, queue_outcome_of(cases[i].stage, &reply));
        if (queue_outcome_too_many(cases[i].stage, &reply) != cases[i].too_many)
            fail_msg("%s: too many", cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outcomes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
