/* SPDX-License-Identifier: Apache-2.0 */
/* Mail of an account that is contained, in every state that an entry can have: held, and nobody is
 * told; what was released goes on. */
#include "queue/queue_test.h"

#include <stdio.h>
#include <string.h>

static struct queue_action_result act(struct world *world, enum queue_verb verb,
                                      struct queue_selector selector)
{
    struct error err;
    struct queue_action_result result;
    struct queue_action action = {.verb = verb,
                                  .hold_reason = MAIL_REASON_CONTAINED,
                                  .actor = STR("admin"),
                                  .reason = STR("test")};
    if (queue_act(world->queue, &selector, &action, &result, &err) == FAILED)
        fail_msg("act: %s", err.text);
    return result;
}

/* As the gateway does it: first it counts, then what waits is held. */
static size_t contain(struct world *world)
{
    atomic_store(&world->account, QUEUE_ACCOUNT_CONTAINED);
    return act(world, QUEUE_HOLD, (struct queue_selector){.user = STR("SENDER"), .state = -1}).done;
}

static struct queue_action_result end_it(struct world *world, enum queue_verb verb)
{
    struct error err;
    atomic_store(&world->account, QUEUE_ACCOUNT_SETTLING);
    struct queue_action_result result =
        act(world, verb,
            (struct queue_selector){
                .user = STR("sender"), .state = QUEUE_HELD, .held_reason = MAIL_REASON_CONTAINED});
    assert_int_equal(queue_flush(world->queue, &err), OK);
    atomic_store(&world->account, QUEUE_ACCOUNT_FREE);
    return result;
}

static bool all_held(struct world *world, uint64_t recipients)
{
    struct queue_totals now = totals(world);
    return now.held + now.quarantined == recipients && now.ready == 0 && now.waiting == 0 &&
           now.inflight == 0 && queue_balance(&now) == 0;
}

static bool is_empty(struct world *world)
{
    struct queue_totals now = totals(world);
    return now.entries == 0 && queue_balance(&now) == 0;
}

static void end(struct world *world)
{
    world_stop(world);
    world_done(world);
}

/* It waits for its next try, or came after the account was contained, or came before a stop. */
static void test_waiting(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 2);
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 3600 * NS_PER_S;
    sink_set_deferrals(world.sink, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}});
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(contain(&world), 1);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .worker = 1});
    WAIT_FOR(all_held(&world, 2));
    assert_int_equal(totals(&world).quarantined, 0);
    world_stop(&world);
    world_start(&world);
    WAIT_FOR(all_held(&world, 2));
    /* neither goes on, nor is anybody told, while the account is contained */
    assert_int_equal(act(&world, QUEUE_RELEASE, (struct queue_selector){.state = -1}).done, 0);
    assert_int_equal(act(&world, QUEUE_FAIL, (struct queue_selector){.state = -1}).done, 0);
    assert_int_equal(sink_taken(world.sink), 0);
    assert_int_equal(end_it(&world, QUEUE_RELEASE).done, 2);
    WAIT_FOR(is_empty(&world));
    assert_int_equal(sink_taken(world.sink), 2);
    assert_int_equal(totals(&world).delivered, 2);
    end(&world);
}

/* The records of the hold never came to the disk: the account is asked about again. */
static void test_found(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 3600 * NS_PER_S;
    sink_set_deferrals(world.sink, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}});
    WAIT_FOR(totals(&world).waiting == 1);
    world_stop(&world);
    atomic_store(&world.account, QUEUE_ACCOUNT_CONTAINED);
    world_start(&world);
    WAIT_FOR(all_held(&world, 1));
    assert_int_equal(sink_taken(world.sink), 0);
    assert_int_equal(end_it(&world, QUEUE_DROP).done, 1);
    WAIT_FOR(is_empty(&world));
    assert_int_equal(totals(&world).dropped, 1);
    end(&world);
}

