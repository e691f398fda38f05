/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer gives units their place in the log and writes batches. While a sync runs it lets units
 * gather (one write for all of them when the sync ends), or writes ahead when much waits.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "event/event.h"
#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 1000, FAILURES_PATIENT = 3 };

/* ---- queues of units ---- */

void spool_queue_push(struct spool_unit_queue *queue, struct spool_unit *unit)
{
    unit->next = NULL;
    if (queue->last)
        queue->last->next = unit;
    else
        queue->first = unit;
    queue->last = unit;
    queue->bytes += unit->bytes;
}

struct spool_unit *spool_queue_shift(struct spool_unit_queue *queue)
{
    struct spool_unit *unit = queue->first;
    if (!unit)
        return NULL;
    queue->first = unit->next;
    if (!queue->first)
        queue->last = NULL;
    queue->bytes -= unit->bytes;
    unit->next = NULL;
    return unit;
}

void spool_queue_put_back(struct spool_unit_queue *queue, struct spool_unit_queue *front)
{
    if (!front->first)
        return;
    front->last->next = queue->first;
    if (!queue->last)
        queue->last = front->last;
    queue->first = front->first;
    queue->bytes += front->bytes;
    *front = (struct spool_unit_queue){0};
}

/* ---- submitting ---- */

void spool_submit(struct spool *spool, struct spool_unit *unit)
{
    pthread_mutex_lock(&spool->lock);
    check(spool->phase == SPOOL_RUNS);
    bool first = spool->waiting.first == NULL;
    spool_queue_push(&spool->waiting, unit);
    if (!unit->is_lazy)
        spool->waiting_urgent++;
    bool wake = false;
    if (spool->writer_sleeps) {
        bool sync_runs = spool->sync_runs || spool->written.first;
        if (sync_runs || spool->waiting.bytes >= SPOOL_AHEAD)
            wake = spool->waiting.bytes >= SPOOL_AHEAD;
        else if (spool->writer_gathers)
            wake = spool->waiting_urgent >= spool->gather_target;
        else
            wake = first || !unit->is_lazy;
        if (wake)
            spool->writer_sleeps = false; /* one signal is enough */
    }
    /* signals come after unlocking: who wakes up would only sleep again on the lock */
    pthread_mutex_unlock(&spool->lock);
    if (wake)
        pthread_cond_signal(&spool->writer_wake);
}

/* ---- gathering pieces into few system calls ---- */

struct gather {
    int fd;
    uint64_t begin;
    struct iovec pieces[1024];
    size_t count;
    uint64_t bytes;
    bool failed;
    struct error *err;
};

static void gather_flush(struct gather *gather)
{
    if (!gather->failed && gather->count &&
        spool_files_write(gather->fd, gather->pieces, gather->count, gather->begin, gather->err) !=
            OK)
        gather->failed = true;
    gather->begin += gather->bytes;
    gather->bytes = 0;
    gather->count = 0;
}

static void gather_add(struct gather *gather, const struct iovec *piece)
{
    if (gather->count == sizeof gather->pieces / sizeof *gather->pieces)
        gather_flush(gather);
    gather->pieces[gather->count++] = *piece;
    gather->bytes += piece->iov_len;
}

/* ---- batches ---- */

enum { BATCH_RECORD = SPOOL_RECORD_HEADER + SPOOL_BATCH_SIZE };

static void place_unit(struct spool *spool, struct spool_unit *unit, uint64_t offset)
{
    unit->place = offset;
    uint64_t number = spool->next_unit++;
    for (size_t i = 0; i < unit->record_count; i++) {
        struct spool_unit_record *record = &unit->records[i];
        record->record.unit = number;
        spool_record_encode(&record->record, spool->current->id, offset + record->offset,
                            record->header);
    }
}

static void encode_batch(struct spool *spool, uint64_t durable, uint64_t bytes,
                         unsigned char out[BATCH_RECORD])
{
    struct spool_batch batch = {.sequence = spool->next_sequence++,
                                .durable_segment = spool->current->id,
                                .durable_offset = durable,
                                .bytes = bytes};
    spool_batch_encode(&batch, out + SPOOL_RECORD_HEADER);
    struct spool_record record = {
        .type = SPOOL_RECORD_BATCH,
        .count = 1,
        .unit = spool->next_unit++,
        .length = SPOOL_BATCH_SIZE,
        .payload_crc = spool_crc(0, out + SPOOL_RECORD_HEADER, SPOOL_BATCH_SIZE),
    };
    spool_record_encode(&record, spool->current->id, spool->offset, out);
}

