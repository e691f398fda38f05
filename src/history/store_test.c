/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store.h"

#include "history/store_pack.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/test.h"
#include "history/store_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Events are made by emitting them: what drains them is under test, too. */
struct fixture {
    char folder[TEST_FOLDER_SIZE];
    struct store *store;
};

static void give(const struct event *event, void *arg)
{
    struct fixture *fixture = arg;
    store_put(fixture->store, event, STR("r7"));
}

static void hand_over(struct fixture *fixture)
{
    event_drain(give, fixture);
}

static void open_with(struct fixture *fixture, int64_t keep_ns, uint64_t size)
{
    struct store_settings settings = test_store_settings(fixture->folder);
    settings.keep_ns = keep_ns;
    settings.size = size;
    settings.fresh_max = 2048;
    settings.segments_max = 8;
    fixture->store = test_store_open(&settings);
}

#define DAY_NS (86400 * NS_PER_S)

static void open_store(struct fixture *fixture)
{
    open_with(fixture, 90 * DAY_NS, UINT64_C(1) << 40);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    test_folder_make(fixture->folder);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    fault_disarm_all();
    clock_set_fake(-1, -1);
    test_folder_remove(fixture->folder, fixture->store);
    free(fixture);
    return 0;
}

static void reopen(struct fixture *fixture)
{
    store_close(fixture->store);
    open_store(fixture);
}

/* ---- what goes in ---- */

static struct mail_id_text message_from(const char *client, const char *to)
{
    struct mail_id_text session = mail_id_text(mail_id_new());
    struct mail_id_text message = mail_id_text(mail_id_new());
    event_emit(EVENT_SESSION_OPEN, F_C(SESSION, session.chars), F_C(LISTENER, "in"),
               F_C(CLIENT, client), F_INT(CLIENT_PORT, 4711));
    event_emit(EVENT_FLOW_STEP, F_C(SESSION, session.chars), F_C(LISTENER, "in"),
               F_C(CLIENT, client), F_C(MESSAGE, message.chars), F_C(FLOW_TYPE, "recipient"),
               F_C(RCPT, to), F_C(OUTCOME, "found"));
    event_emit(EVENT_RECIPIENT_ACCEPT, F_C(SESSION, session.chars), F_C(LISTENER, "in"),
               F_C(CLIENT, client), F_C(MESSAGE, message.chars), F_C(TO, to));
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(SESSION, session.chars), F_C(LISTENER, "in"),
               F_C(CLIENT, client), F_C(MESSAGE, message.chars), F_C(FROM, "Ann@Example.net"),
               F_INT(SIZE, -5), F_BOOL(OBSERVED, true));
    event_emit(EVENT_DELIVERY_SENT, F_C(SESSION, session.chars), F_C(MESSAGE, message.chars),
               F_C(TO, to), F_INT(CODE, 250), F_C(REPLY, "taken\x1b[31m"));
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, message.chars));
    event_emit(EVENT_SESSION_CLOSE, F_C(SESSION, session.chars), F_C(LISTENER, "in"),
               F_C(CLIENT, client));
    return message;
}

/* ---- what comes out ---- */

struct told {
    unsigned count;
    enum event_type types[64];
    struct event_field last[32];
    char text[2048]; /* JSON of the last event */
};

static void take_event(const struct event *event, struct str revision, void *arg)
{
    struct told *told = arg;
    struct buf line BUF_CLEANUP;
    assert_str(revision, "r7");
    buf_init(&line, sizeof told->text);
    event_format_json(event, STR_EMPTY, STR_EMPTY, &line);
    str_to_c(buf_str(&line), told->text, sizeof told->text);
    assert_true(told->count < 64);
    told->types[told->count++] = event->type;
}

static struct store_reader *open_reader(struct fixture *fixture)
{
    struct store_reader *reader;
    struct error err = {0};
    if (store_reader_open(fixture->store, &reader, &err) != OK)
        fail_msg("%s", err.text);
    return reader;
}

