/* SPDX-License-Identifier: Apache-2.0 */
/* An expression, the index and the stories: the index must never hide what an expression fits. */
#include "history/event_filter.h"

#include "base/memory.h"
#include "base/test.h"
#include "history/store_test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    char folder[TEST_FOLDER_SIZE];
    struct store *store;
};

static void give(const struct event *event, void *arg)
{
    struct fixture *fixture = arg;
    store_put(fixture->store, event, STR("r1"));
}

static void open_store(struct fixture *fixture)
{
    struct store_settings settings = test_store_settings(fixture->folder);
    fixture->store = test_store_open(&settings);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    test_folder_make(fixture->folder);
    open_store(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    test_folder_remove(fixture->folder, fixture->store);
    free(fixture);
    return 0;
}

/* ---- what happened ---- */

static void accepted(struct fixture *fixture, const char *to)
{
    struct mail_id_text id = mail_id_text(mail_id_new());
    event_emit(EVENT_RECIPIENT_ACCEPT, F_C(MESSAGE, id.chars), F_C(CLIENT, "192.0.2.1"),
               F_C(FROM, "ann@far.example"), F_C(TO, to), F_C(REASON, "none"));
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(MESSAGE, id.chars), F_C(SUBJECT, "Lunch on Friday"),
               F_C(MESSAGE_ID, "<m1@far.example>"));
    event_emit(EVENT_DELIVERY_SENT, F_C(MESSAGE, id.chars), F_C(TO, to));
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, id.chars));
    event_drain(give, fixture);
}

static void refused(struct fixture *fixture, const char *to, const char *reason)
{
    struct mail_id_text id = mail_id_text(mail_id_new());
    event_emit(EVENT_RECIPIENT_REJECT, F_C(MESSAGE, id.chars), F_C(CLIENT, "198.51.100.9"),
               F_C(USER, "eve@example.org"), F_C(FROM, "ann@far.example"), F_C(TO, to),
               F_C(REASON, reason));
    event_emit(EVENT_MESSAGE_REJECTED, F_C(MESSAGE, id.chars), F_C(REASON, reason),
               F_C(REF, "7KQ2M9XD"));
    event_drain(give, fixture);
}

static void deferred(struct fixture *fixture, const char *to)
{
    struct mail_id_text id = mail_id_text(mail_id_new());
    event_emit(EVENT_DELIVERY_DEFERRED, F_C(MESSAGE, id.chars), F_C(TO, to),
               F_C(ERROR, "no answer from mx.far.example"));
    event_drain(give, fixture);
}

static void live(struct fixture *fixture)
{
    accepted(fixture, "bob@example.org");
    refused(fixture, "nobody@example.org", "recipient_unknown");
    refused(fixture, "x@elsewhere.example", "relay_denied");
    deferred(fixture, "bob@example.org");
}

/* ---- asking ---- */

struct search {
    struct store_reader *reader;
    struct event_filter filter;
    unsigned fits;
    size_t looked_at, found;
};

static void take_event(const struct event *event, struct str revision, void *arg)
{
    struct search *search = arg;
    (void)revision;
    for (size_t i = 0; i < search->filter.count; i++) {
        if (event_term_fits(&search->filter.terms[i], event))
            search->fits |= 1U << i;
    }
}

static bool take_story(struct mail_id id, void *arg)
{
    struct search *search = arg;
    search->fits = 0;
    search->looked_at++;
    if (store_story(search->reader, id, take_event, search))
        search->found += search->fits == (1U << search->filter.count) - 1;
    return true;
}

/* As find does, or by looking at every story there is. */
static struct search ask(struct fixture *fixture, const char *text, bool index)
{
    struct search search = {0};
    struct error err = {0};
    struct arena *arena = arena_new(65536);
    if (event_filter_parse(str_c(text), arena, &search.filter, &err) != OK)
        fail_msg("%s: %s", text, err.text);
    if (store_reader_open(fixture->store, &search.reader, &err) != OK)
        fail_msg("%s", err.text);
    if (index)
        event_filter_search(&search.filter, search.reader, UINT64_MAX, take_story, &search);
    else
        store_search(search.reader, NULL, 0, search.filter.range, take_story, &search);
    store_reader_close(search.reader);
    arena_free(arena);
    return search;
}

