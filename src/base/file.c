/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 65536 };

/* At the ceiling one byte more tells a file that is too large from one that just fits. */
static ssize_t read_piece(int fd, struct buf *out, struct error *err)
{
    size_t left = out->max - out->len;
    char extra;
    char *room = left ? buf_reserve(out, left < PIECE ? left : PIECE) : &extra;
    ssize_t got;
    do
        got = read(fd, room, left == 0 ? 1 : left < PIECE ? left : PIECE);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        (void)fail(err, ERROR_TEMPORARY, "%s", strerror(errno));
    else if (got > 0 && left == 0)
        return (void)fail(err, ERROR_LIMIT, "it is larger than %zu bytes", out->max), -1;
    else
        out->len += (size_t)got;
    return got;
}

enum result file_read(int fd, struct buf *out, struct error *err)
{
    ssize_t got;
    do
        got = read_piece(fd, out, err);
    while (got > 0);
    return got == 0 ? OK : FAILED;
}

enum result file_read_path(const char *path, struct buf *out, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail(err, ERROR_TEMPORARY, "%s", strerror(errno));
    enum result result = file_read(fd, out, err);
    close(fd);
    return result;
}

enum result file_write(int fd, struct str text, struct error *err)
{
    while (text.len) {
        ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail(err, ERROR_TEMPORARY, "%s", strerror(put < 0 ? errno : EIO));
        text = str_from(text, (size_t)put);
    }
    return fsync(fd) == 0 ? OK : fail(err, ERROR_TEMPORARY, "%s", strerror(errno));
}

/* The name is as durable as the folder that it stands in. */
static enum result sync_folder_of(const char *path, struct error *err)
{
    char folder[PATH_MAX] = ".";
    ptrdiff_t slash = str_find_last(str_c(path), '/');
    if (slash >= 0)
        (void)str_to_c(str_slice(str_c(path), 0, slash ? (size_t)slash : 1), folder, sizeof folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    int number = errno;
    if (fd >= 0)
        close(fd);
    return done ? OK : fail_errno(err, number, "cannot sync the folder of %s", path);
}

enum result file_replace(const char *path, mode_t mode, struct str text, struct error *err)
{
    char draft[PATH_MAX];
    int len = snprintf(draft, sizeof draft, "%s.new", path);
    if (len < 0 || (size_t)len >= sizeof draft)
        return fail(err, ERROR_PERMANENT, "the path %s is too long", path);
    int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return fail_errno(err, errno, "cannot write %s", draft);
    enum result result = file_write(fd, text, err);
    close(fd);
    if (result != OK)
        return fail_context(err, "cannot write %s", draft);
    if (rename(draft, path) != 0)
        return fail_errno(err, errno, "cannot write %s", path);
    return sync_folder_of(path, err);
}