static struct told story_of(struct fixture *fixture, const char *text)
{
    struct told told = {0};
    struct mail_id id;
    struct store_reader *reader = open_reader(fixture);
    assert_true(mail_id_parse(str_c(text), &id));
    assert_true(store_story(reader, id, take_event, &told) == (told.count > 0));
    store_reader_close(reader);
    return told;
}

struct ids {
    struct mail_id ids[64];
    size_t count, limit;
};

static bool take_id(struct mail_id id, void *arg)
{
    struct ids *ids = arg;
    ids->ids[ids->count++] = id;
    return ids->count < ids->limit;
}

static struct ids found(struct fixture *fixture, enum event_key key, const char *text)
{
    struct ids ids = {.limit = 50};
    struct store_reader *reader = open_reader(fixture);
    store_find(reader, text ? store_word(key, str_c(text)) : 0,
               (struct store_range){0, INT64_C(1) << 47}, take_id, &ids);
    store_reader_close(reader);
    return ids;
}

static void expect_one(struct fixture *fixture, enum event_key key, const char *text,
                       const char *id)
{
    struct ids ids = found(fixture, key, text);
    if (ids.count != 1 || strcmp(mail_id_text(ids.ids[0]).chars, id) != 0)
        fail_msg("%s %s: %zu stories", event_key_name(key), text, ids.count);
}

/* ---- tests ---- */

static void test_a_message_is_one_story(void **state)
{
    struct fixture *fixture = *state;
    static const enum event_type want[] = {EVENT_SESSION_OPEN,     EVENT_FLOW_STEP,
                                           EVENT_RECIPIENT_ACCEPT, EVENT_MESSAGE_ACCEPTED,
                                           EVENT_DELIVERY_SENT,    EVENT_MESSAGE_DONE};
    open_store(fixture);
    struct mail_id_text id = message_from("192.0.2.1", "bob@example.org");
    hand_over(fixture);
    for (int round = 0; round < 2; round++) { /* and after a restart */
        struct told told = story_of(fixture, id.chars);
        assert_int_equal(told.count, sizeof want / sizeof *want);
        assert_memory_equal(told.types, want, sizeof want);
        expect_one(fixture, KEY_TO, "BOB@example.org", id.chars);
        expect_one(fixture, KEY_FROM, "ann@example.net", id.chars);
        expect_one(fixture, KEY_DOMAIN, "example.org", id.chars);
        expect_one(fixture, KEY_CLIENT, "192.0.2.1", id.chars);
        assert_int_equal(found(fixture, KEY_TO, "ann@example.net").count, 0);
        assert_int_equal(found(fixture, KEY_TO, NULL).count, 1);
        reopen(fixture);
    }
}

static void test_sessions(void **state)
{
    struct fixture *fixture = *state;
    struct mail_id_text quiet = mail_id_text(mail_id_new());
    struct mail_id_text refused = mail_id_text(mail_id_new());
    open_store(fixture);
    event_emit(EVENT_SESSION_OPEN, F_C(SESSION, quiet.chars), F_C(LISTENER, "in"));
    event_emit(EVENT_SESSION_CLOSE, F_C(SESSION, quiet.chars), F_C(LISTENER, "in"));
    event_emit(EVENT_SESSION_OPEN, F_C(SESSION, refused.chars), F_C(LISTENER, "in"));
    event_emit(EVENT_AUTH_FAIL, F_C(SESSION, refused.chars), F_C(REF, "ABCDEFG7"));
    hand_over(fixture);
    assert_int_equal(story_of(fixture, quiet.chars).count, 0);
    assert_int_equal(story_of(fixture, refused.chars).count, 2);
    expect_one(fixture, KEY_REF, "abcdefg7", refused.chars);
    event_emit(EVENT_SESSION_CLOSE, F_C(SESSION, refused.chars), F_C(LISTENER, "in"));
    hand_over(fixture);
    assert_int_equal(story_of(fixture, refused.chars).count, 3);
}

