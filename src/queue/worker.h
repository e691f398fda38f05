/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue/worker.h - inside the queue: the part of one worker, and its entries.
 *
 * An entry belongs to the worker that accepted it (found ones are dealt out by hash) and is touched
 * on that thread only. Ready entries stand in the site of their destination; runners (fibers that
 * hold a lease, see site.c) take them from there.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "fiber/cond.h"
#include "fiber/loop.h"
#include "queue/destination.h"
#include "queue/entry.h"
#include "queue/fair.h"
#include "queue/queue.h"
#include "queue/schedule.h"
#include "queue/slab.h"
#include "queue/steering.h"
#include "spool/spool.h"

#include <stdatomic.h>

enum {
    QUEUE_STATE_COUNT = QUEUE_CONTENT + 1, /* of entries; PAUSED is how operators see some */
    QUEUE_WORKERS_MAX = 256,
    QUEUE_STRAYS_MAX = 512, /* ids that are looked at, and told of, at once */
};

/* Content kept in memory, shared by the entries of one submission on one worker. */
struct queue_parcel {
    unsigned references;
    uint64_t charged; /* bytes counted against the budget */
    bool is_large;    /* its body is an open file */
    struct mail_content content;
    struct queue *queue;
};

/* Bytes that entries of a worker share: the tail of a record, what is common in its meta. */
struct queue_text {
    uint32_t next; /* in the table; numbers of the slab, as below */
    uint32_t references;
    uint32_t len : 31;
    bool is_model : 1; /* others may be told as what differs from it */
    char bytes[];
};

/* Bytes of one entry that are like a text: what is different (alike.h). */
struct queue_variant {
    uint32_t model; /* text */
    char differs[];
};

/*
 * One for every message that waits, so each byte counts; see bench/start.py. They lie in the
 * worker's slab, which leads to the worker, and name each other and their texts by numbers of it.
 * The site where it stands is that of its sender's queue (queue_fair_of).
 */
struct queue_entry {
    struct mail_id id;
    struct mail_id message;
    int64_t accepted_wall_ns;
    union { /* it waits in one place at a time; both begin with a link that may be empty */
        struct list in_content;       /* waits for a content run */
        struct queue_fair_item ready; /* in a site; its size is that of the message, always */
    };
    struct queue_parcel *parcel; /* NULL: read it from the spool */
    struct queue_record_fixed record;
    union {
        struct queue_due due;   /* while WAITING */
        int64_t ready_since_ns; /* while READY, and until the attempt begins */
    } __attribute__((packed, aligned(4)));
    uint32_t next;         /* in the table */
    uint32_t older, newer; /* by age */
    uint32_t tail;         /* of the record, as queue_tail_get says; 0: empty */
    uint32_t common;       /* text: of the meta, as split by queue_meta_split */
    uint32_t domain;       /* text: of its only recipient, or 0 */
    uint32_t pending;      /* recipients */
    uint32_t counted;      /* of them, in the gauge of `state` */
    uint32_t recipients : 20;
    uint32_t state : 4;    /* enum queue_state */
    uint32_t wish : 4;     /* 1 + enum queue_verb for when the attempt ends, or 0 */
    bool postponed : 1;    /* what befell it could not be written: not before its retry */
    uint32_t own_len : 20; /* of the part of the meta that stands behind the struct */
    bool started : 1;      /* is in the worker's tables */
    bool fresh : 1;        /* counts for back-pressure */
    bool quarantined : 1;  /* held in a quarantine, or for a reason that is no operator's */
    bool shelved : 1;      /* its meta names a quarantine: while it is held it lies there */
    bool content : 1;      /* a content run comes first */
    bool found : 1;        /* in the spool at the start, and not tried since */
    bool suspect : 1;      /* found, and was in work at two crashes */
    bool missing : 1;      /* from the spool; told already */
    bool backed_off : 1;   /* WAITING in a site for a probe; `due` is when it must be looked at, and
                              record.due_wall_ns when its retry, which waits, was due */
    char own[];
};

/* What was never tried: large messages hold up large ones only (submit.c). */
struct queue_fresh {
    uint64_t small;
    uint64_t large_bytes; /* of those over QUEUE_SMALL_MAX */
};
enum { QUEUE_SMALL_MAX = 256 * 1024 };

struct queue_site {
    struct queue_worker *worker;
    struct queue_destination *destination;
    struct queue_fair ready;
    struct queue_fresh fresh; /* of them, never tried */
    struct list in_moving;    /* while something went through not long ago */
    int64_t finished_ns;      /* the last */
    struct list idle;         /* runners that keep a connection */
    unsigned runners;
    int64_t max;                 /* leases, by the transport */
    unsigned claimed;            /* runners on their way to an entry */
    bool waiting;                /* the destination is backed off, and all that are ready know */
    bool refusing;               /* a fiber takes those of `over` */
    struct list over;            /* entries whose time ran out while they waited */
    int64_t flows_since_wall_ns; /* unless `waiting` */
    bool paused;                 /* by an operator */
    unsigned steered;            /* generation of the steering that `paused` and `slow` are of */
    struct option_rate rate;     /* of the transport */
    struct option_rate slow;     /* an operator's */
    int64_t limited_since_ns;    /* it waits for its rate; 0: no */
    int64_t limited_until_ns;
    struct error refusal;
    struct loop_timer again;
};

