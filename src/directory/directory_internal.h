/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/directory_internal.h - what the sources of a directory share: the two owners (of the
 * process, of a worker) and the health of backends.
 */
#pragma once

#include "base/map.h"
#include "directory/directory.h"
#include "fiber/lane.h"
#include "fiber/loop.h"
#include "state/breaker.h"

#include <stdatomic.h>

struct ldap_connection;

enum {
    BACKEND_LDAP_CONNECTIONS = 2, /* kept, and threads of its lane */
};

/*
 * A server by name, as all workers see it. Backends form a list that only grows (a name stays for
 * the life of the process), so that workers need no lock; every changing field is atomic.
 */
struct directory_backend {
    struct directory_backend *next;
    struct breaker lookups; /* apart: a password that makes the server hang up stops no mail */
    struct breaker logins;
    struct lane *lane; /* LDAP only */
    _Atomic(struct ldap_connection *) kept[BACKEND_LDAP_CONNECTIONS];
    atomic_uint preferred;       /* index of the URL that answered last */
    _Atomic int64_t denied_told; /* monotonic: when backend.denied was emitted last */
};

struct directory_shared {
    struct lane *files;  /* one thread: it owns `sources` */
    struct lane *crypts; /* password hashes */
    _Atomic(struct directory_backend *) backends;
    struct map sources;  /* of watched files; touched by the thread of lane `files` only */
    atomic_uint changes; /* of files, as far as they were noticed */
};

struct directory {
    const struct directory_stated *stated; /* set: it answers, and the rest is not used */
    struct directory_shared *shared;
    struct dns *dns;
    char *helo_name;
    struct map files; /* "kind:path" -> struct watched_file */
    struct map pools; /* server name -> struct callout_pool */
    struct scope scope;
    struct loop_timer reaper;
};

/* The backend of that name, made when it is asked for the first time. Any thread. */
struct directory_backend *directory_backend(struct directory_shared *shared, struct str name,
                                            bool ldap);

/* It refused us, not the recipient: told at most once a minute. */
void directory_backend_denied(struct directory_backend *backend, struct str reply);

/* Fill `out` with an outcome and a text of at most 1,000 bytes. */
void directory_answer_login(struct directory_answer *out, enum directory_login login,
                            struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void directory_answer_lookup(struct directory_answer *out, enum directory_lookup lookup,
                             struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "local@domain" into its parts at the last @; without one all is local part. */
void directory_split_address(struct str address, struct str *out_local, struct str *out_domain);

/* ---- callout_pool.c ---- */
void callout_pools_free(struct directory *directory) MAY_YIELD;
/* Close connections that nobody has used for a while. */
void callout_pools_reap(struct directory *directory) MAY_YIELD;
/* ---- watched_file.c ---- */
void watched_files_free(struct directory *directory);
void watched_sources_free(struct directory_shared *shared);
/* ---- ldap.c ---- */
/* NULL is allowed. Blocks shortly: not on a loop. */
void ldap_connection_free(struct ldap_connection *connection);
