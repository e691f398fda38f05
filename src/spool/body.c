/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies of the spool: one that grows (in memory up to 256K, or 64K when many grow; beyond that in
 * a file of its own), and the stored ones that spool_read gives. Blocking calls go to a lane; reads
 * that the page cache can answer are made at once.
 *
 * What grows is written by one thread, the bulk lane, and goes to the disk window by window: it
 * waits for each before anybody writes the next. So the disk never holds more of all large bodies
 * together than one window, which is what a sync of the log has to wait for. While no small mail
 * comes there is nobody to wait: then the disk gets what there is, a few megabytes ahead of it.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "spool/bytes.h"
#include "spool/crc.h"
#include "spool/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CHUNK_STRIDE = SPOOL_RECORD_HEADER + SPOOL_CHUNK,
    CHUNKS_AT_ONCE = SPOOL_INLINE_MAX / SPOOL_CHUNK, /* a full buffer */
    FIRST_BUFFER = 16 * 1024,
    WINDOW_MIN = 128 * 1024,
    WINDOW_MAX = 4 * 1024 * 1024,
    BEGIN_AT = 1024 * 1024,   /* without small mail: so much is handed to the disk at once ... */
    AHEAD_MAX = 2 * BEGIN_AT, /* ... and so much of a body it may have before it is waited for */
};
/* A window is sized so that the disk takes about this long for it. */
#define WINDOW_NS (NS_PER_MS / 2)

struct spool_body {
    struct body body;
    struct spool *spool;
    char *bytes;   /* all of it while small and in memory; else what is not yet a chunk */
    size_t filled; /* of `bytes` */
    size_t cap;
    struct spool_segment *segment; /* stored among other records */
    uint64_t payload_offset;
    struct spool_bulk *bulk; /* in a file of its own */
    uint64_t bulk_id;
    int fd;
    uint64_t flushed; /* body bytes in the file */
    uint64_t settled; /* the file's bytes that the disk has */
    uint64_t begun;   /* that it was given */
    uint64_t used;    /* that it has of an older body; 0: it is a new file */
    bool sealed;
    bool synced;
    bool broken;
};

/* Of the file of a body of that size. */
static uint64_t end_of_file(uint64_t size)
{
    uint64_t rest = size % SPOOL_CHUNK;
    return SPOOL_SEGMENT_HEADER + size / SPOOL_CHUNK * CHUNK_STRIDE +
           (rest ? spool_record_size(rest) : 0);
}

static struct spool_body *mine(struct body *body)
{
    return CONTAINER(body, struct spool_body, body);
}

/* ---- work on the lane ---- */

enum body_work { WORK_CREATE, WORK_CHUNKS, WORK_SYNC, WORK_READ };

struct body_job {
    struct lane_job job;
    struct spool *spool;
    enum body_work work;
    uint64_t id;
    int fd;
    const char *bytes; /* chunk */
    char *space;       /* read */
    size_t size;
    uint64_t offset;
    uint64_t settled;
    uint64_t begun;
    uint64_t used;
    enum result result;
    struct error err;
};

static void open_used_file(struct body_job *job)
{
    struct spool_used_body file;
    while (job->fd < 0 && spool_bodies_take(job->spool, &file)) {
        job->fd = spool_bodies_open(job->spool, &file);
        job->id = file.id;
        job->used = file.size;
    }
}

