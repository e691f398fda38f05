/* SPDX-License-Identifier: Apache-2.0 */
/* Stories that share a row and refer to bases: each comes out as its events went in. */
#include "history/store_bundle.h"

#include "history/store_pack.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/test.h"
#include "history/store_test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SESSIONS = 7, MESSAGES = 300, TEXT_MAX = 64 * 1024 };

/* What one message or session was told of, as lines of JSON. */
struct expected {
    char name[MAIL_ID_LEN + 1];
    struct buf lines;
};

struct fixture {
    char folder[TEST_FOLDER_SIZE];
    struct store *store;
    const char *revision;
    struct expected sessions[SESSIONS], messages[MESSAGES];
};

static void open_store(struct fixture *fixture)
{
    struct store_settings settings = test_store_settings(fixture->folder);
    fixture->store = test_store_open(&settings);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    test_folder_make(fixture->folder);
    for (int i = 0; i < SESSIONS; i++)
        buf_init(&fixture->sessions[i].lines, TEXT_MAX);
    for (int i = 0; i < MESSAGES; i++)
        buf_init(&fixture->messages[i].lines, TEXT_MAX);
    fixture->revision = "r7";
    open_store(fixture);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < SESSIONS; i++)
        buf_done(&fixture->sessions[i].lines);
    for (int i = 0; i < MESSAGES; i++)
        buf_done(&fixture->messages[i].lines);
    test_folder_remove(fixture->folder, fixture->store);
    free(fixture);
    return 0;
}

/* ---- what goes in ---- */

static struct str text_of(const struct event *event, enum event_key key)
{
    for (unsigned i = 0; i < event->count; i++) {
        if (event->fields[i].key == key)
            return event->fields[i].text;
    }
    return STR_EMPTY;
}

static void give(const struct event *event, void *arg)
{
    struct fixture *fixture = arg;
    struct str message = text_of(event, KEY_MESSAGE);
    struct str session = text_of(event, KEY_SESSION);
    for (int i = 0; i < MESSAGES && message.len; i++) {
        if (str_equal(message, str_c(fixture->messages[i].name)))
            event_format_json(event, STR_EMPTY, str_c(fixture->revision),
                              &fixture->messages[i].lines);
    }
    for (int i = 0; i < SESSIONS && message.len == 0; i++) {
        if (str_equal(session, str_c(fixture->sessions[i].name)))
            event_format_json(event, STR_EMPTY, str_c(fixture->revision),
                              &fixture->sessions[i].lines);
    }
    store_put(fixture->store, event, str_c(fixture->revision));
}

static void new_name(struct expected *one)
{
    snprintf(one->name, sizeof one->name, "%s", mail_id_text(mail_id_new()).chars);
}

static void say_session(const struct expected *session)
{
    event_emit(EVENT_SESSION_OPEN, F_C(SESSION, session->name), F_C(LISTENER, "in"),
               F_C(CLIENT, "192.0.2.1"), F_INT(CLIENT_PORT, 4711));
    event_emit(EVENT_SESSION_TLS, F_C(SESSION, session->name), F_C(LISTENER, "in"),
               F_C(CLIENT, "192.0.2.1"), F_C(TLS, "TLSv1.3"));
}

