/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the gateway by tests: a disk that lies or is clumsy. FAULTY names what it does:
 * "nosync" says that all is on stable storage and does nothing for it (the red control of the
 * power cuts); "short" writes at most half of what it is given, as a disk that fills up may.
 * FAULTY_CLOCK names a file of 8 bytes: nanoseconds that the wall clock is off; the test changes it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
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

/* ---- the wall clock ---- */

static const volatile int64_t *wall_offset;

__attribute__((constructor)) static void open_clock(void)
{
    const char *path = getenv("FAULTY_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *wall_offset, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        wall_offset = page;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    long result = syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && wall_offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t now = (int64_t)out->tv_sec * 1000000000 + out->tv_nsec + *wall_offset;
        out->tv_sec = now / 1000000000;
        out->tv_nsec = now % 1000000000;
    }
    return (int)result;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *out, void *zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *out = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