/*
 * A written batch is to be synced; if a sync failed meanwhile, its bytes are void too. The syncer
 * gets it when there is so much that the next batch should be written meanwhile. Else the writer
 * syncs it himself: he could only wait, and to wake two threads for a small batch costs more than
 * anything else it needs.
 */
static void pass_to_sync(struct spool *spool, struct spool_unit_queue *units, uint64_t end,
                         bool wrote)
{
    pthread_mutex_lock(&spool->lock);
    spool->offset = end;
    struct spool_unit *unit;
    while ((unit = spool_queue_shift(units)))
        spool_queue_push(&spool->written, unit);
    if (!wrote)
        spool->sync_failed = true; /* what was written before this batch may still be synced */
    bool wake = wrote && !spool->sync_runs;
    if (wake && !spool->sync_failed && spool->written.bytes < SPOOL_AHEAD) {
        spool_sync_written(spool);
        wake = false;
    }
    pthread_mutex_unlock(&spool->lock);
    if (wake)
        pthread_cond_signal(&spool->syncer_wake);
}

/*
 * Zeros up to the end of the page at `end`. In a file that was used before a part of a page could
 * only be written after the page was read.
 */
static struct iovec rest_of_page(const struct spool *spool, uint64_t end)
{
    static const char zeros[SPOOL_PAGE];
    size_t rest = spool->current->was_used ? (size_t)(-end % SPOOL_PAGE) : 0;
    if (end + rest > spool->segment_size)
        rest = 0;
    return (struct iovec){(void *)(uintptr_t)zeros, rest};
}

static void write_batch(struct spool *spool, struct spool_unit_queue *units)
{
    struct error err;
    unsigned char head[BATCH_RECORD];
    pthread_mutex_lock(&spool->lock);
    uint64_t durable = spool->durable;
    pthread_mutex_unlock(&spool->lock);
    struct gather *gather = NEW(struct gather);
    gather->fd = spool->current->fd;
    gather->begin = spool->offset;
    gather->err = &err;
    encode_batch(spool, durable, units->bytes, head);
    gather_add(gather, &(struct iovec){head, sizeof head});
    uint64_t offset = spool->offset + sizeof head;
    for (struct spool_unit *unit = units->first; unit; unit = unit->next) {
        place_unit(spool, unit, offset);
        for (size_t i = 0; i < unit->piece_count; i++)
            gather_add(gather, &unit->pieces[i]);
        offset += unit->bytes;
        spool->segment_units++;
    }
    struct iovec rest = rest_of_page(spool, offset);
    if (rest.iov_len)
        gather_add(gather, &rest);
    gather_flush(gather);
    bool wrote = !gather->failed;
    free(gather);
    int number = fault_hit("spool.batch");
    if (wrote && number)
        wrote = fail_errno(&err, number, "write a batch") == OK;
    atomic_fetch_add(&spool->bytes_written, offset - spool->offset);
    if (!wrote)
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, spool->current->id));
    pass_to_sync(spool, units, offset, wrote);
}

/* ---- rolling ---- */

/* Wait until all that is written is durable or void. */
static bool drain_syncs(struct spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    while (!spool->sync_failed && (spool->sync_runs || spool->written.first))
        pthread_cond_wait(&spool->changed, &spool->lock);
    bool fine = !spool->sync_failed;
    pthread_mutex_unlock(&spool->lock);
    return fine;
}

/* The last record of a segment says that it is whole. `keeps_size`: its file may be used again, and
 * blocks that are given back would have to be made anew. */