/* A part of a message, so that those of many lie between each other. */
static void say_part(const struct fixture *fixture, int number, int part)
{
    const char *name = fixture->messages[number].name;
    char to[64];
    char subject[64];
    struct event_field context[] = {F_C(MESSAGE, name),
                                    F_C(SESSION, fixture->sessions[number % SESSIONS].name),
                                    F_C(LISTENER, "in"), F_C(CLIENT, "192.0.2.1")};
    snprintf(to, sizeof to, "user%d@example.org", number % 5);
    snprintf(subject, sizeof subject, "%.*s", number % 40,
             "a subject that grows from one to another");
    if (part == 0)
        event_emit(EVENT_FLOW_STEP, context[0], context[1], context[2], context[3],
                   F_C(FLOW, "local"), F_C(RCPT, to), F_C(OUTCOME, number % 3 ? "found" : ""),
                   F_BOOL(OBSERVED, number % 2));
    if (part == 1 && number % 4 == 0)
        event_emit(EVENT_RECIPIENT_REJECT, context[0], context[1], context[2], context[3],
                   F_C(TO, "nobody@example.org"), F_C(REASON, "recipient_unknown"));
    if (part == 1)
        event_emit(EVENT_FLOW_STEP, context[0], context[1], context[2], context[3],
                   F_C(FLOW, "content"), F_C(OUTCOME, "deliver"), F_INT(SIZE, number - 100));
    if (part == 2)
        event_emit(EVENT_MESSAGE_ACCEPTED, context[0], context[1], context[2], context[3],
                   F_C(FROM, number % 2 ? "ann@example.net" : ""), F_C(SUBJECT, subject));
    if (part == 3)
        event_emit(EVENT_DELIVERY_SENT, context[0], context[1], F_C(TO, to), F_INT(CODE, 250),
                   number % 6 == 5 ? F_C(DESTINATION, "mail") : F_C(TRANSPORT, "mail"));
    if (part == 4)
        event_emit(EVENT_MESSAGE_DONE, context[0], context[1]);
}

static void begin_sessions(struct fixture *fixture)
{
    for (int i = 0; i < SESSIONS; i++) {
        new_name(&fixture->sessions[i]);
        say_session(&fixture->sessions[i]);
    }
    for (int i = 0; i < MESSAGES; i++) {
        new_name(&fixture->messages[i]);
        if (i % 10 == 4)
            usleep(1000); /* bundles begin before some of their stories */
    }
}

/* Ten messages at a time, part by part. */
static void say_all(struct fixture *fixture)
{
    for (int i = 0; i < MESSAGES; i += 10) {
        for (int part = 0; part < 5; part++) {
            for (int k = 0; k < 10; k++)
                say_part(fixture, i + k, part);
        }
        event_drain(give, fixture);
        if (i == MESSAGES / 2)
            fixture->revision = "r8";
    }
}

/* ---- what comes out ---- */

static void take_lines(const struct event *event, struct str revision, void *arg)
{
    event_format_json(event, STR_EMPTY, revision, arg);
}

static struct store_reader *open_reader(struct fixture *fixture)
{
    struct store_reader *reader;
    struct error err;
    assert_int_equal(store_reader_open(fixture->store, &reader, &err), OK);
    return reader;
}

static void expect_stories(struct fixture *fixture)
{
    struct store_reader *reader = open_reader(fixture);
    for (int i = 0; i < MESSAGES; i++) {
        struct buf told BUF_CLEANUP;
        struct buf wanted BUF_CLEANUP;
        struct mail_id id;
        buf_init(&told, TEXT_MAX);
        buf_init(&wanted, TEXT_MAX);
        buf_append(&wanted, buf_str(&fixture->sessions[i % SESSIONS].lines));
        buf_append(&wanted, buf_str(&fixture->messages[i].lines));
        assert_true(mail_id_parse(str_c(fixture->messages[i].name), &id));
        assert_true(store_story(reader, id, take_lines, &told));
        if (!str_equal(buf_str(&told), buf_str(&wanted)))
            fail_msg("message %d:\n%.*s\nin the place of\n%.*s", i, STR_ARG(buf_str(&told)),
                     STR_ARG(buf_str(&wanted)));
    }
    store_reader_close(reader);
}

