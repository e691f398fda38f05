/* SPDX-License-Identifier: Apache-2.0 */
#include "history/store.h"

#include "history/store_file.h"
#include "history/store_groups.h"
#include "history/store_internal.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    INCOMING_MAX = 32 * 1024 * 1024,
    TURN_MS = 200,
    TEND_S = 1,
    TEND_ROUNDS = 10,
    ENTRIES_MAX = 4 * 1024 * 1024,
    STORIES_MAX = 8 * 1024 * 1024, /* bytes that wait for their bundles */
};

/* An event on its way from the log's thread. */
struct arrival {
    uint32_t size;
    uint32_t source;
    char revision[16];
    uint64_t seq;
};

/* ---- the log's thread ---- */

/* Records of a stream say what changed: after one was dropped, the next is put whole. */
static bool put_arrival(struct store *store, const struct event *event, struct str revision)
{
    uintptr_t *seen = (uintptr_t *)event_slot(&store->seen, event->source, event->type);
    struct str record = *seen == store->drops ? event->record : event->packed;
    struct arrival arrival = {.size = (uint32_t)record.len, .source = event->source};
    arrival.seq = event->seq;
    if (revision.len < sizeof arrival.revision) /* it is ours, and short */
        memcpy(arrival.revision, revision.ptr, revision.len);
    if (store->incoming.len + sizeof arrival + record.len > INCOMING_MAX)
        return false;
    buf_append(&store->incoming, str_of((const char *)&arrival, sizeof arrival));
    buf_append(&store->incoming, record);
    *seen = store->drops;
    return true;
}

void store_put(struct store *store, const struct event *event, struct str revision)
{
    if (!store->held)
        pthread_mutex_lock(&store->mutex);
    if (!put_arrival(store, event, revision)) {
        store->totals.dropped++;
        store->drops++;
    }
    if (!store->held)
        pthread_mutex_unlock(&store->mutex);
}

void store_hold(struct store *store)
{
    if (!store)
        return;
    pthread_mutex_lock(&store->mutex);
    store->held = true;
}

void store_release(struct store *store)
{
    if (!store)
        return;
    store->held = false;
    pthread_mutex_unlock(&store->mutex);
}

struct store_totals store_totals(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
    struct store_totals totals = store->totals;
    pthread_mutex_unlock(&store->mutex);
    return totals;
}

/* ---- the store's thread ---- */

static void count(struct store *store, uint64_t written, uint64_t dropped)
{
    pthread_mutex_lock(&store->mutex);
    store->totals.events += written;
    store->totals.dropped += dropped;
    pthread_mutex_unlock(&store->mutex);
}

static void sort_in(struct store *store, struct str arrived)
{
    int64_t now_ns = clock_monotonic_ns();
    groups_begin_turn(&store->groups);
    while (arrived.len) {
        struct arrival arrival;
        memcpy(&arrival, arrived.ptr, sizeof arrival);
        struct str record = str_slice(arrived, sizeof arrival, sizeof arrival + arrival.size);
        arrived = str_from(arrived, sizeof arrival + arrival.size);
        const struct event *event =
            event_decode(store->decoder, arrival.source, record, arrival.seq);
        if (!groups_add(&store->groups, event, str_c(arrival.revision), now_ns))
            count(store, 0, 1);
    }
}

/* Mail comes first when space is short. */
static bool has_room(struct store *store)
{
    struct statvfs info;
    if (statvfs(store->folder, &info) != 0)
        return true;
    return (uint64_t)info.f_bavail * info.f_frsize >= store->settings.keep_free;
}

/* Told when it begins and when it ends, not for each batch. */
static void tell(struct store *store, const char *why)
{
    bool failing = why != NULL;
    if (failing != store->failing && failing)
        event_emit(EVENT_EVENTS_FAILED, F_C(DETAIL, why), F_C(FILE, store->file.path));
    if (failing != store->failing && !failing)
        event_emit(EVENT_EVENTS_BACK, F_INT(COUNT, store_totals(store).dropped));
    store->failing = failing;
}

static void add_words(struct store *store, const struct story *story)
{
    unsigned char id[16];
    store_id_bytes(story->id, id);
    for (size_t i = 0; i < story->word_count; i++) {
        uint64_t word = __builtin_bswap64(story->words[i]);
        buf_append(&store->entries, str_of((const char *)&word, sizeof word));
        buf_append(&store->entries, str_of((const char *)id, sizeof id));
    }
}