static bool seal(struct spool *spool, bool keeps_size)
{
    struct spool_segment *segment = spool->current;
    unsigned char bytes[SPOOL_RECORD_HEADER + SPOOL_FOOTER_SIZE];
    spool_put64(bytes + SPOOL_RECORD_HEADER, spool->offset);
    spool_put64(bytes + SPOOL_RECORD_HEADER + 8, spool->segment_units);
    struct spool_record record = {
        .type = SPOOL_RECORD_FOOTER,
        .count = 1,
        .unit = spool->next_unit++,
        .length = SPOOL_FOOTER_SIZE,
        .payload_crc = spool_crc(0, bytes + SPOOL_RECORD_HEADER, SPOOL_FOOTER_SIZE),
    };
    spool_record_encode(&record, segment->id, spool->offset, bytes);
    uint64_t end = spool->offset + sizeof bytes;
    struct iovec pieces[] = {{bytes, sizeof bytes}, rest_of_page(spool, end)};
    struct error err;
    bool sealed = spool_files_write(segment->fd, pieces, 2, spool->offset, &err) == OK &&
                  spool_files_sync(spool, segment->fd, &err) == OK;
    if (!sealed) {
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, segment->id));
    } else if (!keeps_size &&
               ftruncate(segment->fd, (off_t)end) == 0) { /* give the unused rest back */
        pthread_mutex_lock(&spool->index_lock);
        segment->disk_bytes = end;
        pthread_mutex_unlock(&spool->index_lock);
    }
    return sealed;
}

static void mark_sealed(struct spool *spool, uint64_t end, bool reusable)
{
    pthread_mutex_lock(&spool->index_lock);
    spool->current->end = end;
    if (end == SPOOL_SEGMENT_HEADER)
        spool->current->cuts_from = 0; /* what it said is void: nobody needs it */
    spool->current->sealed = true;
    spool->current->reusable = reusable;
    spool->current->sealed_ns = clock_monotonic_ns();
    pthread_mutex_unlock(&spool->index_lock);
}

/* The next segment made ahead, or NULL if there is none for this purpose. */
static struct spool_segment *take_ready(struct spool *spool, unsigned needed)
{
    pthread_mutex_lock(&spool->lock);
    while (spool->ready_count < needed && !spool->making_failed) {
        spool->upkeep_asked = true;
        pthread_cond_signal(&spool->upkeep_wake);
        pthread_cond_wait(&spool->changed, &spool->lock);
    }
    struct spool_segment *segment = NULL;
    if (spool->ready_count >= needed) {
        segment = CONTAINER(list_shift(&spool->ready), struct spool_segment, link);
        spool->ready_count--;
    }
    spool->upkeep_asked = true;
    pthread_cond_signal(&spool->upkeep_wake);
    pthread_mutex_unlock(&spool->lock);
    return segment;
}

/* What a new segment says first: how far the one before is valid, and all totals. */
static void push_opening(struct spool *spool, struct spool_unit_queue *opening)
{
    unsigned char bytes[SPOOL_TOTALS * 8];
    for (unsigned i = 0; i < spool->cut_count; i++) {
        spool_previous_encode(&spool->cuts[i], bytes);
        struct str payload = str_of((const char *)bytes, SPOOL_PREVIOUS_SIZE);
        struct spool_unit *unit = spool_unit_raw(SPOOL_RECORD_PREVIOUS, payload);
        unit->is_lazy = unit->is_internal = true;
        spool_queue_push(opening, unit);
    }
    for (unsigned i = 0; i < SPOOL_TOTALS; i++)
        spool_put64(bytes + (size_t)i * 8, (uint64_t)atomic_load(&spool->totals[i]));
    struct str payload = str_of((const char *)bytes, sizeof bytes);
    struct spool_unit *unit = spool_unit_raw(SPOOL_RECORD_COUNTERS, payload);
    unit->is_lazy = unit->is_internal = true;
    spool_queue_push(opening, unit);
}

static void begin_segment(struct spool *spool, struct spool_segment *segment)
{
    pthread_mutex_lock(&spool->index_lock);
    struct spool_segment *in_index =
        spool_index_add_segment(&spool->index, segment->id, segment->kind, segment->fd);
    in_index->end = segment->end;
    in_index->disk_bytes = segment->disk_bytes;
    in_index->was_used = segment->was_used;
    for (unsigned i = 0; i < spool->cut_count; i++) {
        const struct spool_previous *cut = &spool->cuts[i];
        struct spool_segment *other = spool_index_segment(&spool->index, cut->segment);
        if (!other || cut->reason == SPOOL_PREVIOUS_ROLL)
            continue;
        other->was_cut = true;
        if (!in_index->cuts_from || other->id < in_index->cuts_from)
            in_index->cuts_from = other->id;
    }
    pthread_mutex_unlock(&spool->index_lock);
    segment->fd = -1;
    spool_segment_unref(segment);
    spool->current = in_index;
    spool->segment_units = 0;
    pthread_mutex_lock(&spool->lock);
    spool->offset = SPOOL_SEGMENT_HEADER;
    spool->durable = SPOOL_SEGMENT_HEADER;
    pthread_mutex_unlock(&spool->lock);
}