static int64_t number_of(struct fixture *fixture, const char *sql)
{
    char path[128];
    sqlite3 *db;
    sqlite3_stmt *statement;
    snprintf(path, sizeof path, "%s/events.db", fixture->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return number;
}

static void test_stories_come_out_as_they_went_in(void **state)
{
    struct fixture *fixture = *state;
    begin_sessions(fixture);
    say_all(fixture);
    expect_stories(fixture);
    store_close(take(fixture->store));
    open_store(fixture);
    expect_stories(fixture);
    assert_in_range(number_of(fixture, "SELECT count(*) FROM bundles"), 2, MESSAGES / 10);
}

/* What is told later is in another row, whichever kind that is. */
static void test_parts_in_their_order(void **state)
{
    struct fixture *fixture = *state;
    begin_sessions(fixture);
    for (int part = 0; part < 5; part++) {
        for (int i = 0; i < MESSAGES; i++) {
            if (part < 4 || i < MESSAGES - 1)
                say_part(fixture, i, part);
        }
        event_drain(give, fixture);
        store_reader_close(open_reader(fixture)); /* which has all written */
    }
    say_part(fixture, MESSAGES - 1, 4);
    event_drain(give, fixture);
    struct store_reader *reader = open_reader(fixture);
    for (int i = 0; i < MESSAGES; i++) {
        struct buf told BUF_CLEANUP;
        struct mail_id id;
        buf_init(&told, TEXT_MAX);
        assert_true(mail_id_parse(str_c(fixture->messages[i].name), &id));
        assert_true(store_story(reader, id, take_lines, &told));
        struct str own = buf_str(&fixture->messages[i].lines);
        ptrdiff_t at = 0; /* every row that the session told of begins with the session */
        for (struct str line; str_split(&own, '\n', &line) && line.len;) {
            ptrdiff_t next = str_find_str(str_from(buf_str(&told), (size_t)at), line);
            if (next < 0)
                fail_msg("message %d lacks %.*s after %td of\n%.*s", i, STR_ARG(line), at,
                         STR_ARG(buf_str(&told)));
            at += next + (ptrdiff_t)line.len;
        }
    }
    store_reader_close(reader);
    assert_true(number_of(fixture, "SELECT count(*) FROM stories") > 0);
    assert_true(number_of(fixture, "SELECT count(*) FROM bundles") > 0);
}

/* ---- all of them, in their order ---- */

struct walked {
    size_t count;
    struct mail_id last;
    size_t most;
};

static bool note_id(struct mail_id id, void *arg)
{
    struct walked *walked = arg;
    if (walked->count)
        assert_true(id.high < walked->last.high ||
                    (id.high == walked->last.high && id.low < walked->last.low));
    walked->last = id;
    return ++walked->count < walked->most;
}

/* Written late, in rows and bundles of other times: the newest comes first all the same. */
static void test_a_walk_is_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct store_range always = {0, INT64_C(1) << 47};
    begin_sessions(fixture);
    for (int round = 0; round < 3; round++) {
        for (int i = round; i < MESSAGES; i += 3) { /* each third of them */
            for (int part = 0; part < 5; part++)
                say_part(fixture, i, part);
        }
        event_drain(give, fixture);
        store_reader_close(open_reader(fixture));
        usleep(2000);
        for (int i = 0; i < MESSAGES && round == 1; i += 3)
            new_name(&fixture->messages[i]); /* and newer ones */
        for (int i = 0; i < MESSAGES && round == 1; i += 3)
            say_part(fixture, i, 4);
    }
    struct store_reader *reader = open_reader(fixture);
    struct walked all = {.most = SIZE_MAX};
    store_search(reader, NULL, 0, always, note_id, &all);
    assert_int_equal(all.count, MESSAGES + MESSAGES / 3);
    struct walked some = {.most = 10};
    store_search(reader, NULL, 0, always, note_id, &some);
    assert_int_equal(some.count, 10);
    store_reader_close(reader);
}

/* ---- bytes that lie ---- */

static void take_any(const struct event *event, struct str revision, void *arg)
{
    (void)revision;
    assert_true(event->count <= 32);
    for (unsigned i = 0; i < event->count; i++) {
        if (event->fields[i].kind == EVENT_VALUE_STR) /* all of it can be read */
            *(size_t *)arg += str_find(event->fields[i].text, '\n') >= 0;
    }
}

