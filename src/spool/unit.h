/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/unit.h - a commit unit on its way to the log: encoded, all but its place.
 *
 * The caller's thread encodes and computes the CRCs of payloads; the writer gives numbers and
 * places, and the kernel copies bodies straight from the caller's memory.
 */
#pragma once

#include "fiber/loop.h"
#include "spool/record.h"
#include "spool/spool.h"

#include <sys/uio.h>

struct spool_unit_record {
    struct spool_record record;
    uint64_t offset;              /* within the unit */
    unsigned char *header;        /* to be filled by the writer */
    const unsigned char *payload; /* its fixed part; NULL for bodies */
};

struct spool_unit {
    struct spool_unit *next;
    /* how to answer: a fiber, a thread that waits on the spool's condition, or (lazy) nobody */
    struct post post;
    struct loop *loop;
    struct fiber *fiber;
    bool done;
    bool is_lazy;
    bool is_internal; /* of the spool itself: the tombstones in it are copies */
    bool brings_mail;
    bool is_private; /* see spool_change */
    enum result result;
    struct error error;

    uint64_t bytes;
    uint64_t place;                    /* offset in the segment; the writer's */
    struct spool_unit_record *records; /* behind the unit, as is the memory of */
    size_t record_count;               /* headers, fixed parts and small texts */
    struct iovec *pieces;
    size_t piece_count;
    struct iovec few[4]; /* pieces of most units */
    char *body_bytes;    /* of bodies that do not lie in memory */
};

/*
 * Encode; texts and memory bodies are borrowed until the unit is answered, unless `copy_all`.
 * `bulk_of` tells the file of a large body of ours, or 0. FAILED: a body could not be read, or the
 * unit is too large.
 */
enum result spool_unit_new(const struct spool_change *changes, size_t count,
                           uint64_t (*bulk_of)(const struct body *body),
                           struct spool_unit **out_unit, struct error *err) MAY_YIELD;
/* Only STATE, REMOVE and COUNT; nothing is borrowed; does not suspend. */
struct spool_unit *spool_unit_lazy(const struct spool_change *changes, size_t count);
/* One record with this payload, copied. */
struct spool_unit *spool_unit_raw(enum spool_record_type type, struct str payload);
void spool_unit_free(struct spool_unit *unit);
