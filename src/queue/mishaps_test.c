/* SPDX-License-Identifier: Apache-2.0 */
/* The whole queue when something goes wrong: the disk, a host that does not fit, an operator in
 * between. No message may be lost, and the books agree at every rest. */
#include "base/fault.h"
#include "queue/unit.h"
#include "queue/queue_test.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct queue_action_result order(struct world *world, enum queue_verb verb)
{
    struct error err;
    struct queue_selector all = {.state = -1};
    struct queue_action_result result;
    struct queue_action action = {.verb = verb, .actor = STR("admin"), .reason = STR("test")};
    if (queue_act(world->queue, &all, &action, &result, &err) == FAILED)
        fail_msg("act: %s", err.text);
    return result;
}

static size_t act(struct world *world, enum queue_verb verb)
{
    return order(world, verb).done;
}

static void retry_in_an_hour(struct world *world)
{
    for (size_t i = 0; i < 4; i++)
        world->delays[i] = 3600 * NS_PER_S;
}

static unsigned attempts(struct world *world)
{
    struct arena *arena = arena_new(0);
    struct queue_list list;
    struct error err;
    assert_int_equal(
        queue_list(world->queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    assert_int_equal(list.count, 1);
    unsigned count = list.items[0].attempts;
    arena_free(arena);
    return count;
}

static void end(struct world *world)
{
    fault_disarm_all();
    world_stop(world);
    world_done(world);
}

/* ---- the spool cannot be read for a while ---- */

static void test_unread_is_no_attempt(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    queue_set_memory_budget(world.queue, 0);
    fault_arm("spool.read", 1, 1000, EIO);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(attempts(&world), 0);
    fault_disarm_all();
    assert_int_equal(act(&world, QUEUE_RETRY), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1);
    end(&world);
}

/* What would be kept aside, or passed on to postmaster, or quoted, cannot be read when it must be:
 * it stays. */
static void test_unread_is_not_lost(void **state)
{
    static const struct {
        bool stranger;
        uint64_t quarantined, failed_dsn;
    } cases[] = {{true, 1, 0}, {false, 0, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        world_init(&world, 1);
        retry_in_an_hour(&world);
        sink_set_deferrals(world.sink, 1000);
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"later@example.net"},
                                          .from = "ok-me@example.org",
                                          .stranger = cases[i].stranger});
        WAIT_FOR(totals(&world).waiting == 1);
        fault_arm("spool.read", 1, 1000, EIO);
        struct queue_action_result result = order(&world, QUEUE_FAIL);
        assert_int_equal(result.done, 0);
        assert_int_equal(result.failed, 1);
        WAIT_FOR(is_settled(&world, 1));
        assert_int_equal(totals(&world).waiting, 1);
        assert_int_equal(totals(&world).damaged, 0);
        fault_disarm_all();
        assert_int_equal(act(&world, QUEUE_FAIL), 1);
        WAIT_FOR(is_settled(&world, cases[i].quarantined));
        assert_int_equal(totals(&world).quarantined, cases[i].quarantined);
        assert_int_equal(totals(&world).failed_dsn, cases[i].failed_dsn);
        assert_int_equal(totals(&world).damaged, 0);
        end(&world);
    }
}

