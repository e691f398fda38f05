/* SPDX-License-Identifier: Apache-2.0 */
#include "base/test.h"

#include "event/event.h"

#include "base/buf.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the reader saw, as text ---- */

static void collect(const struct event *event, void *arg)
{
    event_format_human(event, arg);
}

static void collect_json(const struct event *event, void *arg)
{
    event_format_json(event, STR("mx1"), STR("r7"), arg);
}

static void drop(const struct event *event, void *arg)
{
    (void)event;
    (void)arg;
}

/* Without the time, up to the first blank. */
static void assert_line(const struct buf *buf, const char *expected)
{
    ptrdiff_t blank = str_find(buf_str(buf), ' ');
    assert_true(blank > 0);
    struct str rest = str_from(buf_str(buf), (size_t)blank + 1);
    assert_int_equal(rest.len, strlen(expected));
    assert_memory_equal(rest.ptr, expected, rest.len);
}

static void expect(const char *expected)
{
    struct buf buf;
    buf_init(&buf, 1 << 20);
    assert_int_equal(event_drain(collect, &buf), 1);
    assert_line(&buf, expected);
    buf_done(&buf);
}

/* ---- fields ---- */

static void all_kinds_of_fields_come_through(void **state)
{
    (void)state;
    event_emit(EVENT_AUTH_FAIL, F_C(USER, "alice"), F_INT(COUNT, -3), F_BOOL(TLS, true),
               F_STR(REASON, STR_EMPTY), F_C(DETAIL, "two words"), F_C(FLOW, "a=b"));
    expect("notice auth.fail user=alice count=-3 tls=true reason=\"\" detail=\"two words\" "
           "flow=\"a=b\"\n");
}

static void an_event_without_fields(void **state)
{
    (void)state;
    event_emit(EVENT_DAEMON_READY);
    expect("info   daemon.ready\n");
}

static const struct event_context *current_context;

static const struct event_context *context_of_test(void)
{
    return current_context;
}

static void contexts_add_their_fields(void **state)
{
    (void)state;
    const struct event_context session = {
        .fields = {F_C(SESSION, "S1"), F_STR(USER, STR_EMPTY), F_C(RCPT, "outer")}, .count = 3};
    const struct event_context message = {
        .outer = &session, .fields = {F_C(MESSAGE, "M1"), F_C(RCPT, "inner")}, .count = 2};
    event_context_source = context_of_test;
    current_context = &message;
    event_emit(EVENT_AUTH_OK, F_C(MESSAGE, "own"));
    current_context = NULL;
    event_context_source = NULL;
    expect("info   auth.ok message=own rcpt=inner session=S1\n");
}

static void long_text_is_cut_between_characters(void **state)
{
    (void)state;
    char text[2000];
    for (size_t i = 0; i < sizeof text; i += 4)
        memcpy(text + i, "\xF0\x9F\x93\xA7", 4);
    static const struct {
        size_t offset; /* into a sequence of four */
        size_t kept;
    } cases[] = {{0, 1024}, {1, 1023}, {2, 1022}, {3, 1021}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf buf;
        buf_init(&buf, 1 << 20);
        event_emit(EVENT_DAEMON_WARNING,
                   F_STR(DETAIL, str_of(text + cases[i].offset, 1990 - cases[i].offset)));
        event_drain(collect, &buf);
        /* lone bytes of the cut start take 6 characters each, whole sequences 12 */
        size_t lone = (4 - cases[i].offset) % 4;
        size_t expected = lone * 6 + (cases[i].kept - lone) / 4 * 12;
        ptrdiff_t at = str_find(buf_str(&buf), '"');
        assert_int_equal(buf.len - (size_t)at - 3, expected);
        buf_done(&buf);
    }
}

/* ---- escaping ---- */

