/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spool/internal.h - what the files of the spool share. See spool.h for the contract, FORMAT.md for
 * the bytes, STATES.md for what each crash leaves.
 *
 * Threads: callers (fibers of workers) encode units and wait; the writer gives them places in the
 * log and writes; the syncer (of small batches the writer himself) makes them durable, applies them
 * to the index and answers; upkeep makes segments ahead, watches the space, reclaims. Two locks:
 * `lock` for what the threads hand each other, `index_lock` for the index; the latter is taken last
 * and held for memory work only.
 */
#pragma once

#include "fiber/lane.h"
#include "spool/index.h"
#include "spool/recover.h"
#include "spool/unit.h"

#include <pthread.h>

enum {
    SPOOL_BATCH_MAX = 8 * 1024 * 1024,     /* bytes of one batch, unless one unit is larger */
    SPOOL_AHEAD = 1024 * 1024,             /* so much waits: write it while a sync runs */
    SPOOL_UNSYNCED_MAX = 32 * 1024 * 1024, /* written and not synced */
    SPOOL_CUTS = 16,
    SPOOL_RESERVE = 2,             /* segments that only state records and copies may begin */
    SPOOL_INLINE_MAX = 256 * 1024, /* larger bodies have a file of their own */
    SPOOL_CHUNK = 64 * 1024,       /* of such a file */
    SPOOL_BODY_BUDGET = 64 * 1024 * 1024, /* memory of bodies that grow, beyond 64K each */
    SPOOL_READ_WHOLE = 64 * 1024,         /* smaller stored bodies are read into memory at once */
    SPOOL_POOL = 4,                       /* files kept to become segments */
    SPOOL_USED_BODIES = 64,               /* and large bodies */
    SPOOL_PAGE = 4096,
    SPOOL_LEAVING = 16, /* files without a name that go piece by piece */
};

struct spool_unit_queue {
    struct spool_unit *first;
    struct spool_unit *last;
    uint64_t bytes;
};
void spool_queue_push(struct spool_unit_queue *queue, struct spool_unit *unit);
struct spool_unit *spool_queue_shift(struct spool_unit_queue *queue);
/* `front` goes before what `queue` holds; it is empty afterwards. */
void spool_queue_put_back(struct spool_unit_queue *queue, struct spool_unit_queue *front);

/* A file of a large body that is done, under the id of the body that it is for. */
struct spool_used_body {
    uint64_t id;
    uint64_t size;
    int64_t since_ns; /* monotonic time */
};
struct spool_used_bodies {
    struct spool_used_body files[SPOOL_USED_BODIES]; /* the oldest first */
    unsigned count;
    uint64_t bytes;
};

struct spool {
    struct spool_settings settings; /* path is our own copy */
    uint64_t segment_size;
    int lock_fd;
    int folder_fd;
    int log_fd; /* folders */
    int bulk_fd;
    int corrupt_fd;
    struct lane *lane;
    struct lane *bulk_lane;    /* one thread: writes of large bodies, one at a time */
    size_t bulk_window;        /* its own: bytes that go to the disk at once */
    atomic_uint small_commits; /* of mail without a large body, that somebody waits for */
    _Atomic int64_t small_ns;  /* when the last of them came or went */
    pthread_t threads[3];
    unsigned thread_count;

    /* ---- under index_lock ---- */
    pthread_mutex_t index_lock;
    struct spool_index index;
    struct spool_used_bodies used_bodies;

    /* ---- under lock ---- */
    pthread_mutex_t lock;
    pthread_cond_t writer_wake;
    pthread_cond_t syncer_wake;
    pthread_cond_t upkeep_wake;
    pthread_cond_t changed; /* a sync ended, a segment is ready, an internal unit is done */
    struct spool_unit_queue waiting; /* for the writer */
    size_t waiting_urgent;           /* of them, those that somebody waits for */
    struct spool_unit_queue written; /* for the syncer */
    struct spool_unit_queue syncing;
    struct spool_unit_queue refused; /* void: answered once the next segment says so */
    bool writer_sleeps;
    size_t gather_target;    /* after a sync: wait for so many units to come ... */
    int64_t gather_until_ns; /* ... until then (real monotonic time) */
    bool writer_gathers;
    bool sync_runs;
    uint64_t turns_asked, turns_over; /* of what is large, see turn.c */
    bool sync_failed;                 /* the current segment is poisoned */
    unsigned failures;                /* in a row */
    uint64_t durable;                 /* offset in the current segment */
    struct list ready; /* segments made ahead (struct spool_segment, not in the index) */
    unsigned ready_count;
    bool making_failed; /* the last try to make one */
    bool upkeep_asked;
    enum { SPOOL_RUNS, SPOOL_ENDS, SPOOL_WRITER_ENDED } phase;

