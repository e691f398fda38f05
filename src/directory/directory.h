/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/directory.h - does this recipient exist, is this password right?
 *
 * One function per source; sources are mail servers (callout), files and LDAP. The answers are the
 * outcomes of the blocks; an answer that cannot be had is the outcome `error` with a text, never
 * "no" and never a FAILED that loses the reason.
 */
#pragma once

#include "base/arena.h"
#include "fiber/fiber.h"
#include "mail/reply.h"
#include "net/server.h"

struct dns;
struct lane;
struct state;
struct directory; /* per worker: kept connections, lanes, files */

enum directory_login { DIRECTORY_YES, DIRECTORY_NO, DIRECTORY_UNKNOWN, DIRECTORY_LOGIN_ERROR };
enum directory_lookup { DIRECTORY_FOUND, DIRECTORY_MISSING, DIRECTORY_DENIED, DIRECTORY_ERROR };

struct directory_answer {
    union {
        enum directory_login login;
        enum directory_lookup lookup;
    };
    bool hung_up; /* a login error: the server ended the conversation when it had the password */
    struct mail_reply reply; /* the backend's words, if it spoke SMTP; else code 0 */
    struct str detail;       /* for the trace; never a secret */
    struct str *senders;     /* addresses that this user may send as (file, ldap); in arena */
    size_t sender_count;
};

/* Shared by all workers: file lane, crypt lane, a lane a LDAP server, watched files. */
struct directory_shared;
struct directory_shared *directory_shared_new(void);
void directory_shared_free(struct directory_shared *shared);
/* A file that logins or recipients are looked up in was written: what is asked from now on sees it.
 * Any thread. */
void directory_files_changed(struct directory_shared *shared);

struct directory *directory_new(struct directory_shared *shared, struct dns *dns,
                                struct str helo_name);
/* On the worker's thread, inside a fiber: closes kept connections. */
void directory_free(struct directory *directory) MAY_YIELD;

/* ---- logins. An empty password is DIRECTORY_NO without asking. Deadlines: the server's timeout
 * and the fiber's. ---- */

void directory_login_smtp(struct directory *directory, const struct server *server,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out) MAY_YIELD;
void directory_login_file(struct directory *directory, struct str path, struct str login,
                          struct str password, struct arena *arena,
                          struct directory_answer *out) MAY_YIELD;
struct directory_ldap_query {
    const struct server *server;
    struct str base_dn; /* empty: the server's */
    struct str filter;  /* with {user} {address} {local} {domain} */
    struct str bind_dn; /* direct bind "uid={user},…"; empty: search, then bind */
    struct str senders; /* attribute with sender addresses, or empty */
};
void directory_login_ldap(struct directory *directory, const struct directory_ldap_query *query,
                          struct str login, struct str password, struct arena *arena,
                          struct directory_answer *out) MAY_YIELD;

/* ---- recipients; `address` is local@domain ---- */

void directory_lookup_smtp(struct directory *directory, const struct server *server,
                           struct str address, bool smtputf8, struct arena *arena,
                           struct directory_answer *out) MAY_YIELD;
void directory_lookup_file(struct directory *directory, struct str path, struct str address,
                           struct arena *arena, struct directory_answer *out) MAY_YIELD;
void directory_lookup_ldap(struct directory *directory, const struct directory_ldap_query *query,
                           struct str address, struct arena *arena,
                           struct directory_answer *out) MAY_YIELD;

/* ---- the users file, for `postern user …` (blocking; not on a loop) ---- */

/* FAILED says why these are no login, no password or no list of senders. */
enum result directory_users_check(struct str login, struct str password, struct str senders,
                                  struct error *err);
/* Add a user (`create`; the file is made if it is missing, mode 0640) or change one's password. It
 * is FAILED when the user exists (does not exist). Empty `senders` leave the column as it is.
 * Other lines, owner and mode stay. */
enum result directory_users_set(struct str path, struct str login, struct str password,
                                struct str senders, bool create, struct error *err);
enum result directory_users_remove(struct str path, struct str login, bool *out_found,
                                   struct error *err);
struct buf;
/* Append a line a user: the login and, behind a tab, the sender addresses if there are any. */
enum result directory_users_list(struct str path, struct buf *out, struct error *err);
