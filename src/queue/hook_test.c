/* SPDX-License-Identifier: Apache-2.0 */
/* queue/hook_test.c - what is said before and after an attempt comes true, and the books agree. */
#include "queue/queue_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a world whose transport has a script ---- */

static void open_world(struct world *world, void (*hook)(struct world *, struct queue_hook *),
                       bool before, bool after)
{
    world_init(world, 1);
    for (size_t i = 0; i < 4; i++)
        world->delays[i] = 3600 * NS_PER_S;
    world->hook = hook;
    world->transports[0].script.file = STR("/script.lua");
    if (before)
        world->transports[0].script.before = STR("before");
    if (after)
        world->transports[0].script.after = STR("after");
    world_start(world);
}

static void close_world(struct world *world)
{
    world_stop(world);
    world_done(world);
}

static void send_to(struct world *world, const char *to, const char *also)
{
    struct error err;
    struct letter letter = {.to = {to, also}, .from = "ok-me@example.org"};
    if (world_submit(world, &letter, &err) == FAILED)
        fail_msg("submit: %s", err.text);
}

static void list_one(struct world *world, struct arena *arena, struct queue_item *out)
{
    struct queue_list list;
    struct error err;
    assert_int_equal(
        queue_list(world->queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    assert_int_equal(list.count, 1);
    *out = list.items[0];
}

/* ---- before ---- */

static void say_next(struct world *world, struct queue_hook *hook)
{
    (void)world, (void)hook;
}

static void test_nothing_changes(void **state)
{
    struct world world;
    (void)state;
    open_world(&world, say_next, true, true);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(world.hooks, 2);
    close_world(&world);
}

static void test_functions_that_are_not_named_are_not_asked(void **state)
{
    struct world world;
    (void)state;
    open_world(&world, say_next, false, false);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(world.hooks, 0);
    close_world(&world);
}

static void say_defer(struct world *world, struct queue_hook *hook)
{
    (void)world;
    hook->verdict = QUEUE_HOOK_DEFER;
    hook->delay_ns = 7200 * NS_PER_S;
    hook->said = mail_reply_of(451, 4, 3, 2, STR("not at night"));
}

static void test_before_puts_off(void **state)
{
    struct world world;
    struct queue_item item;
    struct arena *arena = arena_new(0);
    (void)state;
    open_world(&world, say_defer, true, true);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).waiting == 1);
    list_one(&world, arena, &item);
    assert_int_equal(item.attempts, 1);
    assert_true(item.next_try_wall_ns - item.last_try_wall_ns >= 7199 * NS_PER_S);
    assert_non_null(strstr(arena_c(arena, item.last_error), "not at night"));
    assert_int_equal(sink_connections(world.sink), 0);
    assert_int_equal(world.hooks, 1); /* nothing was attempted, so there is no after */
    arena_free(arena);
    close_world(&world);
}

static void say_reject(struct world *world, struct queue_hook *hook)
{
    (void)world;
    hook->verdict = QUEUE_HOOK_REJECT;
}

static void test_before_gives_up(void **state)
{
    struct world world;
    (void)state;
    open_world(&world, say_reject, true, false);
    send_to(&world, "ok@example.net", NULL);
    /* the notification meets the rule, too */
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).failed_dsn, 1);
    assert_int_equal(totals(&world).delivered, 0);
    assert_int_equal(sink_connections(world.sink), 0);
    close_world(&world);
}

static void say_hold(struct world *world, struct queue_hook *hook)
{
    if (world->hooks == 1)
        hook->verdict = QUEUE_HOOK_HOLD;
}

static void test_before_holds(void **state)
{
    struct world world;
    struct queue_item item;
    struct error err;
    struct arena *arena = arena_new(0);
    (void)state;
    open_world(&world, say_hold, true, false);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).held == 1);
    list_one(&world, arena, &item);
    assert_int_equal(item.attempts, 0);
    struct queue_selector all = {.state = -1};
    struct queue_action_result result;
    struct queue_action action = {
        .verb = QUEUE_RELEASE, .actor = STR("admin"), .reason = STR("test")};
    assert_int_equal(queue_act(world.queue, &all, &action, &result, &err), OK);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1);
    arena_free(arena);
    close_world(&world);
}

/* ---- another server ---- */

static struct server backup;
static struct sink *backup_sink;

static void say_route(struct world *world, struct queue_hook *hook)
{
    if (hook->after || world->hooks > 1)
        return;
    hook->verdict = QUEUE_HOOK_ROUTE;
    hook->server = &backup;
}

static void test_before_sends_elsewhere(void **state)
{
    struct world world;
    (void)state;
    backup_sink = sink_new();
    backup = (struct server){.name = STR("backup"), .kind = SERVER_SMTP, .tls_given = true};
    struct server_endpoint endpoint = {.host = STR("127.0.0.1"), .port = sink_port(backup_sink)};
    backup.endpoints = &endpoint;
    backup.endpoint_count = 1;
    open_world(&world, say_route, true, true);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(is_settled(&world, 0));
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).delivered == 2 && is_settled(&world, 0));
    assert_int_equal(sink_taken(backup_sink), 1);
    assert_int_equal(sink_taken(world.sink), 1);
    close_world(&world);
    sink_free(backup_sink);
}

