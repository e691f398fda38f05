/* SPDX-License-Identifier: Apache-2.0 */
/* What the heap holds and gives back. Where a sanitizer has its own, there is nothing to look at.
 */
#include "base/test.h"

#include "base/arena.h"
#include "base/memory.h"

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHER_MALLOC 1
#endif
#endif
#ifndef OTHER_MALLOC
#define OTHER_MALLOC 0
#endif

static void skip_with_other_malloc(void)
{
    if (OTHER_MALLOC)
        skip();
}

/* ---- an arena takes as much as it is expected to need ---- */

/* Heap that an arena of that bound takes for its first few bytes. */
static size_t cost_of(size_t max_bytes)
{
    enum { MANY = 100 };
    struct arena *arenas[MANY];
    size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < MANY; i++) {
        arenas[i] = arena_new(max_bytes);
        (void)arena_str(arenas[i], STR("mx.example.org"));
    }
    size_t after = mallinfo2().uordblks;
    for (size_t i = 0; i < MANY; i++)
        arena_free(arenas[i]);
    return (after - before) / MANY;
}

static void test_the_first_piece_of_an_arena(void **unused)
{
    static const struct {
        size_t max_bytes, least, most;
    } cases[] = {
        {0, 2048, 2300},       {(size_t)1 << 20, 2048, 2300}, {16 * 1024, 256, 500},
        {(size_t)1, 256, 500}, {200 * 1024, 800, 1000},
    };
    (void)unused;
    skip_with_other_malloc();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t cost = cost_of(cases[i].max_bytes);
        if (cost < cases[i].least || cost > cases[i].most)
            fail_msg("an arena of at most %zu bytes begins with %zu", cases[i].max_bytes, cost);
    }
}

/* A small first piece is no bound: what does not fit is put in others, whole and aligned. */
static void test_more_than_the_first_piece(void **unused)
{
    (void)unused;
    struct arena *arena = arena_new(16 * 1024);
    char *words[200];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 200; i++) {
            words[i] = arena_alloc(arena, i * 3);
            assert_int_equal((uintptr_t)words[i] % 16, 0);
            for (size_t k = 0; k < i * 3; k++) {
                assert_int_equal(words[i][k], 0);
                words[i][k] = (char)i;
            }
        }
        for (size_t i = 0; i < 200; i++)
            for (size_t k = 0; k < i * 3; k++)
                assert_int_equal(words[i][k], (char)i);
        assert_false(arena_has_room(arena, 1));
        arena_clear(arena);
        assert_int_equal(arena_used(arena), 0);
        assert_true(arena_has_room(arena, 16 * 1024));
    }
    arena_free(arena);
}

/* ---- the heap gives back ---- */

static size_t resident(void)
{
    size_t total, resident_pages;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &total, &resident_pages), 2);
    fclose(file);
    return resident_pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Large blocks are mapped on their own, so that each goes back when it is freed, whatever lies
 * around it: the C library would put them on the heap once it has seen one freed. */
static void test_tuned(void **unused)
{
    enum { LARGE = 300 * 1024, LARGER = 8 * 1024 * 1024 };
    (void)unused;
    skip_with_other_malloc();
    memory_tune();
    free(memory_alloc(LARGER)); /* what the C library learns from */
    size_t before = mallinfo2().hblks;
    char *blocks[10];
    for (size_t i = 0; i < 10; i++)
        blocks[i] = memory_alloc(LARGE);
    assert_int_equal(mallinfo2().hblks, before + 10);
    for (size_t i = 0; i < 10; i++)
        free(blocks[i]);
    assert_int_equal(mallinfo2().hblks, before);
}

/* A burst leaves holes between what stays; they go back when it is said that it is over. */
static void test_trimmed_after_a_burst(void **unused)
{
    enum { BLOCKS = 20000, SIZE = 2000, KEPT = 100 };
    (void)unused;
    skip_with_other_malloc();
    memory_tune();
    char **blocks = memory_alloc_array(BLOCKS, sizeof *blocks);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = memory_alloc(SIZE);
        memset(blocks[i], 'x', SIZE);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (i % KEPT)
            free(blocks[i]);
    size_t before = resident();
    memory_trim();
    size_t after = resident();
    if (before - after < (size_t)BLOCKS * SIZE / 2 || before < after)
        fail_msg("%zu bytes before and %zu after", before, after);
    for (size_t i = 0; i < BLOCKS; i += KEPT) {
        assert_int_equal(blocks[i][SIZE - 1], 'x');
        free(blocks[i]);
    }
    free(blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_piece_of_an_arena),
        cmocka_unit_test(test_more_than_the_first_piece),
        cmocka_unit_test(test_tuned),
        cmocka_unit_test(test_trimmed_after_a_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
