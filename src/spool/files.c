/* SPDX-License-Identifier: Apache-2.0 */
/* The folder: names, locks, making and removing files, system calls with their errors. */
#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "event/event.h"
#include "spool/internal.h"
#include "spool/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { PIECES_AT_ONCE = 1024 }; /* IOV_MAX of Linux */

void spool_segment_name(uint64_t id, enum spool_segment_kind kind, char out[SPOOL_NAME_SIZE])
{
    const char *suffix = kind == SPOOL_SEGMENT_MAIN   ? "log"
                         : kind == SPOOL_SEGMENT_COLD ? "cold"
                                                      : "body";
    snprintf(out, SPOOL_NAME_SIZE, "%016" PRIx64 ".%s", id, suffix);
}

bool spool_segment_name_parse(const char *name, uint64_t *out_id, enum spool_segment_kind *out_kind)
{
    uint64_t id = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9')
            id = id << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            id = id << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    struct str suffix = str_c(name + 16);
    if (str_equal(suffix, STR(".log")))
        *out_kind = SPOOL_SEGMENT_MAIN;
    else if (str_equal(suffix, STR(".cold")))
        *out_kind = SPOOL_SEGMENT_COLD;
    else if (str_equal(suffix, STR(".body")))
        *out_kind = SPOOL_SEGMENT_BULK;
    else
        return false;
    *out_id = id;
    return id != 0;
}

/* ---- opening ---- */

static enum result open_folder(int at, const char *name, bool *out_made, int *out_fd,
                               struct error *err)
{
    *out_made = mkdirat(at, name, 0750) == 0;
    if (!*out_made && errno != EEXIST)
        return fail_errno(err, errno, "make folder %s", name);
    *out_fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*out_fd < 0)
        return fail_errno(err, errno, "open folder %s", name);
    return OK;
}