static unsigned failures(struct world *world)
{
    struct queue_places places;
    struct error err;
    struct arena *arena = arena_new(0);
    unsigned count = 0;
    assert_int_equal(
        queue_places(world->queue, &(struct queue_selector){.state = -1}, arena, &places, &err),
        OK);
    for (size_t i = 0; i < places.count; i++)
        count += places.items[i].failures;
    arena_free(arena);
    return count;
}

static void say_route_the_second(struct world *world, struct queue_hook *hook)
{
    if (hook->after || world->hooks != 2)
        return;
    hook->verdict = QUEUE_HOOK_ROUTE;
    hook->server = &backup;
}

/* That the other server takes mail does not say that the destination does again. */
static void test_elsewhere_is_up(void **state)
{
    struct world world;
    (void)state;
    backup_sink = sink_new();
    struct server_endpoint endpoint = {.host = STR("127.0.0.1"), .port = sink_port(backup_sink)};
    backup = (struct server){.name = STR("backup"), .kind = SERVER_SMTP, .tls_given = true};
    backup.endpoints = &endpoint;
    backup.endpoint_count = 1;
    open_world(&world, say_route_the_second, true, false);
    sink_set_greeting(world.sink, "421 not now");
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(failures(&world), 1);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).delivered == 1 && is_settled(&world, 1));
    assert_int_equal(sink_taken(backup_sink), 1);
    assert_int_equal(failures(&world), 1);
    close_world(&world);
    sink_free(backup_sink);
}

/* The other server is down: the destination has nothing to do with it. */
static void test_elsewhere_is_down(void **state)
{
    struct world world;
    (void)state;
    backup_sink = sink_new();
    struct server_endpoint endpoint = {.host = STR("127.0.0.1"), .port = sink_port(backup_sink)};
    sink_free(backup_sink);
    backup = (struct server){.name = STR("backup"), .kind = SERVER_SMTP, .tls_given = true};
    backup.endpoints = &endpoint;
    backup.endpoint_count = 1;
    open_world(&world, say_route, true, false);
    send_to(&world, "ok@example.net", NULL);
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(failures(&world), 0);
    close_world(&world);
}

/* ---- after ---- */

static void say_it_is_for_now(struct world *world, struct queue_hook *hook)
{
    (void)world;
    if (!hook->after)
        return;
    for (size_t i = 0; i < hook->recipient_count; i++)
        if (hook->recipients[i].outcome == QUEUE_HOOK_FAILED &&
            hook->recipients[i].reply.code == 550)
            hook->verdict = QUEUE_HOOK_DEFER;
    hook->delay_ns = 60 * NS_PER_S;
}

static void test_after_makes_a_refusal_one_for_now(void **state)
{
    struct world world;
    struct queue_item item;
    struct arena *arena = arena_new(0);
    (void)state;
    open_world(&world, say_it_is_for_now, false, true);
    send_to(&world, "ok@example.net", "never@example.net");
    WAIT_FOR(totals(&world).waiting == 1 && is_settled(&world, 1));
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(totals(&world).failed_dsn, 0);
    list_one(&world, arena, &item);
    assert_true(item.next_try_wall_ns - item.last_try_wall_ns < 3000 * NS_PER_S);
    arena_free(arena);
    close_world(&world);
}

static void say_it_is_for_good(struct world *world, struct queue_hook *hook)
{
    (void)world;
    if (hook->after && hook->recipients[0].outcome == QUEUE_HOOK_DEFERRED)
        hook->verdict = QUEUE_HOOK_REJECT;
}

static void test_after_makes_a_deferral_final(void **state)
{
    struct world world;
    (void)state;
    open_world(&world, say_it_is_for_good, false, true);
    sink_set_deferrals(world.sink, 1);
    send_to(&world, "later@example.net", NULL);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).failed_dsn, 1);
    close_world(&world);
}

static void say_hold_after(struct world *world, struct queue_hook *hook)
{
    (void)world;
    if (hook->after)
        hook->verdict = QUEUE_HOOK_HOLD;
}

static void test_after_holds_what_is_left(void **state)
{
    struct world world;
    (void)state;
    open_world(&world, say_hold_after, false, true);
    send_to(&world, "ok@example.net", "never@example.net");
    WAIT_FOR(totals(&world).held == 1 && is_settled(&world, 1));
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(totals(&world).failed_dsn, 0);
    close_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_changes),
        cmocka_unit_test(test_functions_that_are_not_named_are_not_asked),
        cmocka_unit_test(test_before_puts_off),
        cmocka_unit_test(test_before_gives_up),
        cmocka_unit_test(test_before_holds),
        cmocka_unit_test(test_before_sends_elsewhere),
        cmocka_unit_test(test_elsewhere_is_up),
        cmocka_unit_test(test_elsewhere_is_down),
        cmocka_unit_test(test_after_makes_a_refusal_one_for_now),
        cmocka_unit_test(test_after_makes_a_deferral_final),
        cmocka_unit_test(test_after_holds_what_is_left),
    };
    return cmocka_run_group_tests_name("queue-hook", tests, NULL, NULL);
}