/* Entries by id, and texts by their bytes (table.c). */
struct queue_table {
    uint32_t *buckets;   /* numbers of the slab */
    size_t bucket_count; /* a power of two, or 0 */
    size_t count;
    uint32_t oldest, newest;
};
struct queue_texts {
    uint32_t *buckets;
    size_t bucket_count;
    size_t count;
};

/* Entries that the loading spool hands to a worker, some at a time (handover.c). */
struct queue_handover {
    struct post post;
    struct queue_worker *worker;
    struct queue_given *filling; /* the spool's thread */
    struct queue_given *handed;  /* the worker's while `busy` */
    size_t filling_count, handed_count;
    atomic_bool busy;
};

struct queue_worker {
    struct queue *queue;
    size_t index;
    struct loop *loop;
    struct dns *dns;
    struct scope scope;
    bool joined;
    bool stopping;
    struct queue_slab slab; /* of entries and texts */
    struct queue_table entries;
    struct queue_texts texts;
    struct map sites;  /* key -> site */
    bool age_is_mixed; /* they did not all come in the order of their age */
    struct queue_handover handover;
    struct queue_entry **found; /* in the spool at start; taken out one by one */
    size_t found_count, found_cap;
    struct queue_schedule schedule;
    struct loop_timer timer;
    struct list content_flows;
    unsigned content_running;
    uint64_t content_bytes; /* of the messages in work */
    unsigned idle_runners;
    size_t poison_next;
    struct loop_timer audit_timer;

    /* back-pressure */
    struct cond drained; /* small ones */
    struct cond drained_large;
    struct queue_fresh fresh; /* never tried, wherever they are */
    struct list moving;       /* sites that make progress; the one that stood longest first */
    struct queue_fresh moving_fresh;
    uint64_t finished; /* since window_start_ns */
    int64_t window_start_ns;
    double rate; /* messages a second */

    /* read by other threads */
    atomic_uint_least64_t gauge[QUEUE_STATE_COUNT]; /* recipients */
    atomic_uint_least64_t quarantined;
    atomic_uint_least64_t entry_count;
    atomic_uint_least64_t bytes;
    atomic_int_least64_t oldest_wall_ns; /* 0: none */
    atomic_bool reachable;               /* takes operators' requests */
};

/* What lies in one quarantine, on all workers. */
struct queue_shelf {
    struct str name;
    atomic_uint_least64_t entries, bytes;
};
enum { QUEUE_SHELVES_MAX = 256 }; /* the last one is for all others */

struct queue {
    struct spool *spool;
    struct spool_vault *vault;   /* NULL: what lies in quarantine is not encrypted */
    pthread_mutex_t shelving;    /* for new shelves */
    struct queue_shelf *shelves; /* QUEUE_SHELVES_MAX; they stay where they are */
    atomic_size_t shelf_count;
    struct state *shared;
    struct queue_handler handler;
    struct loop **loops;
    size_t worker_count;
    struct queue_worker *workers;
    struct queue_destinations *destinations;
    struct queue_steering *steering;
    pthread_mutex_t posting; /* a worker does not leave while an operator posts to it */
    atomic_uint_least64_t memory_used;
    atomic_uint_least64_t large_kept; /* parcels that hold a file open */
    uint64_t memory_budget;
    struct queue_poison_page *poison;
    struct mail_id strays[QUEUE_STRAYS_MAX]; /* in the spool only, told already; worker 0's */
    size_t stray_count;
    atomic_bool loading;           /* the spool tells of entries while the workers run */
    size_t joined;                 /* workers, under `posting` */
    atomic_int_least64_t unloaded; /* recipients that the totals know and no worker yet */
    struct mail_id *suspects;      /* held when found */
    size_t suspect_count;
    bool settles_found;                 /* constant once workers run */
    int64_t last_balance, told_balance; /* of the audit; worker 0 */
};

/* ---- tables (table.c) ---- */

static inline struct queue_worker *queue_worker_of(const struct queue_entry *entry)
{
    return queue_slab_owner(entry);
}
struct queue_entry *queue_worker_find(struct queue_worker *worker, struct mail_id id);
/* Its id must not be there. */
void queue_table_add(struct queue_entry *entry);
void queue_table_remove(struct queue_entry *entry);
/* In the order in which they came, which is that of their age unless they came while the spool
 * loaded; NULL: there is no other. */
