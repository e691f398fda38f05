/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of large bodies that are used again. One that no entry needs gets the name of a body to
 * come, and waits; that body is written over what lies there. So neither a file, nor blocks, nor a
 * name need be made while a sender waits, and a sync of what was written needs nothing of the file
 * system's journal.
 *
 * The order is what keeps bodies apart: the tombstone of the last entry is durable before a body is
 * dead; its file gets the new name, which no record can know yet, by a synced change of the folder;
 * only then may anybody write to it. A crash leaves a file that no entry names, which the next
 * start removes. What an older body left behind the end of a newer one is never read: chunks are
 * found by the size in the entry, and their CRCs are of the id in the name.
 */
#include "base/clock.h"
#include "spool/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILE_MAX = 4 * 1024 * 1024, /* larger ones go: what they save is small beside their writing */
    BYTES_MAX = 64 * 1024 * 1024,
    AT_ONCE = 32, /* names that one sync of the folder covers */
};
/* What waited so long goes: nobody needs so many, and what was in it shall not stay for good. */
#define WAIT_NS (60 * NS_PER_S)

static void remove_file(const struct spool *spool, uint64_t id)
{
    (void)spool_files_unlink(spool, id, SPOOL_SEGMENT_BULK);
}

/* ---- what waits; under index_lock ---- */

static void add(struct spool *spool, const struct spool_used_body *file)
{
    struct spool_used_bodies *used = &spool->used_bodies;
    used->files[used->count++] = *file;
    used->bytes += file->size;
}

/* The one at `at`; the order stays, the oldest first. */
static struct spool_used_body take_out(struct spool_used_bodies *used, unsigned at)
{
    struct spool_used_body file = used->files[at];
    used->count--;
    used->bytes -= file.size;
    memmove(used->files + at, used->files + at + 1, (used->count - at) * sizeof *used->files);
    return file;
}

/* ---- in ---- */

/* Of those that are `taken` already and this one. */
static bool has_room(struct spool *spool, const struct spool_used_body *taken, unsigned count,
                     uint64_t size)
{
    pthread_mutex_lock(&spool->index_lock);
    uint64_t bytes = spool->used_bodies.bytes + size;
    unsigned files = spool->used_bodies.count + count;
    pthread_mutex_unlock(&spool->index_lock);
    for (unsigned i = 0; i < count; i++)
        bytes += taken[i].size;
    return files < SPOOL_USED_BODIES && bytes <= BYTES_MAX;
}

/*
 * Only what this process wrote and committed, and never as private text: of other files nobody
 * knows what is in them, or they hold what shall go. One that has a second name is somebody's.
 */
static bool may_be_used(const struct spool *spool, const struct spool_bulk *bulk,
                        uint64_t *out_size)
{
    char name[SPOOL_NAME_SIZE];
    struct stat info;
    if (!bulk->is_new || !bulk->is_plain || bulk->is_private || !atomic_load(&spool->has_plenty) ||
        atomic_load(&spool->is_loading))
        return false;
    spool_segment_name(bulk->id, SPOOL_SEGMENT_BULK, name);
    if (fstatat(spool->bulk_fd, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode) ||
        info.st_nlink != 1 || info.st_size > FILE_MAX)
        return false;
    *out_size = (uint64_t)info.st_size;
    return true;
}

static bool rename_file(struct spool *spool, uint64_t old, struct spool_used_body *file)
{
    char from[SPOOL_NAME_SIZE];
    char to[SPOOL_NAME_SIZE];
    file->id = atomic_fetch_add(&spool->next_id, 1);
    file->since_ns = clock_monotonic_ns();
    spool_segment_name(old, SPOOL_SEGMENT_BULK, from);
    spool_segment_name(file->id, SPOOL_SEGMENT_BULK, to);
    return renameat(spool->bulk_fd, from, spool->bulk_fd, to) == 0;
}

/* Their new names are on stable storage, or they go. */
static void settle(struct spool *spool, const struct spool_used_body *taken, unsigned count)
{
    struct error err;
    if (!count)
        return;
    bool named = spool_files_sync_folder(spool, spool->bulk_fd, &err) == OK;
    pthread_mutex_lock(&spool->index_lock);
    for (unsigned i = 0; i < count && named; i++)
        add(spool, &taken[i]);
    pthread_mutex_unlock(&spool->index_lock);
    for (unsigned i = 0; i < count && !named; i++)
        remove_file(spool, taken[i].id);
}

static struct spool_bulk *next_dead(struct spool *spool)
{
    pthread_mutex_lock(&spool->index_lock);
    struct list *link = list_shift(&spool->index.dead_bulks);
    pthread_mutex_unlock(&spool->index_lock);
    return link ? CONTAINER(link, struct spool_bulk, link) : NULL;
}

void spool_bodies_remove_dead(struct spool *spool, bool keeps)
{
    struct spool_used_body taken[AT_ONCE];
    unsigned count = 0;
    for (struct spool_bulk *bulk; (bulk = next_dead(spool));) {
        struct spool_used_body *file = &taken[count];
        if (keeps && may_be_used(spool, bulk, &file->size) &&
            has_room(spool, taken, count, file->size) && rename_file(spool, bulk->id, file))
            count++;
        else
            (void)spool_remove_gently(spool, bulk->id, SPOOL_SEGMENT_BULK);
        free(bulk);
        if (count == AT_ONCE) {
            settle(spool, taken, count);
            count = 0;
        }
    }
    settle(spool, taken, count);
}

/* ---- out ---- */

bool spool_bodies_take(struct spool *spool, struct spool_used_body *out)
{
    struct spool_used_bodies *used = &spool->used_bodies;
    pthread_mutex_lock(&spool->index_lock);
    bool found = used->count > 0;
    if (found) /* the one that is likeliest in memory */
        *out = take_out(used, used->count - 1);
    pthread_mutex_unlock(&spool->index_lock);
    return found;
}

int spool_bodies_open(struct spool *spool, const struct spool_used_body *file)
{
    char name[SPOOL_NAME_SIZE];
    struct stat info;
    spool_segment_name(file->id, SPOOL_SEGMENT_BULK, name);
    int fd = openat(spool->bulk_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1 &&
        (uint64_t)info.st_size == file->size) {
        atomic_fetch_add(&spool->reused_bodies, 1);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    remove_file(spool, file->id);
    return -1;
}

/* ---- back to the file system ---- */

static bool take_older(struct spool *spool, int64_t until_ns, struct spool_used_body *out)
{
    struct spool_used_bodies *used = &spool->used_bodies;
    pthread_mutex_lock(&spool->index_lock);
    bool found = used->count > 0 && used->files[0].since_ns <= until_ns;
    if (found)
        *out = take_out(used, 0);
    pthread_mutex_unlock(&spool->index_lock);
    return found;
}

void spool_bodies_give_back(struct spool *spool, bool all)
{
    int64_t until_ns = all ? INT64_MAX : clock_monotonic_ns() - WAIT_NS;
    for (struct spool_used_body file; take_older(spool, until_ns, &file);) {
        if (all) /* its space is wanted now */
            remove_file(spool, file.id);
        else
            (void)spool_remove_gently(spool, file.id, SPOOL_SEGMENT_BULK);
    }
}

unsigned spool_bodies_waiting(struct spool *spool, uint64_t *out_bytes)
{
    pthread_mutex_lock(&spool->index_lock);
    unsigned count = spool->used_bodies.count;
    *out_bytes = spool->used_bodies.bytes;
    pthread_mutex_unlock(&spool->index_lock);
    return count;
}
