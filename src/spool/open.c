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

/* ---- recovery ---- */

static void set_aside_damages(struct spool *spool, struct spool_loader *loader,
                              const struct spool_recovered *recovered)
{
    for (size_t i = 0; i < recovered->damage_count; i++) {
        const struct spool_damage *damage = &recovered->damages[i];
        /* entries of one damaged unit share its bytes: one copy of them is enough */
        bool same = i > 0 && damage->segment == damage[-1].segment &&
                    damage->begin == damage[-1].begin && damage->end == damage[-1].end;
        struct str bytes = spool_loader_part(loader, damage->segment, damage->begin,
                                             same ? damage->begin : damage->end);
        spool_set_aside(spool, damage, bytes);
        free((char *)(uintptr_t)bytes.ptr);
    }
}

/*
 * A segment without footer is the one that was written to at the end (or one whose sync failed).
 * After kill -9 its last bytes may be in the page cache only: sync them before anything leans on
 * them. What is behind the valid part goes.
 */
static void settle_open_segment(struct spool *spool, struct spool_recover_segment *source, int fd)
{
    struct error err;
    if (spool_files_sync(spool, fd, &err) != OK)
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, source->id));
    if (source->kind != SPOOL_SEGMENT_MAIN)
        return;
    if (ftruncate(fd, (off_t)source->valid_end) == 0)
        source->segment->disk_bytes = source->valid_end;
    if (source->cut_known || spool->cut_count == SPOOL_CUTS)
        return;
    spool->cuts[spool->cut_count++] = (struct spool_previous){
        source->id, source->valid_end, source->whole_end, SPOOL_PREVIOUS_RECOVERED};
}

/* The whole file goes to `corrupt`: nothing in it can be told apart. */
static void put_away(struct spool *spool, const struct spool_recover_segment *source)
{
    char name[SPOOL_NAME_SIZE];
    spool_segment_name(source->id, source->kind, name);
    renameat(spool->log_fd, name, spool->corrupt_fd, name);
}

static void adopt_segments(struct spool *spool, struct spool_loader *loader)
{
    uint64_t next_id = 1;
    for (size_t i = 0; i < loader->count; i++) {
        struct spool_recover_segment *source = &loader->segments[i];
        struct spool_loaded_file *file = &loader->files[i];
        source->segment->disk_bytes = file->file_size;
        if (source->is_foreign)
            put_away(spool, source);
        else if (!source->is_empty && !source->has_footer)
            settle_open_segment(spool, source, file->fd);
        source->segment->fd = file->fd;
        file->fd = -1;
        next_id = source->id + 1;
    }
    atomic_store(&spool->next_id, next_id);
}

/* Segments that nothing needs, in rounds: each round lets go of tombstones of the next. */
static void remove_dead_segments(struct spool *spool)
{
    for (bool more = true; more;) {
        more = false;
        LIST_EACH (&spool->index.segments, link) {
            struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
            if (spool_segment_is_dead(&spool->index, segment)) {
                spool_files_unlink(spool, segment->id, segment->kind);
                more = true;
            }
        }
        struct error err;
        if (!more || spool_files_sync_folder(spool, spool->log_fd, &err) != OK)
            return;
        bool dropped = false;
        LIST_EACH (&spool->index.segments, link) {
            struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
            char name[SPOOL_NAME_SIZE];
            spool_segment_name(segment->id, segment->kind, name);
            if (faccessat(spool->log_fd, name, F_OK, 0) == 0)
                continue;
            spool_index_drop_segment(&spool->index, segment);
            dropped = true;
        }
        more = dropped;
    }
}

