/* SPDX-License-Identifier: Apache-2.0 */
/* The whole queue: a real spool, real sockets, threads. */
#include "queue/queue_test.h"

#include "queue/unit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t act(struct world *world, struct queue_selector selector, enum queue_verb verb)
{
    struct error err;
    struct queue_action_result result;
    struct queue_action action = {.verb = verb, .actor = STR("admin"), .reason = STR("test")};
    selector.state = -1;
    if (queue_act(world->queue, &selector, &action, &result, &err) == FAILED)
        fail_msg("act: %s", err.text);
    return result.done;
}

/* ---- cases ---- */

static void test_delivered(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net", "ok2@example.net"}});
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).accepted, 2);
    assert_int_equal(totals(&world).delivered, 2);
    char *text = sink_message_for(world.sink, "ok@example.net");
    assert_non_null(text);
    assert_string_equal(text, "Received: from test\r\nFrom: a\r\nSubject: greetings\r\n\r\n"
                              "Hello\r\n.dot\r\n");
    free(text);
    world_stop(&world);
    world_done(&world);
}

static void test_connection_is_kept(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    for (int i = 0; i < 10; i++) {
        send_one(&world, &(struct letter){.to = {"ok@example.net"}});
        WAIT_FOR(is_settled(&world, 0));
    }
    assert_int_equal(sink_taken(world.sink), 10);
    assert_int_equal(sink_connections(world.sink), 1);
    world_stop(&world);
    world_done(&world);
}

static void test_retry(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_deferrals(world.sink, 3);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net", "later@example.net"}});
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 2);
    assert_int_equal(sink_rcpts(world.sink), 5); /* each recipient on its own: 1 and 4 */
    world_stop(&world);
    world_done(&world);
}

static void expect_dsn(struct world *world, const char *to, const char *const *parts)
{
    char *text = sink_message_for(world->sink, to);
    assert_non_null(text);
    for (; *parts != NULL; parts++)
        if (strstr(text, *parts) == NULL)
            fail_msg("\"%s\" is not in the notification:\n%s", *parts, text);
    free(text);
}

static void test_last_retry_fails(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_deferrals(world.sink, 1000);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}, .from = "ok-me@example.org"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 1);
    assert_int_equal(sink_rcpts(world.sink), 6); /* five attempts, one notification */
    assert_int_equal(totals(&world).failed_dsn, 1);
    assert_int_equal(totals(&world).generated, 1);
    expect_dsn(&world, "ok-me@example.org",
               (const char *const[]){"Action: failed\r\n", "Status: 5.4.7\r\n",
                                     "Diagnostic-Code: smtp; 451 4.7.1 Come back later", NULL});
    world_stop(&world);
    world_done(&world);
}

static void test_refused(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world,
             &(struct letter){.to = {"never@example.net", "ok@example.net", "never2@example.net"},
                              .from = "ok-me@example.org"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 2);
    assert_int_equal(totals(&world).failed_dsn, 2);
    assert_int_equal(totals(&world).generated, 1); /* one for both */
    expect_dsn(&world, "ok-me@example.org",
               (const char *const[]){"Content-Type: multipart/report; report-type=delivery-status",
                                     "Auto-Submitted: auto-replied\r\n",
                                     "Final-Recipient: rfc822; never@example.net\r\n",
                                     "Final-Recipient: rfc822; never2@example.net\r\n",
                                     "Status: 5.1.1\r\n", "Remote-MTA: dns; 127.0.0.1\r\n",
                                     "Subject: greetings\r\n", NULL});
    world_stop(&world);
    world_done(&world);
}

static void test_dsn_fails(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"never@example.net"}, .from = "never-me@example.org"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 1);
    struct queue_totals now = totals(&world);
    assert_int_equal(now.failed_dsn, 1);
    assert_int_equal(now.failed_silent, 1);
    assert_int_equal(now.generated, 2);
    expect_dsn(&world, "ok-postmaster@example.org",
               (const char *const[]){"To: <never-me@example.org>\r\n", NULL});
    world_stop(&world);
    world_done(&world);
}