    /* ---- the writer's ---- */
    struct spool_segment *current;
    uint64_t offset; /* where the next batch goes */
    uint64_t next_unit;
    uint64_t next_sequence;
    uint64_t segment_units;
    unsigned closing_tries;
    bool must_roll;                         /* the current segment is poisoned and left */
    struct spool_previous cuts[SPOOL_CUTS]; /* said by the first batch of the next segment */
    unsigned cut_count;

    /* ---- upkeep's ---- */
    uint64_t cold_units;
    struct spool_segment *cold; /* open for copies, or NULL */
    uint64_t cold_offset;
    int64_t reclaim_after_ns;
    uint64_t pool[SPOOL_POOL]; /* ids in the names of its files, oldest first */
    atomic_uint pool_count;
    int leaving[SPOOL_LEAVING];
    unsigned leaving_count;

    /* ---- anybody's ---- */
    atomic_uint_fast64_t next_id;  /* of segments and bulk files */
    struct spool_loading *loading; /* NULL: everything is loaded */
    atomic_bool is_loading;        /* segments stay, and the index may lack entries */
    atomic_bool loading_stops;
    atomic_size_t body_memory;
    atomic_bool has_space;
    atomic_bool has_plenty; /* files may be kept for later */
    atomic_bool is_low;     /* told; until there is half as much again */
    atomic_bool broken;     /* syncs fail again and again */
    _Atomic int64_t totals[SPOOL_TOTALS];
    atomic_uint_fast64_t units, syncs, bytes_written, damaged, reused, reused_bodies;
};

/* ---- loading.c: the start ---- */
/* Look at the newest segments: afterwards the log can go on. */
enum result spool_loading_begin(struct spool *spool, spool_found_fn *found, void *found_context,
                                struct error *err);
/* Bytes of segments that were not walked. */
uint64_t spool_loading_left(const struct spool *spool);
/* The rest, on this thread. FAILED: the disk does not answer. */
enum result spool_loading_run(struct spool *spool, struct error *err);
/* Stop it, if it goes on. */
void spool_loading_free(struct spool *spool);

/* ---- files.c: the folder ---- */
enum spool_name_kind { SPOOL_NAME_NONE, SPOOL_NAME_MAIN, SPOOL_NAME_COLD };
enum { SPOOL_NAME_SIZE = 32 };
void spool_segment_name(uint64_t id, enum spool_segment_kind kind, char out[SPOOL_NAME_SIZE]);
bool spool_segment_name_parse(const char *name, uint64_t *out_id,
                              enum spool_segment_kind *out_kind);
/* Make the folders, take the lock. */
enum result spool_files_open(struct spool *spool, struct error *err);
void spool_files_close(struct spool *spool);
/* A segment file of `size` bytes with its header on stable storage; not in the index. */
enum result spool_files_new_segment(struct spool *spool, enum spool_segment_kind kind,
                                    uint64_t size, struct spool_segment **out_segment,
                                    struct error *err);
/* Write all; FAILED leaves an unknown part written. */
enum result spool_files_write(int fd, struct iovec *pieces, size_t count, uint64_t offset,
                              struct error *err);
enum result spool_files_read(int fd, void *out, size_t size, uint64_t offset, struct error *err);
enum result spool_files_sync(const struct spool *spool, int fd, struct error *err);
enum result spool_files_sync_folder(const struct spool *spool, int fd, struct error *err);
/* False: it is still there; the next start removes it. */
bool spool_files_unlink(const struct spool *spool, uint64_t id, enum spool_segment_kind kind);
/* Look at free bytes and inodes; sets has_space and tells of changes. The pool is given back before
 * space is short. */
void spool_files_look_at_space(struct spool *spool);

/* ---- pool.c: files of old segments that become new ones. Before the threads start, by upkeep,
 * after they ended ---- */

/* Take over what lies there. Returns the highest id in a name: the files hold records of this id
 * and of lower ones. */
uint64_t spool_pool_open(struct spool *spool);
/* For one more beside `more`? */
bool spool_pool_has_room(const struct spool *spool, unsigned more);
/* The name only; once the folder is synced, spool_pool_add. False: it is as before, or gone. */
bool spool_pool_rename_into(const struct spool *spool, const struct spool_segment *segment);
void spool_pool_add(struct spool *spool, uint64_t id);
/* The file under its name in the pool, where it need not be. */
void spool_pool_remove(const struct spool *spool, uint64_t id);
/* A segment made ahead, as by spool_files_new_segment. False: none can be made of the pool. */
bool spool_pool_make_segment(struct spool *spool, struct spool_segment **out_segment);
/* Remove all files of the pool. */
void spool_pool_give_back(struct spool *spool);

