/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into the gateway by tests: a disk that lies or is clumsy. FAULTY names what it does:
 * "nosync" says that all is on stable storage and does nothing for it (the red control of the
 * power cuts); "short" writes at most half of what it is given, as a disk that fills up may.
 * "full" is the red control of a full disk: what finds no space is said to be written, and there is
 * always room; "drop" writes nothing at all and says it did. FAULTY_SYNCS names a file of 4 bytes:
 * how many of the next fdatasync fail. "slowload": the thread that loads a long queue takes a while.
 * FAULTY_CLOCK names a file of 8 bytes: nanoseconds that the wall clock is off; the test changes it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
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

static void *map(const char *variable, size_t size)
{
    const char *path = getenv(variable);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return page == MAP_FAILED ? NULL : page;
}

static _Atomic int *failing_syncs;

__attribute__((constructor)) static void open_syncs(void)
{
    failing_syncs = map("FAULTY_SYNCS", sizeof *failing_syncs);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (failing_syncs && *failing_syncs > 0 && (*failing_syncs)-- > 0) {
        errno = EIO;
        return -1;
    }
    return is_on("nosync") || is_on("full") || is_on("drop") ? 0 : real(fd);
}

static ssize_t read_at(const char *name, int fd, void *out, size_t size, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    char thread[16] = "";
    if (is_on("slowload") && prctl(PR_GET_NAME, thread) == 0 && strcmp(thread, "spool-load") == 0)
        usleep(800);
    return real(fd, out, size, at);
}

ssize_t pread(int fd, void *out, size_t size, off_t at)
{
    return read_at("pread", fd, out, size, at);
}

ssize_t pread64(int fd, void *out, size_t size, off_t at)
{
    return read_at("pread64", fd, out, size, at);
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return is_on("nosync") || is_on("full") || is_on("drop") ? 0 : real(fd);
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    int (*real)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate");
    int result = real(fd, mode, at, size);
    return result != 0 && is_on("full") ? ftruncate(fd, at + size) : result;
}

int fallocate64(int fd, int mode, off_t at, off_t size)
{
    return fallocate(fd, mode, at, size);
}

int fstatvfs(int fd, struct statvfs *out)
{
    int (*real)(int, struct statvfs *) = (int (*)(int, struct statvfs *))dlsym(RTLD_NEXT, "fstatvfs");
    int result = real(fd, out);
    if (result == 0 && is_on("full"))
        out->f_bavail = out->f_bfree = out->f_blocks = 1 << 30;
    return result;
}

int fstatvfs64(int fd, struct statvfs64 *out)
{
    return fstatvfs(fd, (struct statvfs *)out);
}

typedef ssize_t vector_write(int, const struct iovec *, int, off_t);
static ssize_t write_vector(const char *name, int fd, const struct iovec *pieces, int count, off_t at)
{
    vector_write *real = (vector_write *)dlsym(RTLD_NEXT, name);
    if (is_on("full") || is_on("drop")) {
        ssize_t sum = 0;
        for (int i = 0; i < count; i++)
            sum += (ssize_t)pieces[i].iov_len;
        ssize_t done = is_on("drop") ? sum : real(fd, pieces, count, at);
        return done < 0 && errno == ENOSPC ? sum : done;
    }
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
    wall_offset = map("FAULTY_CLOCK", sizeof *wall_offset);
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
