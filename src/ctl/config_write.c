/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl/config_write.c - `postern config write`: the revision in force becomes the file.
 *
 * Nothing that stands there is lost: it stays beside as NAME.before-rN. Files of conf.d that the
 * revision does not have are renamed likewise, so that they are read no more.
 */
#include "base/buf.h"
#include "base/file.h"
#include "ctl/config.h"
#include "ctl/list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPIES_MAX = 1000 };

/* A second name for what is there, one that nothing has. NULL: said why. */
static const char *keep_old(struct ctl *ctl, const char *path, const char *revision)
{
    for (int i = 1; i < COPIES_MAX; i++) {
        struct str name = i == 1 ? arena_printf(ctl->arena, "%s.before-%s", path, revision)
                                 : arena_printf(ctl->arena, "%s.before-%s-%d", path, revision, i);
        if (link(path, name.ptr) == 0)
            return name.ptr;
        if (errno != EEXIST)
            break;
    }
    fprintf(stderr, "postern: cannot keep a copy of %s: %s\n", path, strerror(errno));
    return NULL;
}

/* Owner and mode stay those of the file that was there. */
static bool replace(struct ctl *ctl, const char *path, struct str text)
{
    struct stat old;
    bool exists = stat(path, &old) == 0;
    const char *draft = arena_printf(ctl->arena, "%s.new", path).ptr;
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    bool good = fd >= 0;
    if (good && exists)
        good = fchmod(fd, old.st_mode & 07777) == 0 &&
               (fchown(fd, old.st_uid, old.st_gid) == 0 || errno == EPERM);
    struct error err;
    if (!good)
        (void)fail(&err, ERROR_TEMPORARY, "%s", strerror(errno));
    else if (file_write(fd, text, &err) != OK)
        good = false;
    else if (rename(draft, path) != 0)
        good = fail(&err, ERROR_TEMPORARY, "%s", strerror(errno)) == OK;
    if (!good)
        fprintf(stderr, "postern: cannot write %s: %s\n", path, err.text);
    if (fd >= 0) {
        close(fd);
        if (!good)
            unlink(draft);
    }
    return good;
}

static struct str text_on_disk(const struct config_texts *disk, struct str name)
{
    for (size_t i = 0; i < disk->count; i++)
        if (str_equal(disk->items[i].name, name))
            return disk->items[i].text;
    return (struct str){0};
}

static bool write_one(struct ctl *ctl, const struct config_text *one,
                      const struct config_texts *disk, const char *revision)
{
    const char *path = arena_c(ctl->arena, one->name);
    struct str old = text_on_disk(disk, one->name);
    if (old.ptr && str_equal(old, one->text))
        return true;
    const char *kept = access(path, F_OK) == 0 ? keep_old(ctl, path, revision) : "";
    if (!kept || !replace(ctl, path, one->text))
        return false;
    if (!ctl->json)
        printf("wrote %s%s%s\n", path, kept[0] ? "; before: " : "", kept);
    return true;
}

static bool put_aside(struct ctl *ctl, const struct config_text *one, const char *revision)
{
    const char *path = arena_c(ctl->arena, one->name);
    const char *kept = keep_old(ctl, path, revision);
    if (!kept || unlink(path) != 0)
        return false;
    if (!ctl->json)
        printf("took %s out; it is %s\n", path, kept);
    return true;
}

/* Names of the revision are those at the path that the daemon reads. */
int ctl_config_write_file(struct ctl *ctl)
{
    json_t *object;
    struct config_texts wanted;
    struct config_texts disk = {0};
    int code = ctl_config_get(ctl, "/api/v1/config", &object);
    if (code)
        return code;
    const char *revision = arena_c(ctl->arena, str_c(ctl_text(object, "revision")));
    const char *file = arena_c(ctl->arena, str_c(ctl_text(object, "file")));
    json_decref(object);
    code = ctl_config_texts(ctl, revision, &wanted);
    if (code)
        return code;
    if (access(file, F_OK) == 0 && !ctl_config_read(ctl, file, &disk))
        return CTL_NO;
    bool good = true;
    for (size_t i = 0; i < wanted.count; i++)
        good = write_one(ctl, &wanted.items[i], &disk, revision) && good;
    for (size_t i = 1; i < disk.count; i++)
        if (!text_on_disk(&wanted, disk.items[i].name).ptr)
            good = put_aside(ctl, &disk.items[i], revision) && good;
    if (good && ctl->json) {
        json_t *written = json_pack("{s:s, s:s}", "file", file, "revision", revision);
        ctl_print(ctl, written);
        json_decref(written);
    } else if (good) {
        printf("%s is %s, which is in force\n", file, revision);
    }
    return good ? CTL_YES : CTL_NO;
}

int ctl_config_write(struct ctl *ctl)
{
    ctl_arguments(ctl, 0, 0);
    return ctl_config_write_file(ctl);
}
