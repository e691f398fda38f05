/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of the history that somebody or something spoiled, and clocks that were set: what comes
 * after is kept and found, what was before is put aside rather than lost, and nothing ends.
 */
#include "history/store.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/test.h"
#include "history/store_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_NS (86400 * NS_PER_S)

struct fixture {
    char folder[TEST_FOLDER_SIZE];
    char path[96];
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
    settings.keep_ns = 4000 * DAY_NS;
    settings.fresh_max = 256;
    settings.segments_max = 4;
    fixture->store = test_store_open(&settings);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    test_folder_make(fixture->folder);
    snprintf(fixture->path, sizeof fixture->path, "%s/events.db", fixture->folder);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    clock_set_fake(-1, -1);
    test_folder_remove(fixture->folder, fixture->store);
    free(fixture);
    return 0;
}

static struct mail_id message(struct fixture *fixture, const char *to)
{
    struct mail_id id = mail_id_new();
    struct mail_id_text text = mail_id_text(id);
    event_emit(EVENT_RECIPIENT_ACCEPT, F_C(MESSAGE, text.chars), F_C(TO, to));
    event_emit(EVENT_MESSAGE_ACCEPTED, F_C(MESSAGE, text.chars), F_C(SUBJECT, "Lunch on Friday"));
    event_emit(EVENT_MESSAGE_DONE, F_C(MESSAGE, text.chars));
    event_drain(give, fixture);
    return id;
}

static void count_event(const struct event *event, struct str revision, void *arg)
{
    (void)event;
    (void)revision;
    ++*(unsigned *)arg;
}

struct ids {
    struct mail_id ids[16];
    size_t count, max;
};

static bool take_id(struct mail_id id, void *arg)
{
    struct ids *ids = arg;
    if (ids->count < ids->max)
        ids->ids[ids->count] = id;
    ids->count++;
    return true;
}

static const struct store_range always = {0, INT64_C(1) << 47};

/* Its events, and whether it is found by its recipient; false where there is no reader yet. */
static bool is_known(struct fixture *fixture, struct mail_id id, const char *to)
{
    struct store_reader *reader;
    struct error err;
    struct ids ids = {.max = 16};
    unsigned events = 0;
    if (store_reader_open(fixture->store, &reader, &err) != OK)
        return false;
    store_story(reader, id, count_event, &events);
    store_find(reader, store_word(KEY_TO, str_c(to)), always, take_id, &ids);
    store_reader_close(reader);
    bool found = false;
    for (size_t i = 0; i < ids.count && i < ids.max; i++)
        found = found || mail_id_equal(ids.ids[i], id);
    return events == 3 && found;
}

/* Everything is read, so that whatever is spoiled is met. */
static void read_all(struct fixture *fixture)
{
    struct store_reader *reader;
    struct error err;
    struct ids ids = {.max = 0};
    if (store_reader_open(fixture->store, &reader, &err) != OK)
        return;
    store_scan(reader, STR("never to be found"), always, UINT64_MAX, take_id, &ids);
    store_find(reader, store_word(KEY_TO, STR("old@example.org")), always, take_id, &ids);
    store_reader_close(reader);
}

static unsigned set_aside(const struct fixture *fixture)
{
    unsigned count = 0;
    DIR *folder = opendir(fixture->folder);
    struct dirent *entry;
    assert_non_null(folder);
    while ((entry = readdir(folder)))
        count += strstr(entry->d_name, "events.db.damaged-") != NULL;
    closedir(folder);
    return count;
}

/* Until what is put in now is found; true if something was set aside by then. */
static bool goes_on(struct fixture *fixture, bool wait_for_aside)
{
    for (int i = 0; i < 500; i++) {
        struct mail_id id = message(fixture, "new@example.org");
        read_all(fixture);
        bool aside = set_aside(fixture) > 0;
        if (is_known(fixture, id, "new@example.org") && (aside || !wait_for_aside))
            return aside;
        usleep(20000);
    }
    fail_msg("what came afterwards is not found");
    return false;
}

/* ---- what is done to it ---- */

static void write_at(const struct fixture *fixture, off_t at, const void *bytes, size_t size)
{
    int fd = open(fixture->path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, at), (ssize_t)size);
    close(fd);
}