static void open_new_file(struct body_job *job)
{
    char name[SPOOL_NAME_SIZE];
    job->id = atomic_fetch_add(&job->spool->next_id, 1);
    job->used = 0;
    spool_segment_name(job->id, SPOOL_SEGMENT_BULK, name);
    job->fd = openat(job->spool->bulk_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
}

static enum result create_file(struct body_job *job)
{
    open_used_file(job);
    if (job->fd < 0)
        open_new_file(job);
    if (job->fd < 0)
        return fail_errno(&job->err, errno, "make file for a large body");
    unsigned char bytes[SPOOL_SEGMENT_HEADER];
    struct spool_segment_header header = {
        .kind = SPOOL_SEGMENT_BULK, .id = job->id, .created_wall_ns = clock_wall_ns()};
    spool_segment_header_encode(&header, bytes);
    struct iovec piece = {bytes, sizeof bytes};
    return spool_files_write(job->fd, &piece, 1, 0, &job->err);
}

/* The chunk at `done` of the job's bytes. Returns how many pieces it is. */
static size_t put_chunk(const struct body_job *job, size_t done,
                        unsigned char header[SPOOL_RECORD_HEADER], struct iovec pieces[3])
{
    static const char zeros[SPOOL_RECORD_ALIGN];
    const char *bytes = job->bytes + done;
    size_t size = job->size - done < SPOOL_CHUNK ? job->size - done : (size_t)SPOOL_CHUNK;
    size_t padding = (size_t)spool_record_size(size) - SPOOL_RECORD_HEADER - size;
    struct spool_record record = {.type = SPOOL_RECORD_CHUNK,
                                  .count = 1,
                                  .unit = job->id,
                                  .length = (uint32_t)size,
                                  .payload_crc = spool_crc(0, bytes, size)};
    spool_record_encode(&record, job->id, job->offset + done / SPOOL_CHUNK * CHUNK_STRIDE, header);
    pieces[0] = (struct iovec){header, SPOOL_RECORD_HEADER};
    pieces[1] = (struct iovec){(void *)(uintptr_t)bytes, size};
    pieces[2] = (struct iovec){(void *)(uintptr_t)zeros, padding};
    return padding ? 3 : 2;
}

/* The next window is larger or smaller by what this one took. Only the bulk lane's thread is here.
 */
static void adapt_window(struct spool *spool, uint64_t bytes, int64_t begin_ns)
{
    int64_t took_ns = spool_real_ns() - begin_ns;
    if (took_ns > WINDOW_NS && spool->bulk_window > WINDOW_MIN)
        spool->bulk_window /= 2;
    else if (took_ns < WINDOW_NS / 2 && bytes >= spool->bulk_window &&
             spool->bulk_window < WINDOW_MAX)
        spool->bulk_window *= 2;
}

static enum result hand_to_disk(struct body_job *job, uint64_t begin, uint64_t end, bool waits)
{
    unsigned flags = SYNC_FILE_RANGE_WRITE;
    if (waits)
        flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
    int number = fault_hit("spool.window");
    if (!number && sync_file_range(job->fd, (off_t)begin, (off_t)(end - begin), flags) != 0)
        number = errno;
    if (number && number != ENOSYS && number != ESPIPE && number != EINVAL) /* may lack it */
        return fail_errno(&job->err, number, "write out a large body");
    return OK;
}

/* Nobody waits behind what the disk is given: no more than that it does not pile up. */
static enum result settle_ahead(struct body_job *job, uint64_t end)
{
    if (end - job->begun >= BEGIN_AT) {
        if (hand_to_disk(job, job->begun, end, /* waits= */ false) != OK)
            return FAILED;
        job->begun = end;
    }
    if (job->begun - job->settled <= AHEAD_MAX)
        return OK;
    uint64_t until = job->begun - BEGIN_AT;
    if (hand_to_disk(job, job->settled, until, /* waits= */ true) != OK)
        return FAILED;
    job->settled = until;
    return OK;
}

/* Wait until the disk has what was written up to `end`, if that fills a window. An error that this
 * wait reports is not reported again by the sync at the end: it counts as a failed sync. */
static enum result settle_window(struct body_job *job, uint64_t end)
{
    struct spool *spool = job->spool;
    if (spool->settings.no_sync)
        return OK;
    if (!spool_has_small_mail(spool))
        return settle_ahead(job, end);
    uint64_t bytes = end - job->settled;
    if (bytes < spool->bulk_window)
        return OK;
    spool_turn_begin(spool);
    int64_t begin_ns = spool_real_ns();
    enum result result = hand_to_disk(job, job->settled, end, /* waits= */ true);
    if (result == OK)
        adapt_window(spool, bytes, begin_ns);
    spool_turn_end(spool);
    job->settled = job->begun = end;
    return result;
}

/* All in one call: a page that two of them share would otherwise be read before the second. */
static enum result write_chunks(struct body_job *job)
{
    unsigned char headers[CHUNKS_AT_ONCE][SPOOL_RECORD_HEADER];
    struct iovec pieces[CHUNKS_AT_ONCE * 3];
    size_t count = 0;
    check(job->size <= SPOOL_INLINE_MAX);
    for (size_t done = 0; done < job->size; done += SPOOL_CHUNK)
        count += put_chunk(job, done, headers[done / SPOOL_CHUNK], pieces + count);
    if (spool_files_write(job->fd, pieces, count, job->offset, &job->err) != OK)
        return FAILED;
    return settle_window(job, job->offset + job->size / SPOOL_CHUNK * CHUNK_STRIDE);
}

/* A file that was used before has its name already. Far more than the body needs is given back,
 * at the price of a new file. */
static enum result sync_file(struct body_job *job)
{
    const struct spool *spool = job->spool;
    if (job->used / 2 > job->offset && ftruncate(job->fd, (off_t)job->offset) != 0)
        return fail_errno(&job->err, errno, "cut the file of a large body");
    if (spool_files_sync(spool, job->fd, &job->err) != OK)
        return FAILED;
    return job->used ? OK : spool_files_sync_folder(spool, spool->bulk_fd, &job->err);
}

static void do_work(struct lane_job *lane_job)
{
    struct body_job *job = CONTAINER(lane_job, struct body_job, job);
    switch (job->work) {
    case WORK_CREATE:
        job->result = create_file(job);
        break;
    case WORK_CHUNKS:
        job->result = write_chunks(job);
        break;
    case WORK_SYNC:
        job->result = sync_file(job);
        break;
    case WORK_READ:
        job->result = spool_files_read(job->fd, job->space, job->size, job->offset, &job->err);
        break;
    }
}

static void release_job(struct lane_job *lane_job)
{
    free(CONTAINER(lane_job, struct body_job, job));
}

/* The job's outputs are copied back into `job`. Shielded, because a job that was left alone would
 * still use the body's file and buffer; a disk answers or the process is lost anyway. */
static enum result run(struct body_job *job, struct error *err) MAY_YIELD
{
    struct body_job *on_lane = NEW(struct body_job);
    *on_lane = *job;
    on_lane->job.work = do_work;
    on_lane->job.release = release_job;
    struct scope scope;
    scope_open_shielded(&scope, TIME_NEVER - 1);
    struct lane *lane = job->work == WORK_CHUNKS ? job->spool->bulk_lane : job->spool->lane;
    enum result result = lane_run(lane, &on_lane->job, err);
    scope_close(&scope);
    if (result != OK)
        return FAILED;
    *job = *on_lane;
    free(on_lane);
    if (job->result != OK && err)
        *err = job->err;
    return job->result;
}

/* ---- growing ---- */

static enum result become_file(struct spool_body *self, struct error *err) MAY_YIELD
{
    struct spool *spool = self->spool;
    if (!spool_has_room(spool))
        return fail(err, ERROR_LIMIT, "no space in the spool");
    struct body_job job = {.spool = spool, .work = WORK_CREATE, .fd = -1};
    enum result result = run(&job, err);
    self->fd = job.fd;
    if (job.fd < 0)
        return FAILED;
    self->bulk_id = job.id;
    self->used = job.used;
    pthread_mutex_lock(&spool->index_lock);
    self->bulk = spool_index_add_bulk(&spool->index, job.id);
    self->bulk->is_new = true;
    spool_index_hold_bulk(&spool->index, self->bulk);
    pthread_mutex_unlock(&spool->index_lock);
    return result;
}

static enum result flush_chunks(struct spool_body *self, struct error *err) MAY_YIELD
{
    if (!self->bulk && become_file(self, err) != OK)
        return FAILED;
    struct body_job job = {.spool = self->spool,
                           .work = WORK_CHUNKS,
                           .id = self->bulk_id,
                           .fd = self->fd,
                           .bytes = self->bytes,
                           .size = self->filled,
                           .settled = self->settled,
                           .begun = self->begun,
                           .offset =
                               SPOOL_SEGMENT_HEADER + self->flushed / SPOOL_CHUNK * CHUNK_STRIDE};
    if (run(&job, err) != OK)
        return FAILED;
    self->settled = job.settled;
    self->begun = job.begun;
    self->flushed += self->filled;
    self->filled = 0;
    return OK;
}

/* More buffer, if it may have more: up to 64K always, up to 256K while all bodies that grow stay
 * within their budget. A full buffer is whole chunks. */
static bool enlarge(struct spool_body *self)
{
    size_t cap = self->cap ? self->cap * 2 : (size_t)FIRST_BUFFER;
    if (self->bulk || cap > SPOOL_INLINE_MAX)
        return false;
    atomic_size_t *used = &self->spool->body_memory;
    if (cap > SPOOL_CHUNK && atomic_load(used) + cap - self->cap > SPOOL_BODY_BUDGET)
        return false;
    atomic_fetch_add(used, cap - self->cap);
    self->bytes = memory_resize_array(self->bytes, cap, 1);
    self->cap = cap;
    return true;
}

static void drop_buffer(struct spool_body *self)
{
    if (self->cap)
        atomic_fetch_sub(&self->spool->body_memory, self->cap);
    self->cap = 0;
    free(take(self->bytes));
}

static NO_YIELD_CHECK enum result grow(struct body *body, struct str data, struct error *err)
{
    struct spool_body *self = mine(body);
    check(!self->sealed);
    if (self->broken)
        return fail(err, ERROR_TEMPORARY, "an earlier part of the body could not be written");
    while (data.len) {
        if (self->filled == self->cap && !enlarge(self) && flush_chunks(self, err) != OK) {
            self->broken = true;
            return FAILED;
        }
        size_t room = self->cap - self->filled;
        size_t now = data.len < room ? data.len : room;
        memcpy(self->bytes + self->filled, data.ptr, now);
        self->filled += now;
        body->size += now;
        data = str_from(data, now);
    }
    return OK;
}

static NO_YIELD_CHECK enum result seal(struct body *body, struct error *err)
{
    struct spool_body *self = mine(body);
    if (self->broken)
        return fail(err, ERROR_TEMPORARY, "a part of the body could not be written");
    if (self->bulk && self->filled && flush_chunks(self, err) != OK) {
        self->broken = true;
        return FAILED;
    }
    if (self->bulk)
        drop_buffer(self);
    self->sealed = true;
    return OK;
}

/* ---- reading ---- */

/* From the page cache without waiting, else on the lane. */
static enum result read_file(struct spool_body *self, int fd, char *space, size_t size,
                             uint64_t offset, struct error *err) MAY_YIELD
{
    struct iovec piece = {space, size};
    if (preadv2(fd, &piece, 1, (off_t)offset, RWF_NOWAIT) == (ssize_t)size)
        return OK;
    struct body_job job = {.spool = self->spool,
                           .work = WORK_READ,
                           .fd = fd,
                           .space = space,
                           .size = size,
                           .offset = offset};
    return run(&job, err);
}

static NO_YIELD_CHECK enum result read_part(struct body *body, uint64_t offset, size_t size,
                                            char *space, struct str *out_data, struct error *err)
{
    struct spool_body *self = mine(body);
    check(self->sealed);
    uint64_t left = offset < body->size ? body->size - offset : 0;
    if (size > left)
        size = (size_t)left;
    if (!self->bulk && !self->segment) {
        *out_data = size ? str_of(self->bytes + offset, size) : STR_EMPTY;
        return OK;
    }
    int fd = self->fd;
    uint64_t place;
    if (self->segment) {
        fd = self->segment->fd;
        place = self->payload_offset + offset;
    } else {
        uint64_t within = offset % SPOOL_CHUNK;
        if (size > SPOOL_CHUNK - within)
            size = (size_t)(SPOOL_CHUNK - within);
        place = SPOOL_SEGMENT_HEADER + offset / SPOOL_CHUNK * CHUNK_STRIDE + SPOOL_RECORD_HEADER +
                within;
    }
    if (size && read_file(self, fd, space, size, place, err) != OK)
        return FAILED;
    *out_data = str_of(space, size);
    return OK;
}

static void release(struct body *body)
{
    struct spool_body *self = mine(body);
    if (self->bulk) {
        struct spool *spool = self->spool;
        close(self->fd);
        pthread_mutex_lock(&spool->index_lock);
        spool_index_let_go_bulk(&spool->index, self->bulk);
        bool dead = !list_is_empty(&spool->index.dead_bulks);
        pthread_mutex_unlock(&spool->index_lock);
        if (dead)
            spool_wake_upkeep(spool);
    }
    spool_segment_unref(self->segment);
    drop_buffer(self);
    free(self);
}

static const struct body_ops ops = {
    .append = grow,
    .seal = seal,
    .read = read_part,
    .release = release,
};

static struct spool_body *new_body(struct spool *spool)
{
    struct spool_body *self = NEW(struct spool_body);
    self->body.ops = &ops;
    atomic_init(&self->body.references, 1);
    self->spool = spool;
    self->fd = -1;
    return self;
}

enum result spool_body_new(struct spool *spool, struct body **out_body, struct error *err)
{
    if (!spool_has_room(spool))
        return fail(err, ERROR_LIMIT, "no space in the spool");
    *out_body = &new_body(spool)->body;
    return OK;
}

/* ---- for the rest of the spool ---- */

uint64_t spool_body_bulk(const struct body *body)
{
    if (body->ops != &ops)
        return 0;
    const struct spool_body *self = CONTAINER(body, const struct spool_body, body);
    return self->bulk_id;
}

enum result spool_body_sync(struct body *body, struct error *err)
{
    if (body->ops != &ops)
        return OK;
    struct spool_body *self = mine(body);
    check(self->sealed);
    if (!self->bulk || self->synced)
        return OK;
    if (self->broken)
        return fail(err, ERROR_TEMPORARY, "the body's file could not be synced");
    struct body_job job = {.spool = self->spool,
                           .work = WORK_SYNC,
                           .fd = self->fd,
                           .used = self->used,
                           .offset = end_of_file(body->size)};
    if (run(&job, err) != OK) {
        self->broken = true; /* never synced again: the kernel may have dropped its pages */
        return FAILED;
    }
    self->synced = true;
    return OK;
}

struct body *spool_body_stored_memory(char *bytes, uint64_t size)
{
    struct spool_body *self = new_body(NULL);
    self->bytes = bytes;
    self->body.size = size;
    self->sealed = true;
    return &self->body;
}

struct body *spool_body_stored(struct spool *spool, struct spool_segment *segment,
                               uint64_t payload_offset, uint64_t size)
{
    struct spool_body *self = new_body(spool);
    self->segment = spool_segment_ref(segment);
    self->payload_offset = payload_offset;
    self->body.size = size;
    self->sealed = true;
    return &self->body;
}

struct body *spool_body_stored_bulk(struct spool *spool, struct spool_bulk *bulk, int fd,
                                    uint64_t size)
{
    struct spool_body *self = new_body(spool);
    self->bulk = bulk;
    self->bulk_id = bulk->id;
    self->fd = fd;
    self->body.size = size;
    self->sealed = true;
    self->synced = true;
    return &self->body;
}

int spool_bulk_open(const struct spool *spool, uint64_t id)
{
    char name[SPOOL_NAME_SIZE];
    int number = fault_hit("spool.open");
    spool_segment_name(id, SPOOL_SEGMENT_BULK, name);
    if (number) {
        errno = number;
        return -1;
    }
    return openat(spool->bulk_fd, name, O_RDONLY | O_CLOEXEC);
}

static enum result check_chunk(int fd, uint64_t id, uint64_t offset, size_t expected, char *space,
                               struct error *err)
{
    unsigned char header[SPOOL_RECORD_HEADER];
    struct spool_record record;
    if (spool_files_read(fd, header, sizeof header, offset, err) != OK)
        return FAILED;
    if (!spool_record_decode(header, id, offset, &record) || record.length != expected)
        return fail(err, ERROR_PERMANENT, "chunk of the body does not verify");
    if (spool_files_read(fd, space, expected, offset + sizeof header, err) != OK)
        return FAILED;
    if (spool_crc(0, space, expected) != record.payload_crc)
        return fail(err, ERROR_PERMANENT, "chunk of the body does not verify");
    return OK;
}

enum result spool_bulk_check(int fd, uint64_t id, uint64_t size, struct error *err)
{
    char *space = memory_resize_array(NULL, SPOOL_CHUNK, 1);
    enum result result = OK;
    for (uint64_t done = 0; done < size && result == OK; done += SPOOL_CHUNK) {
        uint64_t left = size - done;
        size_t expected = left < SPOOL_CHUNK ? (size_t)left : (size_t)SPOOL_CHUNK;
        uint64_t offset = SPOOL_SEGMENT_HEADER + done / SPOOL_CHUNK * CHUNK_STRIDE;
        result = check_chunk(fd, id, offset, expected, space, err);
    }
    free(space);
    return result;
}