/* What a JSON reader makes of the text after `"detail":"`: code points, in Latin-1 here. */
static void assert_byte_round_trip(const char *json, unsigned char byte)
{
    const char *at = strstr(json, "\"detail\":\"x");
    assert_non_null(at);
    at += strlen("\"detail\":\"x");
    unsigned value = (unsigned char)*at;
    if (*at == '\\') {
        switch (at[1]) {
        case 'u':
            value = (unsigned)strtoul((char[]){at[2], at[3], at[4], at[5], 0}, NULL, 16);
            at += 6;
            break;
        case 'n':
        case 'r':
        case 't':
            value = at[1] == 'n' ? '\n' : at[1] == 'r' ? '\r' : '\t';
            at += 2;
            break;
        default:
            value = (unsigned char)at[1];
            at += 2;
        }
    } else {
        at++;
    }
    assert_int_equal(value, byte);
    assert_memory_equal(at, "y\"", 2);
}

static void every_byte_is_escaped(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        const char text[3] = {'x', (char)byte, 'y'};
        struct event event = {
            .type = EVENT_DAEMON_WARNING, .count = 1, .fields = {F_STR(DETAIL, str_of(text, 3))}};
        struct buf json, human;
        buf_init(&json, 4096);
        buf_init(&human, 4096);
        event_format_json(&event, STR_EMPTY, STR_EMPTY, &json);
        event_format_human(&event, &human);
        assert_int_equal(json.ptr[json.len - 1], '\n');
        assert_int_equal(human.ptr[human.len - 1], '\n');
        for (size_t i = 0; i + 1 < json.len; i++)
            assert_in_range((unsigned char)json.ptr[i], 0x20, 0x7E);
        for (size_t i = 0; i + 1 < human.len; i++)
            assert_in_range((unsigned char)human.ptr[i], 0x20, 0x7E);
        buf_append_byte(&json, 0);
        assert_byte_round_trip(json.ptr, (unsigned char)byte);
        buf_done(&json);
        buf_done(&human);
    }
}

static void text_becomes_json(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct str text;
        const char *json;
    } cases[] = {
        {"plain", STR("abc <x@y>"), "abc <x@y>"},
        {"quote and backslash", STR("\"\\"), "\\\"\\\\"},
        {"two bytes", STR("\xC3\xA9"), "\\u00e9"},
        {"three bytes", STR("\xE2\x82\xAC"), "\\u20ac"},
        {"beyond the BMP", STR("\xF0\x9F\x93\xA7"), "\\ud83d\\udce7"},
        {"last code point", STR("\xF4\x8F\xBF\xBF"), "\\udbff\\udfff"},
        {"beyond the last", STR("\xF4\x90\x80\x80"), "\\u00f4\\u0090\\u0080\\u0080"},
        {"overlong", STR("\xC0\xAF"), "\\u00c0\\u00af"},
        {"overlong of three", STR("\xE0\x80\xAF"), "\\u00e0\\u0080\\u00af"},
        {"surrogate", STR("\xED\xA0\x80"), "\\u00ed\\u00a0\\u0080"},
        {"cut", STR("\xE2\x82"), "\\u00e2\\u0082"},
        {"broken in the middle", STR("\xE2x\xAC"), "\\u00e2x\\u00ac"},
        {"right-to-left override", STR("\xE2\x80\xAE"), "\\u202e"},
        {"terminal", STR("\x1B]0;x\x07"), "\\u001b]0;x\\u0007"},
        {"NUL", STR("a\0b"), "a\\u0000b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct event event = {.type = EVENT_DAEMON_WARNING,
                              .wall_ns = 0,
                              .seq = 5,
                              .count = 1,
                              .fields = {F_STR(DETAIL, cases[i].text)}};
        struct buf buf;
        buf_init(&buf, 4096);
        event_format_json(&event, STR("n\"1"), STR("r7"), &buf);
        buf_append_byte(&buf, 0);
        char expected[512];
        snprintf(expected, sizeof expected,
                 "{\"time\":\"1970-01-01T00:00:00.000Z\",\"seq\":5,\"event\":\"daemon.warning\","
                 "\"severity\":\"warn\",\"node\":\"n\\\"1\",\"rev\":\"r7\",\"detail\":\"%s\"}\n",
                 cases[i].json);
        if (strcmp(buf.ptr, expected) != 0)
            fail_msg("%s: %s", cases[i].name, buf.ptr);
        buf_done(&buf);
    }
}