static enum result write_bundles(struct store *store, struct error *err)
{
    struct bundle bundle;
    enum result result = OK;
    while (result == OK && bundler_next(&store->bundler, &bundle))
        result = store_file_bundle(&store->file, &bundle, err);
    return result;
}

/* One transaction of what is due; *out_events of it were, whether it succeeded or not. */
static enum result write_due(struct store *store, bool all, uint64_t *out_events, struct error *err)
{
    int64_t now_ns = clock_monotonic_ns();
    enum result result = OK;
    struct story *story = groups_next(&store->groups, now_ns, all);
    *out_events = 0;
    if (!story)
        return OK;
    result = has_room(store) ? store_file_begin(&store->file, err)
                             : fail(err, ERROR_LIMIT, "what space is left belongs to mail");
    buf_clear(&store->entries);
    bundler_clear(&store->bundler);
    for (; story; story = groups_next(&store->groups, now_ns, all)) {
        *out_events += story->pack->count;
        if (result == OK && story->pack->count)
            result = bundler_add(&store->bundler, story->id, buf_str(&story->pack->bytes),
                                 story->bases, story->base_count)
                         ? OK
                         : fail(err, ERROR_LIMIT, "a story is too long");
        add_words(store, story);
        groups_written(&store->groups, story);
        if (store->entries.len > ENTRIES_MAX / 2 || store->bundler.bytes.len > STORIES_MAX / 2)
            break; /* the rest in the next transaction */
    }
    if (result == OK)
        result = write_bundles(store, err);
    if (result == OK)
        result = store_file_words(&store->file, buf_str(&store->entries), err);
    if (result == OK)
        result = store_file_commit(&store->file, err);
    if (result != OK)
        store_file_undo(&store->file);
    return result;
}

static void renew(struct store *store, const char *why)
{
    struct error err = {0};
    if (store_file_renew(&store->file, &err) != OK) {
        store->file.damaged = true; /* the next turn tries again */
        tell(store, err.text);
        return;
    }
    event_emit(EVENT_EVENTS_DAMAGED, F_C(FILE, store->file.path), F_C(DETAIL, why));
    store->groups.dictionary = store->file.dictionary;
}

static void write_out(struct store *store, bool all)
{
    for (;;) {
        struct error err = {0};
        uint64_t events;
        enum result result = write_due(store, all, &events, &err);
        if (events == 0)
            return;
        count(store, result == OK ? events : 0, result == OK ? 0 : events);
        tell(store, result == OK ? NULL : err.text);
        if (store->file.damaged)
            renew(store, err.text);
    }
}

static void tend(struct store *store)
{
    struct error err = {0};
    uint64_t bytes = 0;
    /* a clock that was set while we run, to next year say, makes nothing older */
    int64_t oldest_ms = (clock_steady_wall_ns() - store->settings.keep_ns) / NS_PER_MS;
    if (!store->file.db)
        return;
    if (!store_file_is_there(&store->file)) {
        renew(store, "somebody removed it, or put another there");
        return;
    }
    if (atomic_exchange(&store->is_damaged, false)) {
        renew(store, "somebody who asked met what makes no sense");
        return;
    }
    for (int round = 0; round < TEND_ROUNDS; round++) {
        if (store_file_tend(&store->file, oldest_ms, store->settings.size, &bytes, &err) != OK) {
            tell(store, err.text);
            break;
        }
        if (bytes <= store->settings.size)
            break;
    }
    if (store->file.damaged)
        renew(store, err.text);
    pthread_mutex_lock(&store->mutex);
    store->totals.bytes = bytes;
    pthread_mutex_unlock(&store->mutex);
}

/* Wait for a turn; *out_sync: up to which wish everything shall be on disk. False: the end. */
static bool next_turn(struct store *store, struct buf *arrived, uint64_t *out_sync)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TURN_MS * NS_PER_MS;
    until.tv_sec += until.tv_nsec / NS_PER_S;
    until.tv_nsec %= NS_PER_S;
    pthread_mutex_lock(&store->mutex);
    while (!store->stop && store->sync_wanted == store->sync_done &&
           store->incoming.len < INCOMING_MAX / 8 &&
           pthread_cond_timedwait(&store->wake, &store->mutex, &until) == 0)
        ;
    struct buf swap = store->incoming;
    store->incoming = *arrived;
    *arrived = swap;
    *out_sync = store->sync_wanted;
    bool goes_on = !store->stop;
    pthread_mutex_unlock(&store->mutex);
    return goes_on;
}

