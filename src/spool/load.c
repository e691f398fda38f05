/* SPDX-License-Identifier: Apache-2.0 */
#include "spool/load.h"

#include "base/memory.h"
#include "spool/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, FIRST_PART = 2 * 1024 * 1024 };

static void add_file(struct spool_loader *loader, uint64_t id, enum spool_segment_kind kind, int fd,
                     uint64_t file_size)
{
    size_t count = loader->count + 1;
    loader->segments = memory_resize_array(loader->segments, count, sizeof *loader->segments);
    loader->files = memory_resize_array(loader->files, count, sizeof *loader->files);
    size_t at = loader->count;
    while (at > 0 && loader->segments[at - 1].id > id) {
        loader->segments[at] = loader->segments[at - 1];
        loader->files[at] = loader->files[at - 1];
        at--;
    }
    loader->segments[at] = (struct spool_recover_segment){.id = id, .kind = kind};
    loader->files[at] = (struct spool_loaded_file){.fd = fd, .file_size = file_size};
    loader->count = count;
}

/* What is no file of ours: a link, a folder, a pipe, or gone meanwhile. */
static bool is_no_file(int number)
{
    return number == ENOENT || number == ELOOP || number == EISDIR || number == ENXIO ||
           number == ENODEV;
}

/* A log file that cannot be opened is no damage: to go on without it would lose its mail, and bring
 * to life what its tombstones keep dead. */
static enum result open_file(struct spool_loader *loader, int log_fd, const char *name,
                             bool writable, struct error *err)
{
    uint64_t id;
    enum spool_segment_kind kind;
    struct stat info;
    /* what has another name is not ours, and stays */
    if (strlen(name) < 20 || !spool_segment_name_parse(name, &id, &kind) ||
        kind == SPOOL_SEGMENT_BULK)
        return OK;
    int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(log_fd, name, flags);
    if (fd < 0)
        return is_no_file(errno) ? OK : fail_errno(err, errno, "open %s", name);
    if (fstat(fd, &info) != 0) {
        int number = errno;
        close(fd);
        return fail_errno(err, number, "look at %s", name);
    }
    if (S_ISREG(info.st_mode))
        add_file(loader, id, kind, fd, (uint64_t)info.st_size);
    else
        close(fd);
    return OK;
}

