/* SPDX-License-Identifier: Apache-2.0 */
/* Receivers that a test plays, a clock that it sets, and a real outbox: what is sent when. */
#include "base/test.h"

#include "webhook/dispatcher.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "fiber/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GOT_MAX = 200, SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };

static char folder[64], path[96];
static int64_t now_ms;

/* ---- a receiver of each name ---- */

static struct {
    unsigned status;         /* 0: no answer */
    const char *retry_after; /* or NULL */
    bool hangs;              /* until it is cancelled or out of time */
    unsigned requests, running, most_running;
} receivers[2]; /* "a", "b" */
static struct {
    char id[40], webhook;
} got[GOT_MAX];
static size_t got_count;

static enum result play(struct webhook_sender *sender, const struct webhook_request *request,
                        struct arena *arena, struct webhook_reply *out, struct error *err) MAY_YIELD
{
    unsigned which = (unsigned)(request->webhook->name.ptr[0] - 'a');
    (void)sender, (void)arena;
    receivers[which].requests++;
    if (++receivers[which].running > receivers[which].most_running)
        receivers[which].most_running = receivers[which].running;
    enum result result = OK;
    while (receivers[which].hangs && result == OK)
        result = fiber_suspend(err);
    fiber_yield();
    receivers[which].running--;
    if (result != OK)
        return FAILED;
    if (!receivers[which].status)
        return fail(err, ERROR_TEMPORARY, "connection refused");
    *out = (struct webhook_reply){.status = receivers[which].status,
                                  .retry_after = str_c(receivers[which].retry_after),
                                  .answer = STR("hello")};
    if (out->status < 300 && got_count < GOT_MAX) {
        snprintf(got[got_count].id, sizeof got->id, "%.*s", STR_ARG(request->id));
        got[got_count++].webhook = request->webhook->name.ptr[0];
    }
    return OK;
}

static void free_nothing(struct webhook_sender *sender)
{
    (void)sender;
}

static struct webhook_sender player = {.send = play, .free = free_nothing};

/* ---- the world of a test ---- */

static struct webhook_settings settings[2];
static const struct webhook_settings plain = {
    .url = {.ptr = "https://h.example/", .len = 18},
    .origin = {.ptr = "https://h.example", .len = 17},
    .timeout_ns = 20 * NS_PER_S,
    .give_up_ns = 72 * INT64_C(3600) * NS_PER_S,
    .concurrency = 2,
    .waiting = 100,
    .size = 1 << 20,
};

static void forget_told(void);

static int set_up(void **unused)
{
    (void)unused;
    forget_told();
    snprintf(folder, sizeof folder, "/tmp/postern-webhook-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/webhooks.db", folder);
    memset(receivers, 0, sizeof receivers);
    receivers[0].status = receivers[1].status = 200;
    got_count = 0;
    for (size_t i = 0; i < 2; i++) {
        settings[i] = plain;
        settings[i].name = i ? STR("b") : STR("a");
        webhook_choice_add(&settings[i].choice, STR("delivery.failed"));
    }
    now_ms += HOUR; /* one clock for all tests: it never goes back */
    clock_set_fake(now_ms * NS_PER_MS, (INT64_C(1764270000000) + now_ms) * NS_PER_MS);
    return 0;
}

