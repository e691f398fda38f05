/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is large takes turns on the disk with the log, for a sync of the log waits for all that is
 * in the disk's queue before it. Large are the windows of bodies that are written, and the blocks
 * of files that go: a disk told to forget 25 MB (a file system mounted with `discard` says so
 * within unlink) does nothing else for 10 ms and more. So such a file loses its name at once, and
 * its blocks piece by piece.
 */
#include "base/fault.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 1024 * 1024 };
#define ALONE_AFTER_NS (200 * NS_PER_MS)

bool spool_has_small_mail(const struct spool *spool)
{
    return atomic_load(&spool->small_commits) ||
           spool_real_ns() - atomic_load(&spool->small_ns) <= ALONE_AFTER_NS;
}

/* ---- turns ---- */

void spool_turn_begin(struct spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    uint64_t mine = spool->turns_asked++;
    while (spool->turns_over != mine)
        pthread_cond_wait(&spool->changed, &spool->lock);
    uint64_t syncs = atomic_load(&spool->syncs);
    while (spool->sync_runs && atomic_load(&spool->syncs) == syncs)
        pthread_cond_wait(&spool->changed, &spool->lock);
    pthread_mutex_unlock(&spool->lock);
}

void spool_turn_end(struct spool *spool)
{
    pthread_mutex_lock(&spool->lock);
    bool others = spool->turns_asked != ++spool->turns_over;
    pthread_mutex_unlock(&spool->lock);
    if (others)
        pthread_cond_broadcast(&spool->changed);
}

/* ---- files that go ---- */

/* Without its name, and nobody else's: -1 if there is nothing to be done by pieces. */
static int open_large(const struct spool *spool, uint64_t id, enum spool_segment_kind kind)
{
    char name[SPOOL_NAME_SIZE];
    struct stat info;
    spool_segment_name(id, kind, name);
    int folder = kind == SPOOL_SEGMENT_BULK ? spool->bulk_fd : spool->log_fd;
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= PIECE)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

bool spool_remove_gently(struct spool *spool, uint64_t id, enum spool_segment_kind kind)
{
    bool by_pieces = spool->leaving_count < SPOOL_LEAVING && spool_has_small_mail(spool) &&
                     atomic_load(&spool->has_space);
    int fd = by_pieces ? open_large(spool, id, kind) : -1;
    bool gone = spool_files_unlink(spool, id, kind);
    if (fd < 0)
        return gone;
    struct stat info;
    if (gone && fstat(fd, &info) == 0 && info.st_nlink == 0)
        spool->leaving[spool->leaving_count++] = fd;
    else
        close(fd); /* under another name it is somebody's */
    return gone;
}

/* False: the rest goes with the last descriptor. */
static bool cut_piece(int fd)
{
    struct stat info;
    if (fault_hit("spool.cut") || fstat(fd, &info) != 0 || info.st_size <= PIECE)
        return false;
    return ftruncate(fd, info.st_size - PIECE) == 0;
}

bool spool_let_go_piece(struct spool *spool)
{
    if (!spool->leaving_count)
        return false;
    bool waits = spool_has_small_mail(spool) && atomic_load(&spool->has_space);
    int *fd = &spool->leaving[spool->leaving_count - 1];
    spool_turn_begin(spool);
    if (!waits || !cut_piece(*fd)) {
        close(*fd);
        spool->leaving_count--;
    }
    spool_turn_end(spool);
    return spool->leaving_count > 0;
}

void spool_let_go(struct spool *spool)
{
    while (spool->leaving_count)
        close(spool->leaving[--spool->leaving_count]);
}
