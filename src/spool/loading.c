/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start does with what it finds. First only the newest main segments are walked: they hold
 * all totals and numbers, and what must be settled before the log goes on. The rest is loaded by
 * spool_open, or (load_later_over) by a thread while mail flows; each entry is told of once what is
 * known of it is final.
 */
#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
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
#include <time.h>
#include <unistd.h>

/* At each start; more than were ever made of one. */
#define NUMBERS_LEFT_OUT (UINT64_C(1) << 32)

struct spool_loading {
    struct spool *spool;
    spool_found_fn *found;
    void *found_context;
    struct spool_loader loader;
    struct spool_recovery recovery;
    struct spool_recovered recovered;
    size_t damages_told;
    uint64_t first_new_id;   /* of files made since the start */
    struct mail_id *waiting; /* entries that may be told of when the cold segments were walked */
    size_t waiting_count;
    struct mail_id *last; /* of cold segments: they are told of at the end */
    size_t last_count;
    struct buf space;
    uint64_t told;
    unsigned waits; /* for a disk that does not answer, in a row */
    struct error failure;
    pthread_t thread;
    bool has_thread;
};

/* ---- segments ---- */

static void set_aside_damages(struct spool *spool, struct spool_loader *loader,
                              const struct spool_recovered *recovered, size_t from)
{
    for (size_t i = from; i < recovered->damage_count; i++) {
        const struct spool_damage *damage = &recovered->damages[i];
        /* entries of one damaged unit share its bytes: one copy of them is enough */
        bool same = i > from && damage->segment == damage[-1].segment &&
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
static void settle_open_segment(const struct spool_loading *loading,
                                struct spool_recover_segment *source, int fd)
{
    struct spool *spool = loading->spool;
    struct error err;
    if (spool_files_sync(spool, fd, &err) != OK)
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, err.text), F_INT(SEGMENT, source->id));
    if (source->kind != SPOOL_SEGMENT_MAIN)
        return;
    if (ftruncate(fd, (off_t)source->valid_end) == 0)
        source->segment->disk_bytes = source->valid_end;
    /* one that is found later, when the next segment was begun, says the same at every start */
    if (source->cut_known || loading->has_thread || spool->cut_count == SPOOL_CUTS)
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

/* Nothing of it is moved, cut or removed: what the disk does not give today it may give tomorrow.
 */
static void tell_unread_segment(const struct spool_recover_segment *source)
{
    event_emit(EVENT_SPOOL_ERROR, F_INT(SEGMENT, source->id), F_INT(OFFSET, source->unread_end),
               F_C(ERROR, "parts of a log file cannot be read; it stays for the next start"));
}

/* After its walk: the file belongs to the index now. */
static void adopt_segment(struct spool_loading *loading, size_t at)
{
    struct spool *spool = loading->spool;
    struct spool_recover_segment *source = &loading->loader.segments[at];
    struct spool_loaded_file *file = &loading->loader.files[at];
    set_aside_damages(spool, &loading->loader, &loading->recovered, loading->damages_told);
    loading->damages_told = loading->recovered.damage_count;
    pthread_mutex_lock(&spool->index_lock);
    source->segment->disk_bytes = file->file_size;
    /* made of the pool and never begun; what held mail before this start goes: nobody knows any
     * more whether it held private text */
    source->segment->reusable =
        source->is_empty && source->was_used && file->file_size == spool->segment_size;
    spool->index.is_partial |= source->unread_end > 0;
    pthread_mutex_unlock(&spool->index_lock);
    if (source->unread_end)
        tell_unread_segment(source);
    else if (source->is_foreign)
        put_away(spool, source);
    else if (!source->is_empty && !source->has_footer)
        settle_open_segment(loading, source, file->fd);
    pthread_mutex_lock(&spool->index_lock);
    source->segment->fd = file->fd;
    pthread_mutex_unlock(&spool->index_lock);
    file->fd = -1;
}

/* Calls `look` for each file of a large body. */
static void each_body(struct spool_loading *loading,
                      void (*look)(struct spool_loading *loading, uint64_t id, const char *name))
{
    int copy = openat(loading->spool->bulk_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return;
    for (struct dirent *item; (item = readdir(folder));) {
        uint64_t id;
        enum spool_segment_kind kind;
        if (strlen(item->d_name) >= 20 && spool_segment_name_parse(item->d_name, &id, &kind) &&
            kind == SPOOL_SEGMENT_BULK)
            look(loading, id, item->d_name);
    }
    closedir(folder);
}

static void note_id(struct spool_loading *loading, uint64_t id, const char *name)
{
    (void)name;
    if (id >= loading->first_new_id)
        loading->first_new_id = id + 1;
}

/* Files of large bodies that no entry needs were never committed, or are done. */
static void sweep_body(struct spool_loading *loading, uint64_t id, const char *name)
{
    struct spool *spool = loading->spool;
    pthread_mutex_lock(&spool->index_lock);
    bool needed = spool_index_bulk(&spool->index, id) != NULL;
    pthread_mutex_unlock(&spool->index_lock);
    if (id < loading->first_new_id && !needed)
        unlinkat(spool->bulk_fd, name, 0);
}

/* ---- telling what lives ---- */

/* An entry as the index had it, and where it lies: others change the index meanwhile. Segments stay
 * as long as the loading goes on. */
struct telling {
    struct spool_entry entry;
    const struct spool_segment *home;
    const struct spool_segment *state_home;
    uint64_t body_size;
};

/* Is the file of the large body surely gone or too short? Its bytes are looked at when it is read;
 * a file that cannot be looked at now (descriptors, rights, the disk) is no loss yet. */
static bool lacks_its_body(const struct spool *spool, const struct telling *telling)
{
    if (!telling->entry.in_bulk)
        return false;
    int fd = spool_bulk_open(spool, telling->entry.bulk);
    struct stat info;
    if (fd < 0)
        return errno == ENOENT;
    bool is_short = fstat(fd, &info) == 0 && (uint64_t)info.st_size < telling->body_size;
    close(fd);
    return is_short;
}

/* Waits for a disk that does not answer. */
static bool read_part(struct spool_loading *loading, const struct spool_segment *segment, char *out,
                      size_t size, uint64_t offset)
{
    struct spool_unread unread = {.begin = offset, .end = offset + size};
    unsigned tries = 0;
    while (spool_files_read(segment->fd, out, size, offset, &unread.failure) != OK) {
        if (unread.failure.kind == ERROR_PERMANENT ||
            !spool_loader_ask_again(&loading->loader, segment->fd, &unread, &tries))
            return false;
    }
    return true;
}

/* The record of the entry from disk, and its newest state, which may lie elsewhere. */
static bool read_texts(struct spool_loading *loading, const struct telling *telling,
                       struct spool_found *out)
{
    const struct spool_entry *entry = &telling->entry;
    struct buf *space = &loading->space;
    struct spool_entry_record fixed;
    buf_clear(space);
    char *at = buf_reserve(space, (size_t)entry->length + entry->state_len + 1);
    if (!at || !read_part(loading, telling->home, at, entry->length,
                          spool_entry_offset(entry) + SPOOL_RECORD_HEADER))
        return false;
    struct str record = str_of(at, entry->length);
    if (!spool_entry_decode(record, record.len, &fixed))
        return false;
    size_t meta = (size_t)SPOOL_ENTRY_FIXED + fixed.head_len;
    size_t state = meta + fixed.meta_len;
    out->message = fixed.message;
    out->head_size = fixed.head_len;
    out->body_start = fixed.body_start;
    out->body_size = fixed.body_size;
    out->meta = str_slice(record, meta, state);
    out->state = str_from(record, state);
    if (entry->state_home == entry->home && entry->state_place == entry->place)
        return true;
    out->state = str_of(at + entry->length, entry->state_len);
    return read_part(loading, telling->state_home, at + entry->length, entry->state_len,
                     spool_entry_state_offset(entry) + SPOOL_RECORD_HEADER + SPOOL_STATE_FIXED);
}

static void lose_entry(struct spool *spool, const struct telling *telling, const char *why)
{
    const struct spool_entry *entry = &telling->entry;
    const struct spool_segment *home = telling->home;
    struct spool_damage damage = {.segment = home->id,
                                  .begin = spool_entry_offset(entry),
                                  .end = spool_entry_offset(entry) + entry->length,
                                  .named = true,
                                  .sure = true,
                                  .entry = entry->id,
                                  .why = why};
    uint64_t size = damage.end - damage.begin;
    char *bytes = memory_alloc(size);
    struct error ignored;
    (void)spool_entry_message(home, entry, &damage.message);
    bool got = spool_files_read(home->fd, bytes, size, damage.begin, &ignored) == OK;
    spool_set_aside(spool, &damage, got ? str_of(bytes, size) : STR_EMPTY);
    free(bytes);
    spool_set_body_aside(spool, spool_entry_bulk(entry));
    struct spool_change change = {.kind = SPOOL_REMOVE, .entry = entry->id};
    spool_write(spool, &change, 1);
}

/* It verified a moment ago, so the disk is in trouble: it stays, and the next start may read it. */
static void tell_unread(const struct telling *telling)
{
    event_emit(EVENT_SPOOL_ERROR, F_C(ENTRY, mail_id_text(telling->entry.id).chars),
               F_INT(SEGMENT, telling->home->id),
               F_C(ERROR, "the entry cannot be read now; it stays in the spool"));
}

static bool find_telling(struct spool *spool, struct mail_id id, struct telling *out)
{
    pthread_mutex_lock(&spool->index_lock);
    const struct spool_entry *entry = spool_index_find(&spool->index, id);
    bool lives = entry && spool_entry_lives(entry);
    if (lives)
        *out = (struct telling){.entry = *entry,
                                .home = spool_entry_home(&spool->index, entry),
                                .state_home = spool_entry_state_home(&spool->index, entry),
                                .body_size = spool_entry_body_size(&spool->index, entry)};
    pthread_mutex_unlock(&spool->index_lock);
    return lives;
}

static bool has_to_stop(const struct spool_loading *loading)
{
    return atomic_load(&loading->spool->loading_stops) || loading->loader.gave_up;
}

static void tell(struct spool_loading *loading, const struct mail_id *ids, size_t count,
                 enum spool_segment_kind kind)
{
    struct spool *spool = loading->spool;
    for (size_t i = 0; i < count && !has_to_stop(loading); i++) {
        struct telling telling;
        if (!find_telling(spool, ids[i], &telling) || telling.home->kind != kind)
            continue; /* removed, or a copy of it was found in a cold segment */
        struct spool_found item = {.entry = telling.entry.id};
        loading->told++;
        if (lacks_its_body(spool, &telling))
            lose_entry(spool, &telling, "file of the body is missing or cut short");
        else if (!read_texts(loading, &telling, &item) && !loading->loader.gave_up)
            tell_unread(&telling);
        else if (loading->found && !loading->loader.gave_up)
            loading->found(loading->found_context, &item);
    }
}

/* ---- steps ---- */

static void guard(void *context, bool enter)
{
    struct spool *spool = context;
    if (enter)
        pthread_mutex_lock(&spool->index_lock);
    else
        pthread_mutex_unlock(&spool->index_lock);
}

/*
 * What a process made ahead, and died before it used it. The newest are in the head, so it goes
 * before new ones are made: all else that is dead waits until everything is loaded, and a process
 * that dies before that, again and again, would fill the disk.
 */
static void remove_made_ahead(struct spool_loading *loading)
{
    struct spool *spool = loading->spool;
    for (size_t i = 0; i < loading->loader.count; i++) {
        const struct spool_recover_segment *source = &loading->loader.segments[i];
        if (!spool_recover_in_head(&loading->recovery, i) || !source->is_empty ||
            source->must_end > SPOOL_SEGMENT_HEADER)
            continue;
        if (spool_segment_is_dead(&spool->index, source->segment) &&
            spool_files_unlink(spool, source->id, source->kind))
            spool_index_drop_segment(&spool->index, source->segment);
    }
}

static void take_applied(struct spool_loading *loading, struct mail_id **list, size_t *count)
{
    struct spool_recovery *recovery = &loading->recovery;
    if (recovery->applied_count == 0)
        return;
    *list = memory_resize_array(*list, *count + recovery->applied_count, sizeof **list);
    memcpy(*list + *count, recovery->applied, recovery->applied_count * sizeof **list);
    *count += recovery->applied_count;
    recovery->applied_count = 0;
}

/* ---- a disk in trouble ---- */

/* Sleeps, on the thread that loads so that it ends when it must. */
static void sleep_for(const struct spool *spool, int64_t ns)
{
    enum { STEP_NS = 100 * 1000 * 1000 };
    for (int64_t left = ns; left > 0 && !atomic_load(&spool->loading_stops); left -= STEP_NS) {
        int64_t now = left < STEP_NS ? left : STEP_NS;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)now}, NULL);
    }
}