static void test_stranger_is_kept(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"never@example.net", "ok@example.net"},
                                      .from = "ok-me@example.org",
                                      .stranger = true});
    WAIT_FOR(is_settled(&world, 1));
    struct queue_totals now = totals(&world);
    assert_int_equal(now.quarantined, 1);
    assert_int_equal(now.generated, 0);
    assert_int_equal(now.delivered, 1);
    world_stop(&world);
    world_start(&world); /* it is there after a restart too */
    WAIT_FOR(is_settled(&world, 1));
    assert_int_equal(totals(&world).quarantined, 1);
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_DROP), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).dropped, 1);
    world_stop(&world);
    world_done(&world);
}

static void test_empty_sender(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"never@example.net"}, .from = ""});
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).failed_silent, 1);
    assert_int_equal(totals(&world).generated, 0);
    world_stop(&world);
    world_done(&world);
}

static void test_refused_by_flow(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"},
                                      .from = "ok-me@example.org",
                                      .refused = "friend@example.net"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 2);
    assert_int_equal(totals(&world).failed_dsn, 1);
    expect_dsn(&world, "ok-me@example.org",
               (const char *const[]){"550 5.7.1 not in our name", NULL});
    world_stop(&world);
    world_done(&world);
}

static void test_restart(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_greeting(world.sink, "421 4.3.2 Not now");
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 3600 * NS_PER_S;
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true});
    WAIT_FOR(totals(&world).waiting == 1 && is_settled(&world, 2));
    world_stop(&world);
    sink_set_greeting(world.sink, NULL);
    world.workers = 2;
    world_start(&world);
    WAIT_FOR(totals(&world).waiting == 1 && totals(&world).quarantined == 1);
    assert_int_equal(totals(&world).accepted, 2);
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RETRY), 1);
    WAIT_FOR(is_settled(&world, 1));
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RELEASE), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 2);
    world_stop(&world);
    world_done(&world);
}

static void test_back_off(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_greeting(world.sink, "554 5.3.2 Go away");
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 3600 * NS_PER_S;
    world_start(&world);
    for (int i = 0; i < 8; i++) {
        send_one(&world, &(struct letter){.to = {"ok@example.net"}});
        WAIT_FOR(totals(&world).waiting == (uint64_t)i + 1);
    }
    /* three tries, then the others wait for the probe at no cost */
    assert_int_equal(sink_connections(world.sink), 3);
    struct arena *arena = arena_new(0);
    struct queue_list list;
    struct error err;
    assert_int_equal(
        queue_list(world.queue,
                   &(struct queue_selector){.state = QUEUE_WAITING, .destination = STR("sink")},
                   arena, &list, &err),
        OK);
    assert_int_equal(list.count, 8);
    assert_int_equal(list.items[0].attempts, 1);
    assert_int_equal(list.items[7].attempts, 0);
    assert_true(list.items[7].next_try_wall_ns > clock_wall_ns());
    assert_true(str_find_str(list.items[7].last_error, STR("Go away")) >= 0);
    arena_free(arena);
    sink_set_greeting(world.sink, NULL); /* an operator's retry is a real one */
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RETRY), 8);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 8);
    world_stop(&world);
    world_done(&world);
}

static void test_operators(void **state)
{
    struct world world;
    struct error err;
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true});
    send_one(&world, &(struct letter){.to = {"ok@example.com"}, .held = true, .worker = 1});
    send_one(&world,
             &(struct letter){.to = {"ok@a.test"}, .from = "ok-me@example.org", .held = true});
    struct arena *arena = arena_new(0);
    struct queue_list list;
    assert_int_equal(
        queue_list(world.queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    assert_int_equal(list.total, 3);
    assert_string_equal(arena_c(arena, list.items[0].hold_reason), "spam");
    struct buf raw;
    bool found;
    buf_init(&raw, 1 << 20);
    assert_int_equal(queue_raw(world.queue, list.items[1].entry, &raw, &found, &err), OK);
    assert_true(found);
    assert_true(str_ends(buf_str(&raw), STR("Hello\r\n.dot\r\n")));
    assert_int_equal(queue_raw(world.queue, mail_id_new(), &raw, &found, &err), OK);
    assert_false(found);
    buf_done(&raw);
    arena_free(arena);
    assert_int_equal(act(&world, (struct queue_selector){.to = STR("@example.com")}, QUEUE_DROP),
                     1);
    assert_int_equal(act(&world, (struct queue_selector){.to = STR("ok@a.test")}, QUEUE_FAIL), 1);
    assert_int_equal(act(&world, (struct queue_selector){.to = STR("nobody@a.test")}, QUEUE_FAIL),
                     0);
    WAIT_FOR(is_settled(&world, 1) && totals(&world).delivered == 1); /* the notification */
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RELEASE), 1);
    WAIT_FOR(is_settled(&world, 0));
    struct queue_totals now = totals(&world);
    assert_int_equal(now.dropped, 1);
    assert_int_equal(now.failed_dsn, 1);
    assert_int_equal(now.delivered, 2);
    world_stop(&world);
    world_done(&world);
}