static void test_later_events_follow(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    struct mail_id_text id = message_from("192.0.2.1", "bob@example.org");
    hand_over(fixture);
    assert_int_equal(story_of(fixture, id.chars).count, 6);
    event_emit(EVENT_DSN_SENT, F_C(MESSAGE, id.chars), F_C(TO, "late@example.org"));
    hand_over(fixture);
    struct told told = story_of(fixture, id.chars);
    assert_int_equal(told.count, 7);
    assert_non_null(strstr(told.text, "late@example.org"));
    expect_one(fixture, KEY_TO, "late@example.org", id.chars);
}

static void test_age(void **state)
{
    struct fixture *fixture = *state;
    clock_set_fake(NS_PER_S, clock_wall_ns() - 100 * DAY_NS);
    open_store(fixture);
    struct mail_id_text old = message_from("192.0.2.1", "old@example.org");
    hand_over(fixture);
    assert_int_equal(story_of(fixture, old.chars).count, 6);
    store_close(take(fixture->store));
    clock_set_fake(-1, -1);
    open_store(fixture);
    struct mail_id_text new = message_from("192.0.2.1", "new@example.org");
    hand_over(fixture);
    for (int i = 0; i < 6000 && story_of(fixture, old.chars).count; i++)
        usleep(20000);
    assert_int_equal(story_of(fixture, old.chars).count, 0);
    assert_int_equal(story_of(fixture, new.chars).count, 6);
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

static void test_size(void **state)
{
    enum { MESSAGES = 20000, SIZE = 4 * 1024 * 1024 };
    struct fixture *fixture = *state;
    struct mail_id_text first;
    struct mail_id_text last;
    open_with(fixture, 90 * DAY_NS, SIZE);
    for (int i = 0; i < MESSAGES; i++) {
        char to[64];
        snprintf(to, sizeof to, "user%d@example.org", i);
        last = message_from("192.0.2.1", to);
        if (i == 0)
            first = last;
        if (i % 100 == 99)
            hand_over(fixture);
        if (i == MESSAGES / 2)
            usleep(1000); /* not all with ids of one millisecond */
    }
    for (int i = 0; i < 6000 && (story_of(fixture, first.chars).count ||
                                 store_totals(fixture->store).bytes > SIZE);
         i++)
        usleep(20000);
    assert_int_equal(story_of(fixture, first.chars).count, 0);
    assert_int_equal(story_of(fixture, last.chars).count, 6);
    assert_true(store_totals(fixture->store).bytes <= SIZE);
    assert_int_equal(number_of(fixture, "SELECT (SELECT count(*) FROM spans) -"
                                        " (SELECT count(*) FROM bundles)"),
                     0);
}

static void test_full_disk(void **state)
{
    struct fixture *fixture = *state;
    open_store(fixture);
    fault_arm("events.write", 1, 1, ENOSPC);
    struct mail_id_text lost = message_from("192.0.2.1", "lost@example.org");
    hand_over(fixture);
    assert_int_equal(story_of(fixture, lost.chars).count, 0);
    assert_int_equal(store_totals(fixture->store).dropped, 6);
    struct mail_id_text kept = message_from("192.0.2.1", "kept@example.org");
    hand_over(fixture); /* with the event that tells of the failure */
    assert_int_equal(story_of(fixture, kept.chars).count, 6);
    hand_over(fixture);
    assert_int_equal(store_totals(fixture->store).dropped, 6);
}

static void spoil(struct fixture *fixture, off_t at)
{
    char path[128];
    char noise[8192];
    memset(noise, 0xA5, sizeof noise);
    snprintf(path, sizeof path, "%s/events.db", fixture->folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, noise, sizeof noise, at), sizeof noise);
    close(fd);
}

static bool is_set_aside(struct fixture *fixture)
{
    bool aside = false;
    DIR *folder = opendir(fixture->folder);
    struct dirent *entry;
    assert_non_null(folder);
    while ((entry = readdir(folder)))
        aside = aside || strstr(entry->d_name, "events.db.damaged-");
    closedir(folder);
    return aside;
}

