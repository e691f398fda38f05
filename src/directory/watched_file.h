/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory/watched_file.h - a file that is parsed into an immutable table and read again when it
 * changed.
 *
 * Reading happens on a lane of one thread; workers hold references to the finished table and look
 * at the file at most once a second. A file that cannot be read is an error, never an empty table.
 */
#pragma once

#include "directory/directory_internal.h"

/* Base of every table; immutable once parsed, shared by threads. */
struct watched_table {
    atomic_int references;
    void (*release)(struct watched_table *table);
};
void watched_table_unref(struct watched_table *table); /* NULL is allowed */

struct watched_kind {
    const char *name;
    /* On the lane's thread. Lines that are wrong are told by watched_bad_line() and left out. */
    struct watched_table *(*parse)(struct str path, struct str content);
};

/* The table of `path` as the file is now, or was within the last second. The caller drops the
 * reference. FAILED: it cannot be read. */
enum result watched_file_get(struct directory *directory, const struct watched_kind *kind,
                             struct str path, struct watched_table **out_table,
                             struct error *err) MAY_YIELD;

/* Tell the administrator about a line (1 …); counts in *bad_lines, quiet after the tenth. */
void watched_bad_line(struct str path, size_t line, const char *why, size_t *bad_lines);
