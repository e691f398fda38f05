/* SPDX-License-Identifier: Apache-2.0 */
/* queue/alike_test.c - what is alike, what it costs, and that nothing of it is lost. */
#include "queue/alike.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_cases(void **state)
{
    static const struct {
        const char *name, *base, *bytes;
        int size; /* packed; -1: not alike */
    } cases[] = {
        {"the same", "try again later", "try again later", 0},
        {"a log number", "4.7.1 try later: 3F2A91BC04", "4.7.1 try later: 9D00AA12E7", 12},
        {"of another length", "try later (ab12)", "try later (cd345678)", 10},
        {"without a digit", "queued as xYzAbCd here", "queued as AbCxYzQw here", 10},
        {"two of them", "id ab12 from <a@b.test> at mx.test", "id cd34 from <x@y.test> at mx.test",
         16},
        {"behind an equal one", "4.7.1 a 4.7.1 b 17", "4.7.1 a 4.7.1 b 18", 4},
        {"a host", "no answer of mx.one.test", "no answer of mx.other.test", 15},
        {"words", "try again later", "try again never", -1},
        {"a word more", "try 12 later", "try 12 later please", -1},
        {"a word less", "try 12 later please", "try 12 later", -1},
        {"a word is a number now", "try twice", "try 2", -1},
        {"a stop behind a word", "later. 12", "later! 13", -1},
        {"nothing", "", "12", -1},
        {"to nothing", "12", "", -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf packed BUF_CLEANUP, again BUF_CLEANUP;
        struct str base = str_c(cases[i].base), bytes = str_c(cases[i].bytes);
        buf_init(&packed, 1000);
        buf_init(&again, 1000);
        bool alike = queue_alike_pack(base, bytes, &packed);
        if (alike != (cases[i].size >= 0) || (alike && packed.len != (size_t)cases[i].size))
            fail_msg("%s: %d, %zu bytes", cases[i].name, alike, packed.len);
        if (alike)
            assert_true(queue_alike_hash(base) == queue_alike_hash(bytes));
        if (!alike || packed.len == 0)
            continue;
        buf_append(&packed, STR("junk"));
        queue_alike_unpack(base, buf_str(&packed), &again);
        if (!str_equal(buf_str(&again), bytes))
            fail_msg("%s: %.*s", cases[i].name, (int)again.len, again.ptr);
    }
}

/* Bytes of a small alphabet, so that chance makes many that are alike. */
static void test_any_bytes(void **state)
{
    static const char alphabet[] = "a1B. @\0\xff";
    unsigned seed = 7, alike = 0;
    (void)state;
    for (int round = 0; round < 200000; round++) {
        char texts[2][8];
        size_t lens[2];
        for (int i = 0; i < 2; i++) {
            seed = seed * 1103515245u + 12345u;
            lens[i] = seed >> 16 & 7;
            for (size_t k = 0; k < lens[i]; k++) {
                seed = seed * 1103515245u + 12345u;
                texts[i][k] = alphabet[seed >> 16 & 7];
            }
        }
        struct buf packed BUF_CLEANUP, again BUF_CLEANUP;
        struct str base = str_of(texts[0], lens[0]), bytes = str_of(texts[1], lens[1]);
        buf_init(&packed, 1000);
        buf_init(&again, 1000);
        if (!queue_alike_pack(base, bytes, &packed))
            continue;
        assert_true(queue_alike_hash(base) == queue_alike_hash(bytes));
        assert_true((packed.len == 0) == str_equal(base, bytes));
        if (packed.len == 0)
            continue;
        alike++;
        queue_alike_unpack(base, buf_str(&packed), &again);
        assert_true(str_equal(buf_str(&again), bytes));
    }
    assert_true(alike > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