static void test_damaged_file(void **state)
{
    struct fixture *fixture = *state;
    for (int whole = 0; whole < 2; whole++) { /* its first page, or one that is met in use */
        open_store(fixture);
        for (int i = 0; i < 200; i++)
            message_from("192.0.2.1", "old@example.org");
        hand_over(fixture);
        store_close(take(fixture->store));
        spoil(fixture, whole ? 0 : 8192);
        open_store(fixture);
        struct mail_id_text id = {0};
        for (int i = 0; i < 100 && !is_set_aside(fixture); i++) {
            message_from("192.0.2.1", "between@example.org");
            hand_over(fixture);
            store_reader_close(open_reader(fixture));
        }
        assert_true(is_set_aside(fixture));
        id = message_from("192.0.2.1", "new@example.org");
        hand_over(fixture);
        assert_int_equal(story_of(fixture, id.chars).count, 6);
        store_close(take(fixture->store));
        char command[128];
        snprintf(command, sizeof command, "rm -f '%s'/*", fixture->folder);
        assert_int_equal(system(command), 0);
    }
}

static int64_t segments_of(struct fixture *fixture, int level)
{
    char sql[80];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM segments WHERE level = %d", level);
    return number_of(fixture, sql);
}

static void test_index(void **state)
{
    enum { MESSAGES = 24000, PIECE = 100 };
    struct fixture *fixture = *state;
    struct mail_id_text some[4];
    open_store(fixture);
    for (int i = 0; i < MESSAGES; i++) {
        char to[64];
        snprintf(to, sizeof to, "user%d@example.org", i);
        struct mail_id_text id = message_from("192.0.2.1", to);
        if (i % (MESSAGES / 4) == 17)
            some[i / (MESSAGES / 4)] = id;
        if (i % PIECE == PIECE - 1)
            hand_over(fixture);
        if (i % 2000 == 1999)
            found(fixture, KEY_TO, to); /* so that it is not all written at once */
    }
    assert_in_range(segments_of(fixture, 0), 1, 12);
    assert_in_range(segments_of(fixture, 1), 1, 100);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 4; i++) {
            char to[64];
            snprintf(to, sizeof to, "user%d@example.org", i * (MESSAGES / 4) + 17);
            expect_one(fixture, KEY_TO, to, some[i].chars);
        }
        struct ids ids = found(fixture, KEY_CLIENT, "192.0.2.1");
        assert_int_equal(ids.count, 50);
        for (size_t i = 1; i < ids.count; i++)
            assert_true(strcmp(mail_id_text(ids.ids[i]).chars, mail_id_text(ids.ids[i - 1]).chars) <
                        0);
        reopen(fixture);
    }
    assert_int_equal(store_totals(fixture->store).dropped, 0);
}

static void take_any(const struct event *event, struct str revision, void *arg)
{
    (void)revision;
    unsigned *count = arg;
    assert_true(event->count <= 32);
    (*count)++;
}

static void pack_one(const struct event *event, void *arg)
{
    struct pack_added added;
    assert_true(pack_add(arg, event, STR("r1"), (struct pack_reference){0}, &added));
}

static void test_pack(void **state)
{
    struct pack pack;
    struct dictionary dictionary;
    struct buf names BUF_CLEANUP;
    char all[256];
    unsigned count = 0;
    uint64_t version;
    (void)state;
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    buf_init(&names, 65536);
    dictionary_text(&names);
    dictionary_parse(buf_str(&names), 9, &dictionary);
    pack_init(&pack, 9);
    for (int i = 0; i < 3; i++)
        event_emit(EVENT_SESSION_PROTOCOL, F_STR(COMMAND, str_of(all, sizeof all)),
                   F_INT(CODE, INT64_MIN), F_INT(SIZE, INT64_MAX), F_STR(REPLY, STR_EMPTY));
    event_drain(pack_one, &pack);
    assert_true(pack.bytes.len < 2 * sizeof all); /* said once */
    assert_true(pack_version(buf_str(&pack.bytes), &version) && version == 9);
    assert_true(pack_read(buf_str(&pack.bytes), NULL, 0, &dictionary, take_any, &count));
    assert_int_equal(count, 3);
    for (size_t i = 0; i < pack.bytes.len; i++) { /* cut and spoilt bytes do no harm */
        (void)pack_read(str_slice(buf_str(&pack.bytes), 0, i), NULL, 0, &dictionary, take_any,
                        &count);
        pack.bytes.ptr[i] = (char)(pack.bytes.ptr[i] ^ 0x55);
        (void)pack_read(buf_str(&pack.bytes), NULL, 0, &dictionary, take_any, &count);
        pack.bytes.ptr[i] = (char)(pack.bytes.ptr[i] ^ 0x55);
    }
    pack_done(&pack);
}

