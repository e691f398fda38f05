/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: recover the log, set aside what is damaged, tell of what lives, start the threads. */
#include "base/buf.h"
#include "base/check.h"
#include "base/memory.h"
#include "event/event.h"
#include "spool/internal.h"
#include "spool/load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    LANE_THREADS = 4,
    LANE_WAITING = 32 * 1024,
    SMALLEST_SEGMENT = 64 * 1024,
    FIRST_WINDOW = 256 * 1024,
};

/* ---- settings ---- */

static void adopt_settings(struct spool *spool, const struct spool_settings *settings)
{
    spool->settings = *settings;
    char *path = memory_alloc(settings->path.len + 1);
    memcpy(path, settings->path.ptr, settings->path.len);
    spool->settings.path = str_of(path, settings->path.len);
    if (spool->settings.state_delay_ns <= 0)
        spool->settings.state_delay_ns = 50 * NS_PER_MS;
    if (spool->settings.reclaim_age_ns <= 0)
        spool->settings.reclaim_age_ns = 60 * NS_PER_S;
    if (spool->settings.read_again_ns <= 0)
        spool->settings.read_again_ns = NS_PER_S;
    if (spool->settings.reclaim_below == 0)
        spool->settings.reclaim_below = 25;
    uint64_t size = settings->segment_size ? settings->segment_size : UINT64_C(64) << 20;
    spool->segment_size = size < SMALLEST_SEGMENT    ? (uint64_t)SMALLEST_SEGMENT
                          : size > SPOOL_SEGMENT_MAX ? SPOOL_SEGMENT_MAX
                                                     : size;
}

/* Segments made ahead must not fill a small file system. */
static void fit_segment_size(struct spool *spool)
{
    struct statvfs info;
    if (fstatvfs(spool->folder_fd, &info) != 0)
        return;
    uint64_t share = (uint64_t)info.f_blocks * info.f_frsize / 32;
    while (spool->segment_size > share && spool->segment_size > 1024 * 1024)
        spool->segment_size /= 2;
}

static void init_sync(struct spool *spool)
{
    pthread_mutex_init(&spool->lock, NULL);
    pthread_mutex_init(&spool->index_lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&spool->writer_wake, &attributes);
    pthread_cond_init(&spool->syncer_wake, &attributes);
    pthread_cond_init(&spool->upkeep_wake, &attributes);
    pthread_cond_init(&spool->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&spool->ready);
    spool_index_init(&spool->index);
}

static void free_spool(struct spool *spool)
{
    lane_free(spool->lane);
    lane_free(spool->bulk_lane);
    spool_index_done(&spool->index);
    spool_files_close(spool);
    pthread_cond_destroy(&spool->writer_wake);
    pthread_cond_destroy(&spool->syncer_wake);
    pthread_cond_destroy(&spool->upkeep_wake);
    pthread_cond_destroy(&spool->changed);
    pthread_mutex_destroy(&spool->lock);
    pthread_mutex_destroy(&spool->index_lock);
    free((char *)(uintptr_t)spool->settings.path.ptr);
    free(spool);
}

/* ---- threads ---- */

static void start_threads(struct spool *spool)
{
    static void *(*const mains[])(void *) = {spool_writer_main, spool_syncer_main,
                                             spool_upkeep_main};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < 3; i++)
        check(pthread_create(&spool->threads[i], NULL, mains[i], spool) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

enum result spool_open(const struct spool_settings *settings, spool_found_fn *found,
                       void *found_context, struct spool **out_spool, struct error *err)
{
    struct spool *spool = NEW(struct spool);
    init_sync(spool);
    adopt_settings(spool, settings);
    enum result opened = spool_files_open(spool, err);
    if (opened == OK) {
        fit_segment_size(spool);
        opened = spool_loading_begin(spool, found, found_context, err);
    }
    if (opened != OK) {
        free_spool(spool);
        return fail_context(err, "spool %.*s", STR_ARG(settings->path));
    }
    spool->lane = lane_new("spool", LANE_THREADS, LANE_WAITING);
    spool->bulk_lane = lane_new("spool-bulk", 1, LANE_WAITING);
    spool->bulk_window = FIRST_WINDOW;
    atomic_store(&spool->has_space, true);
    spool_files_look_at_space(spool);
    atomic_store(&spool->is_loading, true);
    bool at_once =
        settings->load_later_over == 0 || spool_loading_left(spool) < settings->load_later_over;
    if (at_once && spool_loading_run(spool, err) != OK) {
        free_spool(spool);
        return fail_context(err, "spool %.*s", STR_ARG(settings->path));
    }
    if (spool->settings.no_sync)
        event_emit(EVENT_DAEMON_WARNING,
                   F_C(WHY, "the spool does not sync: a power cut loses accepted mail"));
    event_emit(EVENT_SPOOL_OPEN, F_STR(FILE, spool->settings.path),
               F_INT(COUNT, spool->index.count), F_INT(VALUE, atomic_load(&spool->damaged)));
    start_threads(spool);
    *out_spool = spool;
    return OK;
}

void spool_close(struct spool *spool)
{
    if (!spool)
        return;
    spool_loading_free(spool);
    pthread_mutex_lock(&spool->lock);
    spool->phase = SPOOL_ENDS;
    pthread_cond_broadcast(&spool->writer_wake);
    pthread_mutex_unlock(&spool->lock);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(spool->threads[i], NULL);
    for (struct list *link; (link = list_shift(&spool->ready));) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        if (segment->was_used && spool_pool_has_room(spool, 0) &&
            spool_pool_rename_into(spool, segment))
            spool_pool_add(spool, segment->id);
        else
            spool_files_unlink(spool, segment->id, segment->kind);
        spool_segment_unref(segment);
    }
    struct spool_unit_queue *queues[] = {&spool->waiting, &spool->written, &spool->refused};
    for (int i = 0; i < 3; i++) {
        for (struct spool_unit *unit; (unit = spool_queue_shift(queues[i]));) {
            check(unit->is_lazy); /* nobody may be inside a call */
            spool_unit_free(unit);
        }
    }
    free_spool(spool);
}

/* ---- queries ---- */

int64_t spool_counter(const struct spool *spool, unsigned counter)
{
    check(counter < SPOOL_COUNTERS);
    return atomic_load(&spool->totals[counter]);
}

struct spool_stats spool_stats(const struct spool *constant)
{
    struct spool *spool = (struct spool *)(uintptr_t)constant;
    struct spool_stats stats = {.units = atomic_load(&spool->units),
                                .syncs = atomic_load(&spool->syncs),
                                .bytes_written = atomic_load(&spool->bytes_written),
                                .damaged = atomic_load(&spool->damaged)};
    pthread_mutex_lock(&spool->index_lock);
    stats.entries = spool->index.count;
    LIST_EACH (&spool->index.segments, link) {
        const struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
        stats.segments++;
        stats.live_bytes += segment->live_bytes;
        stats.disk_bytes += segment->disk_bytes;
    }
    pthread_mutex_unlock(&spool->index_lock);
    stats.pooled = atomic_load(&spool->pool_count);
    stats.reused = atomic_load(&spool->reused);
    stats.disk_bytes += stats.pooled * spool->segment_size;
    uint64_t bytes;
    stats.pooled_bodies = spool_bodies_waiting(spool, &bytes);
    stats.reused_bodies = atomic_load(&spool->reused_bodies);
    stats.disk_bytes += bytes;
    return stats;
}