static size_t read_all(struct str bytes, const struct dictionary *dictionary)
{
    size_t good = 0;
    size_t lines = 0;
    size_t count = bundle_count(bytes);
    for (size_t i = 0; i < count; i++) {
        struct bundle_story story;
        if (bundle_story(bytes, i, &story) &&
            pack_read(story.bytes, story.bases, story.base_count, dictionary, take_any, &lines))
            good++;
    }
    (void)bundle_find(bytes, mail_id_new());
    return good;
}

/* In memory of its own, so that a byte too far is seen. */
static size_t read_copy(struct str bytes, size_t size, size_t spoilt, char by,
                        const struct dictionary *dictionary)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, bytes.ptr, size);
    if (spoilt < size)
        copy[spoilt] = (char)(copy[spoilt] ^ by);
    size_t good = read_all(str_of(copy, size), dictionary);
    free(copy);
    return good;
}

static void test_spoilt_bundles_do_no_harm(void **state)
{
    struct fixture *fixture = *state;
    struct dictionary dictionary;
    struct buf names BUF_CLEANUP;
    char path[128];
    sqlite3 *db;
    sqlite3_stmt *statement;
    begin_sessions(fixture);
    for (int i = 0; i < 12; i++)
        for (int part = 0; part < 5; part++)
            say_part(fixture, i, part);
    event_drain(give, fixture);
    store_close(take(fixture->store));
    buf_init(&names, 65536);
    dictionary_text(&names);
    dictionary_parse(buf_str(&names), 1, &dictionary);
    snprintf(path, sizeof path, "%s/events.db", fixture->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT events FROM bundles", -1, &statement, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    struct str bytes =
        str_of(sqlite3_column_blob(statement, 0), (size_t)sqlite3_column_bytes(statement, 0));
    struct bundle_story story;
    assert_true(bundle_story(bytes, 5, &story) && story.base_count > 2);
    assert_int_equal(read_all(bytes, &dictionary), 12);
    for (size_t i = 0; i < bytes.len; i++) {
        assert_true(read_copy(bytes, i, SIZE_MAX, 0, &dictionary) < 12);
        read_copy(bytes, bytes.len, i, 0x55, &dictionary);
        read_copy(bytes, bytes.len, i, (char)0xff, &dictionary);
        read_copy(bytes, bytes.len, i, 1, &dictionary);
    }
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

/* What a burst needed goes back when a few rounds needed less; what was made so far is still
 * counted. */
static void test_memory_after_a_burst(void **state)
{
    enum { BURST = 4096, LATE = 100, BYTES = 1000 };
    (void)state;
    struct bundler bundler;
    struct bundle bundle;
    size_t needed = 0;
    char bytes[BYTES] = {0};
    bundler_init(&bundler, 64 << 20);
    for (uint64_t i = 0; i < BURST; i++)
        assert_true(bundler_add(&bundler, (struct mail_id){.high = i << 16},
                                str_of(bytes, sizeof bytes), NULL, 0));
    while (bundler_next(&bundler, &bundle))
        ;
    uint64_t made = bundler.bundles;
    assert_true(made > 0);
    bundler_settle(&bundler, &needed);
    assert_true(bundler.bytes.cap >= (size_t)BURST * BYTES); /* the next may be the same */
    for (int i = 0; i < LATE && bundler.bytes.ptr; i++) {
        assert_true(bundler_add(&bundler, (struct mail_id){.high = 1}, STR("x"), NULL, 0));
        bundler_settle(&bundler, &needed);
    }
    assert_null(bundler.bytes.ptr);
    assert_null(bundler.stories);
    assert_null(bundler.bases);
    assert_null(bundler.bundle.ptr);
    assert_int_equal(bundler.bundles, made);
    assert_true(bundler_add(&bundler, (struct mail_id){.high = 1}, STR("x"), NULL, 0));
    assert_true(bundler_next(&bundler, &bundle));
    assert_int_equal(bundle.count, 1);
    bundler_done(&bundler);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_stories_come_out_as_they_went_in),
        CASE(test_parts_in_their_order),
        CASE(test_a_walk_is_in_order),
        CASE(test_spoilt_bundles_do_no_harm),
        cmocka_unit_test(test_memory_after_a_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