static void a_value_cannot_forge_a_field(void **state)
{
    (void)state;
    event_emit(EVENT_AUTH_FAIL, F_C(USER, "x queue_id=1"), F_C(HELO, "a\nb"));
    expect("notice auth.fail user=\"x queue_id=1\" helo=\"a\\nb\"\n");
}

static void names_are_known(void **state)
{
    (void)state;
    for (unsigned i = 0; i < EVENT_TYPE_COUNT; i++) {
        assert_non_null(event_name((enum event_type)i));
        assert_true(strlen(event_text((enum event_type)i)) > 0);
        assert_non_null(event_severity_name(event_severity((enum event_type)i)));
        /* who is warned is told what to do */
        if (event_severity((enum event_type)i) >= EVENT_WARN && !*event_advice((enum event_type)i))
            fail_msg("%s has no row in event/advice.h", event_name((enum event_type)i));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(event_name((enum event_type)i), event_name((enum event_type)j));
    }
    for (unsigned i = 0; i < EVENT_KEY_COUNT; i++) {
        assert_non_null(event_key_name((enum event_key)i));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(event_key_name((enum event_key)i),
                                    event_key_name((enum event_key)j));
    }
    assert_string_equal(event_severity_name(EVENT_NOTICE), "notice");
}

/* ---- the ring ---- */

static void a_full_ring_drops_and_counts(void **state)
{
    (void)state;
    char text[1024];
    memset(text, 'x', sizeof text);
    uint64_t before = event_dropped();
    size_t emitted = 0;
    /* More than a ring can hold. */
    for (; emitted < 2000; emitted++) {
        text[0] = (char)('a' + emitted % 2);
        event_emit(EVENT_DAEMON_ERROR, F_STR(DETAIL, str_of(text, sizeof text)));
    }
    uint64_t dropped = event_dropped() - before;
    assert_in_range(dropped, 900, 1100);
    assert_int_equal(event_drain(drop, NULL), emitted - dropped);
    /* There is room again. */
    event_emit(EVENT_DAEMON_READY);
    assert_int_equal(event_dropped() - before, dropped);
    expect("info   daemon.ready\n");
}

static uint64_t last_seq;

static void note_seq(const struct event *event, void *arg)
{
    (void)arg;
    last_seq = event->seq;
}

/* What a reader of the log sees: as many numbers are missing as events. */
static void a_gap_in_the_numbers_is_what_was_dropped(void **state)
{
    (void)state;
    event_emit(EVENT_DAEMON_READY);
    assert_int_equal(event_drain(note_seq, NULL), 1);
    uint64_t seq = last_seq;
    event_emit(EVENT_DAEMON_READY);
    assert_int_equal(event_drain(note_seq, NULL), 1);
    assert_int_equal(last_seq, seq + 1);
    uint64_t before = event_dropped();
    for (seq = last_seq; event_dropped() - before < 3;)
        event_emit(EVENT_FLOW_STEP, F_C(STEP, "s"));
    size_t taken = event_drain(note_seq, NULL);
    assert_int_equal(last_seq, seq + taken);
    event_emit(EVENT_DAEMON_READY);
    assert_int_equal(event_drain(note_seq, NULL), 1);
    assert_int_equal(last_seq, seq + taken + 3 + 1);
}

static void debug_events_leave_room_for_others(void **state)
{
    (void)state;
    uint64_t before = event_dropped();
    while (event_dropped() == before)
        event_emit(EVENT_FLOW_STEP, F_C(STEP, "s"));
    uint64_t dropped = event_dropped();
    for (int i = 0; i < 1000; i++)
        event_emit(EVENT_DAEMON_ERROR, F_C(DETAIL, "d"));
    assert_int_equal(event_dropped(), dropped);
    assert_true(event_drain(drop, NULL) > 1000);
}

