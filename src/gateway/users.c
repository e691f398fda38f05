/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/users.h"

#include "base/buf.h"
#include "directory/directory.h"
#include "gateway/operations.h"
#include "gateway/settings.h"
#include "gateway/worker.h"

#include <sys/stat.h>

enum { LIST_MAX = 16 * 1024 * 1024, FILES_MAX = 100 };

/* ---- which files ---- */

static bool is_under(struct str path, struct str folder)
{
    return folder.len && str_starts(path, folder) && path.len > folder.len + 1 &&
           path.ptr[folder.len] == '/' && str_find_str(path, STR("/../")) < 0;
}

static void add_file(struct gateway_users *users, struct str path, struct str folder,
                     struct arena *arena)
{
    for (size_t i = 0; i < users->file_count; i++)
        if (str_equal(users->files[i].path, path))
            return;
    if (users->file_count < FILES_MAX)
        users->files[users->file_count++] =
            (struct gateway_users_file){.path = arena_str(arena, path),
                                        .writable = is_under(path, folder),
                                        .problem = STR_EMPTY};
}

static void find_files(struct gateway *gateway, struct arena *arena, struct gateway_users *out)
{
    struct settings *settings = gateway_settings_ref(gateway);
    out->files = arena_alloc_array(arena, FILES_MAX, sizeof *out->files);
    for (size_t i = 0; i < settings->listener_count; i++) {
        struct flow_backend *backends;
        size_t count = 0;
        if (settings->listeners[i].authentication)
            flow_backends(settings->listeners[i].authentication, arena, &backends, &count);
        for (size_t k = 0; k < count; k++)
            if (backends[k].is_file)
                add_file(out, backends[k].source, settings->spool.path, arena);
    }
    settings_unref(settings);
}

/* ---- reading ---- */

static void read_file(struct gateway_users_file *file, struct arena *arena,
                      struct gateway_users *out)
{
    struct buf list BUF_CLEANUP;
    struct error err;
    struct str rest, line, login;
    size_t lines = 0;
    buf_init(&list, LIST_MAX);
    if (directory_users_list(file->path, &list, &err) != OK) {
        file->problem = arena_str(arena, str_c(err.text));
        return;
    }
    rest = buf_str(&list);
    for (size_t i = 0; i < rest.len; i++)
        lines += rest.ptr[i] == '\n';
    struct gateway_user *users =
        arena_alloc_array(arena, out->user_count + lines + 1, sizeof *users);
    for (size_t i = 0; i < out->user_count; i++)
        users[i] = out->users[i];
    out->users = users;
    while (rest.len && str_split(&rest, '\n', &line)) {
        if (!line.len || !str_split(&line, '\t', &login))
            continue;
        users[out->user_count++] =
            (struct gateway_user){.login = arena_str(arena, login),
                                  .file = file->path,
                                  .senders = line.ptr ? arena_str(arena, line) : STR_EMPTY};
    }
}

void gateway_users(struct gateway *gateway, struct arena *arena, struct gateway_users *out)
{
    *out = (struct gateway_users){0};
    find_files(gateway, arena, out);
    for (size_t i = 0; i < out->file_count; i++)
        read_file(&out->files[i], arena, out);
}

/* A file is replaced as a whole whenever it is changed: another inode, another time. */
struct str *gateway_users_stamps(struct gateway *gateway, struct arena *arena, size_t *out_count)
{
    struct gateway_users users = {0};
    find_files(gateway, arena, &users);
    struct str *stamps = arena_alloc_array(arena, users.file_count + 1, sizeof *stamps);
    for (size_t i = 0; i < users.file_count; i++) {
        struct stat status = {0};
        int result = stat(arena_c(arena, users.files[i].path), &status);
        stamps[i] = arena_printf(
            arena, "%.*s %d %llu %lld.%09ld %lld", STR_ARG(users.files[i].path), result,
            (unsigned long long)status.st_ino, (long long)status.st_mtim.tv_sec,
            status.st_mtim.tv_nsec, (long long)status.st_size);
    }
    *out_count = users.file_count;
    return stamps;
}

/* ---- changing ---- */

static const struct gateway_users_file *choose(const struct gateway_users *users, struct str path)
{
    if (!path.len)
        return users->file_count == 1 ? &users->files[0] : NULL;
    for (size_t i = 0; i < users->file_count; i++)
        if (str_equal(users->files[i].path, path))
            return &users->files[i];
    return NULL;
}

static bool has_user(const struct gateway_users *users, struct str login)
{
    for (size_t i = 0; i < users->user_count; i++)
        if (str_equal_nocase(users->users[i].login, login))
            return true;
    return false;
}

static enum result change(const struct gateway_users_file *file,
                          const struct gateway_user_wish *wish,
                          enum gateway_user_answer *out_answer, struct arena *arena,
                          struct error *err)
{
    struct gateway_users_file copy = *file;
    struct gateway_users in_file = {0};
    bool found = true;
    read_file(&copy, arena, &in_file); /* one that is not there yet has no users */
    bool exists = has_user(&in_file, wish->login);
    *out_answer = exists == wish->create ? exists ? GATEWAY_USER_EXISTS : GATEWAY_USER_UNKNOWN
                                         : GATEWAY_USER_DONE;
    if (*out_answer != GATEWAY_USER_DONE)
        return OK;
    if (wish->dry_run)
        return wish->password.len
                   ? directory_users_check(wish->login, wish->password, wish->senders, err)
                   : OK;
    if (wish->password.len)
        return directory_users_set(file->path, wish->login, wish->password, wish->senders,
                                   wish->create, err);
    enum result result = directory_users_remove(file->path, wish->login, &found, err);
    if (result == OK && !found) /* somebody else was faster */
        *out_answer = GATEWAY_USER_UNKNOWN;
    return result;
}

enum result gateway_user_change(struct gateway *gateway, const struct gateway_user_wish *wish,
                                enum gateway_user_answer *out_answer, struct error *err)
{
    struct arena *arena = arena_new(0);
    struct gateway_users users = {0};
    enum result result = OK;
    find_files(gateway, arena, &users);
    const struct gateway_users_file *file = choose(&users, wish->file);
    if (!file)
        *out_answer = GATEWAY_USER_NO_FILE;
    else if (!file->writable)
        *out_answer = GATEWAY_USER_READ_ONLY;
    else
        result = change(file, wish, out_answer, arena, err);
    directory_files_changed(gateway->directories);
    arena_free(arena);
    return result;
}