/* The spool's own folder is a name in another one, which is not ours and may not be readable. */
static enum result sync_parent(const struct spool *spool, struct error *err)
{
    int fd = openat(spool->folder_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? OK : fail_errno(err, errno, "open the folder of the spool's");
    enum result result = spool_files_sync_folder(spool, fd, err);
    close(fd);
    return result;
}

/* A predecessor that was killed may still be on its way out: its lock goes with its last thread. */
static enum result take_lock(struct spool *spool, struct error *err)
{
    enum { TURNS = 100, TURN_US = 20 * 1000 };
    spool->lock_fd = openat(spool->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (spool->lock_fd < 0)
        return fail_errno(err, errno, "open lock");
    for (int turn = 0; flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0; turn++) {
        if (errno != EWOULDBLOCK)
            return fail_errno(err, errno, "lock");
        if (turn == TURNS)
            return fail(err, ERROR_TEMPORARY, "another process uses this spool");
        usleep(TURN_US);
    }
    return OK;
}

/* What a newer posternd wrote is nothing that was damaged, and must not be put aside. */
static enum result refuse_newer(const struct spool *spool, struct error *err)
{
    int copy = openat(spool->log_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        if (copy >= 0)
            close(copy);
        return fail_errno(err, errno, "list the folder log");
    }
    enum result result = OK;
    for (struct dirent *entry; result == OK && (entry = readdir(list));) {
        unsigned char head[SPOOL_SEGMENT_HEADER];
        uint32_t version;
        struct stat status;
        int fd =
            openat(spool->log_fd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
            pread(fd, head, sizeof head, 0) == (ssize_t)sizeof head &&
            spool_segment_is_newer(head, &version))
            result =
                fail(err, ERROR_PERMANENT,
                     "log/%.100s is of version %u of this format, written by a newer posternd: "
                     "start that one",
                     entry->d_name, version);
        if (fd >= 0)
            close(fd);
    }
    closedir(list);
    return result;
}

enum result spool_files_open(struct spool *spool, struct error *err)
{
    spool->folder_fd = spool->log_fd = spool->bulk_fd = spool->corrupt_fd = spool->lock_fd = -1;
    char path[PATH_MAX];
    if (!str_to_c(spool->settings.path, path, sizeof path))
        return fail(err, ERROR_PERMANENT, "path of the spool is too long");
    bool is_new, ignored; /* who was here before us may have made the folder, but not the log */
    if (open_folder(AT_FDCWD, path, &ignored, &spool->folder_fd, err) != OK ||
        take_lock(spool, err) != OK ||
        open_folder(spool->folder_fd, "log", &is_new, &spool->log_fd, err) != OK ||
        refuse_newer(spool, err) != OK ||
        open_folder(spool->folder_fd, "bodies", &ignored, &spool->bulk_fd, err) != OK ||
        open_folder(spool->folder_fd, "corrupt", &ignored, &spool->corrupt_fd, err) != OK ||
        (is_new && sync_parent(spool, err) != OK))
        return FAILED;
    return spool_files_sync_folder(spool, spool->folder_fd, err);
}

void spool_files_close(struct spool *spool)
{
    int *fds[] = {&spool->log_fd, &spool->bulk_fd, &spool->corrupt_fd, &spool->folder_fd,
                  &spool->lock_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

/* ---- calls ---- */

static int folder_of(const struct spool *spool, enum spool_segment_kind kind)
{
    return kind == SPOOL_SEGMENT_BULK ? spool->bulk_fd : spool->log_fd;
}

static enum result fill_segment(const struct spool *spool, struct spool_segment *segment,
                                uint64_t size, struct error *err)
{
    unsigned char bytes[SPOOL_SEGMENT_HEADER];
    struct spool_segment_header header = {
        .kind = segment->kind, .id = segment->id, .created_wall_ns = clock_wall_ns()};
    spool_segment_header_encode(&header, bytes);
    int number = fault_hit("spool.create");
    if (number)
        return fail_errno(err, number, "make segment");
    if (fallocate(segment->fd, 0, 0, (off_t)size) != 0) {
        if (errno != EOPNOTSUPP)
            return fail_errno(err, errno, "reserve space for a segment");
        if (ftruncate(segment->fd, (off_t)size) != 0) /* then writing may run out of space */
            return fail_errno(err, errno, "make segment");
    }
    struct iovec piece = {bytes, sizeof bytes};
    if (spool_files_write(segment->fd, &piece, 1, 0, err) != OK ||
        spool_files_sync(spool, segment->fd, err) != OK)
        return FAILED;
    return spool_files_sync_folder(spool, folder_of(spool, segment->kind), err);
}

enum result spool_files_new_segment(struct spool *spool, enum spool_segment_kind kind,
                                    uint64_t size, struct spool_segment **out_segment,
                                    struct error *err)
{
    uint64_t id = atomic_fetch_add(&spool->next_id, 1);
    char name[SPOOL_NAME_SIZE];
    spool_segment_name(id, kind, name);
    int fd = openat(spool->log_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return fail_errno(err, errno, "make segment %s", name);
    struct spool_segment *segment = NEW(struct spool_segment);
    segment->id = id;
    segment->kind = kind;
    segment->fd = fd;
    segment->end = SPOOL_SEGMENT_HEADER;
    segment->disk_bytes = size;
    atomic_init(&segment->references, 1);
    list_init(&segment->link);
    if (fill_segment(spool, segment, size, err) != OK) {
        spool_files_unlink(spool, id, kind);
        spool_segment_unref(segment);
        return FAILED;
    }
    *out_segment = segment;
    return OK;
}

static enum result write_some(int fd, struct iovec *pieces, size_t count, uint64_t *offset,
                              struct error *err)
{
    while (count) {
        int number = fault_hit("spool.write");
        ssize_t done = number ? -1 : pwritev(fd, pieces, (int)count, (off_t)*offset);
        if (done < 0 && !number && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(err, number ? number : errno, "write");
        *offset += (uint64_t)done;
        size_t left = (size_t)done;
        while (count && left >= pieces->iov_len) {
            left -= pieces->iov_len;
            pieces++;
            count--;
        }
        if (count) {
            pieces->iov_base = (char *)pieces->iov_base + left;
            pieces->iov_len -= left;
        }
        if (done == 0 && count)
            return fail(err, ERROR_TEMPORARY, "write: nothing was written");
    }
    return OK;
}

enum result spool_files_write(int fd, struct iovec *pieces, size_t count, uint64_t offset,
                              struct error *err)
{
    while (count) {
        size_t now = count < PIECES_AT_ONCE ? count : PIECES_AT_ONCE;
        if (write_some(fd, pieces, now, &offset, err) != OK)
            return FAILED;
        pieces += now;
        count -= now;
    }
    return OK;
}

enum result spool_files_read(int fd, void *out, size_t size, uint64_t offset, struct error *err)
{
    char *at = out;
    while (size) {
        int number = fault_hit_place("spool.read", offset, offset + size);
        ssize_t done = number ? -1 : pread(fd, at, size, (off_t)offset);
        if (done < 0 && !number && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(err, number ? number : errno, "read");
        if (done == 0)
            return fail(err, ERROR_PERMANENT, "file is shorter than the log says");
        at += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return OK;
}

enum result spool_files_sync(const struct spool *spool, int fd, struct error *err)
{
    int number = fault_hit("spool.sync");
    if (number)
        return fail_errno(err, number, "sync");
    if (spool->settings.no_sync)
        return OK;
    if (fdatasync(fd) != 0)
        return fail_errno(err, errno, "sync");
    return OK;
}

enum result spool_files_sync_folder(const struct spool *spool, int fd, struct error *err)
{
    if (spool->settings.no_sync)
        return OK;
    if (fsync(fd) != 0)
        return fail_errno(err, errno, "sync folder");
    return OK;
}

bool spool_files_unlink(const struct spool *spool, uint64_t id, enum spool_segment_kind kind)
{
    char name[SPOOL_NAME_SIZE];
    spool_segment_name(id, kind, name);
    if (fault_hit("spool.unlink"))
        return false;
    return unlinkat(folder_of(spool, kind), name, 0) == 0 || errno == ENOENT;
}

/* ---- space ---- */

static uint64_t bytes_floor(const struct spool *spool, const struct statvfs *info)
{
    if (spool->settings.free_bytes_floor)
        return spool->settings.free_bytes_floor;
    uint64_t part = (uint64_t)info->f_blocks * info->f_frsize / 20;
    return part < UINT64_C(256) << 20 ? part : UINT64_C(256) << 20;
}

/* Before mail is refused: somebody can still do something. */
static void tell_low(struct spool *spool, uint64_t bytes, uint64_t floor)
{
    if (bytes / 3 >= floor)
        atomic_store(&spool->is_low, false);
    else if (bytes / 2 < floor && !atomic_exchange(&spool->is_low, true))
        event_emit(EVENT_DISK_LOW, F_STR(FILE, spool->settings.path), F_INT(SIZE, bytes),
                   F_INT(LIMIT, floor));
}

void spool_files_look_at_space(struct spool *spool)
{
    struct statvfs info;
    if (fstatvfs(spool->folder_fd, &info) != 0)
        return;
    uint64_t floor = bytes_floor(spool, &info);
    uint64_t bytes = fault_hit("spool.space") ? floor : (uint64_t)info.f_bavail * info.f_frsize;
    uint64_t ignored;
    bool gives = atomic_load(&spool->pool_count) || spool->leaving_count ||
                 spool_bodies_waiting(spool, &ignored);
    if (bytes / 2 < floor && gives) {
        spool_pool_give_back(spool);
        spool_bodies_give_back(spool, /* all= */ true);
        spool_let_go(spool);
        if (fstatvfs(spool->folder_fd, &info) != 0)
            return;
        bytes = (uint64_t)info.f_bavail * info.f_frsize;
    }
    atomic_store(&spool->has_plenty, bytes / 2 >= floor + SPOOL_POOL * spool->segment_size);
    tell_low(spool, bytes, floor);
    uint64_t inodes_floor = spool->settings.free_inodes_floor;
    /* file systems without a table of inodes say 0 of 0 */
    bool enough = bytes >= floor && (info.f_files == 0 || info.f_favail >= inodes_floor);
    if (atomic_exchange(&spool->has_space, enough) == enough)
        return;
    event_emit(enough ? EVENT_SPOOL_SPACE : EVENT_SPOOL_FULL, F_STR(FILE, spool->settings.path),
               F_INT(SIZE, bytes), F_INT(LIMIT, floor));
}