static void test_transport_missing(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .transport = "gone"});
    WAIT_FOR(totals(&world).held == 1);
    assert_int_equal(totals(&world).quarantined, 0);
    world_stop(&world);
    world.transports[3] = world.transports[0];
    world.transports[3].name = STR("gone");
    world.transport_count = 4;
    world_start(&world);
    WAIT_FOR(totals(&world).held == 1); /* it waits for somebody */
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RELEASE), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1);
    world_stop(&world);
    world_done(&world);
}

static void test_content_runs(void **state)
{
    static const struct {
        enum queue_content_verdict verdict;
        uint64_t delivered, discarded, failed_dsn, held, entries;
    } cases[] = {
        {QUEUE_CONTENT_DELIVER, 1, 0, 0, 0, 0},
        {QUEUE_CONTENT_DISCARD, 0, 1, 0, 0, 0},
        {QUEUE_CONTENT_REJECT, 1, 0, 1, 0, 0}, /* the notification is delivered */
        {QUEUE_CONTENT_HOLD, 0, 0, 0, 1, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world world;
        world_init(&world, 1);
        world.content_verdict = cases[i].verdict;
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"ok@example.net"},
                                          .from = "ok-me@example.org",
                                          .content_flow = "flow"});
        WAIT_FOR(is_settled(&world, cases[i].entries) && atomic_load(&world.content_runs) == 1 &&
                 totals(&world).delivered == cases[i].delivered);
        assert_int_equal(totals(&world).discarded, cases[i].discarded);
        assert_int_equal(totals(&world).failed_dsn, cases[i].failed_dsn);
        assert_int_equal(totals(&world).held, cases[i].held);
        world_stop(&world);
        world_done(&world);
    }
}

static void test_many_workers(void **state)
{
    enum { COUNT = 400 };
    struct world world;
    (void)state;
    world_init(&world, 4);
    world.transports[0].limit_connections = 3;
    world_start(&world);
    world_submit_many(&world, &(struct letter){.to = {"ok@example.net"}}, COUNT);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, COUNT);
    assert_int_equal(sink_taken(world.sink), COUNT);
    assert_in_range(sink_most_at_once(world.sink), 1, 3);
    world_stop(&world);
    world_done(&world);
}

/* What is not ready in time is cut off, and delivered after the next start. */
static void test_stopped_in_the_middle(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.grace_ns = 10 * NS_PER_MS;
    sink_set_stalled(world.sink, true);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    WAIT_FOR(sink_rcpts(world.sink) == 1);
    world_stop(&world);
    sink_set_stalled(world.sink, false);
    world_start(&world);
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 1);
    assert_int_equal(totals(&world).accepted, 1);
    world_stop(&world);
    world_done(&world);
}

/* The clock alone: a delay notice, once, then the end of its life. */
static void test_delay_and_expiry(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.delays[0] = 3600 * NS_PER_S;
    world.transports[0].delay_after_ns = 100 * NS_PER_MS;
    world.transports[0].expire_ns = 400 * NS_PER_MS;
    sink_set_deferrals(world.sink, 1000);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}, .from = "ok-me@example.org"});
    WAIT_FOR(totals(&world).delivered == 1);
    expect_dsn(&world, "ok-me@example.org",
               (const char *const[]){"Action: delayed\r\n", "Status: 4.7.1\r\n",
                                     "Will-Retry-Until: ", NULL});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 2);
    expect_dsn(&world, "ok-me@example.org",
               (const char *const[]){"Action: failed\r\n", "Status: 5.4.7\r\n", NULL});
    assert_int_equal(sink_rcpts(world.sink), 3); /* one attempt and two notifications */
    world_stop(&world);
    world_done(&world);
}

