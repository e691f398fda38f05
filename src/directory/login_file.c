/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/login_file.c - is this password right, by the users file.
 *
 * The hash is computed on a lane of its own threads, and for unknown or locked users too, so that
 * the time of the answer does not tell which logins exist.
 */
#include "base/memory.h"
#include "crypto/password.h"
#include "directory/directory_internal.h"
#include "directory/users.h"
#include "directory/watched_file.h"
#include "directory/stated.h"

#include <stdlib.h>
#include <string.h>

enum { PASSWORD_MAX = 511 }; /* of crypt(5) */

static const int64_t CRYPT_PATIENCE_NS = 2 * NS_PER_S;

static const struct watched_kind users_kind = {.name = "users", .parse = users_parse};

struct crypt_job {
    struct lane_job job;
    char password[PASSWORD_MAX + 1];
    size_t password_length;
    char hash[PASSWORD_HASH_SIZE];
    size_t hash_length;
    bool fits;
    enum result result;
    struct error error;
};

static void crypt_work(struct lane_job *job)
{
    struct crypt_job *crypt = CONTAINER(job, struct crypt_job, job);
    crypt->result =
        password_verify(str_of(crypt->password, crypt->password_length),
                        str_of(crypt->hash, crypt->hash_length), &crypt->fits, &crypt->error);
}

static void crypt_release(struct lane_job *job)
{
    struct crypt_job *crypt = CONTAINER(job, struct crypt_job, job);
    memory_wipe(crypt, sizeof *crypt);
    free(crypt);
}

/* FAILED: no answer (too busy, too slow, not a hash). */
static enum result verify(struct directory *directory, struct str password, struct str hash,
                          bool *out_fits, struct error *err) MAY_YIELD
{
    if (hash.len >= PASSWORD_HASH_SIZE)
        return fail(err, ERROR_PERMANENT, "the hash in the file is too long");
    struct crypt_job *crypt = NEW(struct crypt_job);
    crypt->job = (struct lane_job){.work = crypt_work, .release = crypt_release};
    memcpy(crypt->password, password.ptr, password.len);
    crypt->password_length = password.len;
    memcpy(crypt->hash, hash.ptr, hash.len);
    crypt->hash_length = hash.len;

    struct scope scope;
    scope_open(&scope, clock_deadline(CRYPT_PATIENCE_NS));
    enum result result = lane_run(directory->shared->crypts, &crypt->job, err);
    scope_close(&scope);
    if (result != OK)
        return FAILED; /* the lane wipes and frees it */
    result = crypt->result;
    if (result == OK)
        *out_fits = crypt->fits;
    else if (err)
        *err = crypt->error;
    crypt_release(&crypt->job);
    return result;
}

static void copy_senders(const struct user *user, struct arena *arena, struct directory_answer *out)
{
    if (!user->sender_count)
        return;
    out->senders = arena_alloc_array(arena, user->sender_count, sizeof(struct str));
    for (size_t i = 0; i < user->sender_count; i++)
        out->senders[i] = arena_str(arena, user->senders[i]);
    out->sender_count = user->sender_count;
}

static void answer(struct directory *directory, const struct watched_table *table, struct str login,
                   struct str password, struct arena *arena, struct directory_answer *out) MAY_YIELD
{
    const struct user *user = users_find(table, login);
    bool usable = user && !users_hash_is_locked(user->hash);
    struct str hash = usable ? user->hash : users_dummy_hash(table);
    bool fits = false;
    struct error error;
    if (hash.len && verify(directory, password, hash, &fits, &error) != OK) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "password check: %s", error.text);
        return;
    }
    if (!user)
        directory_answer_login(out, DIRECTORY_UNKNOWN, arena, "no such login in the file");
    else if (!usable)
        directory_answer_login(out, DIRECTORY_NO, arena, "the login is locked");
    else if (!fits)
        directory_answer_login(out, DIRECTORY_NO, arena, "the password does not fit");
    else
        directory_answer_login(out, DIRECTORY_YES, arena, "the password fits");
    if (user && usable && fits)
        copy_senders(user, arena, out);
}

void directory_login_file(struct directory *directory, struct str path, struct str login,
                          struct str password, struct arena *arena, struct directory_answer *out)
{
    if (directory->stated) {
        directory_stated_login(directory->stated, path, /* is_file= */ true, login, password, arena,
                               out);
        return;
    }
    struct watched_table *table;
    struct error error;
    *out = (struct directory_answer){.reply = {.text = STR_EMPTY}, .detail = STR_EMPTY};
    if (!password.len || password.len > PASSWORD_MAX || str_has_nul(password) ||
        str_has_nul(login)) {
        directory_answer_login(out, DIRECTORY_NO, arena, "not a password that anybody can have");
        return;
    }
    if (watched_file_get(directory, &users_kind, path, &table, &error) != OK) {
        directory_answer_login(out, DIRECTORY_LOGIN_ERROR, arena, "%s", error.text);
        return;
    }
    answer(directory, table, login, password, arena, out);
    watched_table_unref(table);
}
