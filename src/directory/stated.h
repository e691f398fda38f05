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

enum directory_stated_verdict { /* of a milter or a web hook */
                                DIRECTORY_STATED_ACCEPT,
                                DIRECTORY_STATED_REJECT,
                                DIRECTORY_STATED_DEFER,
                                DIRECTORY_STATED_HOLD,
                                DIRECTORY_STATED_QUARANTINE,
                                DIRECTORY_STATED_DISCARD
};

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
    struct str virus; /* of a virus scanner: what it finds; empty: nothing */
    double score;     /* of a spam scanner */
    bool too_big;     /* it takes no message of that size */
    enum directory_stated_verdict verdict;
};

struct directory_stated {
    const struct directory_stated_source *sources;
    size_t source_count;
};

/* Borrows `stated`. Free it with directory_stated_free(), not with directory_free(). */
struct directory *directory_stated_new(const struct directory_stated *stated);
void directory_stated_free(struct directory *directory);

/* ---- for scanners of messages ---- */

/* Does this directory answer as it was told to? Then scanners do so too. */
bool directory_is_stated(const struct directory *directory);
/* What was stated of the scanner `name`; NULL: it gives no answer. */
const struct directory_stated_source *directory_stated_scanner(const struct directory *directory,
                                                               struct str name);

/* ---- for the functions of directory.h; name: of the server, or the path ---- */

void directory_stated_login(const struct directory_stated *stated, struct str name, bool is_file,
                            struct str login, struct str password, struct arena *arena,
                            struct directory_answer *out);
void directory_stated_lookup(const struct directory_stated *stated, struct str name, bool is_file,
                             struct str address, struct arena *arena, struct directory_answer *out);
