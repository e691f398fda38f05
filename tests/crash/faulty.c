/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the gateway by tests: a disk that lies or is clumsy. FAULTY names what it does:
 * "nosync" says that all is on stable storage and does nothing for it (the red control of the
 * power cuts); "short" writes at most half of what it is given, as a disk that fills up may.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_on(const char *what)
{
    const char *faulty = getenv("FAULTY");
    return faulty && strcmp(faulty, what) == 0;
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return is_on("nosync") ? 0 : real(fd);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return is_on("nosync") ? 0 : real(fd);
}

typedef ssize_t vector_write(int, const struct iovec *, int, off_t);
static ssize_t write_vector(const char *name, int fd, const struct iovec *pieces, int count, off_t at)
{
    vector_write *real = (vector_write *)dlsym(RTLD_NEXT, name);
    if (!is_on("short"))
        return real(fd, pieces, count, at);
    if (count > 1)
        return real(fd, pieces, (count + 1) / 2, at);
    struct iovec half = {pieces->iov_base, (pieces->iov_len + 1) / 2};
    return real(fd, &half, 1, at);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at)
{
    return write_vector("pwritev", fd, pieces, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off_t at)
{
    return write_vector("pwritev64", fd, pieces, count, at);
}
