/* SPDX-License-Identifier: Apache-2.0 */
#include "history/tail.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    READERS_MAX = 16,
    HALF = 2 * 1024 * 1024, /* of what is kept; the older half is dropped whole */
    LOOK_AT = 64 * 1024,    /* bytes copied at a time */
    WAITING_MAX = 1024 * 1024,
    REVISION_SIZE = 16,
};

/* Before each event kept; its record follows. */
struct record {
    uint64_t seq;
    uint32_t size; /* of the event's record */
    uint32_t source;
    char revision[REVISION_SIZE];
};

struct half {
    struct buf records;
    uint64_t first_seq; /* 0: it is empty */
};

struct tail {
    pthread_mutex_t mutex; /* for all that follows */
    pthread_cond_t news;
    struct half older, newer;
    /* Records of a stream say what changed. Where a reader may begin, at the start of a half and
     * where it joins, the next of each stream is whole. */
    uintptr_t beginnings;
    struct event_slots seen; /* of each stream: what `beginnings` was at its last event */
    uint64_t last_seq;
    size_t count; /* readers */
    bool stopped;
    uint64_t life; /* which process: numbers begin anew in each */
};

struct tail_reader {
    struct tail *tail;
    struct arena *arena;
    struct event_filter filter;
    struct str node;
    uint64_t next_seq; /* to decode */
    uint64_t tell_seq; /* the first to be told: those before it are decoded for it */
    struct event_decoder *decoder;
    uint64_t unseen;    /* events that passed, not told yet */
    bool after_restart; /* events of another life may be missing */
    struct buf records; /* copied, to be looked at without the mutex */
    struct buf line;
    struct buf waiting;
    size_t given; /* of `waiting` */
};

struct tail *tail_new(void)
{
    struct tail *tail = NEW(struct tail);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&tail->mutex, NULL);
    pthread_cond_init(&tail->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    buf_init(&tail->older.records, HALF);
    buf_init(&tail->newer.records, HALF);
    tail->beginnings = 1;
    tail->life = (uint64_t)(clock_wall_ns() / NS_PER_MS);
    return tail;
}

static void forget_number(void *number)
{
    (void)number; /* in the place of a pointer */
}

void tail_free(struct tail *tail)
{
    if (!tail)
        return;
    buf_done(&tail->older.records);
    buf_done(&tail->newer.records);
    event_slots_done(&tail->seen, forget_number);
    pthread_mutex_destroy(&tail->mutex);
    pthread_cond_destroy(&tail->news);
    free(tail);
}

void tail_stop(struct tail *tail)
{
    pthread_mutex_lock(&tail->mutex);
    tail->stopped = true;
    pthread_cond_broadcast(&tail->news);
    pthread_mutex_unlock(&tail->mutex);
}

/* ---- keeping ---- */

static void turn_over(struct tail *tail)
{
    struct half oldest = tail->older;
    tail->older = tail->newer;
    tail->newer = oldest;
    buf_clear(&tail->newer.records);
    tail->newer.first_seq = 0;
    tail->beginnings++;
}

void tail_offer(struct tail *tail, const struct event *event, struct str revision)
{
    if (!tail)
        return;
    pthread_mutex_lock(&tail->mutex);
    if (tail->newer.records.len + sizeof(struct record) + event->packed.len > HALF)
        turn_over(tail);
    if (tail->newer.first_seq == 0)
        tail->newer.first_seq = event->seq;
    uintptr_t *seen = (uintptr_t *)event_slot(&tail->seen, event->source, event->type);
    struct str bytes = *seen == tail->beginnings ? event->record : event->packed;
    *seen = tail->beginnings;
    struct record record = {
        .seq = event->seq, .size = (uint32_t)bytes.len, .source = event->source};
    if (revision.len < sizeof record.revision)
        memcpy(record.revision, revision.ptr, revision.len);
    buf_append(&tail->newer.records, str_of((const char *)&record, sizeof record));
    buf_append(&tail->newer.records, bytes);
    tail->last_seq = event->seq;
    if (tail->count)
        pthread_cond_broadcast(&tail->news);
    pthread_mutex_unlock(&tail->mutex);
}

