/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: files of log segments in which nothing is needed any more, kept under names of their
 * own and made the next segments. Their blocks were written before, so a sync of what is written
 * there needs nothing of the file system's journal.
 *
 * The order is what keeps old records from coming back: out of the log by a synced change of name;
 * the header of the new segment, synced; into the log by a synced change of name; and only then is
 * a record written. Old records lie behind it, but their CRCs are of another segment's id.
 */
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "spool/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A step between the ids of two segments. What strangers sent lies behind the end of a segment that
 * was used before, and recovery looks at it: nobody shall know for which id a record is to be
 * forged. Steps are small enough that ids of neighbours differ in their low halves only, which a
 * CRC always tells apart. */
enum { ID_STEP_MAX = 1 << 28 };

static void free_name(uint64_t id, char out[SPOOL_NAME_SIZE])
{
    snprintf(out, SPOOL_NAME_SIZE, "%016" PRIx64 ".free", id);
}

static bool parse_free_name(const char *name, uint64_t *out_id)
{
    char digits[SPOOL_NAME_SIZE];
    enum spool_segment_kind kind;
    if (strlen(name) != 21 || strcmp(name + 16, ".free") != 0)
        return false;
    snprintf(digits, sizeof digits, "%.16s.log", name);
    return spool_segment_name_parse(digits, out_id, &kind);
}

bool spool_pool_has_room(const struct spool *spool, unsigned more)
{
    return atomic_load(&spool->pool_count) + more < SPOOL_POOL && atomic_load(&spool->has_plenty);
}

bool spool_pool_rename_into(const struct spool *spool, const struct spool_segment *segment)
{
    char from[SPOOL_NAME_SIZE];
    char to[SPOOL_NAME_SIZE];
    spool_segment_name(segment->id, segment->kind, from);
    free_name(segment->id, to);
    return renameat(spool->log_fd, from, spool->log_fd, to) == 0;
}

void spool_pool_remove(const struct spool *spool, uint64_t id)
{
    char name[SPOOL_NAME_SIZE];
    free_name(id, name);
    (void)unlinkat(spool->log_fd, name, 0);
}

void spool_pool_add(struct spool *spool, uint64_t id)
{
    unsigned count = atomic_load(&spool->pool_count);
    if (count == SPOOL_POOL) {
        spool_pool_remove(spool, id);
        return;
    }
    spool->pool[count] = id;
    atomic_store(&spool->pool_count, count + 1);
}

/* The one that lies longest. */
static uint64_t take_first(struct spool *spool)
{
    uint64_t id = spool->pool[0];
    unsigned count = atomic_load(&spool->pool_count) - 1;
    memmove(spool->pool, spool->pool + 1, count * sizeof *spool->pool);
    atomic_store(&spool->pool_count, count);
    return id;
}

void spool_pool_give_back(struct spool *spool)
{
    while (atomic_load(&spool->pool_count))
        spool_pool_remove(spool, take_first(spool));
}

/* ---- at the start ---- */

static bool is_usable(const struct spool *spool, const char *name)
{
    struct stat info;
    return fstatat(spool->log_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(info.st_mode) &&
           (uint64_t)info.st_size == spool->segment_size;
}

uint64_t spool_pool_open(struct spool *spool)
{
    uint64_t highest = 0;
    int copy = openat(spool->log_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return 0; /* whoever opens the log itself will tell of it */
    for (struct dirent *item; (item = readdir(folder));) {
        uint64_t id;
        if (!parse_free_name(item->d_name, &id))
            continue;
        if (id > highest)
            highest = id;
        if (is_usable(spool, item->d_name) && atomic_load(&spool->pool_count) < SPOOL_POOL)
            spool_pool_add(spool, id);
        else
            (void)unlinkat(spool->log_fd, item->d_name, 0);
    }
    closedir(folder);
    return highest;
}

/* ---- the next segment ---- */

/* Its first page whole, so that nothing need be read before it is written. */
static enum result write_header(const struct spool *spool, const struct spool_segment *segment,
                                struct error *err)
{
    static const char zeros[SPOOL_PAGE - SPOOL_SEGMENT_HEADER];
    unsigned char bytes[SPOOL_SEGMENT_HEADER];
    struct spool_segment_header header = {.kind = segment->kind,
                                          .id = segment->id,
                                          .created_wall_ns = clock_wall_ns(),
                                          .was_used = true};
    spool_segment_header_encode(&header, bytes);
    struct iovec pieces[] = {{bytes, sizeof bytes}, {(void *)(uintptr_t)zeros, sizeof zeros}};
    return spool_files_write(segment->fd, pieces, 2, 0, err) == OK
               ? spool_files_sync(spool, segment->fd, err)
               : FAILED;
}

static struct spool_segment *new_segment(struct spool *spool, int fd)
{
    uint64_t step = 1 + random_below(ID_STEP_MAX);
    struct spool_segment *segment = NEW(struct spool_segment);
    segment->id = atomic_fetch_add(&spool->next_id, step) + step - 1;
    segment->kind = SPOOL_SEGMENT_MAIN;
    segment->fd = fd;
    segment->end = SPOOL_SEGMENT_HEADER;
    segment->disk_bytes = spool->segment_size;
    segment->was_used = true;
    atomic_init(&segment->references, 1);
    list_init(&segment->link);
    return segment;
}

static enum result enter_log(const struct spool *spool, const char *from,
                             const struct spool_segment *segment, struct error *err)
{
    char to[SPOOL_NAME_SIZE];
    spool_segment_name(segment->id, segment->kind, to);
    if (write_header(spool, segment, err) != OK)
        return FAILED;
    if (renameat(spool->log_fd, from, spool->log_fd, to) != 0)
        return fail_errno(err, errno, "make a segment of %s", from);
    return spool_files_sync_folder(spool, spool->log_fd, err);
}

bool spool_pool_make_segment(struct spool *spool, struct spool_segment **out_segment)
{
    if (!atomic_load(&spool->pool_count))
        return false;
    char name[SPOOL_NAME_SIZE];
    struct error err;
    uint64_t id = take_first(spool);
    free_name(id, name);
    int fd = openat(spool->log_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        (void)unlinkat(spool->log_fd, name, 0);
        return false;
    }
    struct spool_segment *segment = new_segment(spool, fd);
    if (is_usable(spool, name) && enter_log(spool, name, segment, &err) == OK) {
        atomic_fetch_add(&spool->reused, 1);
        *out_segment = segment;
        return true;
    }
    /* under either name it is nothing that a start would read a record from */
    (void)unlinkat(spool->log_fd, name, 0);
    (void)spool_files_unlink(spool, segment->id, segment->kind);
    spool_segment_unref(segment);
    return false;
}