/* Before mail is taken there is no use in waiting for long: whoever starts it shall know. Later the
 * rest of the queue waits as long as it takes, and mail that comes meanwhile flows. */
static bool wait_for_disk(void *context, const struct error *failure, bool answers)
{
    enum { AT_MOST = 10, TELL_EVERY = 60 };
    struct spool_loading *loading = context;
    struct spool *spool = loading->spool;
    loading->failure = *failure;
    loading->waits = answers ? 0 : loading->waits + 1;
    if (!loading->has_thread && loading->waits > AT_MOST)
        return false;
    if (loading->has_thread && loading->waits % TELL_EVERY == 1)
        event_emit(EVENT_SPOOL_ERROR, F_C(ERROR, failure->text),
                   F_C(WHY, "the disk does not answer: the rest of the queue waits for it"));
    sleep_for(spool, spool->settings.read_again_ns);
    return !atomic_load(&spool->loading_stops);
}

/* Not a damaged log: the disk does not answer, and may again. Nothing was changed. */
static enum result give_up(struct spool *spool, struct error *err)
{
    struct error failure = spool->loading->failure;
    spool_loading_free(spool);
    return fail(err, failure.kind, "the log cannot be read: %s", failure.text);
}

enum result spool_loading_begin(struct spool *spool, spool_found_fn *found, void *found_context,
                                struct error *err)
{
    struct spool_loading *loading = NEW(struct spool_loading);
    struct spool_loader *loader = &loading->loader;
    loading->spool = spool;
    loading->found = found;
    loading->found_context = found_context;
    if (spool_loader_open(loader, spool->log_fd, /* writable= */ true, err) != OK) {
        spool_loader_done(loader);
        free(loading);
        return FAILED;
    }
    spool->loading = loading;
    buf_init(&loading->space, 4 * 1024 * 1024);
    uint64_t in_pool = spool_pool_open(spool);
    loading->first_new_id = loader->count ? loader->segments[loader->count - 1].id + 1 : 1;
    if (in_pool >= loading->first_new_id)
        loading->first_new_id = in_pool + 1;
    each_body(loading, note_id);
    /* The log may still name files that are gone and had higher ids than all that are here. A new
     * file of such an id would be taken for the old one, and removed with it. */
    bool is_fresh = loader->count == 0 && !in_pool;
    atomic_store(&spool->next_id,
                 loading->first_new_id + (is_fresh ? UINT64_C(0) : NUMBERS_LEFT_OUT));
    struct spool_recovery *recovery = &loading->recovery;
    spool_recover_begin(recovery, loader->segments, loader->count, spool_loader_load, loader,
                        &spool->index, &loading->recovered);
    recovery->guard = guard;
    recovery->guard_context = spool;
    loader->wait = wait_for_disk;
    loader->wait_context = loading;
    spool_recover_head(recovery);
    if (loader->gave_up)
        return give_up(spool, err);
    for (size_t i = 0; i < loader->count; i++) {
        if (spool_recover_in_head(recovery, i))
            adopt_segment(loading, i);
    }
    remove_made_ahead(loading);
    take_applied(loading, &loading->waiting, &loading->waiting_count);
    /* Segments may be lost, and copies of states in them not: what comes now is newer. */
    spool->next_unit = loading->recovered.next_unit + (is_fresh ? UINT64_C(0) : NUMBERS_LEFT_OUT);
    spool->next_sequence = loading->recovered.next_sequence;
    spool->cold_units = 1;
    for (unsigned i = 0; i < SPOOL_TOTALS; i++)
        atomic_store(&spool->totals[i], loading->recovered.totals[i]);
    return OK;
}