/* The first that is still kept. */
static uint64_t oldest_kept(const struct tail *tail)
{
    return tail->older.first_seq   ? tail->older.first_seq
           : tail->newer.first_seq ? tail->newer.first_seq
                                   : tail->last_seq + 1;
}

/* ---- readers ---- */

/* Where decoding begins for the event `seq` to be told: the start of its half, if it is kept. */
static uint64_t beginning_before(const struct tail *tail, uint64_t seq)
{
    if (seq < oldest_kept(tail))
        return seq;
    return seq < tail->newer.first_seq ? tail->older.first_seq : tail->newer.first_seq;
}

/* "LIFE-SEQ": where to go on. */
static void go_on_behind(struct tail_reader *reader, struct str last_id)
{
    struct tail *tail = reader->tail;
    ptrdiff_t dash = str_find(last_id, '-');
    uint64_t life, seq;
    reader->next_seq = reader->tell_seq = tail->last_seq + 1;
    tail->beginnings++;
    if (dash < 0 || !str_to_uint(str_slice(last_id, 0, (size_t)dash), UINT64_MAX, &life) ||
        !str_to_uint(str_from(last_id, (size_t)dash + 1), UINT64_MAX - 1, &seq))
        return;
    if (life != tail->life) {
        reader->after_restart = true;
        reader->next_seq = reader->tell_seq = oldest_kept(tail);
    } else if (seq < tail->last_seq) {
        reader->next_seq = beginning_before(tail, seq + 1);
        reader->tell_seq = seq + 1;
    }
}

struct tail_reader *tail_join(struct tail *tail, const struct tail_request *request)
{
    struct tail_reader *reader = NEW(struct tail_reader);
    struct error err;
    reader->tail = tail;
    reader->arena = arena_new(0);
    reader->decoder = event_decoder_new();
    reader->node = arena_str(reader->arena, request->node);
    buf_init(&reader->records, LOOK_AT + 65536);
    buf_init(&reader->line, 65536);
    buf_init(&reader->waiting, WAITING_MAX);
    bool good = event_filter_parse(request->query, reader->arena, &reader->filter, &err) == OK;
    pthread_mutex_lock(&tail->mutex);
    good = good && tail->count < READERS_MAX && !tail->stopped;
    tail->count++; /* leaving takes it back */
    if (good)
        go_on_behind(reader, request->last_id);
    pthread_mutex_unlock(&tail->mutex);
    if (good)
        return reader;
    tail_leave(reader);
    return NULL;
}

void tail_leave(struct tail_reader *reader)
{
    struct tail *tail = reader->tail;
    pthread_mutex_lock(&tail->mutex);
    tail->count--;
    pthread_mutex_unlock(&tail->mutex);
    buf_done(&reader->records);
    buf_done(&reader->line);
    buf_done(&reader->waiting);
    event_decoder_free(reader->decoder);
    arena_free(reader->arena);
    free(reader);
}

/* ---- reading ---- */

static bool take_record(struct str *rest, struct record *out, struct str *out_bytes)
{
    if (rest->len < sizeof *out)
        return false;
    memcpy(out, rest->ptr, sizeof *out);
    *out_bytes = str_slice(*rest, sizeof *out, sizeof *out + out->size);
    *rest = str_from(*rest, sizeof *out + out->size);
    return true;
}

/* What is to be looked at next, from one half, as much as is copied at a time. */
static void copy_from(struct tail_reader *reader, const struct half *half)
{
    struct str rest = buf_str(&half->records);
    struct record record;
    struct str bytes;
    while (reader->records.len < LOOK_AT && take_record(&rest, &record, &bytes)) {
        if (record.seq < reader->next_seq)
            continue;
        buf_append(&reader->records, str_of((const char *)&record, sizeof record));
        buf_append(&reader->records, bytes);
        reader->next_seq = record.seq + 1;
    }
}

