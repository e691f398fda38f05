/* SPDX-License-Identifier: Apache-2.0 */
#include "history/tail.h"

#include "base/buf.h"
#include "base/test.h"

#include <stdio.h>
#include <string.h>

static void offer(const struct event *event, void *arg)
{
    tail_offer(arg, event, STR("r1"));
}

static void happen(struct tail *tail, const char *detail)
{
    event_emit(EVENT_DAEMON_WARNING, F_C(DETAIL, detail));
    assert_int_equal(event_drain(offer, tail), 1);
}

static struct tail_reader *join(struct tail *tail, const char *query, struct str last_id)
{
    struct tail_request request = {str_c(query), last_id, STR("node")};
    struct tail_reader *reader = tail_join(tail, &request);
    assert_non_null(reader);
    return reader;
}

/* All that is there now. */
static struct str read_all(struct tail_reader *reader, struct buf *out)
{
    char piece[100]; /* smaller than an event */
    ptrdiff_t given;
    buf_clear(out);
    while ((given = tail_read(reader, piece, sizeof piece, 1)) > 0)
        buf_append(out, str_of(piece, (size_t)given));
    return buf_str(out);
}

static bool has(struct str text, const char *part)
{
    return str_find_str(text, str_c(part)) >= 0;
}

/* "id: …" of the last event in `text`. */
static struct str last_id(struct str text, char id[64])
{
    struct str line, found = STR_EMPTY;
    while (str_split(&text, '\n', &line))
        if (str_starts(line, STR("id: ")))
            found = str_from(line, 4);
    assert_true(found.len && str_to_c(found, id, 64));
    return str_c(id);
}

static void test_from_now_on(void **state)
{
    (void)state;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    struct tail *tail = tail_new();
    happen(tail, "before");
    struct tail_reader *reader = join(tail, "detail:wanted", STR_EMPTY);
    assert_int_equal(read_all(reader, &out).len, 0);
    happen(tail, "other");
    happen(tail, "wanted");
    struct str text = read_all(reader, &out);
    assert_true(has(text, "\"detail\":\"wanted\"") && has(text, "\"rev\":\"r1\""));
    assert_true(has(text, "\"node\":\"node\"") && str_ends(text, STR("}\n\n")));
    assert_false(has(text, "other") || has(text, "before") || has(text, "dropped"));
    tail_leave(reader);
    tail_free(tail);
}

static void test_behind_the_last_one(void **state)
{
    (void)state;
    char id[64];
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    struct tail *tail = tail_new();
    struct tail_reader *reader = join(tail, "", STR_EMPTY);
    happen(tail, "first");
    struct str last = last_id(read_all(reader, &out), id);
    tail_leave(reader);
    happen(tail, "second");
    reader = join(tail, "", last);
    struct str text = read_all(reader, &out);
    assert_true(has(text, "second") && !has(text, "first") && !has(text, "dropped"));
    tail_leave(reader);
    for (size_t i = 0; i < 3; i++) { /* what is no id of ours is none */
        static const char *const bad[] = {"x", "1", "-"};
        reader = join(tail, "", str_c(bad[i]));
        assert_int_equal(read_all(reader, &out).len, 0);
        tail_leave(reader);
    }
    tail_free(tail);
}

static void test_too_long_away(void **state)
{
    (void)state;
    enum { EVENTS = 10000 };
    static char large[1000];
    char id[64];
    unsigned long long unseen = 0;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 64 << 20);
    memset(large, 'x', sizeof large - 1);
    struct tail *tail = tail_new();
    struct tail_reader *reader = join(tail, "", STR_EMPTY);
    happen(tail, "first");
    struct str last = last_id(read_all(reader, &out), id);
    tail_leave(reader);
    for (int i = 0; i < EVENTS; i++) {
        large[0] = (char)('a' + i % 2);
        happen(tail, large);
    }
    reader = join(tail, "", last);
    struct str text = read_all(reader, &out);
    ptrdiff_t count = str_find_str(text, STR("\"count\":"));
    assert_true(has(text, "stream.dropped") && count > 0);
    assert_int_equal(sscanf(text.ptr + count, "\"count\":%llu", &unseen), 1);
    size_t seen = 0;
    struct str line, rest = text;
    while (str_split(&rest, '\n', &line))
        seen += str_starts(line, STR("id: "));
    assert_int_equal(seen + unseen, EVENTS); /* each is told or counted */
    assert_true(seen > 1000 && unseen > 1000);
    tail_leave(reader);
    tail_free(tail);
}

/* Events that share most of what they say with the one before: a reader that comes in the middle,
 * or goes on behind one, gets them complete. */
static void test_complete_from_anywhere(void **state)
{
    (void)state;
    char id[64], detail[32];
    struct buf out BUF_CLEANUP;
    buf_init(&out, 16 << 20);
    struct tail *tail = tail_new();
    struct tail_reader *first = join(tail, "", STR_EMPTY);
    for (int i = 0; i < 30; i++) {
        snprintf(detail, sizeof detail, "number %d", i);
        event_emit(EVENT_DAEMON_WARNING, F_C(FILE, "the same all the time"), F_C(DETAIL, detail));
        assert_int_equal(event_drain(offer, tail), 1);
        if (i == 10)
            (void)last_id(read_all(first, &out), id);
        if (i != 20)
            continue;
        struct tail_reader *second = join(tail, "", STR_EMPTY);
        happen(tail, "another kind");
        event_emit(EVENT_DAEMON_WARNING, F_C(FILE, "the same all the time"), F_C(DETAIL, "new"));
        assert_int_equal(event_drain(offer, tail), 1);
        struct str text = read_all(second, &out);
        assert_true(has(text, "\"file\":\"the same all the time\",\"detail\":\"new\""));
        assert_false(has(text, "number 20"));
        tail_leave(second);
    }
    tail_leave(first);
    first = join(tail, "", str_c(id));
    struct str text = read_all(first, &out);
    for (int i = 0; i < 30; i++) {
        snprintf(detail, sizeof detail, "time\",\"detail\":\"number %d\"", i);
        assert_int_equal(has(text, detail), i > 10);
    }
    tail_leave(first);
    tail_free(tail);
}

static void test_another_life(void **state)
{
    (void)state;
    struct buf out BUF_CLEANUP;
    buf_init(&out, 1 << 20);
    struct tail *tail = tail_new();
    happen(tail, "kept");
    struct tail_reader *reader = join(tail, "", STR("1-999999"));
    struct str text = read_all(reader, &out);
    assert_true(has(text, "\"restarted\":true") && has(text, "kept"));
    tail_leave(reader);
    tail_free(tail);
}

static void test_the_end_and_the_crowd(void **state)
{
    (void)state;
    struct tail *tail = tail_new();
    struct tail_reader *readers[16];
    struct tail_request request = {STR_EMPTY, STR_EMPTY, STR("node")};
    char piece[100];
    for (size_t i = 0; i < 16; i++)
        readers[i] = join(tail, "", STR_EMPTY);
    assert_null(tail_join(tail, &request));
    tail_leave(readers[0]);
    readers[0] = join(tail, "", STR_EMPTY);
    tail_stop(tail);
    assert_null(tail_join(tail, &request));
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(tail_read(readers[i], piece, sizeof piece, 60000), -1);
        tail_leave(readers[i]);
    }
    tail_free(tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_now_on),   cmocka_unit_test(test_behind_the_last_one),
        cmocka_unit_test(test_too_long_away), cmocka_unit_test(test_complete_from_anywhere),
        cmocka_unit_test(test_another_life),  cmocka_unit_test(test_the_end_and_the_crowd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
