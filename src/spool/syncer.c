/* SPDX-License-Identifier: Apache-2.0 */
/* The syncer makes what was written durable, applies it to the index, and answers. */
#include "base/memory.h"
#include "event/event.h"
#include "spool/bytes.h"
#include "spool/internal.h"

#include <stdlib.h>
#include <time.h>

/* ---- answering ---- */

static void wake_fiber(struct post *post)
{
    struct spool_unit *unit = CONTAINER(post, struct spool_unit, post);
    unit->done = true;
    fiber_wake(unit->fiber);
}

enum { LOOPS_AT_ONCE = 64 };

struct chain {
    struct loop *loop;
    struct post *first;
    struct post *last;
};

static void add_to_chain(struct chain *chains, size_t *count, struct spool_unit *unit)
{
    size_t i = 0;
    while (i < *count && chains[i].loop != unit->loop)
        i++;
    if (i == LOOPS_AT_ONCE) {
        loop_post(unit->loop, &unit->post);
        return;
    }
    if (i == *count)
        chains[(*count)++] = (struct chain){.loop = unit->loop};
    unit->post.next = NULL;
    if (chains[i].last)
        chains[i].last->next = &unit->post;
    else
        chains[i].first = &unit->post;
    chains[i].last = &unit->post;
}

/* One wake-up a loop, however many units of it were in the batch. */
void spool_answer(struct spool_unit_queue *queue)
{
    struct chain chains[LOOPS_AT_ONCE];
    size_t count = 0;
    struct spool_unit *unit;
    while ((unit = spool_queue_shift(queue))) {
        if (unit->is_lazy) {
            spool_unit_free(unit);
        } else {
            unit->post.run = wake_fiber;
            add_to_chain(chains, &count, unit);
        }
    }
    for (size_t i = 0; i < count; i++)
        loop_post_chain(chains[i].loop, chains[i].first, chains[i].last);
}

/* ---- applying ---- */

static void apply_entry(struct spool *spool, const struct spool_unit *unit,
                        const struct spool_unit_record *record, struct spool_place place)
{
    struct spool_entry_record entry;
    struct str fixed = str_of((const char *)record->payload, SPOOL_ENTRY_FIXED);
    if (!spool_entry_decode(fixed, record->record.length, &entry))
        return;
    uint64_t body_offset = entry.body_record == SPOOL_NO_BODY
                               ? 0
                               : unit->place + unit->records[entry.body_record].offset;
    spool_index_apply_entry(&spool->index, place, &entry, body_offset);
    struct spool_bulk *bulk = entry.bulk ? spool_index_bulk(&spool->index, entry.bulk) : NULL;
    if (bulk) {
        bulk->is_plain |= !unit->is_private;
        bulk->is_private |= unit->is_private;
    }
}

static void apply_record(struct spool *spool, const struct spool_unit *unit,
                         const struct spool_unit_record *record)
{
    struct spool_place place = {spool->current, unit->place + record->offset, record->record.unit};
    struct mail_id id;
    uint64_t sequence;
    struct str state;
    struct str payload = str_of((const char *)record->payload, record->record.length);
    switch (record->record.type) {
    case SPOOL_RECORD_ENTRY:
        apply_entry(spool, unit, record, place);
        break;
    case SPOOL_RECORD_STATE:
        if (spool_state_decode(str_slice(payload, 0, SPOOL_STATE_FIXED), &id, &sequence, &state))
            spool_index_apply_state(&spool->index, place, id, sequence,
                                    record->record.length - SPOOL_STATE_FIXED);
        break;
    case SPOOL_RECORD_REMOVE:
        spool_index_apply_remove(&spool->index, place, spool_id_decode(record->payload));
        break;
    case SPOOL_RECORD_COUNT:
        atomic_fetch_add(&spool->totals[spool_get32(record->payload)],
                         (int64_t)spool_get64(record->payload + 8));
        break;
    default:
        break;
    }
}

static void apply(struct spool *spool, const struct spool_unit_queue *units)
{
    uint64_t count = 0;
    pthread_mutex_lock(&spool->index_lock);
    for (struct spool_unit *unit = units->first; unit; unit = unit->next) {
        for (size_t i = 0; i < unit->record_count; i++)
            apply_record(spool, unit, &unit->records[i]);
        spool->current->is_private |= unit->is_private;
        unit->result = OK;
        count += unit->is_internal ? 0 : 1;
    }
    bool upkeep =
        !list_is_empty(&spool->index.dead_bulks) || spool->index.totals_from != spool->current->id;
    spool->index.totals_from = spool->current->id; /* its first batch says them */
    pthread_mutex_unlock(&spool->index_lock);
    atomic_fetch_add(&spool->units, count);
    if (upkeep)
        spool_wake_upkeep(spool);
}

/* ---- the thread ---- */

int64_t spool_real_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void spool_sync_written(struct spool *spool)
{
    spool->syncing = spool->written;
    spool->written = (struct spool_unit_queue){0};
    spool->sync_runs = true;
    uint64_t end = spool->offset;
    struct spool_segment *segment = spool->current;
    pthread_mutex_unlock(&spool->lock);
    struct error err;
    int64_t begin_ns = spool_real_ns();
    bool good = spool_files_sync(spool, segment->fd, &err) == OK;
    int64_t end_ns = spool_real_ns();
    atomic_fetch_add(&spool->syncs, 1);
    struct spool_unit_queue units = spool->syncing;
    struct spool_unit_queue refused = {0};
    size_t urgent = 0;
    for (const struct spool_unit *unit = units.first; unit; unit = unit->next)
        urgent += unit->is_lazy ? 0 : 1;
    if (good)
        apply(spool, &units);
    else
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, segment->id));
    pthread_mutex_lock(&spool->lock);
    spool->syncing = (struct spool_unit_queue){0};
    spool->sync_runs = false;
    if (good) {
        spool->durable = end;
        spool->gather_target = urgent + spool->waiting_urgent;
        spool->gather_until_ns = end_ns + (end_ns - begin_ns) / 8;
        spool->failures = 0;
        atomic_store(&spool->broken, false);
        refused = spool->refused;
        spool->refused = (struct spool_unit_queue){0};
    } else {
        /* void, with all that was written behind it */
        spool_queue_put_back(&spool->written, &units);
        spool->sync_failed = true;
    }
    /* the writer first: it has a batch to write while answers go out */
    bool wake =
        spool->writer_sleeps && (spool->waiting.first || !good || spool->phase != SPOOL_RUNS);
    pthread_cond_broadcast(&spool->changed);
    pthread_mutex_unlock(&spool->lock);
    if (wake)
        pthread_cond_signal(&spool->writer_wake);
    spool_answer(&units);
    spool_answer(&refused);
    pthread_mutex_lock(&spool->lock);
}

void *spool_syncer_main(void *arg)
{
    struct spool *spool = arg;
    pthread_setname_np(pthread_self(), "spool-sync");
    pthread_mutex_lock(&spool->lock);
    for (;;) {
        if (spool->written.first && !spool->sync_failed && !spool->sync_runs)
            spool_sync_written(spool);
        else if (spool->phase == SPOOL_WRITER_ENDED)
            break;
        else
            pthread_cond_wait(&spool->syncer_wake, &spool->lock);
    }
    pthread_mutex_unlock(&spool->lock);
    return NULL;
}
