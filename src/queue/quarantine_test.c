/* SPDX-License-Identifier: Apache-2.0 */
/* Mail in quarantine: sealed, counted, limited, released in parts, and never lost with a key. */
#include "queue/queue_test.h"

#include "spool/vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "the treasure lies behind the old mill"

static struct spool_vault *vault_of(const struct world *world, const char *name, bool with_key)
{
    char path[128];
    struct spool_vault *vault = NULL;
    struct error err = {0};
    (void)snprintf(path, sizeof path, "%s-%s", world->folder, name);
    assert_int_equal(spool_vault_open(str_c(path), STR_EMPTY, &vault, &err), OK);
    if (with_key)
        assert_int_equal(spool_vault_prepare(vault, &err), OK);
    unlink(path);
    return vault;
}

static void begin(struct world *world, size_t workers)
{
    world_init(world, workers);
    world->vault = vault_of(world, "keys", /* with_key= */ true);
    world->content_verdict = QUEUE_CONTENT_DELIVER;
    world_start(world);
}

static void end(struct world *world)
{
    world_stop(world);
    world_done(world);
    spool_vault_close(world->vault);
}

static struct letter letter_to(const char *to)
{
    return (struct letter){.to = {to},
                           .content_flow = "flow",
                           .quarantine = "spam",
                           .held = true,
                           .text = "Subject: x\r\n\r\n" SECRET "\r\n"};
}

static void put(struct world *world, const struct letter *letter)
{
    struct error err = {0};
    if (world_submit(world, letter, &err) != OK)
        fail_msg("%s", err.text);
}

static const struct queue_selector all_of_it = {.quarantine = {"*", 1}, .state = -1};

static struct queue_list list(struct world *world, const struct queue_selector *selector,
                              struct arena *arena)
{
    struct queue_list out = {0};
    struct error err = {0};
    assert_int_equal(queue_list(world->queue, selector, arena, &out, &err), OK);
    return out;
}

static size_t count(struct world *world, const struct queue_selector *selector)
{
    struct arena *arena = arena_new(0);
    size_t found = list(world, selector, arena).total;
    arena_free(arena);
    return found;
}

static struct queue_action_result act(struct world *world, enum queue_verb verb, const char *to)
{
    struct queue_selector selector = all_of_it;
    struct queue_action action = {.verb = verb, .only_to = true};
    struct queue_action_result result = {0};
    struct error err = {0};
    selector.to = str_c(to);
    assert_int_equal(queue_act(world->queue, &selector, &action, &result, &err), OK);
    return result;
}

/* Does it stand somewhere in the files of the spool? */
static bool is_on_disk(const struct world *world, const char *text)
{
    char command[256];
    (void)snprintf(command, sizeof command, "grep -rqaF '%s' %s", text, world->folder);
    return system(command) == 0;
}

static bool is_balanced(struct world *world)
{
    struct queue_totals totals = queue_totals(world->queue);
    return queue_balance(&totals) == 0;
}

/* ---- sealed ---- */

static void test_sealed(void **state)
{
    struct world world;
    struct arena *arena = arena_new(0);
    struct letter letter = letter_to("ok@example.net"), open = letter;
    struct error err;
    struct buf raw BUF_CLEANUP;
    bool found;
    (void)state;
    begin(&world, 2);
    put(&world, &letter);
    assert_false(is_on_disk(&world, SECRET) || is_on_disk(&world, "mallory"));
    struct queue_list items = list(&world, &all_of_it, arena);
    assert_int_equal(items.count, 1);
    assert_true(str_equal(items.items[0].kept->subject, STR("A subject")));
    assert_true(str_equal(items.items[0].kept->author, STR("mallory@example.com")));
    buf_init(&raw, 4096);
    assert_int_equal(queue_raw(world.queue, items.items[0].entry, &raw, &found, &err), OK);
    assert_true(found && str_find_str(buf_str(&raw), STR(SECRET)) > 0);
    assert_int_equal(items.items[0].size, raw.len);
    /* after a start, too; and what goes out is what came in */
    world_stop(&world);
    world_start(&world);
    assert_int_equal(count(&world, &all_of_it), 1);
    assert_int_equal(act(&world, QUEUE_RELEASE, "").done, 1);
    WAIT_FOR(sink_taken(world.sink) == 1);
    char *message = sink_message_for(world.sink, "ok@example.net");
    assert_non_null(strstr(message, "Received: from test\r\nSubject: x\r\n\r\n" SECRET));
    free(message);
    /* red control: held, but in no quarantine */
    open.quarantine = NULL;
    put(&world, &open);
    assert_true(is_on_disk(&world, SECRET));
    assert_true(is_balanced(&world));
    arena_free(arena);
    end(&world);
}

