/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/users.h - the users files of the configuration in force, for administration.
 *
 * Reading is allowed of every file that a login may be looked up in. Changed are only those that
 * lie under the spool's folder, the one place where the working process may write
 * (decisions/0021): the others belong to whoever edits them. All of it blocks: no thread of a loop.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct gateway;

struct gateway_user {
    struct str login, file;
    struct str senders; /* the column, or empty */
};
struct gateway_users_file {
    struct str path;
    bool writable;      /* by this gateway */
    struct str problem; /* why it could not be read; or empty */
};
struct gateway_users {
    struct gateway_users_file *files;
    size_t file_count;
    struct gateway_user *users;
    size_t user_count;
};
/* In `arena`; never a hash. */
void gateway_users(struct gateway *gateway, struct arena *arena, struct gateway_users *out);

enum gateway_user_answer {
    GATEWAY_USER_DONE,
    GATEWAY_USER_NO_FILE,   /* the configuration names no such file, or several and none was said */
    GATEWAY_USER_READ_ONLY, /* it does not lie under the spool's folder */
    GATEWAY_USER_EXISTS,
    GATEWAY_USER_UNKNOWN,
};
struct gateway_user_wish {
    struct str file; /* empty: the only one */
    struct str login, senders;
    struct str password; /* empty: remove the user */
    bool create;         /* he must be new; else he must be there */
    bool dry_run;        /* say what would come of it, and change nothing */
};
/* What changes with any change of a file, a text for each; in `arena`. */
struct str *gateway_users_stamps(struct gateway *gateway, struct arena *arena, size_t *out_count);
/* FAILED: a login, password or list of senders that is none (ERROR_PERMANENT), or the file cannot
 * be written now. The words of `err` hold no secret. */
enum result gateway_user_change(struct gateway *gateway, const struct gateway_user_wish *wish,
                                enum gateway_user_answer *out_answer, struct error *err);