uint64_t spool_loading_left(const struct spool *spool)
{
    const struct spool_loading *loading = spool->loading;
    uint64_t left = 0;
    for (size_t i = 0; i < loading->loader.count; i++) {
        if (!spool_recover_in_head(&loading->recovery, i))
            left += loading->loader.files[i].file_size;
    }
    return left;
}

/* Everything is in the index: what no entry needs is forgotten. */
static void finish(struct spool_loading *loading)
{
    struct spool *spool = loading->spool;
    size_t cursor = 0;
    bool more = true;
    pthread_mutex_lock(&spool->index_lock);
    bool is_partial = spool->index.is_partial;
    if (is_partial)
        spool_index_keep_all(&spool->index);
    pthread_mutex_unlock(&spool->index_lock);
    while (more) {
        pthread_mutex_lock(&spool->index_lock);
        more = spool_index_finish_some(&spool->index, &cursor);
        pthread_mutex_unlock(&spool->index_lock);
    }
    if (!is_partial)
        each_body(loading, sweep_body);
    /* each round lets go of tombstones of the next */
    while (!loading->has_thread && spool_remove_dead(spool))
        ;
}

static void tell_waiting(struct spool_loading *loading)
{
    tell(loading, loading->waiting, loading->waiting_count, SPOOL_SEGMENT_MAIN);
    free(take(loading->waiting));
    loading->waiting_count = 0;
}

