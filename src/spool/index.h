/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/index.h - what lives in the log and where: entries, segments, large bodies, tombstones.
 *
 * Filled the same way by recovery and by the running spool: each durable record is applied once.
 * Applying is order-free (a state wins by its sequence, a tombstone always), so recovery may walk
 * the segments in any order. Has no lock of its own; about 70 bytes an entry.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "spool/segment.h"

#include <stdatomic.h>

/* An ENTRY record whose entry is removed, by a tombstone in segment `tomb`: that one must stay
 * as long as this record's segment does. */
struct spool_grave {
    struct mail_id entry;
    uint64_t tomb;
};

struct spool_segment {
    struct list link; /* in index->segments, ascending */
    uint64_t id;
    uint32_t slot; /* its number in the index, from 1 */
    enum spool_segment_kind kind;
    int fd;                /* -1 in tests of recovery */
    atomic_int references; /* the index holds one, readers others */
    uint64_t end;          /* of what is valid */
    uint64_t disk_bytes;
    bool sealed;        /* nothing will be written any more */
    bool was_used;      /* see spool_segment_header */
    bool reusable;      /* once it is dead its file may become another segment */
    bool is_private;    /* holds text that may not stay in a file for longer than it must */
    bool is_freed;      /* its file has the name of one in the pool */
    bool was_cut;       /* has no footer: a PREVIOUS record elsewhere says how far it counts */
    uint64_t cuts_from; /* its PREVIOUS records do so for segments from this on, or 0 */
    int64_t sealed_ns;  /* monotonic time; 0: before this start */
    bool keep;          /* cannot be copied forward */
    bool stays;         /* not removed either: see index->is_partial; or its name may come back */
    uint64_t live_entries; /* whose ENTRY is here */
    uint64_t live_states;  /* of entries whose ENTRY is elsewhere */
    uint64_t live_bytes;
    uint64_t tombs_needed; /* graves elsewhere whose tombstone is here */
    struct spool_grave *graves;
    size_t grave_count;
    size_t grave_cap;
};

/* A body in a file of its own; lives while entries or open bodies need it. */
struct spool_bulk {
    uint64_t id;
    uint64_t size;
    uint64_t entries;
    uint64_t holders;
    bool is_new;      /* its file was written by this process */
    bool is_plain;    /* an entry was committed with it whose text may lie about for a while */
    bool is_private;  /* or one whose text may not */
    struct list link; /* in index->dead_bulks once nobody needs it */
};

/*
 * One for every message that waits, so each byte counts. They lie in blocks without anything
 * between them, and name each other and their segments by 32 bits. What the record on disk says as
 * well (the message, the lengths of its parts) is not repeated here.
 */
struct spool_entry {
    uint32_t next;       /* number of the next in the bucket, or 0 */
    uint32_t home;       /* slot of its segment; 0: only its state or tombstone was seen so far */
    uint32_t state_home; /* slot; 0: no state seen */
    uint32_t other; /* slot of an older ENTRY record of it, or 0; once removed, of its tombstone */
    uint32_t place; /* of its ENTRY record, in units of SPOOL_RECORD_ALIGN */
    uint32_t state_place; /* of the STATE or ENTRY record that holds its state */
    uint32_t length;      /* of the payload of the ENTRY record */
    uint16_t state_len;
    bool in_bulk : 1; /* which of the union it is */
    bool damaged : 1; /* set aside already */
    bool removed : 1; /* while recovering */
    union {
        uint64_t bulk; /* id of the file of the body, which has its size */
        struct {
            uint32_t body_place; /* of its BODY record in `home`; 0: none */
            uint32_t body_size;
        };
    };
    uint64_t state_sequence;
    struct mail_id id;
};

struct spool_index {
    struct list segments;
    struct spool_segment **slots; /* by slot; NULL: gone. A slot is never used again */
    uint32_t slot_count;
    uint32_t slot_cap;
    struct spool_entry **blocks; /* of entries, by number; they stay where they are */
    uint32_t block_count;
    uint32_t block_cap;
    uint32_t unused;   /* first of those that were given back, or 0 */
    uint32_t *buckets; /* numbers */
    size_t bucket_count;
    size_t count; /* entries, while recovering also those removed */
    struct map bulks;
    struct list dead_bulks;
    uint64_t totals_from; /* the newest segment in which all totals stand durably */
    bool recovering;      /* records may come before what they speak of */
    bool is_partial;      /* the disk did not give all of the log: nobody knows what of that which
                             was here at the start is needed */
};

void spool_index_init(struct spool_index *index);
void spool_index_done(struct spool_index *index);

/* ---- segments ---- */

struct spool_segment *spool_index_add_segment(struct spool_index *index, uint64_t id,
                                              enum spool_segment_kind kind, int fd);
struct spool_segment *spool_index_segment(const struct spool_index *index, uint64_t id);
/* Take it out; its graves let go of their tombstones. Nothing live may be in it. */
void spool_index_drop_segment(struct spool_index *index, struct spool_segment *segment);
struct spool_segment *spool_segment_ref(struct spool_segment *segment);
/* The last one closes the file. */
void spool_segment_unref(struct spool_segment *segment);
/* Nothing in it is needed, neither mail nor tombstones nor totals. Nobody finds it any more, but
 * readers that have a reference may still read. */
