/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
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