/* What is under way is not called back; what becomes of it is kept, not told. */
static void test_in_flight(void **state)
{
    static const struct {
        const char *to;
        uint64_t delivered, held;
    } cases[] = {{"ok@example.net", 1, 0}, {"data@example.net", 0, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        world_init(&world, 1);
        sink_set_stalled(world.sink, true);
        world_start(&world);
        send_one(&world, &(struct letter){.to = {cases[i].to}, .from = "ok-me@example.org"});
        WAIT_FOR(totals(&world).inflight == 1 && sink_rcpts(world.sink) == 1);
        assert_int_equal(contain(&world), 0);
        sink_set_stalled(world.sink, false);
        WAIT_FOR(totals(&world).delivered == cases[i].delivered && all_held(&world, cases[i].held));
        assert_int_equal(totals(&world).failed_dsn, 0);
        assert_int_equal(totals(&world).failed_silent, 0);
        end(&world);
    }
}

/* A content run is over it, or to come. */
static void test_content(void **state)
{
    static const enum queue_content_verdict verdicts[] = {
        QUEUE_CONTENT_DELIVER, QUEUE_CONTENT_DEFER, QUEUE_CONTENT_REJECT, QUEUE_CONTENT_HOLD};
    (void)state;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct world world;
        world_init(&world, 1);
        world.content_verdict = verdicts[i];
        atomic_store(&world.content_waits, true);
        world_start(&world);
        struct letter letter = {
            .to = {"ok@example.net"}, .from = "ok-me@example.org", .content_flow = "flow"};
        send_one(&world, &letter);
        WAIT_FOR(atomic_load(&world.content_runs) == 1);
        assert_int_equal(contain(&world), 0);
        send_one(&world, &letter);
        atomic_store(&world.content_waits, false);
        WAIT_FOR(all_held(&world, 2));
        assert_int_equal(atomic_load(&world.content_runs), 1);
        assert_int_equal(totals(&world).failed_dsn, 0);
        assert_int_equal(sink_taken(world.sink), 0);
        end(&world);
    }
}

/* It was accepted while the account became free, or the record that let it go was lost: it goes on
 * by itself, unless somebody is about to see to it. */
static void test_left_over(void **state)
{
    static const struct {
        enum queue_account before, after;
        uint64_t held;
    } cases[] = {
        {QUEUE_ACCOUNT_FREE, QUEUE_ACCOUNT_FREE, 0},
        {QUEUE_ACCOUNT_SETTLING, QUEUE_ACCOUNT_FREE, 0},
        {QUEUE_ACCOUNT_CONTAINED, QUEUE_ACCOUNT_FREE, 0},
        {QUEUE_ACCOUNT_CONTAINED, QUEUE_ACCOUNT_SETTLING, 1},
        {QUEUE_ACCOUNT_CONTAINED, QUEUE_ACCOUNT_CONTAINED, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        world_init(&world, 1);
        atomic_store(&world.account, cases[i].before);
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"ok@example.net"},
                                          .held = true,
                                          .held_reason = MAIL_REASON_CONTAINED});
        if (cases[i].before != QUEUE_ACCOUNT_CONTAINED)
            WAIT_FOR(is_empty(&world));
        else
            WAIT_FOR(all_held(&world, 1));
        world_stop(&world);
        atomic_store(&world.account, cases[i].after);
        world_start(&world);
        if (cases[i].held)
            WAIT_FOR(all_held(&world, 1));
        else
            WAIT_FOR(is_empty(&world));
        assert_int_equal(sink_taken(world.sink), 1 - cases[i].held);
        end(&world);
    }
}

/* The record of the hold was lost in a crash, and the account is being seen to: what was to become
 * of the mail becomes of it. */
static void test_hold_lost(void **state)
{
    static const enum queue_verb verbs[] = {QUEUE_DROP, QUEUE_RELEASE};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct world world;
        world_init(&world, 1);
        sink_set_deferrals(world.sink, 1);
        for (size_t k = 0; k < 4; k++)
            world.delays[k] = 3600 * NS_PER_S;
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"later@example.net"}});
        WAIT_FOR(totals(&world).waiting == 1);
        world_stop(&world);
        atomic_store(&world.account, QUEUE_ACCOUNT_SETTLING);
        world_start(&world);
        WAIT_FOR(all_held(&world, 1));
        assert_true(queue_is_known(world.queue));
        assert_int_equal(end_it(&world, verbs[i]).done, 1);
        WAIT_FOR(is_empty(&world));
        assert_int_equal(sink_taken(world.sink), verbs[i] == QUEUE_RELEASE);
        end(&world);
    }
}