/* No transport takes the sender's domain: postmaster reads of it; not his either: it is kept. */
static void test_nobody_to_tell(void **state)
{
    static const struct {
        struct letter letter;
        bool no_postmaster;
        uint64_t quarantined, failed_dsn, delivered;
    } cases[] = {
        {{.to = {"never@example.net", "ok@example.net"}}, false, 0, 1, 2},
        {{.to = {"never@example.net", "ok@example.net"}}, true, 1, 0, 1},
        {{.to = {"ok@example.net"}, .refused = "friend@example.net"}, false, 0, 1, 2},
        {{.to = {"ok@example.net"}, .refused = "friend@example.net"}, true, 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        struct letter letter = cases[i].letter;
        letter.from = "me@nowhere.example";
        world_init(&world, 1);
        world.no_postmaster = cases[i].no_postmaster;
        world_start(&world);
        send_one(&world, &letter);
        WAIT_FOR(is_settled(&world, cases[i].quarantined) &&
                 totals(&world).delivered == cases[i].delivered);
        assert_int_equal(totals(&world).quarantined, cases[i].quarantined);
        assert_int_equal(totals(&world).failed_dsn, cases[i].failed_dsn);
        assert_int_equal(totals(&world).failed_silent, 0);
        assert_int_equal(totals(&world).damaged, 0);
        end(&world);
    }
}

/* ---- the spool cannot be written for a while ---- */

/* A notice cannot be made durable. What was delivered beside stays counted; the notice about the
 * delay is still to come. */
static void test_notice_cannot_be_written(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    retry_in_an_hour(&world);
    world_start(&world);
    sink_set_stalled(world.sink, true);
    send_one(&world, &(struct letter){.to = {"ok@example.net", "never@example.net"},
                                      .from = "ok-me@example.org"});
    WAIT_FOR(sink_rcpts(world.sink) == 2);
    fault_arm("spool.batch", 1, 1, EIO);
    sink_set_stalled(world.sink, false);
    WAIT_FOR(is_settled(&world, 1));
    assert_int_equal(totals(&world).waiting, 1);
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(totals(&world).failed_dsn, 0);
    fault_disarm_all();
    assert_int_equal(act(&world, QUEUE_RETRY), 1);
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 2);
    assert_int_equal(totals(&world).failed_dsn, 1);
    end(&world);
}

/* What an operator ordered cannot be written: of an entry that waits he hears so. */
static void test_order_cannot_be_written(void **state)
{
    struct world world;
    struct error err;
    (void)state;
    world_init(&world, 1);
    retry_in_an_hour(&world);
    sink_set_deferrals(world.sink, 1000);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"}, .from = "ok-me@example.org"});
    WAIT_FOR(totals(&world).waiting == 1);
    assert_int_equal(queue_flush(world.queue, &err), OK); /* the fault is for the order */
    fault_arm("spool.batch", 1, 1, EIO);
    struct queue_action_result result = order(&world, QUEUE_FAIL);
    assert_int_equal(result.matched, 1);
    assert_int_equal(result.done, 0);
    assert_int_equal(result.failed, 1);
    WAIT_FOR(is_settled(&world, 1) && totals(&world).waiting == 1);
    assert_int_equal(totals(&world).failed_dsn, 0);
    fault_disarm_all();
    result = order(&world, QUEUE_FAIL);
    assert_int_equal(result.done, 1);
    assert_int_equal(result.failed, 0);
    WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 1); /* the notification */
    assert_int_equal(totals(&world).failed_dsn, 1);
    end(&world);
}

/* Of one in flight it was counted as done: it is done a minute later, however long its retry would
 * take, and nothing is sent meanwhile. The newest order counts. */
static void test_order_in_flight_cannot_be_written(void **state)
{
    (void)state;
    for (int newer = 0; newer < 2; newer++) {
        struct world world;
        world_init(&world, 1);
        retry_in_an_hour(&world);
        sink_set_deferrals(world.sink, 1);
        world_start(&world);
        sink_set_stalled(world.sink, true);
        send_one(&world, &(struct letter){.to = {"ok@example.net", "later@example.net"},
                                          .from = "ok-me@example.org"});
        WAIT_FOR(sink_rcpts(world.sink) == 2);
        assert_int_equal(act(&world, QUEUE_FAIL), 1);
        fault_arm("spool.batch", 1, 1, EIO);
        sink_set_stalled(world.sink, false);
        WAIT_FOR(is_settled(&world, 1) && totals(&world).waiting == 1);
        assert_int_equal(totals(&world).delivered, 1);
        assert_int_equal(totals(&world).failed_dsn, 0);
        fault_disarm_all();
        if (newer)
            assert_int_equal(act(&world, QUEUE_RETRY), 1);
        else
            clock_set_fake(clock_monotonic_ns() + 61 * NS_PER_S, clock_wall_ns() + 61 * NS_PER_S);
        WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == 2);
        assert_int_equal(totals(&world).failed_dsn, newer ? 0 : 1);
        assert_int_equal(sink_taken(world.sink), 2);
        clock_set_fake(-1, -1);
        end(&world);
    }
}

