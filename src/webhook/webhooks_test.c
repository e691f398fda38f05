/* SPDX-License-Identifier: Apache-2.0 */
/* The thread: events that come faster than they are taken cost bounded memory, and none is lost
 * uncounted. */
#include "base/test.h"

#include "webhook/webhooks.h"

#include "base/clock.h"
#include "net/dns.h"

#include <stdio.h>
#include <stdlib.h>

static char folder[64];

static int set_up(void **unused)
{
    (void)unused;
    snprintf(folder, sizeof folder, "/tmp/postern-webhooks-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **unused)
{
    char command[160];
    (void)unused;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct webhooks *webhooks;
static uint64_t counted; /* told as lost */

static void offer(const struct event *event, void *arg)
{
    unsigned times = *(const unsigned *)arg;
    for (unsigned i = 0; i < times; i++)
        webhooks_offer(webhooks, event, STR("r1"));
}

static void count_lost(const struct event *event, void *arg)
{
    (void)arg;
    for (unsigned i = 0; event->type == EVENT_TRACE_LOST && i < event->count; i++)
        if (event->fields[i].key == KEY_COUNT)
            counted += (uint64_t)event->fields[i].number;
}

static unsigned released;

static void release_set(void *keeper)
{
    assert_ptr_equal(keeper, folder);
    released++;
}

static void test_a_flood_is_bounded_and_counted(void **unused)
{
    enum { FLOOD = 100000 };
    const struct dns_settings dns = {0};
    static struct webhook_settings settings = {
        .name = {.ptr = "ops", .len = 3},
        .url = {.ptr = "https://h.example/", .len = 18},
        .timeout_ns = NS_PER_S,
        .give_up_ns = 3600 * NS_PER_S,
        .concurrency = 1,
        .waiting = 1000000,
        .size = 1 << 30,
    };
    struct error err;
    unsigned flood = FLOOD;
    (void)unused;
    assert_int_equal(webhook_choice_add(&settings.choice, STR("message.done")), WEBHOOK_WORD_TAKEN);
    assert_int_equal(webhooks_start(str_c(folder), STR("mx1"), &dns, &webhooks, &err), OK);
    const struct webhook_set set = {
        .items = &settings, .count = 1, .keeper = folder, .release = release_set};
    webhooks_use(webhooks, &set);
    webhooks_halt(webhooks); /* nothing is sent */
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(MESSAGE, "unwanted"));
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, "01JD8Y2T9V6W3Q0M4K7P5N1R8S"));
    event_drain(offer, &flood); /* as if the thread did not come round meanwhile */
    webhooks_release(webhooks);

    struct arena *arena = arena_new(0);
    size_t count;
    struct webhook_status *items = webhooks_list(webhooks, arena, &count);
    assert_int_equal(count, 1);
    uint64_t kept = items[0].pending;
    arena_free(arena);
    assert_in_range(kept, 10000, FLOOD - 10000); /* as many as 4 MiB hold */

    unsigned few = 5; /* it goes on */
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, "01JD8Y2T9V6W3Q0M4K7P5N1R8S"));
    event_drain(offer, &few);
    webhooks_release(webhooks);
    arena = arena_new(0);
    items = webhooks_list(webhooks, arena, &count);
    assert_int_equal(items[0].pending, kept + few);
    arena_free(arena);
    webhooks_stop(webhooks);
    assert_int_equal(released, 1);
    event_drain(count_lost, NULL);
    assert_int_equal(kept + counted, FLOOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_flood_is_bounded_and_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