static int tear_down(void **unused)
{
    char command[160];
    (void)unused;
    fault_disarm_all();
    clock_set_fake(-1, -1);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct webhook_dispatcher *dispatcher;
static struct scope *running;

static MAY_YIELD void settle(void)
{
    for (int i = 0; i < 100; i++)
        fiber_yield();
}

static MAY_YIELD void advance(int64_t ms)
{
    now_ms += ms;
    clock_set_fake(now_ms * NS_PER_MS, (INT64_C(1764270000000) + now_ms) * NS_PER_MS);
    settle();
}

static void use(size_t first, size_t count)
{
    const struct webhook_set set = {.items = &settings[first], .count = count};
    webhook_dispatcher_use(dispatcher, &set);
}

static MAY_YIELD void put(unsigned count)
{
    const struct event event = {.type = EVENT_DELIVERY_FAILED,
                                .count = 1,
                                .fields = {F_C(MESSAGE, "01JD8Y2T9V6W3Q0M4K7P5N1R8S")}};
    webhook_dispatcher_begin(dispatcher);
    for (unsigned i = 0; i < count; i++)
        webhook_dispatcher_take(dispatcher, &event, STR("r1"));
    webhook_dispatcher_end(dispatcher);
    settle();
}

static struct webhook_status status_of(const char *name)
{
    struct arena *arena = arena_new(0);
    size_t count;
    struct webhook_status *items = webhook_dispatcher_list(dispatcher, arena, &count);
    struct webhook_status found = {0};
    for (size_t i = 0; i < count; i++)
        if (str_equal(items[i].name, str_c(name)))
            found = items[i];
    arena_free(arena);
    return found; /* its texts are gone */
}

/* One life of a process: the dispatcher runs while `script` does. */
static void (*script)(void);

static MAY_YIELD void live(void *arg)
{
    struct scope scope;
    struct error err;
    (void)arg;
    dispatcher = webhook_dispatcher_new(str_c(path), STR("mx1"), &player);
    scope_open(&scope, TIME_NEVER);
    running = &scope;
    assert_int_equal(fiber_spawn(&scope, "dispatcher", webhook_dispatcher_run, dispatcher, &err),
                     OK);
    script();
    scope_cancel(&scope);
    scope_close(&scope);
    webhook_dispatcher_free(dispatcher);
}

static void run(void (*what)(void))
{
    script = what;
    test_in_fiber(live, NULL);
}

/* What was emitted so far, by type. */
static unsigned told[EVENT_TYPE_COUNT];
static int64_t told_count; /* of the last events.dropped */

static void take_told(const struct event *event, void *arg)
{
    (void)arg;
    told[event->type]++;
    for (unsigned i = 0; event->type == EVENT_TRACE_LOST && i < event->count; i++)
        if (event->fields[i].key == KEY_COUNT)
            told_count += event->fields[i].number;
}

static void forget_told(void)
{
    event_drain(take_told, NULL);
    memset(told, 0, sizeof told);
    told_count = 0;
}

static unsigned hear(enum event_type type)
{
    event_drain(take_told, NULL);
    unsigned count = told[type];
    told[type] = 0;
    return count;
}

/* ---- all is well ---- */

static MAY_YIELD void deliver_to_both(void)
{
    use(0, 2);
    put(30);
    assert_int_equal(receivers[0].requests, 30);
    assert_int_equal(receivers[1].requests, 30);
    assert_int_equal(receivers[0].most_running, 2);
    struct webhook_status status = status_of("a");
    assert_int_equal(status.delivered, 30);
    assert_int_equal(status.pending, 0);
    assert_false(status.is_failing);
    for (size_t i = 0; i < got_count; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(got[i].id, got[k].id);
    const struct event other = {.type = EVENT_MESSAGE_DONE};
    webhook_dispatcher_begin(dispatcher);
    webhook_dispatcher_take(dispatcher, &other, STR_EMPTY);
    webhook_dispatcher_end(dispatcher);
    settle();
    assert_int_equal(receivers[0].requests, 30);
}

static void test_each_webhook_gets_each_event_once(void **unused)
{
    (void)unused;
    run(deliver_to_both);
}

static MAY_YIELD void one_hangs(void)
{
    settings[0].concurrency = 4;
    receivers[0].hangs = true;
    use(0, 2);
    put(20);
    assert_int_equal(receivers[0].running, 4);
    assert_int_equal(receivers[1].requests, 20);
    advance(21 * SECOND); /* out of time */
    assert_int_equal(status_of("a").attempts_failed, 4);
    assert_int_equal(status_of("b").delivered, 20);
}

static void test_one_that_hangs_holds_up_no_other(void **unused)
{
    (void)unused;
    run(one_hangs);
}

/* ---- failures ---- */

static MAY_YIELD void fail_and_recover(void)
{
    receivers[0].status = 0;
    use(0, 1);
    put(50);
    assert_int_equal(receivers[0].requests, 2); /* both at once: then it is left alone */
    advance(4 * SECOND);
    assert_int_equal(receivers[0].requests, 2);
    assert_int_equal(hear(EVENT_WEBHOOK_FAILED), 0);
    advance(8 * SECOND);
    assert_int_equal(receivers[0].requests, 3); /* one at a time */
    assert_int_equal(hear(EVENT_WEBHOOK_FAILED), 1);
    assert_true(status_of("a").is_failing);
    for (int i = 0; i < 2 * 24 * 60; i++)
        advance(MINUTE);
    assert_in_range(receivers[0].requests, 2 * 24 * 3,
                    2 * 24 * 4 + 12); /* each quarter of an hour */
    assert_int_equal(hear(EVENT_WEBHOOK_FAILED), 0);
    assert_int_equal(status_of("a").pending, 50);
    receivers[0].status = 200;
    unsigned before = receivers[0].requests;
    for (int i = 0; i < 17; i++)
        advance(MINUTE);
    assert_int_equal(receivers[0].requests,
                     before + 50); /* all of them, as soon as one was taken */
    assert_int_equal(status_of("a").delivered, 50);
    assert_int_equal(hear(EVENT_WEBHOOK_RECOVERED), 1);
}

static void test_a_receiver_that_is_down_is_left_alone(void **unused)
{
    (void)unused;
    run(fail_and_recover);
}

static MAY_YIELD void one_is_refused(void)
{
    receivers[0].status = 500;
    use(0, 1);
    put(1);
    receivers[0].status = 200;
    put(5); /* others pass it */
    assert_int_equal(status_of("a").delivered, 5);
    assert_int_equal(status_of("a").pending, 1);
    advance(6 * SECOND);
    assert_int_equal(status_of("a").delivered, 6);
}

static void test_a_delivery_that_fails_holds_up_no_other(void **unused)
{
    (void)unused;
    run(one_is_refused);
}

static MAY_YIELD void wait_as_told(void)
{
    receivers[0].status = 429;
    receivers[0].retry_after = "600";
    settings[0].concurrency = 1;
    use(0, 1);
    put(3);
    assert_int_equal(receivers[0].requests, 1);
    advance(599 * SECOND);
    assert_int_equal(receivers[0].requests, 1);
    receivers[0].status = 200;
    receivers[0].retry_after = NULL;
    advance(2 * SECOND);
    assert_int_equal(status_of("a").delivered, 3);
}

static void test_retry_after_is_kept(void **unused)
{
    (void)unused;
    run(wait_as_told);
}

static MAY_YIELD void give_up(void)
{
    settings[0].give_up_ns = HOUR * NS_PER_MS;
    receivers[0].status = 500;
    use(0, 1);
    put(2);
    for (int i = 0; i < 59; i++)
        advance(MINUTE);
    assert_int_equal(status_of("a").pending, 2);
    hear(EVENT_WEBHOOK_FAILED);
    for (int i = 0; i < 20; i++)
        advance(MINUTE);
    assert_int_equal(status_of("a").failed, 2);
    assert_int_equal(status_of("a").pending, 0);
    assert_in_range(hear(EVENT_WEBHOOK_FAILED), 1, 2);

    struct arena *arena = arena_new(0);
    struct webhook_deliveries list;
    struct error err;
    bool found;
    assert_int_equal(webhook_dispatcher_deliveries(dispatcher, STR("a"), WEBHOOK_STATE_FAILED, 0, 1,
                                                   arena, &list, &err),
                     OK);
    assert_int_equal(list.count, 1);
    assert_true(list.has_more);
    receivers[0].status = 200;
    assert_int_equal(webhook_dispatcher_retry(dispatcher, list.items[0].id, &found, &err), OK);
    settle();
    assert_true(found);
    assert_int_equal(status_of("a").delivered, 1);
    assert_int_equal(webhook_dispatcher_retry(dispatcher, STR("msg_none"), &found, &err), OK);
    assert_false(found);
    arena_free(arena);
}

static void test_it_is_given_up_in_the_end_and_tried_again_on_demand(void **unused)
{
    (void)unused;
    run(give_up);
}

/* ---- 410, pause ---- */

static MAY_YIELD void be_gone(void)
{
    receivers[0].status = 410;
    use(0, 1);
    put(1);
    assert_int_equal(hear(EVENT_WEBHOOK_DISABLED), 1);
    receivers[0].status = 200;
    put(5);
    advance(HOUR);
    assert_int_equal(receivers[0].requests, 1);
    assert_int_equal(status_of("a").pending, 0);
}

static MAY_YIELD void stay_gone(void)
{
    struct error err;
    use(0, 1);
    put(1);
    assert_int_equal(receivers[0].requests, 1);
    assert_true(status_of("a").is_disabled);
    assert_int_equal(
        webhook_dispatcher_pause(dispatcher, STR("a"), /* pause= */ false, STR("uid 0"), &err), OK);
    put(1);
    assert_int_equal(status_of("a").delivered, 1);
}

static MAY_YIELD void move_on(void)
{
    settings[0].url = STR("https://other.example/");
    use(0, 1);
    put(1);
    assert_int_equal(status_of("a").delivered, 1);
}

static void test_gone_is_remembered_until_somebody_resumes(void **unused)
{
    (void)unused;
    run(be_gone);
    run(stay_gone);
}

static void test_another_url_is_not_gone(void **unused)
{
    (void)unused;
    run(be_gone);
    run(move_on);
}

static MAY_YIELD void pause_it(void)
{
    struct error err;
    use(0, 1);
    assert_int_equal(
        webhook_dispatcher_pause(dispatcher, STR("a"), /* pause= */ true, STR("uid 0"), &err), OK);
    put(5);
    advance(100 * HOUR);
    assert_int_equal(receivers[0].requests, 0);
}

static MAY_YIELD void resume_it(void)
{
    struct error err;
    use(0, 1);
    settle();
    assert_true(status_of("a").is_paused);
    assert_int_equal(receivers[0].requests, 0);
    assert_int_equal(
        webhook_dispatcher_pause(dispatcher, STR("a"), /* pause= */ false, STR("uid 0"), &err), OK);
    settle();
    assert_int_equal(status_of("a").delivered, 5);
}

static void test_a_paused_one_keeps_what_comes(void **unused)
{
    (void)unused;
    run(pause_it);
    run(resume_it);
}

/* ---- at least once ---- */

static MAY_YIELD void end_in_the_middle(void)
{
    receivers[0].hangs = true;
    use(0, 1);
    put(7);
    assert_int_equal(receivers[0].running, 2);
}

static MAY_YIELD void begin_again(void)
{
    receivers[0].hangs = false;
    use(0, 1);
    settle();
    assert_int_equal(status_of("a").delivered, 7);
}

static void test_what_was_not_answered_is_sent_again(void **unused)
{
    (void)unused;
    run(end_in_the_middle);
    run(begin_again);
    assert_int_equal(got_count, 7);
}

static MAY_YIELD void cannot_note(void)
{
    use(0, 1);
    fault_arm("webhook.note", 1, 1, ENOSPC); /* what became of it cannot be written */
    put(1);
    assert_int_equal(receivers[0].requests, 1);
    assert_int_equal(status_of("a").pending, 1);
    assert_int_equal(hear(EVENT_WEBHOOK_OUTBOX_FAILED), 1);
    advance(4 * SECOND);
    assert_int_equal(receivers[0].requests, 1); /* not again and again */
    advance(2 * SECOND);
    assert_int_equal(receivers[0].requests, 2);
    assert_string_equal(got[0].id, got[1].id);
    assert_int_equal(status_of("a").pending, 0);
    assert_int_equal(hear(EVENT_WEBHOOK_OUTBOX_BACK), 1);
}

static void test_twice_rather_than_never(void **unused)
{
    (void)unused;
    run(cannot_note);
}

/* ---- bounds ---- */

static MAY_YIELD void too_many(void)
{
    receivers[0].status = 0;
    settings[0].waiting = 10;
    use(0, 1);
    put(25);
    put(3);
    struct webhook_status status = status_of("a");
    assert_int_equal(status.pending, 10);
    assert_int_equal(status.dropped, 18);
    advance(11 * SECOND);
    assert_in_range(hear(EVENT_TRACE_LOST), 1, 2);
    assert_int_equal(told_count, 18);
    struct arena *arena = arena_new(0);
    struct webhook_deliveries list;
    struct error err;
    assert_int_equal(webhook_dispatcher_deliveries(dispatcher, STR("a"), WEBHOOK_STATE_WAITING, 0,
                                                   100, arena, &list, &err),
                     OK);
    assert_int_equal(list.items[0].row - list.items[9].row, 9); /* the newest */
    arena_free(arena);
    receivers[0].status = 200;
    for (int i = 0; i < 20; i++)
        advance(MINUTE);
    assert_int_equal(status_of("a").delivered, 10);
}

static void test_too_many_are_dropped_and_told(void **unused)
{
    (void)unused;
    run(too_many);
}

static MAY_YIELD void too_large(void)
{
    receivers[0].status = 0;
    settings[0].size = 5000;
    use(0, 1);
    put(100);
    struct webhook_status status = status_of("a");
    assert_in_range(status.pending_bytes, 3000, 5000);
    assert_int_equal(status.pending + status.dropped, 100);
}

static void test_too_large_is_dropped_likewise(void **unused)
{
    (void)unused;
    run(too_large);
}

static MAY_YIELD void no_room(void)
{
    use(0, 1);
    fault_arm("webhook.put", 3, 1, ENOSPC);
    put(5); /* all or none of them */
    assert_int_equal(status_of("a").dropped, 5);
    assert_int_equal(status_of("a").pending, 0);
    assert_int_equal(hear(EVENT_WEBHOOK_OUTBOX_FAILED), 1);
    put(2);
    assert_int_equal(status_of("a").delivered, 2);
    assert_int_equal(hear(EVENT_WEBHOOK_OUTBOX_BACK), 1);
    advance(11 * SECOND);
    assert_int_equal(hear(EVENT_TRACE_LOST), 1);
}

static void test_without_room_events_are_counted(void **unused)
{
    (void)unused;
    run(no_room);
}

static MAY_YIELD void many_finished(void)
{
    struct arena *arena = arena_new(0);
    struct webhook_deliveries list;
    struct error err;
    settings[0].waiting = 1000;
    use(0, 1);
    for (int i = 0; i < 30; i++)
        put(30);
    advance(SECOND);
    assert_int_equal(status_of("a").delivered, 900);
    assert_int_equal(
        webhook_dispatcher_deliveries(dispatcher, STR("a"), -1, 0, 1000, arena, &list, &err), OK);
    assert_in_range(list.count, 500, 550);
    arena_free(arena);
}

static void test_the_log_of_deliveries_is_bounded(void **unused)
{
    (void)unused;
    run(many_finished);
}

/* ---- another configuration, another file ---- */

static MAY_YIELD void remove_one(void)
{
    receivers[0].status = receivers[1].status = 0;
    use(0, 2);
    put(5);
    receivers[0].hangs = true; /* one is under way when its webhook goes */
    advance(15 * SECOND);
    assert_int_equal(receivers[0].running, 1);
    use(1, 1);
    settle();
    assert_int_equal(status_of("b").pending, 5);
    use(0, 2);
    assert_int_equal(status_of("a").pending, 0);
    receivers[0].hangs = false;
    advance(30 * SECOND);
    assert_int_equal(status_of("a").attempts_failed, 0);
}

static MAY_YIELD void leave_two(void)
{
    receivers[0].status = receivers[1].status = 0;
    use(0, 2);
    put(5);
}

static MAY_YIELD void come_back_with_one(void)
{
    use(1, 1);
    assert_int_equal(status_of("b").pending, 5);
    use(0, 2);
    assert_int_equal(status_of("a").pending, 0);
}

static void test_a_webhook_that_goes_takes_its_deliveries_along(void **unused)
{
    (void)unused;
    run(remove_one);
}

static void test_one_that_went_while_we_were_away_too(void **unused)
{
    (void)unused;
    run(leave_two);
    run(come_back_with_one);
}

static MAY_YIELD void work_with_a_new_file(void)
{
    use(0, 1);
    assert_int_equal(hear(EVENT_WEBHOOK_OUTBOX_DAMAGED), 1);
    put(3);
    assert_int_equal(status_of("a").delivered, 3);
}

static void test_a_damaged_file_is_set_aside(void **unused)
{
    (void)unused;
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 5000; i++)
        assert_int_equal(fputs("this is not a database ", file) >= 0, 1);
    fclose(file);
    run(work_with_a_new_file);
}

static struct webhook_delivery tested;
static char tested_answer[32];
static unsigned tests_done;

static void note_test(const struct webhook_delivery *delivery, void *arg)
{
    (void)arg;
    tests_done++;
    if (!delivery)
        return;
    tested = *delivery;
    snprintf(tested_answer, sizeof tested_answer, "%.*s", STR_ARG(delivery->answer));
}

static MAY_YIELD void test_it(void)
{
    use(0, 1);
    settle();
    webhook_dispatcher_test(dispatcher, STR("a"), note_test, NULL);
    settle();
    assert_int_equal(tests_done, 1);
    assert_int_equal(tested.state, WEBHOOK_STATE_DELIVERED);
    assert_string_equal(tested_answer, "hello");
    receivers[0].hangs = true;
    webhook_dispatcher_test(dispatcher, STR("a"), note_test, NULL);
    settle();
    assert_int_equal(tests_done, 1);
    scope_cancel(running);
    settle();
    assert_int_equal(tests_done, 2); /* it is answered at the end, too */
    webhook_dispatcher_test(dispatcher, STR("a"), note_test, NULL);
    assert_int_equal(tests_done, 3);
}

static void test_a_test_is_answered_in_any_case(void **unused)
{
    (void)unused;
    tests_done = 0;
    run(test_it);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_each_webhook_gets_each_event_once),
        TEST(test_one_that_hangs_holds_up_no_other),
        TEST(test_a_receiver_that_is_down_is_left_alone),
        TEST(test_a_delivery_that_fails_holds_up_no_other),
        TEST(test_retry_after_is_kept),
        TEST(test_it_is_given_up_in_the_end_and_tried_again_on_demand),
        TEST(test_gone_is_remembered_until_somebody_resumes),
        TEST(test_another_url_is_not_gone),
        TEST(test_a_paused_one_keeps_what_comes),
        TEST(test_what_was_not_answered_is_sent_again),
        TEST(test_twice_rather_than_never),
        TEST(test_too_many_are_dropped_and_told),
        TEST(test_too_large_is_dropped_likewise),
        TEST(test_without_room_events_are_counted),
        TEST(test_the_log_of_deliveries_is_bounded),
        TEST(test_a_webhook_that_goes_takes_its_deliveries_along),
        TEST(test_one_that_went_while_we_were_away_too),
        TEST(test_a_damaged_file_is_set_aside),
        TEST(test_a_test_is_answered_in_any_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