/* Whatever the flow says of what is released, the books are balanced, and nothing stays sealed. */
static void test_verdicts(void **state)
{
    static const struct {
        const char *name;
        enum queue_content_verdict verdict;
        uint64_t delivered, discarded, failed_dsn, held;
    } cases[] = {
        {"deliver", QUEUE_CONTENT_DELIVER, 1, 0, 0, 0},
        {"discard", QUEUE_CONTENT_DISCARD, 0, 1, 0, 0},
        {"reject", QUEUE_CONTENT_REJECT, 1, 0, 1, 0}, /* the notification */
        {"hold", QUEUE_CONTENT_HOLD, 0, 0, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world;
        struct letter letter = letter_to("ok@example.net");
        letter.from = "ok-me@example.org";
        begin(&world, 1);
        world.content_verdict = cases[i].verdict;
        put(&world, &letter);
        assert_int_equal(queue_totals(world.queue).quarantined, 1);
        assert_int_equal(act(&world, QUEUE_RELEASE, "").done, 1);
        WAIT_FOR(queue_totals(world.queue).delivered == cases[i].delivered &&
                 queue_totals(world.queue).discarded == cases[i].discarded &&
                 queue_totals(world.queue).failed_dsn == cases[i].failed_dsn &&
                 queue_totals(world.queue).held == cases[i].held);
        assert_int_equal(count(&world, &all_of_it), 0);
        assert_int_equal(queue_quarantine_bytes(world.queue, STR("spam")), 0);
        assert_true(is_balanced(&world));
        end(&world);
    }
}

/* ---- keys ---- */

static void test_no_key(void **state)
{
    struct world world;
    struct letter letter = letter_to("ok@example.net");
    struct error err = {0};
    (void)state;
    world_init(&world, 1);
    world.vault = vault_of(&world, "none", /* with_key= */ false);
    world_start(&world);
    assert_int_equal(world_submit(&world, &letter, &err), FAILED);
    assert_int_equal(err.kind, ERROR_TEMPORARY);
    assert_int_equal(queue_totals(world.queue).accepted, 0);
    assert_false(is_on_disk(&world, SECRET));
    letter.quarantine = NULL; /* others need none */
    put(&world, &letter);
    end(&world);
}

static void restart_with(struct world *world, struct spool_vault *vault)
{
    world_stop(world);
    world->vault = vault;
    world_start(world);
}

static void test_lost_key(void **state)
{
    struct world world;
    struct arena *arena = arena_new(0);
    struct letter letter = letter_to("ok@example.net");
    struct buf raw BUF_CLEANUP;
    struct error err = {0};
    bool found;
    size_t unreadable;
    (void)state;
    begin(&world, 2);
    put(&world, &letter);
    world_stop(&world);
    struct spool_vault *lost = world.vault;
    world.vault = vault_of(&world, "other", /* with_key= */ true);
    world_start(&world);
    assert_int_equal(queue_quarantine_unreadable(world.queue, &unreadable, &err), OK);
    assert_int_equal(unreadable, 1);
    struct queue_list items = list(&world, &all_of_it, arena);
    assert_non_null(strstr(items.items[0].kept->problem.ptr, "which is not in"));
    struct queue_action_result result = act(&world, QUEUE_RELEASE, "");
    assert_int_equal(result.matched, 1);
    assert_int_equal(result.done, 0);
    assert_int_equal(result.unreadable, 1);
    assert_int_equal(act(&world, QUEUE_FAIL, "").done, 0);
    buf_init(&raw, 4096);
    assert_int_equal(queue_raw(world.queue, items.items[0].entry, &raw, &found, &err), FAILED);
    assert_int_equal(raw.len, 0);
    assert_int_equal(count(&world, &all_of_it), 1);
    /* released with its key, which goes before the flow has run: back to where it lay */
    struct spool_vault *other = world.vault;
    restart_with(&world, lost);
    world.grace_ns = 1;
    atomic_store(&world.content_waits, true);
    assert_int_equal(act(&world, QUEUE_RELEASE, "").done, 1);
    restart_with(&world, other);
    atomic_store(&world.content_waits, false);
    WAIT_FOR(count(&world, &all_of_it) == 1);
    assert_int_equal(sink_taken(world.sink), 0);
    restart_with(&world, lost);
    spool_vault_close(other);
    assert_int_equal(act(&world, QUEUE_RELEASE, "").done, 1);
    WAIT_FOR(sink_taken(world.sink) == 1);
    assert_int_equal(queue_totals(world.queue).damaged, 0);
    arena_free(arena);
    end(&world);
}

/* ---- parts ---- */

static void test_parts(void **state)
{
    struct world world;
    struct arena *arena = arena_new(0);
    struct letter letter = letter_to("ok-a@example.net");
    (void)state;
    letter.to[1] = "ok-b@example.net";
    letter.to[2] = "ok-c@other.test";
    begin(&world, 2);
    put(&world, &letter);
    assert_int_equal(act(&world, QUEUE_RELEASE, "nobody@example.net").matched, 0);
    assert_int_equal(act(&world, QUEUE_RELEASE, "OK-B@example.net").done, 1);
    WAIT_FOR(sink_taken(world.sink) == 1);
    char *message = sink_message_for(world.sink, "ok-b@example.net");
    assert_non_null(strstr(message, SECRET));
    free(message);
    assert_null(sink_message_for(world.sink, "ok-a@example.net"));
    world_stop(&world);
    world_start(&world);
    struct queue_list items = list(&world, &all_of_it, arena);
    assert_int_equal(items.count, 1);
    assert_int_equal(items.items[0].recipient_count, 2);
    assert_true(str_equal(items.items[0].kept->subject, STR("A subject")));
    assert_int_equal(act(&world, QUEUE_DROP, "@other.test").done, 1);
    WAIT_FOR(queue_totals(world.queue).dropped == 1);
    assert_int_equal(act(&world, QUEUE_DROP, "@other.test").matched, 0);
    assert_int_equal(act(&world, QUEUE_RELEASE, "").done, 1);
    WAIT_FOR(sink_taken(world.sink) == 2);
    WAIT_FOR(queue_totals(world.queue).delivered == 2);
    assert_true(is_balanced(&world));
    arena_free(arena);
    end(&world);
}

/* ---- limits ---- */

static size_t expire(struct world *world, int64_t keep_ns, uint64_t size)
{
    struct queue_quarantine_limits limits = {STR("spam"), keep_ns, size};
    struct error err;
    size_t gone;
    assert_int_equal(queue_quarantine_expire(world->queue, &limits, &gone, &err), OK);
    return gone;
}

static void test_limits(void **state)
{
    struct world world;
    struct arena *arena = arena_new(0);
    struct letter letter = letter_to("ok@example.net"), other = letter;
    const int64_t day_ns = INT64_C(86400) * NS_PER_S;
    (void)state;
    other.quarantine = "other";
    begin(&world, 2);
    assert_int_equal(expire(&world, 0, 1), 0); /* there is none */
    for (size_t i = 0; i < 6; i++) {
        letter.worker = i % 2;
        put(&world, &letter);
        usleep(2000); /* ids are of milliseconds: an order over both workers */
    }
    put(&world, &other);
    struct queue_list before = list(&world, &all_of_it, arena);
    uint64_t bytes = queue_quarantine_bytes(world.queue, STR("spam")), each = bytes / 6;
    assert_true(bytes > 0 && bytes % 6 == 0);
    assert_int_equal(expire(&world, day_ns, 0), 0);
    assert_int_equal(expire(&world, day_ns, bytes), 0);
    assert_int_equal(expire(&world, day_ns, bytes - 1), 1);
    assert_int_equal(expire(&world, day_ns, 3 * each + each / 2), 2);
    assert_int_equal(queue_quarantine_bytes(world.queue, STR("spam")), 3 * each);
    struct queue_list after = list(&world, &all_of_it, arena);
    assert_int_equal(after.count, 4);
    for (size_t i = 0; i < 4; i++) /* the oldest went, whichever worker had them */
        assert_true(mail_id_equal(after.items[i].entry, before.items[i + 3].entry));
    assert_int_equal(expire(&world, 0, 0), 3);
    assert_int_equal(count(&world, &all_of_it), 1); /* the other one has limits of its own */
    WAIT_FOR(queue_totals(world.queue).discarded == 6);
    assert_true(is_balanced(&world));
    world_stop(&world);
    world_start(&world);
    assert_int_equal(count(&world, &all_of_it), 1);
    assert_true(queue_quarantine_bytes(world.queue, STR("other")) > 0);
    arena_free(arena);
    end(&world);
}

/* ---- digests ---- */

static void test_digested(void **state)
{
    struct world world;
    struct arena *arena = arena_new(0);
    struct letter letter = letter_to("ok@example.net");
    struct queue_selector untold = {.quarantine = STR("spam"), .undigested = true, .state = -1};
    struct error err;
    (void)state;
    begin(&world, 2);
    put(&world, &letter);
    struct queue_list items = list(&world, &untold, arena);
    assert_int_equal(items.count, 1);
    assert_int_equal(
        queue_quarantine_digested(world.queue, &items.items[0].entry, items.count, &err), OK);
    put(&world, &letter);
    assert_int_equal(count(&world, &untold), 1);
    world_stop(&world);
    world_start(&world);
    assert_int_equal(count(&world, &untold), 1);
    assert_int_equal(count(&world, &all_of_it), 2);
    arena_free(arena);
    end(&world);
}

static void test_search(void **state)
{
    static const struct {
        const char *name;
        struct queue_selector selector;
        size_t found;
    } cases[] = {
        {"all", {.quarantine = STR("*")}, 1},
        {"name", {.quarantine = STR("spam")}, 1},
        {"other name", {.quarantine = STR("spa")}, 0},
        {"subject", {.quarantine = STR("*"), .subject = STR("A SUB")}, 1},
        {"other subject", {.quarantine = STR("*"), .subject = STR("mallory")}, 0},
        {"sender", {.quarantine = STR("*"), .from = STR("@example.org")}, 1},
        {"held elsewhere", {.quarantine = STR_EMPTY}, 2},
        {"subject elsewhere", {.subject = STR("subject")}, 1},
    };
    struct world world;
    struct letter letter = letter_to("ok@example.net");
    (void)state;
    begin(&world, 2);
    put(&world, &letter);
    letter.quarantine = NULL;
    put(&world, &letter);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct queue_selector selector = cases[i].selector;
        selector.state = -1;
        if (count(&world, &selector) != cases[i].found)
            fail_msg("%s: %zu", cases[i].name, count(&world, &selector));
    }
    end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed),   cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_no_key),   cmocka_unit_test(test_lost_key),
        cmocka_unit_test(test_parts),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_digested), cmocka_unit_test(test_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