/* Files of large bodies that no entry needs were never committed, or are done. */
static void sweep_bodies(struct spool *spool)
{
    int copy = openat(spool->bulk_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return;
    for (struct dirent *item; (item = readdir(folder));) {
        uint64_t id;
        enum spool_segment_kind kind;
        if (strlen(item->d_name) < 20 || !spool_segment_name_parse(item->d_name, &id, &kind) ||
            kind != SPOOL_SEGMENT_BULK)
            continue;
        if (id >= atomic_load(&spool->next_id))
            atomic_store(&spool->next_id, id + 1);
        if (!spool_index_bulk(&spool->index, id))
            unlinkat(spool->bulk_fd, item->d_name, 0);
    }
    closedir(folder);
}

static enum result recover_folder(struct spool *spool, struct error *err)
{
    struct spool_loader loader;
    if (spool_loader_open(&loader, spool->log_fd, /* writable= */ true, err) != OK)
        return FAILED;
    struct spool_recovered recovered;
    spool_recover(loader.segments, loader.count, spool_loader_load, &loader, &spool->index,
                  &recovered);
    set_aside_damages(spool, &loader, &recovered);
    adopt_segments(spool, &loader);
    remove_dead_segments(spool);
    sweep_bodies(spool);
    spool->next_unit = recovered.next_unit;
    spool->next_sequence = recovered.next_sequence;
    spool->cold_units = 1;
    for (unsigned i = 0; i < SPOOL_TOTALS; i++)
        atomic_store(&spool->totals[i], recovered.totals[i]);
    spool_recovered_done(&recovered);
    spool_loader_done(&loader);
    return OK;
}

/* ---- telling what lives ---- */

static int compare_places(const void *left, const void *right)
{
    const struct spool_entry *a = *(struct spool_entry *const *)left;
    const struct spool_entry *b = *(struct spool_entry *const *)right;
    if (a->home != b->home) /* slots were given in the order of the segments */
        return a->home < b->home ? -1 : 1;
    return a->place < b->place ? -1 : a->place > b->place;
}

/* Is the file of the large body surely gone or too short? Its bytes are looked at when it is read;
 * a file that cannot be looked at now (descriptors, rights, the disk) is no loss yet. */
static bool lacks_its_body(const struct spool *spool, const struct spool_entry *entry)
{
    if (!entry->in_bulk)
        return false;
    int fd = spool_bulk_open(spool, entry->body);
    struct stat info;
    if (fd < 0)
        return errno == ENOENT;
    bool is_short = fstat(fd, &info) == 0 &&
                    (uint64_t)info.st_size < spool_entry_body_size(&spool->index, entry);
    close(fd);
    return is_short;
}

/* The record of the entry from disk, and its newest state, which may lie elsewhere. */
static bool read_texts(const struct spool *spool, const struct spool_entry *entry,
                       struct buf *space, struct spool_found *out)
{
    struct error ignored;
    struct spool_entry_record fixed;
    buf_clear(space);
    char *at = buf_reserve(space, (size_t)entry->length + entry->state_len + 1);
    if (!at || spool_files_read(spool_entry_home(&spool->index, entry)->fd, at, entry->length,
                                spool_entry_offset(entry) + SPOOL_RECORD_HEADER, &ignored) != OK)
        return false;
    struct str record = str_of(at, entry->length);
    if (!spool_entry_decode(record, record.len, &fixed))
        return false;
    size_t meta = (size_t)SPOOL_ENTRY_FIXED + fixed.head_len;
    size_t state = meta + fixed.meta_len;
    out->head_size = fixed.head_len;
    out->body_start = fixed.body_start;
    out->body_size = fixed.body_size;
    out->meta = str_slice(record, meta, state);
    out->state = str_from(record, state);
    if (entry->state_home == entry->home && entry->state_place == entry->place)
        return true;
    out->state = str_of(at + entry->length, entry->state_len);
    return spool_files_read(spool_entry_state_home(&spool->index, entry)->fd, at + entry->length,
                            entry->state_len,
                            spool_entry_state_offset(entry) + SPOOL_RECORD_HEADER +
                                SPOOL_STATE_FIXED,
                            &ignored) == OK;
}

static void lose_entry(struct spool *spool, struct spool_entry *entry, const char *why)
{
    const struct spool_segment *home = spool_entry_home(&spool->index, entry);
    struct spool_damage damage = {.segment = home->id,
                                  .begin = spool_entry_offset(entry),
                                  .end = spool_entry_offset(entry) + entry->length,
                                  .named = true,
                                  .sure = true,
                                  .entry = entry->id,
                                  .message = entry->message,
                                  .why = why};
    uint64_t size = damage.end - damage.begin;
    char *bytes = memory_alloc(size);
    struct error ignored;
    bool got = spool_files_read(home->fd, bytes, size, damage.begin, &ignored) == OK;
    spool_set_aside(spool, &damage, got ? str_of(bytes, size) : STR_EMPTY);
    free(bytes);
    spool_set_body_aside(spool, spool_entry_bulk(entry));
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = entry->id};
    spool_write(spool, &change, 1);
}

