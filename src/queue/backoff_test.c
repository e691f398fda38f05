/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for a destination that is backed off: nothing is done about each message, its clock
 * runs, and all of it flows when the probe goes through.
 */
#include "queue/queue_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEAD = 3 }; /* transport */

struct scene {
    struct world world;
    struct sink *dead; /* refuses in its greeting */
    struct server server;
};

static unsigned deferred, downs, ups; /* events */

static void count_event(const struct event *event, void *arg)
{
    (void)arg;
    deferred += event->type == EVENT_DELIVERY_DEFERRED;
    downs += event->type == EVENT_DESTINATION_BACKOFF;
    ups += event->type == EVENT_DESTINATION_UP;
}

static bool pause_and_count(void)
{
    (void)event_drain(count_event, NULL);
    usleep(1000);
    return true;
}

#define COUNT_UNTIL(condition)                                                                     \
    do {                                                                                           \
        unsigned turns_ = 0;                                                                       \
        while (!(condition))                                                                       \
            if (!pause_and_count() || ++turns_ > 20000)                                            \
                fail_msg("never came true: %s", #condition);                                       \
        (void)event_drain(count_event, NULL);                                                      \
    } while (0)

static void open_scene(struct scene *scene, int64_t delay_ns, size_t workers)
{
    struct world *world = &scene->world;
    world_init(world, workers);
    scene->dead = sink_new();
    sink_set_greeting(scene->dead, "554 5.3.2 Go away");
    scene->server = world->server;
    scene->server.name = STR("dead");
    scene->server.endpoints = NEW(struct server_endpoint);
    scene->server.endpoints[0] =
        (struct server_endpoint){.host = STR("127.0.0.1"), .port = sink_port(scene->dead)};
    struct transport *dead = &world->transports[DEAD];
    *dead = world->transports[0];
    dead->name = dead->server_name = STR("dead");
    dead->server = &scene->server;
    world->transport_count = DEAD + 1;
    for (size_t i = 0; i < 4; i++)
        world->delays[i] = delay_ns;
    (void)event_drain(count_event, NULL);
    deferred = downs = ups = 0;
}

static void close_scene(struct scene *scene)
{
    world_stop(&scene->world);
    world_done(&scene->world);
    sink_free(scene->dead);
    free(scene->server.endpoints);
}

static void send_to_dead(struct scene *scene, size_t count)
{
    world_submit_many(&scene->world,
                      &(struct letter){.to = {"ok@example.net"},
                                       .from = "ok-me@example.org",
                                       .transport = "dead"},
                      count);
}

/* Three in a row fail. */
static void back_off(struct scene *scene)
{
    for (size_t i = 1; i <= 3; i++) {
        send_to_dead(scene, 1);
        COUNT_UNTIL(totals(&scene->world).waiting == i && deferred >= i);
    }
    COUNT_UNTIL(downs > 0);
}

static size_t act(struct scene *scene, enum queue_verb verb, size_t limit)
{
    struct error err;
    struct queue_action_result result;
    struct queue_action action = {.verb = verb, .actor = STR("admin"), .reason = STR("test")};
    struct queue_selector selector = {.state = -1, .limit = limit};
    if (queue_act(scene->world.queue, &selector, &action, &result, &err) == FAILED)
        fail_msg("act: %s", err.text);
    return result.done;
}

static void list(struct scene *scene, struct arena *arena, struct queue_list *out)
{
    struct error err;
    struct queue_selector selector = {.state = -1, .limit = 1000};
    assert_int_equal(queue_list(scene->world.queue, &selector, arena, out, &err), OK);
}

/* A hundred come while it is backed off: no event, no attempt, no record; one probe, and they go.
 */
static void test_all_wait_for_one_probe(void **state)
{
    enum { MANY = 100 };
    struct scene scene;
    struct queue_list found;
    (void)state;
    open_scene(&scene, 3600 * NS_PER_S, 2);
    world_start(&scene.world);
    back_off(&scene);
    unsigned deferred_before = deferred;
    send_to_dead(&scene, MANY);
    COUNT_UNTIL(is_settled(&scene.world, 3 + MANY));
    assert_int_equal(totals(&scene.world).waiting, 3 + MANY);
    assert_int_equal(deferred, deferred_before);
    assert_int_equal(sink_connections(scene.dead), 3);
    struct arena *arena = arena_new(0);
    list(&scene, arena, &found);
    assert_int_equal(found.count, 3 + MANY);
    for (size_t i = 3; i < found.count; i++) {
        assert_int_equal(found.items[i].attempts, 0);
        assert_true(str_find_str(found.items[i].last_error, STR("Go away")) >= 0);
        assert_true(found.items[i].next_try_wall_ns > clock_wall_ns());
        assert_true(found.items[i].next_try_wall_ns < clock_wall_ns() + 60 * NS_PER_S);
    }
    arena_free(arena);
    /* a probe in vain is an attempt of one message */
    assert_int_equal(act(&scene, QUEUE_RETRY, 1), 1);
    COUNT_UNTIL(sink_connections(scene.dead) == 4 && downs >= 2 &&
                is_settled(&scene.world, 3 + MANY));
    assert_int_equal(deferred, deferred_before + 1);
    /* and one that goes through takes all that were due with it, though only one was asked for */
    sink_set_greeting(scene.dead, NULL);
    assert_true(act(&scene, QUEUE_RETRY, 1) >= 1);
    COUNT_UNTIL(totals(&scene.world).delivered >= MANY && totals(&scene.world).inflight == 0);
    assert_int_equal(ups, 1);
    assert_int_equal(deferred, deferred_before + 1);
    close_scene(&scene);
}

/* The last retry falls due while nothing is tried: the sender hears of it, with the last error. */
static void test_retries_run_out(void **state)
{
    struct scene scene;
    (void)state;
    open_scene(&scene, 100 * NS_PER_MS, 1);
    world_start(&scene.world);
    back_off(&scene);
    send_to_dead(&scene, 5);
    COUNT_UNTIL(is_settled(&scene.world, 0) && totals(&scene.world).delivered == 8);
    assert_int_equal(totals(&scene.world).failed_dsn, 8);
    assert_true(sink_connections(scene.dead) < 8); /* the first three may have had retries */
    char *text = sink_message_for(scene.world.sink, "ok-me@example.org");
    assert_non_null(text);
    assert_non_null(strstr(text, "Action: failed\r\n"));
    assert_non_null(strstr(text, "Go away"));
    free(text);
    close_scene(&scene);
}

/* So does the end of its life, and before that the delay is told of. */
static void test_life_ends(void **state)
{
    struct scene scene;
    (void)state;
    open_scene(&scene, 3600 * NS_PER_S, 1);
    scene.world.transports[DEAD].delay_after_ns = 300 * NS_PER_MS;
    scene.world.transports[DEAD].expire_ns = 900 * NS_PER_MS;
    world_start(&scene.world);
    back_off(&scene);
    send_to_dead(&scene, 1);
    COUNT_UNTIL(totals(&scene.world).delivered == 4); /* a notice each */
    char *text = sink_message_for(scene.world.sink, "ok-me@example.org");
    assert_non_null(text);
    assert_non_null(strstr(text, "Action: delayed\r\n"));
    free(text);
    COUNT_UNTIL(is_settled(&scene.world, 0) && totals(&scene.world).delivered == 8);
    assert_int_equal(totals(&scene.world).failed_dsn, 4);
    assert_int_equal(sink_connections(scene.dead), 3);
    close_scene(&scene);
}

static void steer(struct scene *scene, enum queue_steer_verb verb)
{
    struct error err;
    size_t count;
    struct queue_steer order = {.verb = verb,
                                .transport = STR("dead"),
                                .destination = STR_EMPTY,
                                .actor = STR("admin"),
                                .reason = STR("test")};
    if (queue_steer(scene->world.queue, &order, &count, &err) == FAILED)
        fail_msg("steer: %s", err.text);
}

/* While an operator pauses it no retry falls due; when he ends that, they do. */
static void test_paused_meanwhile(void **state)
{
    struct scene scene;
    (void)state;
    open_scene(&scene, 250 * NS_PER_MS, 1);
    world_start(&scene.world);
    back_off(&scene);
    send_to_dead(&scene, 5);
    steer(&scene, QUEUE_PAUSE);
    uint64_t left = totals(&scene.world).entries;
    for (unsigned i = 0; i < 1500; i++)
        (void)pause_and_count();
    assert_int_equal(totals(&scene.world).entries, left);
    assert_true(left >= 5);
    steer(&scene, QUEUE_RESUME);
    COUNT_UNTIL(is_settled(&scene.world, 0));
    assert_int_equal(totals(&scene.world).failed_dsn, 8);
    close_scene(&scene);
}

/* What an operator does with those that wait, and a restart in the middle. */
static void test_taken_out(void **state)
{
    struct scene scene;
    (void)state;
    open_scene(&scene, 3600 * NS_PER_S, 1);
    world_start(&scene.world);
    back_off(&scene);
    send_to_dead(&scene, 6);
    COUNT_UNTIL(is_settled(&scene.world, 9));
    assert_int_equal(act(&scene, QUEUE_DROP, 5), 5);
    COUNT_UNTIL(is_settled(&scene.world, 4));
    assert_int_equal(act(&scene, QUEUE_HOLD, 1), 1);
    COUNT_UNTIL(is_settled(&scene.world, 4) && totals(&scene.world).waiting == 3);
    world_stop(&scene.world);
    sink_set_greeting(scene.dead, NULL);
    world_start(&scene.world);
    COUNT_UNTIL(totals(&scene.world).delivered == 3);
    assert_int_equal(act(&scene, QUEUE_RELEASE, 0), 1);
    COUNT_UNTIL(is_settled(&scene.world, 0));
    assert_int_equal(totals(&scene.world).delivered, 4);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_wait_for_one_probe),
        cmocka_unit_test(test_retries_run_out),
        cmocka_unit_test(test_life_ends),
        cmocka_unit_test(test_paused_meanwhile),
        cmocka_unit_test(test_taken_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