/* ---- of many recipients each takes what is its own ---- */

enum { RECIPIENTS = 500 };

/* A step, a verdict, and later a delivery of each; some more often, some in another order. */
static void say_recipients(void)
{
    static char names[RECIPIENTS][32];
    struct str to[RECIPIENTS];
    for (unsigned i = 0; i < RECIPIENTS; i++) {
        snprintf(names[i], sizeof names[i], "u%u@example.org", i);
        to[i] = str_c(names[i]);
        event_emit(EVENT_FLOW_STEP, F_C(MESSAGE, "01M8EFG6E5PMFH7RSPQ3D8FNKR"), F_STR(RCPT, to[i]),
                   F_INT(DURATION_US, i / 3));
        event_emit(EVENT_RECIPIENT_ACCEPT, F_C(MESSAGE, "01M8EFG6E5PMFH7RSPQ3D8FNKR"),
                   F_STR(TO, to[i]), F_C(DOMAIN, "example.org"));
    }
    const struct event_field fields[] = {F_C(FROM, "me@example.org"), F_STR(TO, STR_EMPTY)};
    event_emit_each(EVENT_DELIVERY_SENT, fields, 2, KEY_TO, to, RECIPIENTS);
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, "01M8EFG6E5PMFH7RSPQ3D8FNKR"));
    event_emit_each(EVENT_DELIVERY_FAILED, fields, 2, KEY_TO, to + 20, 3);
    event_emit_each(EVENT_DELIVERY_FAILED, fields, 2, KEY_TO, to, 30);
    event_emit_each(EVENT_DELIVERY_FAILED, fields, 2, KEY_TO, to + RECIPIENTS - 5, 5);
}

static void take_human(const struct event *event, struct str revision, void *arg)
{
    assert_true(str_equal(revision, STR("r1")));
    event_format_human(event, arg);
}

static void format_drained(const struct event *event, void *arg)
{
    event_format_human(event, arg);
}

static void test_recipients_in_one_row(void **state)
{
    struct pack pack;
    struct dictionary dictionary;
    struct buf names BUF_CLEANUP, read BUF_CLEANUP, told BUF_CLEANUP;
    (void)state;
    buf_init(&names, 65536);
    buf_init(&read, 1 << 20);
    buf_init(&told, 1 << 20);
    dictionary_text(&names);
    dictionary_parse(buf_str(&names), 9, &dictionary);
    pack_init(&pack, 9);
    say_recipients();
    event_drain(pack_one, &pack);
    assert_in_range(pack.bytes.len, RECIPIENTS, RECIPIENTS * 50); /* each takes 17 for its name */
    assert_true(pack_read(buf_str(&pack.bytes), NULL, 0, &dictionary, take_human, &read));
    clock_set_fake(1, 0);
    say_recipients();
    clock_set_fake(-1, -1);
    event_drain(format_drained, &told);
    struct str a = buf_str(&read), b = buf_str(&told), line, other;
    for (unsigned i = 0; i < 3 * RECIPIENTS + 1 + 38; i++) { /* but for the time */
        assert_true(str_split(&a, '\n', &line) && str_split(&b, '\n', &other));
        assert_true(line.len > 24);
        assert_true(str_equal(str_from(line, 24), str_from(other, 24)));
    }
    pack_done(&pack);
}

static void take_old(const struct event *event, struct str revision, void *arg)
{
    take_event(event, revision.len ? revision : STR("r7"), arg);
}