static const struct {
    const char *text;
    size_t found;
    size_t looked_at; /* with the index; 4 stories in all */
} questions[] = {
    {"", 4, 4},
    {"to:bob@example.org", 2, 2},
    {"rcpt:bob@example.org", 0, 2},
    {"to:@example.org", 3, 3},
    {"from:ann@far.example", 3, 3},
    {"from:ann@far.example client:192.0.2.1", 1, 1},
    {"from:ann@far.example user:eve@example.org", 2, 2},
    {"user:@example.org", 2, 4},
    {"reason:relay_denied", 1, 1},
    {"reason:RELAY_DENIED", 1, 1},
    {"reason:none", 1, 1},
    {"reason:relay_denied to:@example.org", 0, 1},
    {"reason:recipient_unknown to:@example.org", 1, 1},
    {"verdict:refused", 2, 2},
    {"verdict:deferred", 1, 1},
    {"verdict:delivered", 1, 4},
    {"verdict:held", 0, 0},
    {"event:delivery.deferred", 1, 1},
    {"event:delivery.", 2, 4},
    {"event:recipient.rej", 2, 2},
    {"severity:warn", 1, 1},
    {"severity:info", 4, 4},
    {"friday", 1, 1},
    {"friday verdict:refused", 0, 2},
    {"error:far.example", 1, 4},
    {"to:nobody@nowhere.example verdict:refused", 0, 0},
    {"FRIDAY lunch", 1, 1},
    {"subject:\"on fri\"", 1, 1},
    {"subject:monday", 0, 0},
    {"subject:far", 0, 4},
    {"\"bob@example.org\"", 2, 2},
    {"\"example.org\" lunch", 1, 4},
    /* without a key */
    {"bob@example.org", 2, 2},
    {"BOB@example.org friday", 1, 2},
    {"eve@example.org", 2, 2},
    {"m1@far.example", 1, 1},
    {"<m1@far.example>", 1, 1},
    {"message_id:m1@far.example", 1, 1},
    {"message_id:<M1@far.example>", 1, 1},
    {"@example.org", 3, 3},
    {"example.org", 3, 3},
    {"far.example", 3, 3},
    {"192.0.2.1", 1, 1},
    {"2001:db8::25", 0, 0},
    {"7KQ2M9XD", 2, 2},
    {"1234", 0, 0},
};
enum { QUESTIONS = sizeof questions / sizeof *questions };

static void test_the_index_finds_what_a_walk_finds(void **state)
{
    struct fixture *fixture = *state;
    live(fixture);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < QUESTIONS; i++) {
            const char *text = questions[i].text;
            struct search search = ask(fixture, text, true);
            struct search walk = ask(fixture, text, false);
            if (search.found != questions[i].found || walk.found != questions[i].found ||
                search.looked_at != questions[i].looked_at)
                fail_msg("%s: %zu found of %zu looked at, walking %zu", text, search.found,
                         search.looked_at, walk.found);
        }
        store_close(take(fixture->store));
        open_store(fixture);
    }
}