enum result spool_loader_open(struct spool_loader *loader, int log_fd, bool writable,
                              struct error *err)
{
    *loader = (struct spool_loader){.log_fd = log_fd};
    int copy = openat(log_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return fail_errno(err, errno, "read folder of the log");
    enum result result = OK;
    for (struct dirent *item; result == OK && (errno = 0, item = readdir(folder));)
        result = open_file(loader, log_fd, item->d_name, writable, err);
    if (result == OK && errno != 0)
        result = fail_errno(err, errno, "read folder of the log");
    closedir(folder);
    return result;
}

void spool_loader_done(struct spool_loader *loader)
{
    for (size_t i = 0; i < loader->count; i++) {
        if (loader->files[i].fd >= 0)
            close(loader->files[i].fd);
    }
    free(loader->bytes);
    free(loader->segments);
    free(loader->files);
    *loader = (struct spool_loader){0};
}

/* Where the last bytes lie that were ever written: preallocated space behind is not read. */
static uint64_t end_of_data(int fd, uint64_t size)
{
    uint64_t end = 0;
    while (end < size) {
        off_t data = lseek(fd, (off_t)end, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? end : size;
        off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole <= data)
            return size;
        end = (uint64_t)hole;
    }
    return size;
}

/* A file that is shorter than it was is no trouble of the disk. */
static void read_pages(int fd, char *out, size_t size, uint64_t offset, struct spool_unread *unread)
{
    for (size_t done = 0; done < size; done += PAGE) {
        size_t part = size - done < PAGE ? size - done : (size_t)PAGE;
        struct error failure;
        if (spool_files_read(fd, out + done, part, offset + done, &failure) == OK)
            continue;
        memset(out + done, 0, part);
        if (failure.kind == ERROR_PERMANENT)
            continue;
        if (!unread->bytes)
            unread->begin = offset + done;
        unread->bytes += part;
        unread->end = offset + done + part;
        unread->failure = failure;
    }
}

void spool_read_all(int fd, char *out, uint64_t size, uint64_t offset,
                    struct spool_unread *out_unread)
{
    struct error ignored;
    enum { AT_ONCE = 4 * 1024 * 1024 };
    *out_unread = (struct spool_unread){0};
    for (uint64_t done = 0; done < size;) {
        size_t now = size - done < AT_ONCE ? (size_t)(size - done) : (size_t)AT_ONCE;
        if (spool_files_read(fd, out + done, now, offset + done, &ignored) != OK)
            read_pages(fd, out + done, now, offset + done, out_unread);
        done += now;
    }
}

/* ---- a disk in trouble ---- */

/* From the disk, not from memory. */
static bool gives_page(int fd, uint64_t offset)
{
    char page[PAGE];
    struct error ignored;
    (void)posix_fadvise(fd, (off_t)offset, PAGE, POSIX_FADV_DONTNEED);
    return fd >= 0 && spool_files_read(fd, page, 64, offset, &ignored) == OK;
}

/* A page beside those that it did not give, or the first one of another file. */
static bool answers(const struct spool_loader *loader, int fd, const struct spool_unread *unread)
{
    if ((unread->begin >= PAGE && gives_page(fd, unread->begin - PAGE)) ||
        gives_page(fd, unread->end))
        return true;
    for (size_t i = 0; i < loader->count; i++) {
        const struct spool_segment *walked = loader->segments[i].segment;
        int other = loader->files[i].fd >= 0 ? loader->files[i].fd : walked ? walked->fd : -1;
        if (other != fd && gives_page(other, 0))
            return true;
    }
    return false;
}

bool spool_loader_ask_again(struct spool_loader *loader, int fd, const struct spool_unread *unread,
                            unsigned *tries)
{
    enum { TRIES = 5 };
    if (!loader->wait || loader->gave_up)
        return false;
    bool is_there = answers(loader, fd, unread);
    *tries = is_there ? *tries + 1 : 0;
    if (*tries > TRIES)
        return false;
    loader->gave_up = !loader->wait(loader->wait_context, &unread->failure, is_there);
    return !loader->gave_up;
}

/* Of a spool that is in use a file may get another name, and then other content, at any moment. A
 * name that cannot be looked at is no such case: mail would be taken for gone. */
static bool has_lost_name(const struct spool_loader *loader,
                          const struct spool_recover_segment *segment, int fd)
{
    char name[SPOOL_NAME_SIZE];
    struct stat by_name, open;
    spool_segment_name(segment->id, segment->kind, name);
    if (fstatat(loader->log_fd, name, &by_name, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    return fstat(fd, &open) == 0 && by_name.st_ino != open.st_ino;
}

/* The space is kept from one segment to the next: fresh pages cost as much as reading does. */
static void make_space(struct spool_loader *loader, uint64_t size)
{
    if (size <= loader->cap)
        return;
    loader->bytes = memory_resize_array(loader->bytes, size, 1);
    loader->cap = size;
}

static bool was_used(const struct spool_loader *loader)
{
    struct spool_segment_header header;
    return spool_segment_header_decode((const unsigned char *)loader->bytes, &header) &&
           header.was_used;
}

/* Does the segment end within the first `size` bytes, with all behind that the walk looks at? */
static bool has_end_within(const struct spool_loader *loader,
                           const struct spool_recover_segment *segment, uint64_t size)
{
    struct spool_scan scan;
    spool_segment_scan(str_of(loader->bytes, size), segment->id, segment->must_end, &scan);
    bool has_end = scan.written + SPOOL_SCAN_BEYOND + SPOOL_RECORD_HEADER <= size;
    spool_scan_done(&scan);
    return has_end;
}

static void read_part(struct spool_loader *loader, struct spool_recover_segment *segment, int fd,
                      uint64_t begin, uint64_t end)
{
    struct spool_unread unread;
    unsigned tries = 0;
    spool_read_all(fd, loader->bytes + begin, end - begin, begin, &unread);
    while (unread.bytes && spool_loader_ask_again(loader, fd, &unread, &tries))
        spool_read_all(fd, loader->bytes + unread.begin, unread.end - unread.begin, unread.begin,
                       &unread);
    if (unread.bytes)
        segment->unread_end = unread.end;
}

/* The bytes of a segment: those of a file that was used before only as far as they matter. */
static uint64_t load_bytes(struct spool_loader *loader, struct spool_recover_segment *segment,
                           int fd, uint64_t size)
{
    uint64_t done = 0;
    for (uint64_t step = FIRST_PART; segment->kind == SPOOL_SEGMENT_MAIN && step < size;
         step *= 4) {
        make_space(loader, step);
        read_part(loader, segment, fd, done, step);
        done = step;
        if (!was_used(loader))
            break;
        if (has_end_within(loader, segment, done))
            return done;
    }
    make_space(loader, size);
    read_part(loader, segment, fd, done, size);
    return size;
}

/* The next one in turn, which is older, comes from the disk meanwhile: all of it, unless it is
 * likely to be one of those made ahead, of used files that need not be read. */
void spool_loader_load(void *context, struct spool_recover_segment *segment, bool load)
{
    struct spool_loader *loader = context;
    size_t at = (size_t)(segment - loader->segments);
    struct spool_loaded_file *file = &loader->files[at];
    segment->bytes = STR_EMPTY;
    if (!load)
        return;
    if (at > 0)
        (void)posix_fadvise(loader->files[at - 1].fd, 0, loader->was_whole ? 0 : FIRST_PART,
                            POSIX_FADV_WILLNEED);
    uint64_t size = end_of_data(file->fd, file->file_size);
    if (size > SPOOL_SEGMENT_MAX) /* no file of ours */
        size = SPOOL_SEGMENT_MAX;
    uint64_t loaded = load_bytes(loader, segment, file->fd, size);
    loader->was_whole = loaded == size;
    segment->is_gone = has_lost_name(loader, segment, file->fd);
    segment->bytes = segment->is_gone ? STR_EMPTY : str_of(loader->bytes, loaded);
}

struct str spool_loader_part(struct spool_loader *loader, uint64_t segment, uint64_t begin,
                             uint64_t end)
{
    for (size_t i = 0; i < loader->count; i++) {
        if (loader->segments[i].id != segment)
            continue;
        uint64_t size = loader->files[i].file_size;
        if (end > size)
            end = size;
        if (begin >= end)
            break;
        char *bytes = memory_resize_array(NULL, end - begin, 1);
        struct spool_unread ignored;
        spool_read_all(loader->files[i].fd, bytes, end - begin, begin, &ignored);
        return str_of(bytes, end - begin);
    }
    return str_of(memory_alloc(1), 0);
}