struct queue_entry *queue_table_oldest(const struct queue_worker *worker);
struct queue_entry *queue_table_newer(const struct queue_entry *entry);
/* The number of the one copy of these bytes, with a reference; 0 for none. */
uint32_t queue_text_get(struct queue_worker *worker, struct str bytes);
/* 0 is allowed. */
void queue_text_unref(struct queue_worker *worker, uint32_t number);
struct str queue_text_str(const struct queue_worker *worker, uint32_t number);
/* The same for the tail of a record, with the words of an answer: of those that are alike only what
 * is different is kept for each. Its bytes are told in `arena`. */
uint32_t queue_tail_get(struct queue_worker *worker, struct str bytes);
void queue_tail_unref(struct queue_worker *worker, uint32_t tail);
struct str queue_tail_str(const struct queue_worker *worker, uint32_t tail, struct arena *arena);
/* All entries and texts must be gone. */
void queue_tables_done(struct queue_worker *worker);

/* ---- entries (entries.c) ---- */

/* Make an entry that is not yet in the queue; `content` NULL: it is in the spool only. */
struct queue_entry *queue_entry_new(struct queue_worker *worker, struct mail_id id,
                                    const struct queue_meta *meta,
                                    const struct queue_record *record, struct queue_parcel *parcel,
                                    uint64_t size);
/* Its record as it is kept on disk, in `arena`. */
struct str queue_entry_record(const struct queue_entry *entry, struct arena *arena);
/* Out of all tables, and free. */
void queue_entry_free(struct queue_entry *entry);
/* Into the tables, and to where its record says that it belongs. */
void queue_entry_start(struct queue_entry *entry);
/* As the record says: held, waiting, to a content run, or ready. */
void queue_entry_place(struct queue_entry *entry);
/* Take it out of whatever it waits in, for somebody who deals with it now: INFLIGHT. */
void queue_entry_seize(struct queue_entry *entry);
/* Its time has come: the next attempt, or the end of its life, or the delay notice. */
void queue_entry_due(struct queue_entry *entry);
void queue_entry_set_state(struct queue_entry *entry, enum queue_state state);
bool queue_entry_decode(const struct queue_entry *entry, struct arena *arena,
                        struct queue_meta *out_meta, struct queue_record *out_record);
/* Keep what the record says now. */
void queue_entry_store(struct queue_entry *entry, const struct queue_record *record);
/* Hold it from now on; written lazily. */
void queue_entry_hold(struct queue_entry *entry, enum mail_reason reason, struct arena *arena);
/* When its life would have begun had its clock never stood still (held, paused). */
int64_t queue_life_start_wall_ns(const struct queue *queue, const struct transport *transport,
                                 const struct queue_meta *meta, const struct queue_record *record);
/* Is somebody to see to all mail of its account? */
bool queue_entry_settles(const struct queue_entry *entry);
/* Is it mail of a user whose account is contained? */
bool queue_is_contained(const struct queue *queue, const struct queue_meta *meta);
/* Does an operator's pause keep it? */
bool queue_is_paused(const struct queue *queue, const struct transport *transport,
                     const struct queue_meta *meta);
/* It is no longer untried; wakes submitters that wait. */
void queue_entry_not_fresh(struct queue_entry *entry);
/* `sign` 1 or -1: the entry counts, or not any more. */
void queue_fresh_add(struct queue_fresh *fresh, const struct queue_fresh *more, int sign);
void queue_fresh_count(struct queue_fresh *fresh, const struct queue_entry *entry, int sign);
bool queue_reason_is_quarantine(enum mail_reason reason);

/* The copy of `content` (head too) that entries share; a reference. */
struct queue_parcel *queue_parcel_new(struct queue *queue, const struct mail_content *content);
void queue_parcel_unref(struct queue_parcel *parcel);

struct queue_worker *queue_worker_current(struct queue *queue);
void queue_worker_arm(struct queue_worker *worker);

/* As told by the spool: the entry, or NULL: it cannot be read, which was told. */
struct queue_entry *queue_entry_of_found(struct queue *queue, const struct spool_found *found);
/* Into the tables, held if it was in work at two crashes. */
void queue_entry_start_found(struct queue_entry *entry);
/* What queue_recover does while the workers run; NULL: that was all. On the spool's thread, waits
 * for workers. */
void queue_handover_give(struct queue *queue, const struct spool_found *found);
/* No thread uses it any more. */
void queue_handover_done(struct queue_worker *worker);

/* ---- the books (balance.c) ---- */

/* `difference` recipients are in the totals and not in the spool. After damage they are counted as
 * damaged. */
void queue_square_books(struct queue *queue, int64_t difference);
/* Compare this worker's entries with the spool; names each difference in an event, once. Returns
 * how many there are now. */