/* An operator drops an entry in flight while a notice about its delivered part cannot be written:
 * what was dropped is dropped, and counted. */
static void test_dropped_is_counted(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    retry_in_an_hour(&world);
    sink_set_deferrals(world.sink, 1);
    world_start(&world);
    sink_set_stalled(world.sink, true);
    send_one(&world, &(struct letter){.to = {"ok@example.net", "later@example.net"},
                                      .from = "ok-me@example.org",
                                      .notify = MAIL_NOTIFY_SUCCESS});
    WAIT_FOR(sink_rcpts(world.sink) == 2);
    assert_int_equal(act(&world, QUEUE_DROP), 1);
    fault_arm("spool.batch", 1, 1, EIO);
    sink_set_stalled(world.sink, false);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(totals(&world).dropped, 1);
    end(&world);
}

/* ---- damage ---- */

/* Change a byte of the log where `text` stands in it. */
static void damage_log(const struct world *world, const char *text)
{
    enum { MAX = 8 << 20 };
    char path[128];
    (void)snprintf(path, sizeof path, "%s/log/0000000000000001.log", world->folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    char *bytes = malloc(MAX);
    assert_non_null(bytes);
    size_t size = fread(bytes, 1, MAX, file);
    const char *at = memmem(bytes, size, text, strlen(text));
    assert_non_null(at);
    assert_int_equal(fseek(file, at - bytes, SEEK_SET), 0);
    assert_int_equal(fputc('#', file), '#');
    (void)fclose(file);
    free(bytes);
}

/* What is found damaged at the start is in the books, and stays in them. */
static void test_damaged_is_counted(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true});
    send_one(&world, &(struct letter){.to = {"ok@example.net", "ok2@example.net"},
                                      .text = "Subject: victim\r\n\r\nHello\r\n",
                                      .held = true});
    world_stop(&world);
    damage_log(&world, "victim");
    for (int i = 0; i < 2; i++) {
        world_start(&world);
        WAIT_FOR(is_settled(&world, 1));
        assert_int_equal(totals(&world).accepted, 3);
        assert_int_equal(totals(&world).damaged, 2);
        assert_int_equal(totals(&world).quarantined, 1);
        world_stop(&world);
    }
    world_done(&world);
}

/* Damage that is found by an attempt. */
static void test_damaged_while_it_waits(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    retry_in_an_hour(&world);
    sink_set_deferrals(world.sink, 1);
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"later@example.net"},
                                      .text = "Subject: victim\r\n\r\nHello\r\n"});
    WAIT_FOR(totals(&world).waiting == 1);
    damage_log(&world, "victim");
    assert_int_equal(act(&world, QUEUE_RETRY), 1);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).damaged, 1);
    assert_int_equal(sink_taken(world.sink), 0);
    world_stop(&world);
    world_start(&world);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).damaged, 1);
    end(&world);
}

static struct mail_id named;
static unsigned named_count;

static void note_difference(const struct event *event, void *arg)
{
    (void)arg;
    for (unsigned i = 0; event->type == EVENT_BALANCE_DIFFERENCE && i < event->count; i++)
        if (event->fields[i].key == KEY_ENTRY) {
            (void)mail_id_parse(event->fields[i].text, &named);
            named_count++;
        }
}

/* Mail that a start could not read and counted as damaged is here again at the next. */
static void test_damaged_mail_is_back(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    for (size_t i = 0; i < 3; i++)
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true, .worker = i % 2});
    struct spool_change change = {.kind = SPOOL_COUNT, .counter = QUEUE_COUNT_DAMAGED, .delta = 2};
    spool_write(world.spool, &change, 1);
    world_stop(&world);
    world_start(&world);
    WAIT_FOR(totals(&world).damaged == 0);
    struct queue_totals sums = totals(&world);
    assert_int_equal(queue_balance(&sums), 0);
    end(&world);
}