/* Refuse the units that bring mail; what is left stays in `units`. */
static void refuse_mail(struct spool_unit_queue *units)
{
    struct spool_unit_queue refused = {0};
    struct spool_unit_queue kept = {0};
    struct spool_unit *unit;
    while ((unit = spool_queue_shift(units))) {
        if (!unit->brings_mail) {
            spool_queue_push(&kept, unit);
            continue;
        }
        unit->result = fail(&unit->error, ERROR_LIMIT, "no space in the spool");
        spool_queue_push(&refused, unit);
    }
    *units = kept;
    spool_answer(&refused);
}

static bool any_brings_mail(const struct spool_unit_queue *units)
{
    for (const struct spool_unit *unit = units->first; unit; unit = unit->next) {
        if (unit->brings_mail)
            return true;
    }
    return false;
}

static void put_back(struct spool *spool, struct spool_unit_queue *units)
{
    pthread_mutex_lock(&spool->lock);
    for (struct spool_unit *unit = units->first; unit; unit = unit->next)
        spool->waiting_urgent += unit->is_lazy ? 0 : 1;
    spool_queue_put_back(&spool->waiting, units);
    pthread_mutex_unlock(&spool->lock);
}

static void pause_for_retry(struct spool *spool)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_MS / 1000;
    pthread_mutex_lock(&spool->lock);
    spool->upkeep_asked = true;
    spool->making_failed = false;
    if (spool->phase != SPOOL_RUNS)
        spool->closing_tries++;
    pthread_cond_signal(&spool->upkeep_wake);
    pthread_cond_timedwait(&spool->changed, &spool->lock, &until);
    pthread_mutex_unlock(&spool->lock);
}

/* A segment to write `units` to, perhaps after refusing the mail among them; NULL: none now. */
static struct spool_segment *next_segment(struct spool *spool, struct spool_unit_queue *units)
{
    if (any_brings_mail(units)) {
        struct spool_segment *segment = take_ready(spool, SPOOL_RESERVE + 1);
        if (segment)
            return segment;
        refuse_mail(units);
        if (!units->first && !spool->must_roll) /* the reserve is not for nothing */
            return NULL;
    }
    return take_ready(spool, 1);
}

static void seal_and_cut(struct spool *spool)
{
    uint64_t end = spool->offset;
    pthread_mutex_lock(&spool->index_lock);
    bool reusable = !spool->current->is_private; /* all that is in it was applied */
    pthread_mutex_unlock(&spool->index_lock);
    bool sealed = seal(spool, reusable);
    mark_sealed(spool, end, sealed && reusable);
    spool->cut_count = 1;
    spool->cuts[0] = (struct spool_previous){
        .segment = spool->current->id,
        .valid_end = end + (sealed ? SPOOL_RECORD_HEADER + SPOOL_FOOTER_SIZE : 0),
        .must_end = end,
        .reason = sealed ? SPOOL_PREVIOUS_ROLL : SPOOL_PREVIOUS_SYNC_FAILED};
}

/* Go on in a new segment with `units`. The old one was left by leave_poisoned(), or is whole and
 * synced and gets its footer now. */
static void roll(struct spool *spool, struct spool_unit_queue *units, bool poisoned)
{
    struct spool_segment *segment = next_segment(spool, units);
    if (!segment) {
        bool wait = units->first || poisoned;
        put_back(spool, units);
        if (wait)
            pause_for_retry(spool);
        return;
    }
    spool->must_roll = false;
    if (spool->current && !poisoned)
        seal_and_cut(spool);
    begin_segment(spool, segment);
    struct spool_unit_queue opening = {0};
    push_opening(spool, &opening);
    spool_queue_put_back(units, &opening);
    write_batch(spool, units);
}