static off_t size_of(const struct fixture *fixture)
{
    struct stat info;
    return stat(fixture->path, &info) == 0 ? info.st_size : 0;
}

static void cut_to_half(struct fixture *fixture)
{
    assert_int_equal(truncate(fixture->path, size_of(fixture) / 2), 0);
}

static void cut_within_a_page(struct fixture *fixture)
{
    assert_int_equal(truncate(fixture->path, 5000), 0);
}

static void replace_by_text(struct fixture *fixture)
{
    assert_int_equal(unlink(fixture->path), 0);
    for (off_t at = 0; at < 20000; at += 10)
        write_at(fixture, at, "not ours\r\n", 10);
}

static void replace_by_another_database(struct fixture *fixture)
{
    sqlite3 *db;
    char path[128];
    snprintf(path, sizeof path, "%s/other", fixture->folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "CREATE TABLE stories(a); CREATE TABLE bundles(b);"
                                  " INSERT INTO stories VALUES(1)",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    assert_int_equal(rename(path, fixture->path), 0);
}

static void remove_it(struct fixture *fixture)
{
    assert_int_equal(unlink(fixture->path), 0);
}

static void spoil_the_head(struct fixture *fixture)
{
    write_at(fixture, 0, "\0\0\0\0", 4);
}

static void spoil_pages(struct fixture *fixture, off_t first, off_t end)
{
    char noise[8192];
    memset(noise, 0xA5, sizeof noise);
    for (off_t page = first; page < end; page++)
        write_at(fixture, page * 8192, noise, sizeof noise);
}

/* All but the first pages, where the schema is. */
static void spoil_the_rest(struct fixture *fixture)
{
    spoil_pages(fixture, 4, size_of(fixture) / 8192);
}

static const struct {
    const char *name;
    void (*spoil)(struct fixture *fixture);
    bool aside; /* there is something to be kept */
} deeds[] = {
    {"cut to half", cut_to_half, true},
    {"cut within its first page", cut_within_a_page, true},
    {"a text in its place", replace_by_text, true},
    {"another database in its place", replace_by_another_database, true},
    {"removed", remove_it, false},
    {"its head", spoil_the_head, true},
    {"its pages", spoil_the_rest, true},
};

static void begin(struct fixture *fixture)
{
    open_store(fixture);
    for (int i = 0; i < 3000; i++)
        message(fixture, "old@example.org");
    read_all(fixture); /* all of it is written */
}

static void clean(struct fixture *fixture)
{
    char command[128];
    store_close(take(fixture->store));
    snprintf(command, sizeof command, "rm -f '%s'/*", fixture->folder);
    assert_int_equal(system(command), 0);
}

static void test_spoiled_while_it_was_closed(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        begin(fixture);
        store_close(take(fixture->store));
        deeds[i].spoil(fixture);
        open_store(fixture);
        if (goes_on(fixture, deeds[i].aside) != deeds[i].aside)
            fail_msg("%s: set aside, although there was nothing", deeds[i].name);
        clean(fixture);
    }
}

/* What SQLite has in memory and in the log beside the file may hide it for a while. */
static void test_spoiled_while_it_is_used(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
        begin(fixture);
        deeds[i].spoil(fixture);
        goes_on(fixture, false);
        store_close(take(fixture->store));
        open_store(fixture);
        goes_on(fixture, false);
        clean(fixture);
    }
}

/* A removed file is missed within a second or so, and what comes then is in another. */
static void test_removed_while_it_is_used(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    remove_it(fixture);
    for (int i = 0; i < 500 && size_of(fixture) == 0; i++)
        usleep(20000);
    assert_true(size_of(fixture) > 0);
    struct mail_id id = message(fixture, "new@example.org");
    assert_true(is_known(fixture, id, "new@example.org"));
    store_close(take(fixture->store));
    open_store(fixture);
    assert_true(is_known(fixture, id, "new@example.org"));
}

