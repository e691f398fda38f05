/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/users_edit.c - changes to the users file, for the command line.
 *
 * The file is replaced whole: a reader sees the old one or the new one. Other lines stay as they
 * are, comments too. Two editors at once wait for each other (a lock on the folder).
 */
#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"
#include "crypto/password.h"
#include "directory/directory.h"
#include "directory/users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { USERS_FILE_MAX = 64 * 1024 * 1024, NEW_FILE_MODE = 0640 };

struct edit {
    char path[PATH_MAX];
    char folder[PATH_MAX];
    int folder_fd; /* locked; -1 before */
    bool exists;
    struct stat before;
    struct buf content;
};

static void edit_done(struct edit *edit)
{
    if (edit->folder_fd >= 0)
        close(edit->folder_fd); /* gives the lock back */
    if (edit->content.cap)
        memory_wipe(edit->content.ptr, edit->content.cap);
    buf_done(&edit->content);
}

static enum result read_file(struct edit *edit, int fd, struct error *err)
{
    for (;;) {
        char *space = buf_reserve(&edit->content, 65536);
        if (!space)
            return fail(err, ERROR_LIMIT, "%s is too large", edit->path);
        ssize_t got = read(fd, space, 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(err, errno, "cannot read %s", edit->path);
        if (got == 0)
            return OK;
        edit->content.len += (size_t)got;
    }
}

/* Read the file; `may_be_missing`: then it is as if it were empty. */
static enum result edit_open(struct edit *edit, struct str path, bool may_be_missing,
                             struct error *err)
{
    *edit = (struct edit){.folder_fd = -1};
    buf_init(&edit->content, USERS_FILE_MAX);
    if (!str_to_c(path, edit->path, sizeof edit->path))
        return fail(err, ERROR_PERMANENT, "the path is too long");
    ptrdiff_t slash = str_find_last(path, '/');
    struct str folder = slash < 0    ? STR(".")
                        : slash == 0 ? STR("/")
                                     : str_slice(path, 0, (size_t)slash);
    (void)str_to_c(folder, edit->folder, sizeof edit->folder);
    edit->folder_fd = open(edit->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (edit->folder_fd < 0 && errno == ENOENT)
        return fail(err, ERROR_PERMANENT,
                    "the folder %s does not exist: make it, for the user of the gateway",
                    edit->folder);
    if (edit->folder_fd < 0 || flock(edit->folder_fd, LOCK_EX) != 0)
        return fail_errno(err, errno, "cannot lock %s", edit->folder);
    int fd = open(edit->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && may_be_missing)
        return OK;
    if (fd < 0)
        return fail_errno(err, errno, "cannot open %s", edit->path);
    edit->exists = true;
    enum result result = fstat(fd, &edit->before) == 0
                             ? read_file(edit, fd, err)
                             : fail_errno(err, errno, "cannot stat %s", edit->path);
    close(fd);
    return result;
}

static enum result fill_new_file(const struct edit *edit, int fd, struct str content,
                                 struct error *err)
{
    mode_t mode = edit->exists ? edit->before.st_mode & 07777 : NEW_FILE_MODE;
    if (edit->exists && fchown(fd, edit->before.st_uid, edit->before.st_gid) != 0 &&
        fchown(fd, (uid_t)-1, edit->before.st_gid) != 0)
        return fail_errno(err, errno, "cannot keep the owner");
    if (fchmod(fd, mode) != 0)
        return fail_errno(err, errno, "cannot set the mode");
    return file_write(fd, content, err);
}

/* Put `content` in the place of the file. */
static enum result edit_commit(struct edit *edit, const struct buf *content, struct error *err)
{
    char temporary[PATH_MAX];
    if (content->overflow)
        return fail(err, ERROR_LIMIT, "%s would become too large", edit->path);
    int length = snprintf(temporary, sizeof temporary, "%s.new", edit->path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return fail(err, ERROR_PERMANENT, "the path is too long");
    (void)unlink(temporary); /* left by an editor that died; we hold the lock */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_errno(err, errno, "cannot create %s", temporary);
    enum result result = fill_new_file(edit, fd, buf_str(content), err);
    close(fd);
    if (result == OK && rename(temporary, edit->path) != 0)
        result = fail_errno(err, errno, "cannot rename %s", temporary);
    if (result != OK) {
        (void)unlink(temporary);
        return fail_context(err, "%s", edit->path);
    }
    if (fsync(edit->folder_fd) != 0)
        return fail_errno(err, errno, "cannot sync %s", edit->folder);
    return OK;
}

/* Copy all lines but the one of `login`, whose place takes `replacement` (NULL: nothing).
 * `*out_old`: the parsed old line, borrowed from edit->content. */
static bool copy_lines(const struct edit *edit, struct str login, const struct buf *replacement,
                       struct buf *out, struct users_line *out_old)
{
    struct str rest = buf_str(&edit->content);
    struct str line;
    bool found = false;
    while (rest.len && str_split(&rest, '\n', &line)) {
        struct users_line parsed;
        bool hit = users_parse_line(line, &parsed) == USERS_LINE_USER &&
                   str_equal_nocase(parsed.login, login);
        if (hit && !found && out_old)
            *out_old = parsed;
        if (hit && !found && replacement)
            buf_append(out, buf_str(replacement));
        found = found || hit;
        if (hit || (!line.len && !rest.ptr))
            continue;
        buf_append(out, line);
        buf_append_byte(out, '\n');
    }
    return found;
}

enum result directory_users_check(struct str login, struct str password, struct str senders,
                                  struct error *err)
{
    if (!users_login_is_valid(login))
        return fail(err, ERROR_PERMANENT,
                    "not a valid login: 1 to %d characters, no colon, no blank, no # in front",
                    USERS_LOGIN_MAX);
    if (!password.len)
        return fail(err, ERROR_PERMANENT, "the password is empty");
    if (!users_senders_are_valid(senders))
        return fail(err, ERROR_PERMANENT, "not a list of sender addresses");
    return OK;
}

static enum result set_user(struct edit *edit, struct str login, const char *hash,
                            struct str senders, bool create, struct error *err)
{
    struct buf content BUF_CLEANUP;
    struct buf line BUF_CLEANUP;
    struct users_line old = {.senders = STR_EMPTY};
    buf_init(&content, USERS_FILE_MAX);
    buf_init(&line, 64 * 1024);
    bool exists = copy_lines(edit, login, NULL, &content, &old);
    if (exists && create)
        return fail(err, ERROR_PERMANENT, "%.*s is in %s already", STR_ARG(login), edit->path);
    if (!exists && !create)
        return fail(err, ERROR_PERMANENT, "no user %.*s in %s", STR_ARG(login), edit->path);
    if (!senders.len && old.senders.len)
        senders = old.senders;
    buf_printf(&line, "%.*s:%s", STR_ARG(login), hash);
    if (senders.len)
        buf_printf(&line, ":%.*s", STR_ARG(senders));
    buf_append_byte(&line, '\n');
    if (exists) {
        buf_clear(&content);
        (void)copy_lines(edit, login, &line, &content, NULL);
    } else {
        buf_append(&content, buf_str(&line));
    }
    if (line.overflow)
        return fail(err, ERROR_LIMIT, "the line is too long");
    return edit_commit(edit, &content, err);
}

enum result directory_users_set(struct str path, struct str login, struct str password,
                                struct str senders, bool create, struct error *err)
{
    char hash[PASSWORD_HASH_SIZE];
    struct edit edit;
    if (directory_users_check(login, password, senders, err) != OK ||
        password_hash(password, hash, err) != OK)
        return FAILED;
    enum result result = edit_open(&edit, path, /* may_be_missing= */ create, err);
    if (result == OK)
        result = set_user(&edit, login, hash, senders, create, err);
    edit_done(&edit);
    return result;
}

enum result directory_users_remove(struct str path, struct str login, bool *out_found,
                                   struct error *err)
{
    struct edit edit;
    struct buf content BUF_CLEANUP;
    bool found = false;
    buf_init(&content, USERS_FILE_MAX);
    enum result result = edit_open(&edit, path, /* may_be_missing= */ false, err);
    if (result == OK)
        found = copy_lines(&edit, login, NULL, &content, NULL);
    if (result == OK && found)
        result = edit_commit(&edit, &content, err);
    edit_done(&edit);
    if (result == OK)
        *out_found = found;
    return result;
}

enum result directory_users_list(struct str path, struct buf *out, struct error *err)
{
    struct edit edit;
    enum result result = edit_open(&edit, path, /* may_be_missing= */ false, err);
    struct str rest = result == OK ? buf_str(&edit.content) : STR_EMPTY;
    struct str line;
    while (rest.len && str_split(&rest, '\n', &line)) {
        struct users_line parsed;
        if (users_parse_line(line, &parsed) != USERS_LINE_USER)
            continue;
        buf_append(out, parsed.login);
        if (parsed.senders.len)
            buf_printf(out, "\t%.*s", STR_ARG(parsed.senders));
        buf_append_byte(out, '\n');
    }
    edit_done(&edit);
    return result;
}
