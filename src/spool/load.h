/* SPDX-License-Identifier: Apache-2.0 */
/* spool/load.h - segment files as bytes for recovery. */
#pragma once

#include "base/error.h"
#include "spool/recover.h"

struct spool_loaded_file {
    int fd;
    uint64_t file_size;
};
/* Segment files of a folder, ascending by id; `segments` and `files` run in parallel. */
struct spool_loader {
    int log_fd; /* the caller's */
    struct spool_recover_segment *segments;
    struct spool_loaded_file *files;
    size_t count;
    char *bytes; /* of the segment that is loaded; one at a time */
    size_t cap;
    bool was_whole; /* the last one was loaded to its end */
    /* Called when the disk does not give something, before it is asked again; `answers`: it gives
     * other pages. False: give up. NULL: it is asked once. */
    bool (*wait)(void *context, const struct error *failure, bool answers);
    void *wait_context;
    bool gave_up; /* what was loaded last is not what the disk holds */
};
enum result spool_loader_open(struct spool_loader *loader, int log_fd, bool writable,
                              struct error *err);
/* Closes the descriptors that are still in it. */
void spool_loader_done(struct spool_loader *loader);
/* A spool_recover_load with the loader as context. */
void spool_loader_load(void *context, struct spool_recover_segment *segment, bool load);
/* Pages that the disk does not give. */
struct spool_unread {
    uint64_t bytes;
    uint64_t begin; /* of the first one, in the file */
    uint64_t end;   /* of the last one */
    struct error failure;
};
/*
 * Ask again for what the disk did not give of `fd`? A disk in trouble may come back, and then all
 * of it is there: to go on without would call mail damaged that is not, and bring to life what a
 * tombstone there keeps dead. So nothing counts as lost while the disk gives nothing at all; what
 * it does not give five times in a row, though it gives other pages, does. `*tries` is 0 at first.
 */
bool spool_loader_ask_again(struct spool_loader *loader, int fd, const struct spool_unread *unread,
                            unsigned *tries);
/* As much as can be read; what cannot be becomes zeros, which no record is. */
void spool_read_all(int fd, char *out, uint64_t size, uint64_t offset,
                    struct spool_unread *out_unread);
/* The bytes of a part of one segment, as far as they can be read; free() them. */
struct str spool_loader_part(struct spool_loader *loader, uint64_t segment, uint64_t begin,
                             uint64_t end);