/* ---- turn.c: the log goes first ---- */

/* Somebody waits for a commit of mail without a large body, or did within the last moments. */
bool spool_has_small_mail(const struct spool *spool);
/* Before and after a window of a large body, or a piece of a large file that goes: one at a time,
 * in the order of asking, and not before a sync of the log that runs is over. It waits for no
 * second sync, so what is large has its turn after each. On any thread; never with a lock held. */
void spool_turn_begin(struct spool *spool);
void spool_turn_end(struct spool *spool);
/* Upkeep's: remove the file of a large body or a segment that nobody has open any more; beside
 * small mail its blocks go later, by spool_let_go_piece. Returns as spool_files_unlink. */
bool spool_remove_gently(struct spool *spool, uint64_t id, enum spool_segment_kind kind);
/* One more piece of the last of them; true if there is more. */
bool spool_let_go_piece(struct spool *spool);
/* All of them, at once. */
void spool_let_go(struct spool *spool);

/* ---- reuse.c: files of large bodies that become others. All but spool_bodies_take and
 * spool_bodies_open are upkeep's ---- */

/* The files of dead bodies go, or (`keeps`) wait to be used again. */
void spool_bodies_remove_dead(struct spool *spool, bool keeps);
/* False: none waits. It is the caller's alone. */
bool spool_bodies_take(struct spool *spool, struct spool_used_body *out);
/* To be written from its begin on; its name is on stable storage. -1: it cannot be used, and went.
 */
int spool_bodies_open(struct spool *spool, const struct spool_used_body *file);
/* Remove those that wait for long, or all. */
void spool_bodies_give_back(struct spool *spool, bool all);
unsigned spool_bodies_waiting(struct spool *spool, uint64_t *out_bytes);

/* ---- corrupt.c ---- */
/* Put the bytes of a damage aside and tell of it; false if that was done before. */
bool spool_set_aside(struct spool *spool, const struct spool_damage *damage, struct str bytes);
/* Keep the file of a large body there too: its entry is about to go, and the file with it. */
void spool_set_body_aside(struct spool *spool, uint64_t bulk);

/* ---- writer.c, syncer.c, upkeep.c: threads ---- */
void *spool_writer_main(void *arg);
void *spool_syncer_main(void *arg);
void *spool_upkeep_main(void *arg);
/* Sync what is written; answers when it is durable. Called and returns with the lock held, while no
 * other sync runs; the log's end must stay where it is. */
void spool_sync_written(struct spool *spool);
/* Hand over; wakes the writer when needed. */
void spool_submit(struct spool *spool, struct spool_unit *unit);
/* Answer with the result that stands in each unit; empties the queue. Lock not held. */
void spool_answer(struct spool_unit_queue *queue);
/* The real monotonic clock, for waiting on conditions: tests may stop the other one. */
int64_t spool_real_ns(void);
void spool_wake_upkeep(struct spool *spool);

/* ---- body.c ---- */
/* 0: not a body in a file of its own. */
uint64_t spool_body_bulk(const struct body *body);
/* Make the large body's file durable; once. */
enum result spool_body_sync(struct body *body, struct error *err) MAY_YIELD;
struct body *spool_body_stored_memory(char *bytes, uint64_t size);
struct body *spool_body_stored(struct spool *spool, struct spool_segment *segment,
                               uint64_t payload_offset, uint64_t size);
/* Takes `fd`; the bulk must be held by the caller, and is the body's then. */
struct body *spool_body_stored_bulk(struct spool *spool, struct spool_bulk *bulk, int fd,
                                    uint64_t size);
/* FAILED with ERROR_PERMANENT: damaged; else it could not be read now. */
enum result spool_bulk_check(int fd, uint64_t id, uint64_t size, struct error *err);
/* -1 with errno. */
int spool_bulk_open(const struct spool *spool, uint64_t id);

/* ---- reclaim.c ---- */
/* Take some segments that are dead out of the log and the index. False: none could be. */
bool spool_remove_dead(struct spool *spool);
/* One step of reclaim; true if there may be more to do at once. */
bool spool_reclaim_step(struct spool *spool);
/* Give the open cold segment its footer. */
void spool_reclaim_seal(struct spool *spool);