/* Stories that a version before wrote: of events and reasons nothing is in its index. */
static void test_stories_of_an_earlier_version(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    sqlite3 *db = NULL;
    live(fixture);
    store_close(take(fixture->store));
    snprintf(path, sizeof path, "%s/events.db", fixture->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DELETE FROM fresh; DROP TABLE marks", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    usleep(2000); /* ids of another millisecond */
    open_store(fixture);
    assert_int_equal(ask(fixture, "reason:relay_denied", true).found, 1);
    live(fixture);
    assert_int_equal(ask(fixture, "reason:relay_denied", true).found, 2);
    assert_int_equal(ask(fixture, "verdict:refused", true).found, 4);
    assert_int_equal(ask(fixture, "event:delivery.deferred", true).found, 2);
    assert_int_equal(ask(fixture, "severity:warn since:1h", true).found, 2);
}

/* A common word beside a rare one: only what has both is looked at. */
static void test_terms_are_crossed(void **state)
{
    enum { MANY = 2000 };
    struct fixture *fixture = *state;
    for (int i = 0; i < MANY; i++) {
        char to[64];
        snprintf(to, sizeof to, "u%d@example.org", i);
        if (i % 3)
            accepted(fixture, to);
        else
            refused(fixture, to, i % 2 ? "spam" : "virus");
    }
    struct search search = ask(fixture, "from:ann@far.example reason:spam", true);
    assert_int_equal(search.found, MANY / 6);
    assert_int_equal(search.looked_at, MANY / 6);
    search = ask(fixture, "client:198.51.100.9 reason:virus to:u600@example.org", true);
    assert_int_equal(search.found, 1);
    assert_int_equal(search.looked_at, 1);
}

static bool take_first(struct mail_id id, void *arg)
{
    struct search *search = arg;
    take_story(id, search);
    return search->found == 0;
}

/* So many bytes at once: the answer says how far back it came, and `until` goes on from there,
 * until the first story of all is found. */
static void test_looking_back_in_pieces(void **state)
{
    enum { PIECES = 20, EACH = 50, BYTES = 8 * 1024 };
    struct fixture *fixture = *state;
    int64_t now_ns = clock_wall_ns();
    struct search search = {0};
    struct arena *arena = arena_new(65536);
    struct error err = {0};
    for (int i = 0; i < PIECES; i++) {
        for (int k = 0; k < EACH; k++)
            accepted(fixture, i == 0 && k == 0 ? "the-first@example.org" : "bob@example.org");
        assert_int_equal(store_reader_open(fixture->store, &search.reader, &err), OK);
        store_reader_close(search.reader); /* written: the next ones are in rows of their own */
        clock_set_fake(-1, now_ns + (i + 1) * NS_PER_S);
    }
    clock_set_fake(-1, -1);
    assert_int_equal(event_filter_parse(STR("\"THE-first\""), arena, &search.filter, &err), OK);
    assert_int_equal(store_reader_open(fixture->store, &search.reader, &err), OK);
    unsigned rounds = 0;
    int64_t back_ms;
    do {
        back_ms = event_filter_search(&search.filter, search.reader, BYTES, take_first, &search);
        assert_true(back_ms <= search.filter.range.until_ms);
        search.filter.range.until_ms = back_ms;
        rounds++;
    } while (back_ms && rounds < 1000);
    store_reader_close(search.reader);
    arena_free(arena);
    assert_int_equal(search.found, 1);
    assert_int_equal(search.looked_at, 1);
    assert_in_range(rounds, 3, 100);
}

/* What cannot be meant is told, rather than found nothing for. */
static void test_what_can_be_meant(void **state)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"event:delivery.sent", true},
        {"event:delivery.", true},
        {"event:delivery.snt", false},
        {"event:nonsense", false},
        {"since:2026-11-24", true},
        {"since:2026-11-24T10:21", true},
        {"since:2026-11-24T10:21:30Z", true},
        {"until:2026-11-24T10:21:30.412Z", true},
        {"until:2026-11-24T10:21:30.41", false},
        {"since:\"2026-11-24 10:21:30\"", true},
        {"since:\"2026-11-24 10:21\"", true},
        {"since:2d", true},
        {"since:yesterdayy", false},
        {"since:2026-11-24T", false},
        {"frm:a@b", false},
        {"verdict:nice", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_new(0);
        struct event_filter filter;
        struct error err;
        bool good = event_filter_parse(str_c(cases[i].text), arena, &filter, &err) == OK;
        if (good != cases[i].good)
            fail_msg("%s is %s", cases[i].text, good ? "taken" : "refused");
        arena_free(arena);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_index_finds_what_a_walk_finds),
        CASE(test_stories_of_an_earlier_version),
        CASE(test_terms_are_crossed),
        CASE(test_looking_back_in_pieces),
        cmocka_unit_test(test_what_can_be_meant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