/* With the mutex. */
static void copy_records(struct tail_reader *reader)
{
    struct tail *tail = reader->tail;
    uint64_t oldest = oldest_kept(tail);
    if (reader->next_seq < oldest) {
        uint64_t first = reader->next_seq > reader->tell_seq ? reader->next_seq : reader->tell_seq;
        reader->unseen += oldest > first ? oldest - first : 0;
        reader->next_seq = oldest;
    }
    if (tail->older.first_seq && reader->next_seq < tail->newer.first_seq)
        copy_from(reader, &tail->older);
    copy_from(reader, &tail->newer);
}

static void tell_unseen(struct tail_reader *reader)
{
    if (reader->unseen || reader->after_restart)
        buf_printf(&reader->waiting,
                   "event: dropped\ndata: {\"event\":\"stream.dropped\",\"count\":%llu,"
                   "\"restarted\":%s}\n\n",
                   (unsigned long long)reader->unseen, reader->after_restart ? "true" : "false");
    reader->unseen = 0;
    reader->after_restart = false;
}

/* Without the mutex: what fits goes to `waiting`. */
static void look_at_records(struct tail_reader *reader)
{
    struct str rest = buf_str(&reader->records);
    struct record record;
    struct str bytes;
    tell_unseen(reader);
    while (take_record(&rest, &record, &bytes)) {
        const struct event *event = event_decode(reader->decoder, record.source, bytes, record.seq);
        if (record.seq < reader->tell_seq || !event_filter_fits(&reader->filter, event))
            continue;
        buf_clear(&reader->line);
        event_format_json(event, reader->node, str_c(record.revision), &reader->line);
        buf_printf(&reader->waiting,
                   "id: %llu-%llu\ndata: ", (unsigned long long)reader->tail->life,
                   (unsigned long long)record.seq);
        buf_append(&reader->waiting, buf_str(&reader->line)); /* ends in a newline */
        buf_append_byte(&reader->waiting, '\n');
    }
    buf_clear(&reader->records);
}

static ptrdiff_t give(struct tail_reader *reader, char *to, size_t size)
{
    struct str rest = str_from(buf_str(&reader->waiting), reader->given);
    size_t given = rest.len < size ? rest.len : size;
    if (given)
        memcpy(to, rest.ptr, given);
    reader->given += given;
    if (reader->given == reader->waiting.len) {
        buf_clear(&reader->waiting);
        reader->given = 0;
    }
    return (ptrdiff_t)given;
}

/* Wait for events not looked at; false: it is time for a sign of life, or the end. */
static bool wait_for_news(struct tail_reader *reader, const struct timespec *until, bool *out_end)
{
    struct tail *tail = reader->tail;
    pthread_mutex_lock(&tail->mutex);
    while (reader->next_seq > tail->last_seq && !reader->after_restart && !tail->stopped &&
           pthread_cond_timedwait(&tail->news, &tail->mutex, until) == 0)
        ;
    bool any = reader->next_seq <= tail->last_seq || reader->after_restart;
    *out_end = tail->stopped && !any;
    if (any)
        copy_records(reader);
    pthread_mutex_unlock(&tail->mutex);
    return any;
}

ptrdiff_t tail_read(struct tail_reader *reader, char *to, size_t size, int timeout_ms)
{
    struct timespec until;
    bool end = false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * NS_PER_MS;
    if (until.tv_nsec >= NS_PER_S) {
        until.tv_sec++;
        until.tv_nsec -= NS_PER_S;
    }
    while (reader->waiting.len == 0) { /* events may come of which none fits */
        if (!wait_for_news(reader, &until, &end))
            return end ? -1 : 0;
        look_at_records(reader);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        bool late = now.tv_sec > until.tv_sec ||
                    (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec);
        if (late && reader->waiting.len == 0)
            return 0;
    }
    return give(reader, to, size);
}