/* Mail in the spool that no worker has is named, once. */
static void test_stray_is_named(void **state)
{
    struct world world;
    size_t differences;
    struct mail_id kept;
    (void)state;
    world_init(&world, 2);
    world_start(&world);
    for (size_t i = 0; i < 600; i++) /* more than are looked at in one go */
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .held = true, .worker = i % 2});
    (void)event_drain(note_difference, NULL);
    differences = world_audit(&world);
    assert_int_equal(differences, 0);
    kept = world_add_stray(&world);
    for (int i = 0; i < 2; i++) {
        differences = world_audit(&world);
        assert_int_equal(differences, 1);
    }
    named_count = 0;
    (void)event_drain(note_difference, NULL);
    assert_int_equal(named_count, 1);
    assert_true(mail_id_equal(named, kept));
    end(&world);
}

/* ---- hosts ---- */

/* Messages that do not fit a host say nothing about the host, on a kept connection either. */
static void test_too_large_is_no_trouble(void **state)
{
    enum { SIZE = 1000000 + 1000 }; /* the sink says SIZE 1000000 */
    struct world world;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    text[SIZE] = 0;
    memcpy(text, "Subject: a\r\n\r\n", 14);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    WAIT_FOR(is_settled(&world, 0));
    for (unsigned i = 0; i < 4; i++) {
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .from = "", .text = text});
        WAIT_FOR(is_settled(&world, 0) && totals(&world).failed_silent == i + 1);
    }
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 2);
    assert_int_equal(sink_connections(world.sink), 1);
    free(text);
    end(&world);
}

/* ---- one destination stands still ---- */

/* A second destination, "slow", that takes one connection and answers nothing for now. */
static struct sink *add_slow(struct world *world, struct server *server)
{
    struct sink *sink = sink_new();
    sink_set_stalled(sink, true);
    *server = world->server;
    server->name = STR("slow");
    server->endpoints = NEW(struct server_endpoint);
    server->endpoints[0] =
        (struct server_endpoint){.host = STR("127.0.0.1"), .port = sink_port(sink)};
    struct transport *slow = &world->transports[world->transport_count++];
    *slow = world->transports[0];
    slow->name = slow->server_name = STR("slow");
    slow->server = server;
    slow->limit_connections = 1;
    return sink;
}

static size_t open_files(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count;
}

/* What waits for it holds up nobody else, and uses up neither memory nor descriptors. */
static void test_stalled_destination(void **state)
{
    enum { SMALL = 300, LARGE = 120, SIZE = 300 * 1024, OTHERS = 15 };
    struct world world;
    struct server server;
    (void)state;
    world_init(&world, 1);
    struct sink *slow = add_slow(&world, &server);
    world_start(&world);
    world_submit_many(&world, &(struct letter){.to = {"ok@example.net"}, .transport = "slow"},
                      SMALL);
    /* time stands still: who waits for those 300, a second a message, waits for ever */
    clock_set_fake(clock_monotonic_ns(), clock_wall_ns());
    for (unsigned i = 0; i < OTHERS; i++) {
        send_one(&world, &(struct letter){.to = {"ok@example.net"}});
        WAIT_FOR(totals(&world).delivered == i + 1);
    }
    clock_set_fake(-1, -1);
    size_t before = open_files();
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    text[SIZE] = 0;
    memcpy(text, "Subject: a\r\n\r\n", 14);
    for (unsigned i = 0; i < LARGE; i++)
        send_one(&world,
                 &(struct letter){.to = {"ok@example.net"}, .transport = "slow", .text = text});
    assert_true(open_files() < before + 80);
    sink_set_stalled(slow, false);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, SMALL + LARGE + OTHERS);
    assert_int_equal(sink_taken(slow), SMALL + LARGE);
    free(text);
    end(&world);
    sink_free(slow);
    free(server.endpoints);
}

/* When more comes in than goes out, replies wait, and not for ever: some mail is taken meanwhile,
 * and a client whose patience ends hears so, with nothing kept. */