/* The file of a segment in which nothing is durable. */
static bool remove_void(const struct spool *spool, uint64_t segment)
{
    struct error ignored;
    return spool_files_unlink(spool, segment, SPOOL_SEGMENT_MAIN) &&
           spool_files_sync_folder(spool, spool->log_fd, &ignored) == OK;
}

/* The segment that failed is void from `durable` on. If nothing of it is durable, what it said of
 * older ones is void too, and must be said again. */
static void add_cut(struct spool *spool, uint64_t durable)
{
    struct spool_previous cut = {spool->current->id, durable, durable, SPOOL_PREVIOUS_SYNC_FAILED};
    if (durable != SPOOL_SEGMENT_HEADER)
        spool->cut_count = 0;
    if (spool->cut_count < SPOOL_CUTS) {
        spool->cuts[spool->cut_count++] = cut;
        return;
    }
    /* many in a row: nothing durable is in this one, so it may go at once; or another like it */
    bool gone = remove_void(spool, cut.segment);
    for (unsigned i = 0; i < SPOOL_CUTS && !gone; i++) {
        struct spool_previous *other = &spool->cuts[i];
        gone = other->reason == SPOOL_PREVIOUS_SYNC_FAILED &&
               other->valid_end == SPOOL_SEGMENT_HEADER && remove_void(spool, other->segment);
        if (gone)
            *other = cut;
    }
    if (!gone) /* reclaim tries again; should the process die before, what it holds may come back */
        event_emit(EVENT_SPOOL_ERROR, F_INT(SEGMENT, cut.segment),
                   F_C(ERROR, "a log file whose sync failed can neither be removed nor noted"));
}

/* ---- after a failed sync ---- */

/*
 * Everything behind the last good sync is void and the file is never synced again. State records
 * are written again; mail is refused, but only when the new segment has said so on stable storage:
 * until then a crash could still bring it to life.
 */
static void leave_poisoned(struct spool *spool)
{
    struct spool_unit_queue again = {0};
    pthread_mutex_lock(&spool->lock);
    while (spool->sync_runs)
        pthread_cond_wait(&spool->changed, &spool->lock);
    struct spool_unit *unit;
    while ((unit = spool_queue_shift(&spool->written))) {
        if (unit->is_internal && unit->is_lazy) {
            spool_unit_free(unit); /* openings and copies are made anew */
        } else if (unit->is_lazy) {
            spool_queue_push(&again, unit);
        } else {
            unit->result = fail(&unit->error, ERROR_TEMPORARY, "the disk failed");
            spool_queue_push(&spool->refused, unit);
        }
    }
    uint64_t durable = spool->durable;
    spool->sync_failed = false;
    unsigned failures = ++spool->failures;
    struct spool_unit_queue impatient = {0};
    if (failures >= FAILURES_PATIENT) {
        atomic_store(&spool->broken, true);
        impatient = spool->refused;
        spool->refused = (struct spool_unit_queue){0};
    }
    pthread_mutex_unlock(&spool->lock);
    spool_answer(&impatient);

    mark_sealed(spool, durable, /* reusable= */ false);
    add_cut(spool, durable);
    spool->must_roll = true;
    if (failures >= FAILURES_PATIENT)
        pause_for_retry(spool);
    roll(spool, &again, /* poisoned= */ true);
}

/* ---- the thread ---- */

enum task { TASK_WRITE, TASK_LEAVE, TASK_END };

static bool may_write(const struct spool *spool)
{
    if (!spool->waiting.first)
        return spool->must_roll;
    if (!spool->sync_runs && !spool->written.first)
        return true;
    return spool->waiting.bytes >= SPOOL_AHEAD && spool->written.bytes < SPOOL_UNSYNCED_MAX;
}

/*
 * Those whose units were just synced tend to come back at once. Without a short wait two halves of
 * them would take turns, each sync carrying one half; so wait an eighth of a sync's time for as
 * many as were in the last sync and waited at its end.
 */