/* Many times round the ring with records of all sizes. */
static void check_number(const struct event *event, void *arg)
{
    int64_t *expected = arg;
    assert_int_equal(event->count, 2);
    assert_int_equal(event->fields[0].number, *expected);
    assert_int_equal(event->fields[1].text.len, (size_t)(*expected * 7 % 1000));
    for (size_t i = 0; i < event->fields[1].text.len; i++)
        assert_int_equal(event->fields[1].text.ptr[i], 'a' + *expected % 26);
    (*expected)++;
}

static void records_survive_the_end_of_the_ring(void **state)
{
    (void)state;
    char text[1000];
    int64_t emitted = 0, seen = 0;
    while (emitted < 10000) {
        memset(text, (int)('a' + emitted % 26), sizeof text);
        event_emit(EVENT_FLOW_STEP, F_INT(COUNT, emitted),
                   F_STR(DETAIL, str_of(text, (size_t)(emitted * 7 % 1000))));
        emitted++;
        if (emitted % 321 == 0)
            event_drain(check_number, &seen);
    }
    event_drain(check_number, &seen);
    assert_int_equal(seen, emitted);
}

enum { THREADS = 4, EVENTS_EACH = 5000 };

static void *emit_many(void *arg)
{
    int64_t thread = *(int64_t *)arg;
    for (int64_t i = 0; i < EVENTS_EACH; i++)
        event_emit(EVENT_BACKEND_ANSWER, F_INT(PORT, thread), F_INT(COUNT, i),
                   F_C(DETAIL, "some text that makes it longer"));
    return NULL;
}

struct tally {
    int64_t next[THREADS]; /* the least number that may come */
    size_t seen;
    uint64_t last_seq;
};

static void tally_up(const struct event *event, void *arg)
{
    struct tally *tally = arg;
    int64_t thread = event->fields[0].number;
    assert_in_range(thread, 0, THREADS - 1);
    assert_true(event->fields[1].number >= tally->next[thread]);
    tally->next[thread] = event->fields[1].number + 1;
    assert_true(event->seq > tally->last_seq);
    tally->last_seq = event->seq;
    tally->seen++;
}

static void threads_emit_while_the_reader_drains(void **state)
{
    (void)state;
    uint64_t before = event_dropped();
    struct tally tally = {0};
    pthread_t threads[THREADS];
    int64_t numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, emit_many, &numbers[i]), 0);
    }
    while (tally.seen + (event_dropped() - before) < THREADS * EVENTS_EACH) {
        event_wait(600000); /* a wake-up that is lost shows as a hang */
        event_drain(tally_up, &tally);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(event_drain(tally_up, &tally), 0);
    assert_int_equal(tally.seen + (event_dropped() - before), THREADS * EVENTS_EACH);
}

static void *hurry(void *arg)
{
    (void)arg;
    event_hurry();
    return NULL;
}

static void who_hurries_ends_the_wait(void **state)
{
    (void)state;
    pthread_t thread;
    event_hurry(); /* before it */
    event_wait(600000);
    assert_int_equal(pthread_create(&thread, NULL, hurry, NULL), 0); /* before or in it */
    event_wait(600000);
    pthread_join(thread, NULL);
    event_wait(1); /* only once */
}

static void *emit_one(void *arg)
{
    (void)arg;
    event_emit(EVENT_DAEMON_STOP, F_C(WHY, "thread"));
    return NULL;
}

static void events_of_ended_threads_are_not_lost(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, emit_one, NULL), 0);
        pthread_join(thread, NULL);
    }
    assert_int_equal(event_drain(drop, NULL), 3);
    assert_int_equal(event_drain(drop, NULL), 0);
}

static void emit_in_thread_at(int64_t wall_ns)
{
    pthread_t thread;
    clock_set_fake(1, wall_ns);
    assert_int_equal(pthread_create(&thread, NULL, emit_one, NULL), 0);
    pthread_join(thread, NULL);
}

