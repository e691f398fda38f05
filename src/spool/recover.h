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
    bool is_empty;  /* no record at all; behind the header only zeros, or what the file held before
                       it became this segment */
    bool was_used;  /* see spool_segment_header */
    int64_t created_wall_ns; /* of one that was */
    bool header_is_bad;
    uint64_t unread_end; /* set with `bytes`: end of the last page that the disk does not give, or
                            0: such pages were written, and are in `bytes` as zeros */
    bool is_gone;        /* set with `bytes`: it went away while it was read, which is no damage */
    bool is_foreign;     /* no header, no record, but bytes: not ours, or wholly damaged */
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

/* ---- in steps, so that mail can flow before all is read ---- */

struct spool_total_step;
struct spool_recovery {
    struct spool_recover_segment *segments;
    size_t count;
    spool_recover_load *load;
    void *load_context;
    /* Others use the index meanwhile: called around each use of it. NULL: nobody does. */
    void (*guard)(void *context, bool enter);
    void *guard_context;
    struct spool_index *index;
    struct spool_recovered *out;
    struct mail_id *applied; /* entries whose ENTRY record was applied; the caller takes them out */
    size_t applied_count;
    size_t applied_cap;
    /* the newest record with all totals, and the steps after it */
    bool has_totals;
    bool totals_were_newer; /* found in a newer segment: steps from here on are older */
    uint64_t totals_unit;
    struct spool_total_step *steps;
    size_t step_count;
    size_t step_cap;
    size_t cold_left; /* segments[0 .. cold_left - 1] may have cold ones that were not walked */
    size_t main_left;
};
/* `segments` ascend by id, and come into `index` (initialised, empty). Set the guard afterwards. */
void spool_recover_begin(struct spool_recovery *recovery, struct spool_recover_segment *segments,
                         size_t count, spool_recover_load *load, void *load_context,
                         struct spool_index *index, struct spool_recovered *out);
/* The newest main segments: afterwards `out` has totals and numbers, the segments that were open at
 * the end have their limits. */
void spool_recover_head(struct spool_recovery *recovery);
/* Was it walked by spool_recover_head? */
bool spool_recover_in_head(const struct spool_recovery *recovery, size_t segment);
/*
 * One more: all cold ones, then the main ones from the newest to the oldest. Returns it, or NULL:
 * all were walked. Once all cold ones were, what is known of an entry whose home is a main segment
 * that was walked is final (FORMAT.md says why); of others at the end.
 */
struct spool_recover_segment *spool_recover_next(struct spool_recovery *recovery);
/* Takes the lists down; the index is to be finished by the caller. */
void spool_recover_end(struct spool_recovery *recovery);

/* All at once. `segments` ascend by id. Fills `index` (initialised, empty). */
void spool_recover(struct spool_recover_segment *segments, size_t count, spool_recover_load *load,
                   void *load_context, struct spool_index *index, struct spool_recovered *out);
void spool_recovered_done(struct spool_recovered *recovered);