/* The first page on which a story's text stands: of the oldest, where nothing is written. */
static off_t page_of_a_story(const struct fixture *fixture)
{
    char page[8192];
    off_t number = 0;
    int fd = open(fixture->path, O_RDONLY);
    assert_true(fd >= 0);
    while (pread(fd, page, sizeof page, number * 8192) == (ssize_t)sizeof page &&
           !memmem(page, sizeof page, "Lunch on Friday", 15))
        number++;
    close(fd);
    assert_in_range(number, 1, size_of(fixture) / 8192 - 1);
    return number;
}

/* Nothing is written, so only who reads can meet it. */
static void test_who_reads_tells(void **state)
{
    struct fixture *fixture = *state;
    begin(fixture);
    store_close(take(fixture->store));
    off_t page = page_of_a_story(fixture);
    spoil_pages(fixture, page, page + 1);
    open_store(fixture);
    assert_int_equal(set_aside(fixture), 0);
    for (int i = 0; i < 500 && set_aside(fixture) == 0; i++) {
        read_all(fixture);
        usleep(20000);
    }
    assert_int_equal(set_aside(fixture), 1);
    goes_on(fixture, true);
}

/* Bits that fall over, one at a time: whatever is read, nothing ends, and it goes on. */
static void test_bits_fall_over(void **state)
{
    enum { ROUNDS = 60 };
    struct fixture *fixture = *state;
    uint64_t random = 20261127;
    begin(fixture);
    for (int i = 0; i < ROUNDS; i++) {
        store_close(take(fixture->store));
        for (int k = 0; k < 3; k++) {
            unsigned char byte;
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            off_t at = (off_t)((random >> 20) % (uint64_t)size_of(fixture));
            int fd = open(fixture->path, O_RDWR);
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte ^= (unsigned char)(1U << (random >> 17 & 7));
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
            close(fd);
        }
        open_store(fixture);
        read_all(fixture);
    }
    goes_on(fixture, false);
}

/* ---- clocks ---- */

static void expect(struct fixture *fixture, const char *what, const struct ids *got,
                   const struct mail_id *want, size_t count)
{
    (void)fixture;
    if (got->count != count)
        fail_msg("%s: %zu of %zu", what, got->count, count);
    for (size_t i = 0; i < count; i++)
        if (!mail_id_equal(got->ids[i], want[i]))
            fail_msg("%s: another story at %zu", what, i);
}

/* Back a day, on a year, back again; restarts between. Stories stand in the order of their ids. */
static void test_a_clock_that_is_set(void **state)
{
    static const int days[] = {0, -1, 0, 365, 1};
    enum { JUMPS = sizeof days / sizeof *days };
    struct fixture *fixture = *state;
    struct mail_id ids[JUMPS];
    int64_t now_ns = clock_wall_ns();
    open_store(fixture);
    for (size_t i = 0; i < JUMPS; i++) {
        clock_set_fake(-1, now_ns + days[i] * DAY_NS);
        ids[i] = message(fixture, "bob@example.org");
        assert_true(is_known(fixture, ids[i], "bob@example.org"));
        if (i % 2) {
            store_close(take(fixture->store));
            open_store(fixture);
        }
    }
    /* ids of a thread ascend, whatever its clock says: in the order in which they were made */
    struct mail_id newest_first[JUMPS];
    for (size_t i = 0; i < JUMPS; i++)
        newest_first[i] = ids[JUMPS - 1 - i];
    struct store_reader *reader;
    struct error err;
    assert_int_equal(store_reader_open(fixture->store, &reader, &err), OK);
    struct ids got = {.max = 16};
    store_find(reader, store_word(KEY_TO, STR("bob@example.org")), always, take_id, &got);
    expect(fixture, "by recipient", &got, newest_first, JUMPS);
    got.count = 0;
    store_scan(reader, STR("friday"), always, UINT64_MAX, take_id, &got);
    expect(fixture, "by a text", &got, newest_first, JUMPS);
    got.count = 0;
    store_search(reader, NULL, 0, always, take_id, &got);
    expect(fixture, "all", &got, newest_first, JUMPS);
    store_reader_close(reader);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_spoiled_while_it_was_closed),
        CASE(test_spoiled_while_it_is_used),
        CASE(test_who_reads_tells),
        CASE(test_removed_while_it_is_used),
        CASE(test_bits_fall_over),
        CASE(test_a_clock_that_is_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
