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
    bool has_read;  /* something of the log could be read */
    bool has_failed;
    struct error failure; /* of the first call that failed */
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
    uint64_t end; /* of the last one, in the file */
    struct error failure;
};
/* As much as can be read; what cannot be becomes zeros, which no record is. */
void spool_read_all(int fd, char *out, uint64_t size, uint64_t offset,
                    struct spool_unread *out_unread);
/* The bytes of a part of one segment, as far as they can be read; free() them. */
struct str spool_loader_part(struct spool_loader *loader, uint64_t segment, uint64_t begin,
                             uint64_t end);
