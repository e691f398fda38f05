/* SPDX-License-Identifier: Apache-2.0 */
#include "net/secret.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_MAX = 4096 };

struct secret {
    char bytes[SECRET_MAX + 1];
    size_t len;
};

static void release_secret(void *object)
{
    struct secret *secret = object;
    memory_wipe(secret, sizeof *secret);
    free(secret);
}

static struct config_problem *file_problem(const struct option_context *context,
                                           enum config_severity severity,
                                           const struct config_node *node, struct str path,
                                           const char *why)
{
    return config_problem(context->report, severity,
                          severity == CONFIG_ERROR ? "unreadable" : "secret-readable", node->place,
                          "%.*s: %s", STR_ARG(path), why);
}

static bool read_file(struct str path, struct secret *secret, mode_t *out_mode)
{
    char name[4096];
    struct stat status;
    int fd = str_to_c(path, name, sizeof name) ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd < 0)
        return false;
    *out_mode = fstat(fd, &status) == 0 ? status.st_mode : 0;
    ssize_t got = read(fd, secret->bytes, sizeof secret->bytes);
    int error = errno;
    close(fd);
    errno = error;
    if (got < 0)
        return false;
    secret->len = (size_t)got;
    return true;
}

void secret_read(struct str path, const struct config_node *node,
                 const struct option_context *context, struct str *out)
{
    if (path.len == 0 || !node)
        return;
    struct secret *secret = NEW(struct secret);
    arena_hook(context->arena, release_secret, secret);
    mode_t mode = 0;
    if (!read_file(path, secret, &mode)) {
        int code = errno;
        file_problem(context, CONFIG_ERROR, node, path, strerror(code))->fix =
            code == EACCES ? STR("let the user that posternd runs as read it") : STR_EMPTY;
        return;
    }
    struct str text = {secret->bytes, secret->len};
    while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r'))
        text.len--;
    if (text.len == 0 || secret->len > SECRET_MAX || str_has_nul(text) ||
        str_find(text, '\n') >= 0) {
        file_problem(context, CONFIG_ERROR, node, path, "is not one line of 1 to 4096 characters");
        return;
    }
    if (mode & 0007)
        file_problem(context, CONFIG_WARNING, node, path, "every user of this host may read it")
            ->fix = arena_printf(context->report->arena, "chmod o= %.*s", STR_ARG(path));
    *out = text;
}
