/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/spool.h - durable storage of the queue: an append-only segment log with group commit.
 *
 * Knows entries (an id, bytes that never change, a small state that does, and a share in a message
 * body), not what they mean. See FORMAT.md for the bytes and STATES.md for what each crash leaves.
 * One spool a process; every call may come from any worker's fiber.
 */
#pragma once

#include "base/arena.h"
#include "fiber/fiber.h"
#include "mail/body.h"
#include "mail/id.h"

struct spool;

struct spool_settings {
    struct str path;
    uint64_t segment_size;     /* 64M */
    uint64_t free_bytes_floor; /* 452 under it; default 256M or 5 % of a small file system */
    uint64_t free_inodes_floor;
    int64_t state_delay_ns;   /* lazily written state is synced within this; 50 ms */
    int64_t reclaim_age_ns;   /* a sparse log file this old is copied forward; 60 s */
    unsigned reclaim_below;   /* sparse: less than so many percent of it are needed; 25 */
    uint64_t load_later_over; /* so many bytes of log left: spool_open returns when mail can be
                                 taken, see spool_load; 0: never */
    int64_t read_again_ns;    /* what the disk does not give at a start is asked for again; 1 s */
    bool no_sync;             /* red controls of tests only; says so in an event */
};

/* What was found at start, one call per live entry, on the caller's thread. */
struct spool_found {
    struct mail_id entry;
    struct mail_id message;
    struct str meta;  /* borrowed */
    struct str state; /* borrowed; the last one written */
    uint64_t head_size;
    uint64_t body_start; /* of the entry's mail_content */
    uint64_t body_size;
};
typedef void spool_found_fn(void *context, const struct spool_found *found);
/* If it loads later: on a thread of the spool, which it may hold up; NULL at last: that was all. */

/* Totals kept as records in the log, restored at start: the balance of accepted mail. Keys are the
 * queue's; the spool adds `delta` to a counter in the same commit unit. */
enum { SPOOL_COUNTERS = 32 };

/* ---- life cycle ---- */

/*
 * Recover and open. Blocks; called once before the workers start. Damaged messages are set aside
 * in the folder `corrupt`, named in events. FAILED only when the folder cannot be used at all (or
 * is locked by another process).
 */
enum result spool_open(const struct spool_settings *settings, spool_found_fn *found,
                       void *found_context, struct spool **out_spool, struct error *err);
/* Begin to tell of what was found, if it is loading after spool_open; once. Nothing is removed or
 * copied forward before all is known, and spool_has and spool_ids tell only of what is. */
void spool_load(struct spool *spool);
bool spool_is_loading(const struct spool *spool);
/* Write and sync what waits, seal, stop the threads. Nobody may be inside a call. */
void spool_close(struct spool *spool);

/* ---- writing ---- */

/* A body that grows, in memory first, beyond 256K (64K while many grow) in a file of its own; for
 * messages of any size. FAILED with ERROR_LIMIT when space is low. Seal it before spool_commit; all
 * bodies must be released before spool_close. */
enum result spool_body_new(struct spool *spool, struct body **out_body,
                           struct error *err) MAY_YIELD;

enum spool_change_kind {
    SPOOL_ADD,    /* a new entry: meta, state, content */
    SPOOL_STATE,  /* its state is now `state` */
    SPOOL_REMOVE, /* it is done; its body goes when no entry shares it */
    SPOOL_COUNT,  /* counters[counter] += delta */
};
struct spool_change {
    enum spool_change_kind kind;
    struct mail_id entry;
    struct mail_id message;
    struct str meta;  /* at most 1M */
    struct str state; /* at most 4K */
    bool is_private;  /* ADD: its text may be replaced by one that is encrypted, and shall not stay
                         in a  file that waits to be used again */
    const struct mail_content *content; /* ADD; a memory body is written with the unit, or to a file
                                           if it is large, once for all entries that share it */
    unsigned counter;
    int64_t delta;
};

/*
 * One unit, all or nothing. OK: it is on stable storage. FAILED: it is not and never will be
 * (ERROR_LIMIT: no space; ERROR_TEMPORARY: the disk). Not cut short by deadlines or cancellation
 * once handed over: the wait is shielded.
 */
enum result spool_commit(struct spool *spool, const struct spool_change *changes, size_t count,
                         struct error *err) MAY_YIELD;
/* The same without waiting: durable with the next batch, at latest after state_delay_ns. Changes
 * of one entry keep their order. Cannot fail for lack of space (two spare segments). For STATE,
 * REMOVE and COUNT only. */
void spool_write(struct spool *spool, const struct spool_change *changes, size_t count);

/* ---- reading ---- */

/* Meta and content of an entry from disk (a lane reads); texts in `arena`; content->body is a new
 * reference. FAILED with ERROR_PERMANENT: unknown or damaged (set aside, named in an event). */
enum result spool_read(struct spool *spool, struct mail_id entry, struct arena *arena,
                       struct str *out_meta, struct mail_content *out_content,
                       struct error *err) MAY_YIELD;

/* ---- queries ---- */

/* Does the log know this entry as one that lives? For the queue's audit. */
bool spool_has(struct spool *spool, struct mail_id entry);
/* The same; tells what message it is of (0: its record cannot be read), which reads the disk. */
bool spool_find(struct spool *spool, struct mail_id entry, struct mail_id *out_message);
/*
 * Ids of entries that live, some at a time, for the same: `*cursor` is 0 at first. Returns how many
 * were put into `out`; 0: that was all. One that lives from the first call to the last is among
 * them, perhaps twice. `max` is at least SPOOL_IDS_MIN.
 */
enum { SPOOL_IDS_MIN = 256 };
size_t spool_ids(struct spool *spool, size_t *cursor, struct mail_id *out, size_t max);

/* Is there room to accept a message now? */
bool spool_has_room(const struct spool *spool);
int64_t spool_counter(const struct spool *spool, unsigned counter);
struct spool_stats {
    uint64_t units, syncs, bytes_written, entries, segments;
    uint64_t live_bytes, disk_bytes;
    uint64_t pooled;        /* files of log segments that wait to be used again */
    uint64_t reused;        /* segments that were made of such since the start */
    uint64_t pooled_bodies; /* the same of files of large bodies */
    uint64_t reused_bodies;
    uint64_t damaged;
};
struct spool_stats spool_stats(const struct spool *spool);
/* Independent walk over the files of a closed or running spool: `out` has what is there (it is
 * cleared before), and the problems are counted. Of one that runs, what seems wrong is looked at
 * again, and counts only if it still is. For `postern spool verify`. */
struct buf;
enum result spool_verify(struct str path, bool verbose, struct buf *out, size_t *out_problems,
                         struct error *err);

extern const struct option_table spool_options; /* `spool:` of the configuration */
