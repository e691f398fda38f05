/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the history and the tail are written as what changed (decision 23): whoever reads them,
 * from wherever, must see whole events. Events here share more or less with the one before.
 */
#include "history/store_pack.h"
#include "history/tail.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/test.h"

#include <stdio.h>
#include <string.h>

enum { EVENTS = 3000, FIELDS = 4, ROOM = 1500 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* ---- the same events for each test, and their lines as they were emitted ---- */

struct emitted {
    uint64_t seed;
    struct buf lines; /* JSON, one a line */
    size_t ends[EVENTS];
    size_t count;
};

static void emit_some(struct emitted *emitted)
{
    static const enum event_type types[] = {EVENT_FLOW_STEP, EVENT_DELIVERY_SENT,
                                            EVENT_DAEMON_WARNING};
    static const enum event_key keys[FIELDS] = {KEY_TO, KEY_DETAIL, KEY_REPLY, KEY_FROM};
    static char texts[FIELDS][ROOM];
    static size_t lengths[FIELDS];
    uint64_t *seed = &emitted->seed;
    struct event_field fields[FIELDS + 1];
    for (unsigned i = 0; i < FIELDS; i++) {
        if (next_random(seed) % 3 == 0) {
            size_t most =
                next_random(seed) % 20 ? 30 : ROOM; /* beyond what is kept of a text, too */
            lengths[i] = next_random(seed) % most;
            for (size_t k = 0; k < lengths[i]; k++)
                texts[i][k] = (char)(next_random(seed) % 64 ? 'a' + next_random(seed) % 26
                                                            : next_random(seed) % 256);
        }
        fields[i] = F_STR(TO, str_of(texts[i], lengths[i]));
        fields[i].key = keys[i];
    }
    fields[FIELDS] = F_INT(CODE, 200 + next_random(seed) % 3);
    size_t first = next_random(seed) % 10 == 0; /* now and then one has fewer */
    event_emit_fields(types[next_random(seed) % 5 % 3], fields + first, FIELDS + 1 - first);
}

static struct str revision_of(const struct event *event)
{
    return event->seq / 50 % 2 ? STR("r1") : STR("r2");
}

static void note(struct emitted *emitted, const struct event *event)
{
    event_format_json(event, STR("node"), revision_of(event), &emitted->lines);
    emitted->ends[emitted->count++] = emitted->lines.len;
}

static struct str lines_from(const struct emitted *emitted, size_t first)
{
    return str_from(buf_str(&emitted->lines), first ? emitted->ends[first - 1] : 0);
}

/* ---- rows ---- */

struct rows {
    struct emitted emitted;
    struct pack pack;
    struct dictionary dictionary;
    struct buf read;
};

static void take(const struct event *event, struct str revision, void *arg)
{
    struct rows *rows = arg;
    event_format_json(event, STR("node"), revision, &rows->read);
}

static void end_row(struct rows *rows)
{
    assert_true(pack_read(buf_str(&rows->pack.bytes), NULL, 0, &rows->dictionary, take, rows));
    pack_done(&rows->pack);
    pack_init(&rows->pack, 9);
}

static void put(const struct event *event, void *arg)
{
    struct rows *rows = arg;
    struct pack_reference none = {0};
    struct pack_added added;
    note(&rows->emitted, event);
    if (next_random(&rows->emitted.seed) % 40 == 0)
        end_row(rows);
    if (!pack_add(&rows->pack, event, revision_of(event), none, &added)) { /* the row is full */
        end_row(rows);
        assert_true(pack_add(&rows->pack, event, revision_of(event), none, &added));
    }
}

static void test_rows(void **state)
{
    static struct rows rows;
    struct buf names BUF_CLEANUP;
    (void)state;
    rows.emitted.seed = 11;
    buf_init(&names, 65536);
    buf_init(&rows.emitted.lines, 64 << 20);
    buf_init(&rows.read, 64 << 20);
    dictionary_text(&names);
    dictionary_parse(buf_str(&names), 9, &rows.dictionary);
    pack_init(&rows.pack, 9);
    for (int i = 0; i < EVENTS; i++) {
        emit_some(&rows.emitted);
        if (i % 7 == 0)
            (void)event_drain(put, &rows);
    }
    (void)event_drain(put, &rows);
    assert_int_equal(rows.emitted.count, EVENTS);
    end_row(&rows);
    struct str a = buf_str(&rows.read), b = buf_str(&rows.emitted.lines), line, other;
    for (int i = 0; i < EVENTS; i++) {
        assert_true(str_split(&a, '\n', &line) && str_split(&b, '\n', &other));
        if (!str_equal(line, other))
            fail_msg("%d:\n%.*s\n%.*s", i, STR_ARG(line), STR_ARG(other));
    }
    assert_int_equal(a.len, 0);
    pack_done(&rows.pack);
    buf_done(&rows.read);
    buf_done(&rows.emitted.lines);
}

/* ---- the tail ---- */

enum { READERS = 8 };

struct reader {
    struct tail_reader *reader;
    size_t first; /* event that it must see */
    struct buf got;
};
struct listening {
    struct emitted emitted;
    struct tail *tail;
};

static void offer(const struct event *event, void *arg)
{
    struct listening *listening = arg;
    note(&listening->emitted, event);
    tail_offer(listening->tail, event, revision_of(event));
}

static void read_on(struct reader *reader)
{
    char piece[300];
    ptrdiff_t given;
    while ((given = tail_read(reader->reader, piece, sizeof piece, 1)) > 0)
        buf_append(&reader->got, str_of(piece, (size_t)given));
}

static void check_reader(const struct reader *reader, const struct emitted *emitted)
{
    struct str got = buf_str(&reader->got), line, other;
    struct str wanted = lines_from(emitted, reader->first);
    while (str_split(&got, '\n', &line)) {
        if (!str_starts(line, STR("data: ")))
            continue;
        assert_true(str_split(&wanted, '\n', &other));
        if (!str_equal(str_from(line, 6), other))
            fail_msg("from %zu:\n%.*s\n%.*s", reader->first, STR_ARG(line), STR_ARG(other));
    }
    assert_int_equal(wanted.len, 0);
}

/* Readers come at any time, and read now and then or only at the end. */
static void test_tail(void **state)
{
    static struct listening listening;
    struct reader readers[READERS] = {0};
    size_t count = 0;
    (void)state;
    listening.emitted.seed = 13;
    buf_init(&listening.emitted.lines, 64 << 20);
    listening.tail = tail_new();
    for (int i = 0; i < EVENTS; i++) {
        if (count < READERS && next_random(&listening.emitted.seed) % 100 == 0) {
            struct reader *one = &readers[count++];
            struct tail_request request = {STR_EMPTY, STR_EMPTY, STR("node")};
            one->reader = tail_join(listening.tail, &request);
            one->first = listening.emitted.count;
            buf_init(&one->got, 64 << 20);
        }
        emit_some(&listening.emitted);
        assert_int_equal(event_drain(offer, &listening), 1);
        size_t who = next_random(&listening.emitted.seed) % 64;
        if (who < count && who != 0)
            read_on(&readers[who]);
    }
    assert_int_equal(count, READERS);
    for (size_t i = 0; i < count; i++) {
        read_on(&readers[i]);
        check_reader(&readers[i], &listening.emitted);
        tail_leave(readers[i].reader);
        buf_done(&readers[i].got);
    }
    tail_free(listening.tail);
    buf_done(&listening.emitted.lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
