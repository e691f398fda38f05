/* SPDX-License-Identifier: Apache-2.0 */
/* Whose content run is next: flows take turns, and none fills all the places. */
#include "base/test.h"

#include "base/memory.h"
#include "queue/worker.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 2 * QUEUE_CONTENT_RUNS };

struct scene {
    struct queue_worker worker;
    struct queue_entry *entries;
};

static void open_scene(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    list_init(&scene->worker.content_flows);
    scene->entries = memory_alloc_array(ENTRIES, sizeof *scene->entries);
    for (size_t i = 0; i < ENTRIES; i++)
        list_init(&scene->entries[i].in_content);
}

static void close_scene(struct scene *scene)
{
    queue_content_flows_free(&scene->worker);
    free(scene->entries);
}

static long next(struct scene *scene, struct queue_content_turn *out_turn)
{
    if (!queue_content_next(&scene->worker, out_turn))
        return -1;
    return out_turn->entry - scene->entries;
}

static void test_turns(void **unused)
{
    struct scene scene;
    struct queue_content_turn turns[6];
    static const long order[] = {0, 3, 5, 1, 4, 2};
    (void)unused;
    open_scene(&scene);
    assert_false(queue_content_is_ready(&scene.worker));
    for (size_t i = 0; i < 6; i++)
        queue_content_wait(&scene.worker, &scene.entries[i],
                           i < 3   ? STR("a")
                           : i < 5 ? STR("b")
                                   : STR("c"));
    for (size_t i = 0; i < 6; i++) {
        assert_true(queue_content_is_ready(&scene.worker));
        assert_int_equal(next(&scene, &turns[i]), order[i]);
    }
    assert_false(queue_content_is_ready(&scene.worker));
    for (size_t i = 0; i < 6; i++)
        queue_content_ended(&scene.worker, &turns[i]);
    assert_true(list_is_empty(&scene.worker.content_flows));
    close_scene(&scene);
}

static void test_a_slow_flow_leaves_places(void **unused)
{
    struct scene scene;
    struct queue_content_turn slow, quick;
    size_t running = 0;
    (void)unused;
    open_scene(&scene);
    for (size_t i = 0; i + 1 < ENTRIES; i++)
        queue_content_wait(&scene.worker, &scene.entries[i], STR("slow"));
    while (queue_content_is_ready(&scene.worker))
        assert_int_equal(next(&scene, &slow), (long)running++);
    assert_true(running > QUEUE_CONTENT_RUNS / 2 && running < QUEUE_CONTENT_RUNS);
    assert_int_equal(next(&scene, &quick), -1);
    queue_content_wait(&scene.worker, &scene.entries[ENTRIES - 1], STR("quick"));
    assert_int_equal(next(&scene, &quick), ENTRIES - 1);
    queue_content_ended(&scene.worker, &quick);
    queue_content_ended(&scene.worker, &slow);
    assert_int_equal(next(&scene, &slow), (long)running);
    close_scene(&scene);
}

/* An operator takes away what waits. */
static void test_taken_out(void **unused)
{
    struct scene scene;
    struct queue_content_turn turn;
    (void)unused;
    open_scene(&scene);
    for (size_t i = 0; i < 3; i++)
        queue_content_wait(&scene.worker, &scene.entries[i], STR("a"));
    list_remove(&scene.entries[0].in_content);
    list_remove(&scene.entries[2].in_content);
    assert_int_equal(next(&scene, &turn), 1);
    assert_false(queue_content_is_ready(&scene.worker));
    queue_content_ended(&scene.worker, &turn);
    close_scene(&scene);
}

static void test_large_messages(void **unused)
{
    struct scene scene;
    struct queue_content_turn turns[8], other;
    const uint64_t mib = UINT64_C(1) << 20;
    (void)unused;
    open_scene(&scene);
    for (size_t i = 0; i < 8; i++) {
        scene.entries[i].ready.size = 50 * mib;
        queue_content_wait(&scene.worker, &scene.entries[i], STR("large"));
    }
    for (long i = 0; i < 3; i++)
        assert_int_equal(next(&scene, &turns[i]), i);
    assert_int_equal(next(&scene, &turns[3]), -1);
    queue_content_wait(&scene.worker, &scene.entries[8], STR("small"));
    assert_int_equal(next(&scene, &other), 8);
    queue_content_ended(&scene.worker, &turns[0]);
    assert_int_equal(next(&scene, &turns[0]), 3);
    /* one that is larger than all of it counts for what a flow may hold of it */
    scene.entries[9].ready.size = 1000 * mib;
    queue_content_wait(&scene.worker, &scene.entries[9], STR("huge"));
    assert_int_equal(next(&scene, &turns[3]), 9);
    for (size_t i = 4; i < 8; i++)
        list_remove(&scene.entries[i].in_content);
    for (size_t i = 0; i < 4; i++)
        queue_content_ended(&scene.worker, &turns[i]);
    queue_content_ended(&scene.worker, &other);
    assert_int_equal(scene.worker.content_bytes, 0);
    close_scene(&scene);
}

/* However many flows there are, together they hold no more than 256 MiB. */
static void test_large_messages_of_many_flows(void **unused)
{
    struct scene scene;
    struct queue_content_turn turns[5];
    static const char *const flows[] = {"a", "b", "c", "d", "e"};
    (void)unused;
    open_scene(&scene);
    for (size_t i = 0; i < 5; i++) {
        scene.entries[i].ready.size = UINT64_C(64) << 20;
        queue_content_wait(&scene.worker, &scene.entries[i], str_c(flows[i]));
    }
    for (long i = 0; i < 4; i++)
        assert_int_equal(next(&scene, &turns[i]), i);
    assert_false(queue_content_is_ready(&scene.worker));
    assert_int_equal(next(&scene, &turns[4]), -1);
    queue_content_ended(&scene.worker, &turns[1]);
    assert_int_equal(next(&scene, &turns[1]), 4);
    for (size_t i = 0; i < 4; i++)
        queue_content_ended(&scene.worker, &turns[i]);
    assert_int_equal(scene.worker.content_bytes, 0);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_a_slow_flow_leaves_places),
        cmocka_unit_test(test_taken_out),
        cmocka_unit_test(test_large_messages),
        cmocka_unit_test(test_large_messages_of_many_flows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