static void steer(struct world *world, enum queue_steer_verb verb)
{
    struct error err;
    size_t count;
    struct queue_steer order = {.verb = verb,
                                .transport = STR("out"),
                                .destination = STR_EMPTY,
                                .actor = STR("admin"),
                                .reason = STR("test")};
    if (queue_steer(world->queue, &order, &count, &err) == FAILED)
        fail_msg("steer: %s", err.text);
}

static size_t count_of_state(struct world *world, enum queue_state state)
{
    struct error err;
    struct queue_list list;
    struct arena *arena = arena_new(0);
    struct queue_selector selector = {.state = (int)state};
    assert_int_equal(queue_list(world->queue, &selector, arena, &list, &err), OK);
    size_t total = list.total;
    arena_free(arena);
    return total;
}

/* Pages of a list, behind an entry that is gone by then; and an order for exactly those chosen. */
static void test_pages(void **state)
{
    struct world world;
    struct queue_list list;
    struct error err;
    struct mail_id *ids;
    size_t count;
    struct arena *arena = arena_new(0);
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    steer(&world, QUEUE_PAUSE);
    for (size_t i = 0; i < 5; i++)
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .worker = i % 2});
    WAIT_FOR(count_of_state(&world, QUEUE_PAUSED) == 5);
    struct queue_selector all = {.state = -1}, some = {.state = -1, .limit = 2, .uncounted = true};
    assert_int_equal(queue_select(world.queue, &all, arena, &ids, &count, &err), OK);
    assert_int_equal(count, 5);
    for (size_t at = 0; at < 5; at += list.count) {
        assert_int_equal(queue_list(world.queue, &some, arena, &list, &err), OK);
        assert_int_equal(list.count, at < 4 ? 2 : 1);
        assert_int_equal(list.more, at < 3);
        for (size_t i = 0; i < list.count; i++)
            assert_true(mail_id_equal(list.items[i].entry, ids[at + i]));
        some.after = list.items[list.count - 1].entry;
    }
    struct queue_selector frozen = {.state = -1, .ids = ids + 1, .id_count = 3};
    struct queue_action drop = {.verb = QUEUE_DROP, .actor = STR("admin"), .reason = STR_EMPTY};
    struct queue_action_result result;
    assert_int_equal(queue_act(world.queue, &frozen, &drop, &result, &err), OK);
    assert_int_equal(result.done, 3);
    some.after = ids[2]; /* gone */
    assert_int_equal(queue_list(world.queue, &some, arena, &list, &err), OK);
    assert_int_equal(list.count, 1);
    assert_true(mail_id_equal(list.items[0].entry, ids[4]) && !list.more);
    assert_int_equal(queue_act(world.queue, &frozen, &drop, &result, &err), OK);
    assert_int_equal(result.matched, 0);
    steer(&world, QUEUE_RESUME);
    WAIT_FOR(is_settled(&world, 0));
    arena_free(arena);
    world_stop(&world);
    world_done(&world);
}

/* Neither what waits nor what comes is tried, though its time has come. */
static void test_paused(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 2);
    for (size_t i = 0; i < 4; i++)
        world.delays[i] = 50 * NS_PER_MS;
    sink_set_deferrals(world.sink, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}, .from = "ok-me@example.org"});
    WAIT_FOR(totals(&world).waiting == 1 || totals(&world).entries == 0);
    steer(&world, QUEUE_PAUSE);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .worker = 1});
    WAIT_FOR(count_of_state(&world, QUEUE_PAUSED) == totals(&world).entries);
    assert_true(totals(&world).entries >= 1);
    unsigned heard = sink_rcpts(world.sink);
    for (int i = 0; i < 200; i++)
        (void)world_pause();
    assert_int_equal(sink_rcpts(world.sink), heard);
    assert_int_equal(count_of_state(&world, QUEUE_PAUSED), totals(&world).entries);
    steer(&world, QUEUE_RESUME);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 2);
    assert_int_equal(totals(&world).failed_dsn, 0);
    world_stop(&world);
    world_done(&world);
}

