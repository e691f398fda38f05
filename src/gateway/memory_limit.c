/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/memory_limit.h"

#include "base/str.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

/* What a small file holds, or nothing. */
static struct str read_file(const char *path, char *space, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, space, size) : -1;
    if (fd >= 0)
        close(fd);
    return str_of(space, got > 0 ? (size_t)got : 0);
}

static uint64_t read_limit(const char *root, struct str group, const char *file)
{
    char path[PATH_SIZE], text[64];
    int len = snprintf(path, sizeof path, "%s%.*s/%s", root, STR_ARG(group), file);
    uint64_t limit;
    if (len < 0 || (size_t)len >= sizeof path)
        return UINT64_MAX;
    /* "max" is no number: no limit */
    struct str value = str_trim(read_file(path, text, sizeof text));
    return str_to_uint(value, UINT64_MAX, &limit) && limit > 0 ? limit : UINT64_MAX;
}

static uint64_t least_upwards(const char *root, struct str group, const char *file)
{
    uint64_t least = UINT64_MAX;
    for (;;) {
        uint64_t limit = read_limit(root, group, file);
        least = limit < least ? limit : least;
        ptrdiff_t slash = str_find_last(group, '/');
        if (slash < 0)
            return least;
        group = str_slice(group, 0, (size_t)slash);
    }
}

uint64_t memory_limit(void)
{
    /* lines of ID:CONTROLLERS:GROUP; version 2 is the one without controllers */
    char text[8192];
    struct str rest = read_file("/proc/self/cgroup", text, sizeof text);
    struct str line, id, controllers;
    uint64_t least = UINT64_MAX;
    while (str_split(&rest, '\n', &line)) {
        if (!str_split(&line, ':', &id) || !str_split(&line, ':', &controllers))
            continue;
        uint64_t limit = UINT64_MAX;
        if (controllers.len == 0)
            limit = least_upwards("/sys/fs/cgroup", line, "memory.max");
        else if (str_equal(controllers, STR("memory")))
            limit = least_upwards("/sys/fs/cgroup/memory", line, "memory.limit_in_bytes");
        least = limit < least ? limit : least;
    }
    return least;
}
