/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/incidents_internal.h - shared by the incidents_*.c files only.
 */
#pragma once

#include "base/map.h"
#include "gateway/incidents.h"

#include <pthread.h>
#include <stdatomic.h>

/* Never changed in place: a change makes a new one, writes it, and only then puts it into force. */
struct incident_table {
    struct arena *arena;
    struct incident *items; /* in the order of their numbers */
    size_t count;
    size_t open, unsettled;
    struct map contained; /* user -> its open incident */
    struct map settling;  /* user -> one that is not done */
};

struct buf;
struct incident_recents;

struct incidents {
    pthread_mutex_t mutex;
    pthread_mutex_t changing; /* one change at a time; held while the file is written */
    char *path;               /* NULL: nothing is kept */
    struct incident_table table;
    atomic_size_t open, unsettled;
    struct incident_recents *recents;
};

struct incident_table incident_table_new(size_t cap);
void incident_table_done(struct incident_table *table);
/* A copy with texts of its own; there must be room. */
struct incident *incident_table_add(struct incident_table *table, const struct incident *incident);
void incident_copy(struct arena *arena, const struct incident *from, struct incident *to);

/* incidents_file.c */
enum result incident_table_save(const struct incident_table *table, const char *path,
                                struct error *err);
/* Trusts nothing. */
enum result incident_table_parse(struct str text, struct incident_table *out, struct error *err);
void incident_table_print(const struct incident_table *table, struct buf *out);
/* A file that is not there is an empty table. */
enum result incident_table_read(const char *path, struct incident_table *out, struct error *err);

/* incidents_recent.c */
struct incident_recents *incident_recents_new(void);
void incident_recents_free(struct incident_recents *recents);
/* Fill in what the user did; texts in `arena`. */
void incident_recents_tell(struct incident_recents *recents, struct str user, struct arena *arena,
                           struct incident *out);