static void *run(void *arg)
{
    struct store *store = arg;
    struct buf arrived;
    size_t needed = 0;
    int64_t tend_ns = 0;
    buf_init(&arrived, INCOMING_MAX);
    pthread_setname_np(pthread_self(), "events");
    for (bool goes_on = true; goes_on;) {
        uint64_t sync;
        goes_on = next_turn(store, &arrived, &sync);
        sort_in(store, buf_str(&arrived));
        buf_settle(&arrived, &needed);
        write_out(store, !goes_on || sync != store->sync_done);
        buf_settle(&store->entries, &store->entries_needed);
        bundler_settle(&store->bundler, &store->bundler_needed);
        pthread_mutex_lock(&store->mutex);
        store->sync_done = sync;
        pthread_cond_broadcast(&store->synced);
        pthread_mutex_unlock(&store->mutex);
        if (goes_on && (clock_monotonic_ns() - tend_ns > TEND_S * NS_PER_S ||
                        store_index_is_due(&store->file))) {
            tend(store);
            groups_settle(&store->groups);
            tend_ns = clock_monotonic_ns();
        }
    }
    buf_done(&arrived);
    return NULL;
}

void store_sync(struct store *store)
{
    pthread_mutex_lock(&store->mutex);
    uint64_t wish = ++store->sync_wanted;
    pthread_cond_signal(&store->wake);
    while (store->sync_done < wish && !store->stop)
        pthread_cond_wait(&store->synced, &store->mutex);
    pthread_mutex_unlock(&store->mutex);
}

/* ---- life ---- */

static enum result open_files(struct store *store, struct error *err)
{
    char path[4096 + 16];
    bool aside = false;
    struct statvfs info;
    if (!str_to_c(store->settings.folder, store->folder, sizeof store->folder))
        return fail(err, ERROR_PERMANENT, "events.path is too long");
    if (mkdir(store->folder, 0700) != 0 && errno != EEXIST)
        return fail_errno(err, errno, "cannot make %s", store->folder);
    if (store->settings.keep_free == 0 && statvfs(store->folder, &info) == 0) {
        /* a little more than the spool keeps free, so that this one stops first */
        uint64_t part = (uint64_t)info.f_blocks * info.f_frsize / 12;
        store->settings.keep_free = part < (384U << 20) ? part : 384U << 20;
    }
    snprintf(path, sizeof path, "%s/events.db", store->folder);
    if (strlen(path) >= sizeof store->file.path)
        return fail(err, ERROR_PERMANENT, "events.path is too long");
    if (store_file_open(&store->file, path, &aside, err) != OK)
        return FAILED;
    store->file.fresh_max = store->settings.fresh_max;
    store->file.segments_max = store->settings.segments_max;
    if (aside)
        event_emit(EVENT_EVENTS_DAMAGED, F_C(FILE, path), F_C(DETAIL, "it could not be opened"));
    return OK;
}

/* A number in the place of a pointer. */
static void keep(void *number)
{
    (void)number;
}

static void destroy(struct store *store)
{
    store_file_close(&store->file);
    groups_done(&store->groups);
    event_decoder_free(store->decoder);
    event_slots_done(&store->seen, keep);
    buf_done(&store->incoming);
    buf_done(&store->entries);
    bundler_done(&store->bundler);
    pthread_mutex_destroy(&store->mutex);
    pthread_cond_destroy(&store->wake);
    pthread_cond_destroy(&store->synced);
    free(store);
}

enum result store_open(const struct store_settings *settings, struct store **out_store,
                       struct error *err)
{
    struct store *store = NEW(struct store);
    pthread_condattr_t monotonic;
    store->settings = *settings;
    store->decoder = event_decoder_new();
    store->drops = 1;
    buf_init(&store->incoming, INCOMING_MAX);
    buf_init(&store->entries, ENTRIES_MAX);
    bundler_init(&store->bundler, STORIES_MAX);
    pthread_mutex_init(&store->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &monotonic);
    pthread_cond_init(&store->synced, NULL);
    pthread_condattr_destroy(&monotonic);
    enum result result = open_files(store, err);
    groups_init(&store->groups, store->file.dictionary);
    if (result == OK && pthread_create(&store->thread, NULL, run, store) != 0)
        result = fail(err, ERROR_LIMIT, "cannot start the events' thread");
    if (result != OK) {
        destroy(store);
        return FAILED;
    }
    *out_store = store;
    return OK;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    pthread_mutex_lock(&store->mutex);
    store->stop = true;
    pthread_cond_signal(&store->wake);
    pthread_cond_broadcast(&store->synced);
    pthread_mutex_unlock(&store->mutex);
    pthread_join(store->thread, NULL);
    destroy(store);
}
