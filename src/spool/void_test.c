/* SPDX-License-Identifier: Apache-2.0 */
/* More syncs fail in a row than can be noted: files of which nothing counts, and that stay for now.
 */
#include "base/test.h"
#include "spool/test_tools.h"

#include "base/fault.h"
#include "event/event.h"

#include <errno.h>
#include <unistd.h>

static void note_left(const struct event *event, void *arg)
{
    bool *told = arg;
    for (unsigned i = 0; event->type == EVENT_SPOOL_ERROR && i < event->count; i++)
        *told = *told || (event->fields[i].key == KEY_ERROR &&
                          str_find_str(event->fields[i].text, STR("neither be removed")) >= 0);
}

static NO_YIELD_CHECK void commit_until_taken(void *arg)
{
    struct test_fixture *fixture = arg;
    struct error err = {0};
    bool told = false;
    (void)event_drain(note_left, &told);
    told = false;
    assert_int_equal(test_add(fixture->spool, 0, 10, &err), OK);
    fault_arm("spool.unlink", 1, 100000, EIO);
    fault_arm("spool.batch", 1, 100000, EIO);
    assert_int_equal(test_add(fixture->spool, 1, 10, &err), FAILED);
    for (int turns = 0; !told; turns++) {
        assert_true(turns < 20000);
        usleep(1000);
        (void)event_drain(note_left, &told);
    }
    fault_disarm_all();
    for (int turns = 0; test_add(fixture->spool, 2, 10, &err) != OK; turns++) {
        assert_true(turns < 20000);
        usleep(1000);
    }
}

/* So many syncs fail in a row that not all can be noted, and a void file cannot be removed: that is
 * told, and it goes as soon as it can. What was refused stays so. */
static void test_void_files_go_later(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(commit_until_taken, fixture);
    size_t kept = 0;
    for (int turns = 0; turns == 0 || kept > 8; turns++) { /* those made ahead, and what was used */
        assert_true(turns < 20000);
        usleep(1000);
        kept = test_files_in(fixture->path, "log");
    }
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 2);
    assert_true(test_find(&fixture->found, test_id(0)) >= 0);
    assert_true(test_find(&fixture->found, test_id(2)) >= 0);
}

struct errors {
    unsigned failed; /* batches */
    bool told;       /* of a file that stays */
};

static void count_errors(const struct event *event, void *arg)
{
    struct errors *errors = arg;
    errors->failed += event->type == EVENT_SPOOL_ERROR;
    note_left(event, &errors->told);
}

static NO_YIELD_CHECK void fail_often(void *arg)
{
    enum { OFTEN = 22 }; /* more than can be noted */
    struct test_fixture *fixture = arg;
    struct errors errors = {0};
    struct error err = {0};
    (void)event_drain(count_errors, &errors);
    errors = (struct errors){0};
    fault_arm("spool.unlink", 1, 1, EIO);
    fault_arm("spool.batch", 1, OFTEN, EIO);
    assert_int_equal(test_add(fixture->spool, 1, 10, &err), FAILED);
    for (int turns = 0; test_add(fixture->spool, 2, 10, &err) != OK; turns++) {
        assert_true(turns < 20000);
        usleep(1000);
    }
    (void)event_drain(count_errors, &errors);
    assert_true(errors.failed >= OFTEN);
    assert_int_equal(fault_hit("spool.unlink"), 0); /* it has failed once */
    assert_false(errors.told);
    fault_disarm_all();
}

/* One that cannot be removed is noted in the place of another like it, which goes instead. */
static void test_another_void_file_goes_instead(void **state)
{
    struct test_fixture *fixture = *state;
    test_on_fiber(fail_often, fixture);
    test_reopen(fixture);
    assert_int_equal(fixture->found.count, 1);
    assert_true(test_find(&fixture->found, test_id(2)) >= 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, test_set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_void_files_go_later),
        CASE(test_another_void_file_goes_instead),
    };
    return cmocka_run_group_tests_name("spool-void", tests, NULL, NULL);
}