static void emit_here_at(int64_t wall_ns)
{
    clock_set_fake(1, wall_ns);
    event_emit(EVENT_DAEMON_READY);
}

static void the_oldest_comes_first(void **state)
{
    (void)state;
    emit_here_at(2000);
    emit_in_thread_at(1000);
    emit_in_thread_at(4000);
    emit_here_at(3000);
    emit_in_thread_at(5000);
    clock_set_fake(-1, -1);
    struct buf buf;
    buf_init(&buf, 4096);
    assert_int_equal(event_drain(collect_json, &buf), 5);
    struct str text = buf_str(&buf), line;
    static const char *const names[] = {"daemon.stop", "daemon.ready", "daemon.ready",
                                        "daemon.stop", "daemon.stop"};
    for (int i = 0; i < 5; i++) {
        assert_true(str_split(&text, '\n', &line));
        assert_true(str_find_str(line, str_c(names[i])) >= 0);
    }
    buf_done(&buf);
}

/* ---- streams: an event is written as what changed ---- */

enum { RANDOM_EVENTS = 3000, RANDOM_FIELDS = 5 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* Field `index` changes now and then, in length or not; some are long, one is the revision. */
static struct event_field random_field(uint64_t *seed, unsigned index, char *room,
                                       struct event_field last)
{
    static const enum event_key keys[RANDOM_FIELDS] = {KEY_MESSAGE, KEY_TO, KEY_REVISION,
                                                       KEY_DETAIL, KEY_SIZE};
    uint64_t dice = next_random(seed);
    if (dice % 4 && last.key == keys[index])
        return last;
    if (keys[index] == KEY_SIZE)
        return F_INT(SIZE, next_random(seed) % 3);
    size_t len = keys[index] == KEY_REVISION ? 1 + dice % 3 : dice % 16 ? dice % 7 : dice % 1100;
    for (size_t i = 0; i < len; i++)
        room[i] = (char)('a' + next_random(seed) % 3);
    struct event_field field = F_STR(TO, str_of(room, len));
    field.key = keys[index];
    return field;
}

static void assert_same_event(const struct event *event, const struct event *expected)
{
    assert_int_equal(event->type, expected->type);
    assert_int_equal(event->count, expected->count);
    assert_int_equal(event->seq, expected->seq);
    assert_int_equal(event->wall_ns, expected->wall_ns);
    assert_true(str_equal(event->revision, expected->revision));
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *a = &event->fields[i];
        const struct event_field *b = &expected->fields[i];
        assert_int_equal(a->key, b->key);
        assert_int_equal(a->kind, b->kind);
        assert_true(a->kind == EVENT_VALUE_STR ? str_equal(a->text, b->text)
                                               : a->number == b->number);
    }
}

struct stream_check {
    uint64_t seed;
    struct event expected; /* the event that comes */
    struct event_decoder *second;
    bool second_missed; /* a record: it needs a whole one */
    struct event_lines *lines;
    struct event_field last[RANDOM_FIELDS + 1];
    char texts[RANDOM_FIELDS + 1][1100]; /* of `last` */
    unsigned last_count;
    size_t likes;
};

static void keep_last(struct stream_check *check, const struct event *event)
{
    check->last_count = event->count;
    for (unsigned i = 0; i < event->count; i++) {
        check->last[i] = event->fields[i];
        if (event->fields[i].kind != EVENT_VALUE_STR)
            continue;
        if (event->fields[i].text.len)
            memcpy(check->texts[i], event->fields[i].text.ptr, event->fields[i].text.len);
        check->last[i].text.ptr = check->texts[i];
    }
}

/* What is said to be as before is as before. */
static void check_changed(struct stream_check *check, const struct event *event)
{
    if (event->changed == EVENT_ALL_CHANGED)
        return;
    check->likes++;
    assert_int_equal(event->count, check->last_count);
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_field *field = &event->fields[i];
        if (event->changed & UINT32_C(1) << i)
            continue;
        assert_int_equal(field->key, check->last[i].key);
        assert_true(field->kind == EVENT_VALUE_STR ? str_equal(field->text, check->last[i].text)
                                                   : field->number == check->last[i].number);
    }
}