static void test_replies_wait(void **state)
{
    enum { BACKLOG = 400, DELAY_MS = 20 };
    struct world world;
    struct error err;
    (void)state;
    world_init(&world, 1);
    world.transports[0].limit_connections = 1;
    sink_set_stalled(world.sink, true);
    sink_set_delay(world.sink, DELAY_MS);
    world_start(&world);
    world_submit_many(&world, &(struct letter){.to = {"ok@example.net"}}, BACKLOG);
    sink_set_stalled(world.sink, false);
    WAIT_FOR(totals(&world).delivered > 0);
    uint64_t before = totals(&world).delivered;
    assert_int_equal(world_submit(&world, &(struct letter){.to = {"ok@example.net"}}, &err), OK);
    assert_true(totals(&world).delivered - before >= 5);
    assert_true(totals(&world).ready > 200); /* it did not wait for all of them */
    struct letter impatient = {.to = {"ok@example.net"}, .within_ns = 50 * NS_PER_MS};
    assert_int_equal(world_submit(&world, &impatient, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TIMEOUT);
    assert_int_equal(totals(&world).accepted, BACKLOG + 1);
    sink_set_delay(world.sink, 0);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, BACKLOG + 1);
    end(&world);
}

struct waiting_client {
    struct world *world;
    const struct letter *letter;
    atomic_bool taken;
};

static void *wait_for_answer(void *arg)
{
    struct waiting_client *client = arg;
    struct error err;
    enum result result = world_submit(client->world, client->letter, &err);
    atomic_store(&client->taken, result == OK);
    return NULL;
}

/*
 * 133M of large mail that nobody tried: the next large message waits, and never a small one. Time
 * stands still, so that nobody goes on because he waited long enough; the peer, who just took
 * something, takes nothing now.
 */
static void test_large_wait_for_large(void **state)
{
    enum { SIZE = 950 * 1000, RECIPIENTS = 14100 }; /* 141 entries; 128M are more than that */
    struct world world;
    pthread_t thread;
    (void)state;
    char *text = malloc(SIZE + 1);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    text[SIZE] = 0;
    memcpy(text, "Subject: a\r\n\r\n", 14);
    struct letter large = {.to = {"ok@example.net"}, .text = text};
    struct letter many = {.many = RECIPIENTS, .text = text};
    struct waiting_client client = {.world = &world, .letter = &large};
    world_init(&world, 1);
    world.transports[0].limit_connections = 1;
    clock_set_fake(clock_monotonic_ns(), clock_wall_ns());
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    WAIT_FOR(is_settled(&world, 0));
    sink_set_stalled(world.sink, true);
    send_one(&world, &many);
    WAIT_FOR(totals(&world).inflight > 0);
    send_one(&world, &large); /* one is on its way, and with this one as many wait as may */
    send_one(&world, &large); /* and one too many */
    assert_int_equal(pthread_create(&thread, NULL, wait_for_answer, &client), 0);
    for (int i = 0; i < 50; i++)
        send_one(&world, &(struct letter){.to = {"ok@example.net"}});
    for (int i = 0; i < 500; i++) /* it would be taken by now */
        (void)world_pause();
    assert_int_equal(totals(&world).accepted, 1 + RECIPIENTS + 2 + 50);
    assert_false(atomic_load(&client.taken));
    sink_set_stalled(world.sink, false);
    WAIT_FOR(atomic_load(&client.taken));
    assert_int_equal(pthread_join(thread, NULL), 0);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 1 + RECIPIENTS + 3 + 50);
    clock_set_fake(-1, -1);
    end(&world);
    free(text);
}

