/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/recover.h - what a set of segment files says: a pure function of their bytes.
 *
 * Never fails: whatever the bytes are, there is an answer. What was durable and does not verify is
 * in the list of damages; what was not durable is taken if its unit is whole, else dropped.
 */
#pragma once

#include "spool/index.h"

enum { SPOOL_TOTALS = 32 };

struct spool_recover_segment {
    uint64_t id;
    enum spool_segment_kind kind;
    struct str bytes; /* the file, perhaps without the zeros at its end; see spool_recover_load */
    /* answers */
    struct spool_segment *segment; /* in the index; the caller sets fd */
    uint64_t valid_end;            /* behind it is nothing that counts */
    uint64_t must_end;             /* all before it was on stable storage */
    uint64_t whole_end;            /* no gap and no unfinished unit before it */
    bool has_footer;
    bool cut_known; /* another segment's PREVIOUS record speaks of it */
    bool is_empty;  /* no record at all, and no other byte than zeros behind the header */
    bool header_is_bad;
    bool is_foreign; /* no header, no record, but bytes: not ours, or wholly damaged */
};

struct spool_damage {
    uint64_t segment;
    uint64_t begin;
    uint64_t end;
    bool named; /* entry and message are known; else zero */
    bool sure;  /* the name verified */
    struct mail_id entry;
    struct mail_id message;
    const char *why; /* static */
};

struct spool_recovered {
    int64_t totals[SPOOL_TOTALS];
    uint64_t next_unit;
    uint64_t next_sequence;
    uint64_t units;   /* that were applied */
    uint64_t dropped; /* unfinished units behind the last durable place */
    struct spool_damage *damages;
    size_t damage_count;
    size_t damage_cap;
};

/* Called before (load) and after a segment is walked, so that not all need be in memory at once.
 * NULL: `bytes` are there. Unreadable bytes are given as zeros. */
typedef void spool_recover_load(void *context, struct spool_recover_segment *segment, bool load);

/* `segments` ascend by id. Fills `index` (initialised, empty). */
void spool_recover(struct spool_recover_segment *segments, size_t count, spool_recover_load *load,
                   void *load_context, struct spool_index *index, struct spool_recovered *out);
void spool_recovered_done(struct spool_recovered *recovered);