/* Nothing in memory: even the first attempt reads the spool, and what is kept shares its body. */
static void test_from_the_spool(void **state)
{
    struct world world;
    struct error err;
    struct buf raw;
    bool found;
    (void)state;
    world_init(&world, 1);
    sink_set_deferrals(world.sink, 2);
    world_start(&world);
    queue_set_memory_budget(world.queue, 0);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    send_one(&world, &(struct letter){.to = {"later-never@example.net", "never@example.net"},
                                      .stranger = true});
    WAIT_FOR(is_settled(&world, 1));
    assert_int_equal(totals(&world).quarantined, 1);
    assert_int_equal(totals(&world).delivered, 2);
    struct queue_list list;
    struct arena *arena = arena_new(0);
    assert_int_equal(
        queue_list(world.queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    assert_int_equal(list.count, 1);
    assert_string_equal(arena_c(arena, list.items[0].hold_reason), "undeliverable");
    buf_init(&raw, 1 << 20);
    assert_int_equal(queue_raw(world.queue, list.items[0].entry, &raw, &found, &err), OK);
    assert_true(found && str_ends(buf_str(&raw), STR("Hello\r\n.dot\r\n")));
    buf_done(&raw);
    arena_free(arena);
    world_stop(&world);
    world_done(&world);
}

static void test_hold_in_flight(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    sink_set_stalled(world.sink, true);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"data@example.net", "later@example.net"}});
    sink_set_deferrals(world.sink, 1);
    WAIT_FOR(totals(&world).inflight > 0);
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_DROP), 1);
    sink_set_stalled(world.sink, false);
    WAIT_FOR(is_settled(&world, 0));
    struct queue_totals now = totals(&world);
    assert_int_equal(now.accepted + now.generated,
                     now.delivered + now.dropped + now.failed_dsn + now.failed_silent);
    world_stop(&world);
    world_done(&world);
}

static void test_lookup_mx(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@mx.test", "ok@a.test", "ok2@mx.test", "ok@b.test"},
                                      .transport = "mx"});
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 4);
    assert_int_equal(sink_taken(world.sink), 3); /* a transaction a domain */
    send_one(&world, &(struct letter){
                         .to = {"ok@null.test"}, .from = "ok-me@example.org", .transport = "mx"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 5);
    expect_dsn(&world, "ok-me@example.org", (const char *const[]){"Status: 5.1.10\r\n", NULL});
    world.own_port = sink_port(world.sink);
    send_one(&world, &(struct letter){
                         .to = {"ok@own.test"}, .from = "ok-me2@example.org", .transport = "mx"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 6);
    expect_dsn(&world, "ok-me2@example.org", (const char *const[]){"Status: 5.4.6\r\n", NULL});
    world.own_port = 0;
    world.transports[1].allow_private = false;
    send_one(&world, &(struct letter){
                         .to = {"ok@c.test"}, .from = "ok-me3@example.org", .transport = "mx"});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 7);
    expect_dsn(&world, "ok-me3@example.org", (const char *const[]){"Status: 5.4.4\r\n", NULL});
    world_stop(&world);
    world_done(&world);
}

static void test_lmtp(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.org", "ok2@example.org"},
                                      .from = "ok-me@example.org",
                                      .transport = "mailbox",
                                      .notify = MAIL_NOTIFY_SUCCESS});
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 3);
    assert_int_equal(atomic_load(&world.delivered_inbound), 2);
    expect_dsn(&world, "ok-me@example.org", (const char *const[]){"Action: delivered\r\n", NULL});
    world_stop(&world);
    world_done(&world);
}

static struct mail_id named;
static int64_t off_by;

static void look_for_difference(const struct event *event, void *arg)
{
    (void)arg;
    for (unsigned i = 0; event->type == EVENT_BALANCE_DIFFERENCE && i < event->count; i++)
        if (event->fields[i].key == KEY_ENTRY)
            (void)mail_id_parse(event->fields[i].text, &named);
        else if (event->fields[i].key == KEY_COUNT)
            off_by = event->fields[i].number;
}