/* It verified a moment ago, so the disk is in trouble: it stays, and the next start may read it. */
static void tell_unread(const struct spool *spool, const struct spool_entry *entry)
{
    event_emit(EVENT_SPOOL_ERROR, F_C(ENTRY, mail_id_text(entry->id).chars),
               F_C(MESSAGE, mail_id_text(entry->message).chars),
               F_INT(SEGMENT, spool_entry_home(&spool->index, entry)->id),
               F_C(ERROR, "the entry cannot be read now; it stays in the spool"));
}

static void tell_found(struct spool *spool, spool_found_fn *found, void *context)
{
    size_t count = spool->index.count;
    struct spool_entry **entries = memory_alloc_array(count + 1, sizeof *entries);
    size_t used = 0;
    for (struct spool_entry *entry = spool_index_next(&spool->index, NULL); entry;
         entry = spool_index_next(&spool->index, entry))
        entries[used++] = entry;
    qsort(entries, used, sizeof *entries, compare_places);
    struct buf space BUF_CLEANUP;
    buf_init(&space, 4 * 1024 * 1024);
    for (size_t i = 0; i < used; i++) {
        struct spool_entry *entry = entries[i];
        struct spool_found item = {.entry = entry->id, .message = entry->message};
        if (lacks_its_body(spool, entry))
            lose_entry(spool, entry, "file of the body is missing or cut short");
        else if (!read_texts(spool, entry, &space, &item))
            tell_unread(spool, entry);
        else if (found)
            found(context, &item);
    }
    free(entries);
}

/* ---- threads ---- */

static void start_threads(struct spool *spool)
{
    static void *(*const mains[])(void *) = {spool_writer_main, spool_syncer_main,
                                             spool_upkeep_main};
    static const char *const names[] = {"spool-write", "spool-sync", "spool-upkeep"};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < 3; i++) {
        check(pthread_create(&spool->threads[i], NULL, mains[i], spool) == 0);
        pthread_setname_np(spool->threads[i], names[i]);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

enum result spool_open(const struct spool_settings *settings, spool_found_fn *found,
                       void *found_context, struct spool **out_spool, struct error *err)
{
    struct spool *spool = NEW(struct spool);
    init_sync(spool);
    adopt_settings(spool, settings);
    if (spool_files_open(spool, err) != OK || recover_folder(spool, err) != OK) {
        free_spool(spool);
        return fail_context(err, "spool %.*s", STR_ARG(settings->path));
    }
    fit_segment_size(spool);
    spool->lane = lane_new("spool", LANE_THREADS, LANE_WAITING);
    atomic_store(&spool->has_space, true);
    spool_files_look_at_space(spool);
    tell_found(spool, found, found_context);
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
    pthread_mutex_lock(&spool->lock);
    spool->phase = SPOOL_ENDS;
    pthread_cond_broadcast(&spool->writer_wake);
    pthread_mutex_unlock(&spool->lock);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(spool->threads[i], NULL);
    for (struct list *link; (link = list_shift(&spool->ready));) {
        struct spool_segment *segment = CONTAINER(link, struct spool_segment, link);
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
    return stats;
}
