/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/fair.h"
#include "queue/schedule.h"
#include "queue/shares.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    struct queue_fair_item fair;
    char sender;
};

static void add(struct queue_fair *fair, struct item *items, size_t count, char sender,
                uint64_t size)
{
    for (size_t i = 0; i < count; i++) {
        items[i] = (struct item){.sender = sender};
        list_init(&items[i].fair.link);
        queue_fair_add(fair, &items[i].fair, str_of(&sender, 1), size);
    }
}

static char next(struct queue_fair *fair)
{
    struct queue_fair_item *item = queue_fair_next(fair);
    return item == NULL ? 0 : CONTAINER(item, struct item, fair)->sender;
}

/* Somebody with a thousand messages delays another by one turn of 16. */
static void test_turns(void **state)
{
    struct queue_fair fair;
    struct item many[100], few[3];
    (void)state;
    queue_fair_init(&fair, NULL);
    add(&fair, many, 100, 'm', 1000);
    add(&fair, few, 3, 'f', 1000);
    for (int i = 0; i < QUEUE_FAIR_MESSAGES; i++)
        assert_int_equal(next(&fair), 'm');
    for (int i = 0; i < 3; i++)
        assert_int_equal(next(&fair), 'f');
    for (int i = 0; i < 100 - QUEUE_FAIR_MESSAGES; i++)
        assert_int_equal(next(&fair), 'm');
    assert_int_equal(next(&fair), 0);
    queue_fair_done(&fair);
}

/* By bytes both get the same, whatever the size of their messages. */
static void test_bytes(void **state)
{
    struct queue_fair fair;
    struct item large[20], small[400];
    unsigned larges = 0, smalls = 0;
    (void)state;
    queue_fair_init(&fair, NULL);
    add(&fair, large, 20, 'l', 4 << 20);
    add(&fair, small, 400, 's', 64 << 10);
    for (int i = 0; i < 200; i++) {
        if (next(&fair) == 'l')
            larges++;
        else
            smalls++;
    }
    assert_in_range(larges, 2, 5); /* 4 MiB for 64 small ones of 64K */
    assert_in_range(smalls, 195, 198);
    while (next(&fair) != 0)
        ;
    queue_fair_done(&fair);
}

static void test_remove(void **state)
{
    struct queue_fair fair;
    struct item items[3];
    (void)state;
    queue_fair_init(&fair, NULL);
    add(&fair, items, 3, 'x', 1);
    queue_fair_remove(&fair, &items[1].fair);
    queue_fair_remove(&fair, &items[1].fair);
    assert_int_equal(fair.count, 2);
    assert_ptr_equal(queue_fair_next(&fair), &items[0].fair);
    assert_ptr_equal(queue_fair_next(&fair), &items[2].fair);
    assert_null(queue_fair_next(&fair));
    queue_fair_done(&fair);
}

/* Two workers, one share of what both send: a is on both, b on one of them. */
static void test_turns_over_workers(void **state)
{
    enum { EACH = 400 };
    struct queue_fair fairs[2];
    struct item *items = memory_alloc_array(3 * EACH, sizeof *items);
    struct queue_shares *shares = queue_shares_new();
    int sent[2] = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        queue_fair_init(&fairs[i], shares);
        add(&fairs[i], items + i * EACH, EACH, 'a', 4096);
        assert_true(queue_fair_is_owed(&fairs[i]));
    }
    for (int i = 0; i < 100; i++) /* a alone: nothing that he would have to pay for */
        (void)queue_fair_next(&fairs[i % 2]);
    add(&fairs[1], items + 2 * EACH, EACH, 'b', 4096);
    for (int i = 0; i < 400; i++) {
        struct queue_fair_item *item = queue_fair_next(&fairs[i % 2]);
        sent[CONTAINER(item, struct item, fair)->sender - 'a']++;
        assert_true(abs(sent[0] - sent[1]) <= 2 * QUEUE_FAIR_MESSAGES + 2);
    }
    /* where only a has mail it is sent all the same, but the connection is others' first */
    for (int i = 0; i < 40; i++)
        assert_non_null(queue_fair_next(&fairs[0]));
    assert_false(queue_fair_is_owed(&fairs[0]));
    assert_true(queue_fair_is_owed(&fairs[1]));
    for (int i = 0; i < 2; i++) {
        while (queue_fair_next(&fairs[i]) != NULL)
            ;
        queue_fair_done(&fairs[i]);
    }
    queue_shares_free(shares);
    free(items);
}

static void test_schedule(void **state)
{
    enum { COUNT = 1000 };
    struct queue_schedule schedule;
    struct queue_slab slab;
    struct queue_due *dues[COUNT];
    (void)state;
    queue_slab_init(&slab, NULL);
    queue_schedule_init(&schedule, &slab);
    for (int i = 0; i < COUNT; i++)
        dues[i] = queue_slab_take(&slab, sizeof *dues[i]);
    srand(7);
    for (int i = 0; i < COUNT; i++)
        queue_schedule_set(&schedule, dues[i], rand() % 500);
    for (int i = 0; i < COUNT; i += 3) /* moved */
        queue_schedule_set(&schedule, dues[i], rand() % 500);
    for (int i = 1; i < COUNT; i += 3) /* gone */
        queue_schedule_remove(&schedule, dues[i]);
    int64_t last_ns = 0;
    size_t count = 0;
    struct queue_due *first;
    while ((first = queue_schedule_first(&schedule)) != NULL) {
        assert_true(first->due_ns >= last_ns);
        last_ns = first->due_ns;
        queue_schedule_remove(&schedule, first);
        assert_int_equal(first->index, 0);
        count++;
    }
    assert_int_equal(count, COUNT - COUNT / 3);
    queue_schedule_done(&schedule);
    for (int i = 0; i < COUNT; i++)
        queue_slab_give(dues[i]);
    queue_slab_done(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),    cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_remove),   cmocka_unit_test(test_turns_over_workers),
        cmocka_unit_test(test_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