static void let_commits_gather(struct spool *spool)
{
    struct timespec until = {spool->gather_until_ns / NS_PER_S, spool->gather_until_ns % NS_PER_S};
    spool->writer_gathers = true;
    while (spool->waiting_urgent < spool->gather_target && spool->phase == SPOOL_RUNS &&
           !spool->sync_failed && spool->waiting.bytes < SPOOL_AHEAD) {
        spool->writer_sleeps = true;
        int timed_out = pthread_cond_timedwait(&spool->writer_wake, &spool->lock, &until);
        spool->writer_sleeps = false;
        if (timed_out)
            break;
    }
    spool->writer_gathers = false;
    spool->gather_target = 0;
}

/* Only state waits, and no sync runs: give it some time to gather. True when time is up or
 * something more urgent came. */
static void let_state_gather(struct spool *spool)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t at = (int64_t)until.tv_sec * NS_PER_S + until.tv_nsec + spool->settings.state_delay_ns;
    until = (struct timespec){at / NS_PER_S, at % NS_PER_S};
    while (!spool->waiting_urgent && spool->phase == SPOOL_RUNS && !spool->sync_failed &&
           spool->waiting.bytes < SPOOL_AHEAD) {
        spool->writer_sleeps = true;
        int timed_out = pthread_cond_timedwait(&spool->writer_wake, &spool->lock, &until);
        spool->writer_sleeps = false;
        if (timed_out)
            return;
    }
}

/* Closing, and all is durable; or the disk failed so often that waiting is no use. */
static bool is_over(const struct spool *spool)
{
    if (spool->phase != SPOOL_ENDS || spool->sync_runs)
        return false;
    if (spool->failures >= FAILURES_PATIENT || spool->closing_tries >= FAILURES_PATIENT)
        return true;
    return !spool->waiting.first && !spool->written.first && !spool->refused.first;
}

static enum task next_task(struct spool *spool, struct spool_unit_queue *out_units)
{
    enum task task = TASK_WRITE;
    pthread_mutex_lock(&spool->lock);
    for (;;) {
        if (spool->sync_failed && !is_over(spool)) {
            task = TASK_LEAVE;
            break;
        }
        if (is_over(spool)) {
            task = TASK_END;
            break;
        }
        if (may_write(spool)) {
            if (!spool->must_roll)
                let_state_gather(spool);
            if (!spool->must_roll && !spool->sync_runs)
                let_commits_gather(spool);
            if (!spool->sync_failed)
                break;
            continue;
        }
        spool->writer_sleeps = true;
        pthread_cond_wait(&spool->writer_wake, &spool->lock);
        spool->writer_sleeps = false;
    }
    while (
        task == TASK_WRITE && spool->waiting.first &&
        (!out_units->first || out_units->bytes + spool->waiting.first->bytes <= SPOOL_BATCH_MAX)) {
        struct spool_unit *unit = spool_queue_shift(&spool->waiting);
        spool->waiting_urgent -= unit->is_lazy ? 0 : 1;
        spool_queue_push(out_units, unit);
    }
    pthread_mutex_unlock(&spool->lock);
    return task;
}

void *spool_writer_main(void *arg)
{
    struct spool *spool = arg;
    pthread_setname_np(pthread_self(), "spool-write");
    for (;;) {
        struct spool_unit_queue units = {0};
        enum task task = next_task(spool, &units);
        if (task == TASK_END)
            break;
        if (task == TASK_LEAVE) {
            leave_poisoned(spool);
            continue;
        }
        uint64_t room = BATCH_RECORD + units.bytes + SPOOL_RECORD_HEADER + SPOOL_FOOTER_SIZE;
        if (spool->must_roll)
            roll(spool, &units, /* poisoned= */ true);
        else if (spool->current && spool->offset + room <= spool->segment_size)
            write_batch(spool, &units);
        else if (drain_syncs(spool))
            roll(spool, &units, /* poisoned= */ false);
        else
            put_back(spool, &units);
    }
    if (spool->current && !spool->must_roll && !spool->sync_failed)
        seal(spool, /* keeps_size= */ false);
    pthread_mutex_lock(&spool->lock);
    spool->phase = SPOOL_WRITER_ENDED;
    pthread_cond_broadcast(&spool->syncer_wake);
    pthread_cond_broadcast(&spool->upkeep_wake);
    pthread_mutex_unlock(&spool->lock);
    return NULL;
}
