/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/stated.h - a directory that answers as it was told to, for tests of flows.
 *
 * It stands in for the one of a worker: flows ask it by the same functions, it asks nobody, never
 * suspends, and a source of which nothing was stated gives no answer.
 */
#pragma once

#include "directory/directory.h"

enum directory_stated_state { DIRECTORY_STATED_UP, DIRECTORY_STATED_DOWN, DIRECTORY_STATED_DENIES };

struct directory_stated_login {
    struct str login;
    struct str password;
    struct str *senders; /* addresses that this user may send as */
    size_t sender_count;
};

struct directory_stated_source {
    struct str name; /* of a server; of a file: its path, or the end of it */
    bool is_file;
    enum directory_stated_state state;
    const struct str *recipients; /* addresses, or "@domain": all of that domain */
    size_t recipient_count;
    const struct directory_stated_login *logins;
    size_t login_count;
};

struct directory_stated {
    const struct directory_stated_source *sources;
    size_t source_count;
};

/* Borrows `stated`. Free it with directory_stated_free(), not with directory_free(). */
struct directory *directory_stated_new(const struct directory_stated *stated);
void directory_stated_free(struct directory *directory);

/* ---- for the functions of directory.h; name: of the server, or the path ---- */

void directory_stated_login(const struct directory_stated *stated, struct str name, bool is_file,
                            struct str login, struct str password, struct arena *arena,
                            struct directory_answer *out);
void directory_stated_lookup(const struct directory_stated *stated, struct str name, bool is_file,
                             struct str address, struct arena *arena, struct directory_answer *out);