/* Mail comes first: for each moment of work a third of it is left to others. */
static void pace(const struct spool_loading *loading, int64_t began_ns)
{
    int64_t rest_ns = (spool_real_ns() - began_ns) / 3;
    if (!loading->has_thread || rest_ns <= 0)
        return;
    if (rest_ns > NS_PER_S / 4)
        rest_ns = NS_PER_S / 4;
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)rest_ns}, NULL);
}

/* What only the walk needed: a segment's bytes, for one. */
static void let_go(struct spool_loading *loading)
{
    spool_recover_end(&loading->recovery);
    free(take(loading->loader.bytes));
    loading->loader.cap = 0;
    buf_done(&loading->space);
    free(take(loading->waiting));
    free(take(loading->last));
}

static void run(struct spool *spool)
{
    struct spool_loading *loading = spool->loading;
    struct spool_recovery *recovery = &loading->recovery;
    bool cold_over = false;
    for (;;) {
        int64_t began_ns = spool_real_ns();
        if (has_to_stop(loading))
            return;
        const struct spool_recover_segment *source = spool_recover_next(recovery);
        if (loading->loader.gave_up)
            return;
        if (source)
            adopt_segment(loading, (size_t)(source - loading->loader.segments));
        if (source && source->kind == SPOOL_SEGMENT_COLD) {
            take_applied(loading, &loading->last, &loading->last_count);
            continue;
        }
        if (!cold_over)
            tell_waiting(loading);
        cold_over = true;
        if (!source)
            break;
        tell(loading, recovery->applied, recovery->applied_count, SPOOL_SEGMENT_MAIN);
        recovery->applied_count = 0;
        pace(loading, began_ns);
    }
    tell(loading, loading->last, loading->last_count, SPOOL_SEGMENT_COLD);
    if (has_to_stop(loading))
        return;
    finish(loading);
    let_go(loading);
    atomic_store(&spool->is_loading, false);
}

