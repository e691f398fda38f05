/* SPDX-License-Identifier: Apache-2.0 */
/* queue/slab_test.c - items of many sizes come and go: none overlaps, numbers lead back. */
#include "queue/slab.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ITEMS = 20000 };

struct item {
    unsigned char *bytes;
    size_t size;
    uint32_t number;
    unsigned char mark;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 8;
}

/* Mostly small, as entries are; some have many recipients. */
static size_t size_of(unsigned random)
{
    return 1 + (random % 64 == 0 ? random / 64 % 40000 : random / 64 % 300);
}

static void fill(struct queue_slab *slab, struct item *item, size_t size, unsigned char mark)
{
    item->bytes = queue_slab_take(slab, size);
    item->size = size;
    item->mark = mark;
    item->number = queue_slab_number(item->bytes);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(item->bytes[i], 0);
    memset(item->bytes, mark, size);
    assert_int_not_equal(item->number, 0);
    assert_true((uintptr_t)item->bytes % 8 == 0);
}

static void look(const struct queue_slab *slab, const struct item *item)
{
    assert_ptr_equal(queue_slab_at(slab, item->number), item->bytes);
    assert_ptr_equal(queue_slab_owner(item->bytes), &slab->items);
    for (size_t i = 0; i < item->size; i++)
        assert_int_equal(item->bytes[i], item->mark);
}

static size_t blocks(const struct queue_slab *slab)
{
    size_t count = 0;
    for (uint32_t i = 0; i < slab->block_count; i++)
        count += slab->blocks[i] != NULL;
    return count;
}

static void test_come_and_go(void **state)
{
    (void)state;
    struct queue_slab slab;
    unsigned seed = 1;
    struct item *items = memory_alloc_array(ITEMS, sizeof *items);
    queue_slab_init(&slab, &slab.items);
    for (size_t round = 0; round < 4; round++) {
        for (size_t i = 0; i < ITEMS; i++)
            if (items[i].bytes == NULL)
                fill(&slab, &items[i], size_of(next_random(&seed)), (unsigned char)(i | 1));
        for (size_t i = 0; i < ITEMS; i++)
            look(&slab, &items[i]);
        for (size_t i = 0; i < ITEMS; i++)
            if (next_random(&seed) % 3 != 0)
                queue_slab_give(take(items[i].bytes));
    }
    for (size_t i = 0; i < ITEMS; i++)
        if (items[i].bytes != NULL)
            queue_slab_give(take(items[i].bytes));
    assert_int_equal(slab.items, 0);
    assert_true(blocks(&slab) <= 8); /* some may stay */
    queue_slab_settle(&slab);
    assert_int_equal(blocks(&slab), 0);
    fill(&slab, &items[0], 200, 1);
    queue_slab_settle(&slab);
    look(&slab, &items[0]);
    queue_slab_give(items[0].bytes);
    queue_slab_done(&slab);
    free(items);
}

static void test_large_ones(void **state)
{
    static const size_t sizes[] = {1024, 1025, 33792, 33793, 262144 - 64, 262144, 1 << 20};
    struct queue_slab slab;
    struct item items[sizeof sizes / sizeof *sizes];
    (void)state;
    queue_slab_init(&slab, &slab.items);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill(&slab, &items[i], sizes[i], (unsigned char)(i + 1));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        look(&slab, &items[i]);
        queue_slab_give(items[i].bytes);
    }
    assert_int_equal(blocks(&slab), 3); /* of the classes */
    queue_slab_done(&slab);
}

/* What is given back is used again before more is asked of the system. */
static void test_does_not_grow(void **state)
{
    struct queue_slab slab;
    struct item *items = memory_alloc_array(ITEMS, sizeof *items);
    (void)state;
    queue_slab_init(&slab, &slab.items);
    for (size_t i = 0; i < ITEMS; i++)
        fill(&slab, &items[i], 200, 1);
    size_t before = blocks(&slab);
    assert_true(before <= (size_t)ITEMS * 200 / (256 * 1024 - 300) + 1);
    for (size_t round = 0; round < 10; round++)
        for (size_t i = round; i < ITEMS; i += 7) {
            queue_slab_give(items[i].bytes);
            fill(&slab, &items[i], 200, 1);
        }
    assert_int_equal(blocks(&slab), before);
    for (size_t i = 0; i < ITEMS; i++)
        queue_slab_give(items[i].bytes);
    assert_int_equal(blocks(&slab), 1);
    queue_slab_done(&slab);
    free(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_and_go),
        cmocka_unit_test(test_large_ones),
        cmocka_unit_test(test_does_not_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