static void check_event(const struct event *event, void *arg)
{
    struct stream_check *check = arg;
    struct buf line BUF_CLEANUP, again BUF_CLEANUP;
    check->expected.seq = event->seq;
    assert_same_event(event, &check->expected);
    check_changed(check, event);
    keep_last(check, event);
    struct event unpacked;
    event_unpack(event->packed, &unpacked);
    unpacked.seq = event->seq;
    assert_same_event(&unpacked, &check->expected);
    /* a second reader, which does not get all of them */
    if (next_random(&check->seed) % 8 == 0) {
        check->second_missed = true;
    } else {
        struct str record = check->second_missed ? event->packed : event->record;
        assert_same_event(event_decode(check->second, event->source, record, event->seq),
                          &check->expected);
        check->second_missed = false;
    }
    buf_init(&line, 65536);
    buf_init(&again, 65536);
    event_format_json(event, STR("mx1"), event->revision, &line);
    event_lines_json(check->lines, event, event->revision, &again);
    assert_true(str_equal(buf_str(&line), buf_str(&again)));
}

static void what_did_not_change_is_not_said_again(void **state)
{
    (void)state;
    struct stream_check check = {.seed = 7, .second = event_decoder_new()};
    check.lines = event_lines_new(STR("mx1"));
    static char rooms[RANDOM_FIELDS][2][1100];
    struct event_field fields[RANDOM_FIELDS] = {0};
    uint64_t seed = 1;
    for (int i = 0; i < RANDOM_EVENTS; i++) {
        unsigned count = next_random(&seed) % 20 ? RANDOM_FIELDS : RANDOM_FIELDS - 1;
        struct event *expected = &check.expected;
        *expected = (struct event){.type = EVENT_FLOW_STEP, .wall_ns = i * INT64_C(700000000)};
        for (unsigned k = 0; k < RANDOM_FIELDS; k++) {
            fields[k] = random_field(&seed, k, rooms[k][i % 2], fields[k]);
            if (fields[k].kind == EVENT_VALUE_STR && fields[k].text.len) { /* also in this room */
                memmove(rooms[k][i % 2], fields[k].text.ptr, fields[k].text.len);
                fields[k].text.ptr = rooms[k][i % 2];
            }
            if (k >= count)
                continue;
            struct event_field as_kept = fields[k];
            if (as_kept.kind == EVENT_VALUE_STR)
                as_kept.text = str_slice(as_kept.text, 0, 1024);
            if (as_kept.key == KEY_REVISION)
                expected->revision = as_kept.text;
            else
                expected->fields[expected->count++] = as_kept;
        }
        clock_set_fake(1, expected->wall_ns);
        event_emit_fields(EVENT_FLOW_STEP, fields, count);
        assert_int_equal(event_drain(check_event, &check), 1);
    }
    clock_set_fake(-1, -1);
    assert_in_range(check.likes, RANDOM_EVENTS / 2, RANDOM_EVENTS - 1);
    event_decoder_free(check.second);
    event_lines_free(check.lines);
}

static void the_same_again_takes_little_room(void **state)
{
    (void)state;
    char text[900];
    memset(text, 'x', sizeof text);
    uint64_t before = event_dropped();
    for (int i = 0; i < 10000; i++) /* nine times what a ring holds of whole ones */
        event_emit(EVENT_DAEMON_ERROR, F_STR(DETAIL, str_of(text, sizeof text)), F_INT(COUNT, i));
    assert_int_equal(event_dropped(), before);
    assert_int_equal(event_drain(drop, NULL), 10000);
}