/* Very many recipients become an entry a domain, and nobody is lost. */
static void test_many_domains(void **state)
{
    struct world world;
    struct error err;
    struct queue_list list;
    (void)state;
    world_init(&world, 1);
    world_start(&world);
    send_one(&world,
             &(struct letter){.many = 10000, .domains = 2500, .transport = "mx", .held = true});
    struct queue_totals now = totals(&world);
    assert_int_equal(now.entries, 2500);
    assert_int_equal(now.quarantined, 10000);
    struct arena *arena = arena_new(0);
    assert_int_equal(
        queue_list(world.queue, &(struct queue_selector){.state = -1}, arena, &list, &err), OK);
    for (size_t i = 0; i < list.count; i++) {
        const struct queue_item *item = &list.items[i];
        assert_int_equal(item->recipient_count, 4);
        for (size_t k = 0; k < 4; k++)
            assert_true(str_ends(item->recipients[k].address, item->destination));
    }
    arena_free(arena);
    world_stop(&world);
    world_start(&world);
    WAIT_FOR(is_settled(&world, 2500));
    assert_int_equal(totals(&world).quarantined, 10000);
    end(&world);
}

/* ---- content runs ---- */

/* More recipients than an entry for delivery may have, through everything that a flow can say. */
static void test_content_of_many(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.content_verdict = QUEUE_CONTENT_DEFER;
    world_start(&world);
    send_one(&world, &(struct letter){.many = 250, .content_flow = "flow", .stranger = true});
    WAIT_FOR(totals(&world).waiting + totals(&world).ready == 250 &&
             atomic_load(&world.content_runs) == 1 && totals(&world).inflight == 0);
    world_stop(&world);
    world_start(&world);
    world.content_verdict = QUEUE_CONTENT_REJECT;
    WAIT_FOR(act(&world, QUEUE_RETRY) == 1);
    WAIT_FOR(is_settled(&world, 3)); /* kept, in entries of a hundred */
    assert_int_equal(totals(&world).quarantined, 250);
    assert_int_equal(act(&world, QUEUE_RELEASE), 3);
    WAIT_FOR(is_settled(&world, 0));
    assert_int_equal(totals(&world).delivered, 250);
    end(&world);
}

/* What a flow makes of an envelope may be more than a record of the spool takes. */
static void test_content_makes_too_much(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1);
    world.content_verdict = QUEUE_CONTENT_HOLD;
    world.content_findings = 1 << 20;
    world_start(&world);
    send_one(&world, &(struct letter){.to = {"ok@example.net"}, .content_flow = "flow"});
    WAIT_FOR(is_settled(&world, 1) && totals(&world).quarantined == 1);
    world.content_findings = 0;
    world.content_verdict = QUEUE_CONTENT_DELIVER;
    assert_int_equal(act(&world, QUEUE_RELEASE), 1);
    WAIT_FOR(is_settled(&world, 0)); /* by way of the flow */
    assert_int_equal(totals(&world).delivered, 1);
    assert_int_equal(atomic_load(&world.content_runs), 2);
    end(&world);
}

/* What an operator wants while the flow runs comes before what the flow says. */
static void test_wish_during_content_run(void **state)
{
    static const struct {
        enum queue_verb verb;
        uint64_t delivered, dropped, failed_dsn, held;
    } cases[] = {
        {QUEUE_DROP, 0, 1, 0, 0},
        {QUEUE_FAIL, 1, 0, 1, 0}, /* the notification is delivered */
        {QUEUE_HOLD, 0, 0, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        world_init(&world, 1);
        world.content_verdict = QUEUE_CONTENT_DELIVER;
        atomic_store(&world.content_waits, true);
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"ok@example.net"},
                                          .from = "ok-me@example.org",
                                          .content_flow = "flow"});
        WAIT_FOR(totals(&world).inflight == 1);
        assert_int_equal(act(&world, cases[i].verb), 1);
        atomic_store(&world.content_waits, false);
        WAIT_FOR(is_settled(&world, cases[i].held) &&
                 totals(&world).delivered == cases[i].delivered);
        assert_int_equal(totals(&world).dropped, cases[i].dropped);
        assert_int_equal(totals(&world).failed_dsn, cases[i].failed_dsn);
        assert_int_equal(totals(&world).held, cases[i].held);
        end(&world);
    }
}

/* An order may come while what the flow decided is being written: what then stands in the place of
 * the entry gets it. */
