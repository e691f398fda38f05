/* SPDX-License-Identifier: Apache-2.0 */
/* Incidents: the table, its file, and what accounts did shortly before. */
#include "base/test.h"

#include "gateway/incidents.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static struct str path_of(char space[80])
{
    (void)snprintf(space, 80, "%s/incidents", folder);
    return str_c(space);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/incidents-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[96];
    (void)state;
    clock_set_fake(-1, -1);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static struct incidents *open_all(void)
{
    char path[80];
    struct error err;
    struct incidents *incidents = incidents_new();
    if (incidents_load(incidents, path_of(path), &err) != OK)
        fail_msg("%s", err.text);
    return incidents;
}

static struct incident draft(const char *user)
{
    return (struct incident){
        .user = str_c(user),
        .opened_wall_ns = 5000,
        .opened_by = STR("flow"),
        .reason = STR("100% of\tit\nand more"),
        .flow = STR("outgoing"),
        .step = STR("1-limit"),
        .what = STR("messages"),
        .by = STR("user"),
        .subject = str_c(user),
        .count = 10,
        .max = 10,
        .period_ns = 60 * NS_PER_S,
        .closed_by = STR_EMPTY,
        .closing_reason = STR_EMPTY,
    };
}

static int64_t contain(struct incidents *incidents, const char *user, bool *out_new)
{
    int64_t number = 0;
    struct error err;
    struct incident incident = draft(user);
    if (incidents_open(incidents, &incident, &number, out_new, &err) != OK)
        fail_msg("%s", err.text);
    return number;
}

static enum incident_state close_it(struct incidents *incidents, int64_t number, bool drop)
{
    enum incident_state was;
    struct error err;
    struct incident_closing closing = {
        .number = number, .drop = drop, .actor = STR("uid 0"), .reason = STR("a = b")};
    assert_int_equal(incidents_close(incidents, &closing, &was, &err), OK);
    return was;
}

static void finish(struct incidents *incidents, int64_t number)
{
    struct error err;
    assert_int_equal(incidents_finish(incidents, number, &err), OK);
}

static bool contains(struct incidents *incidents, const char *user)
{
    return incidents_contains(incidents, str_c(user), NULL);
}

static void test_outlives_a_restart(void **state)
{
    bool is_new;
    (void)state;
    struct incidents *incidents = open_all();
    assert_false(contains(incidents, "anna"));
    incidents_note_message(incidents, STR("Anna"));
    for (int i = 0; i < 3; i++)
        incidents_note_recipient(incidents, STR("anna"), STR("192.0.2.1"),
                                 i ? STR("example.net") : STR("example.com"), i == 1);
    assert_int_equal(contain(incidents, "Anna", &is_new), 1);
    assert_true(is_new);
    assert_int_equal(contain(incidents, "aNNA", &is_new), 1);
    assert_false(is_new);
    for (int turn = 0; turn < 2; turn++) {
        struct arena *arena = arena_new(0);
        struct incident found;
        int64_t number = 0;
        assert_true(incidents_contains(incidents, STR("ANNA"), &number));
        assert_int_equal(number, 1);
        assert_false(contains(incidents, "bob"));
        assert_false(contains(incidents, ""));
        assert_true(incidents_find(incidents, 1, arena, &found));
        assert_false(incidents_find(incidents, 2, arena, &found));
        assert_str(found.user, "anna");
        assert_str(found.reason, "100% of\tit\nand more");
        assert_str(found.what, "messages");
        assert_int_equal(found.count, 10);
        assert_int_equal(found.period_ns, 60 * NS_PER_S);
        assert_int_equal(found.messages, 1);
        assert_int_equal(found.recipients, 3);
        assert_int_equal(found.unknown, 1);
        assert_int_equal(found.domain_count, 2);
        assert_str(found.domains[0].name, "example.net");
        assert_int_equal(found.domains[0].count, 2);
        assert_str(found.clients[0].name, "192.0.2.1");
        arena_free(arena);
        incidents_free(incidents);
        incidents = open_all();
    }
    incidents_free(incidents);
}

static void test_closing(void **state)
{
    bool is_new;
    (void)state;
    struct incidents *incidents = open_all();
    assert_int_equal(close_it(incidents, 1, false), INCIDENT_STATES);
    assert_int_equal(contain(incidents, "anna", &is_new), 1);
    assert_int_equal(contain(incidents, "bob", &is_new), 2);
    assert_int_equal(incidents_open_count(incidents), 2);
    assert_int_equal(close_it(incidents, 1, false), INCIDENT_OPEN);
    assert_int_equal(close_it(incidents, 1, true), INCIDENT_RELEASING); /* stays as it was */
    assert_false(contains(incidents, "anna"));
    assert_true(contains(incidents, "bob"));
    assert_true(incidents_is_unsettled(incidents));
    assert_true(incidents_settles(incidents, STR("Anna")));
    assert_false(incidents_settles(incidents, STR("bob")));
    incidents_free(incidents);
    incidents = open_all(); /* what is to become of the mail is known */
    assert_true(incidents_is_unsettled(incidents));
    assert_int_equal(close_it(incidents, 2, true), INCIDENT_OPEN);
    finish(incidents, 1);
    finish(incidents, 2);
    finish(incidents, 7);
    assert_false(incidents_is_unsettled(incidents));
    assert_false(incidents_settles(incidents, STR("anna")));
    assert_int_equal(close_it(incidents, 1, true), INCIDENT_RELEASED);
    assert_int_equal(close_it(incidents, 2, true), INCIDENT_DROPPED);
    assert_int_equal(contain(incidents, "anna", &is_new), 3);
    finish(incidents, 3); /* an open one is not finished */
    assert_true(contains(incidents, "anna"));
    /* what waited to be released is held again; what is to be dropped is not forgotten */
    assert_int_equal(close_it(incidents, 3, false), INCIDENT_OPEN);
    assert_int_equal(contain(incidents, "anna", &is_new), 4);
    assert_int_equal(close_it(incidents, 3, false), INCIDENT_RELEASED);
    assert_int_equal(close_it(incidents, 4, true), INCIDENT_OPEN);
    assert_int_equal(contain(incidents, "anna", &is_new), 5);
    assert_int_equal(close_it(incidents, 4, false), INCIDENT_DROPPING);
    incidents_free(incidents);
}

static void test_bounded(void **state)
{
    struct error err;
    int64_t number;
    bool is_new;
    char user[INCIDENT_USER_MAX + 2];
    (void)state;
    struct incidents *incidents = incidents_new(); /* without a file */
    for (int i = 0; i < INCIDENTS_OPEN_MAX; i++) {
        (void)snprintf(user, sizeof user, "user%d", i);
        contain(incidents, user, &is_new);
    }
    struct incident one_more = draft("one more");
    assert_int_equal(incidents_open(incidents, &one_more, &number, &is_new, &err), FAILED);
    assert_int_equal(err.kind, ERROR_LIMIT);
    assert_int_equal(contain(incidents, "user7", &is_new), 8); /* is contained */
    for (int i = 1; i <= 500; i++) {
        close_it(incidents, i, i % 2 != 0);
        finish(incidents, i);
        (void)snprintf(user, sizeof user, "again%d", i);
        contain(incidents, user, &is_new);
    }
    memset(user, 'x', INCIDENT_USER_MAX + 1);
    user[INCIDENT_USER_MAX + 1] = 0;
    struct incident long_name = draft(user);
    assert_int_equal(incidents_open(incidents, &long_name, &number, &is_new, &err), FAILED);
    assert_false(contains(incidents, user));
    incidents_free(incidents);
}

/* Closed ones are forgotten, the oldest first; open ones never. */
static void test_forgotten(void **state)
{
    bool is_new;
    size_t count;
    char user[32];
    (void)state;
    struct incidents *incidents = incidents_new();
    assert_int_equal(contain(incidents, "first", &is_new), 1);
    for (int i = 2; i < INCIDENTS_CLOSED_MAX + 20; i++) {
        (void)snprintf(user, sizeof user, "user%d", i);
        assert_int_equal(contain(incidents, user, &is_new), i);
        close_it(incidents, i, false);
        finish(incidents, i);
    }
    struct arena *arena = arena_new(0);
    struct incident *list = incidents_list(incidents, arena, &count);
    assert_true(count <= INCIDENTS_CLOSED_MAX + 2);
    assert_int_equal(list[0].number, INCIDENTS_CLOSED_MAX + 19);
    assert_int_equal(list[count - 1].number, 1);
    assert_true(contains(incidents, "first"));
    arena_free(arena);
    incidents_free(incidents);
}

static void test_damaged(void **state)
{
    static const char *const files[] = {
        "",
        "postern-incidents 2\n",
        "postern-incidents 1\nx\n",
        "postern-incidents 1\nstate=open\tnumber=1\n",
        "postern-incidents 1\nstate=odd\tnumber=1\tuser=a\n",
        "postern-incidents 1\nstate=open\tnumber=0\tuser=a\n",
        "postern-incidents 1\nstate=open\tnumber=-1\tuser=a\n",
        "postern-incidents 1\nnumber=1\tuser=a\n",
        "postern-incidents 1\nstate=open\tnumber=1\tuser=%4\n",
        "postern-incidents 1\nstate=open\tnumber=1\tuser=%zz\n",
        "postern-incidents 1\nstate=open\tnumber=1\tuser=a\tdomain=x y\n",
        "postern-incidents 1\nstate=open\tnumber=2\tuser=a\nstate=open\tnumber=1\tuser=b\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[80];
        struct error err;
        FILE *file = fopen(path_of(path).ptr, "w");
        fputs(files[i], file);
        fclose(file);
        struct incidents *incidents = incidents_new();
        if (incidents_load(incidents, path_of(path), &err) != FAILED)
            fail_msg("taken: %s", files[i]);
        assert_int_equal(err.kind, ERROR_PERMANENT);
        incidents_free(incidents);
    }
    char path[80];
    FILE *file = fopen(path_of(path).ptr, "w"); /* of a newer version */
    fputs("postern-incidents 1\nstate=open\tnumber=9\tuser=A%25%09b\tmood=bad\n", file);
    fclose(file);
    struct incidents *incidents = open_all();
    assert_true(contains(incidents, "a%\tB"));
    bool is_new;
    assert_int_equal(contain(incidents, "b", &is_new), 10);
    incidents_free(incidents);
}

/* Nothing counts that is not on disk. */
static void test_unwritten(void **state)
{
    char path[80], draft_path[96];
    struct error err;
    int64_t number;
    bool is_new;
    enum incident_state was;
    (void)state;
    struct incidents *incidents = open_all();
    contain(incidents, "anna", &is_new);
    (void)snprintf(draft_path, sizeof draft_path, "%s.new", path_of(path).ptr);
    assert_int_equal(mkdir(draft_path, 0700), 0); /* stands in the way, for root, too */
    struct incident bob = draft("bob");
    assert_int_equal(incidents_open(incidents, &bob, &number, &is_new, &err), FAILED);
    assert_false(contains(incidents, "bob"));
    struct incident_closing closing = {.number = 1, .actor = STR("x"), .reason = STR_EMPTY};
    assert_int_equal(incidents_close(incidents, &closing, &was, &err), FAILED);
    assert_true(contains(incidents, "anna"));
    assert_int_equal(rmdir(draft_path), 0);
    assert_int_equal(contain(incidents, "bob", &is_new), 2);
    incidents_free(incidents);
}

/* ---- what they did ---- */

static struct incident told(struct incidents *incidents, struct arena *arena)
{
    struct incident found;
    bool is_new;
    int64_t number = contain(incidents, "anna", &is_new);
    check(incidents_find(incidents, number, arena, &found));
    close_it(incidents, number, false);
    finish(incidents, number);
    return found;
}

static void test_recent(void **state)
{
    int64_t now_ns = 100000 * NS_PER_S;
    struct arena *arena = arena_new(0);
    (void)state;
    struct incidents *incidents = incidents_new();
    clock_set_fake(now_ns, now_ns);
    struct incident none = told(incidents, arena);
    assert_int_equal(none.recipients, 0);
    assert_int_equal(none.recent_since_wall_ns, 0);
    /* what is frequent stays, however many names come by */
    for (int i = 0; i < 1000; i++) {
        char domain[32];
        (void)snprintf(domain, sizeof domain, "d%d.example", i);
        incidents_note_recipient(incidents, STR("anna"), STR("192.0.2.1"), str_c(domain), false);
        incidents_note_recipient(incidents, STR("anna"), STR("192.0.2.2"), STR("often.example"),
                                 false);
    }
    struct incident found = told(incidents, arena);
    assert_int_equal(found.recipients, 2000);
    assert_int_equal(found.domain_count, INCIDENT_SHARES);
    assert_str(found.domains[0].name, "often.example");
    assert_int_equal(found.client_count, 2);
    /* in the next hour both are told, later only what is left of them */
    now_ns += 3700 * NS_PER_S;
    clock_set_fake(now_ns, now_ns);
    incidents_note_recipient(incidents, STR("ANNA"), STR("192.0.2.3"), STR("late.example"), true);
    found = told(incidents, arena);
    assert_int_equal(found.recipients, 2001);
    assert_int_equal(found.client_count, 3);
    now_ns += 3700 * NS_PER_S;
    clock_set_fake(now_ns, now_ns);
    assert_int_equal(told(incidents, arena).recipients, 1);
    now_ns += 9000 * NS_PER_S;
    clock_set_fake(now_ns, now_ns);
    assert_int_equal(told(incidents, arena).recipients, 0);
    arena_free(arena);
    incidents_free(incidents);
}

/* Users come and go; the one who is at it stays. */
static void test_recent_is_bounded(void **state)
{
    struct arena *arena = arena_new(0);
    (void)state;
    struct incidents *incidents = incidents_new();
    for (int i = 0; i < 5000; i++) {
        char user[32];
        (void)snprintf(user, sizeof user, "user%d", i);
        incidents_note_message(incidents, str_c(user));
        incidents_note_message(incidents, STR("anna"));
    }
    assert_int_equal(told(incidents, arena).messages, 5000);
    arena_free(arena);
    incidents_free(incidents);
}

int main(void)
{
#define CASE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_outlives_a_restart),
        CASE(test_closing),
        CASE(test_bounded),
        CASE(test_forgotten),
        CASE(test_damaged),
        CASE(test_unwritten),
        CASE(test_recent),
        CASE(test_recent_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