size_t queue_audit_worker(struct queue_worker *worker) MAY_YIELD;
/* The same for what the spool has and no worker; for one worker to ask. */
size_t queue_audit_strays(struct queue_worker *worker) MAY_YIELD;
/* Every minute from now on. */
void queue_audit_begin(struct queue_worker *worker);

/* ---- sites (site.c) ---- */

/* The entry may go now: to the site of its destination. */
void queue_site_add(struct queue_entry *entry, const struct transport *transport,
                    const struct queue_meta *meta);
/* It waits for a probe, and its time may have run out. */
void queue_site_due(struct queue_entry *entry);
/* The same: put what fell due meanwhile into its record. No harm when it does not. */
void queue_site_count(struct queue_entry *entry);
/* What keeps it waiting, for people: the error of the destination and when it is tried next. False:
 * nothing. */
bool queue_site_waits(const struct queue_entry *entry, struct str *out_error,
                      int64_t *out_probe_wall_ns);
/* Take it out of the site where it waits. */
void queue_site_remove(struct queue_entry *entry);
/* An operator wants a try now, back-off or not. */
void queue_site_forgive(struct queue_worker *worker, const struct transport *transport,
                        const struct queue_meta *meta);
/* An operator gave an order: see what it means for the sites of this worker. */
void queue_site_steer_all(struct queue_worker *worker);
void queue_site_look(void *context, struct queue_member *member);
/* How many that were never tried stand in sites that make progress. */
struct queue_fresh queue_site_moving_fresh(struct queue_worker *worker);
/* Count one less of these. */
void queue_site_not_fresh(struct queue_entry *entry);
/* Idle connections are closed, for a drain. */
void queue_site_let_go(struct queue_worker *worker);
/* All runners have ended: forget the sites; what was ready is in the spool. */
void queue_site_drop_all(struct queue_worker *worker);
/* "server" or domain, as shown. */
struct str queue_destination_name(const struct transport *transport, const struct queue_meta *meta);

/* Do the totals agree? Tells when they are off by the same at two audits. Worker 0. */
void queue_audit_totals(struct queue *queue) MAY_YIELD;

/* ---- the poison guard (poison.c) ---- */

/* Note the id in the page shared with the supervisor while the entry is worked on. */
_Atomic uint64_t *queue_poison_note(struct queue_worker *worker, struct mail_id id);
/* NULL is allowed. */
void queue_poison_clear(_Atomic uint64_t *slot);

/* ---- quarantines (quarantine.c, sealing.c) ---- */

/* The quarantine that its meta names, in `arena`; empty: none. */
struct str queue_entry_quarantine(const struct queue_entry *entry, struct arena *arena);
/* It is counted from now on (1), or no longer (-1), if it is shelved. */
void queue_shelf_count(const struct queue_entry *entry, int step);
void queue_shelves_free(struct queue *queue);
/*
 * What goes into a quarantine is sealed: content and label of such groups are replaced, and what
 * was made lives as long as the arena. FAILED: nothing may be stored.
 */
enum result queue_seal_groups(struct queue *queue, struct mail_id message,
                              struct queue_group *groups, size_t count, struct arena *arena,
                              struct error *err) MAY_YIELD;
/* Can the key be had of an entry with this meta? True for one that is not sealed. */
bool queue_can_unseal(const struct queue *queue, const struct queue_meta *meta);
/* The label as it was; empty texts where there is none. FAILED: its key is missing. */
struct queue_label {
    struct str subject, author;
};
enum result queue_label_read(const struct queue *queue, const struct queue_meta *meta,
                             struct arena *arena, struct queue_label *out, struct error *err);

/* ---- content runs (content_run.c) ---- */
void queue_content_kick(struct queue_worker *worker);

/* ---- whose turn it is (content_fair.c) ---- */

enum { QUEUE_CONTENT_RUNS = 256 }; /* at once, of a worker: most of them wait for scanners */
struct queue_content_flow {
    struct list link;
    struct list ready; /* entries, by in_content */
    unsigned running;
    uint64_t bytes; /* of their messages */
    size_t name_len;
    char name[];
};
struct queue_content_turn {
    struct queue_entry *entry;
    struct queue_content_flow *flow;
    uint64_t size;
};
/* The entry waits for a run of the flow `name`; taking it out of its list takes it back. */
void queue_content_wait(struct queue_worker *worker, struct queue_entry *entry, struct str name);
/* Is there an entry whose run may begin? */
bool queue_content_is_ready(const struct queue_worker *worker);
/* Take it; false: there is none. Later queue_content_ended() with the turn, when the entry may be
 * gone. */
bool queue_content_next(struct queue_worker *worker, struct queue_content_turn *out);
void queue_content_ended(struct queue_worker *worker, const struct queue_content_turn *turn);
void queue_content_flows_free(struct queue_worker *worker);