/* The order to hold came when the account was free again. */
static void test_too_late(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_deferrals(world.sink, 1);
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 3600 * NS_PER_S;
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}});
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(
        act(&world, QUEUE_HOLD, (struct queue_selector){.user = STR("sender"), .state = -1}).done,
        0);
    assert_int_equal(totals(&world).waiting, 1);
    end(&world);
}

/* Whatever is done to it, in whatever order, with stops in between: nothing leaves and nobody is
 * told while the account is contained; released, all of it has an end. */
static void test_nobody_is_told(void **state)
{
    static const char *const kinds[] = {"ok@example.net", "never@example.net", "later@example.net",
                                        "data@example.net"};
    static const enum queue_verb verbs[] = {QUEUE_RETRY, QUEUE_FAIL, QUEUE_RELEASE, QUEUE_HOLD};
    struct world world;
    unsigned dice = 7;
    (void)state;
    world_init(&world, 2);
    world.content_verdict = QUEUE_CONTENT_REJECT;
    atomic_store(&world.account, QUEUE_ACCOUNT_CONTAINED);
    world_start(&world);
    for (int i = 0; i < 120; i++) {
        dice = dice * 1103515245u + 12345u;
        unsigned roll = dice >> 16;
        send_one(&world, &(struct letter){.to = {kinds[roll % 4], kinds[(roll / 4) % 4]},
                                          .from = "ok-me@example.org",
                                          .content_flow = roll % 5 == 0 ? "flow" : NULL,
                                          .notify = roll % 3 == 0 ? MAIL_NOTIFY_SUCCESS |
                                                                        MAIL_NOTIFY_FAILURE |
                                                                        MAIL_NOTIFY_DELAY
                                                                  : 0,
                                          .worker = roll % 2});
        act(&world, verbs[(roll / 8) % 4], (struct queue_selector){.state = -1, .limit = 5});
        if (i % 40 == 39) {
            world_stop(&world);
            world_start(&world);
        }
    }
    WAIT_FOR(all_held(&world, 240));
    assert_int_equal(sink_connections(world.sink), 0);
    assert_int_equal(totals(&world).failed_dsn + totals(&world).failed_silent, 0);
    assert_int_equal(totals(&world).generated, 0);
    assert_int_equal(end_it(&world, QUEUE_RELEASE).done, 120);
    WAIT_FOR(is_empty(&world));
    struct queue_totals now = totals(&world);
    assert_int_equal(now.accepted, 240);
    assert_int_equal(now.delivered + now.failed_dsn + now.failed_silent, 240 + now.generated);
    end(&world);
}

/* Mail of strangers, and what we wrote ourselves, is nobody's account. */
static void test_others(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    atomic_store(&world.account, QUEUE_ACCOUNT_CONTAINED);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .stranger = true});
    WAIT_FOR(is_empty(&world));
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(contain(&world), 0);
    end(&world);
}

/* Held for another reason: that stays, whatever becomes of the account. */
static void test_held_before(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true});
    WAIT_FOR(all_held(&world, 1));
    assert_int_equal(contain(&world), 0);
    assert_int_equal(end_it(&world, QUEUE_DROP).matched, 0);
    assert_true(all_held(&world, 1));
    end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiting),   cmocka_unit_test(test_found),
        cmocka_unit_test(test_in_flight), cmocka_unit_test(test_content),
        cmocka_unit_test(test_left_over), cmocka_unit_test(test_hold_lost),
        cmocka_unit_test(test_too_late),  cmocka_unit_test(test_nobody_is_told),
        cmocka_unit_test(test_others),    cmocka_unit_test(test_held_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