/* One entry is taken out of the spool behind the queue's back; the audit names it. */
static void test_audit(void **state)
{
    struct world world;
    struct error err;
    struct queue_list list;
    size_t differences;
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    for (size_t i = 0; i < 10; i++)
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true, .worker = i % 2});
    differences = world_audit(&world);
    assert_int_equal(differences, 0);
    struct arena *arena = arena_new(0);
    assert_int_equal(
        queue_list(world.queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    struct spool_change change = {
        .kind = SPOOL_REMOVE, .entry = list.items[4].entry, .message = list.items[4].message};
    spool_write(world.spool, &change, 1);
    do
        differences = world_audit(&world);
    while (differences == 0 && world_pause());
    assert_int_equal(differences, 1);
    (void)event_drain(look_for_difference, NULL);
    assert_true(mail_id_equal(named, list.items[4].entry));
    assert_int_equal(off_by, 0);
    /* and one that is counted as accepted, but is nowhere */
    change =
        (struct spool_change){.kind = SPOOL_COUNT, .counter = QUEUE_COUNT_ACCEPTED, .delta = 1};
    spool_write(world.spool, &change, 1);
    do {
        differences = world_audit(&world);
        (void)event_drain(look_for_difference, NULL);
    } while (off_by == 0 && world_pause());
    assert_int_equal(off_by, 1);
    arena_free(arena);
    world_stop(&world);
    world_done(&world);
}

/* The books are looked at soon after the start, without being asked. */
static void test_audit_at_start(void **state)
{
    struct world world;
    struct spool_change change = {.kind = SPOOL_COUNT, .counter = QUEUE_COUNT_ACCEPTED, .delta = 1};
    (void)state;
    off_by = 0;
    world_init(&world, 2);
    world_start(&world);
    spool_write(world.spool, &change, 1);
    while (off_by == 0) {
        (void)event_drain(look_for_difference, NULL);
        usleep(1000);
    }
    assert_int_equal(off_by, 1);
    world_stop(&world);
    world_done(&world);
}

/* A verb on many waits for the disk now and then: what is to be written of a million does not pile
 * up in memory before the commits of others. */
static void test_bulk_verb_waits_for_the_disk(void **state)
{
    enum { MANY = 1100, WAITS = 2 }; /* after each 512 */
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    world_submit_many(&world, &(struct letter){.to = {"ok@example.net"}, .held = true}, MANY);
    WAIT_FOR(is_settled(&world, MANY));
    uint64_t before = spool_stats(world.spool).units;
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_DROP), MANY);
    WAIT_FOR(spool_stats(world.spool).units >= before + MANY + WAITS);
    world_stop(&world);
    world_done(&world);
}

static void test_discard(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.transports[0].method = TRANSPORT_DISCARD;
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true});
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RELEASE), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).discarded, 2);
    assert_int_equal(sink_connections(world.sink), 0);
    world_stop(&world);
    world_done(&world);
}

/* What a stranger cannot be told is kept, in entries of one destination each. */
static void test_content_refused_for_stranger(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.content_verdict = QUEUE_CONTENT_REJECT;
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@mx.test", "ok@a.test"},
                                      .transport = "mx",
                                      .content_flow = "flow",
                                      .stranger = true});
    WAIT_FOR(is_settled(&world, 2)); /* split by destination */
    assert_int_equal(totals(&world).quarantined, 2);
    send_one(&world, &(struct letter){.to = {"ok@mx.test"},
                                      .transport = "mx",
                                      .refused = "ok2@example.net",
                                      .stranger = true});
    WAIT_FOR(is_settled(&world, 3));
    assert_int_equal(act(&world, (struct queue_selector){0}, QUEUE_RELEASE), 3);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 4);
    world_stop(&world);
    world_done(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_connection_is_kept),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_last_retry_fails),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_dsn_fails),
        cmocka_unit_test(test_stranger_is_kept),
        cmocka_unit_test(test_empty_sender),
        cmocka_unit_test(test_refused_by_flow),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_operators),
        cmocka_unit_test(test_transport_missing),
        cmocka_unit_test(test_content_runs),
        cmocka_unit_test(test_many_workers),
        cmocka_unit_test(test_stopped_in_the_middle),
        cmocka_unit_test(test_delay_and_expiry),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_paused),
        cmocka_unit_test(test_from_the_spool),
        cmocka_unit_test(test_hold_in_flight),
        cmocka_unit_test(test_lookup_mx),
        cmocka_unit_test(test_lmtp),
        cmocka_unit_test(test_content_refused_for_stranger),
        cmocka_unit_test(test_audit),
        cmocka_unit_test(test_audit_at_start),
        cmocka_unit_test(test_bulk_verb_waits_for_the_disk),
        cmocka_unit_test(test_discard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