static void one_is_told_of_each(void **state)
{
    (void)state;
    const struct event_context session = {.fields = {F_C(SESSION, "S1"), F_C(TO, "nobody")},
                                          .count = 2};
    const struct str to[] = {STR("a@x"), STR("bb@x"), STR("bb@x"), STR_EMPTY};
    const struct event_field fields[] = {F_C(FROM, "me"), F_STR(TO, STR_EMPTY), F_INT(CODE, 250)};
    struct buf buf;
    buf_init(&buf, 1 << 16);
    event_context_source = context_of_test;
    current_context = &session;
    clock_set_fake(1, 0);
    event_emit(EVENT_DELIVERY_SENT, F_C(FROM, "other"), F_C(TO, "a@x"), F_INT(CODE, 251));
    event_emit_each(EVENT_DELIVERY_SENT, fields, 3, KEY_TO, to, 4);
    event_emit_each(EVENT_DELIVERY_SENT, fields, 3, KEY_TO, to, 0);
    clock_set_fake(-1, -1);
    current_context = NULL;
    event_context_source = NULL;
    assert_int_equal(event_drain(collect, &buf), 5);
#define SENT(text) "1970-01-01T00:00:00.000Z info   delivery.sent " text " session=S1\n"
    assert_str(buf_str(&buf), SENT("from=other to=a@x code=251") SENT("from=me to=a@x code=250")
                                  SENT("from=me to=bb@x code=250") SENT("from=me to=bb@x code=250")
                                      SENT("from=me to=\"\" code=250"));
    buf_done(&buf);
}

/* When the first of them finds no room, those behind it, which need less, do not rely on it. */
static void each_is_whole_after_one_was_dropped(void **state)
{
    (void)state;
    enum { MANY = 8, RUNS = 200 };
    static const char *const addresses[2] = {"a@x", "b@x"};
    char from[2][600];
    struct str to[2][MANY];
    struct buf buf;
    uint64_t before = event_dropped();
    for (int who = 0; who < 2; who++) {
        memset(from[who], addresses[who][0], sizeof from[who]);
        for (int i = 0; i < MANY; i++)
            to[who][i] = str_c(addresses[who]);
    }
    for (int i = 0; event_dropped() == before; i++)
        event_emit(EVENT_DAEMON_ERROR, F_STR(DETAIL, str_of(from[i % 2], 10)), F_INT(COUNT, i));
    event_drain(drop, NULL);
    before = event_dropped();
    for (int run = 0; run < RUNS || event_dropped() - before < RUNS; run++) {
        const struct event_field fields[] = {F_STR(FROM, str_of(from[run % 2], sizeof from[0])),
                                             F_STR(TO, STR_EMPTY)};
        event_emit_each(EVENT_DELIVERY_SENT, fields, 2, KEY_TO, to[run % 2], MANY);
    }
    buf_init(&buf, 1 << 26);
    event_drain(collect, &buf);
    struct str rest = buf_str(&buf), line;
    while (str_split(&rest, '\n', &line) && line.len)
        assert_int_equal(str_find_str(line, STR("from=a")) >= 0,
                         str_find_str(line, STR("to=a@x")) >= 0);
    buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_is_told_of_each),
        cmocka_unit_test(each_is_whole_after_one_was_dropped),
        cmocka_unit_test(what_did_not_change_is_not_said_again),
        cmocka_unit_test(the_same_again_takes_little_room),
        cmocka_unit_test(all_kinds_of_fields_come_through),
        cmocka_unit_test(an_event_without_fields),
        cmocka_unit_test(contexts_add_their_fields),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(every_byte_is_escaped),
        cmocka_unit_test(text_becomes_json),
        cmocka_unit_test(a_value_cannot_forge_a_field),
        cmocka_unit_test(names_are_known),
        cmocka_unit_test(a_full_ring_drops_and_counts),
        cmocka_unit_test(a_gap_in_the_numbers_is_what_was_dropped),
        cmocka_unit_test(debug_events_leave_room_for_others),
        cmocka_unit_test(records_survive_the_end_of_the_ring),
        cmocka_unit_test(threads_emit_while_the_reader_drains),
        cmocka_unit_test(who_hurries_ends_the_wait),
        cmocka_unit_test(events_of_ended_threads_are_not_lost),
        cmocka_unit_test(the_oldest_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