bool spool_segment_is_dead(const struct spool_index *index, const struct spool_segment *segment);

/* ---- applying records ---- */

struct spool_place {
    struct spool_segment *segment;
    uint64_t offset; /* of the record */
    uint64_t unit;
};
void spool_index_apply_entry(struct spool_index *index, struct spool_place place,
                             const struct spool_entry_record *record, uint64_t body_offset);
void spool_index_apply_state(struct spool_index *index, struct spool_place place,
                             struct mail_id entry, uint64_t sequence, size_t state_len);
void spool_index_apply_remove(struct spool_index *index, struct spool_place place,
                              struct mail_id entry);
/* A record was copied to another segment. */
struct spool_copy {
    struct mail_id entry;
    struct spool_segment *from;
    uint64_t from_offset;
    struct spool_segment *to;
    uint64_t to_offset;
    uint64_t body_offset;    /* of the BODY record there, or 0 */
    uint64_t state_sequence; /* of the state in the copy */
    uint32_t length;         /* of the payload of the copy of an ENTRY record */
};
/* The copy of an ENTRY record is durable: the entry lives there. If it was removed meanwhile, its
 * copy lies in a grave. */
void spool_index_move_entry(struct spool_index *index, const struct spool_copy *copy);
/* The copy may or may not have reached the disk: the tombstone to come must outlive it too. */
void spool_index_suspect_copy(struct spool_index *index, const struct spool_copy *copy);
void spool_index_move_state(struct spool_index *index, const struct spool_copy *copy);
/* All tombstones in `from` that are needed were copied to `to`. */
void spool_index_move_tombs(struct spool_index *index, struct spool_segment *from,
                            struct spool_segment *to);
/* What is here now stays for the next start: files of segments and of large bodies. */
void spool_index_keep_all(struct spool_index *index);
/* After the last record: forget what has no ENTRY or is removed. */
void spool_index_finish(struct spool_index *index);
/* The same bit by bit; `*cursor` is 0 at first. Returns false when it is done. */
bool spool_index_finish_some(struct spool_index *index, size_t *cursor);

/* ---- queries ---- */

struct spool_entry *spool_index_find(const struct spool_index *index, struct mail_id id);
/* Walk all: NULL first; NULL at the end. */
struct spool_entry *spool_index_next(const struct spool_index *index, struct spool_entry *entry);
/* See spool_ids(). A table that grew meanwhile is no trouble: what lay in a place lies there or
 * further on. */
size_t spool_index_ids(const struct spool_index *index, size_t *cursor, struct mail_id *out,
                       size_t max);
/* The segment of its ENTRY record, of its state; NULL: none was seen. */
struct spool_segment *spool_entry_home(const struct spool_index *index,
                                       const struct spool_entry *entry);
struct spool_segment *spool_entry_state_home(const struct spool_index *index,
                                             const struct spool_entry *entry);
/* Segment of an older ENTRY record of it, if that is still there. */
struct spool_segment *spool_entry_other(const struct spool_index *index,
                                        const struct spool_entry *entry);
/* The message that it is of, as its record says: read from the disk, and a name only, for it is not
 * verified. False: it cannot be read. */
bool spool_entry_message(const struct spool_segment *home, const struct spool_entry *entry,
                         struct mail_id *out);
/* While recovering there are others: those removed, and those of whom only a state was seen. */
static inline bool spool_entry_lives(const struct spool_entry *entry)
{
    return entry->home && !entry->removed;
}
static inline uint64_t spool_entry_offset(const struct spool_entry *entry)
{
    return (uint64_t)entry->place * SPOOL_RECORD_ALIGN;
}
static inline uint64_t spool_entry_state_offset(const struct spool_entry *entry)
{
    return (uint64_t)entry->state_place * SPOOL_RECORD_ALIGN;
}
/* 0: none in the log. */
static inline uint64_t spool_entry_body_offset(const struct spool_entry *entry)
{
    return entry->in_bulk ? 0 : (uint64_t)entry->body_place * SPOOL_RECORD_ALIGN;
}
/* Id of the file of its body, or 0. */
static inline uint64_t spool_entry_bulk(const struct spool_entry *entry)
{
    return entry->in_bulk ? entry->bulk : 0;
}
/* Bytes of the whole body, wherever it is. */
uint64_t spool_entry_body_size(const struct spool_index *index, const struct spool_entry *entry);

/* ---- large bodies ---- */

struct spool_bulk *spool_index_bulk(const struct spool_index *index, uint64_t id);
struct spool_bulk *spool_index_add_bulk(struct spool_index *index, uint64_t id);
void spool_index_hold_bulk(struct spool_index *index, struct spool_bulk *bulk);
/* It dies when nobody needs it any more: neither while recovering nor in a partial index does one
 * that was here at the start, for what was not read may name it, too. */
void spool_index_let_go_bulk(struct spool_index *index, struct spool_bulk *bulk);