enum result spool_loading_run(struct spool *spool, struct error *err)
{
    run(spool);
    if (spool->loading->loader.gave_up)
        return give_up(spool, err);
    spool_loading_free(spool);
    return OK;
}

void spool_loading_free(struct spool *spool)
{
    struct spool_loading *loading = spool->loading;
    if (!loading)
        return;
    atomic_store(&spool->loading_stops, true);
    if (loading->has_thread)
        pthread_join(loading->thread, NULL);
    let_go(loading);
    spool_recovered_done(&loading->recovered);
    spool_loader_done(&loading->loader);
    free(take(spool->loading));
}

static void *loading_main(void *arg)
{
    struct spool *spool = arg;
    struct spool_loading *loading = spool->loading;
    pthread_setname_np(pthread_self(), "spool-load");
    run(spool);
    if (has_to_stop(loading))
        return NULL;
    event_emit(EVENT_SPOOL_LOADED, F_INT(COUNT, loading->told),
               F_INT(VALUE, atomic_load(&spool->damaged)));
    if (loading->found)
        loading->found(loading->found_context, NULL);
    return NULL;
}

void spool_load(struct spool *spool)
{
    struct spool_loading *loading = spool->loading;
    sigset_t all, before;
    if (!loading)
        return;
    loading->has_thread = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    check(pthread_create(&loading->thread, NULL, loading_main, spool) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool spool_is_loading(const struct spool *spool)
{
    return atomic_load(&spool->is_loading);
}
