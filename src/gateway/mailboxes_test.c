/* SPDX-License-Identifier: Apache-2.0 */
/* Protected mailboxes: what is one, how long it counts, and what a restart leaves. */
#include "base/test.h"

#include "gateway/mailboxes.h"

#include "base/clock.h"
#include "fiber/test.h"
#include "state/keeper.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DAY_NS (INT64_C(86400) * NS_PER_S)

static char folder[64];

static int set_up(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof folder, "/tmp/mailboxes-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **unused)
{
    char command[96];
    (void)unused;
    clock_set_fake(-1, -1);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void set_day(int64_t day)
{
    clock_set_fake(day * DAY_NS + 5 * NS_PER_S, day * DAY_NS + 5 * NS_PER_S);
}

static void test_window(void **unused)
{
    (void)unused;
    struct mailboxes *mailboxes = mailboxes_new();
    set_day(20000);
    mailboxes_note(mailboxes, NULL, STR("Anna+news@Example.org"));
    mailboxes_note(mailboxes, NULL, STR("anna@example.org"));
    mailboxes_note(mailboxes, NULL, STR("bob@example.org"));
    assert_int_equal(mailboxes_count(mailboxes), 2);
    set_day(20029);
    mailboxes_note(mailboxes, NULL, STR("bob@example.org"));
    assert_int_equal(mailboxes_count(mailboxes), 2);
    set_day(20030);
    assert_int_equal(mailboxes_count(mailboxes), 1);
    mailboxes_free(mailboxes);
}

struct process {
    struct test_loop test;
    struct state *state;
    struct mailboxes *mailboxes;
};

static void process_start(struct process *process)
{
    char path[96];
    struct state_keeper *keeper;
    struct error err;
    bool aside;
    snprintf(path, sizeof path, "%s/state.db", folder);
    test_loop_open(&process->test, NULL);
    process->mailboxes = mailboxes_new();
    process->state = state_new(&process->test.loop, 1, 100);
    assert_int_equal(state_keeper_open_sqlite(path, &keeper, &aside, &err), OK);
    assert_int_equal(state_keep(process->state, keeper, mailboxes_take, process->mailboxes, &err),
                     OK);
    state_join(process->state, 0);
}

static void process_end(struct process *process)
{
    state_leave(process->state, 0);
    state_free(process->state);
    mailboxes_free(process->mailboxes);
    test_loop_close(&process->test);
}

static void test_restart(void **unused)
{
    struct process process;
    (void)unused;
    set_day(20000);
    process_start(&process);
    mailboxes_note(process.mailboxes, process.state, STR("Anna+x@example.org"));
    mailboxes_note(process.mailboxes, process.state, STR("bob@example.org"));
    state_keep_fact(process.state, STR("other:fact"), 20001 * INT64_C(86400000));
    process_end(&process);
    set_day(20010);
    process_start(&process);
    assert_int_equal(mailboxes_count(process.mailboxes), 2);
    mailboxes_note(process.mailboxes, process.state, STR("bob@example.org"));
    mailboxes_note(process.mailboxes, process.state, STR("carol@example.org"));
    assert_int_equal(mailboxes_count(process.mailboxes), 3);
    process_end(&process);
    set_day(20030); /* anna was not seen again */
    process_start(&process);
    assert_int_equal(mailboxes_count(process.mailboxes), 2);
    process_end(&process);
    set_day(20100);
    process_start(&process);
    assert_int_equal(mailboxes_count(process.mailboxes), 0);
    process_end(&process);
}

/* Days to come are nobody's (the clock was set back), and other facts are no mailboxes. */
static void test_odd_facts(void **unused)
{
    (void)unused;
    struct mailboxes *mailboxes = mailboxes_new();
    set_day(20000);
    mailboxes_take(STR("mailbox:a@b"), 20031 * INT64_C(86400000), mailboxes);
    mailboxes_take(STR("mailbox:a@b"), 0, mailboxes);
    mailboxes_take(STR("box:a@b"), 20010 * INT64_C(86400000), mailboxes);
    assert_int_equal(mailboxes_count(mailboxes), 0);
    mailboxes_take(STR("mailbox:a@b"), 20030 * INT64_C(86400000), mailboxes);
    assert_int_equal(mailboxes_count(mailboxes), 1);
    mailboxes_free(mailboxes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_facts, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