static void test_wish_while_verdict_is_written(void **state)
{
    enum { LETTERS = 100 };
    struct world world;
    uint64_t dropped = 0;
    (void)state;
    world_init(&world, 1);
    retry_in_an_hour(&world);
    sink_set_deferrals(world.sink, 1000);
    world.content_verdict = QUEUE_CONTENT_DELIVER;
    world_start(&world);
    for (unsigned i = 0; i < LETTERS; i++) {
        send_one(&world, &(struct letter){.to = {"later@example.net"}, .content_flow = "flow"});
        dropped += act(&world, QUEUE_DROP);
        WAIT_FOR(totals(&world).dropped == dropped);
    }
    end(&world);
}

static void count_unwritten(const struct event *event, void *arg)
{
    unsigned *count = arg;
    for (size_t i = 0; event->type == EVENT_DELIVERY_DEFERRED && i < event->count; i++)
        *count += event->fields[i].key == KEY_DETAIL &&
                  str_find_str(event->fields[i].text, STR("its flow decided")) >= 0;
}

/* What a flow decided cannot be made durable: the entry stays, which is told, and a minute later
 * the flow runs again. */
static void test_verdict_cannot_be_written(void **state)
{
    static const struct {
        enum queue_content_verdict verdict;
        uint64_t delivered, discarded;
    } cases[] = {
        {QUEUE_CONTENT_DELIVER, 1, 0},
        {QUEUE_CONTENT_DISCARD, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        struct error err;
        unsigned told = 0;
        world_init(&world, 1);
        world.content_verdict = cases[i].verdict;
        atomic_store(&world.content_waits, true);
        world_start(&world);
        send_one(&world, &(struct letter){.to = {"ok@example.net"}, .content_flow = "flow"});
        WAIT_FOR(totals(&world).inflight == 1);
        assert_int_equal(queue_flush(world.queue, &err), OK); /* the fault is for the verdict */
        (void)event_drain(count_unwritten, &told);
        assert_int_equal(told, 0);
        fault_arm("spool.batch", 1, 1, EIO);
        atomic_store(&world.content_waits, false);
        WAIT_FOR(totals(&world).entries == 1 && totals(&world).inflight == 0);
        assert_int_equal(totals(&world).delivered + totals(&world).discarded, 0);
        (void)event_drain(count_unwritten, &told);
        assert_int_equal(told, 1);
        fault_disarm_all();
        clock_set_fake(clock_monotonic_ns() + 61 * NS_PER_S, clock_wall_ns() + 61 * NS_PER_S);
        WAIT_FOR(is_settled(&world, 0) && totals(&world).delivered == cases[i].delivered &&
                 totals(&world).discarded == cases[i].discarded);
        assert_int_equal(atomic_load(&world.content_runs), 2);
        clock_set_fake(-1, -1);
        end(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unread_is_no_attempt),
        cmocka_unit_test(test_unread_is_not_lost),
        cmocka_unit_test(test_nobody_to_tell),
        cmocka_unit_test(test_notice_cannot_be_written),
        cmocka_unit_test(test_order_cannot_be_written),
        cmocka_unit_test(test_order_in_flight_cannot_be_written),
        cmocka_unit_test(test_dropped_is_counted),
        cmocka_unit_test(test_damaged_is_counted),
        cmocka_unit_test(test_damaged_while_it_waits),
        cmocka_unit_test(test_stray_is_named),
        cmocka_unit_test(test_damaged_mail_is_back),
        cmocka_unit_test(test_too_large_is_no_trouble),
        cmocka_unit_test(test_stalled_destination),
        cmocka_unit_test(test_replies_wait),
        cmocka_unit_test(test_large_wait_for_large),
        cmocka_unit_test(test_many_domains),
        cmocka_unit_test(test_content_of_many),
        cmocka_unit_test(test_content_makes_too_much),
        cmocka_unit_test(test_wish_during_content_run),
        cmocka_unit_test(test_wish_while_verdict_is_written),
        cmocka_unit_test(test_verdict_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
