/* SPDX-License-Identifier: Apache-2.0 */
/* Maps: keys that fit a slot and keys that do not, growth, removal, walking. */
#include "base/map.h"

#include "base/test.h"

#include <stdio.h>
#include <string.h>

enum { MANY = 5000 };

/* Lengths 0 to 39, so on both sides of what a slot holds. */
static struct str make_key(size_t number, char space[64])
{
    static const char filler[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrs";
    int len = snprintf(space, 64, "%zu%.*s", number, (int)(number % 36), filler);
    return (struct str){space, (size_t)len};
}

static void *value_of(size_t number)
{
    static char values[MANY];
    return &values[number];
}

static void put_and_get(void **state)
{
    (void)state;
    struct map map;
    char space[64];
    map_init(&map);
    assert_null(map_get(&map, STR("nothing")));
    assert_null(map_put(&map, STR_EMPTY, value_of(0)));
    assert_ptr_equal(map_get(&map, STR_EMPTY), value_of(0));
    for (size_t i = 1; i < MANY; i++)
        assert_null(map_put(&map, make_key(i, space), value_of(i)));
    for (size_t i = 1; i < MANY; i++)
        assert_ptr_equal(map_get(&map, make_key(i, space)), value_of(i));
    assert_ptr_equal(map_put(&map, make_key(7, space), value_of(8)), value_of(7));
    assert_ptr_equal(map_get(&map, make_key(7, space)), value_of(8));
    assert_int_equal(map.count, MANY);
    map_done(&map);
}

static void remove_and_put_again(void **state)
{
    (void)state;
    struct map map;
    char space[64];
    map_init(&map);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < MANY; i++)
            assert_null(map_put(&map, make_key(i, space), value_of(i)));
        for (size_t i = 0; i < MANY; i++)
            assert_ptr_equal(map_remove(&map, make_key(i, space)), value_of(i));
        assert_null(map_remove(&map, make_key(3, space)));
        assert_int_equal(map.count, 0);
    }
    assert_true(map.cap <= 4 * MANY); /* what was removed does not make it grow */
    map_done(&map);
}

static void keys_that_differ_at_the_end(void **state)
{
    (void)state;
    struct map map;
    map_init(&map);
    map_put(&map, STR("0123456789abcdef"), value_of(1));  /* fits just */
    map_put(&map, STR("0123456789abcdefg"), value_of(2)); /* does not */
    map_put(&map, str_of("0123456789abcde\0", 16), value_of(3));
    assert_ptr_equal(map_get(&map, STR("0123456789abcdef")), value_of(1));
    assert_ptr_equal(map_get(&map, STR("0123456789abcdefg")), value_of(2));
    assert_ptr_equal(map_get(&map, str_of("0123456789abcde\0", 16)), value_of(3));
    assert_null(map_get(&map, STR("0123456789abcde")));
    map_done(&map);
}

static void walk_and_remove(void **state)
{
    (void)state;
    struct map map;
    char space[64];
    bool seen[MANY] = {false};
    map_init(&map);
    for (size_t i = 0; i < MANY; i++)
        map_put(&map, make_key(i, space), value_of(i));
    size_t cursor = 0, count = 0;
    struct str key;
    void *value;
    while (map_next(&map, &cursor, &key, &value)) {
        size_t number = (size_t)((char *)value - (char *)value_of(0));
        assert_true(str_equal(key, make_key(number, space)));
        assert_false(seen[number]);
        seen[number] = true;
        count++;
        assert_ptr_equal(map_remove(&map, make_key(number, space)), value);
    }
    assert_int_equal(count, MANY);
    assert_int_equal(map.count, 0);
    map_done(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_and_get),
        cmocka_unit_test(remove_and_put_again),
        cmocka_unit_test(keys_that_differ_at_the_end),
        cmocka_unit_test(walk_and_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
