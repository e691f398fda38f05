/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/users.h - the users file: `login:hash[:sender,addresses]`, as a pure parser.
 *
 * Blank lines and lines that begin with # mean nothing. A hash that begins with ! or * is locked:
 * no password fits it. Logins compare without regard to the case of ASCII letters.
 */
#pragma once

#include "base/arena.h"

enum { USERS_LOGIN_MAX = 255, USERS_SENDERS_MAX = 100 };

enum users_line_kind { USERS_LINE_NOTHING, USERS_LINE_USER, USERS_LINE_BAD };

struct users_line {
    struct str login;
    struct str hash;
    struct str senders; /* the column as it stands, or empty */
    const char *why;    /* BAD: what is wrong; static */
};

/* `line` without its end; the parts are borrowed from it. */
enum users_line_kind users_parse_line(struct str line, struct users_line *out);

/* May it be a login: no colon, blank or control character, not empty, no # in front? */
bool users_login_is_valid(struct str login);
/* "a@b,@c": addresses or domains, at most USERS_SENDERS_MAX; empty is valid. */
bool users_senders_are_valid(struct str senders);
bool users_hash_is_locked(struct str hash);

struct user {
    struct str hash;
    struct str *senders;
    size_t sender_count;
};
struct users;

/* On the file's path only for messages. Wrong lines are told and left out. */
struct watched_table *users_parse(struct str path, struct str content);
/* NULL: no such user. Borrowed from the table. */
const struct user *users_find(const struct watched_table *table, struct str login);
/* A hash of the kind and cost that the file uses, to spend the same time on unknown users; empty
 * if the file has none. */
struct str users_dummy_hash(const struct watched_table *table);