/* Rows of the format before: whole events only. */
static void test_rows_of_format_1(void **state)
{
    static const char row[] = {
        1, 9,       /* format, dictionary */
        0, 2, 2, 0, /* type, time, number, no field, not even a revision */
        0, 2, 2, 3,   (char)255, 1,   2,   'r', '7', /* two and the revision */
        3, 1, 4, 'k', 'e',       'p', 't', 4,   2,   14};
    struct dictionary dictionary;
    struct told told = {0};
    uint64_t version;
    (void)state;
    dictionary_parse(STR("session.protocol \na b c reply code "), 9, &dictionary);
    assert_true(pack_version(str_of(row, sizeof row), &version) && version == 9);
    assert_true(pack_read(str_of(row, sizeof row), NULL, 0, &dictionary, take_old, &told));
    assert_int_equal(told.count, 2);
    assert_non_null(strstr(told.text, "\"reply\":\"kept\",\"code\":7"));
}

/* An event that is like none before, or changes more fields than there are. */
static void test_rows_that_lie(void **state)
{
    static const char none_before[] = {2, 9, 0, 2, 2, 0, 1, 1, 1, 'x'};
    static const char too_many[] = {2, 9, 0,   2, 2, 2, (char)255, 1, 2, 'r', '7', 3,
                                    1, 1, 'x', 0, 2, 2, 0,         2, 1, 1,   'y'};
    struct dictionary dictionary;
    struct told told = {0};
    (void)state;
    dictionary_parse(STR("session.protocol \na b c reply "), 9, &dictionary);
    assert_false(pack_read(str_of(none_before, sizeof none_before), NULL, 0, &dictionary,
                           take_event, &told));
    assert_int_equal(told.count, 0);
    assert_false(
        pack_read(str_of(too_many, sizeof too_many), NULL, 0, &dictionary, take_event, &told));
    assert_int_equal(told.count, 1);
    static const char never_told[] = {2, 9, 0, 2, 2, 2, (char)255, 1, 2, 'r', '7', 3, 5, 1};
    assert_false(
        pack_read(str_of(never_told, sizeof never_told), NULL, 0, &dictionary, take_event, &told));
    assert_int_equal(told.count, 1);
}

static void test_names_of_another_version(void **state)
{
    struct pack pack;
    struct dictionary dictionary;
    struct told told = {0};
    (void)state;
    /* there, number 0 was this event and key 3 that; the others are unknown today */
    dictionary_parse(STR("session.protocol gone.event \ngone gone2 gone3 reply "), 2, &dictionary);
    assert_int_equal(dictionary.types[0], EVENT_SESSION_PROTOCOL);
    assert_int_equal(dictionary.types[1], -1);
    assert_int_equal(dictionary.keys[3], KEY_REPLY);
    assert_int_equal(dictionary.keys[0], -1);
    pack_init(&pack, 2);
    struct pack_added added;
    struct event event = {.type = (enum event_type)0, .count = 2};
    event.fields[0] = (struct event_field){.key = (enum event_key)0, .text = STR("lost")};
    event.fields[1] = (struct event_field){.key = (enum event_key)3, .text = STR("kept")};
    assert_true(pack_add(&pack, &event, STR("r7"), (struct pack_reference){0}, &added));
    assert_true(pack_read(buf_str(&pack.bytes), NULL, 0, &dictionary, take_event, &told));
    assert_int_equal(told.count, 1);
    assert_non_null(strstr(told.text, "\"event\":\"session.protocol\""));
    assert_non_null(strstr(told.text, "\"reply\":\"kept\""));
    assert_null(strstr(told.text, "lost"));
    pack_done(&pack);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_age), /* first: ids of a thread ascend, whatever the clock says */
        CASE(test_a_message_is_one_story),
        CASE(test_sessions),
        CASE(test_later_events_follow),
        CASE(test_size),
        CASE(test_full_disk),
        CASE(test_damaged_file),
        CASE(test_index),
        CASE(test_pack),
        CASE(test_recipients_in_one_row),
        CASE(test_rows_of_format_1),
        CASE(test_rows_that_lie),
        CASE(test_names_of_another_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
